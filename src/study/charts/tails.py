"""Figures of the page on long tails in data: prices at growing sizes and under measured priors, mixtures, sub-populations.

Tables are those of the stages `tails` and `subpopulations`; error bars reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, SKY, VERMILION, WIDTH, Figure
from study.theory.measured_priors import zipf_limit

HALF = WIDTH // 2 - 40
TOP = alt.Legend(orient="top", columns=3, title=None)
PARTS = {
    "same": "misfitted, same wrong label again",
    "other": "misfitted, another wrong label",
    "lost": "fitted, yet wrong on new vectors",
}
SPACES = {
    "features": "features, network without it",
    "seen": "features, network with it",
    "pixels": "pixels",
    "untrained": "untrained network",
    "shuffled": "shuffled features",
}
SCOPES = {"within": "clusters within each class", "blind": "clusters blind to labels"}
KINDS = {
    "alone": "alone in its cluster",
    "foreign": "among another class",
    "small": "small cluster of its class",
    "ordinary": "ordinary cluster of its class",
}


def price_by_size(growth: pd.DataFrame) -> Figure:
    """n tau_1 and the cost of erring on all singletons against the sample size, one line a way to grow."""
    table = growth[growth.cost > 1e-7].assign(zipf_limit=zipf_limit(growth.n.to_numpy())[growth.cost > 1e-7])
    panels = [
        _size_panel(table, "n_tau1", "price of a singleton, n τ₁", True),
        _size_panel(table, "cost", "cost of erring on all singletons", False),
    ]
    return Figure(
        "price_by_size",
        alt.vconcat(*panels, spacing=12).resolve_scale(color="shared"),
        table.reset_index(drop=True),
        f"Price of a singleton, and what erring on all of them costs, for samples of n = {table.n.min():,} to "
        f"{table.n.max():,}. Dashed: the leading order for Zipf's law with N = n. Lines end where the cost falls below "
        "1e-7. Standard errors over draws of the frequencies are at most "
        f"{(table.n_tau1_se / table.n_tau1).max():.1%} of a price.",
        "Two panels of lines over the sample size on logarithmic axes. The Zipf line falls slowly, the uniform one is "
        "flat, that of a world that does not grow plunges in the lower panel.",
    )


def _size_panel(table: pd.DataFrame, column: str, title: str, dashed: bool) -> alt.LayerChart:
    titles = table.title.unique().tolist()
    colour = alt.Color("title:N", scale=alt.Scale(domain=titles, range=list(PALETTE[: len(titles)])), legend=TOP)
    x = alt.X("n:Q", title="sample size n", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(format="~s", tickCount=4))
    y = alt.Y(f"{column}:Q", title=title, scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=5))
    told = ["title:N", "n:Q", alt.Tooltip(f"{column}:Q", format=".4g"), alt.Tooltip(f"{column}_se:Q", format=".2g")]
    chart = alt.Chart(table).mark_line(point=True).encode(x=x, y=y, color=colour, tooltip=told)
    if dashed:
        zipf = alt.Chart(table[table.case == "zipf"])
        chart += zipf.mark_line(color=GREY, strokeDash=[5, 4]).encode(x=x, y=alt.Y("zipf_limit:Q", title=title))
    return alt.layer(chart).properties(height=210)


def price_lists(prices: pd.DataFrame, side: int) -> Figure:
    """n tau_l by count: measured on fresh pictures, and the three predictions from the sample, a panel a data set.

    Raises ``ValueError`` that lists the numbers of cells if ``side`` is none of them.
    """
    if side not in set(prices.side):
        raise ValueError(f"no codes of {side} cells a side; there are: {', '.join(map(str, sorted(prices.side.unique())))}")
    names = {"measured": "measured", "fitted": "fitted prior", "good_turing": "Good's rule", "naive": "sample frequency"}
    rows = prices[(prices.side == side) & prices.measured.notna()]
    long = _stacked(rows, ["data", "count", "n", "points"], names)
    scale = alt.Scale(domain=list(names.values()), range=[BLUE, VERMILION, GREEN, GREY])
    base = alt.Chart(long).encode(
        x=alt.X("count:Q", title="times seen, l", axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color("kind:N", sort=None, scale=scale, legend=TOP),
        y=alt.Y("value:Q", title="n τ(l)"),
        tooltip=[
            "data:N",
            "kind:N",
            "count:Q",
            alt.Tooltip("value:Q", format=".3f"),
            alt.Tooltip("std_error:Q", format=".3f"),
        ],
    )
    bars = base.transform_filter(alt.datum.kind == "measured").mark_rule().encode(y="low:Q", y2="high:Q")
    dots = base.transform_filter(alt.datum.kind == "measured").mark_point(filled=True, size=55)
    lines = base.transform_filter(alt.datum.kind != "measured").mark_line()
    panels = (lines + bars + dots).properties(width=HALF, height=260)
    return Figure(
        "price_lists",
        panels.facet(alt.Facet("data:N", title=None, sort=None), columns=2),
        long.drop(columns=["low", "high"]),
        f"How often a code of {side} × {side} cells that occurred l times among n pictures occurs among n others. Three "
        f"predictions use the first half alone. {_halves(rows)}. "
        "Bars: two standard deviations over random halvings.",
        "Dots of measured prices lie on the lines of the fitted prior and of Good's rule, below the straight grey line of "
        "the sample frequency.",
    )


def _halves(rows: pd.DataFrame) -> str:
    """How many pictures of each data set are in a half, for a caption."""
    return "In each half " + ", ".join(f"{name} n = {n:,}" for name, n in rows.groupby("data", sort=False).n.first().items())


def coarseness(worlds: pd.DataFrame) -> Figure:
    """By number of cells: what singletons of the sample are worth in fresh pictures, and what refusing them costs."""
    names = {
        "again": "fresh pictures under a singleton",
        "predicted_again": "the same, from the sample alone",
        "excess": "cost of refusing singletons",
    }
    long = _stacked(worlds, ["data", "side", "n"], names)
    scale = alt.Scale(domain=list(names.values()), range=[BLUE, GREY, VERMILION])
    base = alt.Chart(long).encode(
        x=alt.X(
            "side:Q",
            title="cells a side of the code",
            axis=alt.Axis(tickMinStep=1, format="d"),
            scale=alt.Scale(zero=False, nice=False),
        ),
        color=alt.Color("kind:N", sort=None, scale=scale, legend=alt.Legend(orient="top", columns=2, title=None)),
        y=alt.Y("value:Q", title="share of fresh pictures", axis=alt.Axis(format="%")),
        tooltip=[
            "data:N",
            "kind:N",
            "side:Q",
            alt.Tooltip("value:Q", format=".2%"),
            alt.Tooltip("std_error:Q", format=".2%"),
        ],
    )
    bars = base.mark_rule().encode(y="low:Q", y2="high:Q")
    lines = base.transform_filter(alt.datum.kind == names["predicted_again"]).mark_line(strokeDash=[5, 4])
    solid = base.transform_filter(alt.datum.kind != names["predicted_again"]).mark_line(point=True)
    return Figure(
        "coarseness",
        (bars + solid + lines)
        .properties(width=HALF, height=240)
        .facet(alt.Facet("data:N", title=None, sort=None), columns=2),
        long.drop(columns=["low", "high"]),
        "Coarse codes have no tail and the finest no repetitions; in between, a good share of new pictures have a code that "
        f"was seen once. {_halves(worlds)}. Bars: two standard deviations over random halvings.",
        "Curves that rise from near zero to a maximum at an intermediate coarseness and, for digits, fall again.",
    )


def mixture_costs(mixtures: pd.DataFrame) -> Figure:
    """Excess error against noise for every learner, split by what happened to the vector seen; ticks assume λ = 1."""
    parts = {
        "same": mixtures.bound,
        "other": mixtures.both - mixtures.bound,
        "lost": mixtures.expected - mixtures.both,
    }
    rows = mixtures[["learner", "noise"]]
    long = pd.concat([rows.assign(part=PARTS[key], order=k, value=v) for k, (key, v) in enumerate(parts.items())])
    ticks = _with_bars(mixtures.assign(value=mixtures.excess, std_error=mixtures.excess_se), "value")
    long = long.merge(ticks[["learner", "noise", "discrete", "excess", "low", "high"]], on=["learner", "noise"])
    x = alt.X("noise:O", title="noise within a sub-population", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(long)
    bars = base.mark_bar().encode(
        x=x,
        y=alt.Y("value:Q", title="excess error", axis=alt.Axis(format="%")),
        order="order:Q",
        color=alt.Color(
            "part:N",
            sort=None,
            scale=alt.Scale(domain=list(PARTS.values()), range=[BLUE, SKY, ORANGE]),
            legend=alt.Legend(orient="top", columns=2, title=None, labelLimit=300),
        ),
        tooltip=[
            "learner:N",
            "noise:O",
            "part:N",
            alt.Tooltip("value:Q", format=".2%"),
            alt.Tooltip("excess:Q", format=".2%"),
        ],
    )
    assumed = base.mark_tick(color="black", thickness=2, width=15).encode(x=x, y="discrete:Q")
    return Figure(
        "mixture_costs",
        alt.layer(bars, assumed)
        .properties(width=HALF, height=150)
        .facet(alt.Facet("learner:N", title=None, sort=mixtures.learner.unique().tolist()), columns=2),
        long.drop(columns=["order", "low", "high"]).reset_index(drop=True),
        "What learners lose on mixtures, priced by τ. Dark blue: the part that the bound counts, misfits that carry over as "
        "they are. Black ticks: the discrete theorem's price of all misfits, that is the bound with λ = 1. Standard errors "
        f"of the measured excess are at most {mixtures.excess_se.max():.2%}.",
        "Stacked bars for each learner against noise. Dark blue shrinks as noise grows; for learners that fit their sample "
        "all of the loss is orange.",
    )


def coupling(mixtures: pd.DataFrame) -> Figure:
    """lambda, the share of misfits that carry over, and the share of all labels that do, against noise."""
    names = {"lambda": "misfitted vectors (λ)", "agreement": "all vectors"}
    long = _stacked(mixtures, ["learner", "noise"], names)
    learners = mixtures.learner.unique().tolist()
    base = alt.Chart(long).encode(
        x=alt.X("noise:Q", title="noise"),
        color=alt.Color(
            "learner:N", sort=None, legend=TOP, scale=alt.Scale(domain=learners, range=list(PALETTE[: len(learners)]))
        ),
        y=alt.Y("value:Q", title="share that carries over", scale=alt.Scale(domain=[0, 1], clamp=True)),
        tooltip=[
            "learner:N",
            "kind:N",
            "noise:Q",
            alt.Tooltip("value:Q", format=".3f"),
            alt.Tooltip("std_error:Q", format=".3f"),
        ],
    )
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title="share that carries over"), y2="high:Q")
    return Figure(
        "coupling",
        (bars + base.mark_line(point=True))
        .properties(width=HALF, height=260)
        .facet(alt.Facet("kind:N", title=None, sort=list(names.values())), columns=2),
        long.drop(columns=["low", "high"]),
        "Sub-populations seen once: how often a new vector gets the label that the vector seen got, among misfitted "
        "vectors and among all. Learners that misfit nothing have no λ. Bars: two standard errors.",
        "Falling curves in two panels; on the left the learner that errs on its own sample alone lies at zero.",
    )


def law(table: pd.DataFrame, trials: int) -> Figure:
    """Memorization by the number of occurrences of the true sub-population, with the closed form."""
    rows = _with_bars(table.assign(value=table.mem, std_error=table.mem_se), "value")
    x = alt.X("count:Q", title="members of the sub-population in the training set", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("value:Q", title="memorization")
    base = alt.Chart(rows).encode(x=x)
    told = ["count:Q", "examples:Q", alt.Tooltip("mem:Q", format=".3f"), alt.Tooltip("predicted:Q", format=".3f")]
    bars = base.mark_rule(clip=True).encode(y=alt.Y("low:Q", title="memorization"), y2="high:Q")
    dots = base.mark_point(filled=True, size=60).encode(y=y, tooltip=told)
    line = base.mark_line(color=VERMILION).encode(y=alt.Y("predicted:Q", title="memorization"))
    return Figure(
        "law",
        line + bars + dots,
        rows.drop(columns=["low", "high", "value", "std_error"]),
        f"The longtail data, {rows.examples.sum():,} examples, {trials:,} models. Line: the closed form for a learner that "
        "knows "
        "a sub-population as soon as it has seen a member. Bars: two standard errors over sub-populations.",
        "Dots fall from above 0.9 for only members to zero, somewhat above the line for pairs and triples.",
    )


def areas(agreement: pd.DataFrame, linkage: str) -> Figure:
    """How well small sizes find the memorized examples, against the number of clusters; a panel a setting and scope."""
    table = agreement[(agreement.linkage == linkage) & agreement.space.isin(SPACES)]
    table = table.assign(where=table.space.map(SPACES), made=table.scope.map(SCOPES))
    table = _with_bars(table.assign(value=table.auroc, std_error=table.auroc_se), "value")
    x = alt.X("clusters:Q", title="clusters a class", scale=alt.Scale(type="log", base=2, nice=False))
    names = list(SPACES.values())
    base = alt.Chart(table).encode(x=x)
    null = base.mark_area(color=GREY, opacity=0.25).encode(
        y=alt.Y("min(null_low):Q", title="area under the ROC curve"), y2="max(null_high):Q"
    )
    coloured = base.encode(
        color=alt.Color(
            "where:N",
            sort=None,
            scale=alt.Scale(domain=names, range=[BLUE, PURPLE, VERMILION, GREEN, "#000000"]),
            legend=alt.Legend(orient="top", columns=2, title=None),
        )
    )
    bars = coloured.mark_rule().encode(y=alt.Y("low:Q", title="area under the ROC curve"), y2="high:Q")
    told = [
        "data:N",
        "where:N",
        "made:N",
        "clusters:Q",
        alt.Tooltip("auroc:Q", format=".3f"),
        alt.Tooltip("auroc_se:Q", format=".3f"),
    ]
    lines = coloured.mark_line(point=True).encode(
        y=alt.Y("value:Q", title="area under the ROC curve", scale=alt.Scale(zero=False)), tooltip=told
    )
    panels = alt.layer(null, bars, lines, data=table).properties(width=HALF - 20, height=170)
    return Figure(
        "areas",
        panels.facet(
            row=alt.Row("data:N", title=None, sort=None), column=alt.Column("made:N", title=None, sort=list(SCOPES.values()))
        ),
        table.drop(columns=["low", "high", "value", "std_error", "where", "made"]).reset_index(drop=True),
        f"Does the size of an example's cluster ({linkage} linkage) tell whether it is memorized? 1 means that all "
        "memorized "
        "examples sit in smaller clusters than all others, 0.5 that size tells nothing. Grey: 95 % range when memorization "
        "is dealt anew within classes. Bars: two standard errors over examples.",
        "Panels by data set and kind of clusters. Lines of features and pixels lie well above the grey band around one "
        "half, that of shuffled features within or near it.",
    )


def bands(table: pd.DataFrame, linkage: str, clusters: int) -> Figure:
    """Share of memorized examples in bands of cluster size, beside the null; clusters within classes, a panel a data set."""
    rows = table[(table.linkage == linkage) & (table.clusters == clusters) & (table.scope == "within")]
    rows = _with_bars(rows.assign(value=rows.share, std_error=rows.share_se), "value")
    x = alt.X("band:O", title="size of cluster, smallest first", axis=alt.Axis(labelAngle=0))
    y = alt.Y("value:Q", title="share memorized", axis=alt.Axis(format="%"))
    told = ["data:N", "band:O", "examples:Q", alt.Tooltip("others:Q", format=".2%"), alt.Tooltip("share:Q", format=".2%")]
    base = alt.Chart(rows).encode(x=x)
    bars = base.mark_bar(color=BLUE).encode(y=y, tooltip=told)
    errors = base.mark_rule(color="black", clip=True).encode(y=alt.Y("low:Q", title="share memorized"), y2="high:Q")
    null = base.mark_bar(color=ORANGE, width=6).encode(y=alt.Y("null_low:Q", title="share memorized"), y2="null_high:Q")
    return Figure(
        "bands",
        alt.layer(bars, errors, null)
        .properties(width=WIDTH // 3 - 45, height=220)
        .facet(alt.Facet("data:N", title=None, sort=None), columns=3)
        .resolve_scale(y="independent"),
        rows.drop(columns=["low", "high", "value", "std_error"]).reset_index(drop=True),
        "Examples in equally large bands by the size of their cluster within the class, in the features of networks that "
        f"did not see them ({linkage} linkage, {clusters} clusters a class). Orange: 95 % range when memorization is dealt "
        "anew within classes. Black: two standard errors.",
        "Three panels of bars. The bar of the smallest clusters is many times as high as the others and as the orange "
        "marks.",
    )


def kinds(table: pd.DataFrame, linkage: str, clusters: int) -> Figure:
    """Where memorized and other examples sit when clusters are made without labels, in features of unseen examples."""
    rows = table[(table.linkage == linkage) & (table.clusters == clusters) & (table.space == "features")]
    rows = rows.assign(where=rows.kind.map(KINDS), group=np.where(rows.memorized, "memorized", "others"))
    rows["order"] = rows.kind.map(list(KINDS).index)
    base = alt.Chart(rows).mark_bar()
    bars = base.encode(
        x=alt.X("share:Q", title="share of examples", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("group:N", title=None),
        order="order:Q",
        color=alt.Color(
            "where:N",
            sort=None,
            scale=alt.Scale(domain=list(KINDS.values()), range=[VERMILION, PURPLE, BLUE, "#c8c8c8"]),
            legend=alt.Legend(orient="top", columns=2, title=None),
        ),
        tooltip=[
            "data:N",
            "group:N",
            "where:N",
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("share_se:Q", format=".1%"),
        ],
    )
    return Figure(
        "kinds",
        bars.properties(height=60).facet(row=alt.Row("data:N", title=None, sort=None)),
        rows.drop(columns=["where", "group", "order"]).reset_index(drop=True),
        f"Clusters made blind to labels ({linkage} linkage, {clusters} times as many as classes): what else is in the "
        "cluster "
        "of a memorized example, and of any other. Small: less than half of the mean size.",
        "Stacked bars by data set. Most of the other examples sit in ordinary clusters of their class, most memorized ones "
        "alone, in small clusters or among another class.",
    )


def _stacked(table: pd.DataFrame, kept: list[str], names: dict[str, str]) -> pd.DataFrame:
    """Known values of the columns ``names``, one below the other with its title as ``kind``, and ends of bars."""
    parts = [
        table[kept].assign(kind=title, value=table[name], std_error=table[f"{name}_se"]) for name, title in names.items()
    ]
    return _with_bars(pd.concat(parts, ignore_index=True).dropna(subset="value"), "value")


def _with_bars(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """``low`` and ``high``, two standard errors from the value of column ``name``."""
    reach = 2 * rows.std_error.fillna(0)
    return rows.assign(low=rows[name] - reach, high=rows[name] + reach)
