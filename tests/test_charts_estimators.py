"""Figures of the estimators' chapter: what they count and compute is right, and they are drawn from small tables."""

import numpy as np
import pandas as pd
import pytest

from study import estimators
from study.charts import estimators as figures
from study.charts import raster, specification


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


def correlation_of_halves(half: int, lasting: float, common: float, rng: np.random.Generator) -> float:
    """Of two estimates of a quantity of variance 1: each with errors of variance 20 / half and with one that more trials do
    not lessen, and both with a common one; ``lasting`` and ``common`` are standard deviations."""
    truth = rng.normal(size=20_000) + rng.normal(0, common, 20_000)
    spread = np.sqrt(20 / half + lasting**2)
    first, second = (truth + rng.normal(0, spread, 20_000) for _ in range(2))
    return np.corrcoef(first, second)[0, 1]


@pytest.mark.parametrize(("lasting", "common", "holds"), [(0.0, 0.0, True), (0.3, 0.0, False), (0.0, 0.7, True)])
def test_agreement_is_foretold_where_errors_average_out_and_says_nothing_of_those_that_halves_share(lasting, common, holds):
    rng = np.random.default_rng(0)
    small, large = (correlation_of_halves(half, lasting, common, rng) for half in (10, 640))
    assert (abs(figures.spearman_brown(small, 64) - large) < 0.01) == holds


def settling(trials=(25, 100, 400)) -> pd.DataFrame:
    """Two repeats, alike but for their counts: halves that agree as errors of variance 5 / half on variance 1 make them."""
    rows = [
        {
            "trials": t,
            "repeat": repeat,
            "half": t // 2,
            "memorization_pearson": 1 / (1 + 5 / (t // 2)),
            "memorization_rmse": (t // 2) ** -0.5,
            "mean_std_error": 2 / t,
            "pairs": 1000 // t + repeat,
            "null_pairs": 200 // t * repeat,
        }
        for t in trials
        for repeat in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("wanted", "found"), [(100, 100), (399, 100), (10, 25), (9999, 400)])
def test_the_pilot_is_the_largest_run_within_the_wanted_number_of_trials(wanted, found):
    assert figures.pilot_of(settling(), wanted).name == found


def test_predicted_agreement_passes_through_the_pilot_and_meets_all_other_points():
    table = figures.settling_reliability({"toy": settling()}, 100).table
    predicted, measured = (table[table.kind == kind] for kind in ("predicted", "measured"))
    at = np.interp(measured.half, predicted.half, predicted.correlation)
    assert at == pytest.approx(measured.correlation, abs=0.005)
    assert len(measured) == 6


def test_another_pilot_draws_another_line():
    table = settling()
    table.loc[table.trials == 100, "memorization_pearson"] = 0.5
    lines = [figures.settling_reliability({"toy": table}, pilot).table for pilot in (25, 100)]
    assert [line[line.kind == "predicted"].correlation.iloc[-1] for line in lines] == pytest.approx([200 / 205, 0.8])


def test_counts_of_pairs_stand_with_their_mean_and_none_can_be_drawn():
    figure = figures.settling_pairs({"toy": settling()})
    rows = figure.table[(figure.table.trials == 400) & (figure.table.kind == "found")]
    assert rows["count"].tolist() == [2, 3] and set(rows["mean"]) == {2.5}
    assert (figure.table["count"] == 0).any()
    assert raster(specification(figure)).startswith(b"\x89PNG")


def test_measured_errors_stand_at_the_trials_of_a_half_and_stated_ones_at_all():
    table = figures.settling_errors({"toy": settling()}, 100, 0.7).table
    errors = {kind: rows.set_index("trials").error for kind, rows in table.groupby("kind")}
    assert errors["root mean square, measured"].loc[200].tolist() == pytest.approx([200**-0.5] * 2)
    assert errors["mean stated"].loc[400].tolist() == pytest.approx([2 / 400] * 2)
    law, bound = errors["falls as one over the square root"], errors["worst binomial"]
    assert law.to_numpy() == pytest.approx(law.index.to_numpy() ** -0.5)
    assert bound.iloc[-1] == pytest.approx(estimators.binomial_bound(400, 0.7) ** 0.5)
