"""The network with 2n + d weights: it goes through all points, has as many numbers as it should, and fails where it must."""

import numpy as np
import pytest
import torch

from study import params
from study.theory import two_layer_memorizer as two_layer


def problem(n=200, d=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, d)), rng.integers(10, size=n).astype(float), rng


def matrix(z, biases):
    return np.maximum(z[:, None] - biases, 0)


def test_it_takes_the_wanted_value_at_every_point_with_2n_plus_d_numbers():
    x, y, rng = problem()
    network = two_layer.build(x, y, rng)
    assert isinstance(network, torch.nn.Module)
    assert network.numbers == 2 * 200 + 20
    with torch.no_grad():
        assert network(torch.from_numpy(x)).numpy() == pytest.approx(y, abs=1e-7)
    assert two_layer.answers(network, x) == pytest.approx(y, abs=1e-7)


def test_a_network_written_by_hand_computes_what_the_formula_says():
    network = two_layer.TwoLayer([1.0, -2.0], [0.0, 1.0], [3.0, -1.0])
    # <a, x> is 4 and -2: 3 * 4 - 1 * 3, and nothing.
    assert two_layer.answers(network, np.array([[4.0, 0.0], [0.0, 1.0]])).tolist() == [9.0, 0.0]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.5])
def test_the_weights_solve_the_triangular_equations_wherever_the_biases_stand(place):
    x, y, rng = problem(30)
    network = two_layer.build(x, y, rng, place)
    direction, biases, weights = (p.numpy() for p in network.parameters())
    z, order = np.sort(x @ direction), np.argsort(x @ direction)
    assert (biases[1:] >= z[:-1]).all() and (biases < z).all()
    assert np.triu(matrix(z, biases), 1).max() == 0
    assert weights == pytest.approx(np.linalg.solve(matrix(z, biases), y[order]), rel=1e-6, abs=1e-6)


def test_with_shuffled_biases_it_fails():
    x, y, rng = problem()
    network = two_layer.build(x, y, rng)
    broken = two_layer.TwoLayer(network.direction, rng.permutation(network.biases), network.weights)
    assert two_layer.wrong(two_layer.answers(broken, x), y).mean() > 0.8


def test_an_error_in_one_slope_enters_the_next_with_the_stated_factor():
    rng = np.random.default_rng(1)
    z, y = np.sort(rng.random(12)), rng.random(12)
    changed = y.copy()
    changed[0] += 1e-3
    for place in (0.2, 0.5, 0.7):
        difference = two_layer.slopes(z, changed, place) - two_layer.slopes(z, y, place)
        assert difference[3:] / difference[2:-1] == pytest.approx(two_layer.amplification(place), rel=1e-4)


def test_beyond_half_of_the_gap_float64_is_not_enough():
    x, y, rng = problem(300)
    near, far = (two_layer.answers(two_layer.build(x, y, rng, place), x) for place in (0.0, 0.75))
    assert not two_layer.wrong(near, y).any()
    assert two_layer.wrong(far, y).mean() > 0.3


def test_float32_spoils_what_float64_fits():
    x, y, rng = problem(3000)
    network = two_layer.build(x, y, rng)
    found = {
        name: two_layer.wrong(two_layer.answers(network, x, dtype), y).mean() for name, dtype in two_layer.PRECISIONS.items()
    }
    assert found["float64"] == 0 and found["float32"] > 0.1
    assert network.weights.dtype == torch.float64, "a cast must leave the network as it was"


def test_the_condition_number_is_that_of_the_matrix():
    for seed in range(3):
        z = np.sort(np.random.default_rng(seed).random(40))
        biases = np.concatenate([[z[0] - 1], z[:-1]])
        assert two_layer.condition(z) == pytest.approx(np.linalg.cond(matrix(z, biases), np.inf), rel=1e-6)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="same projection"):
        two_layer.build(np.ones((2, 3)), np.array([0.0, 1.0]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="place is 1"):
        two_layer.build(np.eye(3), np.arange(3.0), np.random.default_rng(0), 1)


def test_only_the_first_of_equal_pictures_is_kept():
    pictures = np.array([[1, 2], [3, 4], [1, 2], [2, 1], [3, 4]], dtype=np.uint8)
    assert two_layer.distinct(pictures).tolist() == [0, 1, 3]


def test_what_is_not_finite_is_wrong():
    assert two_layer.wrong(np.array([0.4, 0.6, np.nan, np.inf]), np.zeros(4)).tolist() == [False, True, True, True]


@pytest.fixture(scope="module")
def section():
    chosen = params.load("params.yaml").random_pictures
    return chosen.model_copy(update={"data": {"digits": "digits"}, "built": (50, 400, 5000), "placed": (30, 100)})


def test_sizes_go_as_far_as_there_are_pictures(section):
    rows = two_layer.fits(section)
    exact = rows[rows.precision == "float64"].set_index("n")
    assert exact.index.tolist() == [50, 400, 1000]
    assert (exact.numbers == 2 * exact.index + 64).all() and (exact.d == 64).all()
    assert (exact.wrong == 0).all() and (exact.shuffled_wrong > 0.5).all()
    assert (np.diff(exact.condition) > 0).all()
    assert exact.test_accuracy.to_numpy() == pytest.approx(0.1, abs=0.08)


def test_errors_grow_with_the_place_of_the_biases(section):
    table = two_layer.places(section).pivot(index="n", columns="place", values="error")
    assert table.loc[100, 0.0] < 1e-6 < 1 < table.loc[100, 0.75]
