"""Sub-populations in R^d: limits with closed forms, and couplings that are planted."""

import numpy as np
import pandas as pd
import pytest

from study import params
from study.theory import long_tail
from study.theory import mixtures as mx

NETWORK = {
    "widths": [16],
    "epochs": 10,
    "batch_size": 10,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "warm_up": 0.1,
    "weight_decay": 0.0,
    "models_at_once": 10,
}
TOY = {
    "points": 40,
    "n": 40,
    "labels": 5,
    "dimension": 10,
    "fresh": 3,
    "noises": [0.0, 0.5],
    "worlds": 4,
    "prior_draws": 50,
    "penalty": 0.01,
    "network": NETWORK,
    "stopped": 2,
    "network_seed": 0,
}


def section(**changed) -> params.Mixtures:
    return params.Mixtures(**TOY | changed)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def world(noise: float, seed: int = 0, **changed) -> mx.World:
    return mx.draw(section(**changed), noise, generator(seed))


def test_a_world_has_as_many_vectors_of_each_sub_population_as_were_counted():
    one = world(0.5)
    assert (np.bincount(one.group, minlength=40) == one.counts).all() and one.counts.sum() == 40
    assert (one.seen == np.flatnonzero(one.counts)).all()
    assert one.frequencies.sum() == pytest.approx(1)
    assert one.inputs().shape == (40 + 3 * len(one.seen), 10)


def test_noise_moves_vectors_along_fixed_directions_and_nothing_else():
    still, moved, further = (world(noise) for noise in (0.0, 0.5, 1.0))
    assert (still.counts == moved.counts).all() and (still.labels == moved.labels).all()
    np.testing.assert_allclose(further.x - still.x, 2 * (moved.x - still.x))
    assert (moved.x - still.x).std() == pytest.approx(0.5, rel=0.15)
    assert np.ptp(still.fresh, axis=1).max() == 0


def test_without_noise_one_nearest_neighbour_is_the_memorizer_of_the_discrete_world():
    one = world(0.0)
    found = mx.outcome(one, mx.nearest(one))
    assert not found.misfit.any() and not found.error.any() and (found.agree == 1).all()


def test_without_noise_refusing_singletons_costs_tau_1_for_each_misfit():
    one = section(noises=[0.0, 1.0], worlds=60, points=100, n=100, prior_draws=2000, labels=2)
    table = mx.run(one.model_copy(update={"noises": (0.0,)}), 0).set_index("learner")
    row = table.loc["1-NN without singletons"]
    assert row["lambda"] == pytest.approx(1) and row.bound == pytest.approx(row.discrete)
    assert row.excess > 10 * row.excess_se / 3 and abs(row.off) < 4 * row.off_se
    assert table.excess["1 nearest neighbour"] == 0


def test_overwhelming_noise_leaves_chance():
    found = [world(1e6, seed, dimension=30, fresh=20) for seed in range(10)]
    error = np.mean([mx.outcome(one, mx.nearest(one)).error.mean() for one in found])
    shares = [np.bincount(one.y, minlength=5) / 40 for one in found]
    expected = np.mean([1 - share[one.labels[one.seen]].mean() for one, share in zip(found, shares)])
    assert error == pytest.approx(expected, abs=0.04)


def test_three_neighbours_outvote_a_singleton_unless_they_all_differ():
    x = np.array([[0.0], [1.0], [1.1], [10.0], [11.0], [12.5]])
    labels = np.array([0, 1, 1, 2, 3, 4])
    made = mx.World(x, np.arange(6), x[:, None] + 0.01, np.arange(6), labels, np.ones(6, int), np.full(6, 1 / 6))
    assert mx.nearest(made, 3)[:6].tolist() == [1, 1, 1, 2, 3, 4]


def test_refused_sub_populations_are_left_out_of_the_sample():
    one = world(0.1)
    predicted = mx.nearest(one, refused=1)
    kept = set(one.y[one.counts[one.group] > 1])
    assert set(predicted) <= kept
    many = one.counts[one.group] > 1
    assert (predicted[: len(one.x)][many] == one.y[many]).all()


def test_the_contrary_learner_misfits_everything_and_loses_nothing():
    one = world(0.05)
    found = mx.outcome(one, mx.contrary(one, 5))
    assert (found.misfit == 1).all() and not found.error.any() and not found.carried.any() and not found.both.any()


def test_ridge_is_least_squares_and_fits_what_it_has_room_for():
    wide = world(0.3, dimension=60)
    assert (mx.ridge(wide, 1e-9, 5)[:40] == wide.y).all()
    assert (mx.ridge(wide, 1e9, 5) == np.bincount(wide.y, minlength=5).argmax()).all()


def test_each_network_sees_its_own_world_only():
    worlds, learner = [world(0.2, seed) for seed in (1, 2)], section().network.model_copy(update={"epochs": 60})
    together = mx.networks(worlds, learner, 5, 0)
    alone = mx.networks(worlds[:1], learner, 5, 0)
    assert (together[0] == alone[0]).all()
    assert all((labels[:40] == one.y).mean() > 0.9 for labels, one in zip(together, worlds))


