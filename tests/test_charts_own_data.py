"""The figure of the chapter on data of one's own shows what its table holds."""

import pandas as pd
import pytest

from study import charts
from study.charts import own_data as figures


@pytest.fixture
def memorization() -> pd.DataFrame:
    """Two settings of four examples, one of them mislabelled, and their controls; one example is not identified."""
    rows = [
        (name + end, index, index == 0, (0.9 if index == 0 and not end else 0.02) if index != 3 else None)
        for name in ("first", "second")
        for end in ("", "-right")
        for index in range(4)
    ]
    table = pd.DataFrame(rows, columns=["setting", "index", "planted", "mem"])
    return table.assign(std_error=0.05, n_in=7, n_out=3)


def test_planted_examples_stand_beside_themselves_under_the_right_label(memorization):
    figure = figures.planted(memorization, 0.25)
    by_kind = figure.table.groupby(["setting", "kind"]).mem.mean().round(2).to_dict()
    for name in ("first", "second"):
        assert by_kind[name, "wrong label"] == 0.9 and by_kind[name, "the same, right label"] == 0.02
        assert by_kind[name, "all others"] == 0.02
    assert not figure.table.setting.str.endswith("-right").any()


def test_examples_without_an_estimate_are_left_out_and_sizes_are_told(memorization):
    figure = figures.planted(memorization, 0.25)
    assert figure.table.mem.notna().all() and set(figure.table["index"]) == {0, 1, 2}
    assert "first, n = 4, t = 10; second, n = 4, t = 10" in figure.caption and "Dashed: 0.25" in figure.caption


def test_the_figure_can_be_drawn(memorization):
    assert charts.raster(charts.specification(figures.planted(memorization, 0.25))).startswith(b"\x89PNG")
