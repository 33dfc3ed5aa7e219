"""Means, ratios and correlations carry the standard error that repetition shows."""

import numpy as np
import pytest

from study import quantities


def test_mean_has_the_standard_error_of_independent_values():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    found = quantities.mean(values)
    assert found["value"] == 3.0
    assert found["std_error"] == pytest.approx(np.sqrt(14 / 3 / 4))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_values_have_no_standard_error(values):
    assert np.isnan(quantities.mean(np.array(values))["std_error"])
    assert np.isnan(quantities.clustered_mean(np.array(values), np.zeros(len(values)))["std_error"])


def test_clusters_of_one_are_independent_values():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    assert quantities.clustered_mean(values, np.arange(4)) == pytest.approx(quantities.mean(values))


def test_repeating_every_value_in_its_cluster_adds_no_information():
    values = np.array([1.0, 2.0, 3.0, 6.0])
    repeated = quantities.clustered_mean(np.repeat(values, 5), np.repeat(np.arange(4), 5))
    assert repeated == pytest.approx(quantities.mean(values))


def test_a_constant_ratio_is_exact_however_much_the_parts_vary():
    whole = np.array([1.0, 5.0, 2.0, 8.0])
    assert quantities.ratio(0.3 * whole, whole) == pytest.approx({"value": 0.3, "std_error": 0.0}, abs=1e-12)


def test_standard_error_of_a_ratio_is_the_spread_of_repetitions():
    rng = np.random.default_rng(0)
    whole = rng.normal(2, 0.5, (2000, 100))
    part = 0.4 * whole + rng.normal(0, 0.2, whole.shape)
    found = [quantities.ratio(*sample) for sample in zip(part, whole)]
    spread = np.std([ratio["value"] for ratio in found])
    assert np.mean([ratio["std_error"] for ratio in found]) == pytest.approx(spread, rel=0.05)


def test_ratio_to_nothing_is_not_identified():
    assert np.isnan(quantities.ratio(np.ones(3), np.zeros(3))["value"])
    assert np.isnan(quantities.ratio(np.ones(0), np.ones(0))["value"])


def test_difference_adds_errors_in_quadrature():
    a, b = {"value": 5.0, "std_error": 0.3}, {"value": 1.0, "std_error": 0.4}
    assert quantities.difference(a, b) == pytest.approx({"value": 4.0, "std_error": 0.5})


def test_correlation_has_the_spread_that_repetition_shows():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(300, 200))
    b = a + rng.normal(size=a.shape)
    spread = np.std([np.corrcoef(*sample)[0, 1] for sample in zip(a, b)])
    found = quantities.correlation(a[0], b[0], 500, rng)
    assert found["value"] == pytest.approx(np.corrcoef(a[0], b[0])[0, 1])
    assert found["std_error"] == pytest.approx(spread, rel=0.3)


def test_a_null_in_a_table_is_not_a_number():
    value, error = quantities.known({"value": 0.5, "std_error": None})
    assert value == 0.5
    assert np.isnan(error)
