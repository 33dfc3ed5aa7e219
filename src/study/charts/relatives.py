"""Figures of the page on the relatives of memorization: consistency profiles, and proxies that cost one training.

Tables are those of the stage `relatives`; error bars and bands reach two standard errors to each side.
"""

import altair as alt
import pandas as pd

from study.charts import BLUE, GREY, PALETTE, VERMILION, WIDTH, Figure

NAMES = {
    "c_score": "C-score",
    "speed": "learning speed",
    "curvature": "input-loss curvature",
    "density": "density in pixels",
    "density_hidden": "density in hidden layer",
    "density_untrained": "density in untrained layer",
    "density_blind": "density without labels",
}
SHOWN = 1500  # examples in a scatter plot, at most


def consistency_profile(profiles: dict[str, pd.DataFrame]) -> Figure:
    """Held-out accuracy against the share of the data in a subset, for groups by memorization; a panel a data set."""
    table = pd.concat([each.assign(data=name) for name, each in profiles.items()], ignore_index=True)
    lows = sorted(table.group.unique())
    names = {low: _range(low, high) for low, high in zip(lows, [*lows[1:], None])}
    error = 2 * table.std_error.fillna(0)
    table = table.assign(memorization=table.group.map(names), low=table.held_out - error, high=table.held_out + error)
    scale = alt.Scale(domain=list(names.values()), range=list(PALETTE[: len(names)]))
    legend = alt.Legend(orient="top", columns=3)
    colour = alt.Color("memorization:N", title="memorization", sort=None, scale=scale, legend=legend)
    panels = [_profile_panel(table[table.data == name], name, colour) for name in profiles]
    return Figure(
        "consistency_profile",
        alt.vconcat(*panels, spacing=12),
        table.drop(columns=["low", "high"]),
        "Accuracy on examples that were held out, against the share of the data that models were trained on, for groups of "
        "examples by their memorization. Bands: two standard errors over the examples of a group.",
        "A panel for each data set with a line for each group; the more memorized a group is, the lower its line.",
    )


def _profile_panel(rows: pd.DataFrame, title: str, colour: alt.Color) -> alt.LayerChart:
    share = alt.X("ratio:Q", title="share of the training set in a subset", axis=alt.Axis(format="%"))
    base = alt.Chart(rows, title=title).encode(x=share.scale(domain=[0, 1]), color=colour)
    y = alt.Y(
        "held_out:Q", title="accuracy when held out", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1], clamp=True)
    )
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title="accuracy when held out"), y2="high:Q")
    tooltip = ["memorization:N", "examples:Q", alt.Tooltip("held_out:Q", format=".3f"), "ratio:Q"]
    return (band + base.mark_line(point=True).encode(y=y, tooltip=tooltip)).properties(height=230)


def _range(low: float, high: float | None) -> str:
    if high is None:
        return f"{low:g} and above"
    return f"below {high:g}" if low < 0 else f"{low:g} to {high:g}"


def rank_agreement(agreement: dict[str, dict[str, dict]]) -> Figure:
    """Rank correlation of each proxy with memorization, and with its scores shuffled, for each data set."""
    rows = [
        {
            "data": data,
            "proxy": NAMES[proxy],
            "scores": scores,
            "rho": found[key]["value"],
            "std_error": found[key]["std_error"],
        }
        for data, proxies in agreement.items()
        for proxy, found in proxies.items()
        for scores, key in (("as they are", "spearman"), ("shuffled", "shuffled"))
    ]
    table = pd.DataFrame(rows)
    table = table.assign(low=table.rho - 2 * table.std_error, high=table.rho + 2 * table.std_error)
    base = alt.Chart(table).encode(
        y=alt.Y("proxy:N", title=None, sort=list(NAMES.values()), axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("data:N", sort=list(agreement)),
        color=alt.Color(
            "scores:N", title="scores", scale=alt.Scale(domain=["as they are", "shuffled"], range=[VERMILION, GREY])
        ),
    )
    title = "rank correlation with memorization"
    points = base.mark_point(size=60).encode(
        x=alt.X("rho:Q", title=title),
        shape=alt.Shape("data:N", title="data", sort=list(agreement)),
        tooltip=["data:N", "proxy:N", "scores:N", "rho:Q"],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    return Figure(
        "rank_agreement",
        (bars + points).properties(height=alt.Step(26), width=WIDTH - 200),
        table.drop(columns=["low", "high"]),
        "Spearman's rank correlation of each score with memorization; signs are turned so that agreement is positive. "
        "Bars: two bootstrap standard errors over the examples. Grey: the same scores in random order.",
        "Dots with error bars, two for each score: one far from zero and one of the shuffled scores near it.",
    )


def against_memorization(scores: dict[str, pd.DataFrame], proxy: str, seed: int) -> Figure:
    """One proxy against memorization, a panel a data set: examples with a memorization of 0.1 and more, and others."""
    tables = {name: _sampled(each.dropna(subset=["mem", proxy]), proxy, seed) for name, each in scores.items()}
    panels = [_scatter(table, name, proxy, scores[name][proxy].median()) for name, table in tables.items()]
    return Figure(
        f"{proxy}_against_memorization",
        alt.vconcat(*panels, spacing=12),
        pd.concat([table.assign(data=name) for name, table in tables.items()], ignore_index=True),
        f"{NAMES[proxy].capitalize()} against memorization: of the examples with a memorization of at least 0.1 and of the "
        f"others up to {SHOWN:,} each, at random.",
        "Clouds of points: most lie at low memorization, and the score changes with it.",
    )


def _sampled(known: pd.DataFrame, proxy: str, seed: int) -> pd.DataFrame:
    sides = known[known.mem >= 0.1], known[known.mem < 0.1]
    chosen = pd.concat([side.sample(min(len(side), SHOWN), random_state=seed) for side in sides])
    return chosen[["index", "label", "mem", "std_error", proxy]]


def _scatter(table: pd.DataFrame, title: str, proxy: str, middle: float) -> alt.Chart:
    """Curvatures span powers of ten, from zero: above ``middle`` their axis is logarithmic, below it linear."""
    logarithmic = {"type": "symlog", "constant": float(middle) or 1.0} if proxy == "curvature" else {}
    return (
        alt.Chart(table, title=title)
        .mark_point(size=18, filled=True, opacity=0.5, color=BLUE)
        .encode(
            x=alt.X("mem:Q", title="memorization"),
            y=alt.Y(f"{proxy}:Q", title=NAMES[proxy], scale=alt.Scale(zero=False, **logarithmic)),
            tooltip=["index:Q", "label:Q", "mem:Q", f"{proxy}:Q"],
        )
        .properties(height=230)
    )
