"""Figures of the chapter on layer localization: linear heads on frozen features against full networks.

Tables are those of the stage `localization`; error bars reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLUE, GREEN, GREY, PURPLE, VERMILION, WIDTH, Figure, picture
from study.data import Data

FULL, FROZEN = "full networks", "heads on frozen features"
ACCURACIES = {"subset": "in", "held out": "out", "test": "test"}
SIDES = ("full networks", "linear heads")  # the columns of `side_by_side` for each data set
SIDE, CELL = 44, 92  # of a drawn digit, and of the cell it stands in


def accuracies(summary: dict) -> Figure:
    """Test accuracy of full networks and of heads, for every kind of representation, with the spread between them."""
    table = pd.DataFrame(
        [
            _accuracy("full networks, subsets", summary["full"], FULL),
            _accuracy("full networks, all data", summary["all_data"], FULL),
            _accuracy("features of all data, one body", summary["linear"], FROZEN),
            _accuracy("features of all data, several bodies", summary["several"], FROZEN),
            _accuracy("features of a random half", summary["half"], FROZEN),
            _accuracy("untrained features", summary["untrained"], FROZEN),
        ]
    )
    table = _with_bars(table, "accuracy")
    base = alt.Chart(table).encode(
        y=alt.Y("model:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=[FULL, FROZEN], range=[VERMILION, BLUE])),
    )
    scale = alt.Scale(zero=False)
    points = base.mark_point(size=60).encode(
        x=alt.X("accuracy:Q", title="test accuracy", axis=alt.Axis(format=".0%"), scale=scale),
        tooltip=["model:N", *_numbers("accuracy", "std_error")],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="test accuracy", scale=scale), x2="high:Q")
    return Figure(
        "accuracies",
        (bars + points).properties(width=WIDTH - 240, height=alt.Step(28)),
        table,
        "Test accuracy of full networks, and of linear heads trained on subsets over frozen features. Bars: two standard "
        "errors.",
        "Dots with error bars on one axis, full networks and heads in two colours.",
    )


def side_by_side(summaries: dict[tuple[str, str], dict]) -> pd.DataFrame:
    """Summaries of the stage `estimate` as columns of text, by data set and kind of model.

    Pairs of which chance explains more than half are not counted: the number would be one of noise.
    """
    return pd.DataFrame({names: _column(summary) for names, summary in summaries.items()})


def _column(summary: dict) -> dict[str, str]:
    pairs, chance = summary["pairs"], summary["pairs"]["false_discovery"]["value"]
    accuracies = {f"accuracy, {name}": summary[f"{key}_accuracy"]["value"] for name, key in ACCURACIES.items()}
    return {
        "trials": f"{summary['trials']:,}",
        **{name: f"{value:.2%}" for name, value in accuracies.items()},
        "mean memorization": f"{summary['mean_memorization']['value']:.2%}",
        "mean standard error": f"{summary['mean_std_error']:.4f}",
        "memorized": f"{summary['memorized']['count']:,}",
        "memorized, permuted": f"{pairs['null_memorized']:,.1f}",
        "pairs": "too few trials" if chance is None or chance > 0.5 else f"{pairs['count']:,}",
        "pairs, permuted": f"{pairs['null_count']:,.1f}",
    }


def _accuracy(model: str, side: dict, kind: str) -> dict:
    return {
        "model": model,
        "kind": kind,
        "accuracy": side["test_accuracy"]["value"],
        "std_error": side["test_accuracy"]["std_error"],
    }


def memorized_above(examples: pd.DataFrame, mem_threshold: float) -> Figure:
    """How many examples have memorization of at least tau, as a function of tau, for full networks and heads."""
    table, lines = _counts_above(examples, {"full": (FULL, VERMILION), "linear": (FROZEN, BLUE)}, mem_threshold)
    return Figure(
        "memorized_above",
        lines,
        table,
        "Training examples with memorization of at least a threshold, on the same subsets. Only the last layer of the heads "
        f"was trained on a subset. Dashed: {mem_threshold:g}.",
        "Two falling step curves; the one for heads lies far below the one for full networks.",
    )


def _counts_above(examples: pd.DataFrame, columns: dict[str, tuple[str, str]], mem_threshold: float):
    """The number of examples at or above each threshold for ``columns``, with their names and colours; table and chart."""
    grid = np.arange(1, 101) / 100
    counts = {name: (examples[column].dropna().to_numpy() >= grid[:, None]).sum(1) for column, (name, _) in columns.items()}
    parts = [pd.DataFrame({"threshold": grid, "models": name, "examples": count}) for name, count in counts.items()]
    table = pd.concat(parts, ignore_index=True)
    names, colours = zip(*columns.values())
    lines = (
        alt.Chart(table)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("threshold:Q", title="memorization threshold"),
            y=alt.Y(
                "examples:Q",
                title="examples at or above it (logarithmic)",
                scale=alt.Scale(type="symlog"),
                axis=alt.Axis(values=[0, 1, 3, 10, 30, 100, 300, 1000]),
            ),
            color=alt.Color(
                "models:N",
                title=None,
                sort=None,
                scale=alt.Scale(domain=list(names), range=list(colours)),
                legend=alt.Legend(orient="top", columns=2),
            ),
            tooltip=["models:N", "threshold:Q", "examples:Q"],
        )
    )
    limit = alt.Chart(pd.DataFrame({"x": [mem_threshold]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return table, lines + limit


def full_against_heads(examples: pd.DataFrame, mem_threshold: float) -> Figure:
    """Memorization of each example by heads against that by full networks."""
    table = examples[["index", "label", "full", "full_std_error", "linear", "linear_std_error"]].dropna()
    unit = alt.Scale(domain=[-0.05, 1.05], nice=False)
    points = (
        alt.Chart(table)
        .mark_point(size=26)
        .encode(
            x=alt.X("full:Q", title="memorization by full networks", scale=unit),
            y=alt.Y("linear:Q", title="memorization by heads", scale=unit),
            tooltip=["index:Q", "label:N", *_numbers("full", "full_std_error", "linear", "linear_std_error")],
        )
    )
    ends = pd.DataFrame({"full": [0, 1], "linear": [0, 1]})
    line = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4], strokeWidth=1).encode(x="full:Q", y="linear:Q")
    at = pd.DataFrame({"x": [mem_threshold]})
    limits = alt.Chart(at).mark_rule(strokeDash=[2, 4]).encode(x="x:Q") + alt.Chart(at).mark_rule(strokeDash=[2, 4]).encode(
        y="x:Q"
    )
    return Figure(
        "full_against_heads",
        (limits + line + points).properties(width=380, height=380),
        table,
        "Each training example once. On the dashed diagonal heads would memorize as much as full networks.",
        "Scatter plot. Nearly all points lie on the horizontal axis, far below the diagonal.",
    )


def still_memorized(examples: pd.DataFrame, data: Data, count: int) -> Figure:
    """The ``count`` examples that heads memorize most, with their memorization by heads and by full networks."""
    top = examples.nlargest(count, "linear").reset_index(drop=True)
    text = [f"{row.linear:.2f} ({row.full:.2f})" for row in top.itertuples()]
    url = [picture(1 - data.x_train[index], zoom=8) for index in top["index"]]
    names = [data.classes[label] for label in top.label]
    table = pd.DataFrame({"index": top["index"], "class": names, "place": top.index + 1, "text": text, "url": url})
    x = alt.X("place:O", title="rank by memorization in the heads", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(table).encode(x=x, tooltip=["index:Q", "class:N", "text:N"])
    drawn = base.mark_image(width=SIDE, height=SIDE).encode(y=alt.value(SIDE / 2 + 4), url="url:N")
    texts = base.mark_text(fontSize=10.5).encode(y=alt.value(SIDE + 14), text="text:N")
    named = base.transform_calculate(name="'class ' + datum.class")
    classes = named.mark_text(fontSize=10.5).encode(y=alt.value(SIDE + 28), text="name:N")
    return Figure(
        "still_memorized",
        (drawn + texts + classes).properties(width=count * CELL, height=CELL),
        table.drop(columns="url"),
        "The training digits that heads memorize most; in brackets their memorization by full networks.",
        "A row of small digit pictures with numbers underneath.",
    )


PARTS = {
    ("full", "unseen"): ("full networks", VERMILION),
    ("half", "unseen"): ("heads, example not seen by the features", PURPLE),
    ("half", "seen"): ("heads, example seen by the features", BLUE),
    ("all", "seen"): ("heads, features saw everything", GREEN),
    ("untrained", "unseen"): ("heads, untrained features", GREY),
}


def seen_and_unseen(runs: pd.DataFrame) -> Figure:
    """Share of memorized examples by what the frozen features had seen: one dot a representation, and the mean."""
    kinds = [PARTS[key][0] for key in zip(runs.kind, runs.part)]
    table = runs.assign(models=kinds)[["models", "run", "examples", "memorized_share", "mean_memorization", "in_accuracy"]]
    names, colours = zip(*PARTS.values())
    base = alt.Chart(table).encode(
        y=alt.Y("models:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=280)),
        color=alt.Color("models:N", legend=None, scale=alt.Scale(domain=list(names), range=list(colours))),
    )
    x = alt.X("mean_memorization:Q", title="mean memorization", scale=alt.Scale(zero=True))
    dots = base.mark_point(size=30, opacity=0.6).encode(
        x=x, tooltip=["models:N", "run:Q", *_numbers("mean_memorization", "memorized_share", "in_accuracy")]
    )
    means = base.mark_tick(thickness=3, size=20).encode(x="mean(mean_memorization):Q")
    return Figure(
        "seen_and_unseen",
        (dots + means).properties(width=WIDTH - 240, height=alt.Step(40)),
        table,
        "Mean memorization by heads on frozen features, by whether the features had been trained on the examples. One dot a "
        "representation (for full networks: a block of as many trials); the tick is their mean.",
        "Rows of dots. Heads on examples that their features had seen lie near zero, the others lie near full networks.",
    )


def seen_curve(examples: pd.DataFrame, mem_threshold: float) -> Figure:
    """Examples with memorization of at least tau, when their features had seen them and when they had not."""
    columns = {"full": ("full", "unseen"), "unseen": ("half", "unseen"), "seen": ("half", "seen"), "all": ("all", "seen")}
    table, lines = _counts_above(examples, {column: PARTS[key] for column, key in columns.items()}, mem_threshold)
    return Figure(
        "seen_curve",
        lines,
        table,
        "The same count, with memorization by heads averaged over representations that had, or had not, seen the example. "
        f"Dashed: {mem_threshold:g}.",
        "Four falling step curves. Those for full networks and unseen examples are close, the two others lie far below.",
    )


KINDS = {"all": "frozen layers trained on all examples", "untrained": "frozen layers untrained"}


def still_memorized_above(moves: dict[str, pd.DataFrame]) -> Figure:
    """Share of the memorized examples that still are when the first k layers are frozen, for each data set.

    ``moves`` maps a title to a table of `study.localization.first_layers.moves`; one dot a representation.
    """
    table = pd.concat([frame.assign(data=title, share=frame.kept / frame.started) for title, frame in moves.items()])
    start = table[table.kind == "again"]
    dots = table[table.kind != "again"].assign(kind=lambda rows: rows.kind.map(KINDS))
    y = alt.Y("share:Q", title="still memorized", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    x = alt.X("frozen:O", title="frozen hidden layers, from the input on", axis=alt.Axis(labelAngle=0))
    colour = alt.Color(
        "kind:N", title=None, scale=alt.Scale(domain=list(KINDS.values()), range=[BLUE, GREY]),
        legend=alt.Legend(orient="top", columns=1, labelLimit=300),
    )  # fmt: skip
    base = alt.Chart(dots).encode(x=x, color=colour)
    points = base.mark_point(size=60).encode(y=y, tooltip=["kind:N", "frozen:O", "kept:Q", "new:Q", "started:Q"])
    lines = base.mark_line().encode(y=alt.Y("mean(share):Q"))
    chance = alt.Chart(start).mark_rule(strokeDash=[4, 4]).encode(y=y)
    row = [
        (chance.transform_filter(alt.datum.data == title) + lines.transform_filter(alt.datum.data == title)
         + points.transform_filter(alt.datum.data == title)).properties(title=title, width=WIDTH // 2 - 60, height=240)
        for title in moves
    ]  # fmt: skip
    return Figure(
        "still_memorized_above",
        alt.hconcat(*row),
        table,
        "Of the examples that are memorized with nothing frozen: the share that still is when the first layers are frozen "
        "and the others trained on subsets. One dot a representation, lines through their means. Dashed: the share that an "
        "independent repetition with nothing frozen finds again, which is what chance leaves.",
        "Lines over the number of frozen layers. Both fall; with one frozen layer the one for layers trained on all "
        "examples lies far below the one for untrained layers.",
    )


def _with_bars(table: pd.DataFrame, value: str) -> pd.DataFrame:
    return table.assign(low=table[value] - 2 * table.std_error, high=table[value] + 2 * table.std_error)


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".4f") for name in names]
