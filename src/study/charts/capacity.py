"""Figures of the chapter on small networks that memorize: what was built, where it must fail, what training finds.

Every function takes tables made by `study.theory.capacity.run` and returns a `Figure`; `demonstration` takes a network.
"""

import altair as alt
import numpy as np
import pandas as pd
import torch

from study.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, WIDTH, Figure
from study.theory.relu_memorizers import Memorizer, breakpoints

TOP = alt.Legend(orient="top", columns=2, title=None)
SHARE = alt.Axis(format="%")


def demonstration(network: Memorizer, x: np.ndarray, y: np.ndarray) -> Figure:
    """What a scalar `memorizer` answers along its direction, with the points ``x (n, d)`` and labels ``y (n,)`` it fits."""
    row = network.affine[0][0][0]
    unit = row / np.linalg.norm(row)
    at = x @ unit
    corners, reach = breakpoints(network, np.zeros(len(unit)), unit), 0.1 * np.ptp(at)
    ends = at.min() - reach, at.max() + reach
    line = np.unique(np.concatenate([ends, at, corners[(ends[0] < corners) & (corners < ends[1])]]))
    with torch.no_grad():
        values = network(torch.from_numpy(line[:, None] * unit))[:, 0].numpy()
    curve = pd.DataFrame({"kind": "network", "place": line, "value": values})
    table = pd.concat([curve, pd.DataFrame({"kind": "label", "place": at, "value": y})], ignore_index=True)
    axes = {"x": alt.X("place:Q", title="place along the direction"), "y": alt.Y("value:Q", title="answer")}
    answer = alt.Chart(curve).mark_line(strokeWidth=1, color=GREY).encode(**axes)
    labels = alt.Chart(table[table.kind == "label"]).mark_point(size=45, color=VERMILION).encode(**axes)
    return Figure(
        "demonstration",
        answer + labels,
        table,
        f"A network with {sum(network.widths)} ReLUs through {len(y)} points (dots) with labels drawn at random between -1 "
        "and 1, along the only direction it looks at; one draw, no training. Between the points it swings: nothing asks it "
        "to do otherwise.",
        "A grey curve that swings up and down steeply and passes through every dot.",
    )


def weights(fits: pd.DataFrame) -> Figure:
    """The largest weight of each scalar construction against N."""
    rows = fits[(fits.network == "two hidden layers") & (fits.precision == "float64")]
    table = rows[["problem", "N", "d1", "d2", "parameters", "largest_weight", "error", "wrong"]]
    made_up = table.problem.duplicated(keep=False)
    base = alt.Chart(table).encode(
        x=_log("N", "points N", values=[100, 1000, 10000]),
        y=_log("largest_weight", "largest weight", format="~e", values=[10.0**power for power in range(2, 14, 2)]),
        color=alt.Color("problem:N", sort=None, legend=TOP),
        tooltip=["problem:N", "N:Q", "d1:Q", "d2:Q", *_numbers("largest_weight", "error")],
    )
    lines = base.transform_filter(alt.FieldOneOfPredicate("problem", table.problem[made_up].unique().tolist())).mark_line()
    return Figure(
        "weights",
        lines + base.mark_point(size=55),
        table,
        "The largest weight of the two-hidden-layer construction: points made up at several sizes (lines) and pictures "
        f"(single dots), N = {fits.N.min():,} to {fits.N.max():,} points, one network each. Equal distances on a line are "
        "kindest; the closest pair of points decides.",
        "Rising lines on logarithmic axes, from about a thousand at 64 points to a hundred million at 10,000.",
    )


def precision(table: pd.DataFrame) -> Figure:
    """Wrong labels against the significant bits of the weights, a line a size."""
    base = alt.Chart(table).encode(
        x=alt.X("bits:Q", title="significant bits of each weight", scale=alt.Scale(domain=[5, 56], nice=False)),
        y=alt.Y("share:Q", title="wrong labels", axis=SHARE),
        color=alt.Color(
            "N:O", title="points N", legend=alt.Legend(orient="top", columns=5), scale=_colours(table.N.nunique())
        ),
        tooltip=["N:Q", "bits:Q", alt.Tooltip("share:Q", format=".2%")],
    )
    return Figure(
        "precision",
        base.mark_line(point=True) + _marked("bits", [24, 53], ["float32", "float64"]),
        table,
        "Share of wrong labels when the weights are rounded and all arithmetic is done in float64: random points with ten "
        f"classes, N = {table.N.min():,} to {table.N.max():,} points, one network a size. Dashed: the bits that a weight "
        "has in float32 and in float64.",
        "Falling steps, one curve a size; the larger the set, the more bits it takes until no label is wrong.",
    )


