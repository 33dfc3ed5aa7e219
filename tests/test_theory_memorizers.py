"""Networks without a training error: explicit layers, closed forms, brute force, and the cases in which each must fail."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from study import params
from study.theory import memorizers as m

NETWORK = {
    "widths": [16],
    "epochs": 60,
    "batch_size": 16,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "warm_up": 0.1,
    "weight_decay": 0.0,
    "models_at_once": 45,
}
TOY = {
    "pictures": {"small": {"data": "digits", "per_class": 20, "test_per_class": 20, "network": NETWORK}},
    "repeats": 2,
    "cover": 0.75,
    "reach": 1.0,
    "penalty": 1.0,
    "sweep": {
        "clusters": 4,
        "noise": 0.1,
        "dimensions": [8],
        "cluster_points": 100,
        "boards": [{"dimension": 2, "side": 4, "gap": 0.3}],
        "board_points": 600,
        "widths": [1, 4],
        "tests": 400,
        "repeats": 2,
    },
    "growth": {
        "pictures": "small",
        "pairs": [[0, 1]],
        "sizes": [32, 64, 128],
        "tests": 100,
        "repeats": 2,
        "cluster_dimension": 10,
    },
    "cells": {
        "count": 16,
        "dimension": 10,
        "cover": 0.5,
        "reach": 0.75,
        "sizes": [16, 32, 128],
        "tests": 300,
        "worlds": 12,
        "network": NETWORK,
    },
    "corner_dimensions": [3, 4, 5, 6],
    "corner_error": 0.1,
    "seed": 0,
}


@pytest.fixture(scope="module")
def stage():
    return m.run(params.Memorizers(**TOY))


def rng(seed=0):
    return np.random.default_rng(seed)


def cloud(n=60, d=5, seed=0):
    """Points without structure and coins for labels, of which the first two differ."""
    draw = rng(seed)
    return draw.standard_normal((n, d)), np.concatenate([[-1, 1], draw.choice([-1, 1], size=n - 2)])


def bumps_on(x, y, cover=0.75, reach=1.0):
    return m.local_bumps(x, y, m.distances(x, x), cover, reach)


# --- one direction -----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_a_line_goes_through_every_training_point_whatever_its_labels(seed):
    x, y = cloud(seed=seed)
    line = m.along(m.random_direction(5, rng(seed)), x, y)
    np.testing.assert_allclose(line.value(x), y, atol=1e-6)


def test_a_line_answers_like_the_nearest_training_point_along_its_direction():
    x, y = cloud()
    line, new = m.along(m.random_direction(5, rng(1)), x, y), rng(2).standard_normal((500, 5)) * 2
    nearest = np.abs((new @ line.direction)[:, None] - x @ line.direction).argmin(1)
    assert (np.sign(line.value(new)) == y[nearest]).all()


def test_a_line_sees_nothing_across_its_direction():
    x, y = cloud()
    line = m.along(np.array([1.0, 0, 0, 0, 0]), x, y)
    moved = x + np.array([0, 5, -3, 100, 2])
    np.testing.assert_array_equal(line.value(moved), line.value(x))


def test_a_run_of_equal_labels_costs_no_units():
    x, y = np.arange(10.0)[:, None], np.repeat([-1, 1], 5)
    line = m.along(np.ones(1), x, y)
    np.testing.assert_array_equal(line.knots, [4, 5])
    assert line.numbers == 1 + 2 * 2 + 1


def test_a_deep_network_of_four_units_a_layer_computes_the_line():
    x, y = cloud()
    line = m.along(m.random_direction(5, rng(3)), x, y)
    layers = line.narrow()
    assert [len(bias) for _, bias in layers] == [1, *[4] * len(line.knots), 1]
    new = np.concatenate([x, rng(4).standard_normal((200, 5)) * 3])
    np.testing.assert_allclose(m.forward(layers, new), line.value(new), atol=1e-6)


def test_equal_projections_are_refused():
    with pytest.raises(ValueError, match="same projection"):
        m.along(np.ones(2), np.array([[0.0, 1], [1, 0]]), np.array([1, -1]))


def test_the_fitted_direction_finds_the_one_that_separates():
    x = rng().standard_normal((400, 6))
    direction = m.fitted_direction(x, np.sign(x[:, 2]), 1.0)
    assert abs(direction[2]) / np.linalg.norm(direction) > 0.97


# --- bumps -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([(0.3, 0.3), (0.5, 0.75), (0.75, 1.0), (1.0, 1.0)]))
@settings(max_examples=25, deadline=None)
def test_bumps_have_no_training_error_whatever_the_labels(seed, rule):
    x, y = cloud(seed=seed)
    bumps, _ = bumps_on(x, y, *rule)
    assert (np.sign(bumps.value(x)) == y).all()


def test_bumps_that_cover_further_than_they_reach_do_not_fit():
    x, y = np.array([[0.0], [0.8], [1.8]]), np.array([1, 1, -1])
    clear = m.clearances(m.distances(x, x), y)
    np.testing.assert_allclose(clear, [1.8, 1.0, 1.0])
    far = m.Bumps(x[[0, 2]], y[[0, 2]], 0.4 * clear[[0, 2]])
    assert far.value(x)[1] == 0


def test_bumps_wider_than_their_clearance_can_err_in_training():
    x, y = np.array([[0.0], [0.1], [0.2], [1.0]]), np.array([1, 1, 1, -1])
    wide = m.Bumps(x, y, 2 * m.clearances(m.distances(x, x), y))
    assert wide.value(x)[3] > 0


def test_two_hidden_layers_compute_the_bumps():
    x, y = cloud(30, 3)
    bumps, _ = bumps_on(x, y)
    layers, new = bumps.layers(), rng(1).standard_normal((200, 3))
    k = len(bumps.labels)
    assert [weights.shape for weights, _ in layers] == [(6 * k, 3), (k, 6 * k), (1, k)]
    np.testing.assert_allclose(m.forward(layers, new), bumps.value(new), atol=1e-12)


def test_clearances_are_distances_to_the_other_label():
    x, y = np.array([[0.0, 0], [1, 0], [0, 3]]), np.array([1, 1, -1])
    np.testing.assert_array_equal(m.clearances(m.distances(x, x), y), [3, 4, 3])


def test_one_label_alone_and_points_with_both_labels_are_refused():
    x = np.array([[0.0], [1], [1]])
    with pytest.raises(ValueError, match="both labels"):
        m.clearances(m.distances(x, x), np.array([1, 1, 1]))
    with pytest.raises(ValueError, match="2 points coincide"):
        m.clearances(m.distances(x, x), np.array([1, 1, -1]))


def smallest_cover(covers):
    rows = range(len(covers))
    for size in range(1, len(covers) + 1):
        if any(covers[list(chosen)].any(axis=0).all() for chosen in itertools.combinations(rows, size)):
            return size
    return None


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_smallest_cover_lies_between_packing_and_greedy_cover(seed):
    covers = (rng(seed).random((9, 9)) < 0.25) | np.eye(9, dtype=bool)
    greedy, packed = m.greedy_cover(covers), m.packing(covers)
    assert covers[greedy].any(axis=0).all()
    assert (covers[:, packed].sum(axis=1) <= 1).all()
    assert len(packed) <= smallest_cover(covers) <= len(greedy)


def test_a_point_that_none_covers_is_refused():
    with pytest.raises(ValueError, match="1 points are covered by none"):
        m.greedy_cover(np.array([[True, False], [True, False]]))


# --- the proposition ---------------------------------------------------------------------------------------


def test_the_radius_of_the_proposition_solves_both_its_conditions():
    for cover, reach in ((0.5, 0.75), (0.2, 0.9), (0.7, 0.95)):
        a = m.ball_radius(cover, reach)
        own, other = 2 * a - (1 - a) * (reach - cover) / (1 + cover), 2 * a * reach - (1 - reach) * (1 - a)
        assert max(own, other) == pytest.approx(0, abs=1e-12) and min(own, other) <= 1e-12
    assert m.ball_radius(0.5, 0.75) == pytest.approx(1 / 13)


@pytest.mark.parametrize(("cover", "reach"), [(0.5, 1.0), (0.5, 0.5), (0.0, 0.5)])
def test_the_proof_needs_cover_below_reach_below_one(cover, reach):
    with pytest.raises(ValueError, match="0 < cover < reach < 1"):
        m.ball_radius(cover, reach)


@given(st.integers(0, 10_000), st.integers(16, 80))
@settings(max_examples=30, deadline=None)
def test_bumps_are_right_in_every_cell_that_the_sample_hits(seed, n):
    cells = params.Cells(**TOY["cells"])
    task = m.cell_world(cells, n, rng(seed))
    if len(set(task.labels["true"])) == 1:
        return
    bumps, _ = bumps_on(task.x, task.labels["true"], cells.cover, cells.reach)
    wrong = bumps.value(task.x_test) * task.y_test <= 0
    nearest = m.distances(task.x_test, task.x).min(axis=1)
    same_cell = nearest < m.distances(task.x_test, task.x_test).max() / 20
    assert not (wrong & same_cell).any()


def test_accuracy_on_cells_lies_between_guarantee_and_limit(stage):
    table = stage["samples"].query("labels == 'true' and memorizer == 'local bumps'").groupby("n").test_accuracy
    bounds = stage["sample_bounds"].set_index("n")
    slack = 4 * table.sem() + 0.005
    assert (table.mean() >= bounds.guarantee - slack).all()
    assert (table.mean() <= bounds.limit + slack).all()


def test_missed_mass_is_what_a_draw_misses():
    draws = rng().integers(8, size=(4000, 12))
    missed = np.mean([1 - len(set(row)) / 8 for row in draws])
    assert m.missed_mass(8, 12) == pytest.approx(missed, abs=0.01)


# --- width and corners -------------------------------------------------------------------------------------


def test_a_chessboard_has_equally_many_of_both_labels_on_every_line_along_a_coordinate():
    shape = params.Board(dimension=3, side=4, gap=0.2)
    x, y = m.board(shape, 5000, rng())
    cell = np.floor(x).astype(int)
    assert (y == 1 - 2 * (cell.sum(1) % 2)).all()
    assert (np.abs(x - cell - 0.5) <= 0.4).all()
    labels = {tuple(c): v for c, v in zip(cell, y)}
    assert len(labels) == 64
    for a, b in itertools.product(range(4), repeat=2):
        assert sum(labels[a, b, c] for c in range(4)) == 0


def test_a_board_of_odd_side_is_refused():
    with pytest.raises(ValidationError, match="multiple of 2"):
        params.Board(dimension=2, side=3, gap=0.2)


def test_a_width_below_the_dimension_is_chance_on_a_chessboard_and_enough_on_clusters(stage):
    table = stage["sweep"]
    board = table.query("distribution == 'chessboard' and projection == 'coordinates'").groupby("width").test_accuracy.mean()
    assert abs(board[1] - 0.5) < 4 * math.sqrt(0.25 / 800)
    assert board[2] > 0.95
    assert table.query("distribution == 'clusters' and width == 4").test_accuracy.min() > 0.95
    assert (table.train_errors == 0).all()


def test_the_count_of_functions_is_that_of_all_labellings_when_no_error_is_allowed():
    assert m.numbers_needed(10, 0.0, doubt=1.0) == pytest.approx(2**10 / 32)
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert m.numbers_needed(20, 0.1) == pytest.approx((2**20 * (1 - entropy) + math.log2(0.01)) / 32)
    assert m.numbers_needed(2, 0.1) == 0


def test_a_given_function_agrees_with_random_labels_no_more_often_than_the_count_supposes():
    corners, error = 16, 0.25
    entropy = -(error * math.log2(error) + (1 - error) * math.log2(1 - error))
    exact = sum(math.comb(corners, k) for k in range(int(error * corners) + 1)) / 2**corners
    assert exact <= 2 ** (-corners * (1 - entropy))


def test_an_error_that_guessing_reaches_is_refused():
    with pytest.raises(ValueError, match="below 1/2"):
        m.numbers_needed(4, 0.5)


def test_one_direction_computes_the_parity_of_every_corner():
    x = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    np.testing.assert_allclose(m.parity(6).value(x), 1 - 2 * (x.sum(1) % 2), atol=1e-12)


def test_parity_takes_a_bump_a_corner(stage):
    parity = stage["corners"].query("case == 'parity'")
    assert (parity.bumps == 2**parity.dimension).all()


# --- the stage ---------------------------------------------------------------------------------------------


def test_an_undecided_input_is_half_right():
    assert m.accuracy(np.array([2.0, -1, 0, 0]), np.array([1, 1, -1, 1])) == (0.5, 0.5)


def test_pairs_take_equally_many_of_each_class_and_never_a_test_picture(digits):
    pictures = params.Memorizers(**TOY).pictures["small"]
    tasks, names = m.pair_tasks(pictures, digits, rng())
    assert len(tasks) == 45 and names[0] == {"first": "0", "second": "1"}
    pixels = {bytes(x.astype(np.float32)): y for x, y in zip(digits.x_train.reshape(1000, -1), digits.y_train)}
    for task, (a, b) in zip(tasks, itertools.combinations(range(10), 2)):
        assert (task.labels["true"] == np.repeat([-1, 1], 20)).all()
        assert [pixels[bytes(x.astype(np.float32))] for x in task.x] == [a] * 20 + [b] * 20


def test_a_class_that_is_too_small_is_named(digits):
    pictures = params.Memorizers(**TOY).pictures["small"].model_copy(update={"per_class": 500})
    with pytest.raises(ValueError, match="per_class is 500"):
        m.pair_tasks(pictures, digits, rng())


def test_a_trained_network_says_of_its_inputs_what_the_learner_predicts():
    tasks = [m.Task(*[(x := cloud(32, 4, seed))[0], {"true": x[1]}], x[0], x[1]) for seed in range(3)]
    learner = params.Memorizers(**TOY).cells.network
    networks = m.train(learner, tasks, "true", [m.trial_seed(0, str(k)) for k in range(3)])
    said = m.signs(networks, np.stack([task.x for task in tasks]))
    import torch

    together = networks.predict(torch.from_numpy(np.concatenate([task.x for task in tasks]).astype(np.float32))).numpy()
    for k in range(3):
        np.testing.assert_array_equal(said[k], 2 * together[k, 32 * k : 32 * (k + 1)] - 1)


def test_every_construction_fits_and_random_labels_leave_chance(stage):
    rows = stage["pairs"]
    assert (rows[rows.memorizer != "trained network"].train_errors == 0).all()
    means = rows.groupby(["labels", "memorizer"]).test_accuracy.mean()
    assert (abs(means["random"] - 0.5) < 0.05).all()
    assert means["true", "local bumps"] > 0.95 and means["true", "trained network"] > 0.95
    assert means["true", "random direction"] < 0.7 < means["true", "fitted direction"]


def test_bumps_saturate_on_clusters_and_grow_with_random_labels(stage):
    found = stage["summary"]["growth"]["clusters"]
    assert found["true"]["last_step"]["value"] < 1.3
    assert found["random"]["last_step"]["value"] > 1.6
    assert (stage["growth"].packing <= stage["growth"].bumps).all()


def test_the_narrow_network_of_the_summary_fits(stage):
    narrow = stage["summary"]["narrow"]
    assert narrow["errors"] == 0 and narrow["widest"] == 4 and narrow["difference"] < 1e-3


def test_the_summary_is_json_and_the_stage_repeats_itself(stage):
    json.dumps(stage["summary"])
    for name in ("sweep", "growth", "samples", "corners"):
        assert getattr(m, name)(params.Memorizers(**TOY)).equals(stage[name]), name


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("pairs", {"cover": 0.5}),
        ("pairs", {"reach": 0.8}),
        ("pairs", {"penalty": 100.0}),
        ("pairs", {"seed": 1}),
        ("corners", {"corner_dimensions": [3, 4, 5, 7]}),
    ],
)
def test_a_changed_number_changes_its_table(stage, table, changes):
    assert not getattr(m, table)(params.Memorizers(**TOY | changes)).equals(stage[table])


@pytest.mark.parametrize(
    ("section", "changes", "table"),
    [
        ("sweep", {"noise": 0.4}, "sweep"),
        ("sweep", {"clusters": 5}, "sweep"),
        ("growth", {"cluster_dimension": 3}, "growth"),
        ("growth", {"pairs": [[0, 2]]}, "growth"),
        ("cells", {"count": 12}, "samples"),
        ("cells", {"dimension": 4}, "samples"),
    ],
)
def test_a_changed_number_of_a_part_changes_its_table(stage, section, changes, table):
    toy = TOY | {section: TOY[section] | changes}
    assert not getattr(m, table)(params.Memorizers(**toy)).equals(stage[table])


def test_parts_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValidationError, match=r"growth\.pictures is 'mnist'; valid names: small"):
        params.Memorizers(**TOY | {"growth": TOY["growth"] | {"pictures": "mnist"}})
    with pytest.raises(ValidationError, match=r"memorizers\.cover is 0\.9"):
        params.Memorizers(**TOY | {"cover": 0.9, "reach": 0.8})


def test_params_yaml_has_the_section():
    tree = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    assert params.Memorizers.model_validate(tree["memorizers"]).growth.pictures in tree["memorizers"]["pictures"]
