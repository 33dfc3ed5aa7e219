"""The stage on small numbers: what it reports is what the networks do, and every control fails where it must."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from study import data, params
from study.data import DataError
from study.theory import capacity
from study.theory import capacity_training as training
from study.theory import relu_memorizers as relu

TOY = {
    "points": (16, 64),
    "dimension": 6,
    "pictures": ("digits",),
    "pictures_fitted": 60,
    "directions": 4,
    "bits": (6, 20, 52),
    "control_points": 36,
    "widths": (4, 8),
    "drawn": 3,
    "trained_points": 36,
    "rates": (0.01, 0.03),
    "steps": 150,
    "repeats": 2,
    "residual_points": 60,
    "residual_dimension": 12,
    "blocks": 2,
    "jitter": 0.05,
    "near_points": 6,
    "near_dimension": 8,
    "near_width": 5,
    "minima": 2,
    "distances": (1e-6, 1e-5, 1e-4),
    "epochs": (1, 5),
    "seed": 0,
}
CHANGED = {
    "points": (16, 36),
    "dimension": 7,
    "pictures": (),
    "pictures_fitted": 50,
    "directions": 5,
    "bits": (6, 52),
    "control_points": 64,
    "widths": (4, 7),
    "drawn": 1,
    "trained_points": 40,
    "rates": (0.01, 0.02),
    "steps": 100,
    "repeats": 1,
    "residual_points": 50,
    "residual_dimension": 11,
    "blocks": 3,
    "jitter": 0.04,
    "near_points": 5,
    "near_dimension": 7,
    "near_width": 6,
    "minima": 3,
    "distances": (1e-6, 1e-5, 1e-4, 1e-3),
    "epochs": (1, 4),
    "seed": 1,
}


def section(**changes) -> params.Capacity:
    return params.Capacity(**TOY | changes)


@pytest.fixture(scope="module")
def stage():
    return capacity.run(section())


def test_no_label_is_wrong_in_float64_at_any_size_on_any_points(stage):
    exact = stage["fits"].query("precision == 'float64'")
    assert (exact.wrong == 0).all() and (exact.error < 1e-6).all()
    assert set(exact.problem) == {"random points", "alternating line", "scattered line", "digits", "digits, labels shuffled"}
    assert stage["summary"]["fits"] == {"networks": len(exact), "wrong": 0, "largest_error": exact.error.max()}


def test_float32_fails_where_points_are_many():
    given = capacity.points("random points", 3000, 10, np.random.default_rng(0))
    rows = pd.DataFrame(capacity.fit(given, np.random.default_rng(0), 4)).set_index(["network", "precision"]).wrong
    assert (rows[:, "float64"] == 0).all()
    assert (rows[:, "float32"] > 300).all()


def test_a_memorizer_of_pictures_knows_nothing_of_new_ones():
    row = capacity.fit(capacity.pictures("digits", 400), np.random.default_rng(0), 4)[0]
    assert row["wrong"] == 0 and 0.02 < row["test_accuracy"] < 0.25


def test_few_bits_make_wrong_labels_and_all_bits_none(stage):
    shares = stage["precision"].set_index(["N", "bits"]).share
    assert shares[64, 6] > 0.3 and shares[64, 52] == 0


def test_rounding_keeps_as_many_significant_bits_as_asked():
    network = relu.Memorizer([(np.array([[1 + 2.0**-10]]), np.array([-3.0 * (1 + 2.0**-12)]))])
    kept = [capacity.rounded(network, bits).affine[0] for bits in (11, 8)]
    assert kept[0][0][0, 0] == 1 + 2.0**-10 and kept[1][0][0, 0] == 1
    assert kept[0][1][0] == kept[1][1][0] == -3


def test_both_controls_fail_also_with_a_new_last_layer_and_the_construction_does_not(stage):
    worst = stage["controls"].groupby("variant").error.agg(["min", "max"])
    assert worst["max"]["as proved"] < 1e-6
    assert worst["min"]["groups all rise"] > 0.3 and worst["min"]["units all +"] > 0.3


def test_the_nearest_code_is_the_answer_and_what_is_not_a_number_is_wrong():
    values = np.array([[-1.0], [-0.4], [0.1], [0.9], [7.0], [np.nan]])
    assert capacity.nearest(values, 3).tolist() == [0, 1, 1, 2, 3, -1]
    assert capacity.nearest(np.array([[0.1, 0.9], [np.nan, 1.0]]), 2).tolist() == [1, -1]


def test_no_network_has_more_pieces_than_the_bound_and_the_zigzag_nearly_as_many(stage):
    table = stage["intervals"]
    assert (table[["random", "built", "zigzag"]].max(axis=1) <= table.bound).all()
    assert (table.zigzag > table.bound - 2 * table.width - 2).all() and (table.zigzag_error < 1e-9).all()
    assert (table.random < table.zigzag).all()


def test_no_training_beats_the_bound_and_the_easy_task_is_fitted(stage):
    table = stage["training"]
    assert (table.share >= table.fewest).all()
    small = table.query("task == 'alternating line' and width == 4")
    assert (small.fewest == relu.fewest_errors(36, 25) / 36).all() and (small.fewest > 0).all()
    assert (table[table.task == "two halves of a line"].groupby(["width", "rate"]).share.max() == 0).any()
    pieces = table[table.task != "random points"]
    assert (pieces.intervals <= relu.most_intervals(8, 8)).all() and pieces.intervals.notna().all()


def test_points_in_general_position_are_fitted_with_fewer_units_than_points_and_others_refused(stage):
    table = stage["residual"].set_index("problem")
    taken = table[table.why == ""]
    assert {"random points, 2 classes", "random points, 10 classes"} <= set(taken.index)
    assert (taken.wrong == 0).all() and (taken.error < 1e-6).all()
    assert table.why["a line, alternating"].startswith("the points are not in general position")
    assert table.why["a hyperplane"].startswith("the points are not in general position")


def test_a_line_has_more_alternations_than_a_residual_network_of_that_size_has_pieces():
    row = capacity._residual_row(section(), "line", np.outer(np.arange(1000.0), np.ones(50)), np.arange(1000) % 2)
    assert row["units"] == 4 * 20 + 8 and row["most"] == relu.most_intervals(80, 8) + 1 < row["N"]


# --- near a minimum ----------------------------------------------------------------------------------------


def test_minima_memorize_and_lie_on_no_kink():
    sizes = training.layer_sizes(8, (5, 5))
    found = training.minima(3, 6, sizes, np.random.default_rng(0))
    assert (training.outputs(found.theta, found.x, sizes) - found.y).abs().max() < 1e-12
    assert training.preactivations(found.theta, found.x, sizes).abs().min() > training.CLEAR


def test_too_few_minima_are_refused_with_how_many_there_were():
    with pytest.raises(ValueError, match="only 0 of 12 networks memorized 40 points"):
        training.minima(2, 40, training.layer_sizes(3, (2, 2)), np.random.default_rng(0))


def some_minima():
    sizes = training.layer_sizes(8, (5, 5))
    found = training.minima(2, 6, sizes, np.random.default_rng(0))
    return sizes, found, training.step_sizes(found.theta, found.x, sizes)


def away(found: training.Minima, distance: float) -> torch.Tensor:
    return found.theta + distance * torch.from_numpy(np.random.default_rng(1).standard_normal(found.theta.shape))


def test_jacobians_are_the_derivatives_of_the_answers():
    sizes, found, _ = some_minima()
    ahead, behind = (training.outputs(away(found, h), found.x, sizes) for h in (1e-6, -1e-6))
    product = training.jacobians(found.theta, found.x, sizes) @ (away(found, 1.0) - found.theta)[..., None]
    torch.testing.assert_close((ahead - behind) / 2e-6, product[..., 0], atol=1e-6, rtol=1e-5)


def test_close_to_a_minimum_sgd_and_linear_sgd_are_the_same():
    sizes, found, step = some_minima()
    orders = np.stack([np.random.default_rng(seed).permutation(6) for seed in range(20)])
    run = training.sgd(found, away(found, 1e-7), sizes, step, orders)
    problem = training.linear(found, away(found, 1e-7), sizes, step)
    for epoch, order in enumerate(orders, start=1):
        problem = problem.after(order)
        np.testing.assert_allclose(run.risk[epoch], problem.errors.square().mean(1), rtol=1e-3)
    assert (run.remainder < 1e-9 * run.risk[0]).all()


def test_epochs_in_one_order_shrink_errors_by_the_contraction_in_the_end():
    sizes, found, step = some_minima()
    problem = training.linear(found, away(found, 1e-3), sizes, step)
    norms = []
    for _ in range(1500):  # long, for errors that turn in a plane shrink by fits and starts
        problem = problem.after(range(6))
        norms.append(problem.errors.norm(dim=1).numpy())
    rate = (norms[-1] / norms[499]) ** (1 / 1000)
    np.testing.assert_allclose(rate, training.contraction(found.theta, found.x, sizes, step), atol=2e-3)


def test_the_time_to_shrink_is_when_the_errors_have_shrunk_that_much():
    sizes, found, step = some_minima()
    problem, orders = training.linear(found, away(found, 1e-3), sizes, step), np.tile(np.arange(6), (300, 1))
    first = problem.errors.norm(dim=1)
    times = training.times_to_shrink(problem, np.array([0.5, 0.1]), orders)
    for epoch in range(int(np.floor(times.max())) + 2):
        share = (problem.errors.norm(dim=1) / first).numpy()
        assert ((share <= [0.5, 0.1]) == (epoch >= times)).all()
        problem = problem.after(orders[0])


def test_too_few_epochs_to_shrink_are_refused():
    sizes, found, step = some_minima()
    with pytest.raises(ValueError, match="after 2 epochs linear SGD has not shrunk errors by 1e-30"):
        training.times_to_shrink(
            training.linear(found, away(found, 1e-3), sizes, step), np.full(2, 1e-30), np.zeros((2, 1), int)
        )


def test_sgd_at_the_minimum_stays_there():
    sizes, found, step = some_minima()
    run = training.sgd(found, found.theta, sizes, step, np.arange(6)[None])
    assert run.risk.max() < 1e-24 and run.remainder.max() < 1e-24


def test_risk_falls_with_the_powers_that_theory_gives():
    rules = section(minima=3)
    risks = capacity.measured_risks(rules, capacity.descend(rules))
    slopes = capacity.exponents(risks, rules.distances).set_index("quantity").value
    assert slopes[capacity.START] == pytest.approx(2, abs=0.01)
    assert slopes["after 5 epochs"] == pytest.approx(2, abs=0.2)
    assert slopes[capacity.HALF_WAY] == pytest.approx(3, abs=0.2)
    assert slopes[capacity.ASKED] == pytest.approx(4, abs=0.1)
    assert slopes[capacity.REMAINDER] == pytest.approx(4, abs=0.1)
    assert slopes["permuted labels, after 5 epochs"] == pytest.approx(0, abs=0.05)


def test_risks_between_epochs_lie_on_a_line_in_the_logarithm():
    risk = np.exp(-np.arange(5.0))[:, None, None] * np.ones((1, 2, 3))
    times = np.array([[0, 0.5, 4], [1.25, 3, 2.5]])
    np.testing.assert_allclose(capacity.at_times(risk, times), np.exp(-times))


def test_exponents_are_slopes_in_the_logarithms():
    distances = np.array([1e-4, 1e-3, 1e-2])
    table = capacity.exponents({"cubic": np.stack([5 * distances**3, 7 * distances**3])}, distances)
    assert table.value[0] == pytest.approx(3) and table.std_error[0] == pytest.approx(0, abs=1e-9)


# --- training ----------------------------------------------------------------------------------------------


def test_a_row_of_parameters_and_the_module_made_of_it_say_the_same():
    sizes = training.layer_sizes(3, (4, 5))
    theta = training.initial(sizes, 2, np.random.default_rng(0))
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 7, 3)))
    for row, points, answer in zip(theta, x, training.outputs(theta, x, sizes)):
        torch.testing.assert_close(training.as_memorizer(row, sizes)(points)[:, 0], answer)


def test_networks_trained_side_by_side_do_not_disturb_each_other():
    sizes, rng = training.layer_sizes(2, (3, 3)), np.random.default_rng(0)
    theta = training.initial(sizes, 4, rng).view(2, 2, -1)
    x, y = torch.from_numpy(rng.standard_normal((2, 2, 9, 2))), torch.from_numpy(rng.choice([-1.0, 1.0], (2, 2, 9)))
    together = training.adam(theta, x, y, sizes, [0.01, 0.1], 20).theta
    for r, rate in enumerate((0.01, 0.1)):
        alone = training.adam(theta[r : r + 1, 1:], x[r : r + 1, 1:], y[r : r + 1, 1:], sizes, [rate], 20).theta
        torch.testing.assert_close(together[2 * r + 1], alone[0])


# --- inputs and parameters ---------------------------------------------------------------------------------


def test_unknown_points_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown points 'circle'; valid: random points, alternating line"):
        capacity.points("circle", 9, 2, np.random.default_rng(0))


def test_pictures_that_cannot_be_had_are_an_error_with_the_way_out(monkeypatch):
    def missing(name):
        raise DataError("the files are missing")

    monkeypatch.setattr(data, "load", missing)
    with pytest.raises(DataError, match=r"the files are missing\. Or take mnist out of capacity\.pictures in params\.yaml"):
        capacity.pictures("mnist", 10)


def test_an_unknown_data_set_is_refused_with_the_valid_names():
    with pytest.raises(ValueError, match="unknown data set 'mnits'; valid data sets: digits"):
        section(pictures=("mnits",))


def test_shuffled_labels_are_the_same_labels_in_another_order():
    given = capacity.pictures("digits", 100)
    other = capacity.shuffled(given, np.random.default_rng(0))
    assert (other.labels != given.labels).mean() > 0.5
    assert np.bincount(other.labels).tolist() == np.bincount(given.labels).tolist()


def test_the_same_seed_gives_the_same_tables(stage):
    again = capacity.run(section())
    assert json.dumps(stage["summary"]) == json.dumps(again["summary"])
    for name in stage.keys() - {"summary"}:
        pd.testing.assert_frame_equal(stage[name], again[name], check_exact=True)


@functools.cache
def slopes(rules: params.Capacity) -> pd.DataFrame:
    return capacity.exponents(capacity.measured_risks(rules, capacity.descend(rules)), rules.distances)


def part(name: str, rules: params.Capacity) -> pd.DataFrame:
    """The table that a parameter must show in; one table is quicker to make than all of them."""
    if name.startswith("near_") or name in ("minima", "distances", "epochs"):
        return slopes(rules)
    if name in ("widths", "drawn", "seed"):
        return capacity.intervals(rules)
    if name in ("trained_points", "rates", "steps", "repeats"):
        return capacity.trained(rules)
    if name in ("residual_points", "residual_dimension", "blocks", "jitter"):
        return capacity.residual(rules)
    table = {"bits": capacity.precision, "points": capacity.precision, "control_points": capacity.controls}
    return table.get(name, capacity.fits)(rules)


@pytest.mark.parametrize("name", TOY)
def test_every_parameter_changes_something(name):
    assert set(params.Capacity.model_fields) == set(TOY) == set(CHANGED)
    assert not part(name, section()).equals(part(name, section(**{name: CHANGED[name]})))


def test_the_stage_of_the_study_keeps_within_what_is_proved():
    rules = params.load(Path(__file__).parents[1] / "params.yaml").capacity
    assert rules.near_width**2 == 4 * rules.near_points
    assert max(rules.widths) >= 2 * np.sqrt(rules.trained_points)
