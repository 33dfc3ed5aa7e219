"""Figures of the chapter on scaling show what was measured and where the lines lead."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import scaling as figures


@pytest.fixture
def learners() -> pd.DataFrame:
    columns = {"setting": ["small", "timed only", "recorded only"], "trials": [100, 10, 10], "seconds": [2.0, 1.0, np.nan]}
    return pd.DataFrame(columns | {"recorded_seconds": [200.0, np.nan, 36.0], "recorded_cores": [4, np.nan, 2]}).assign(
        entropy=0.1, bits=0.2
    )


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_rates_are_models_an_hour_on_the_cores_of_the_record(learners):
    table = figures.rates(learners).table.set_index(["setting", "kind"]).models_an_hour
    assert table["small", figures.TIMED] == pytest.approx(3600 / 2 * 4)
    assert table["small", figures.RECORDED] == pytest.approx(3600 * 100 / 200)
    assert table["timed only", figures.TIMED] == 3600, "without a record, one worker"
    assert table["recorded only", figures.RECORDED] == 1000 and len(table) == 4


def test_hours_fall_as_speed_rises():
    training = pd.DataFrame({"pixels": [32, 224], "operations": [3.6e18, 3.6e20]})
    table = figures.hours(training, 60e12).table
    assert (table.hours * table.tflops).groupby(table.resolution).std().max() < 1e-6
    at_ten = table[np.isclose(table.tflops, 10)].set_index("resolution").hours
    assert at_ten.to_dict() == pytest.approx({"32 pixels": 100, "224 pixels": 10_000})


def test_bits_show_made_up_predictions_and_every_setting(learners):
    compression = pd.DataFrame({"accuracy": [0.5, 1.0], "entropy": [1.0, 0.0], "bits": [1.3, 0.0]})
    table = figures.bits(compression, learners).table
    assert table.predictions.value_counts().to_dict() == {"made up": 2} | dict.fromkeys(learners.setting, 1)


def estimation() -> tuple[pd.DataFrame, pd.DataFrame]:
    measured = pd.DataFrame({"part": ["masks", "masks", "all pairs"], "n": [10, 20, 10], "seconds": [1.0, 2.0, 3.0]})
    far = pd.DataFrame(
        {"part": ["masks", "all pairs"], "seconds": [100.0, 900.0], "low": [50.0, 90.0], "high": [200.0, 9e3]}
    )
    return measured, far


def test_the_far_end_of_a_line_is_what_was_extrapolated():
    table = figures.estimation_time(*estimation(), n=1000).table
    far = table[table.kind == "extrapolated"].set_index("part")
    assert far.n.unique().tolist() == [1000] and far.low["masks"] == 50 and far.seconds["all pairs"] == 900
    assert (table.kind == "measured").sum() == 3


def test_all_figures_can_be_drawn(learners):
    training = pd.DataFrame({"pixels": [32, 64, 224], "operations": [1e18, 4e18, 5e19]})
    compression = pd.DataFrame({"accuracy": [0.5, 1.0], "entropy": [1.0, 0.0], "bits": [1.3, 0.0]})
    made = [figures.rates(learners), figures.hours(training, 6e13), figures.bits(compression, learners)]
    made.append(figures.estimation_time(*estimation(), n=1000))
    for figure in made:
        assert drawn(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (60000, "60,000"),
        (8.245e19, "8.24 × 10¹⁹"),
        (2.5e-5, "2.50 × 10⁻⁵"),
        (float("nan"), "–"),
        (0.9681, "0.9681"),
        (18260.4, "18,260"),
        (0, "0"),
    ],
)
def test_numbers_of_tables_are_read_without_counting_zeros(value, text):
    assert figures.shown(value) == text
