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


def test_senseless_arguments_are_refused():
    for call in (lambda: privacy.memorization_bound(-1.0), lambda: privacy.usual_bound(1.0, 2.0)):
        with pytest.raises(ValueError, match="epsilon >= 0"):
            call()
    with pytest.raises(ValueError, match="mem is"):
        privacy.least_epsilon(1.2)
