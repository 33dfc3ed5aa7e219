"""The constructions fit what they must, refuse what they cannot, and no network has more pieces than the bound."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.theory import capacity_training as training
from study.theory import relu_memorizers as relu


def draw(seed=0):
    return np.random.default_rng(seed)


def said(network, x):
    with torch.no_grad():
        return network(torch.from_numpy(x)).numpy()


def alternating(n):
    return np.where(np.arange(n) % 2, 1.0, -1.0)


# --- two hidden layers -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 3), st.integers(0, 10**6))
def test_any_labels_of_distinct_points_are_fitted(n, d, outputs, seed):
    rng = draw(seed)
    x, y = rng.standard_normal((n, d)), rng.uniform(-1, 1, (n, outputs))
    y[rng.random(y.shape) < 0.3] = 1.0  # the ends of the interval are the hard case
    network = relu.memorizer(x, y, rng)
    assert said(network, x).shape == (n, outputs)
    np.testing.assert_allclose(said(network, x), y, atol=1e-6)


@pytest.mark.parametrize("n", [4, 16, 100, 400])
def test_d1_times_d2_is_four_times_the_number_of_points(n):
    network = relu.memorizer(draw().standard_normal((n, 3)), draw().uniform(-1, 1, n), draw())
    d1, d2 = network.widths
    assert d1 * d2 == 4 * n
    assert max(d1, d2) <= 2 * min(d1, d2)


@given(st.integers(1, 20_000))
def test_a_shape_holds_all_points_with_an_even_number_of_units_and_nearly_square(n):
    p, q = relu.shape(n)
    assert q % 2 == 0 and p * q >= n
    assert p * q <= n + 2 * np.sqrt(n) + 2
    assert p <= 2 * q and q <= 2 * p


def test_points_on_a_line_with_alternating_labels_are_fitted():
    x = np.outer(np.arange(400), draw().standard_normal(7))
    np.testing.assert_allclose(said(relu.memorizer(x, alternating(400), draw()), x)[:, 0], alternating(400), atol=1e-9)


@pytest.mark.parametrize("variant", ["alternate_groups", "alternate_units"])
def test_without_an_alternation_the_construction_fails(variant):
    x, y = draw().standard_normal((100, 3)), draw(1).uniform(-1, 1, 100)
    assert np.abs(said(relu.memorizer(x, y, draw(), **{variant: False}), x)[:, 0] - y).max() > 0.5
    np.testing.assert_allclose(said(relu.memorizer(x, y, draw()), x)[:, 0], y, atol=1e-9)


def test_more_directions_never_mean_larger_weights():
    x, y = draw().standard_normal((200, 5)), draw(1).uniform(-1, 1, 200)
    sizes = [relu.largest_weight(relu.memorizer(x, y, draw(2), directions)) for directions in (1, 4, 32)]
    assert sizes[0] >= sizes[1] >= sizes[2] and sizes[0] > sizes[2]


def test_parameters_are_those_of_the_layers():
    network = relu.memorizer(draw().standard_normal((16, 3)), np.zeros(16), draw())
    assert relu.parameters(network) == (3 + 1) * 8 + (8 + 1) * 8 + 8 + 1


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.eye(3), np.array([0, 0, 1.5]), r"labels must lie in \[-1, 1\], but one is 1.5"),
        (np.array([[1.0], [2.0], [1.0]]), np.zeros(3), "points 0 and 2 have the same projection"),
        (np.eye(3), np.zeros(2), r"not \(3, 3\) and \(2, 1\)"),
        (np.zeros((0, 2)), np.zeros(0), "n > 0"),
        (np.array([[np.nan], [1.0]]), np.zeros(2), "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        relu.memorizer(x, y, draw())


def test_no_direction_is_refused():
    with pytest.raises(ValueError, match="at least one direction"):
        relu.memorizer(np.eye(2), np.zeros(2), draw(), directions=0)


# --- one output a class ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_one_hot_answers_are_exact_also_where_the_scalar_network_is_a_little_off(classes):
    x, labels = draw().standard_normal((90, 4)), draw(1).integers(classes, size=90)
    scalar = relu.memorizer(x, relu.codes(classes)[labels], draw())
    np.testing.assert_allclose(said(relu.one_hot(scalar, classes), x), np.eye(classes)[labels], atol=1e-9)
    *hidden, (weight, bias) = scalar.affine
    off = relu.Memorizer([*hidden, (weight, bias + 0.4 / (classes - 1))])
    np.testing.assert_allclose(said(relu.one_hot(off, classes), x), np.eye(classes)[labels], atol=1e-9)
    assert relu.one_hot(scalar, classes).widths == (*scalar.widths, 4 * classes)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes, not 1"):
        relu.codes(1)


# --- general position --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "blocks"), [(2, 1), (2, 5), (3, 4)])
def test_residual_networks_sort_points_in_general_position(classes, blocks):
    x, labels = draw().standard_normal((120, 10)), draw(1).integers(classes, size=120)
    network = relu.residual_memorizer(x, labels, blocks, draw())
    np.testing.assert_allclose(said(network, x), np.eye(classes)[labels], atol=1e-9)
    slabs = int(np.ceil(np.bincount(labels) / 10).sum())
    assert sum(network.widths) == 4 * slabs + 4 * classes < 120
    assert len(network.widths) == blocks + 1


def test_residual_networks_survive_narrow_slabs():
    """Rounding must not carry a point next to one hyperplane into the slab of another."""
    for seed in range(5):
        x = draw(seed).standard_normal((400, 16)) * np.where(np.arange(16) < 4, 0.3, 1.0)
        labels = draw(seed).integers(4, size=400)
        answers = said(relu.residual_memorizer(x, labels, 5, draw(seed)), x)
        np.testing.assert_allclose(answers, np.eye(4)[labels], atol=1e-6)


def test_labels_decide_what_a_residual_network_answers():
    x = draw().standard_normal((60, 6))
    one, other = (draw(seed).integers(2, size=60) for seed in (1, 2))
    assert (said(relu.residual_memorizer(x, one, 2, draw()), x).argmax(1) == one).all()
    assert (said(relu.residual_memorizer(x, other, 2, draw()), x).argmax(1) == other).all()


@pytest.mark.parametrize(
    "x",
    [
        np.outer(np.arange(40.0), np.ones(5)),
        draw().standard_normal((40, 5)) * [1, 1, 1, 1, 0],
        draw().integers(2, size=(40, 5)).astype(float) + 1e-3 * np.arange(40)[:, None] * [1, 0, 0, 0, 0],
    ],
    ids=["line", "hyperplane", "corners"],
)
def test_points_that_are_not_in_general_position_are_refused(x):
    with pytest.raises(ValueError, match="not in general position: point"):
        relu.residual_memorizer(x, np.arange(40) % 2, 1, draw())


def test_points_that_float64_cannot_tell_from_a_hyperplane_are_refused():
    x = draw().standard_normal((400, 5)) * [1, 1, 1, 1, 1e-4]
    with pytest.raises(ValueError, match="too close to not being in general position"):
        relu.residual_memorizer(x, np.arange(400) % 2, 1, draw())


@pytest.mark.parametrize("blocks", [0, 99])
def test_an_impossible_number_of_blocks_is_refused_with_the_range(blocks):
    with pytest.raises(ValueError, match=f"blocks is {blocks}; it must lie between 1 and the number of hyperplanes, 4"):
        relu.residual_memorizer(draw().standard_normal((20, 5)), np.arange(20) % 2, blocks, draw())


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"not \(4, 2\) and \(3,\)"):
        relu.residual_memorizer(np.zeros((4, 2)), np.zeros(3, int), 1, draw())


# --- pieces ------------------------------------------------------------------------------------------------


def hat():
    """r(x + 1) - 2 r(x) + r(x - 1), then r(h - 1/2): breakpoints at -1, 0, 1 and where h is 1/2."""
    return relu.Memorizer(
        [
            (np.ones((3, 1)), np.array([1.0, 0, -1])),
            (np.array([[1.0, -2, 1]]), np.array([-0.5])),
            (np.ones((1, 1)), np.zeros(1)),
        ]
    )


def test_breakpoints_of_a_hat_are_its_corners_and_where_it_is_cut():
    np.testing.assert_allclose(relu.breakpoints(hat(), np.zeros(1), np.ones(1)), [-1, -0.5, 0, 0.5, 1], atol=1e-12)


def test_breakpoints_move_with_the_line():
    np.testing.assert_allclose(
        relu.breakpoints(hat(), np.array([3.0]), np.array([-2.0])), [1, 1.25, 1.5, 1.75, 2], atol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_a_network_is_affine_between_its_breakpoints_and_has_no_more_than_the_bound(d1, d2, seed):
    sizes = training.layer_sizes(3, (d1, d2))
    network = training.as_memorizer(training.initial(sizes, 1, draw(seed))[0], sizes)
    origin, direction = draw(seed + 1).standard_normal((2, 3))
    at = relu.breakpoints(network, origin, direction)
    assert len(at) + 1 <= relu.most_intervals(d1, d2)
    edges = np.concatenate([[at[0] - 5], at, [at[-1] + 5]]) if len(at) else np.array([-5.0, 5.0])
    low, high = edges[:-1], edges[1:]
    values = [said(network, origin + (low + (high - low) * part)[:, None] * direction) for part in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(values[1], (values[0] + values[2]) / 2, atol=1e-8)


@pytest.mark.parametrize(("d1", "d2"), [(1, 1), (3, 4), (8, 8), (15, 16)])
def test_the_zigzag_fits_nearly_as_many_alternating_labels_as_the_bound_allows(d1, d2):
    n = d1 * d2 + 1
    np.testing.assert_allclose(said(relu.zigzag(d1, d2), np.arange(n)[:, None] / d2)[:, 0], alternating(n), atol=1e-9)
    assert relu.fewest_errors(n, relu.most_intervals(d1, d2)) == 0
    assert relu.zigzag(d1, d2).widths == (d1, d2)


@pytest.mark.parametrize("n", range(2, 9))
@pytest.mark.parametrize("pieces", range(1, 9))
def test_the_fewest_errors_are_those_found_by_trying_all_sign_patterns(n, pieces):
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) % 2
    possible = patterns[(np.diff(patterns, axis=1) != 0).sum(axis=1) <= pieces]
    least = (possible != np.arange(n) % 2).sum(axis=1).min()
    assert relu.fewest_errors(n, pieces) <= least
    assert relu.fewest_errors(n, pieces) == least
