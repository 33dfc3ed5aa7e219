"""Figures of the chapter on estimators: how far an estimate from random subsets can be trusted.

Every function takes tables of the stages `estimate` and `leave_one_out`, or estimates made from a prediction file, and
returns a `Figure`. Error bars reach one standard error to each side unless the caption says two.
"""

import altair as alt
import numpy as np
import pandas as pd
from scipy.stats import norm

from study import estimators
from study.charts import BLACK, BLUE, GREEN, GREY, SKY, VERMILION, Figure
from study.estimators import Estimates

TARGETS = {"direct": "same target: random subsets", "loo": "the definition: all but one"}
ERRORS = {
    "lemma_bound": ("Lemma 2.1", GREY, True),
    "binomial_bound": ("worst binomial", BLACK, True),
    "middling": ("measured, middling examples", VERMILION, False),
    "rmse": ("measured, all examples", BLUE, False),
}
SETTLED = {
    "law": ("falls as one over the square root", BLACK),
    "bound": ("worst binomial", GREY),
    "measured": ("root mean square, measured", BLUE),
    "stated": ("mean stated", VERMILION),
}
COUNTED = {"pairs": "found", "null_pairs": "found with rows permuted"}
PANEL = {"width": 255, "height": 260}
DECADES = np.array([digit * 10.0**power for power in range(-5, 7) for digit in (1, 3)])


def error_by_trials(errors: pd.DataFrame) -> Figure:
    """Measured root mean squared error against the number of trials, with both bounds.

    Columns trials, groups and those of `ERRORS`, of which ``middling`` is the error over examples that are neither always
    right nor always wrong when held out.
    """
    table = errors.melt(["trials", "groups"], list(ERRORS), "quantity", "error")
    table["quantity"] = table.quantity.map({key: name for key, (name, _, _) in ERRORS.items()})
    names, colours, dashed = zip(*ERRORS.values())
    base = alt.Chart(table).encode(
        x=_trials(table.trials),
        y=alt.Y(
            "error:Q",
            title="root mean squared error (log scale)",
            scale=alt.Scale(type="log", nice=False, padding=8),
            axis=alt.Axis(values=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]),
        ),
        color=alt.Color("quantity:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=_legend("stroke")),
        tooltip=["quantity:N", "trials:Q", "groups:Q", alt.Tooltip("error:Q", format=".4f")],
    )
    dashes = alt.Scale(domain=names, range=[[5, 4] if dash else [1, 0] for dash in dashed])
    lines = base.mark_line().encode(
        strokeDash=alt.StrokeDash("quantity:N", title=None, scale=dashes, legend=_legend("stroke"))
    )
    points = base.mark_point().transform_filter(alt.FieldOneOfPredicate("quantity", [names[2], names[3]]))
    return Figure(
        "error_by_trials",
        lines + points,
        table,
        "Error of an estimate of memorization from t trials, measured between disjoint groups of t trials. Four times the "
        "trials halve the error. Lemma 2.1 allows for any learner and any example; examples on which the models disagree "
        "come close to the largest variance that a share can have, the others are far easier.",
        "Log-log plot. Two measured curves fall in straight lines of slope minus one half below two dashed bounds.",
    )


def _legend(symbol: str) -> alt.Legend:
    return alt.Legend(orient="top", columns=2, symbolType=symbol, symbolStrokeWidth=2)


def _trials(values: pd.Series) -> alt.X:
    axis = alt.Axis(values=sorted(set(values)), grid=False, labelOverlap=True)
    return alt.X("trials:Q", title="trials t (log scale)", scale=alt.Scale(type="log", nice=False), axis=axis)


def calibration(z: np.ndarray) -> Figure:
    """Histogram of z-scores, (estimate - exact value) / standard error, with the standard normal density."""
    edges = np.arange(-4, 4.5, 0.5)
    share = np.histogram(np.clip(z, edges[0], edges[-1]), edges)[0] / len(z) / 0.5
    table = pd.DataFrame({"z": edges[:-1] + 0.25, "low": edges[:-1], "high": edges[1:], "density": share})
    x, y = alt.X("low:Q", title="(estimate − exact value) / standard error"), alt.Y("density:Q", title="density")
    bars = (
        alt.Chart(table)
        .mark_bar(color=SKY, stroke="white")
        .encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), tooltip=["low:Q", "high:Q", alt.Tooltip("density:Q", format=".3f")])
    )
    grid = np.linspace(-4, 4, 161)
    curve = alt.Chart(pd.DataFrame({"low": grid, "density": norm.pdf(grid)})).mark_line(color=BLACK).encode(x="low:Q", y=y)
    return Figure(
        "calibration",
        bars + curve,
        table,
        "Errors of the estimates in units of their own standard errors, where the truth is known exactly: influences of the "
        "nearest-neighbour learner. The curve is the standard normal density. What lies beyond 4 is in the last bar.",
        "Histogram of z-scores between minus four and four that follows the bell curve drawn over it.",
    )


