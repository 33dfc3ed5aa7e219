"""Figures of the chapter on theory: what the long-tail theorem says beside what simulated learners lose.

Every function takes tables made by `study.theory.long_tail.run` and returns a `Figure`. Errors are shares of
new points; error bars reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLUE, GREY, PALETTE, PURPLE, VERMILION, WIDTH, Figure

MEANING = {"equal": "equality with the bound", "above": "more than the bound", "open": "nothing"}
BAND_NAMES = {0: "below 1/3", 1 / 3: "1/3 to 2", 2: "2 to 10", 10: "above 10"}
REFUSING = ("memorizer", "refuses singletons", "refuses singletons and doubletons")


def cost_against_bound(costs: pd.DataFrame) -> Figure:
    """Measured excess error against the right-hand side of Theorem 2.3, by problem and learner."""
    table = _with_bars(costs.assign(theory=costs.predicted.map(MEANING), learner=_labelled(costs)), "excess")
    values = list(MEANING.values())
    scale = alt.Scale(type="sqrt", domain=[-0.001, 1], nice=False)
    axis = alt.Axis(format="%", values=[0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    base = alt.Chart(table).encode(
        x=alt.X("bound_excess:Q", title="excess error predicted (square-root axis)", scale=scale, axis=axis),
        color=alt.Color(
            "theory:N", title="theory predicts", scale=alt.Scale(domain=values, range=[BLUE, VERMILION, PURPLE])
        ),
    )
    points = base.mark_point(filled=False, size=55).encode(
        y=alt.Y("excess:Q", title="excess error measured (square-root axis)", scale=scale, axis=axis),
        shape=alt.Shape("title:N", title="prior", sort=None),
        tooltip=_about("excess", "bound_excess", "gap"),
    )
    bars = base.mark_rule().encode(y="excess_low:Q", y2="excess_high:Q")
    return Figure(
        "cost_against_bound",
        (_diagonal() + bars + points).properties(height=440),
        _csv(table),
        "Excess error over the optimum, measured and predicted. Learners whose misfit depends on a "
        "point's own count lie on the line. One that ignores what labels tell about other points lies above. "
        "The two for which the averaged theorem says nothing fall on or below it.",
        "Scatter plot with the identity line. Blue points lie on the line over its whole length, orange ones "
        "stand above it at a prediction of zero, purple points lie on or below it.",
    )


def distance_from_bound(costs: pd.DataFrame, refuted_at: float) -> Figure:
    """Error minus bound in standard errors, for the learners that should meet it; controls are left out."""
    rows = costs[(costs.predicted == "equal") & ~costs.control]
    table = rows.assign(distance=rows.gap / rows.gap_se, learner=_labelled(rows))
    reach = max(refuted_at, table.distance.abs().max()) + 1
    points = (
        alt.Chart(table)
        .mark_point(filled=True, size=50)
        .encode(
            x=alt.X(
                "distance:Q",
                title="(error − bound) / standard error",
                axis=alt.Axis(tickCount=10),
                scale=alt.Scale(domain=[-reach, reach], nice=False),
            ),
            y=alt.Y("learner:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
            color=_prior_colour(table),
            tooltip=_about("err", "bound", "gap_se", "distance"),
        )
    )
    ends = pd.DataFrame({"x": [-refuted_at, 0, refuted_at]})
    limits = alt.Chart(ends).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return Figure(
        "distance_from_bound",
        (limits + points).properties(width=WIDTH - 150),
        _csv(table),
        "The same comparison magnified: how many standard errors each learner is from the bound it should "
        f"meet. Beyond the outer dashed lines, at {refuted_at:g}, the equality would be refuted.",
        "A row of dots for each learner, one a prior, scattered around zero between the dashed limits.",
    )


def unfitted_singletons(growth: pd.DataFrame, priors: pd.DataFrame) -> Figure:
    """Excess error against the share of the sample that is an unfitted singleton, with slopes n tau_1."""
    rows = growth[~growth.control].merge(priors[["prior", "n_tau1"]], on="prior")
    table = _with_bars(rows.assign(unfitted=rows.misfits / rows.n), "excess")
    x = alt.X("unfitted:Q", title="unfitted singletons, as a share of the sample", axis=alt.Axis(format="%"))
    return Figure(
        "unfitted_singletons",
        _rays(table, "unfitted", "n_tau1") + _dots(table, x),
        _csv(table),
        "A learner refuses each singleton with some probability. Its excess error grows in proportion to the "
        "number left unfitted. The lines are not fitted: they have the slope nτ₁ of the theorem.",
        "Four straight lines through the origin with dots on them, the steepest for the uniform prior, the "
        "flattest for the gap prior.",
    )


def randomised_response(costs: pd.DataFrame) -> Figure:
    """Excess error of randomised response against its flip rate, with the lines that theory predicts."""
    rows = costs[costs.learner == "randomised response"]
    table = _with_bars(rows.assign(slope=(rows.labels - 1) / rows.labels - rows.opt), "excess")
    x = alt.X("flip:Q", title="flip rate q: share of labels replaced by a random one")
    return Figure(
        "randomised_response",
        _rays(table, "flip", "slope") + _dots(table, x),
        _csv(table),
        "Replacing each label with probability q costs q times what there is to lose, under every prior. The "
        "controls lose most: hardly any of their points are unseen, so nearly all of the error is self-made.",
        "Straight lines from the origin to between 0.55 and 0.9 at flip rate one, with dots on them.",
    )


def tau_by_count(tau: pd.DataFrame, longest: int) -> Figure:
    """n tau_l against l up to ``longest``: what it costs not to fit a point that was seen l times."""
    table = _with_bars(tau[tau["count"] <= longest], "n_tau")
    x = alt.X("count:Q", title="times seen in the sample, l", axis=alt.Axis(tickMinStep=1))
    y = alt.Y(
        "n_tau:Q",
        title="n τ(l), posterior mean frequency times n",
        scale=alt.Scale(type="log"),
        axis=alt.Axis(values=[0.001, 0.01, 0.1, 1, 10, 100]),
    )
    base = alt.Chart(table).encode(x=x, color=_prior_colour(table))
    curves = base.mark_line(point=True).encode(y=y, tooltip=["title:N", "count:Q", *_numbers("n_tau", "n_tau_se", "points")])
    bars = base.mark_rule().encode(y="n_tau_low:Q", y2="n_tau_high:Q")
    counts = pd.DataFrame({"count": np.arange(1, longest + 1)})
    seen = alt.Chart(counts).mark_line(color=GREY, strokeDash=[4, 4]).encode(x="count:Q", y="count:Q")
    return Figure(
        "tau_by_count",
        seen + bars + curves,
        _csv(table),
        "What the prior makes of a point seen l times. Dashed: its frequency in the sample, n τ(l) = l. "
        "Under Zipf's law a point seen once is worth somewhat less. With a tail far below 1/n it is worth "
        "next to nothing: it is almost surely one of very many points that will not come again.",
        "Curves of n tau against the number of occurrences. The Zipf curves run just below the dashed line, "
        "those of uniform priors are flat, those of gap priors jump from a low to a high level.",
    )


def subgroups(table: pd.DataFrame, prior: str) -> Figure:
    """Error within bands of true frequency for one problem: which points pay for what is not fitted.

    Raises ``ValueError`` that lists the problems if ``prior`` is none of them.
    """
    if prior not in set(table.prior):
        raise ValueError(f"unknown problem {prior!r}; valid problems: {', '.join(table.prior.unique())}")
    rows = table[(table.prior == prior) & (table.learner.isin(REFUSING) | (table.flip == table.flip.min()))]
    rows = _with_bars(rows.assign(learner=_labelled(rows), band=_bands(rows)), "err")
    base = alt.Chart(rows).encode(
        x=alt.X("band:N", title="n times true frequency (share of new points)", sort=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("learner:N", sort=None),
    )
    bars = base.mark_bar().encode(
        y=alt.Y("err:Q", title="error within the band", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("learner:N", title=None, sort=None, legend=alt.Legend(orient="top", columns=2)),
        tooltip=["learner:N", "band:N", *_numbers("err", "err_se", "mass", "cost")],
    )
    errors = base.mark_rule(color="black", clip=True).encode(y="err_low:Q", y2="err_high:Q")
    return Figure(
        "subgroups",
        (bars + errors).properties(width=WIDTH),
        _csv(rows),
        f"Who pays ({rows.title.iloc[0]}). Refusing what was seen once or twice spares frequent points "
        "and falls on rare ones; randomised response falls on all, also on those a memorizer gets right.",
        "Grouped bars of error by band of true frequency, for four learners.",
    )


def zipf_by_size(example: pd.DataFrame) -> Figure:
    """Zipf's law with N = n: the share of singletons and what erring on all of them costs, by size."""
    names = {"singletons": "share of singletons", "cost": "cost of erring on all of them"}
    parts = [example.assign(quantity=name, value=example[key], value_se=example[f"{key}_se"]) for key, name in names.items()]
    table = _with_bars(pd.concat(parts)[["model", "N", "quantity", "value", "value_se"]], "value")
    base = alt.Chart(table).encode(
        x=alt.X("N:Q", title="points and examples, N = n", scale=alt.Scale(type="log", nice=False)),
        color=alt.Color("quantity:N", title=None, sort=None),
    )
    lines = base.mark_line(point=True).encode(
        y=alt.Y("value:Q", title="share", axis=alt.Axis(format="%")),
        strokeDash=alt.StrokeDash("model:N", title="frequencies", sort=None),
        tooltip=["model:N", "quantity:N", alt.Tooltip("N:Q", format=","), *_numbers("value", "value_se")],
    )
    bars = base.mark_rule().encode(y="value_low:Q", y2="value_high:Q")
    return Figure(
        "zipf_by_size",
        bars + lines,
        _csv(table),
        "The worked example at four sizes. Under Zipf's law the share of singletons, and what it costs to "
        "err on them, fall only slowly as points and examples grow together.",
        "Two pairs of slowly falling curves against N on a logarithmic axis; random and fixed frequencies almost coincide.",
    )


