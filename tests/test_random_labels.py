"""Random labels: what is drawn, what is fitted, and what the ledger will read."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import claims, data, params, tables
from study.subsets import TrialSeed
from study.theory import random_labels
from study.theory.random_labels import Job, Task

ROOT = Path(__file__).parents[1]
STUDY = params.load(ROOT / "params.yaml")
SMALL = STUDY.fitting.model_copy(
    update={
        "ratio": 0.1,
        "repeats": 2,
        "corruption": (0.0, 0.5, 1.0),
        "shorter": (5,),
        "network": STUDY.fitting.network.model_copy(update={"epochs": 80}),
    }
)


@pytest.fixture(scope="module")
def given():
    return random_labels.task(SMALL, "true", 0)


def test_a_share_p_times_1_minus_1_over_k_of_the_labels_comes_out_wrong():
    labels = np.arange(200_000) % 10
    drawn = random_labels.corrupted(labels, [0.0, 0.3, 1.0], 10, np.random.default_rng(0))
    wrong = (drawn != labels).mean(1)
    assert wrong[0] == 0
    assert wrong[1:] == pytest.approx([0.3 * 0.9, 0.9], abs=5e-3)
    assert np.bincount(drawn[2]) / len(labels) == pytest.approx(np.full(10, 0.1), abs=5e-3)


def test_what_one_level_of_corruption_changes_every_higher_level_changes_in_the_same_way():
    labels = np.arange(5_000) % 7
    drawn = random_labels.corrupted(labels, [0.2, 0.6, 1.0], 7, np.random.default_rng(1))
    for lower, higher in pairwise(drawn):
        changed = lower != labels
        assert changed.any() and (lower[changed] == higher[changed]).all()


def test_corruption_is_drawn_once_for_a_repeat_whatever_is_fitted_and_anew_for_the_next(given):
    again, pixels = random_labels.task(SMALL, "true", 0), random_labels.task(SMALL, "random", 0)
    following = random_labels.task(SMALL, "true", 1)
    assert (given.labels == again.labels).all() and (given.member == pixels.member).all()
    assert (given.labels[-1] != following.labels[-1]).mean() > 0.5
    assert (given.member != following.member).any()


def test_test_labels_are_never_corrupted(given):
    assert (given.data.y_test == data.load("digits").y_test).all()


def test_each_picture_keeps_its_pixels_and_has_its_own_permutation():
    pictures = np.tile(np.arange(64.0).reshape(1, 8, 8), (20, 1, 1))
    mixed = random_labels.scrambled(pictures, np.random.default_rng(0))
    assert (np.sort(mixed.reshape(20, -1), axis=1) == np.arange(64)).all()
    assert len(np.unique(mixed.reshape(20, -1), axis=0)) == 20


def test_networks_trained_side_by_side_equal_networks_trained_alone(given):
    learner, seed = SMALL.network.model_copy(update={"epochs": 3}), TrialSeed(SMALL.seed, 0)
    together = random_labels.fit_network(given, learner, seed)
    for level, labels in enumerate(given.labels):
        alone = learner.fit_predict(replace(given.data, y_train=labels), given.member[None], [seed])
        assert (together[0][level] == alone[0][0]).all()
        assert (together[1][level] == alone[1][0]).all()


def test_the_linear_model_fits_what_is_separable_and_fails_where_no_line_separates():
    corners = np.array([[0, 0], [1, 1], [0, 1], [1, 0]], dtype=np.float32)
    y = np.array([0, 0, 1, 1])
    square = data.Data("square", corners, y, corners, y, ("even", "odd"))
    separable, exclusive_or = np.array([0, 1, 0, 1]), y
    task = Task(square, np.stack([separable, exclusive_or]), np.ones(4, dtype=bool))
    predicted, tested = random_labels.fit_linear(task, penalty=1e-6)
    assert (predicted[0] == separable).all() and (tested == predicted).all()
    assert (predicted[1] == exclusive_or).mean() < 1


def test_with_more_examples_than_weights_the_linear_model_cannot_fit_random_labels():
    given = random_labels.task(STUDY.fitting, "true", 0)
    assert given.member.sum() > 65 * 10
    predicted, _ = random_labels.fit_linear(given, STUDY.fitting.penalty)
    fitted = (predicted == given.labels)[:, given.member].mean(1)
    assert fitted[0] == 1
    assert fitted[-1] < 0.5


def test_with_fewer_examples_than_weights_the_linear_model_fits_some_draws_of_partly_corrupted_labels():
    half = STUDY.fitting.model_copy(update={"ratio": 0.5, "corruption": (0.2,)})
    given = random_labels.task(half, "true", 1)
    predicted, _ = random_labels.fit_linear(given, half.penalty)
    assert (predicted == given.labels)[:, given.member].mean() > 0.99


def test_shares_are_counted_apart_for_true_and_wrong_labels_and_are_nan_without_any(given):
    labels, member = given.labels, given.member
    predicted = np.where(member, labels, given.data.y_train)  # fits its labels; elsewhere it knows the truth
    frame = random_labels.measure(given, predicted, np.tile(given.data.y_test, (len(labels), 1)))
    assert (frame.train_accuracy == 1).all() and (frame.test_accuracy == 1).all()
    assert (frame.held_out_right == 1).all()
    assert frame.held_out_wrong.tolist()[1:] == [0, 0] and np.isnan(frame.held_out_wrong[0])
    assert frame.wrong_rate.tolist() == [(y != given.data.y_train)[member].mean() for y in labels]


def test_the_time_to_fit_lies_between_the_trainings_around_it_and_is_nan_if_never_reached():
    epochs = np.array([1, 10, 100])
    assert random_labels.epochs_to_fit(epochs, np.array([0.1, 0.4, 0.8]), 0.6) == pytest.approx(10**1.5)
    assert random_labels.epochs_to_fit(epochs, np.array([0.9, 0.95, 1.0]), 0.6) == 1
    assert random_labels.epochs_to_fit(epochs, np.array([0.1, 1.0, 0.3]), 1.0) == pytest.approx(10)
    assert np.isnan(random_labels.epochs_to_fit(epochs, np.array([0.1, 0.2, 0.3]), 0.6))


def test_the_two_layer_network_goes_through_any_values_with_2n_plus_d_weights():
    rng = np.random.default_rng(0)
    x, y = rng.random((300, 20)), rng.integers(10, size=300).astype(float)
    direction, biases, weights = random_labels.interpolator(x, y, rng)
    assert len(direction) + len(biases) + len(weights) == 2 * 300 + 20
    assert random_labels.two_layer(x, direction, biases, weights) == pytest.approx(y, abs=1e-6)
    spoiled = random_labels.two_layer(x, direction, rng.permutation(biases), weights)
    assert (np.rint(spoiled) == y).mean() < 0.3


def test_equal_points_with_different_values_are_refused():
    with pytest.raises(ValueError, match="same projection"):
        random_labels.interpolator(np.ones((2, 3)), np.array([0.0, 1.0]), np.random.default_rng(0))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fitting"))
        summary = random_labels.run(SMALL)
        saved = json.loads((tables.ROOT / "fitting" / "summary.json").read_text())
        return summary, tables.load("fitting", "accuracy"), saved


def test_a_network_fits_random_labels_and_memorizes_all_that_chance_does_not_give(small_run):
    summary, _, _ = small_run
    assert summary["worst_train_accuracy"] == 1
    assert summary["true"]["test_accuracy"]["value"] > 0.8
    assert summary["random"]["test_accuracy"]["value"] == pytest.approx(0.1, abs=0.05)
    assert summary["random"]["memorization"]["value"] == pytest.approx(0.9, abs=0.05)
    assert summary["slowdown"]["value"] > 1


def test_every_job_leaves_one_row_a_level_in_the_table(small_run):
    _, accuracy, _ = small_run
    count = accuracy.groupby(["model", "pixels", "epochs"]).size()
    assert count.to_dict() == {
        ("linear", "random", 0): 2,
        ("linear", "true", 0): 6,
        ("network", "random", 5): 2,
        ("network", "random", 80): 2,
        ("network", "true", 5): 6,
        ("network", "true", 80): 6,
    }
    assert not accuracy.duplicated([*Job._fields, "corruption"]).any()


def test_every_number_of_the_stage_that_the_ledger_reads_is_in_the_summary(small_run):
    _, _, saved = small_run
    ledger = claims.load(ROOT / "claims.yaml")
    pointers = {pointer for claim in ledger.claims for pointer in claim.pointers()}
    ours = [pointer for pointer in pointers if pointer.startswith("tables/fitting/summary.json#")]
    assert ours
    for pointer in ours:
        node = claims.resolve(saved, pointer.partition("#")[2])
        values = node if isinstance(node, list) else [node]
        assert all(value["value"] is not None for value in values if isinstance(value, dict)), pointer


def test_repeats_are_reproducible_and_differ_from_each_other(small_run):
    _, accuracy, _ = small_run
    again = random_labels.fit(SMALL, Job("network", "true", 1, 5))
    before = accuracy[(accuracy.model == "network") & (accuracy.pixels == "true") & (accuracy.epochs == 5)]
    pd.testing.assert_frame_equal(before[before.repeat == 1].reset_index(drop=True), again)
    assert not np.allclose(before[before.repeat == 0].test_accuracy, before[before.repeat == 1].test_accuracy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": [0.2, 1.0]}, "from 0 to 1"),
        ({"corruption": [0.0, 0.5]}, "from 0 to 1"),
        ({"corruption": [0.0, 0.6, 0.4, 1.0]}, "ascend"),
        ({"shorter": [4, 150]}, "below the 150 epochs"),
    ],
)
def test_levels_and_trainings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        params.Fitting.model_validate(STUDY.fitting.model_dump() | change)
