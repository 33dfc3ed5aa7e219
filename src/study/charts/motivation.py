"""Figures of the chapter on motivation: labels that a network was made to fit, and what privacy would allow.

Every function takes the table ``accuracy`` of the stage `fitting`, or numbers, and returns a `Figure`. Error bars reach
two standard errors over repeats to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, WIDTH, Figure, picture
from study.claims import Ledger
from study.theory import privacy
from study.theory.random_labels import Task

PERCENT = alt.Axis(format="%", tickCount=10)
LINES = {
    ("network", "train_accuracy"): "network, labels it was fitted to",
    ("linear", "train_accuracy"): "linear model, labels it was fitted to",
    ("network", "test_accuracy"): "network, new digits with true labels",
}
PARTS = {"right": "examples whose label is true", "wrong": "examples whose label is wrong"}
TABLE_1 = {"train": "random-labels-fitted-by-every-network", "test": "random-labels-chance-for-every-network"}


def label_examples(given: Task, count: int) -> Figure:
    """The first ``count`` fitted digits of a task, each with its true label and the one it gets at every level."""
    chosen = np.flatnonzero(given.member)[:count]
    rows = [("true label", given.data.y_train), ("random label", given.labels[-1])]
    table = pd.concat(
        [
            pd.DataFrame({"example": chosen, "place": range(count), "row": row, "label": labels[chosen]})
            for row, labels in rows
        ]
    )
    drawn = pd.DataFrame({"place": range(count), "url": [picture(1 - x, zoom=6) for x in given.data.x_train[chosen]]})
    x = alt.X("place:O", title=None, axis=None)
    images = alt.Chart(drawn).mark_image(width=44, height=44).encode(x=x, y=alt.value(26), url="url:N")
    images = images.properties(width=WIDTH, height=52)
    labels = (
        alt.Chart(table)
        .mark_text(fontSize=15)
        .encode(
            x=x,
            y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(domain=False, ticks=False)),
            text="label:N",
            color=alt.Color(
                "row:N", legend=None, scale=alt.Scale(domain=[name for name, _ in rows], range=[BLUE, VERMILION])
            ),
        )
        .properties(width=WIDTH, height=60)
    )
    return Figure(
        "label_examples",
        alt.vconcat(images, labels, spacing=4),
        table,
        "Digits of 8 × 8 pixels from one training set, with their true labels and with labels drawn at random. The network "
        "is asked to reproduce the second row as it would the first.",
        "A row of small handwritten digits; under each its true label and a random one, which mostly differ.",
    )


def accuracy_by_corruption(accuracy: pd.DataFrame) -> Figure:
    """Training and test accuracy of the longest training against the share of wrong labels, with the linear control."""
    rows = _longest(accuracy[accuracy.pixels == "true"])
    parts = [
        _means(rows[rows.model == model], measure, ["corruption"]).assign(line=name)
        for (model, measure), name in LINES.items()
    ]
    wrong = rows.groupby("corruption").wrong_rate.mean().rename("wrong").reset_index()
    table = pd.concat(parts).merge(wrong, on="corruption")
    base = alt.Chart(table).encode(
        x=alt.X("wrong:Q", title="share of wrong labels in the training set", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color(
            "line:N",
            title=None,
            scale=alt.Scale(domain=list(LINES.values()), range=[BLUE, ORANGE, VERMILION]),
            legend=alt.Legend(orient="bottom", columns=2),
        ),
    )
    return Figure(
        "accuracy_by_corruption",
        _chance(0.1) + _with_bars(base, "accuracy", table),
        table,
        "The network fits its training labels at every level of corruption; the linear model, given the same labels, "
        "does not. Accuracy on new digits falls to chance, one in ten, which is dashed.",
        "A flat line at the top for the network's training accuracy; the linear model's training accuracy falls steeply, "
        "and the network's test accuracy falls to the dashed line.",
    )


def learning_curves(accuracy: pd.DataFrame, fitted: float) -> Figure:
    """Training accuracy of the network against epochs, one line a level of corruption and one for random pixels."""
    networks = accuracy[accuracy.model == "network"].copy()
    networks["task"] = _tasks(networks)
    names = [*sorted(networks.task[networks.pixels == "true"].unique(), key=_percent), "random pixels"]
    table = _means(networks, "train_accuracy", ["task", "epochs"])
    colours = [BLUE, SKY, GREEN, ORANGE, VERMILION, BLACK, GREY][: len(names) - 1]
    base = alt.Chart(table).encode(
        x=alt.X(
            "epochs:Q",
            title="epochs of training (logarithmic axis)",
            scale=_log(),
            axis=alt.Axis(values=sorted(int(e) for e in table.epochs.unique())),
        ),
        color=alt.Color("task:N", title="labels drawn anew", scale=alt.Scale(domain=names, range=[*colours, PURPLE])),
    )
    rule = alt.Chart(pd.DataFrame({"y": [fitted]})).mark_rule(strokeDash=[4, 4]).encode(y="y:Q")
    return Figure(
        "learning_curves",
        rule + _with_bars(base, "training accuracy", table),
        table,
        "How long it takes to fit. Each point is a complete training with that many epochs. What lies above the dashed "
        f"line, at {fitted:.0%}, counts as fitted. True labels on true pixels come first, random pixels next, random "
        "labels last.",
        "Rising curves; the one for true labels reaches the top first, that for random pixels second, those for corrupted "
        "labels last and close together.",
    )


def memorization_by_label(accuracy: pd.DataFrame) -> Figure:
    """Mean memorization, accuracy on fitted less held-out labels, for true and for wrong labels, against corruption."""
    rows = _longest(accuracy[(accuracy.pixels == "true") & (accuracy.model == "network")])
    gaps = [rows.assign(part=name, mem=rows[f"train_{part}"] - rows[f"held_out_{part}"]) for part, name in PARTS.items()]
    table = _means(pd.concat(gaps), "mem", ["part", "corruption"]).dropna(subset="mean")
    base = alt.Chart(table).encode(
        x=alt.X("corruption:Q", title="probability that a label is drawn anew", axis=PERCENT),
        color=alt.Color(
            "part:N",
            title=None,
            scale=alt.Scale(domain=list(PARTS.values()), range=[BLUE, VERMILION]),
            legend=alt.Legend(orient="bottom"),
        ),
    )
    return Figure(
        "memorization_by_label",
        _with_bars(base, "mean memorization", table),
        table,
        "What the network knows about a label only because it was trained on it. Wrong labels are memorized at every level. "
        "True labels are mostly learned from others where most labels are true, and memorized like the rest where few are.",
        "Two lines. The one for wrong labels stays near the top; the one for true labels rises from near zero to meet it.",
    )


def privacy_bound(delta: float, most: float, classes: int, measured: float, trials: int) -> Figure:
    """Largest memorization against epsilon: the bound, the usual one, and where labels cannot be guessed.

    ``measured`` is drawn as a horizontal line; randomised response is simulated with ``trials`` runs a side.
    """
    table, points = _allowed(delta, most, classes), _simulated(np.linspace(0.5, most, 10), trials)
    axis = alt.Axis(tickCount=10)
    x = alt.X("epsilon:Q", title="privacy loss ε", scale=alt.Scale(domain=[0, most], nice=False), axis=axis)
    y = alt.Y("mem:Q", title="largest memorization", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("curve:N", title=None, scale=alt.Scale(domain=list(table.curve.unique()), range=[BLUE, GREY, PURPLE]))
    lines = alt.Chart(table).mark_line().encode(x=x, y=y, color=colour)
    dots = alt.Chart(points).mark_point(color=BLACK, size=45).encode(x=x, y=y, tooltip=["epsilon:Q", "mem:Q"])
    bars = alt.Chart(points).mark_rule(color=BLACK).encode(x=x, y="low:Q", y2="high:Q")
    rule = alt.Chart(pd.DataFrame({"mem": [measured]})).mark_rule(color=VERMILION, strokeDash=[6, 3]).encode(y=y)
    return Figure(
        "privacy_bound",
        rule + lines + bars + dots,
        pd.concat([table, points.assign(curve="simulated")]),
        "The most that a private algorithm can memorize. Dots: randomised response, which attains the bound, simulated by "
        f"{trials:,} runs a side; bars reach two standard errors. Dashed: what the network memorized of random labels.",
        "A rising S-shaped bound with dots on it, far below the dashed line for small epsilon; the usual bound leaves the "
        "picture early, and the curve for guessed labels lies lower.",
    )


def _allowed(delta: float, most: float, classes: int) -> pd.DataFrame:
    """The curves, one row a point: epsilon, curve, mem; values above 1 say nothing and are left out."""
    epsilon = np.linspace(0, most, 121)
    curves = {
        "bound": privacy.memorization_bound(epsilon, delta),
        "usual bound": privacy.usual_bound(epsilon, delta),
        f"label guessed among {classes}": privacy.guessing_bound(epsilon, classes),
    }
    table = pd.DataFrame({"epsilon": epsilon} | curves).melt("epsilon", var_name="curve", value_name="mem")
    return table[table.mem <= 1]


def _simulated(epsilon: np.ndarray, trials: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    mem, error = np.array([privacy.randomised_response(e, trials, rng) for e in epsilon]).T
    return pd.DataFrame({"epsilon": epsilon, "mem": mem, "low": mem - 2 * error, "high": mem + 2 * error})


def published_table(ledger: Ledger) -> pd.DataFrame:
    """Table 1 of Zhang et al. (2017) for random labels: training and test accuracy in percent, one row a network."""
    found = {claim.id: claim.published for claim in ledger.claims}
    series = {split: found[name] for split, name in TABLE_1.items()}
    networks = [name.strip() for name in series["train"].over.split(",")]
    return pd.DataFrame({f"{split} accuracy (%)": values.values for split, values in series.items()}, index=networks)


def _longest(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The longest training of the network, and the linear model, which has no epochs."""
    return accuracy[accuracy.epochs.isin((0, accuracy.epochs.max()))]