def split_half(first: pd.DataFrame, second: pd.DataFrame) -> Figure:
    """Memorization of every example from one half of the trials against the other half; two `memorization` tables."""
    table = pd.DataFrame({"index": first["index"], "first": first.mem, "second": second.mem}).dropna()
    axes = [
        alt.X("first:Q", title="memorization, first half of the trials"),
        alt.Y("second:Q", title="memorization, second half of the trials"),
    ]
    points = (
        alt.Chart(table)
        .mark_point(opacity=0.5)
        .encode(*axes, tooltip=["index:Q", *(alt.Tooltip(f"{half}:Q", format=".3f") for half in ("first", "second"))])
    )
    return Figure(
        "split_half",
        (_diagonal("first", "second") + points).properties(width=380, height=380),
        table,
        "One point a training example. The two halves of the trials have no model in common.",
        "Scatter plot of two estimates of memorization; all points lie close to the diagonal.",
    )


def _diagonal(x: str, y: str) -> alt.Chart:
    ends = pd.DataFrame({x: [0.0, 1.0], y: [0.0, 1.0]})
    return alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x=f"{x}:Q", y=f"{y}:Q")


def influence_tails(measured: np.ndarray, permuted: np.ndarray, threshold: float) -> Figure:
    """Counts of same-class influences of memorized examples, as measured and with permuted rows; lines at ± threshold."""
    edges = np.round(np.arange(-1, 1.05, 0.05), 2)
    names = {"measured": measured, "rows permuted": permuted}
    counts = [
        pd.DataFrame({"kind": kind, "low": edges[:-1], "high": edges[1:], "count": np.histogram(values, edges)[0]})
        for kind, values in names.items()
    ]
    table = pd.concat(counts).query("count > 0")
    ticks = alt.Axis(values=[1, 10, 100, 1000, 10_000, 100_000])
    bars = (
        alt.Chart(table)
        .mark_bar(fillOpacity=0.3, strokeWidth=1.5)
        .encode(
            x=alt.X("low:Q", title="influence on a test example of the same class", axis=alt.Axis(grid=False)),
            x2="high:Q",
            y=alt.Y(
                "count:Q",
                title="number of pairs (log scale)",
                axis=ticks,
                stack=None,
                scale=alt.Scale(type="log", domainMin=0.5),
            ),
            y2=alt.datum(0.5),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(range=[BLUE, VERMILION])),
            stroke=alt.Stroke("kind:N", title=None, scale=alt.Scale(range=[BLUE, VERMILION])),
            tooltip=["kind:N", "low:Q", "high:Q", "count:Q"],
        )
    )
    limits = alt.Chart(pd.DataFrame({"low": [-threshold, threshold]})).mark_rule(strokeDash=[4, 4]).encode(x="low:Q")
    return Figure(
        "influence_tails",
        bars + limits,
        table,
        f"Influences of all memorized training examples on the tests of their class. Dashed: ±{threshold:g}. The right tail "
        "is what the study calls pairs, its mirror image on the left and the permuted rows tell how much of it is chance.",
        "Overlaid histograms on a log scale. The measured one has a long tail to the right, the permuted one none.",
    )


def leave_one_out(truth: pd.DataFrame) -> Figure:
    """Estimates against exact values from fresh models: in subsets of the same size, and leaving one out of all."""
    panels = [_against(truth, name, title) for name, title in TARGETS.items()]
    return Figure(
        "leave_one_out",
        alt.hconcat(*panels),
        truth,
        "Memorization from models that the estimator never saw, against the estimate. Left: fresh subsets that were made to "
        "hold or to miss the example. Right: all training examples against all but one. Bars reach two standard errors.",
        "Two scatter plots with error bars. Left, all points lie on the diagonal. Right, many lie off it: most of them "
        "below, some of those with high memorization above.",
    )