def _labelled(rows: pd.DataFrame) -> pd.Series:
    """Learners by name, with their flip rate where they have one."""
    return rows.learner + rows.flip.map(lambda flip: "" if np.isnan(flip) else f", q = {flip:g}")


def _bands(rows: pd.DataFrame) -> pd.Series:
    return rows.low.map(BAND_NAMES) + rows.mass.map(" ({:.0%})".format)


def _with_bars(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The ends of error bars of two standard errors."""
    reach = 2 * rows[f"{name}_se"]
    return rows.assign(**{f"{name}_low": rows[name] - reach, f"{name}_high": rows[name] + reach})


def _prior_colour(table: pd.DataFrame) -> alt.Color:
    """The same colour for a problem in all figures: by its place in the tables, where controls come last."""
    titles = table.title.unique().tolist()
    scale = alt.Scale(domain=titles, range=list(PALETTE[: len(titles)]))
    return alt.Color("title:N", title="prior", scale=scale)


def _dots(table: pd.DataFrame, x: alt.X) -> alt.LayerChart:
    """Excess error with its error bars; the tooltip names problem and flip rate."""
    base = alt.Chart(table).encode(x=x, color=_prior_colour(table))
    points = base.mark_point(filled=True, size=50).encode(
        y=alt.Y("excess:Q", title="excess error", axis=alt.Axis(format="%")),
        tooltip=["title:N", "flip:Q", *_numbers("excess", "excess_se")],
    )
    return base.mark_rule().encode(y="excess_low:Q", y2="excess_high:Q") + points


def _rays(table: pd.DataFrame, x: str, slope: str) -> alt.Chart:
    """For each problem a line from the origin with its ``slope``, up to its largest ``x``."""
    ends = table.loc[table.groupby("prior", sort=False)[x].idxmax()]
    lines = pd.concat([ends.assign(**{x: 0.0}), ends])[["title", x, slope]]
    lines["line"] = lines[x] * lines[slope]
    colour = _prior_colour(table)
    return alt.Chart(lines).mark_line(strokeWidth=1).encode(x=f"{x}:Q", y="line:Q", color=colour)


def _diagonal() -> alt.Chart:
    ends = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0]})
    return alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x="x:Q", y="y:Q")


def _about(*names: str) -> list:
    return ["title:N", "learner:N", *_numbers(*names)]


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".4g") for name in names]


def _csv(table: pd.DataFrame) -> pd.DataFrame:
    """The table for download, without the ends of error bars, which only place marks."""
    ends = [name for name in table if name.endswith(("_low", "_high"))]
    return table.drop(columns=ends).reset_index(drop=True)