def _tasks(networks: pd.DataFrame) -> pd.Series:
    """What was fitted, in words: ``none``, ``20 %``, ..., or ``random pixels``."""
    shares = networks.corruption.map(lambda level: f"{level:.0%}" if level else "none")
    return shares.where(networks.pixels == "true", "random pixels")


def _percent(name: str) -> float:
    return 0.0 if name == "none" else float(name.rstrip("%"))


def _means(rows: pd.DataFrame, measure: str, by: list[str]) -> pd.DataFrame:
    """Mean over repeats and the ends of its error bar, one row a group; columns mean, low, high."""
    found = rows.groupby(by)[measure].agg(["mean", "sem"]).reset_index()
    return found.assign(low=found["mean"] - 2 * found["sem"], high=found["mean"] + 2 * found["sem"]).drop(columns="sem")


def _with_bars(base: alt.Chart, title: str, table: pd.DataFrame) -> alt.LayerChart:
    y = alt.Y("mean:Q", title=title, axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    seen = [alt.Tooltip(f"{name}:N" if table[name].dtype == object else f"{name}:Q") for name in table.columns]
    bars = base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q")
    return base.mark_line(strokeWidth=2).encode(y=y) + bars + base.mark_point(size=45).encode(y=y, tooltip=seen)


def _log() -> alt.Scale:
    return alt.Scale(type="log", nice=False, padding=12)


def _chance(share: float) -> alt.Chart:
    return alt.Chart(pd.DataFrame({"y": [share]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(y="y:Q")
