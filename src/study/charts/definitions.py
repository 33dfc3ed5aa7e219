"""Figures of the chapter on definitions: six points on a line, and a mixture whose rare parts are known.

Influence and memorization are differences of probabilities, from -1 to 1. Error bars reach two standard errors to each
side.
"""

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, WIDTH, Figure
from study.data import Data
from study.estimators import Estimates, part
from study.hand_example import Point

TICKS = [1, 2, 3, 5, 10, 20, 50, 100, 200, 500]
ROWS = ("training set", "new points")
DIVERGING = alt.Scale(domain=[-1, 0, 1], range=[VERMILION, "#ffffff", BLUE], interpolate="rgb")


def hand_points(train: Sequence[Point], test: Sequence[Point], exact: pd.DataFrame) -> Figure:
    """The points on their line, and an arrow for every influence in ``exact`` (one row a training point) that is not 0."""
    table = pd.concat([pd.DataFrame(points).assign(row=row) for row, points in zip(ROWS, (train, test))])
    scale = alt.Scale(domain=[0, max(point.position for point in (*train, *test)) + 1])
    x = alt.X("position:Q", title="position", scale=scale, axis=alt.Axis(grid=False))
    y = alt.Y("row:N", title=None, sort=list(ROWS), axis=alt.Axis(domain=False, ticks=False, grid=True))
    labels = sorted(table.label.unique())
    base = alt.Chart(table).encode(x=x, y=y)
    marks = base.mark_point(size=170, filled=True, opacity=1).encode(
        shape=alt.Shape("label:N", title="label", scale=alt.Scale(domain=labels, range=labels)),
        color=alt.Color("label:N", title="label", scale=alt.Scale(domain=labels, range=[BLUE, ORANGE])),
    )
    names = base.mark_text(dy=-17, fontSize=14, fontStyle="italic").encode(text="name:N")
    chart = (_arrows(train, test, exact, x, y) + marks + names).properties(height=170, width=WIDTH - 60)
    return Figure(
        "hand_points",
        chart,
        table,
        f"{len(train)} training points and {len(test)} new ones; the learner gives a new point the label of the nearest "
        "training point. Lines join a training point to the new points on which it has influence: solid for good, dashed "
        "for bad. Nothing here is random: the influences are exact.",
        "Two rows of points on a line: three circles at the left, two squares in the middle, one circle at the right. From "
        "that circle a solid line leads to the new point on its right and a dashed line to the one on its left.",
    )


