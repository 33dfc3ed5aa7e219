"""Figures of the page on consistency: what different learners of one data set have in common.

Every function takes tables of the stage `consistency` and returns a `Figure`. Error bars reach two standard errors to each
side; the errors are over trials, see `study.case_studies.consistency`.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.charts import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, Figure

ITSELF, REPEAT, SHUFFLED = "itself, other trials", "another seed", "shuffled scores"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
STATISTICS = {"jaccard": "Jaccard similarity", "difference": "mean difference on the union"}
MEANING = {
    "jaccard": "Share of the selected items that both learners select, of those that either selects",
    "difference": "Mean absolute difference of the two estimates over the items that either learner selects",
}
SIDE = 250
FEWEST = 5  # items selected by a learner on average; a similarity of fewer says little and is not drawn


def curves(table: pd.DataFrame, data: str, statistic: str) -> Figure:
    """``statistic``, a key of `STATISTICS`, of the first learner of ``data`` against each other, by threshold.

    Left memorization, right influence. Raises ``ValueError`` for a data set that the table does not hold.
    """
    rows = _of(table, data)
    reference = rows["first"].iloc[0]
    long = _lines(rows[rows["first"] == reference], statistic, data)
    panels = [_panel(long, measure, statistic) for measure in ("memorization", "influence")]
    h = int(rows.h.iloc[0])
    return Figure(
        f"{statistic}_{data}",
        alt.hconcat(*panels),
        long.drop(columns=["low", "high"]),
        f"{MEANING[statistic]}, by threshold: {_short(reference, data)} against the other learners of {data}, each from "
        f"{h:,} trials, and no two from the same subsets. The ceiling is the learner against itself on other trials "
        "(black); the floor has the scores of one side dealt to other examples of their class (dashed). Curves end where "
        f"two learners select fewer than {FEWEST} on average. Bars: two standard errors over trials.",
        f"Two panels of curves by threshold for {data}: black ceiling, dashed floor, and a coloured curve for each other "
        "learner.",
    )


def _of(table: pd.DataFrame, data: str) -> pd.DataFrame:
    rows = table[table.data == data]
    if rows.empty:
        raise ValueError(f"no learners of {data!r} were compared; compared: {', '.join(table.data.unique())}")
    return rows


def _short(setting: str, data: str) -> str:
    """A setting's name without that of its data set."""
    return setting.removeprefix(f"{data}-")


def _lines(rows: pd.DataFrame, statistic: str, data: str) -> pd.DataFrame:
    """One row a line, measure and threshold: value with the ends of its error bar; the floor is the mean over learners."""
    names = {"itself": ITSELF, "repeat": REPEAT}
    line = rows.kind.map(names).fillna(rows.second.map(lambda setting: _short(setting, data)))
    columns = {"measure": rows.measure, "threshold": rows.threshold}
    enough = (rows.size_first + rows.size_second) / 2 >= FEWEST
    drawn = pd.DataFrame({"line": line, **columns, "value": rows[statistic], "std_error": rows[f"{statistic}_se"]})[enough]
    floor = rows[enough].groupby(["measure", "threshold"], as_index=False)[f"{statistic}_shuffled"].mean()
    floor = floor.rename(columns={f"{statistic}_shuffled": "value"}).assign(line=SHUFFLED, std_error=0.0)
    long = pd.concat([drawn, floor], ignore_index=True).dropna(subset="value")
    reach = 2 * long.std_error
    return long.assign(low=(long.value - reach).clip(lower=0), high=(long.value + reach).clip(upper=1))


def _panel(long: pd.DataFrame, measure: str, statistic: str) -> alt.TopLevelMixin:
    rows = long[long.measure == measure]
    if rows.empty:
        reason = alt.Chart(pd.DataFrame({"reason": [f"fewer than {FEWEST} selected"]}), title=measure)
        return reason.mark_text(color=GREY).encode(text="reason:N").properties(width=SIDE, height=SIDE)
    base = alt.Chart(rows, title=measure).encode(
        x=alt.X("threshold:Q", title=f"threshold of {measure}", axis=alt.Axis(tickCount=6)), color=_colour(long)
    )
    y = alt.Y("value:Q", title=STATISTICS[statistic], scale=alt.Scale(domain=[0, 1]))
    lines = base.mark_line(point=alt.OverlayMarkDef(size=22)).encode(
        y=y,
        strokeDash=_dash(long),
        tooltip=["line:N", "threshold:Q", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "std_error"))],
    )
    bars = base.mark_rule(opacity=0.6).encode(y="low:Q", y2="high:Q")
    return (bars + lines).properties(width=SIDE, height=SIDE)


def _dash(long: pd.DataFrame) -> alt.StrokeDash:
    names = _scale(long)
    dashes = alt.Scale(domain=list(names), range=[[4, 4] if name == SHUFFLED else [1, 0] for name in names])
    return alt.StrokeDash("line:N", title=None, scale=dashes, legend=_legend())


def _legend() -> alt.Legend:
    return alt.Legend(orient="top", columns=3, symbolType="stroke", symbolStrokeWidth=2)


def _colour(long: pd.DataFrame) -> alt.Color:
    scale = _scale(long)
    scale = alt.Scale(domain=list(scale), range=list(scale.values()))
    return alt.Color("line:N", title=None, scale=scale, legend=_legend())


