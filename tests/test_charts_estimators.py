"""Figures of the estimators' chapter: what they count and compute is right, and they are drawn from small tables."""

import numpy as np
import pandas as pd
import pytest

from study import estimators
from study.charts import estimators as figures
from study.charts import specification


@pytest.fixture(scope="module")
def noise():
    """Estimates from results that have nothing to do with the masks: memorization and influence are zero in truth."""
    rng = np.random.default_rng(4)
    members = rng.random((400, 30)).argsort(1) < 21
    train, test = rng.random((400, 30)) < 0.5, rng.random((400, 80)) < 0.5
    return estimators.estimate(members, train, test, np.zeros(30, int), np.zeros(80, int))


def test_the_histogram_of_z_scores_is_a_density_that_counts_far_values_in_its_last_bars():
    table = figures.calibration(np.array([-9.0, -0.1, 0.1, 0.2, 0.7, 30.0])).table
    assert (table.density * (table.high - table.low)).sum() == pytest.approx(1)
    assert table.density.iloc[0] == table.density.iloc[-1] == pytest.approx(1 / 6 / 0.5)
    assert table.set_index("low").density[0.0] == pytest.approx(2 / 6 / 0.5)


def test_every_influence_is_counted_once_in_the_tails():
    measured, permuted = np.array([-1.0, -0.15, 0.0, 0.04, 1.0]), np.array([0.0, 0.01])
    table = figures.influence_tails(measured, permuted, 0.15).table
    assert table.groupby("kind")["count"].sum().to_dict() == {"measured": 5, "rows permuted": 2}


def test_pairs_selected_from_noise_keep_their_influence_only_where_they_were_selected(noise):
    table = figures.winners_curse(noise, 0.0, 0.15).table.set_index("trials")
    assert list(table.index) == [50, 100, 200]
    assert (table.where_selected > 0.15).all() and (table.pairs > 30).all()
    assert (table.afresh.abs() < 0.05).all()


def test_a_point_of_the_split_half_plot_needs_an_estimate_on_both_sides():
    first, second = (pd.DataFrame({"index": [0, 1], "mem": mem}) for mem in ([0.2, np.nan], [0.3, 0.9]))
    assert figures.split_half(first, second).table["index"].tolist() == [0]


def test_error_bars_of_the_ground_truth_reach_two_standard_errors():
    columns = {"index": [7], "label": [3], "out_direct": [0.5], "out_loo": [0.6]}
    values = {"mem_estimate": [0.4], "mem_direct": [0.5], "mem_loo": [0.3]}
    truth = pd.DataFrame(columns | values | {f"{name}_se": [0.1] for name in values})
    drawn = specification(figures.leave_one_out(truth))["datasets"].values()
    rows = [{key: round(value, 9) for key, value in row.items()} for table in drawn for row in table if "y_low" in row]
    assert {(row["y"], row["y_low"], row["y_high"]) for row in rows} == {(0.5, 0.3, 0.7), (0.3, 0.1, 0.5)}
    assert {(row["x"], row["x_low"], row["x_high"]) for row in rows} == {(0.4, 0.2, 0.6)}