def _against(truth: pd.DataFrame, name: str, title: str) -> alt.LayerChart:
    columns = {"x": "mem_estimate", "y": f"mem_{name}"}
    bars = {
        f"{axis}{side}": truth[column] + sign * 2 * truth[f"{column}_se"]
        for axis, column in columns.items()
        for side, sign in (("_low", -1), ("_high", 1))
    }
    table = truth.assign(x=truth.mem_estimate, y=truth[f"mem_{name}"], **bars)
    scale, ticks = alt.Scale(domain=[-0.1, 1.1], nice=False), alt.Axis(values=np.linspace(0, 1, 6).tolist())
    x = alt.X("x:Q", title="estimate from random subsets", scale=scale, axis=ticks)
    y = alt.Y("y:Q", title="memorization from fresh models", scale=scale, axis=ticks)
    base = alt.Chart(table, title=title)
    points = base.mark_point(color=VERMILION if name == "loo" else BLUE).encode(
        x=x, y=y, tooltip=["index:Q", "label:N", *(alt.Tooltip(f"{c}:Q", format=".3f") for c in columns.values())]
    )
    upright, level = (
        base.mark_rule().encode(x=x, y="y_low:Q", y2="y_high:Q"),
        base.mark_rule().encode(y=y, x="x_low:Q", x2="x_high:Q"),
    )
    return (_diagonal("x", "y") + upright + level + points).properties(width=290, height=290)


def two_targets(truth: pd.DataFrame) -> Figure:
    """Probability of being right without the example, at n - 1 and at m training examples, one line an example."""
    table = truth.melt(["index", "label"], ["out_direct", "out_loo"], "size", "accuracy")
    table["size"] = table["size"].map({"out_direct": "m others", "out_loo": "all others"})
    chart = (
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(color=BLUE), opacity=0.7)
        .encode(
            x=alt.X("size:N", title="trained on", sort=["m others", "all others"], axis=alt.Axis(labelAngle=0)),
            y=alt.Y("accuracy:Q", title="held-out accuracy at the example"),
            detail="index:N",
            tooltip=["index:Q", "label:N", "size:N", alt.Tooltip("accuracy:Q", format=".3f")],
        )
    )
    return Figure(
        "two_targets",
        chart.properties(width=260),
        table,
        "How often models that did not see an example get it right, when trained on m of the others and on all of them. "
        "One line an example. More data push most of them apart, towards 0 and towards 1.",
        "Slope chart: most lines that start above about one third rise, most that start lower fall.",
    )


