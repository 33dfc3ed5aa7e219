"""Figures of the page on the objection: what removal costs with other trainings, on cleaned tests, and with a repair.

Tables are those of the stage `objection`. Bars and bands reach two standard errors to each side; losses are in percentage
points of the tests they are measured on. ``setup`` is the sentence of a caption that says n, t and repeats.
"""

from typing import NamedTuple

import altair as alt
import pandas as pd

from study.case_studies.leakage import AT_RANDOM, NEAR_ANY, NEAR_REMOVED
from study.case_studies.refits import INFLUENCERS, OWN, control
from study.case_studies.restoration import LIKE, LOST, REPAIRED, STRANGERS
from study.charts import BLUE, GREY, ORANGE, VERMILION, WIDTH, Figure

POINTS = alt.Axis(labelExpr="format(datum.value * 100, '.3~f')", tickCount=6)
LOSS = "loss of accuracy (percentage points)"
REMOVED = {INFLUENCERS: VERMILION, OWN: BLUE, "the same, shuffled": GREY}
EXCLUDED = {NEAR_REMOVED: VERMILION, NEAR_ANY: BLUE, AT_RANDOM: GREY}
PARTS = {"affected": "tests in a pair", "elsewhere": "all other tests"}
ARMS = {
    INFLUENCERS: "removed: the influencers",
    LIKE: "… and replaced by their like",
    STRANGERS: "… and replaced by strangers",
    REPAIRED: "… but one of each sub-population",
    LOST: "removed: lost sub-populations only",
    control(INFLUENCERS): "removed: as many others of their classes",
}


def other_trainings(trainings: pd.DataFrame, data: str, setup: str) -> Figure:
    """The loss of test accuracy from each kind of removed set, for every learner that was compared."""
    rows = trainings[trainings.tests == "all"]
    shuffled = rows[rows.kind == INFLUENCERS].assign(kind="the same, shuffled")
    shuffled = shuffled.assign(drop=shuffled.control_drop, drop_std_error=shuffled.control_drop_std_error)
    table = pd.concat([rows, shuffled], ignore_index=True)
    learner = table.learner.str.replace(", weight ", " + ").str.replace(" epochs of all examples", " full epochs")
    table["training"] = learner + " (" + (100 * table.accuracy).map("{:.1f} %)".format)
    table = _ends(table[["training", "kind", "removed", "accuracy", "drop", "drop_std_error"]], "drop")
    shown = {kind: colour for kind, colour in REMOVED.items() if kind in set(table.kind)}
    marks = Marks("training", table.training.unique().tolist(), "kind", "removed", shown)
    told = ["training:N", "kind:N", "removed:Q", alt.Tooltip("accuracy:Q", format=".4f")]
    return Figure(
        f"other_trainings_{data}",
        _dots(table, marks, "drop", told).properties(width=WIDTH - 260),
        table.drop(columns=["low", "high"]),
        "What removal costs in test accuracy, by how the networks are trained; in brackets their accuracy when nothing is "
        "removed. Grey: as many others of the same classes as there are influencers. Bars: two standard errors over models. "
        f"{setup}",
        "Rows of dots with error bars, one row a training. Those of the removed sets lie to the right of the grey ones.",
    )


def _ends(table: pd.DataFrame, value: str) -> pd.DataFrame:
    reach = 2 * table[f"{value}_std_error" if value != "excess" else "std_error"]
    return table.assign(low=table[value] - reach, high=table[value] + reach).reset_index(drop=True)


def _colour(field: str, title: str | None, shown: dict[str, str]) -> alt.Color:
    legend = alt.Legend(orient="top", columns=1, symbolOpacity=1)
    return alt.Color(field, title=title, legend=legend, scale=alt.Scale(domain=list(shown), range=list(shown.values())))


class Marks(NamedTuple):
    """What the dots of a figure stand for: a row for each of ``order`` in column ``row``, colours by column ``kind``."""

    row: str
    order: list[str]
    kind: str
    title: str
    colours: dict[str, str]


def _dots(table: pd.DataFrame, marks: Marks, value: str, told: list, title: str = LOSS) -> alt.LayerChart:
    """Dots at column ``value`` with bars from ``low`` to ``high``; ``told`` and the value stand in the tooltip."""
    base = alt.Chart(table).encode(
        y=alt.Y(f"{marks.row}:N", title=None, sort=marks.order, axis=alt.Axis(labelLimit=300)),
        yOffset=alt.YOffset(f"{marks.kind}:N", sort=list(marks.colours)),
        color=_colour(f"{marks.kind}:N", marks.title, marks.colours),
    )
    tooltip = [*told, alt.Tooltip(f"{value}:Q", format=".4f")]
    points = base.mark_point(size=50).encode(x=alt.X(f"{value}:Q", title=title, axis=POINTS), tooltip=tooltip)
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    return (_zero() + bars + points).properties(height=alt.Step(16))


