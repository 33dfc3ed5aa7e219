"""The figures of the page on memorizers: they are drawn, say what n and repeats are, and show what the tables hold."""

import numpy as np
import pytest
from test_theory_memorizers import TOY

from study import charts, params
from study.charts import memorizers as figures
from study.theory import memorizers


@pytest.fixture(scope="module")
def stage():
    return memorizers.run(params.Memorizers(**TOY))


def toy():
    (x, y), *_ = memorizers.clusters(2, 4, 0.2, [20], np.random.default_rng(0))
    ticks = np.linspace(-2, 2, 9)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    line = memorizers.along(np.array([1.0, 0.0]), x, y)
    bumps, _ = memorizers.local_bumps(x, y, memorizers.distances(x, x), 0.75, 1.0)
    return figures.toy(x, y, {"random direction": line.value(grid), "local bumps": bumps.value(grid)}, ticks)


def every_figure(stage):
    yield toy()
    yield figures.by_pair(stage["pairs"], "small")
    yield figures.width_sweep(stage["sweep"])
    yield figures.bumps_by_size(stage["growth"])
    yield figures.accuracy_by_sample(stage["samples"], stage["sample_bounds"])
    yield figures.corners(stage["corners"])


def test_every_figure_is_drawn_and_its_spec_is_the_same_each_time(stage):
    for figure, again in zip(every_figure(stage), every_figure(stage), strict=True):
        spec = charts.specification(figure)
        assert charts.raster(spec).startswith(b"\x89PNG"), figure.name
        assert charts.specification(again) == spec
        assert not figure.table.isna().all().any(), figure.name


def test_captions_say_what_they_average(stage):
    found = {figure.name: figure.caption for figure in every_figure(stage)}
    assert "n = 40 training pictures a pair, means over 2 random choices" in found["by_pair"]
    assert "n = 100" in found["width_sweep"] and "n = 600" in found["width_sweep"]
    assert "over 2 samples" in found["bumps_by_size"] and "over 12 worlds" in found["accuracy_by_sample"]


def test_the_ground_of_the_toy_is_constant_across_the_one_direction():
    table = toy().table.query("network == 'random direction'")
    assert (table.groupby("x").answer.nunique() == 1).all()
    assert table.answer.nunique() > 1


def test_a_dot_a_pair_and_memorizer(stage):
    table = figures.by_pair(stage["pairs"], "small").table
    assert len(table) == 45 * 4 * 2
    own = stage["pairs"].query("first == '3' and second == '8' and memorizer == 'local bumps' and labels == 'true'")
    shown = table.query("first == '3' and second == '8' and memorizer == 'local bumps' and labels == 'true'")
    assert shown.test_accuracy.item() == pytest.approx(own.test_accuracy.mean())


def test_an_unknown_data_set_is_refused_with_the_valid_names(stage):
    with pytest.raises(ValueError, match="unknown data set 'cifar'; valid data sets: small"):
        figures.by_pair(stage["pairs"], "cifar")


def test_bars_are_two_standard_errors(stage):
    figure = figures.accuracy_by_sample(stage["samples"], stage["sample_bounds"])
    row = figure.table.iloc[0]
    own = stage["samples"]
    own = own[(own.n == row.n) & (own.labels == row.labels) & (own.memorizer == row.memorizer)].test_accuracy
    assert row.test_accuracy == pytest.approx(own.mean()) and row.std_error == pytest.approx(own.sem())
    data = charts.specification(figure)["datasets"]
    drawn = next(
        r for rows in data.values() for r in rows if r.get("memorizer") == row.memorizer and r["labels"] == row.labels
    )
    assert drawn["high"] - drawn["low"] == pytest.approx(4 * drawn["std_error"])