def clamp(reported: pd.DataFrame) -> Figure:
    """What a clamped denominator reports for examples that were never held out, and what all trials say of them.

    Columns index, clamped, all_trials.
    """
    ordered = reported.sort_values(["all_trials", "index"]).assign(rank=np.arange(1, len(reported) + 1))
    names = {"clamped": "reported with a clamped count", "all_trials": "estimate from all trials"}
    table = ordered.melt(["index", "rank"], list(names), "source", "mem")
    table["source"] = table.source.map(names)
    colours = alt.Scale(domain=list(names.values()), range=[VERMILION, BLUE])
    chart = (
        alt.Chart(table)
        .mark_point()
        .encode(
            x=alt.X(
                "rank:Q",
                title="examples never held out, in order of their memorization",
                axis=alt.Axis(tickMinStep=1),
                scale=alt.Scale(nice=False, padding=6),
            ),
            y=alt.Y("mem:Q", title="memorization", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("source:N", title=None, sort=None, scale=colours, legend=_legend("circle")),
            tooltip=["index:Q", "source:N", alt.Tooltip("mem:Q", format=".3f")],
        )
    )
    return Figure(
        "clamp",
        chart,
        table,
        "Examples that no model of a small run was trained without. Nothing is known about them, and the honest value is "
        "NaN. Dividing by a count clamped to a tiny number reports full memorization for each of them.",
        "Orange points in a row at memorization one; blue points of the same examples nearly all at zero.",
    )


def winners_curse(estimates: Estimates, mem_threshold: float, infl_threshold: float) -> Figure:
    """Mean influence of pairs selected with t trials, by the trials that selected them and by t others."""
    rows = [
        _selected_with(estimates, t, mem_threshold, infl_threshold)
        for t in (50, 100, 200, 400, 800, 2000)
        if 2 * t <= estimates.trials
    ]
    table = pd.DataFrame([row for row in rows if row["pairs"]])
    names = {"where_selected": "by the trials that selected them", "afresh": "by as many other trials"}
    long = table.melt(["trials", "pairs"], list(names), "source", "influence")
    long["source"] = long.source.map(names)
    chart = (
        alt.Chart(long)
        .mark_line(point=True)
        .encode(
            x=_trials(table.trials),
            y=alt.Y("influence:Q", title="mean influence of the selected pairs", scale=alt.Scale(domainMin=0)),
            color=alt.Color(
                "source:N", title=None, sort=None, scale=alt.Scale(range=[VERMILION, BLUE]), legend=_legend("stroke")
            ),
            tooltip=["source:N", "trials:Q", "pairs:Q", alt.Tooltip("influence:Q", format=".3f")],
        )
    )
    return Figure(
        "winners_curse",
        chart,
        table,
        "Pairs that pass the thresholds pass them partly by luck. The trials that selected them report the luck as "
        "influence; other trials do not. The fewer the trials, the larger the difference.",
        "Two curves against the number of trials: the lower one starts far below the other and rises to meet it.",
    )


def _selected_with(estimates: Estimates, t: int, mem_threshold: float, infl_threshold: float) -> dict:
    first, second = (estimators.part(estimates, np.arange(start, start + t)) for start in (0, t))
    pairs = first.pairs(mem_threshold, infl_threshold)
    pairs = pairs[pairs.infl > 0]
    again = second.influence()[0][pairs.train, pairs.test]
    afresh = np.nanmean(again) if len(pairs) else float("nan")
    return {"trials": t, "pairs": len(pairs), "where_selected": pairs.infl.mean(), "afresh": afresh}


def spearman_brown(reliability: float, times: float | np.ndarray) -> float | np.ndarray:
    """Reliability of an estimate from ``times`` as many trials as one with this ``reliability``.

    Spearman (1910), Brown (1910): the correlation of two estimates whose independent errors have a variance that falls in
    proportion to the number of trials, while what they measure keeps its own.
    """
    return times * reliability / (1 + (times - 1) * reliability)


def pilot_of(settling: pd.DataFrame, trials: int) -> pd.Series:
    """Means over the repeats at the largest number of trials up to ``trials``, or at the smallest where all are larger."""
    means = settling.groupby("trials").mean()
    below = means[means.index <= trials]
    return below.iloc[-1] if len(below) else means.iloc[0]


def settling_reliability(settling: dict[str, pd.DataFrame], pilot: int) -> Figure:
    """What two halves of the trials disagree on, one minus their correlation, against the trials of a half.

    ``settling`` holds the tables of that name by data set. The lines are predicted by `spearman_brown` from the points at
    ``pilot`` trials alone.
    """
    points = [_disagreement(table.half, table.memorization_pearson, name) for name, table in settling.items()]
    lines = [_predicted(table, pilot, name) for name, table in settling.items()]
    table = pd.concat([pd.concat(points).assign(kind="measured"), pd.concat(lines).assign(kind="predicted")])
    base = alt.Chart(table.dropna()).encode(
        x=_log_axis("half", "trials of each half (logarithmic)"),
        y=_log_axis("disagreement", "1 − correlation of the halves (logarithmic)"),
        color=alt.Color("data:N", title=None, scale=_by_data(settling), legend=_legend("circle")),
        tooltip=["data:N", "kind:N", alt.Tooltip("half:Q", format=".0f"), alt.Tooltip("correlation:Q", format=".4f")],
    )
    drawn = base.mark_line(strokeDash=[5, 4]).transform_filter(alt.datum.kind == "predicted")
    return Figure(
        "settling_reliability",
        drawn + base.mark_point(opacity=0.6).transform_filter(alt.datum.kind == "measured"),
        table.reset_index(drop=True),
        "How much the memorization from one half of the trials leaves unsaid about the other half. A point is one random "
        f"choice of trials, cut in two. Dashed: predicted from the points that belong to {pilot:,} trials.",
        "Log-log plot. Points of each data set fall along a straight dashed line.",
    )


def _disagreement(half, correlation, name: str) -> pd.DataFrame:
    return pd.DataFrame({"data": name, "half": half, "correlation": correlation, "disagreement": 1 - correlation})


def _predicted(settling: pd.DataFrame, pilot: int, name: str) -> pd.DataFrame:
    start = pilot_of(settling, pilot)
    half = np.geomspace(settling.half.min(), settling.half.max(), 30)
    return _disagreement(half, spearman_brown(start.memorization_pearson, half / start.half), name)


def _log_axis(column: str, title: str) -> alt.X | alt.Y:
    kind = alt.X if column in ("half", "trials") else alt.Y
    return kind(
        f"{column}:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=8), axis=alt.Axis(values=DECADES)
    )


def _by_data(settling: dict[str, pd.DataFrame]) -> alt.Scale:
    return alt.Scale(domain=list(settling), range=[BLUE, VERMILION, GREEN][: len(settling)])


def settling_pairs(settling: dict[str, pd.DataFrame]) -> Figure:
    """Pairs found, and found with permuted rows, against the number of trials; a panel a data set."""
    table = pd.concat([_counted(frame).assign(data=name) for name, frame in settling.items()], ignore_index=True)
    panels = [_pairs_panel(rows, name) for name, rows in table.groupby("data", sort=False)]
    return Figure(
        "settling_pairs",
        alt.hconcat(*panels),
        table,
        "Pairs that pass both thresholds with t of the trials, and with the same trials after their rows were permuted. A "
        "point is one random choice of trials; lines join the means.",
        "Two panels with falling curves. With few trials found and permuted pairs are about as many; with more trials the "
        "curve of the permuted ones falls to zero, far below the other.",
    )


def _counted(settling: pd.DataFrame) -> pd.DataFrame:
    """A row for each count, with the mean over the repeats beside it."""
    table = settling.melt(["trials"], list(COUNTED), "kind", "count").replace({"kind": COUNTED})
    return table.assign(mean=table.groupby(["trials", "kind"])["count"].transform("mean"))


def _pairs_panel(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    scale = alt.Scale(domain=list(COUNTED.values()), range=[BLUE, GREY])
    base = alt.Chart(rows, title=title).encode(
        x=_log_axis("trials", "trials t (logarithmic)"),
        color=alt.Color("kind:N", title=None, scale=scale, legend=_legend("circle")),
    )
    axis = alt.Axis(values=[0, *DECADES[(DECADES >= 1) & (DECADES <= rows["count"].max())]])
    y = {"title": "pairs (logarithmic)", "scale": alt.Scale(type="symlog"), "axis": axis}
    points = base.mark_point(opacity=0.6).encode(y=alt.Y("count:Q", **y), tooltip=["kind:N", "trials:Q", "count:Q"])
    return (base.mark_line().encode(y=alt.Y("mean:Q", **y)) + points).properties(**PANEL)


def settling_errors(settling: dict[str, pd.DataFrame], pilot: int, ratio: float) -> Figure:
    """Measured and stated errors of memorization against the number of trials; a panel a data set.

    Columns half and memorization_rmse of ``settling`` give the measured error, trials and mean_std_error the stated one.
    The law, one over the square root, starts from the measured error at ``pilot`` trials.
    """
    tables = [_errors(frame, pilot, ratio).assign(data=name) for name, frame in settling.items()]
    table = pd.concat(tables, ignore_index=True)
    panels = [_errors_panel(rows, name) for name, rows in table.groupby("data", sort=False)]
    return Figure(
        "settling_errors",
        alt.hconcat(*panels),
        table,
        "Errors of memorization from t trials. Root mean square: measured between two halves that have t trials each. Mean "
        "stated: average of the standard errors that the estimator reports. Dashed: one over the square root of t, drawn "
        "through one measured point, and the largest error that a difference of two shares can have.",
        "Two log-log panels. Measured errors follow the dashed law; stated ones fall more steeply at first.",
    )


def _errors(settling: pd.DataFrame, pilot: int, ratio: float) -> pd.DataFrame:
    start, ends = pilot_of(settling, pilot), (settling.half.min(), settling.trials.max())
    trials = np.geomspace(*ends, 30)
    parts = {
        "law": (trials, start.memorization_rmse * np.sqrt(start.half / trials)),
        "bound": (trials, [estimators.binomial_bound(t, ratio) ** 0.5 for t in trials]),
        "measured": (settling.half, settling.memorization_rmse),
        "stated": (settling.trials, settling.mean_std_error),
    }
    rows = [pd.DataFrame({"kind": SETTLED[kind][0], "trials": t, "error": error}) for kind, (t, error) in parts.items()]
    return pd.concat(rows)


def _errors_panel(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    names, colours = zip(*SETTLED.values())
    base = alt.Chart(rows, title=title).encode(
        x=_log_axis("trials", "trials t (logarithmic)"),
        y=_log_axis("error", "error of memorization (logarithmic)"),
        color=alt.Color("kind:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=_legend("stroke")),
        tooltip=["kind:N", alt.Tooltip("trials:Q", format=".0f"), alt.Tooltip("error:Q", format=".4f")],
    )
    lines = base.mark_line(strokeDash=[5, 4]).transform_filter(alt.FieldOneOfPredicate("kind", names[:2]))
    points = base.mark_point(opacity=0.6).transform_filter(alt.FieldOneOfPredicate("kind", names[2:]))
    return (lines + points).properties(**PANEL)
