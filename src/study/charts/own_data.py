"""Figures of the chapter on data of one's own: what was planted, and what came out.

Tables are those of the stage `own_data`; error bars reach two standard errors to each side.
"""

import altair as alt
import numpy as np
import pandas as pd

from study.case_studies.own_data import CONTROL
from study.charts import BLUE, GREY, VERMILION, WIDTH, Figure

COLOURS = {"wrong label": VERMILION, "the same, right label": BLUE, "all others": GREY}


def planted(memorization: pd.DataFrame, threshold: float) -> Figure:
    """Memorization of every example of each setting, and of the mislabelled ones again in the control."""
    names = [name for name in memorization.setting.unique() if not name.endswith(CONTROL)]
    table = pd.concat([_kinds(memorization, name) for name in names], ignore_index=True).dropna(subset="mem")
    table = table.assign(low=table.mem - 2 * table.std_error, high=table.mem + 2 * table.std_error)
    table["place"] = table.groupby(["setting", "kind"]).cumcount() * 0.618 % 1 - 0.5  # so that dots do not hide each other
    colour = alt.Color("kind:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())), legend=None)
    base = alt.Chart(table).encode(
        y=alt.Y("kind:N", title=None, sort=list(COLOURS), axis=alt.Axis(labelLimit=200)),
        yOffset=alt.YOffset("place:Q", scale=alt.Scale(domain=[-0.8, 0.8])),
        color=colour,
    )
    tips = ["index:Q", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("mem", "std_error"))]
    dots = base.mark_point(size=26, opacity=0.8).encode(x=_memorization(), tooltip=tips)
    few = base.transform_filter("datum.kind != 'all others'")
    bars = few.mark_rule(opacity=0.5).encode(x=alt.X("low:Q", title="memorization"), x2="high:Q")
    line = alt.Chart(table).mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.datum(threshold))
    panel = alt.layer(line, bars, dots).properties(width=WIDTH - 170, height=alt.Step(44, **{"for": "position"}))
    return Figure(
        "planted",
        panel.facet(
            row=alt.Row("setting:N", title=None, sort=names, header=alt.Header(labelOrient="top", labelFontSize=13))
        ),
        table[["setting", "kind", "index", "mem", "std_error"]],
        f"Memorization of every training example: {_sizes(memorization, names)}. Vermilion: a wrong label was planted. "
        "Blue: the same examples, in models trained with the right labels. Grey: all others, in the models of the first. "
        f"Bars reach two standard errors to each side. Dashed: {threshold:g}.",
        "Two panels of three rows of dots. In each the mislabelled examples lie near one, the same with right labels near "
        "zero, and most others at zero.",
    )


def _memorization() -> alt.X:
    return alt.X("mem:Q", title="memorization", scale=alt.Scale(domain=[-0.3, 1.1], nice=False, clamp=True))


def _kinds(memorization: pd.DataFrame, name: str) -> pd.DataFrame:
    ours, control = (memorization[memorization.setting == which] for which in (name, name + CONTROL))
    first = ours.assign(kind=np.where(ours.planted, "wrong label", "all others"))
    again = control[control.planted].assign(kind="the same, right label", setting=name)
    return pd.concat([first, again])


def _sizes(memorization: pd.DataFrame, names: list[str]) -> str:
    """``own-arrays, n = 200, t = 100; ...``"""
    frames = {name: memorization[memorization.setting == name] for name in names}
    return "; ".join(f"{name}, n = {len(f)}, t = {int((f.n_in + f.n_out).max())}" for name, f in frames.items())