def controls(table: pd.DataFrame) -> Figure:
    """Largest error of the construction and of its mutilated variants, on a logarithmic axis."""
    names = {"as proved": "as proved", "groups all rise": "no signs s", "units all +": "no signs v"}
    table = table.assign(row=table.variant.map(names), key=table.problem + ", last layer " + table.last_layer)
    chart = (
        alt.Chart(table)
        .mark_point(size=70)
        .encode(
            x=_log("error", "largest error (logarithmic)", format="~e", zero=False),
            y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=110)),
            yOffset=alt.YOffset("problem:N", sort=None),
            color=alt.Color("problem:N", sort=None, legend=alt.Legend(orient="top", columns=3, title=None)),
            shape=alt.Shape("last_layer:N", legend=alt.Legend(orient="top", columns=2, title="last layer")),
            tooltip=["problem:N", "variant:N", "last_layer:N", *_numbers("error", "share")],
        )
        .properties(height=alt.Step(18), width=WIDTH - 100)
    )
    return Figure(
        "controls",
        chart,
        table.drop(columns=["row", "key"]),
        f"The construction for {table.N.iloc[0]} points, and what is left of it without the alternation of the groups (s) "
        "or of the units (v): largest difference between answer and label, one network each. Fitting the last layer anew by "
        "least squares gives the mutilated networks every chance, and does not help.",
        "Dots far to the left, near rounding error, for the construction; far to the right, around one, for both variants.",
    )


def intervals(table: pd.DataFrame) -> Figure:
    """Pieces of a line against width: the bound, and networks below it."""
    names = {
        "bound": "bound: none has more",
        "zigzag": "zigzag, made for it",
        "built": "memorizer of alternating labels",
        "random": "most of several random networks",
    }
    long = table.rename(columns=names).melt("width", list(names.values()), "network", "pieces").dropna()
    chart = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            x=_log("width", "width of both hidden layers", values=[4, 8, 16, 32]),
            y=_log("pieces", "pieces of a line", values=[10, 30, 100, 300, 1000]),
            color=alt.Color(
                "network:N",
                sort=None,
                legend=TOP,
                scale=alt.Scale(range=[GREY, GREEN, BLUE, ORANGE], domain=list(names.values())),
            ),
            tooltip=["network:N", "width:Q", "pieces:Q"],
        )
    )
    return Figure(
        "intervals",
        chart,
        long,
        "Into how many pieces networks with two hidden layers of one width cut a line. The zigzag, one network a width, "
        "nearly exhausts the bound; random networks, the best of several, stay far below.",
        "Four rising lines on logarithmic axes: the bound on top, the zigzag just below it, random networks at the bottom.",
    )


def training(table: pd.DataFrame, necessary: int, sufficient: int) -> Figure:
    """Share of wrong signs that Adam leaves, by width and task, with the least that any network must leave."""
    best = table.groupby(["task", "width", "rate"]).share.agg(["mean", "min", "max"]).reset_index()
    best = best.loc[best.groupby(["task", "width"])["mean"].idxmin()]
    must = table[table.task == "alternating line"].groupby("width", as_index=False).fewest.first()
    x = alt.X("width:Q", title="width of both hidden layers")
    y = alt.Y("mean:Q", title="wrong signs", axis=SHARE, scale=alt.Scale(domain=[0, 0.5]))
    colour = alt.Color("task:N", sort=None, legend=TOP, scale=alt.Scale(range=[VERMILION, BLUE, GREEN]))
    base = alt.Chart(best).encode(x=x, color=colour)
    lines = base.mark_line(point=True).encode(y=y, tooltip=["task:N", "width:Q", "rate:Q", *_numbers("mean", "min", "max")])
    bars = base.mark_rule().encode(y="min:Q", y2="max:Q")
    floor = alt.Chart(must).mark_area(color=SKY, opacity=0.4).encode(x=x, y=alt.Y("fewest:Q"))
    marks = _marked("width", [necessary, sufficient], ["necessary", "sufficient"])
    repeats, n = table.repeat.nunique(), table.N.iloc[0]
    return Figure(
        "training",
        floor + bars + lines + marks,
        best.merge(must.assign(task="alternating line"), how="left", on=["task", "width"]),
        f"Wrong signs among {n} points at the best moment of a training with Adam, at the better of its learning rates: "
        f"mean of {repeats} repeats, each with data of its own, bars from the least to the most. Shaded: what no network of "
        "this width can reach on alternating labels. Dashed: the width necessary for these, and the width at which weights "
        "can be written down for any labels.",
        "Random points are fitted from a moderate width on, two halves of a line everywhere, alternating labels nowhere.",
    )