def _arrows(train, test, exact: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    positions = {point.name: point.position for point in (*train, *test)}
    rows = [
        {"position": positions[name], "row": row, "pair": f"{i} {j}", "kind": "good" if value > 0 else "bad"}
        for i, line in exact.drop(columns="mem").iterrows()
        for j, value in line.items()
        if value
        for name, row in zip((i, j), ROWS)
    ]
    dash = alt.StrokeDash("kind:N", legend=None, scale=alt.Scale(domain=["good", "bad"], range=[[1, 0], [6, 4]]))
    return alt.Chart(pd.DataFrame(rows)).mark_line(color=GREY).encode(x=x, y=y, detail="pair:N", strokeDash=dash)


def hand_influence(tables: dict[str, pd.DataFrame]) -> Figure:
    """Tables of fractions side by side, under their titles: rows training points, columns ``mem`` and the new points."""
    long = [_long(frame).assign(measure=title) for title, frame in tables.items()]
    table = pd.concat(long, ignore_index=True)
    columns = ["mem", *sorted(set(table.column) - {"mem"})]
    base = alt.Chart(table).encode(
        x=alt.X("column:N", title=None, sort=columns, axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("train:N", title="training point", axis=alt.Axis(domain=False, ticks=False)),
    )
    cells = base.mark_rect(stroke="#dddddd").encode(color=alt.Color("value:Q", scale=DIVERGING, legend=None))
    dark = alt.condition("abs(datum.value) > 0.7", alt.value("white"), alt.value("black"))
    words = base.mark_text(fontSize=13).encode(text="fraction:N", color=dark)
    size = {"width": (WIDTH - 80) // len(tables), "height": 190}
    chart = (cells + words).properties(**size).facet(column=alt.Column("measure:N", title=None, sort=list(tables)))
    return Figure(
        "hand_influence",
        chart,
        table,
        f"Memorization (first column) and influence on the new points {columns[1]} to {columns[-1]}, with the whole "
        f"training set of {table.train.nunique()} points and with subsets of it. Exact: every subset is counted, none is "
        "drawn.",
        "Tables of fractions with coloured cells. With the whole training set only the row of f differs from zero; with "
        "subsets most rows do.",
    )


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    cells = [(train, column, float(value), str(value)) for train, row in frame.iterrows() for column, value in row.items()]
    return pd.DataFrame(cells, columns=["train", "column", "value", "fraction"])


def convergence(estimates: Estimates, exact: pd.DataFrame, shown: Sequence[tuple[str, str]], steps: Sequence[int]) -> Figure:
    """Estimates from the first t subsets, for t in ``steps``, with the exact values dashed.

    ``exact`` has one row a training point, in the order of ``estimates``; ``shown`` lists pairs (row, column) of it.
    """
    rows = [_estimate(part(estimates, np.arange(t)), exact, *pair) | {"t": t} for t in steps for pair in shown]
    table = pd.DataFrame(rows)
    table = table.assign(low=table.estimate - 2 * table.std_error, high=table.estimate + 2 * table.std_error)
    names = list(dict.fromkeys(table.quantity))
    base = alt.Chart(table).encode(
        x=alt.X(
            "t:Q",
            title="number of random subsets (logarithmic axis)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=list(steps)),
        ),
        color=alt.Color("quantity:N", title=None, scale=alt.Scale(domain=names, range=[BLUE, VERMILION, GREEN, PURPLE])),
    )
    lines = base.mark_line(strokeWidth=1).encode(y=alt.Y("estimate:Q", title="estimate"))
    bars = base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q")
    points = base.mark_point(size=45).encode(y="estimate:Q", tooltip=["quantity:N", "t:Q", "estimate:Q", "std_error:Q"])
    truth = alt.Chart(table).mark_rule(strokeDash=[5, 4]).encode(y="exact:Q", color=alt.Color("quantity:N"))
    return Figure(
        "convergence",
        truth + lines + bars + points,
        table,
        f"Estimates from random subsets of {len(exact)} points approach the exact values (dashed) as subsets are added, up "
        f"to t = {max(steps):,}. Bars reach two standard errors.",
        "Lines with error bars that shrink from left to right and settle on the dashed lines.",
    )


def _estimate(some: Estimates, exact: pd.DataFrame, row: str, column: str) -> dict:
    i = exact.index.get_loc(row)
    if column == "mem":
        found = some.memorization.loc[i, ["mem", "std_error"]].to_list()
    else:
        found = [float(values[0, 0]) for values in some.influence([i], [exact.columns.get_loc(column) - 1])]
    name = f"mem({row})" if column == "mem" else f"infl({row} → {column})"
    return {"quantity": name, "estimate": found[0], "std_error": found[1], "exact": float(exact.loc[row, column])}


def population_sizes(data: Data) -> Figure:
    """Rank of each sub-population of the training set against the number of its examples, both axes logarithmic."""
    sizes = np.sort(np.bincount(data.groups_train))[::-1]
    table = pd.DataFrame({"rank": np.arange(1, len(sizes) + 1), "examples": sizes})[sizes > 0]
    axis = {"scale": alt.Scale(type="log"), "axis": alt.Axis(values=TICKS)}
    chart = (
        alt.Chart(table)
        .mark_point(size=22, color=BLUE)
        .encode(
            x=alt.X("rank:Q", title="rank of the sub-population (logarithmic axis)", **axis),
            y=alt.Y("examples:Q", title="its training examples (logarithmic axis)", **axis),
            tooltip=["rank", "examples"],
        )
    )
    return Figure(
        "population_sizes",
        chart,
        table,
        "A long tail: a few sub-populations have dozens of training examples, a great many have one or two. One draw of "
        f"n = {data.n:,} examples.",
        "Points that fall along a roughly straight line on logarithmic axes and end in long steps at two and at one.",
    )


def memorization_by_size(memorization: pd.DataFrame, data: Data, threshold: float) -> Figure:
    """Memorization of every training example against the size of its sub-population, with the mean for each size."""
    sizes = np.bincount(data.groups_train)[data.groups_train]
    table = pd.DataFrame({"example": memorization["index"], "size": sizes, "mem": memorization.mem})
    spread = np.exp(0.22 * ((table.example * 0.618034) % 1 - 0.5))  # neighbours on the page, not on top of each other
    means = table.groupby("size", as_index=False).mem.mean()
    x = alt.X(
        "size:Q",
        title="training examples in its sub-population (logarithmic axis)",
        axis=alt.Axis(values=TICKS),
        scale=alt.Scale(type="log", domain=[0.8, 1.2 * int(sizes.max())], nice=False),
    )
    y = alt.Y("mem:Q", title="memorization", scale=alt.Scale(domain=[-0.1, 1]))
    dots = alt.Chart(table.assign(size=sizes * spread)).mark_point(size=14, opacity=0.45, color=BLUE).encode(x=x, y=y)
    line = alt.Chart(means).mark_line(color=VERMILION, point={"color": VERMILION, "size": 35}).encode(x=x, y=y)
    rule = alt.Chart(pd.DataFrame({"mem": [threshold]})).mark_rule(color=BLACK, strokeDash=[4, 4]).encode(y=y)
    return Figure(
        "memorization_by_size",
        dots + rule + line,
        table,
        "From memorization to learning: each dot is a training example, placed by the number of training examples of its "
        "kind (spread sideways a little). Line: mean for each number. Dashed: the threshold above which we say memorized.",
        "A cloud of points that lies high for sub-populations of one example, falls through all values for two to five, and "
        "lies at zero from ten on.",
    )