def _zero() -> alt.Chart:
    return alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[4, 4]).encode(x="x:Q")


def cleaned_tests(exclusions: dict[str, pd.DataFrame], setup: str) -> Figure:
    """The influencers' excess loss on the tests that are left, by the share and the kind of tests excluded.

    ``exclusions`` maps a title to a table of the stage; a panel each.
    """
    table = pd.concat([frame.assign(data=title) for title, frame in exclusions.items()], ignore_index=True)
    table = _ends(table, "excess")
    panels = [_panel(table[table.data == title], title) for title in exclusions]
    return Figure(
        "cleaned_tests",
        alt.vconcat(*panels, spacing=12),
        table.drop(columns=["low", "high"]),
        "What removing the influencers costs beyond removing as many others of their classes, on the tests that are left "
        "when a share of them is excluded: those nearest to a removed example of their class, those nearest to any training "
        "example of it, or as many of each class at random. Bands: two standard errors over models. "
        f"{setup}",
        "Three lines a panel. From left to right the red one falls below the grey one, and the blue one rises above it.",
    )


def _panel(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    base = alt.Chart(rows, title=title).encode(
        x=alt.X("share:Q", title="share of the tests excluded", axis=alt.Axis(format="%", tickCount=5)),
        color=_colour("excluded:N", "excluded", EXCLUDED),
    )
    y = alt.Y("excess:Q", title="excess loss (points)", axis=POINTS)
    tooltip = ["excluded:N", "share:Q", "tests:Q", "affected:Q", alt.Tooltip("excess:Q", format=".4f")]
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title="excess loss (points)"), y2="high:Q")
    return (band + base.mark_line(point=True).encode(y=y, tooltip=tooltip)).properties(height=170, width=WIDTH - 160)


def put_back(restored: pd.DataFrame, data: str, setup: str) -> Figure:
    """The loss with something put back, or something kept, on the tests in a pair and on all others."""
    rows = restored[restored.arm.isin(list(ARMS)) & restored.tests.isin(list(PARTS))]
    table = rows.assign(arm=rows.arm.map(ARMS), tests=rows.tests.map(PARTS))
    table = _ends(table[["arm", "tests", "removed", "added", "accuracy", "drop", "drop_std_error", "recovered"]], "drop")
    marks = Marks("arm", list(ARMS.values()), "tests", "accuracy on", dict(zip(PARTS.values(), (VERMILION, BLUE))))
    return Figure(
        f"put_back_{data}",
        _dots(table, marks, "drop", ["arm:N", "tests:N", "removed:Q", "added:Q"]).properties(width=WIDTH - 300),
        table.drop(columns=["low", "high"]),
        "What is lost against networks trained on everything, when the influencers are removed and something is put back or "
        "kept. Bars: two standard errors over models. "
        f"{setup}",
        "Rows of dots with error bars. With members of the same kind put back the loss on tests in a pair is much smaller.",
    )


def splits(table: pd.DataFrame, setup: str) -> Figure:
    """Excess loss on each split of the digits, at random or by place, of its influencers and of its memorized examples."""
    names = {"influencers": INFLUENCERS, "own": "memorized examples"}
    columns = ["split", "fold", "test_accuracy", "memorized", "pairs", "mirrored", "affected"]
    long = pd.concat(
        [
            table[columns].assign(kind=kind, excess=table[f"{key}_excess"], std_error=table[f"{key}_std_error"])
            for key, kind in names.items()
        ]
    )
    long = _ends(long.assign(split="split " + long.split + ", " + (long.fold + 1).astype(str)), "excess")
    marks = Marks("split", sorted(long.split.unique()), "kind", "removed", dict(zip(names.values(), (VERMILION, ORANGE))))
    told = ["split:N", "kind:N", "pairs:Q", "mirrored:Q", "memorized:Q"]
    return Figure(
        "splits",
        _dots(long, marks, "excess", told, "excess loss (percentage points)").properties(width=WIDTH - 200),
        long.drop(columns=["low", "high"]),
        "What removal costs beyond removing as many others of the same classes, on splits of the digits at random and on "
        "splits that keep neighbours in the file together. Each split has estimates, pairs and networks of its own. Bars: "
        f"two standard errors over models. {setup}",
        "Six rows of dots with error bars, three splits at random and three by place.",
    )