def descents(table: pd.DataFrame) -> Figure:
    """Risk against the distance of the start from the minimum, a line for each way of looking."""
    base = alt.Chart(table.assign(risk=10.0**table.log10_risk, low=_end(table, -2), high=_end(table, 2))).encode(
        x=_log("distance", "distance of the start from the minimum", format="~e", values=sorted(set(table.distance))),
        color=alt.Color("quantity:N", sort=None, legend=TOP, scale=_colours(table.quantity.nunique())),
    )
    lines = base.mark_line(point=True).encode(
        y=_log("risk", "mean squared error", format="~e"),
        tooltip=["quantity:N", *_numbers("distance", "risk", "epochs_asked")],
    )
    return Figure(
        "descents",
        base.mark_rule().encode(y="low:Q", y2="high:Q") + lines,
        table,
        "SGD from near memorizing minima: geometric mean over minima, bars of two standard errors. Lines with the same "
        "slope as the start gain a constant factor; the steeper ones gain more the nearer they start.",
        "Straight lines on logarithmic axes, some with the slope of the start, two steeper, one flat for permuted labels.",
    )


def exponents(table: pd.DataFrame) -> Figure:
    """Exponents of risk in the distance, with bars of two standard errors."""
    table = table.assign(low=table.value - 2 * table.std_error, high=table.value + 2 * table.std_error)
    y = alt.Y("quantity:N", title=None, sort=None, axis=alt.Axis(labelLimit=250))
    base = alt.Chart(table).encode(y=y)
    points = base.mark_point(size=60).encode(
        x=alt.X("value:Q", title="exponent", axis=alt.Axis(tickMinStep=1)),
        tooltip=["quantity:N", *_numbers("value", "std_error")],
    )
    rules = alt.Chart(pd.DataFrame({"value": [0, 2, 4]})).mark_rule(strokeDash=[4, 4]).encode(x="value:Q")
    return Figure(
        "exponents",
        (rules + base.mark_rule(color=BLUE).encode(x="low:Q", x2="high:Q") + points).properties(width=WIDTH - 260),
        table.drop(columns=["low", "high"]),
        "With what power of the distance the mean squared error falls: mean over minima, bars of two standard errors. "
        "Dashed: 0, 2 and 4.",
        "A dot with a bar in each row; those for fixed numbers of epochs at two, for the epochs asked for at four.",
    )


def _end(table: pd.DataFrame, errors: float) -> pd.Series:
    return 10.0 ** (table.log10_risk + errors * table.log10_risk_se)


def _log(field: str, title: str, **axis):
    zero = axis.pop("zero", None)
    channel = alt.X if field in ("N", "width", "distance", "error") else alt.Y
    scale = alt.Scale(type="log", nice=False) if zero is None else alt.Scale(type="log")
    return channel(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(**axis) if axis else alt.Axis())


def _marked(field: str, places: list, names: list[str]) -> alt.LayerChart:
    """Dashed vertical lines with a word on top."""
    table = pd.DataFrame({field: places, "word": names})
    lines = alt.Chart(table).mark_rule(strokeDash=[4, 4]).encode(x=f"{field}:Q")
    return lines + alt.Chart(table).mark_text(dy=-8, color=GREY, baseline="bottom").encode(
        x=f"{field}:Q", y=alt.value(8), text="word:N"
    )


def _colours(count: int) -> alt.Scale:
    return alt.Scale(range=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, "#000000"][:count])


def short(value: float) -> str:
    """A number of a table: counts in full, everything else to three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".3g") for name in names]
