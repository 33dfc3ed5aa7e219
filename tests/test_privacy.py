"""The bound that privacy puts on memorization: found again by search, attained by randomized response."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.theory import privacy

EPSILON = st.floats(0, 6)
DELTA = st.floats(0, 0.5)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 0.0), (1.0, 0.0), (1.0, 0.05), (3.0, 0.2), (0.0, 0.3)])
def test_a_search_over_all_private_pairs_of_probabilities_finds_no_more_than_the_bound_and_comes_close(epsilon, delta):
    p, q = np.meshgrid(*[np.linspace(0, 1, 2001)] * 2, indexing="ij")
    factor, slack = np.exp(epsilon), delta + 1e-12
    private = (p <= factor * q + slack) & (q <= factor * p + slack)
    private &= (1 - p <= factor * (1 - q) + slack) & (1 - q <= factor * (1 - p) + slack)
    most = (p - q)[private].max()
    bound = privacy.memorization_bound(epsilon, delta)
    assert bound - 2e-3 <= most <= bound + 1e-9


@given(EPSILON, DELTA)
def test_the_bound_never_exceeds_the_usual_one_nor_one(epsilon, delta):
    bound = privacy.memorization_bound(epsilon, delta)
    assert bound <= privacy.usual_bound(epsilon, delta) + 1e-12
    assert delta - 1e-12 <= bound <= 1 + 1e-12


@given(EPSILON, DELTA)
def test_the_least_epsilon_inverts_the_bound(epsilon, delta):
    mem = float(privacy.memorization_bound(epsilon, delta))
    assert privacy.least_epsilon(min(mem, 1.0), delta) == pytest.approx(epsilon, abs=1e-6)


def test_full_memorization_needs_an_infinite_epsilon_and_none_needs_none():
    assert privacy.least_epsilon(1.0) == np.inf
    assert privacy.least_epsilon(0.0) == 0
    assert privacy.least_epsilon(0.01, delta=0.05) == 0


def test_randomized_response_attains_the_bound_and_does_not_pass_it():
    rng = np.random.default_rng(0)
    for epsilon in (0.2, 1.0, 2.5):
        mem, error = privacy.randomised_response(epsilon, 200_000, rng)
        assert abs(mem - privacy.memorization_bound(epsilon)) < 4 * error
        assert error < 0.005


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_where_the_label_cannot_be_guessed_less_is_allowed_and_the_definition_still_holds(classes):
    epsilon = np.linspace(0, 6, 61)
    mem = privacy.guessing_bound(epsilon, classes)
    p, q = mem + 1 / classes, 1 / classes
    assert (mem <= privacy.memorization_bound(epsilon) + 1e-12).all()
    assert (p <= np.exp(epsilon) * q + 1e-12).all() and (1 - q <= np.exp(epsilon) * (1 - p) + 1e-12).all()
    either = np.isclose(p, np.exp(epsilon) * q) | np.isclose(1 - q, np.exp(epsilon) * (1 - p))
    assert either.all()


@pytest.mark.parametrize(("epsilon", "delta"), [(0.3, 0.1), (1.0, 0.3), (2.0, 0.02)])
def test_randomized_response_that_sometimes_gives_the_truth_away_attains_the_bound_with_delta(epsilon, delta):
    mem, error = privacy.randomised_response(epsilon, 200_000, np.random.default_rng(1), delta)
    assert abs(mem - privacy.memorization_bound(epsilon, delta)) < 4 * error
    assert mem > privacy.memorization_bound(epsilon) + error


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.0), (1.0, 0.05), (3.0, 0.2)])
def test_what_is_fitted_given_what_is_known_without_it_never_exceeds_the_bound_and_touches_it(epsilon, delta):
    without = np.linspace(0, 1, 4001)
    fitted = privacy.fitting_bound(epsilon, delta, without)
    assert (fitted - without).max() == pytest.approx(privacy.memorization_bound(epsilon, delta), abs=1e-3)
    assert (fitted - without).max() <= privacy.memorization_bound(epsilon, delta) + 1e-12
    assert privacy.fitting_bound(epsilon, 0.0, 0.1) - 0.1 == pytest.approx(privacy.guessing_bound(epsilon, 10))


@given(st.floats(0.01, 1.5), st.floats(0, 1e-3), st.integers(1, 6))
def test_group_privacy_is_the_definition_used_once_a_copy(epsilon, delta, copies):
    chance = 0.003
    most = chance
    for _ in range(copies):
        most = np.exp(epsilon) * most + delta
    group = privacy.group_privacy(epsilon, delta, copies)
    assert np.exp(group[0]) * chance + min(1.0, group[1]) == pytest.approx(most) or group[1] == 1.0


def test_group_privacy_of_many_copies_promises_nothing_once_delta_has_grown_to_one():
    assert privacy.group_privacy(1.0, 1e-5, 16) == (16.0, 1.0)
    assert privacy.group_privacy(1.0, 0.0, 16) == (16.0, 0.0)


def test_senseless_arguments_are_refused():
    for call in (lambda: privacy.memorization_bound(-1.0), lambda: privacy.usual_bound(1.0, 2.0)):
        with pytest.raises(ValueError, match="epsilon >= 0"):
            call()
    with pytest.raises(ValueError, match="mem is"):
        privacy.least_epsilon(1.2)
    with pytest.raises(ValueError, match="copies is 0"):
        privacy.group_privacy(1.0, 0.0, 0)
    with pytest.raises(ValueError, match="a probability is needed"):
        privacy.fitting_bound(1.0, 0.0, 1.1)
