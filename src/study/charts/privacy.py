"""Figures of the chapter on privacy: what may be memorized at each epsilon, and what is.

Every function takes tables made by `study.theory.private_memorization.run` and returns a `Figure`. Memorization and accuracy
are shares; error bars reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, WIDTH, Figure
from study.theory import privacy
from study.theory.private_memorization import lower_limit

PERCENT = alt.Axis(format="%")
SLANTED = alt.Axis(labelAngle=-40)  # on a phone level labels run into each other
NAMES = {"digits": "digits", "longtail": "long-tailed mixture"}
ALLOWED = {"bound": "bound at (ε, δ)", "total_variation": "total variation"}
MEASURED = {"worst": "example built to be remembered", "mem": "tail, mean", "selected": "most memorized of the tail"}
ACCURACIES = {
    "head_test": "head, new examples",
    "tail_test": "tail, new examples",
    "tail_in": "tail, trained on",
    "tail_out": "tail, left out",
}
COPIES = {
    "group_bound": "allowed by group privacy",
    "total_variation": "allowed by accounting for copies",
    "clipped": "measured, clipped without noise",
    "private": "measured, private",
}


def response(table: pd.DataFrame, runs: int) -> Figure:
    """Randomised response, from ``runs`` runs a side, on the exact bound for each delta; the usual one as far as it goes."""
    curves = pd.concat([_curves(delta, table.epsilon.max()) for delta in table.delta.unique()])
    points = _with_bars(table.assign(delta_text=table.delta.map("δ = {:g}".format)), "mem")
    x = alt.X("epsilon:Q", title="privacy loss ε", axis=alt.Axis(tickCount=6))
    y = alt.Y("mem:Q", title="memorization", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color(
        "curve:N", title=None, scale=alt.Scale(domain=["exact bound", "usual bound"], range=[BLUE, GREY]), legend=_above()
    )
    dash = alt.StrokeDash("delta_text:N", title=None, legend=_above())
    lines = alt.Chart(curves).mark_line(clip=True).encode(x=x, y=y, color=colour, strokeDash=dash)
    bars = alt.Chart(points).mark_rule(color=BLACK).encode(x=x, y="mem_low:Q", y2="mem_high:Q")
    dots = (
        alt.Chart(points)
        .mark_point(color=BLACK, size=45)
        .encode(x=x, y=y, tooltip=_numbers("epsilon", "delta", "mem", "bound"))
    )
    return Figure(
        "response",
        lines + bars + dots,
        table,
        "The most that a private algorithm can memorize, and randomised response on a single record, which does memorize "
        f"that much, without and with a δ ({runs:,} simulated runs a side for each dot). The usual bound is met by "
        "nothing. Bars: two standard errors, mostly smaller than the dots.",
        "Two pairs of curves that rise with epsilon. Dots lie on the lower, S-shaped pair; the other pair leaves the "
        "picture before epsilon is one.",
    )


def _curves(delta: float, most: float) -> pd.DataFrame:
    epsilon = np.linspace(0, most, 101)
    curves = {"exact bound": privacy.memorization_bound(epsilon, delta), "usual bound": privacy.usual_bound(epsilon, delta)}
    table = pd.DataFrame({"epsilon": epsilon} | curves).melt("epsilon", var_name="curve", value_name="mem")
    return table[table.mem <= 1].assign(delta_text=f"δ = {delta:g}")


def along_profile(profiles: pd.DataFrame) -> Figure:
    """What each point (epsilon, delta) of one training's privacy curve allows; columns training, epsilon, delta, bound."""
    x = alt.X("epsilon:Q", title="point of the curve, ε", axis=alt.Axis(tickCount=6))
    y = alt.Y("bound:Q", title="memorization allowed", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color("training:N", title=None, sort=None, legend=_above())
    lines = alt.Chart(profiles).mark_line().encode(x=x, y=y, color=colour)
    stated = profiles[profiles.stated]
    dots = (
        alt.Chart(stated)
        .mark_point(filled=True, size=80)
        .encode(x=x, y=y, color=colour, tooltip=_numbers("epsilon", "delta", "bound"))
    )
    return Figure(
        "along_profile",
        lines + dots,
        profiles,
        "One training has a whole curve of guarantees. Every point of it bounds memorization; the pair that is "
        "usually quoted (dot) allows far more than the point at ε = 0, whose δ is the total variation distance. "
        "Computed, not measured.",
        "Curves that rise from the left, each with a dot far up on it; the least value stands at epsilon zero.",
    )


def memorization(training: pd.DataFrame, worst: pd.DataFrame, data: str) -> Figure:
    """What is allowed and what is measured for one data set, from ordinary training to the smallest epsilon.

    Raises ``ValueError`` that lists the data sets if ``data`` is none of them.
    """
    rows = _ordered(_of(training, data))
    extreme = worst.assign(data=data, models=np.nan).rename(columns={"mem": "worst", "mem_se": "worst_se"})
    extreme = _ordered(extreme)
    parts = [_tidy(rows, key, name) for key, name in MEASURED.items() if key in rows]
    measured = pd.concat([_tidy(extreme, "worst", MEASURED["worst"]), *parts], ignore_index=True)
    allowed = rows[rows.training == "private"].melt(["condition"], list(ALLOWED), var_name="quantity", value_name="value")
    allowed["quantity"] = allowed.quantity.map(ALLOWED)
    scale = alt.Scale(domain=[*ALLOWED.values(), *MEASURED.values()], range=[BLUE, PURPLE, BLACK, VERMILION, ORANGE])
    colour = alt.Color("quantity:N", title=None, scale=scale, legend=_above())
    x = alt.X("condition:N", title="training", sort=rows.condition.tolist(), axis=SLANTED)
    y = alt.Y("value:Q", title="memorization", axis=PERCENT)
    lines = alt.Chart(allowed).mark_line(point=alt.OverlayMarkDef(shape="stroke", size=120)).encode(x=x, y=y, color=colour)
    shift = alt.XOffset("quantity:N", sort=list(MEASURED.values()), scale=alt.Scale(paddingInner=0.6, paddingOuter=0.6))
    base = alt.Chart(measured).encode(x=x, color=colour, xOffset=shift)
    bars = base.mark_rule().encode(y="value_low:Q", y2="value_high:Q")
    dots = base.mark_point(filled=True, size=50).encode(
        y=y, tooltip=["condition:N", "quantity:N", *_numbers("value", "value_se")]
    )
    models, tail = int(rows["models"].iloc[0]), int(rows.tail_size.iloc[0])
    return Figure(
        f"memorization_{data}",
        (lines + bars + dots).properties(width=WIDTH),
        pd.concat([measured, allowed], ignore_index=True)[["condition", "quantity", "value", "value_se"]],
        f"Memorization of the tail of the {NAMES[data]} ({tail} examples, {models} networks a training) beside what "
        "privacy allows. The most memorized example was chosen by one half of the networks and measured by the other,"
        " both ways. Bars: two standard errors.",
        "From left to right training becomes more private. Both bounds fall, total variation much sooner. Dots of the"
        " example built to be remembered lie just under total variation, those of the tail far below.",
    )


def who_pays(training: pd.DataFrame) -> Figure:
    """Accuracy on head and tail by training, a panel for each data set."""
    charts, tables = [], []
    for data in training.data.unique():
        rows = _ordered(_of(training, data))
        table = pd.concat([_tidy(rows, key, name) for key, name in ACCURACIES.items()], ignore_index=True)
        charts.append(_lines(table, rows.condition.tolist()).properties(title=NAMES[data], width=WIDTH, height=230))
        tables.append(table.assign(data=data))
    table = pd.concat(tables, ignore_index=True)[["data", "condition", "quantity", "value", "value_se"]]
    return Figure(
        "who_pays",
        alt.vconcat(*charts),
        table,
        f"Accuracy by training ({_networks(training)}). Trained on less left out is memorization. "
        "Bars: two standard errors over networks, mostly smaller than the dots.",
        "Two panels of four falling curves. The head stays high until epsilon is about four and falls then; of the "
        "tail, the examples trained on fall to the level of those left out.",
    )


def _lines(table: pd.DataFrame, order: list[str]) -> alt.LayerChart:
    scale = alt.Scale(domain=list(ACCURACIES.values()), range=[BLUE, VERMILION, ORANGE, GREY])
    base = alt.Chart(table).encode(
        x=alt.X("condition:N", title="training", sort=order, axis=SLANTED),
        color=alt.Color("quantity:N", title=None, scale=scale, legend=_above()),
    )
    y = alt.Y("value:Q", title="accuracy", axis=PERCENT, scale=alt.Scale(domain=[0, 1]))
    lines = base.mark_line(point=True).encode(y=y, tooltip=["condition:N", "quantity:N", *_numbers("value", "value_se")])
    return base.mark_rule().encode(y="value_low:Q", y2="value_high:Q") + lines


def every_example(examples: pd.DataFrame, training: pd.DataFrame, comparisons: int, doubt: float) -> Figure:
    """All single estimates of the smallest epsilon, in order, with the limits that hold for all ``comparisons`` at once."""
    private = training[training.training == "private"]
    epsilon = private.epsilon.min()
    rows = examples[(examples.training == "private") & (examples.epsilon == epsilon) & examples.mem.notna()]
    limit = lower_limit(rows.mem, rows.n_in, rows.n_out, comparisons, doubt)
    table = rows.assign(limit=limit, data=rows.data.map(NAMES)).sort_values(["data", "mem"], ignore_index=True)
    table["place"] = table.groupby("data").cumcount() / table.groupby("data").mem.transform("size")
    bound = private[private.epsilon == epsilon][["bound", "total_variation"]].iloc[0].rename(ALLOWED)
    rules = pd.DataFrame({"value": bound.to_numpy(), "quantity": bound.index})
    x = alt.X("place:Q", title="examples in order of their estimate", axis=alt.Axis(format="%"))
    base = alt.Chart(table).encode(
        x=x, color=alt.Color("data:N", title=None, scale=alt.Scale(range=[BLUE, VERMILION]), legend=_above())
    )
    y = alt.Y("mem:Q", title="memorization", axis=PERCENT)
    bars = base.mark_rule(opacity=0.35).encode(y="limit:Q", y2="mem:Q")
    dots = base.mark_point(filled=True, size=25).encode(
        y=y, tooltip=["data:N", "index:Q", *_numbers("mem", "std_error", "limit")]
    )
    lines = (
        alt.Chart(rules)
        .mark_rule(color=BLACK)
        .encode(y="value:Q", strokeDash=alt.StrokeDash("quantity:N", title=None, legend=_above()))
    )
    return Figure(
        "every_example",
        bars + dots + lines,
        table[["data", "index", "mem", "std_error", "n_in", "n_out", "limit"]],
        f"Every example of both tails at ε = {epsilon:g} ({_networks(training)}). "
        f"Dots: estimates. Bars reach down to limits that lie below "
        f"the true values of all {comparisons:,} comparisons at once, but for a chance of {doubt:.0%}. Estimates above"
        " what is allowed are luck; a limit above it would be a refutation.",
        "Two rising rows of dots around zero; some lie above the lower horizontal line, none of the lower ends of the"
        " bars does.",
    )


def copies(table: pd.DataFrame) -> Figure:
    """Memorization against the number of copies, measured without and with noise, and what two ways of accounting allow."""
    private = table[table.training == "private"]
    allowed = [
        private.assign(quantity=COPIES[key], value=private[key], value_se=0.0) for key in ("group_bound", "total_variation")
    ]
    measured = [
        rows.assign(quantity=COPIES[training], value=rows.mem, value_se=rows.mem_se)
        for training, rows in table.groupby("training")
    ]
    tidy = _with_bars(pd.concat([*allowed, *measured], ignore_index=True), "value")
    scale = alt.Scale(domain=list(COPIES.values()), range=[BLUE, PURPLE, GREEN, VERMILION])
    base = alt.Chart(tidy).encode(
        x=alt.X(
            "copies:Q",
            title="copies",
            scale=alt.Scale(type="log", base=2, nice=False, padding=12),
            axis=alt.Axis(values=private.copies.tolist()),
        ),
        color=alt.Color("quantity:N", title=None, scale=scale, legend=_above()),
    )
    lines = base.mark_line(point=True).encode(
        y=alt.Y("value:Q", title="memorization", axis=PERCENT),
        tooltip=["copies:Q", "quantity:N", *_numbers("value", "value_se")],
    )
    return Figure(
        "copies",
        base.mark_rule().encode(y="value_low:Q", y2="value_high:Q") + lines,
        tidy[["copies", "quantity", "value", "value_se"]],
        "An example of the tail that is present so many times or not at all, mean over the tail "
        f"({int(private['models'].iloc[0])} networks, ε = {private.group_epsilon.iloc[0]:g} for one copy). Bars: two "
        "standard errors.",
        "Four rising curves: the bound by group privacy is near one from four copies on, the accounted one follows "
        "later, the measured curves lie below, the private one lowest.",
    )


def _of(training: pd.DataFrame, data: str) -> pd.DataFrame:
    if data not in set(training.data):
        raise ValueError(f"unknown data set {data!r}; valid: {', '.join(training.data.unique())}")
    return training[training.data == data]


def _networks(training: pd.DataFrame) -> str:
    """How many examples the tails have and how many networks each training, for a caption."""
    rows = training.groupby("data", sort=False)[["tail_size", "models"]].first()
    return "; ".join(
        f"{NAMES[row.Index]}: {row.tail_size} tail examples, {row.models} networks a training" for row in rows.itertuples()
    )


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with a text for their training: the controls first, then epsilon from large to small."""
    order = {"plain": -2.0, "clipped": -1.0}
    place = [order.get(training, 1 / epsilon) for training, epsilon in zip(rows.training, rows.epsilon)]
    text = [f"ε = {e:g}" if t == "private" else t for t, e in zip(rows.training, rows.epsilon)]
    return rows.assign(condition=text, place=place).sort_values("place", ignore_index=True)


def _tidy(rows: pd.DataFrame, key: str, name: str) -> pd.DataFrame:
    table = pd.DataFrame({"condition": rows.condition, "quantity": name, "value": rows[key], "value_se": rows[f"{key}_se"]})
    return _with_bars(table, "value")


def _with_bars(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    reach = 2 * rows[f"{name}_se"]
    return rows.assign(**{f"{name}_low": rows[name] - reach, f"{name}_high": rows[name] + reach})


def _above() -> alt.Legend:
    return alt.Legend(orient="top", columns=2, labelLimit=300)


def _numbers(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".4g") for name in names]
