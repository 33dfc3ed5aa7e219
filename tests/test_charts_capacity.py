"""Figures of the chapter on small networks that memorize show what their tables hold."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import capacity as figures
from study.theory import relu_memorizers as relu


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


@pytest.fixture
def fits() -> pd.DataFrame:
    rows = [("random points", 64, 1e3), ("random points", 256, 1e5), ("digits", 1000, 1e6)]
    table = pd.DataFrame(rows, columns=["problem", "N", "largest_weight"])
    table = table.assign(d1=16, d2=16, parameters=465, error=1e-9, wrong=0, precision="float64", network="two hidden layers")
    return pd.concat([table, table.assign(precision="float32"), table.assign(network="one-hot")], ignore_index=True)


@pytest.fixture
def training() -> pd.DataFrame:
    tasks = ("random points", "alternating line", "two halves of a line")
    rows = [
        {"task": task, "width": width, "rate": rate, "repeat": repeat, "N": 256, "share": 1 / width + rate + repeat / 100}
        for task in tasks
        for width in (4, 8)
        for rate in (0.01, 0.03)
        for repeat in range(2)
    ]
    table = pd.DataFrame(rows)
    return table.assign(fewest=np.where((table.task == "alternating line") & (table.width == 4), 0.2, 0.0))


@pytest.fixture
def descents() -> pd.DataFrame:
    rows = [
        (name, d, k * np.log10(d)) for name, k in (("at the start", 2), ("the epochs asked for", 4)) for d in (1e-3, 1e-2)
    ]
    table = pd.DataFrame(rows, columns=["quantity", "distance", "log10_risk"])
    return table.assign(log10_risk_se=0.1, epochs_asked=100.0, switched=0.0)


def test_the_demonstration_passes_through_every_label():
    x, y = np.random.default_rng(0).standard_normal((12, 3)), np.random.default_rng(1).uniform(-1, 1, 12)
    network = relu.memorizer(x, y, np.random.default_rng(2))
    figure = figures.demonstration(network, x, y)
    labels = figure.table[figure.table.kind == "label"]
    assert sorted(labels.value) == sorted(y)
    row = network.affine[0][0][0]
    np.testing.assert_allclose(labels.place, x @ row / np.linalg.norm(row))
    assert drawn(figure).startswith(b"\x89PNG")


def test_weights_are_those_of_the_scalar_networks_in_float64(fits):
    assert figures.weights(fits).table.N.tolist() == [64, 256, 1000]


def test_training_shows_the_better_learning_rate_and_the_bound(training):
    table = figures.training(training, 15, 32).table
    assert (table.rate == 0.01).all() and len(table) == 6
    assert table.set_index(["task", "width"]).fewest["alternating line", 4] == 0.2


def test_intervals_leave_out_widths_without_a_construction():
    table = pd.DataFrame(
        {"width": [8, 11], "bound": [81, 144], "zigzag": [66, 122], "built": [47, np.nan], "random": [9, 12]}
    )
    shown = figures.intervals(table).table
    assert len(shown) == 7 and not shown.pieces.isna().any()


def test_descents_hold_every_quantity_at_every_distance(descents):
    table = figures.descents(descents).table
    assert table.groupby("quantity").distance.apply(list).to_dict() == {name: [1e-3, 1e-2] for name in descents.quantity}


def test_all_figures_can_be_drawn(fits, training, descents):
    controls = pd.DataFrame(
        [(problem, variant, last, 256, 1e-9 if variant == "as proved" else 2.0, 0.1)
         for problem in ("random points", "alternating line")
         for variant in ("as proved", "groups all rise", "units all +")
         for last in ("as built", "fitted anew")],
        columns=["problem", "variant", "last_layer", "N", "error", "share"],
    )  # fmt: skip
    precision = pd.DataFrame({"N": [64, 64, 256, 256], "bits": [8, 24, 8, 24], "share": [0.9, 0.0, 0.9, 0.1]})
    exponents = pd.DataFrame({"quantity": ["at the start"], "value": [2.0], "std_error": [0.1]})
    made = [
        figures.weights(fits),
        figures.precision(precision),
        figures.controls(controls),
        figures.training(training, 15, 32),
        figures.descents(descents),
        figures.exponents(exponents),
    ]
    assert len({figure.name for figure in made}) == 6
    for figure in made:
        assert drawn(figure).startswith(b"\x89PNG")


def test_counts_are_written_out_and_measures_to_three_digits():
    assert [figures.short(value) for value in (1024, 10_000.0, 4.1e-13, 0.12345)] == ["1,024", "10,000", "4.1e-13", "0.123"]
    assert figures.short(float("nan")) == "nan"
