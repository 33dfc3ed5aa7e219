"""Subsets and seeds: pure functions of (seed, trial), whatever is asked for beside them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study import subsets
from study.subsets import STREAMS, TrialSeed

whole = st.integers(0, 2**40)


@given(seed=whole, trials=st.lists(st.integers(0, 10**6), min_size=1, max_size=8), pick=st.data())
def test_a_subset_depends_on_seed_and_trial_alone(seed, trials, pick):
    together = subsets.members(seed, trials, 23, 0.7)
    k = pick.draw(st.integers(0, len(trials) - 1))
    assert np.array_equal(together[k], subsets.members(seed, [trials[k]], 23, 0.7)[0])
    assert np.array_equal(together[::-1], subsets.members(seed, trials[::-1], 23, 0.7))


def test_subsets_are_those_of_the_published_rows():
    """The digits of these checksums stand in every prediction file; another generator would orphan them all."""
    masks = subsets.members(0, [0, 1, 3999], 1000, 0.7)
    assert np.flatnonzero(~masks[0])[:5].tolist() == [3, 5, 7, 10, 11]
    published = [8002471324362627361, 5957294381930385422, 7210754503780129009]
    assert subsets.checksums(masks).tolist() == published
    draws = {stream: int(TrialSeed(3, 5).generator(stream).integers(2**32)) for stream in STREAMS}
    assert list(draws.values()) == [3861861756, 1425938881, 3145668591, 3910425656, 3797769021]


@given(n=st.integers(2, 60), ratio=st.floats(0.01, 0.99), seed=whole)
def test_every_subset_has_the_rounded_share_of_the_examples_or_is_refused(n, ratio, seed):
    m = round(n * ratio)
    if 0 < m < n:
        masks = subsets.members(seed, range(5), n, ratio)
        assert masks.shape == (5, n) and masks.dtype == bool
        assert (masks.sum(1) == m).all()
    else:
        with pytest.raises(ValueError, match=f"keeps {m}; at least one must be in and one out"):
            subsets.members(seed, range(5), n, ratio)


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5, float("nan")])
def test_a_ratio_outside_zero_and_one_is_refused(ratio):
    with pytest.raises(ValueError, match="must lie strictly between 0 and 1"):
        subsets.members(0, [0], 10, ratio)


def test_every_example_and_every_pair_is_drawn_equally_often():
    """Without replacement: singles with probability m/n, pairs with m(m-1)/(n(n-1)); five standard errors are allowed."""
    t, n, m = 4000, 12, 8
    masks = subsets.members(5, range(t), n, m / n).astype(int)
    together = masks.T @ masks / t
    for p, observed in ((m / n, np.diagonal(together)), (m * (m - 1) / n / (n - 1), together[~np.eye(n, dtype=bool)])):
        assert np.abs(observed - p).max() < 5 * np.sqrt(p * (1 - p) / t)


def test_neighbouring_seeds_and_trials_share_nothing():
    """`seed + i` would make trial 1 of seed 0 equal trial 0 of seed 1."""
    draws = [
        TrialSeed(seed, trial).generator(stream).integers(2**63)
        for seed, trial, stream in itertools.product(range(5), range(5), STREAMS)
    ]
    assert len(set(draws)) == len(draws) == 125


def test_a_generator_starts_afresh_each_time():
    first, second = (TrialSeed(3, 4).generator("order").random(6) for _ in range(2))
    assert np.array_equal(first, second)


def test_an_unknown_stream_is_refused_with_the_valid_names():
    with pytest.raises(ValueError, match="unknown stream 'dropout'; valid streams: subset, initialisation, order"):
        TrialSeed(0, 0).generator("dropout")


def test_trial_seeds_hold_plain_integers():
    seeds = subsets.trial_seeds(np.int64(2), np.array([7, 9]))
    assert seeds == [TrialSeed(2, 7), TrialSeed(2, 9)]
    assert all(type(value) is int for seed in seeds for value in (seed.seed, seed.trial))


@given(st.integers(0, 99), st.integers(0, 3))
def test_a_checksum_notices_a_single_example(position, row):
    masks = subsets.members(1, range(4), 100, 0.5)
    before = subsets.checksums(masks)
    masks[row, position] ^= True
    assert (subsets.checksums(masks) != before).tolist() == [k == row for k in range(4)]
    assert before.dtype == np.int64 and (before >= 0).all() and len(set(before)) == 4
