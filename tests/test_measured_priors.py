"""Prices of singletons at any size, and from counts alone: closed forms, exact small worlds, planted priors."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from study import params
from study.theory import long_tail
from study.theory import measured_priors as mp

GROWTH = {
    "sizes": [200, 1000],
    "fixed_points": 50,
    "exponent": 2.0,
    "control_ratio": 10,
    "head_points": 20,
    "tail_far": 0.001,
    "draws": 20,
}
MEASURED = {"data": ["digits"], "examples": 400, "sides": [4, 6], "level": 0.25, "repeats": 2, "longest": 3}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def z(quantity: dict, truth: float) -> float:
    return abs(quantity["value"] - truth) / quantity["std_error"]


# --- growth ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("points", "n"), [(50, 50), (100, 1000), (10**6, 10**6)])
def test_under_a_uniform_list_every_quantity_is_a_binomial_probability(points, n):
    found = mp.singletons(np.ones(points), n, 2, generator())
    assert found["share"]["value"] == pytest.approx((1 - 1 / points) ** (n - 1))
    assert found["n_tau1"]["value"] == pytest.approx(n / points)
    assert found["cost"]["std_error"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("prior", [long_tail.Prior("zipf", 4), long_tail.Prior("gap", 4, 1, 0.1)])
def test_drawing_the_sum_of_the_others_gives_the_average_over_all_worlds(prior):
    n, worlds = 9, long_tail.every_world(prior)
    found = mp.singletons(prior.frequencies(), n, 4000, generator())
    assert z(found["share"], (worlds * (1 - worlds) ** (n - 1)).sum(axis=1).mean()) < 4
    assert z(found["cost"], n * (worlds**2 * (1 - worlds) ** (n - 1)).sum(axis=1).mean()) < 4
    assert z(found["n_tau1"], n * long_tail.tau(worlds, n, [1]).value[0]) < 4


def test_the_sum_over_values_agrees_with_drawn_frequencies_and_is_far_more_exact():
    prior = long_tail.Prior("zipf", 2000)
    drawn = long_tail.tau(long_tail.marginal(prior, 40, generator(1)), 2000, [1])
    found = mp.singletons(prior.frequencies(), 2000, 40, generator(2))["n_tau1"]
    error = np.hypot(found["std_error"], 2000 * drawn.std_error[0])
    assert abs(found["value"] - 2000 * drawn.value[0]) < 4 * error


def test_a_list_with_few_values_is_counted_and_gives_what_drawing_gives(monkeypatch):
    listed = mp.gap(300, 30, 0.3)
    counted = mp.singletons(listed, 300, 300, generator(1))["cost"]
    monkeypatch.setattr(mp, "FEW", 1)
    drawn = mp.singletons(listed, 300, 300, generator(2))["cost"]
    assert abs(counted["value"] - drawn["value"]) < 4 * np.hypot(counted["std_error"], drawn["std_error"])


@pytest.mark.parametrize("exponent", [1.7, 2.0, 3.0])
def test_a_power_law_has_the_limit_one_minus_one_over_its_exponent(exponent):
    found = mp.singletons(mp.power_law(200_000, exponent), 50_000, 40, generator())["n_tau1"]
    assert found["value"] == pytest.approx(1 - 1 / exponent, abs=0.015)


def test_the_leading_order_for_zipf_comes_closer_as_the_list_grows():
    off = []
    for n in (100, 10_000, 1_000_000):
        frequencies = mp.power_law(n, 1.0) / mp.power_law(n, 1.0).sum()
        exact = n * long_tail.tau(frequencies[None], n, [1]).value[0]
        off.append(abs(mp.zipf_limit(n) / exact - 1))
    assert off[0] > off[1] > off[2] and off[2] < 0.002


def test_where_the_world_does_not_grow_the_cost_vanishes_and_the_price_does_not():
    table = mp.growth(params.GrowingWorlds(**GROWTH), 0).set_index(["case", "n"]).sort_index()
    assert table.cost["fixed", 1000] < table.cost["fixed", 200] / 2
    assert table.n_tau1["fixed", 1000] > table.n_tau1["fixed", 200] > 1
    controls = table[table.control]
    assert len(controls) == 4 and (controls.cost.loc[:, 1000] < 0.001).all()
    assert (table[~table.control].cost.drop("fixed").loc[["zipf", "uniform"]] > 0.05).all()


# --- measured priors ---------------------------------------------------------------------------------------


def test_a_code_says_which_cells_are_inked():
    pictures = np.zeros((3, 4, 4))
    pictures[0, :2, :2] = 1
    pictures[1, :2, :2] = 0.5
    pictures[2, 2:, :2] = 1
    first, second, third = mp.codes(pictures, 2, 0.25)
    assert first == second != third
    strict = mp.codes(pictures, 2, 0.75)
    assert strict[0] != strict[1]


def test_more_cells_than_pixels_are_refused():
    with pytest.raises(ValueError, match="at most 4 cells"):
        mp.codes(np.zeros((1, 4, 4)), 5, 0.25)


def test_cells_need_not_divide_the_picture():
    pictures = generator().random((20, 7, 7))
    assert len(np.unique(mp.codes(pictures, 7, 0.5))) == 20
    assert len(np.unique(mp.codes(np.ones((5, 7, 7)), 3, 0.5))) == 1


def test_goods_rule_is_the_ratio_of_numbers_of_kinds():
    counts = np.array([1, 1, 1, 1, 2, 2, 3])
    expected = [2 * 2 / (11 * 4), 3 * 1 / (11 * 2), 0.0]
    np.testing.assert_allclose(mp.good_turing(counts, 3), expected)
    assert np.isnan(mp.good_turing(counts, 4)[3])


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of a world with 200 heavy points and 2,000 rare ones, and the frequencies."""
    frequencies = np.repeat([0.6 / 200, 0.4 / 2000], [200, 2000])
    return generator(seed).multinomial(n, frequencies), frequencies


