"""Figures of the page on networks without a training error: which of them generalize, and what that takes.

Every function takes tables made by `study.theory.memorizers.run`, or a toy problem in the plane, and returns a `Figure`.
Error bars and bands reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, WIDTH, Figure
from study.theory import memorizers

COLOURS = {"random direction": VERMILION, "fitted direction": ORANGE, "local bumps": BLUE, "trained network": GREEN}
TITLES = {"true": "true labels", "random": "random labels"}
PERCENT = alt.Axis(format="%", tickCount=6)
DASHES = alt.Scale(domain=list(TITLES.values()), range=[[1, 0], [5, 4]])


def toy(x: np.ndarray, y: np.ndarray, values: dict[str, np.ndarray], ticks: np.ndarray) -> Figure:
    """Signs of networks over a square: ``values[name]`` are taken on the grid ``ticks`` x ``ticks``, rows from below."""
    across, up = (part.ravel() for part in np.meshgrid(ticks, ticks))
    grid = pd.concat([pd.DataFrame({"x": across, "y": up, "sign": np.sign(of), "network": n}) for n, of in values.items()])
    grid["answer"] = grid.sign.map({1.0: "blue", -1.0: "orange", 0.0: "undecided"})
    points = pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "answer": np.where(y > 0, "blue", "orange")})
    half = (ticks[1] - ticks[0]) / 2
    grid = grid.assign(right=grid.x + half, above=grid.y + half, x=grid.x - half, y=grid.y - half)
    reach = alt.Scale(domain=[ticks[0] - half, ticks[-1] + half], nice=False)
    colour = alt.Scale(domain=["blue", "orange", "undecided"], range=["#a9cfe8", "#f2c49b", "#f2f2f2"])
    panels = [_plane(grid[grid.network == name], points, name, colour, reach) for name in values]
    table = grid[["network", "x", "y", "answer"]].assign(x=grid.x + half, y=grid.y + half)
    return Figure(
        "toy",
        alt.hconcat(*panels, spacing=24),
        table.reset_index(drop=True),
        f"Two networks that fit the same {len(x)} points in the plane without an error; one draw. Dots are training "
        "points, the ground is what the network answers there. Left, everything on a line across the one direction it "
        "reads gets the same answer.",
        "Two squares with the same blue and orange dots. Left: narrow slanted stripes. Right: compact regions around the "
        "dots.",
    )


def _plane(grid: pd.DataFrame, points: pd.DataFrame, name: str, colour: alt.Scale, reach: alt.Scale) -> alt.LayerChart:
    x, y = (alt.X("x:Q", title=None, scale=reach, axis=None), alt.Y("y:Q", title=None, scale=reach, axis=None))
    legend = alt.Color("answer:N", title=None, scale=colour, legend=alt.Legend(orient="bottom"))
    ground = alt.Chart(grid).mark_rect(strokeWidth=0).encode(x=x, x2="right:Q", y=y, y2="above:Q", color=legend)
    dots = [
        alt.Chart(points[points.answer == answer]).mark_point(size=42, color=BLACK, fill=fill, opacity=1).encode(x=x, y=y)
        for answer, fill in (("blue", BLUE), ("orange", VERMILION))
    ]
    return alt.layer(ground, *dots).properties(width=285, height=285, title=name)


def by_pair(pairs: pd.DataFrame, shown: str) -> Figure:
    """Test accuracy of every memorizer on every pair of classes of the data set ``shown``, one dot a pair.

    Raises ``ValueError`` that lists the data sets if ``shown`` is none of them.
    """
    if shown not in set(pairs.data):
        raise ValueError(f"unknown data set {shown!r}; valid data sets: {', '.join(pairs.data.unique())}")
    keys = ["labels", "memorizer", "first", "second"]
    rows = pairs[pairs.data == shown]
    table = rows.groupby(keys)[["train_accuracy", "test_accuracy", "undecided"]].mean().reset_index()
    table["title"] = table.labels.map(TITLES)
    table["place"] = table.groupby(keys[:2]).cumcount() % 9 / 9 - 4 / 9  # so that dots do not cover each other
    means = table.groupby(["title", "memorizer"], as_index=False).test_accuracy.mean()
    x = alt.X(
        "test_accuracy:Q", title="accuracy on new pictures", axis=PERCENT, scale=alt.Scale(domain=[0.25, 1], nice=False)
    )
    y = alt.Y("memorizer:N", title=None, sort=list(memorizers.MEMORIZERS))
    about = ["first:N", "second:N", *_numbers("test_accuracy", "train_accuracy", "undecided")]
    offset = alt.YOffset("place:Q", scale=alt.Scale(domain=[-0.7, 0.7]))
    colour = alt.Color("memorizer:N", legend=None, scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())))
    dots = alt.Chart().mark_point(size=18, opacity=0.7).encode(x=x, y=y, yOffset=offset, color=colour, tooltip=about)
    middle = alt.Chart(means).mark_tick(thickness=3, size=34, color=BLACK).encode(x=x, y=y)
    panels = [
        alt.layer(
            _chance("x"), dots.properties(data=table[table.title == t]), middle.properties(data=means[means.title == t])
        ).properties(width=WIDTH - 140, height=190, title=t)
        for t in TITLES.values()
    ]
    repeats, n = rows.repeat.nunique(), rows.n.iloc[0]
    return Figure(
        "by_pair",
        alt.vconcat(*panels),
        table.drop(columns=["place", "title"]),
        f"All pairs of classes of {shown}, n = {n} training pictures a pair, means over {repeats} random choices of them. "
        "A dot is a pair, a black bar the mean over pairs. Chance is dashed; an undecided picture counts as half right.",
        "Two panels of dots, one row a memorizer. With true labels the random direction lies near one half and the other "
        "three near one; with random labels all four scatter around one half.",
    )


def width_sweep(sweep: pd.DataFrame) -> Figure:
    """Test accuracy against the width of the first layer as a share of the dimension: clusters, and chessboards."""
    keys = ["distribution", "projection", "dimension", "width"]
    table = _means(sweep, "test_accuracy", keys)
    table["share"] = table.width / table.dimension
    table["line"] = table.dimension.map("d = {}".format) + np.where(table.projection == "coordinates", ", coordinates", "")
    panels = [_widths(table[table.distribution == name], name) for name in ("clusters", "chessboard")]
    points = sweep.groupby("distribution").n.first()
    return Figure(
        "width_sweep",
        alt.hconcat(*panels, spacing=20).resolve_scale(color="independent", shape="independent"),
        table.drop(columns=["low", "high"]),
        "Bumps that see their input only through a first layer with that many units, as a share of the dimension d. Left: "
        f"a few clusters, n = {points['clusters']:,}. Right: chessboards, n = {points['chessboard']:,}. The directions "
        f"read are random, or coordinates. Means over {sweep.repeat.nunique()} repeats; bars reach two standard errors.",
        "Left, curves that rise to one at a small fraction of the dimension. Right, curves that stay low until the width "
        "equals the dimension; those for coordinates lie at one half until then.",
    )


def _widths(table: pd.DataFrame, name: str) -> alt.LayerChart:
    colours = [GREY, ORANGE, GREEN, BLUE] if name == "clusters" else [VERMILION, PURPLE, BLUE, GREEN]
    lines = list(table.sort_values(["dimension", "projection"], ascending=[True, False]).line.unique())
    base = alt.Chart(table).encode(
        x=alt.X("share:Q", title="width / dimension", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=4)),
        color=alt.Color(
            "line:N",
            title=None,
            scale=alt.Scale(domain=lines, range=(colours * len(lines))[: len(lines)]),
            legend=alt.Legend(orient="bottom", columns=2),
        ),
    )
    y = alt.Y("mean:Q", title="accuracy on new points", axis=PERCENT, scale=alt.Scale(domain=[0.4, 1], nice=False))
    about = ["line:N", "width:Q", *_numbers("mean")]
    bars = base.mark_rule(clip=True).encode(y="low:Q", y2="high:Q")
    drawn = bars + base.mark_line(point=True).encode(y=y, tooltip=about)
    return (_chance("y") + drawn).properties(width=260, height=270, title=name)


def bumps_by_size(growth: pd.DataFrame) -> Figure:
    """Number of bumps against sample size on logarithmic axes, with the lower bound on every cover of the sample."""
    table = _means(growth, "bumps", ["source", "labels", "n"])
    floor = growth.groupby(["source", "labels", "n"])[["packing", "test_accuracy"]].mean().reset_index()
    table = table.merge(floor, on=["source", "labels", "n"])
    table["kind"] = table.labels.map(TITLES)
    sizes = sorted(int(n) for n in table.n.unique())
    base = alt.Chart(table).encode(
        x=alt.X("n:Q", title="training points n", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=sizes)),
        color=alt.Color("source:N", title=None, sort=None, legend=alt.Legend(orient="bottom", columns=2, symbolOpacity=1)),
        detail="kind:N",
    )
    y = alt.Y("mean:Q", title="bumps, and the least that any cover needs", scale=alt.Scale(type="log", nice=False))
    band = base.mark_area(opacity=0.18).encode(y=y, y2="packing:Q")
    dash = alt.StrokeDash("kind:N", title=None, scale=DASHES, legend=alt.Legend(orient="bottom", symbolStrokeColor=BLACK))
    about = ["source:N", "kind:N", "n:Q", *_numbers("mean", "packing", "test_accuracy")]
    lines = base.mark_line().encode(y=y, strokeDash=dash) + base.mark_point(size=35).encode(y=y, tooltip=about)
    return Figure(
        "bumps_by_size",
        (band + base.mark_rule().encode(y="low:Q", y2="high:Q") + lines).properties(width=WIDTH, height=360),
        table.drop(columns=["low", "high", "kind"]).rename(columns={"mean": "bumps"}),
        "How many bumps the greedy cover takes (lines), and a number below which no cover of that sample can go (lower "
        f"edge of the bands). Means over {growth.repeat.nunique()} samples of each size, n = {growth.n.min():,} to "
        f"{growth.n.max():,}; bars reach two standard errors. With random "
        "labels hardly any two points can share a bump.",
        "On logarithmic axes, dashed lines for random labels rise in proportion to n. Solid lines rise less; the one for "
        "clusters is flat.",
    )


def accuracy_by_sample(samples: pd.DataFrame, bounds: pd.DataFrame) -> Figure:
    """Accuracy on worlds of cells against sample size, between what is guaranteed and what is possible.

    Memorizers only: rows with a training error are left out, a trained network on random labels within small cells.
    """
    keys = ["labels", "memorizer", "n"]
    fits = samples.groupby(keys).train_errors.transform("sum") == 0
    table = _means(samples[fits], "test_accuracy", keys)
    table["kind"] = table.labels.map(TITLES)
    sizes = sorted(int(n) for n in table.n.unique())
    x = alt.X("n:Q", title="training points n", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=sizes))
    y = alt.Y("mean:Q", title="accuracy on new points", axis=PERCENT, scale=alt.Scale(domain=[0.4, 1], nice=False))
    between = alt.Chart(bounds[bounds.guarantee >= 0]).mark_area(color=GREY, opacity=0.2, clip=True)
    between = between.encode(x=x, y=alt.Y("guarantee:Q"), y2="limit:Q")
    legend = alt.Legend(orient="bottom", columns=2)
    base = alt.Chart(table).encode(
        x=x,
        color=alt.Color(
            "memorizer:N", title=None, legend=legend, scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
        ),
        detail="kind:N",
    )
    dash = alt.StrokeDash("kind:N", title=None, scale=DASHES, legend=alt.Legend(orient="bottom", symbolStrokeColor=BLACK))
    lines = base.mark_line().encode(y=y, strokeDash=dash) + base.mark_rule(clip=True).encode(y="low:Q", y2="high:Q")
    dots = base.mark_point(size=35).encode(y=y, tooltip=["memorizer:N", "kind:N", "n:Q", *_numbers("mean")])
    return Figure(
        "accuracy_by_sample",
        (between + lines + dots).properties(width=WIDTH, height=360),
        table.drop(columns=["low", "high", "kind"]).rename(columns={"mean": "test_accuracy"}).merge(bounds, on="n"),
        f"Worlds of cells with labels that must be seen to be known; means over {samples.world.nunique()} worlds with n = "
        f"{samples.n.min():,} to {samples.n.max():,} training points, bars "
        "reach two standard errors. Grey: below, what the proposition guarantees of bumps; above, what no learner can "
        "exceed on average. Networks with a training error are left out.",
        "A grey band rises to one. The lines for bumps and for the trained network run along its upper edge, the random "
        "direction stays below; dashed lines for random labels stay near one half.",
    )


def corners(table: pd.DataFrame) -> Figure:
    """Bumps for labelled corners of cubes, and for clusters, against dimension."""
    rows = table.dropna(subset="bumps")
    lines = (
        alt.Chart(rows)
        .mark_line(point=True)
        .encode(
            x=alt.X("dimension:Q", title="dimension", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("bumps:Q", title="bumps", scale=alt.Scale(type="log", base=2)),
            color=alt.Color("case:N", title=None, sort=None, legend=alt.Legend(orient="bottom")),
            strokeDash=alt.StrokeDash("case:N", sort=None, legend=None),
            tooltip=["case:N", "dimension:Q", "bumps:Q"],
        )
    )
    return Figure(
        "corners",
        lines.properties(width=WIDTH),
        rows.reset_index(drop=True),
        "Bumps for all corners of a cube, labelled by coins or by parity, and for as many points from a few clusters: "
        f"{2 ** table.dimension.min():,} to {2 ** table.dimension.max():,} points, one sample a dimension. The count "
        "doubles with every dimension for corners, and does not grow for clusters.",
        "Two straight lines on a logarithmic axis that double with each dimension, and a flat one.",
    )


def _means(rows: pd.DataFrame, measure: str, by: list[str]) -> pd.DataFrame:
    """Mean over repeats with the ends of its error bar, one row a group; columns mean, std_error, low, high."""
    found = rows.groupby(by, sort=False)[measure].agg(["mean", "sem"]).reset_index().rename(columns={"sem": "std_error"})
    reach = 2 * found.std_error
    return found.assign(low=found["mean"] - reach, high=found["mean"] + reach)


def _chance(axis: str) -> alt.Chart:
    """One half, dashed, on the axis (``x`` or ``y``) that holds accuracy."""
    rule = alt.Chart(pd.DataFrame({"at": [0.5]})).mark_rule(strokeDash=[4, 4], color=GREY)
    return rule.encode(**{axis: "at:Q"})


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".4g") for name in names]
