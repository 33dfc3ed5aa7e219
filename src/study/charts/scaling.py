"""Figures of the chapter on scaling: what was measured small, and the lines that lead from there to ImageNet.

Tables are those of the stage `scaling` and of the functions in `study.scaling` that extrapolate them.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, WIDTH, Figure

TIMED, RECORDED = "timed: one worker × number of workers", "recorded: the whole run"
PART_COLOURS = {"masks": PURPLE, "memorization": GREEN, "pairs of one class": BLUE, "all pairs": VERMILION}
PIXEL_COLOURS = (GREEN, ORANGE, BLUE)

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def rates(learners: pd.DataFrame) -> Figure:
    """Models an hour of each setting: by the record of the run, and by the time of one worker on the same cores."""
    table = pd.concat([_rate(learners, TIMED), _rate(learners, RECORDED)], ignore_index=True).dropna()
    order = table.groupby("setting").models_an_hour.max().sort_values(ascending=False).index.tolist()
    chart = (
        alt.Chart(table)
        .mark_point(size=70)
        .encode(
            x=alt.X(
                "models_an_hour:Q",
                title="models an hour (logarithmic)",
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(format="~s", labelFlush=True),
            ),
            y=alt.Y("setting:N", title=None, sort=order, axis=alt.Axis(labelLimit=105)),
            color=alt.Color("kind:N", title=None, scale=_kinds(BLUE, VERMILION), legend=alt.Legend(orient="top", columns=1)),
            shape=alt.Shape("kind:N", title=None, scale=_kinds("circle", "diamond")),
            tooltip=["setting:N", "kind:N", alt.Tooltip("models_an_hour:Q", format=",.0f"), "cores:Q"],
        )
        .properties(width=WIDTH - 300, height=alt.Step(28))
    )
    return Figure(
        "rates",
        chart,
        table,
        "Models trained in an hour on all cores. Circles: from the time of a block of models in one worker; diamonds: from "
        "the record of the whole run, with the start of the workers and everything that is written.",
        "A circle and a diamond in each row, one row a setting, on a logarithmic axis.",
    )


def _kinds(*looks: str) -> alt.Scale:
    return alt.Scale(domain=[TIMED, RECORDED], range=list(looks))


def _rate(learners: pd.DataFrame, kind: str) -> pd.DataFrame:
    cores = learners.recorded_cores.fillna(1)
    seconds = learners.seconds / cores if kind == TIMED else learners.recorded_seconds / learners.trials
    return pd.DataFrame({"setting": learners.setting, "kind": kind, "models_an_hour": 3600 / seconds, "cores": cores})


def hours(training: pd.DataFrame, sustained: float) -> Figure:
    """Accelerator hours of the whole study over the assumed speed, a line a resolution."""
    speeds = np.geomspace(10, 1000, 41) * 1e12
    rows = [
        {"resolution": f"{row.pixels} pixels", "tflops": speed / 1e12, "hours": row.operations / speed / 3600}
        for row in training.itertuples()
        for speed in speeds
    ]
    table = pd.DataFrame(rows)
    names = [f"{pixels} pixels" for pixels in training.pixels]
    lines = (
        alt.Chart(table)
        .mark_line()
        .encode(
            x=alt.X("tflops:Q", title="sustained TFLOP/s of one accelerator (assumed)", scale=alt.Scale(type="log")),
            y=alt.Y(
                "hours:Q", title="accelerator hours for all trials", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s")
            ),
            color=alt.Color("resolution:N", title=None, scale=alt.Scale(domain=names, range=list(PIXEL_COLOURS))),
            tooltip=["resolution:N", alt.Tooltip("tflops:Q", format=".0f"), alt.Tooltip("hours:Q", format=",.0f")],
        )
    )
    here = alt.Chart(pd.DataFrame({"tflops": [sustained / 1e12]})).mark_rule(strokeDash=[4, 4]).encode(x="tflops:Q")
    return Figure(
        "hours",
        lines + here,
        table,
        "Hours of training on ImageNet: counted operations divided by the speed that an accelerator is assumed to sustain. "
        f"Dashed: the assumption of this page, {sustained / 1e12:g} TFLOP/s.",
        "Three parallel falling lines on logarithmic axes, one for each resolution; small pictures cost far less.",
    )


def bits(compression: pd.DataFrame, learners: pd.DataFrame) -> Figure:
    """Bits of a prediction in the file over its entropy: made-up predictions, the settings, and the bound."""
    files = learners[["setting", "entropy", "bits"]].rename(columns={"setting": "predictions"})
    table = pd.concat([compression.assign(predictions="made up")[files.columns], files], ignore_index=True)
    x = alt.X("entropy:Q", title="entropy of a prediction, given how often its example is right (bits)")
    y = alt.Y("bits:Q", title="bits of a prediction in the file")
    base = alt.Chart(table).encode(x=x, y=y, tooltip=["predictions:N", *_numbers("entropy", "bits")])
    curve = base.transform_filter("datum.predictions == 'made up'")
    points = base.transform_filter("datum.predictions != 'made up'").mark_point(size=60, color=VERMILION)
    bound = alt.Chart(pd.DataFrame({"entropy": [0, 1], "bits": [0, 1]}))
    bound = bound.mark_line(color=GREY, strokeDash=[4, 4], strokeWidth=1).encode(x="entropy:Q", y="bits:Q")
    return Figure(
        "bits",
        bound + curve.mark_line(color=BLUE) + curve.mark_point(color=BLUE) + points,
        table,
        "What a prediction takes in the file. Blue: predictions that are right at random. Red: the settings of this study. "
        "On the dashed line a coder would be perfect that knows how often each example is right.",
        "A rising curve above a dashed diagonal, with dots near its lower end.",
    )


def estimation_time(estimation: pd.DataFrame, extrapolated: pd.DataFrame, n: int) -> Figure:
    """Seconds of each part of the estimation over the number of examples, measured, and extrapolated to ``n``."""
    measured = estimation[["part", "n", "seconds"]].assign(kind="measured")
    reached = extrapolated[["part", "seconds", "low", "high"]].assign(kind="extrapolated", n=n)
    table = pd.concat([measured, reached], ignore_index=True)
    colour = alt.Color(
        "part:N", title=None, scale=alt.Scale(domain=list(PART_COLOURS), range=list(PART_COLOURS.values())), sort=None
    )
    base = alt.Chart(table).encode(
        x=alt.X("n:Q", title="training examples", scale=alt.Scale(type="log"), axis=alt.Axis(format="~s")), color=colour
    )
    y = alt.Y("seconds:Q", title="seconds of one core", scale=alt.Scale(type="log"), axis=alt.Axis(format="~g"))
    tips = ["part:N", "kind:N", "n:Q", *_numbers("seconds", "low", "high")]
    points = base.mark_point().encode(y=y, shape=alt.Shape("kind:N", title=None, sort=None), tooltip=tips)
    lines = base.mark_line(strokeDash=[4, 4], strokeWidth=1).encode(y=y)
    bars = base.transform_filter("datum.kind == 'extrapolated'").mark_rule().encode(y=alt.Y("low:Q"), y2="high:Q")
    return Figure(
        "estimation_time",
        lines + bars + points,
        table,
        "Time of the estimation, measured for more and more classes of ImageNet's size, and extrapolated to all of them "
        "by a straight line through the logarithms, with its 95 % interval.",
        "Four rising dotted lines on logarithmic axes; each ends at a far point with an error bar.",
    )


def shown(value: float) -> str:
    """A number of a table as text: whole ones in full, very large and small ones as 8.2 × 10¹⁹, a dash for none."""
    if not np.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.4g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".3g") for name in names]
