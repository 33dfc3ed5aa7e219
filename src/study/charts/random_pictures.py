"""Figures of the page on random labels and random pixels: what networks with and without convolutions make of them.

Every function takes tables of the stage `random_pictures` and returns a `Figure`. Error bars reach two standard errors over
repeats to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, WIDTH, Figure, picture
from study.charts.case_studies import drawn as placeholder

TASKS = {
    ("true", 0.0): "as they are",
    ("shuffled", 0.0): "shuffled pixels",
    ("gaussian", 0.0): "Gaussian pixels",
    ("random", 0.0): "random pixels",
    ("true", 1.0): "random labels",
}
COLOURS = dict(zip(TASKS.values(), (BLUE, GREEN, ORANGE, PURPLE, VERMILION)))
NETWORK_COLOURS = {"convolutional": BLUE, "perceptron": VERMILION}
REGULARIZERS = {
    (0.0, False): "none",
    (1.0, False): "weight decay",
    (0.0, True): "mirrored and shifted",
    (1.0, True): "both",
}
TITLES = {"mnist": "MNIST", "cifar100": "CIFAR-100", "digits": "digits"}
PERCENT = alt.Axis(format="%", tickCount=5)


def examples(table: pd.DataFrame) -> Figure:
    """Some pictures of each data set under each treatment of their pixels.

    ``table`` has a row a picture: data, pixels, place, shape (height, width and channels) and values in [0, 1], flat, or
    ``None`` where the picture could not be had: then its place is named.
    """
    drawn = table.assign(treatment=[TASKS[pixels, 0.0] for pixels in table.pixels])
    drawn["url"] = [_drawn(*row) for row in zip(table.data, table.place, table["values"], table["shape"])]
    side, count = 46, table.place.nunique()
    chart = (
        alt.Chart(drawn[["data", "treatment", "place", "url"]])
        .mark_image(width=side, height=side)
        .encode(
            x=alt.X("place:O", title=None, axis=None),
            y=alt.Y("treatment:N", title=None, sort=list(TASKS.values()), axis=alt.Axis(domain=False, ticks=False)),
            url="url:N",
        )
    )
    panels = [
        chart.transform_filter(alt.datum.data == name).properties(
            width=(side + 4) * count, height=(side + 4) * 4, title=TITLES[name]
        )
        for name in table.data.unique()
    ]
    return Figure(
        "examples",
        alt.vconcat(*panels, spacing=14),
        drawn[["data", "treatment", "place"]].reset_index(drop=True),
        "The same training pictures as they are, with one permutation of the pixels for all, with normal numbers in place "
        "of the pixels, and with a permutation of its own for each. Shades beyond black and white are cut off.",
        "Rows of small pictures. The first row can be recognized; the second is noise in which the same spots are dark or "
        "light in many pictures; the last two are noise.",
    )


def _drawn(data: str, place: int, values: np.ndarray | None, shape: tuple[int, ...] | None) -> str:
    if values is None:
        return placeholder(None, place, data)
    grid = np.asarray(values, dtype=float).reshape(shape)
    return picture(1 - grid[..., 0], zoom=2) if shape[2] == 1 else picture(grid, zoom=2)


def learning_curves(curves: pd.DataFrame, fitted: float) -> Figure:
    """Training accuracy after each epoch, a panel a data set and network, a line a condition of `TASKS`."""
    curves = curves[curves.network.isin(NETWORK_COLOURS)]
    rows = curves[[key in TASKS for key in zip(curves.pixels, curves.corruption)]]
    keys = ["data", "network", "pixels", "corruption", "repeat"]
    # A training that ended had all pictures right, or had run for as many epochs as any.
    wide = rows.pivot_table(index=keys, columns="epoch", values="train_accuracy").ffill(axis=1)
    long = wide.stack().rename("train_accuracy").reset_index()
    last = rows.groupby(keys[:4]).epoch.max().rename("last").reset_index()
    long = long.merge(last, on=keys[:4])
    table = _means(long[long.epoch <= long["last"]], "train_accuracy", [*keys[:4], "epoch"])
    table["task"] = [TASKS[key] for key in zip(table.pixels, table.corruption)]
    x = alt.X(
        "epoch:Q", title="epochs", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=[1, 2, 5, 10, 20, 50])
    )
    colour = alt.Color(
        "task:N",
        title=None,
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="bottom", columns=3),
    )
    y = alt.Y("mean:Q", title="training accuracy", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    rule = alt.Chart(pd.DataFrame({"y": [fitted]})).mark_rule(strokeDash=[4, 4]).encode(y="y:Q")
    panels = []
    for name in curves.data.unique():
        across = []
        for network in NETWORK_COLOURS:
            own = table[(table.data == name) & (table.network == network)]
            base = alt.Chart(own).encode(x=x, color=colour)
            bars = base.mark_rule(clip=True).encode(y="low:Q", y2="high:Q")
            lines = base.mark_line(point=alt.OverlayMarkDef(size=14)).encode(y=y, tooltip=["task:N", "epoch:Q", "mean:Q"])
            across.append((rule + bars + lines).properties(width=255, height=210, title=f"{TITLES[name]}, {network}"))
        panels.append(alt.hconcat(*across, spacing=16))
    return Figure(
        "learning_curves",
        alt.vconcat(*panels, spacing=16),
        table.drop(columns=["low", "high"]).reset_index(drop=True),
        f"Training accuracy of one training followed epoch by epoch, {_sizes(curves)}. Above the dashed line, at "
        f"{fitted:.0%}, counts as fitted. A training ends when every picture is right.",
        "Four panels of rising curves, all of which reach the top. Random labels are the slowest everywhere.",
    )


def test_accuracy(runs: pd.DataFrame) -> Figure:
    """Accuracy on new pictures, treated like the training pictures, by treatment of pixels and network."""
    rows = runs[(runs.corruption == 0)].assign(task=[TASKS[pixels, 0.0] for pixels in runs[runs.corruption == 0].pixels])
    table = _means(rows, "test_accuracy", ["data", "network", "task"])
    y = alt.Y("task:N", title=None, sort=list(TASKS.values()))
    offset = alt.YOffset("network:N", scale=alt.Scale(paddingOuter=0.4))
    x = alt.X("mean:Q", title="accuracy on new pictures", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart().encode(y=y, yOffset=offset, color=_network_colour())
    panels = []
    for name in runs.data.unique():
        layers = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q") + base.mark_point(size=55).encode(
            x=x, tooltip=["network:N", "task:N", "mean:Q", "std_error:Q"]
        )
        own = table[table.data == name]
        panels.append((_chance("x") + layers).properties(width=WIDTH - 140, height=150, title=TITLES[name], data=own))
    return Figure(
        "test_accuracy",
        alt.vconcat(*panels, spacing=14),
        table.drop(columns=["low", "high"]),
        f"Accuracy on new pictures after all training pictures are fitted, {_sizes(runs)}. New pictures have their pixels "
        "treated like the training pictures. Chance is dashed.",
        "For pictures as they are the convolutional network is ahead; with shuffled pixels it falls back to the perceptron, "
        "which loses nothing. Random pixels lie near chance, Gaussian pixels at chance.",
    )


def corruption(runs: pd.DataFrame) -> Figure:
    """Accuracies of the convolutional network against the share of wrong labels, a colour a data set."""
    rows = runs[(runs.pixels == "true") & (runs.network == "convolutional")]
    wrong = rows.groupby(["data", "corruption"]).wrong_rate.mean().rename("wrong").reset_index()
    parts = {"train_accuracy": "labels it was fitted to", "test_accuracy": "new pictures"}
    found = [_means(rows, measure, ["data", "corruption"]).assign(part=name) for measure, name in parts.items()]
    table = pd.concat(found).merge(wrong, on=["data", "corruption"])
    table["line"] = [f"{TITLES[name]}, {part}" for name, part in zip(table.data, table.part)]
    lines = [f"{TITLES[name]}, {part}" for part in parts.values() for name in runs.data.unique()]
    scale = alt.Scale(domain=lines, range=[SKY, ORANGE, BLUE, VERMILION] if len(lines) == 4 else [SKY, BLUE])
    base = alt.Chart(table).encode(
        x=alt.X("wrong:Q", title="share of wrong labels among those fitted", axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("line:N", title=None, scale=scale, legend=alt.Legend(orient="bottom", columns=2)),
    )
    y = alt.Y("mean:Q", title="accuracy", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    bars = base.mark_rule(clip=True).encode(y="low:Q", y2="high:Q")
    dots = base.mark_point(size=45).encode(y=y, tooltip=["line:N", "corruption:Q", "mean:Q", "std_error:Q"])
    return Figure(
        "corruption",
        _chance("y") + bars + base.mark_line().encode(y=y) + dots,
        table.drop(columns=["low", "high", "line"]).reset_index(drop=True),
        "Partly random labels and the convolutional network: accuracy on the labels that were fitted, and on new pictures "
        f"with true labels, {_sizes(runs)}. The distance between the two is the generalization error. Chance is dashed.",
        "Two lines run along the top; below them the lines for new pictures fall steadily to one in ten.",
    )


def regularizers(runs: pd.DataFrame) -> Figure:
    """What weight decay and augmentation do to accuracy on new pictures, and to the fit of random labels."""
    names = [REGULARIZERS[float(decay > 0), shifts] for decay, shifts in zip(runs.weight_decay, runs.augmented)]
    parts = [
        (0.0, "test_accuracy", "true labels: new pictures"),
        (1.0, "train_accuracy", "random labels: training pictures"),
    ]
    rows = runs.assign(regularizer=names)
    table = pd.concat(
        _means(rows[rows.corruption == level], measure, ["regularizer"]).assign(part=part) for level, measure, part in parts
    )
    panels = []
    for _, _, part in parts:
        base = alt.Chart(table[table.part == part]).encode(
            y=alt.Y("regularizer:N", title=None, sort=list(REGULARIZERS.values()))
        )
        x = alt.X("mean:Q", title="accuracy", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
        bars = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
        dots = base.mark_point(size=60, color=BLUE).encode(x=x, tooltip=["regularizer:N", "mean:Q", "std_error:Q"])
        panels.append((_chance("x") + bars + dots).properties(width=WIDTH - 160, height=120, title=part))
    return Figure(
        "regularizers",
        alt.vconcat(*panels, spacing=14),
        table.drop(columns=["low", "high"]).reset_index(drop=True),
        f"The convolutional network on {TITLES[runs.data.iloc[0]]} with and without regularizers, "
        f"{runs.epochs.iloc[0]} epochs each, {_sizes(runs)}. Chance is dashed.",
        "Above, dots for accuracy on new pictures with true labels, which move a little to the right with augmentation. "
        "Below, how much of random labels is fitted with each regularizer.",
    )


def precision(built: pd.DataFrame) -> Figure:
    """Condition number, and largest error of the network with 2n + d weights, against n, in two precisions."""
    rows = built.assign(kind=built.precision, title=[TITLES[name] for name in built.data])
    shown = rows[rows.error > 0]
    x = alt.X("n:Q", title="points n", scale=alt.Scale(type="log", nice=False, padding=12))
    axis = alt.Axis(format="~e", tickCount=8)
    y = alt.Y("error:Q", title="largest error in a label", scale=alt.Scale(type="log"), axis=axis)
    base = alt.Chart(shown).encode(
        x=x,
        y=y,
        color=alt.Color(
            "kind:N",
            title=None,
            scale=alt.Scale(domain=["float64", "float32"], range=[BLUE, VERMILION]),
            legend=alt.Legend(orient="bottom"),
        ),
        shape=alt.Shape("title:N", title=None, legend=alt.Legend(orient="bottom")),
        detail="title:N",
        tooltip=["title:N", "kind:N", "n:Q", "numbers:Q", "error:Q", "wrong:Q", "condition:Q"],
    )
    half = alt.Chart(pd.DataFrame({"y": [0.5]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(y="y:Q")
    lines = alt.Chart(shown).mark_line().encode(x=x, y=y, color=base.encoding.color, detail="title:N")
    return Figure(
        "precision",
        (half + lines + base.mark_point(size=60)).properties(width=WIDTH - 60, height=300),
        rows.drop(columns=["kind", "title"]).reset_index(drop=True),
        "The network with 2n + d weights on random labels of pictures: the largest error of any label, on logarithmic axes. "
        "Labels are whole numbers, so an error below one half (dashed) does no harm. One direction for each size, "
        f"n = {built.n.min():,} to {built.n.max():,} pictures; nothing is trained.",
        "Lines for float64 rise but stay below the dashed line up to all training pictures; those for float32 cross it "
        "early.",
    )


def places(table: pd.DataFrame) -> Figure:
    """Largest error against n for several places of the biases within the gaps; what overflowed is left out."""
    shown = table[np.isfinite(table.error) & (table.error > 0)].assign(
        at=[f"{share:g}" for share in table.place[np.isfinite(table.error) & (table.error > 0)]]
    )
    names = [f"{share:g}" for share in sorted(table.place.unique())]
    colours = [BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE, BLACK, GREY][: len(names)]
    x = alt.X("n:Q", title="points n", scale=alt.Scale(type="log", nice=False, padding=12))
    y = alt.Y(
        "error:Q",
        title="largest error in a label",
        scale=alt.Scale(type="log", domain=[1e-14, 1e14], nice=False, clamp=True),
        axis=alt.Axis(format="~e", values=[10.0**k for k in range(-14, 15, 4)]),
    )
    colour = alt.Color(
        "at:N", title="place of the biases", sort=names, scale=alt.Scale(domain=names, range=colours),
        legend=alt.Legend(orient="bottom", columns=6),
    )  # fmt: skip
    base = alt.Chart(shown).encode(x=x, y=y, color=colour, tooltip=["at:N", "n:Q", "error:Q", "wrong:Q"])
    half = alt.Chart(pd.DataFrame({"y": [0.5]})).mark_rule(strokeDash=[4, 4], color=GREY).encode(y="y:Q")
    return Figure(
        "places",
        (half + base.mark_line(point=True)).properties(width=WIDTH - 60, height=300),
        table.reset_index(drop=True),
        f"The same points and labels ({TITLES[table.data.iloc[0]]}, random labels, float64), with biases at several shares "
        f"of the gap between neighbouring projections: one direction for each size, n = {table.n.min():,} to "
        f"{table.n.max():,}. In exact arithmetic all go through all points. "
        "Errors beyond the upper edge are drawn on it; where numbers overflowed, the point is missing.",
        "Lines for shares up to one half stay near the bottom; those for larger shares shoot up to the upper edge.",
    )


def _sizes(rows: pd.DataFrame) -> str:
    """What every caption says of the trainings behind a figure."""
    n, repeats = rows.pictures.iloc[0], rows.repeat.nunique()
    return f"n = {n:,} training pictures, means over {repeats} repeats; bars reach two standard errors"


def _network_colour() -> alt.Color:
    scale = alt.Scale(domain=list(NETWORK_COLOURS), range=list(NETWORK_COLOURS.values()))
    return alt.Color("network:N", title=None, scale=scale, legend=alt.Legend(orient="bottom"))


def _means(rows: pd.DataFrame, measure: str, by: list[str]) -> pd.DataFrame:
    """Mean over repeats with the ends of its error bar, one row a group; columns mean, std_error, low, high."""
    found = rows.groupby(by, sort=False)[measure].agg(["mean", "sem"]).reset_index().rename(columns={"sem": "std_error"})
    reach = 2 * found.std_error
    return found.assign(low=found["mean"] - reach, high=found["mean"] + reach)


def _chance(axis: str, share: float = 0.1) -> alt.Chart:
    """Chance among ten classes, dashed, on the axis (``x`` or ``y``) that holds accuracy."""
    rule = alt.Chart(pd.DataFrame({"at": [share]})).mark_rule(strokeDash=[4, 4], color=GREY)
    return rule.encode(**{axis: "at:Q"})