def _scale(long: pd.DataFrame) -> dict[str, str]:
    """Black, light blue and grey for what bounds the others, a colour for each other learner in its order."""
    fixed = {ITSELF: BLACK, REPEAT: SKY, SHUFFLED: GREY}
    others = [line for line in long.line.unique() if line not in fixed]
    scale = {name: colour for name, colour in fixed.items() if name in set(long.line)}
    return scale | {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(others)}


def matrix(table: pd.DataFrame, data: str, mem_threshold: float, infl_threshold: float) -> Figure:
    """Jaccard similarity of every two learners of ``data`` at one threshold of memorization and one of influence.

    Raises ``ValueError`` for a threshold that the stage did not compute.
    """
    rows, thresholds = _of(table, data), {"memorization": mem_threshold, "influence": infl_threshold}
    cells = pd.concat([_cells(_at(rows, measure, value), data) for measure, value in thresholds.items()], ignore_index=True)
    names = list(dict.fromkeys(cells.row))
    panels = [
        _heat(cells[cells.measure == measure], names, f"{measure} ≥ {value:g}") for measure, value in thresholds.items()
    ]
    return Figure(
        f"matrix_{data}",
        alt.hconcat(*panels).resolve_scale(color="shared"),
        cells.drop(columns="text"),
        f"Jaccard similarity of the selections of every two learners of {data}, from {int(rows.h.iloc[0]):,} trials each, "
        "without a subset in common. Diagonal: a learner against itself, on other trials. A dash: nothing is selected.",
        f"Two square tables of similarities for the learners of {data}; the diagonal is darkest.",
    )


def _at(rows: pd.DataFrame, measure: str, threshold: float) -> pd.DataFrame:
    of_measure = rows[rows.measure == measure]
    found = of_measure[np.isclose(of_measure.threshold, threshold)]
    if found.empty:
        raise ValueError(
            f"no similarity was computed at a threshold of {measure} of {threshold}; computed: "
            f"{', '.join(f'{value:g}' for value in of_measure.threshold.unique())} (section consistency of params.yaml)"
        )
    return found


def _cells(rows: pd.DataFrame, data: str) -> pd.DataFrame:
    """Both halves of the symmetric table."""
    upright = pd.DataFrame(
        {"row": rows["first"], "column": rows.second, "jaccard": rows.jaccard, "std_error": rows.jaccard_se}
    )
    mirrored = upright.rename(columns={"row": "column", "column": "row"})
    cells = pd.concat([upright, mirrored[mirrored.row != mirrored.column]], ignore_index=True)
    cells[["row", "column"]] = cells[["row", "column"]].map(lambda setting: _short(setting, data))
    text = cells.jaccard.map(lambda value: "–" if np.isnan(value) else f"{value:.2f}")
    return cells.assign(measure=rows.measure.iloc[0], text=text)


def _heat(cells: pd.DataFrame, names: list[str], title: str) -> alt.LayerChart:
    axis = alt.Axis(labelLimit=150, title=None)
    base = alt.Chart(cells, title=title).encode(
        x=alt.X("column:N", sort=names, axis=alt.Axis(labelLimit=150, title=None, labelAngle=-50)),
        y=alt.Y("row:N", sort=names, axis=axis),
    )
    scale = alt.Scale(domain=[0, 1], scheme="blues")
    squares = base.mark_rect().encode(
        color=alt.Color("jaccard:Q", title="Jaccard similarity", scale=scale, legend=None),
        tooltip=["row:N", "column:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("jaccard", "std_error"))],
    )
    ink = alt.condition(alt.datum.jaccard > 0.6, alt.value("white"), alt.value(BLACK))
    return (squares + base.mark_text(fontSize=11).encode(text="text:N", color=ink)).properties(width=200, height=200)


def accuracy_gap(table: pd.DataFrame, agreement: pd.DataFrame, mem_threshold: float) -> Figure:
    """Mean difference of memorization on the union at one threshold, against the difference of the two test accuracies."""
    rows = _at(table, "memorization", mem_threshold).merge(agreement, on=["data", "first", "second", "kind", "h"])
    rows = rows[["data", "first", "second", "kind", "accuracy_gap", "difference", "difference_se"]].reset_index(drop=True)
    ends = rows.assign(low=rows.difference - 2 * rows.difference_se, high=rows.difference + 2 * rows.difference_se)
    x = alt.X("accuracy_gap:Q", title="difference of test accuracies", axis=alt.Axis(format=".1%", tickCount=6))
    top = alt.Legend(orient="top", columns=3)
    base = alt.Chart(ends).encode(x=x, color=alt.Color("data:N", title=None, legend=top))
    y = alt.Y("difference:Q", title="mean difference of memorization", scale=alt.Scale(domainMin=0))
    points = base.mark_point(size=55).encode(
        y=y,
        shape=alt.Shape("kind:N", title=None, sort=["itself", "repeat", "network", "other"], legend=top),
        tooltip=list(rows),
    )
    return Figure(
        "accuracy_gap",
        base.mark_rule().encode(y="low:Q", y2="high:Q") + points,
        rows,
        f"One point for every two learners: how much their memorization differs over the examples that either memorizes (at "
        f"{mem_threshold:g}), against the difference of their test accuracies. Bars: two standard errors over trials.",
        "Scatter plot. Learners against themselves lie low at zero; different learners lie high, whatever their accuracies.",
    )
