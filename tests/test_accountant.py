"""The accountant: against closed forms, integration, simulation, and an event that nearly attains what it allows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp, ndtr
from scipy.stats import binom, norm

from study.theory import accountant
from study.theory.accountant import Mechanism
from study.theory.private_memorization import attack

TYPICAL = Mechanism(0.1, 2.0, 50)


def gaussian(epsilon, shift):
    """delta(epsilon) of N(shift, 1) against N(0, 1)."""
    return ndtr(shift / 2 - epsilon / shift) - np.exp(epsilon) * ndtr(-shift / 2 - epsilon / shift)


def densities(mechanism: Mechanism, x: np.ndarray):
    """Those of one step with the example and without it."""
    k = np.arange(mechanism.copies + 1)
    weights = binom.pmf(k, mechanism.copies, mechanism.rate)
    return norm.pdf(np.subtract.outer(x, k), scale=mechanism.noise) @ weights, norm.pdf(x, scale=mechanism.noise)


def renyi(mechanism: Mechanism, delta: float) -> float:
    """An upper bound on epsilon by another route: moments of integer order (Mironov 2017; Abadi et al. 2016)."""
    found = []
    for order in range(2, 100):
        k = np.arange(order + 1)
        logs = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        logs += (order - k) * np.log1p(-mechanism.rate) + k * np.log(mechanism.rate) + k * (k - 1) / (2 * mechanism.noise**2)
        found.append((mechanism.steps * logsumexp(logs) + np.log(1 / delta)) / (order - 1))
    return min(found)


@pytest.mark.parametrize(("noise", "steps"), [(10.0, 100), (3.0, 9), (2.0, 1)])
def test_without_sampling_the_composition_is_one_gaussian_with_a_closed_form(noise, steps):
    profile = accountant.profile(Mechanism(1.0, noise, steps))
    epsilon = np.array([0.0, 0.3, 1.0, 2.0])
    exact = gaussian(epsilon, np.sqrt(steps) / noise)
    assert (profile.delta(epsilon) >= exact - 1e-12).all(), "never below the truth"
    assert profile.delta(epsilon) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize("copies", [1, 3])
def test_one_step_agrees_with_numerical_integration_in_the_worse_of_both_directions(copies):
    mechanism = Mechanism(0.2, 1.5, 1, copies)
    profile = accountant.profile(mechanism)
    for epsilon in (0.0, 0.1, 0.4):

        def gain(x, one, other, epsilon=epsilon):
            pair = [side[0] for side in densities(mechanism, np.array([x]))]
            return max(0.0, pair[one] - np.exp(epsilon) * pair[other])

        both = [quad(gain, -15, 20, args=order, limit=400, points=(-2, 0, 2))[0] for order in ((0, 1), (1, 0))]
        assert profile.delta(epsilon) == pytest.approx(max(both), abs=1e-6)


@pytest.mark.parametrize("copies", [1, 4])
def test_many_steps_agree_with_a_simulation_of_the_privacy_loss(copies):
    mechanism, runs, rng = replace(TYPICAL, copies=copies), 40_000, np.random.default_rng(0)
    shape = (runs, mechanism.steps)
    x = rng.binomial(copies, mechanism.rate, shape) + mechanism.noise * rng.standard_normal(shape)
    present, absent = densities(mechanism, x)
    loss = np.log(present / absent).sum(1)
    profile = accountant.profile(mechanism)
    for epsilon in (0.0, 0.5, 1.0):
        gain = np.maximum(0, -np.expm1(epsilon - loss))
        assert profile.delta(epsilon) >= gain.mean() - 4 * gain.std() / np.sqrt(runs)
    gain = np.maximum(0, -np.expm1(-loss))
    assert profile.total_variation == pytest.approx(gain.mean(), abs=4 * gain.std() / np.sqrt(runs))


@pytest.mark.parametrize("mechanism", [Mechanism(1 / 60, 1.0, 1200), Mechanism(0.1, 4.0, 200), TYPICAL])
def test_epsilon_is_below_the_bound_by_moments_and_not_far_below(mechanism):
    epsilon = accountant.epsilon(mechanism, 1e-5)
    assert 0.6 * renyi(mechanism, 1e-5) < epsilon < renyi(mechanism, 1e-5)


@pytest.mark.parametrize("noise", [0.8, 2.0, 8.0])
@pytest.mark.parametrize("copies", [1, 4])
def test_an_event_nearly_attains_the_total_variation_and_none_passes_it(noise, copies):
    mechanism = replace(TYPICAL, noise=noise, copies=copies)
    allowed = accountant.profile(mechanism).total_variation
    assert 0.6 * allowed < attack(mechanism)[1] <= allowed


def test_what_a_coarser_grid_returns_is_larger_by_the_square_of_its_step():
    deltas = [accountant.profile(TYPICAL, step).total_variation for step in (8e-3, 4e-3, 2e-3)]
    assert deltas[0] > deltas[1] > deltas[2]
    assert (deltas[0] - deltas[1]) / (deltas[1] - deltas[2]) == pytest.approx(4, rel=0.15)


def test_more_noise_fewer_steps_rarer_sampling_and_fewer_copies_reveal_less():
    less = [replace(TYPICAL, noise=3.0), replace(TYPICAL, steps=20), replace(TYPICAL, rate=0.05)]
    assert all(accountant.epsilon(other, 1e-5) < accountant.epsilon(TYPICAL, 1e-5) for other in less)
    assert accountant.epsilon(replace(TYPICAL, copies=2), 1e-5) > accountant.epsilon(TYPICAL, 1e-5)


def test_epsilon_and_delta_are_inverse_to_each_other():
    profile = accountant.profile(TYPICAL)
    for delta in (1e-2, 1e-5):
        assert profile.delta(profile.epsilon(delta)) == pytest.approx(delta, rel=1e-6)
    assert profile.epsilon(0.999) == 0


@pytest.mark.parametrize("target", [0.5, 4.0])
def test_the_noise_for_an_epsilon_gives_it_and_hardly_less(target):
    noise = accountant.noise_for(target, 1e-5, 0.1, 50)
    reached = accountant.epsilon(Mechanism(0.1, noise, 50), 1e-5)
    assert 0.99 * target < reached <= target


def test_senseless_requests_are_refused():
    for changes in ({"rate": 0.0}, {"rate": 1.1}, {"noise": 0.0}, {"steps": 0}, {"copies": 0}):
        with pytest.raises(ValueError, match="are needed"):
            replace(TYPICAL, **changes)
    profile = accountant.profile(TYPICAL)
    with pytest.raises(ValueError, match="the profile reaches from 0"):
        profile.delta(-0.1)
    with pytest.raises(ValueError, match="it must lie between"):
        profile.epsilon(1e-13)
    with pytest.raises(ValueError, match="reveals too much"):
        accountant.profile(Mechanism(1.0, 0.02, 10), 0.1)
    with pytest.raises(ValueError, match="needs noise below"):
        accountant.noise_for(500.0, 1e-5, 0.01, 1)
