"""Planted truths: what was put into the data comes out, within the standard errors that are reported with it.

Ten in a hundred too much or too little in the standard errors would be seen here: over thousands of examples the root
mean square of (estimate - truth) / standard error has to be one.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study import estimators, subsets
from study.data import Data
from study.estimators import Estimates, estimate
from study.learners import NearestNeighbour, nearest_neighbour

T, N, RATIO = 1000, 2000, 0.7


@pytest.fixture(scope="module")
def planted() -> tuple[Estimates, np.ndarray]:
    """Each example is right with one probability inside the subset and another outside; memorization is from -0.3 to 0.9."""
    draw = np.random.default_rng(1)
    outside = draw.uniform(0.05, 0.9, N)
    inside = draw.uniform(np.maximum(outside - 0.3, 0.05), 0.95)
    members = subsets.members(8, range(T), N, RATIO)
    correct = draw.random((T, N)) < np.where(members, inside, outside)
    return estimate(members, correct), inside - outside


def z_scores(found, truth, error) -> np.ndarray:
    return (np.asarray(found) - truth) / np.asarray(error)


def check_calibration(z: np.ndarray, rms: tuple[float, float] = (0.93, 1.07)) -> None:
    """No bias, errors of the size that is claimed, one in twenty beyond 1.96, none far out."""
    independent = len(z)
    assert abs(z.mean()) < 4 / independent**0.5
    assert rms[0] < np.sqrt(np.mean(z**2)) < rms[1]
    assert abs(np.mean(np.abs(z) > 1.96) - 0.05) < 4 * (0.05 * 0.95 / independent) ** 0.5
    assert np.abs(z).max() < 5


def test_planted_memorization_is_recovered_within_its_standard_errors(planted):
    found, truth = planted
    check_calibration(z_scores(found.memorization.mem, truth, found.memorization.std_error))


def test_standard_errors_stay_honest_with_few_trials(planted):
    """From 50 trials, about 15 of them without the example, they are within a tenth of the truth."""
    found, truth = planted
    groups = [estimators.part(found, np.arange(start, start + 50)).memorization for start in range(0, T, 50)]
    z = np.concatenate([z_scores(frame.mem, truth, frame.std_error) for frame in groups])
    assert 0.9 < np.sqrt(np.mean(z**2)) < 1.1
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98


def test_the_error_of_a_planted_estimate_lies_below_the_bound_of_lemma_2_1(planted):
    found, truth = planted
    squared = np.mean((found.memorization.mem - truth) ** 2)
    assert squared == pytest.approx(np.mean(found.memorization.std_error**2), rel=0.1)
    assert estimators.mean_squared_error(found, 100) < estimators.lemma_bound(100, RATIO)
    assert squared < estimators.binomial_bound(T, RATIO) < estimators.lemma_bound(T, RATIO)


# influence


@pytest.fixture(scope="module")
def linked() -> tuple[Estimates, np.ndarray]:
    """Sixty examples; test z depends on example z alone, and by 0.6, 0.3 or not at all.

    All others have the influence -infl / (n - 1) on it: where they are in, there is one place less for example z.
    """
    draw, t, n = np.random.default_rng(2), 4000, 60
    strength = np.tile([0.6, 0.3, 0.0], 20)
    members = subsets.members(9, range(t), n, RATIO)
    probability = 0.3 + strength * members
    test, train = (draw.random((t, n)) < probability for _ in range(2))
    truth = np.where(np.eye(n, dtype=bool), strength, -strength / (n - 1))
    return estimate(members, train, test, np.zeros(n), np.zeros(n)), truth


def test_planted_influence_is_recovered_within_its_standard_errors(linked):
    found, truth = linked
    infl, error = found.influence()
    check_calibration(z_scores(infl, truth, error).ravel(), rms=(0.95, 1.05))


def test_the_planted_pairs_are_found_and_no_other(linked):
    pairs = linked[0].pairs(0.2, 0.15)
    assert sorted(zip(pairs.train, pairs.test)) == [(i, i) for i in range(60) if i % 3 < 2]


def test_permuted_rows_give_no_pairs(linked):
    found, rng = linked[0], np.random.default_rng(0)
    for _ in range(5):
        null = estimators.permuted(found, rng)
        assert null.memorization.mem.abs().max() < 0.1
        assert null.pairs(0.2, 0.15).empty
        assert found.pairs(0.2, 0.15, influence_of=null).empty


def test_columns_in_another_order_than_the_masks_lose_the_truth(planted):
    """What a shuffled evaluation does: the histogram looks right and the correlation with the truth is nil."""
    found, truth = planted
    shuffled = found.train_correct[:, np.random.default_rng(0).permutation(N)]
    lost = estimate(found.members, shuffled).memorization.mem
    assert np.corrcoef(found.memorization.mem, truth)[0, 1] > 0.98
    assert abs(np.corrcoef(lost, truth)[0, 1]) < 0.1


# a learner with a closed form


@pytest.fixture(scope="module")
def nearest(digits) -> tuple[Estimates, Data, int]:
    """Two thousand nearest-neighbour models on 80 digits, with 400 tests: few enough to be wrong about many."""
    parts = digits.x_train[:80], digits.y_train[:80], digits.x_test[:400], digits.y_test[:400]
    data, t = Data("some digits", *parts, digits.classes), 2000
    members = subsets.members(3, range(t), 80, RATIO)
    labels = NearestNeighbour(models_at_once=t).fit_predict(data, members, [])
    found = estimate(members, labels[0] == data.y_train, labels[1] == data.y_test, data.y_train, data.y_test)
    return found, data, subsets.subset_size(80, RATIO)


def test_memorization_by_the_nearest_neighbour_meets_its_closed_form(nearest):
    found, data, m = nearest
    truth, frame = nearest_neighbour.memorization(data, m), found.memorization
    assert np.ptp(truth) > 0.9, "from none to all"
    z = z_scores(frame.mem, truth, frame.std_error)
    assert np.abs(z).max() < 4
    unsettled = frame.out_accuracy.between(0.02, 0.98)
    assert unsettled.sum() > 15 and 0.6 < np.sqrt(np.mean(z[unsettled] ** 2)) < 1.4


def test_influence_through_the_nearest_neighbour_meets_its_closed_form(nearest):
    found, data, m = nearest
    truth = nearest_neighbour.influence(data, m)
    infl, error = found.influence()
    z = z_scores(infl, truth, error)
    assert truth.max() > 0.5 and np.abs(z).max() < 5
    accuracy = found.test_correct.mean(0)
    unsettled = (accuracy > 0.02) & (accuracy < 0.98)
    assert unsettled.sum() > 80 and 0.95 < np.sqrt(np.mean(z[:, unsettled] ** 2)) < 1.05


def test_pairs_of_the_nearest_neighbour_are_those_of_the_closed_form(nearest):
    """All that the closed form puts clear of the threshold are found, and none that it puts clear below."""
    found, data, m = nearest
    truth = nearest_neighbour.influence(data, m)
    pairs = found.pairs(-1, 0.15, same_class=False)
    positive = pairs[pairs.infl > 0]
    chosen = set(zip(positive.train, positive.test))
    certain, possible = (set(zip(*np.nonzero(truth >= limit))) for limit in (0.25, 0.05))
    assert len(certain) > 20 and certain <= chosen <= possible


# the average


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(st.integers(1, n - 1), arrays(bool, (n, n)))))
def test_mean_memorization_is_the_gap_between_accuracy_inside_and_outside(case):
    """Exactly, in a design where every example is in equally often: trial k sees m neighbours on a circle, from k on."""
    m, correct = case
    n = len(correct)
    members = (np.arange(n) - np.arange(n)[:, None]) % n < m
    gap = correct[members].mean() - correct[~members].mean()
    assert estimate(members, correct).memorization.mem.mean() == pytest.approx(gap, abs=1e-12)


def test_mean_memorization_is_the_gap_for_random_subsets_too(planted):
    """Where n_in varies, the gap weights the examples by it: exact with these weights, close without."""
    found, _ = planted
    frame, members, correct = found.memorization, found.members, found.train_correct
    inside, outside = correct[members].mean(), correct[~members].mean()
    assert np.average(frame.in_accuracy, weights=frame.n_in) == pytest.approx(inside, abs=1e-12)
    assert np.average(frame.out_accuracy, weights=frame.n_out) == pytest.approx(outside, abs=1e-12)
    assert frame.mem.mean() == pytest.approx(inside - outside, abs=2e-3)