def test_an_outcome_counts_pairs_of_seen_and_fresh_vectors():
    x, labels = np.zeros((3, 1)), np.array([0, 1])
    made = mx.World(x, np.array([0, 0, 1]), np.zeros((2, 2, 1)), np.array([0, 1]), labels, np.array([2, 1]), np.full(2, 0.5))
    found = mx.outcome(made, np.array([0, 2, 1, 2, 1, 1, 0]))
    np.testing.assert_allclose(found.misfit, [0.5, 0])
    np.testing.assert_allclose(found.error, [1, 0.5])
    np.testing.assert_allclose(found.carried, [0.25, 0])
    np.testing.assert_allclose(found.both, [0.5, 0])
    np.testing.assert_allclose(found.agree, [0.25, 0.5])


@pytest.fixture(scope="module")
def stage() -> pd.DataFrame:
    return mx.run(section(points=100, n=100, worlds=30, prior_draws=1000, noises=[0.05, 0.5, 2.0], dimension=20), 1)


def test_the_loss_priced_by_tau_is_the_loss_for_every_learner_and_noise(stage):
    known = stage[stage.off_se > 0]
    assert len(known) >= 15
    assert (known.off.abs() < 4 * known.off_se).all()


def test_the_bound_with_measured_coupling_is_kept_and_its_parts_are_ordered(stage):
    assert (stage.gap > -4 * stage.gap_se.fillna(0) - 1e-12).all()
    assert (stage.bound <= stage.both + 1e-12).all() and (stage.both <= stage.expected + 1e-12).all()
    assert (stage.bound <= stage.discrete + 1e-12).all()
    assert ((stage["lambda"].dropna() >= 0) & (stage["lambda"].dropna() <= 1)).all()


def test_assuming_full_coupling_fails_for_the_contrary_learner_alone(stage):
    broken = stage[stage.learner == mx.CONTRARY].iloc[0]
    assert broken["lambda"] == 0 and broken.assumed < -20 * broken.assumed_se
    others = stage[(stage.learner != mx.CONTRARY) & (stage.noise == 0.05)]
    assert (others.assumed > -4 * others.assumed_se.fillna(0) - 1e-12).all()


def test_coupling_fades_as_sub_populations_spread(stage):
    for learner in ("1-NN without singletons", "ridge"):
        values = stage[stage.learner == learner].sort_values("noise")
        assert values.agreement.is_monotonic_decreasing
        assert values["lambda"].iloc[0] > 0.6 > 0.4 > values["lambda"].iloc[-1]


def test_refusing_singletons_costs_where_vectors_resemble_their_cluster_and_not_where_they_do_not(stage):
    rows = stage[stage.learner == "1-NN without singletons"].set_index("noise")
    assert rows.beyond[0.05] > 5 * rows.beyond_se[0.05]
    assert rows.beyond[2.0] < rows.beyond[0.05] / 3
    assert (stage[stage.learner == "1 nearest neighbour"].beyond == 0).all()


def test_the_summary_says_what_the_table_says(stage):
    summary = mx.summary(stage)
    row = stage[(stage.learner == "1-NN without singletons") & (stage.noise == 0.05)].iloc[0]
    assert summary["noise"] == 0.05 and summary["refuses"]["excess"] == {"value": row.excess, "std_error": row.excess_se}
    assert summary["contrary"]["bound"]["value"] == 0 and summary["largest_z"] < 4


def test_the_same_seed_gives_the_same_table_and_another_seed_another():
    one, two, other = (mx.run(section(), seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert not one.equals(other)


CHANGED = {
    "points": 50,
    "n": 50,
    "labels": 4,
    "dimension": 12,
    "fresh": 4,
    "noises": [0.0, 0.7],
    "worlds": 5,
    "prior_draws": 60,
    "penalty": 1.0,
    "network": NETWORK | {"epochs": 20},
    "stopped": 4,
    "network_seed": 1,
}


@pytest.mark.parametrize("name", TOY)
def test_every_parameter_changes_something(name):
    assert set(TOY) == set(CHANGED) == set(params.Mixtures.model_fields)
    assert not mx.run(section(), 0).equals(mx.run(section(**{name: CHANGED[name]}), 0))


def test_a_network_stopped_after_its_end_is_refused():
    with pytest.raises(ValueError, match="below the 10 epochs"):
        section(stopped=10)


def test_prices_are_those_of_the_discrete_theorem():
    known = long_tail.tau(long_tail.marginal(long_tail.Prior("zipf", 40), 50, generator()), 40, np.arange(1, 41))
    one = world(0.0)
    none = mx.Outcome(*(np.zeros(len(one.seen)) for _ in range(5)))
    row = mx.compare([one, one], [none, none._replace(error=np.ones(len(one.seen)))], known, 5)
    missing = 1 - one.frequencies[one.seen].sum()
    assert row["opt"] == pytest.approx(0.8 * missing) and row["excess"] == pytest.approx((1 - missing) / 2)
    assert row["expected"] == pytest.approx(known.table()[one.counts[one.seen]].sum() / 2)