def test_the_fitted_prior_finds_a_planted_one_from_counts_alone():
    n = 4000
    counts, frequencies = planted(n, 3)
    prior = mp.fitted_prior(counts[counts > 0])
    truth = long_tail.tau(frequencies[None], n, [1, 2]).value
    np.testing.assert_allclose(prior.tau(n, [1, 2]), truth, rtol=0.12)
    assert prior.weight(1 / (3 * n), 2 / n) == pytest.approx(0.4, abs=0.06)
    unseen = 1 - (prior.frequency * prior.points * -np.expm1(n * np.log1p(-prior.frequency))).sum()
    assert unseen == pytest.approx((frequencies * (1 - frequencies) ** n).sum(), abs=0.03)


def test_prices_of_the_posterior_under_a_known_prior_are_bayes_rule():
    prior = mp.FittedPrior(np.array([0.01, 0.2]), np.array([30.0, 3.0]))
    chance = binom.pmf(2, 20, prior.frequency) * prior.points
    assert prior.tau(20, [2])[0] == pytest.approx((chance @ prior.frequency) / chance.sum())


def test_the_other_half_measures_the_price_that_the_prior_has():
    counts, frequencies = planted(12_000, 4)
    points = np.repeat(np.arange(len(counts)), counts)
    tables = [mp.prices(points, *mp.split(points, generator(seed)), 3) for seed in range(6)]
    measured = np.mean([table.measured for table in tables], axis=0)
    truth = 6000 * long_tail.tau(frequencies[None], 6000, [1, 2, 3]).value
    np.testing.assert_allclose(measured, truth, rtol=0.1)
    assert abs(tables[0].naive[2] / measured[2] - 1) > 0.5


def test_a_split_shares_no_example_and_halves_are_equal():
    one, two = mp.split(np.zeros(9), generator())
    assert len(one) == len(two) == 4 and not set(one) & set(two)


def test_refusing_singletons_costs_their_weight_in_the_fresh_half_when_labels_follow_from_codes():
    counts, _ = planted(12_000, 5)
    points = np.repeat(np.arange(len(counts)), counts)
    y = (points * 7919) % 10
    found = mp.refusal(points, y, *mp.split(points, generator()))
    assert found["excess"] == pytest.approx(found["certain"])
    assert 0.8 * found["again"] < found["excess"] < found["again"]
    useless = mp.refusal(points, generator(1).integers(10, size=len(points)), *mp.split(points, generator()))
    assert abs(useless["excess"]) < 0.02 < useless["certain"]


@pytest.fixture(scope="module")
def tables() -> dict:
    section = params.MeasuredPriors(**MEASURED | {"examples": 1797, "repeats": 4})
    return mp.measured(section, 0)


def test_digits_are_priced_by_their_own_counts(tables):
    once = tables["prices"].query("count == 1").set_index("side")
    assert (once.naive > once.measured + 4 * once.measured_se / 2).all()
    for rule in ("fitted", "good_turing"):
        assert ((once[rule] - once.measured).abs() < 4 * np.hypot(once.measured_se, once[f"{rule}_se"])).all()


def test_the_summary_reports_where_singletons_weigh_most(tables):
    growth = mp.growth(params.GrowingWorlds(**GROWTH), 0)
    summary = mp.summary(tables | {"growth": growth})
    worlds = tables["worlds"].set_index("side")
    assert summary["measured"]["digits"]["side"] == worlds.again.idxmax()
    assert summary["measured"]["digits"]["again"]["value"] == worlds.again.max()
    assert summary["growth"]["uniform"]["n_tau1"]["value"] == pytest.approx(1)
    assert summary["growth"]["zipf"]["n"] == 1000


CHANGED_GROWTH = {
    "sizes": [200, 2000],
    "fixed_points": 60,
    "exponent": 3.0,
    "control_ratio": 5,
    "head_points": 10,
    "tail_far": 0.01,
    "draws": 30,
}
CHANGED_MEASURED = {"data": ["digits", "digits"], "examples": 500, "sides": [5], "level": 0.4, "repeats": 3, "longest": 2}


@pytest.mark.parametrize("name", GROWTH)
def test_every_parameter_of_growth_changes_something(name):
    changed = GROWTH | {name: CHANGED_GROWTH[name]}
    before, after = (mp.growth(params.GrowingWorlds(**fields), 0) for fields in (GROWTH, changed))
    assert not before.equals(after)


@pytest.mark.parametrize("name", MEASURED)
def test_every_parameter_of_measured_priors_changes_something(name):
    found = [mp.measured(params.MeasuredPriors(**f), 0) for f in (MEASURED, MEASURED | {name: CHANGED_MEASURED[name]})]
    assert any(not found[0][table].equals(found[1][table]) for table in found[0])


def test_the_same_seed_gives_the_same_tables():
    one, two = (mp.measured(params.MeasuredPriors(**MEASURED), 0) for _ in range(2))
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name], check_exact=True)
    pd.testing.assert_frame_equal(*(mp.growth(params.GrowingWorlds(**GROWTH), 0) for _ in range(2)), check_exact=True)


@pytest.mark.parametrize("sizes", [[1000, 200], [15, 100], [200, 200]])
def test_sizes_that_leave_a_world_without_a_tail_are_refused(sizes):
    with pytest.raises(ValueError, match="ascend from at least 21"):
        params.GrowingWorlds(**GROWTH | {"sizes": sizes})
