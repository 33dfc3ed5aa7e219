"""The example by hand: known values, the identities of the definitions, and the package held against it."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from study.hand_example import (
    TEST,
    TRAIN,
    Point,
    accuracy,
    answer,
    as_data,
    contrast,
    effect,
    estimated,
    leave_one_out,
    table,
    without,
)
from study.learners import nearest_neighbour

SIZES = range(1, len(TRAIN))
LONER = TRAIN[-1]


def floats(frame) -> np.ndarray:
    return frame.astype(float).to_numpy()


def test_the_loner_is_memorized_helps_its_neighbour_and_harms_the_square_beside_it():
    exact = table(TRAIN, TEST, leave_one_out)
    assert exact.mem.tolist() == [0, 0, 0, 0, 0, 1]
    assert exact.loc["f"].tolist() == [1, 0, 0, -1, 1]
    assert not exact.drop(index="f").to_numpy().any()


def test_in_subsets_of_four_the_two_squares_are_memorized_a_little():
    assert table(TRAIN, TEST, contrast, 4).mem.tolist() == [0, 0, 0, Fraction(1, 5), Fraction(1, 5), 1]


def test_the_subsets_without_a_point_explain_its_memorization():
    square = TRAIN[3]
    listed = without(TRAIN, square, 4)
    assert len(listed) == 5 and not listed.subset.str.contains("d").any()
    assert listed[~listed.right].subset.tolist() == ["a b c f"]
    assert 1 - Fraction(int(listed.right.sum()), len(listed)) == contrast(TRAIN, square, square, 4)


@pytest.mark.parametrize("m", SIZES)
def test_the_closed_forms_of_nearest_neighbour_meet_the_enumeration(m):
    data, exact = as_data(TRAIN, TEST), floats(table(TRAIN, TEST, contrast, m))
    assert nearest_neighbour.memorization(data, m) == pytest.approx(exact[:, 0], abs=1e-12)
    assert nearest_neighbour.influence(data, m) == pytest.approx(exact[:, 1:], abs=1e-12)


@pytest.mark.parametrize("m", SIZES)
def test_mean_memorization_is_the_gap_between_fitted_and_left_out_points_over_all_subsets(m):
    every = list(combinations(TRAIN, m))
    inside = [answer(s, i.position) == i.label for s in every for i in s]
    outside = [answer(s, i.position) == i.label for s in every for i in TRAIN if i not in s]
    gap = Fraction(sum(inside), len(inside)) - Fraction(sum(outside), len(outside))
    assert table(TRAIN, TEST, contrast, m).mem.sum() / len(TRAIN) == gap


@pytest.mark.parametrize("m", SIZES[1:])
def test_mean_memorization_by_definition_is_the_gap_to_training_with_one_point_less(m):
    inside = [accuracy([s], i) for s in combinations(TRAIN, m) for i in s]
    outside = [accuracy([s], i) for s in combinations(TRAIN, m - 1) for i in TRAIN if i not in s]
    assert table(TRAIN, TEST, effect, m).mem.sum() / len(TRAIN) == sum(inside) / len(inside) - sum(outside) / len(outside)


def test_at_the_full_size_the_subset_measure_is_leave_one_out():
    assert table(TRAIN, TEST, effect, len(TRAIN)).equals(table(TRAIN, TEST, leave_one_out))


def test_algorithm_1_credits_a_far_point_for_keeping_the_loner_out_and_the_definition_does_not():
    far, beside_the_loner = TRAIN[0], TEST[2]
    assert effect(TRAIN, far, beside_the_loner, 4) == 0
    assert contrast(TRAIN, far, beside_the_loner, 4) == Fraction(1, 5)


def test_a_twin_beside_the_loner_takes_all_memorization_from_both():
    twin = Point("g", 10.1, "circle")
    assert leave_one_out((*TRAIN, twin), LONER, LONER) == 0
    assert leave_one_out((*TRAIN, twin), twin, twin) == 0
    assert contrast((*TRAIN, twin), LONER, LONER, 4) > 0


def test_estimates_from_random_subsets_lie_within_their_errors_of_the_exact_values():
    estimates, exact = estimated(TRAIN, TEST, 4, 4_000, seed=0), floats(table(TRAIN, TEST, contrast, 4))
    mem = estimates.memorization
    assert (np.abs(mem.mem - exact[:, 0]) < 4 * mem.std_error).all()
    infl, error = estimates.influence()
    assert (np.abs(infl - exact[:, 1:]) < 4 * error).all()
    assert (mem.n_in + mem.n_out == 4_000).all()


def test_other_seeds_draw_other_subsets():
    first, second = (estimated(TRAIN, TEST, 4, 50, seed=seed).members for seed in (0, 1))
    assert (first.sum(1) == 4).all() and (first != second).any()
