"""Figures of the page on the relatives of memorization show what their tables hold."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import relatives


@pytest.fixture
def scores():
    mem = np.concatenate([np.zeros(3000), np.linspace(0, 1, 100)])
    columns = {"index": np.arange(3100), "label": np.arange(3100) % 10, "mem": mem, "std_error": 0.01}
    return pd.DataFrame(columns | {"speed": 1 - mem, "curvature": 10 * mem})


def drawn(figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_a_group_is_named_by_its_range():
    rows = [(low, 10, ratio, 0.5, 0.01) for low in (-1.0, 0.05, 0.75) for ratio in (0.1, 0.9)]
    profile = pd.DataFrame(rows, columns=["group", "examples", "ratio", "held_out", "std_error"])
    figure = relatives.consistency_profile({"digits": profile, "MNIST": profile})
    assert figure.table.groupby("data").size().to_dict() == {"digits": 6, "MNIST": 6}
    assert figure.table.memorization.unique().tolist() == ["below 0.05", "0.05 to 0.75", "0.75 and above"]
    assert drawn(figure).startswith(b"\x89PNG")


def test_agreement_stands_beside_that_of_shuffled_scores():
    found = {"spearman": {"value": 0.8, "std_error": 0.01}, "shuffled": {"value": 0.0, "std_error": 0.03}, "auroc": 0.9}
    figure = relatives.rank_agreement({"digits": {"speed": found, "density": found}})
    assert figure.table.groupby("scores").rho.mean().to_dict() == {"as they are": 0.8, "shuffled": 0.0}
    assert set(figure.table.proxy) == {"learning speed", "density in pixels"}
    assert drawn(figure).startswith(b"\x89PNG")


def test_agreement_has_a_mark_for_each_data_set():
    found = {"spearman": {"value": 0.8, "std_error": 0.01}, "shuffled": {"value": 0.0, "std_error": 0.03}, "auroc": 0.9}
    figure = relatives.rank_agreement({"digits": {"speed": found}, "MNIST": {"speed": found}})
    assert figure.table.groupby("data").size().to_dict() == {"digits": 2, "MNIST": 2}
    assert drawn(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("proxy", ["speed", "curvature"])
def test_a_scatter_shows_the_memorized_examples_and_a_sample_of_the_others(scores, proxy):
    figure = relatives.against_memorization({"digits": scores}, proxy, seed=0)
    assert (figure.table.mem >= 0.1).sum() == (scores.mem >= 0.1).sum()
    assert (figure.table.mem < 0.1).sum() == relatives.SHOWN
    other = relatives.against_memorization({"digits": scores}, proxy, seed=1)
    assert figure.name == f"{proxy}_against_memorization" and not other.table.equals(figure.table)
    assert drawn(figure).startswith(b"\x89PNG")


def test_of_many_memorized_examples_a_random_sample_is_shown(scores, monkeypatch):
    monkeypatch.setattr(relatives, "SHOWN", 50)
    figure = relatives.against_memorization({"digits": scores, "MNIST": scores}, "speed", seed=0)
    shown = figure.table[figure.table.data == "MNIST"]
    assert (shown.mem >= 0.1).sum() == (shown.mem < 0.1).sum() == 50
    assert shown.mem.max() > 0.9, "not the first ones of the table, which are the least memorized"
    assert "up to 50 each" in figure.caption
