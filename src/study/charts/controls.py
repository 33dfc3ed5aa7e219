"""Figures of the controls that must stay empty, each beside its counterpart.

Tables are that of the stage `controls`, one row a world and role. Dots are means over worlds, error bars reach two standard
errors to each side, and a black stroke marks what was expected in closed form.
"""

import altair as alt
import pandas as pd

from study.case_studies.controls import CONTROL, COUNTERPART
from study.charts import BLACK, BLUE, GREY, VERMILION, WIDTH, Figure

CASES = {
    ("permuted_rows", CONTROL): "digits, rows permuted",
    ("permuted_rows", COUNTERPART): "digits, rows as they are",
    ("random_inputs", CONTROL): "random inputs and labels",
    ("random_inputs", COUNTERPART): "… tested on near copies",
    ("random_labels", CONTROL): "digits, random labels",
    ("random_labels", COUNTERPART): "digits, true labels",
    ("nearest_neighbour", CONTROL): "1-NN, clusters of several",
    ("nearest_neighbour", COUNTERPART): "1-NN, clusters of one",
    ("sub_populations", CONTROL): "frequent sub-populations",
    ("sub_populations", COUNTERPART): "a long tail of them",
}
ROLES = {CONTROL: BLUE, COUNTERPART: VERMILION}
COUNTS = [0, 10, 100, 1000]
MEASURES = {"memorization": "mean memorization", "pairs": "pairs (log)", "mirrored": "pairs (log)"}
LABELS = 165  # pixels for the names of the cases, which each panel has: on a phone it stands alone
REMOVED = {"loss": "memorized", "loss_random": "at random"}


def memorized_and_pairs(table: pd.DataFrame) -> Figure:
    """Mean memorization, pairs and mirrored tail of every control and of its counterpart."""
    shown = means(table, MEASURES)
    layers = {measure: _layers(shown[shown.measure == measure], measure) for measure in MEASURES}
    mem, pairs = alt.layer(*layers["memorization"]), alt.layer(*layers["mirrored"], *layers["pairs"])
    panels = [panel.properties(width=WIDTH // 2 - LABELS, height=alt.Step(26)) for panel in (mem, pairs)]
    return Figure(
        "controls",
        alt.hconcat(*panels),
        shown,
        "Controls (blue), each above a counterpart in which the effect must be there (orange). Black strokes: what was "
        "expected in closed form, where there is one. Pairs are counted with the talk's thresholds; circles: those of the "
        "mirrored tail. Bars: two standard errors over worlds, mostly smaller than the dots.",
        "Ten rows of dots in two panels: memorization and pairs of five controls, each above its counterpart. Strokes mark "
        "what was expected.",
    )


def means(table: pd.DataFrame, measures: dict[str, str]) -> pd.DataFrame:
    """Mean, standard error, ends of the error bar and expectation: one row a case and measure."""
    expected = {"memorization": "expected", "pairs": "expected_pairs"}  # of the other measures nothing is known
    rows = []
    for key, case in CASES.items():
        worlds = table[(table.control == key[0]) & (table.role == key[1])]
        for measure in measures:
            value, error = worlds[measure].mean(), worlds[measure].sem()
            row = {"case": case, "role": key[1], "measure": measure, "value": value, "std_error": error}
            row |= {"low": value - 2 * error, "high": value + 2 * error}
            rows.append(row | {"expected": worlds[expected[measure]].mean() if measure in expected else float("nan")})
    return pd.DataFrame(rows)


def _layers(shown: pd.DataFrame, measure: str) -> list[alt.Chart]:
    counts, mirrored = measure != "memorization", measure == "mirrored"
    axis = alt.Axis(labelLimit=LABELS)
    base = alt.Chart(shown).encode(y=alt.Y("case:N", title=None, sort=list(CASES.values()), axis=axis))
    x = {"title": MEASURES[measure], "scale": _scale(counts), "axis": _axis(counts)}
    tooltip = [
        "case:N",
        "measure:N",
        *(alt.Tooltip(f"{name}:Q", format=".4f") for name in ("value", "std_error", "expected")),
    ]
    points = base.mark_point(size=55, filled=not mirrored, opacity=1).encode(
        x=alt.X("value:Q", **x), color=_roles(), tooltip=tooltip
    )
    # the bar of a count may reach below zero, where there is nothing to count
    ends = base.transform_calculate(low="max(datum.low, 0)") if counts else base
    bars = ends.mark_rule(strokeWidth=1 if mirrored else 2).encode(x=alt.X("low:Q", **x), x2="high:Q", color=_roles())
    strokes = base.mark_tick(color=BLACK, thickness=2, size=17).encode(x=alt.X("expected:Q", **x))
    return [bars, points] if mirrored else [bars, points, strokes]


def _scale(counts: bool) -> alt.Scale:
    return alt.Scale(type="symlog", domain=[0, COUNTS[-1]]) if counts else alt.Scale(domain=[-0.04, 1.04], nice=False)


def _axis(counts: bool) -> alt.Axis:
    return alt.Axis(values=COUNTS if counts else [0, 0.5, 1])


def _roles() -> alt.Color:
    return alt.Color("role:N", legend=None, scale=alt.Scale(domain=list(ROLES), range=list(ROLES.values())))


def worth_of_memorized(table: pd.DataFrame) -> Figure:
    """Tests lost for each removed example, where something was removed: memorized examples, and as many random ones."""
    shown = means(table, REMOVED).dropna(subset="value")
    shown = shown.assign(removed=shown.measure.map(REMOVED)).drop(columns=["measure", "expected"])
    base = alt.Chart(shown).encode(
        y=alt.Y("case:N", title=None, sort=list(CASES.values()), axis=alt.Axis(labelLimit=180)),
        yOffset=alt.YOffset("removed:N", sort=list(REMOVED.values())),
        color=alt.Color(
            "removed:N",
            title="removed",
            legend=alt.Legend(orient="top", symbolOpacity=1),
            scale=alt.Scale(domain=list(REMOVED.values()), range=[VERMILION, GREY]),
        ),
    )
    title = "tests lost for each removed example (count)"
    tooltip = ["case:N", "removed:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "std_error"))]
    points = base.mark_point(size=55).encode(x=alt.X("value:Q", title=title), tooltip=tooltip)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")
    return Figure(
        "worth_of_memorized",
        (zero + bars + points).properties(width=WIDTH - 190, height=alt.Step(20)),
        shown,
        "What a memorized example is worth: tests that fresh networks lose for each one removed. With random labels that "
        "must be zero, whatever the list of pairs says. Bars: two standard errors over worlds.",
        "Rows of dots with error bars, for memorized and for random examples, and a dashed line where nothing is lost.",
    )
