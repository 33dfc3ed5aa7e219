"""Pairs are selected at any thresholds above the floors of their table, and at none below."""

import numpy as np
import pandas as pd
import pytest

from study import data, estimators, pairs, params


@pytest.fixture
def floors():
    return params.load().estimate


@pytest.fixture
def table():
    columns = ["train", "test", "infl", "std_error", "mem", "same_class"]
    rows = [(0, 0, 0.9, 0.01, 1.0, True), (0, 1, 0.2, 0.01, 1.0, True), (1, 1, 0.15, 0.01, 0.25, True),
            (2, 2, 0.5, 0.01, 0.2, True), (3, 3, 0.5, 0.01, 0.9, False), (4, 4, -0.3, 0.01, 0.9, True)]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_selection_needs_memorization_influence_and_one_class(table, floors):
    chosen = pairs.select(table, 0.25, 0.15, floors)
    assert list(zip(chosen.train, chosen.test)) == [(0, 0), (0, 1), (1, 1)]
    assert len(pairs.select(table, 0.25, 0.16, floors)) == 2
    assert len(pairs.select(table, 0.2, 0.15, floors)) == 4


def test_mirrored_selection_takes_negative_influence_only(table, floors):
    assert pairs.mirrored(table, 0.25, 0.15, floors).train.tolist() == [4]
    assert pairs.mirrored(table, 0.25, 0.31, floors).empty


@pytest.mark.parametrize("choose", [pairs.select, pairs.mirrored])
def test_thresholds_below_the_floors_are_refused_by_name(table, floors, choose):
    with pytest.raises(ValueError, match=r"mem_threshold is 0\.05.*estimate\.mem_floor"):
        choose(table, 0.05, 0.15, floors)
    with pytest.raises(ValueError, match=r"infl_threshold is 0\.01.*estimate\.infl_floor"):
        choose(table, 0.25, 0.01, floors)


def test_a_table_cut_to_its_strongest_pairs_is_refused_below_them(table, floors, tmp_path):
    """Also after it was written and read again."""
    table.attrs["infl_floor"] = 0.18
    table.to_parquet(tmp_path / "pairs.parquet", index=False)
    for cut in (table, pd.read_parquet(tmp_path / "pairs.parquet")):
        assert pairs.infl_floor(cut, floors) == 0.18
        assert len(pairs.select(cut, 0.25, 0.18, floors)) == 2
        for choose in (pairs.select, pairs.mirrored):
            with pytest.raises(
                ValueError, match=r"infl_threshold is 0\.15.*down to 0\.180.*Add trials, or raise estimate\.pairs_k"
            ):
                choose(cut, 0.25, 0.15, floors)


def test_a_table_that_was_not_cut_is_complete_down_to_the_floor(table, floors):
    assert pairs.infl_floor(table, floors) == floors.infl_floor


@pytest.mark.parametrize("parts", [1, 3])
def test_a_tally_of_blocks_counts_what_a_table_would_hold(table, floors, parts):
    usable = table[table.same_class & (table.mem >= 0.25)]
    rows = np.array_split(np.arange(len(usable)), parts)
    blocks = [tuple(usable[column].to_numpy()[part] for column in ("train", "test", "infl", "std_error")) for part in rows]
    found = pairs.tally(blocks, (5, 6), 0.15, weak=0.4)
    assert found["by_train"].tolist() == [2, 1, 0, 0, 0] and found["by_test"].tolist() == [1, 2, 0, 0, 0, 0]
    assert (found["mirrored"], found["weak"]) == (1, 2)
    counted = pairs.counts(pairs.select(table, 0.25, 0.15, floors))
    assert counted["pairs"] == found["by_test"].sum() and counted["tests"] == (found["by_test"] > 0).sum()


def test_a_tally_of_nothing_is_zero():
    found = pairs.tally([], (2, 3), 0.15, weak=0.4)
    assert found["by_train"].tolist() == [0, 0] and found["by_test"].tolist() == [0, 0, 0]
    assert found["mirrored"] == found["weak"] == 0


def test_counts_tell_tests_from_training_examples(table, floors):
    counted = pairs.counts(pairs.select(table, 0.25, 0.15, floors))
    assert counted == {"pairs": 3, "tests": 2, "single-influencer tests": 1, "training examples": 2}
    assert set(pairs.counts(table[:0]).values()) == {0}


def test_distances_are_those_between_the_pictures():
    digits = data.load("digits")
    chosen = pd.DataFrame({"train": [3, 3, 7], "test": [0, 9, 4]})
    expected = [np.sqrt(((digits.x_train[i] - digits.x_test[j]) ** 2).sum()) for i, j in zip(chosen.train, chosen.test)]
    assert pairs.distances(chosen, digits) == pytest.approx(expected, rel=1e-5)
    assert pairs.distances(chosen[:0], digits).shape == (0,)
    assert pairs.class_distances(chosen[:0], digits).shape == (0,)


def test_class_distance_is_the_mean_over_all_test_pictures_of_the_class():
    digits = data.load("digits")
    mates = np.flatnonzero(digits.y_test == digits.y_train[3])
    every = pd.DataFrame({"train": 3, "test": mates})
    assert pairs.class_distances(every[:1], digits)[0] == pytest.approx(pairs.distances(every, digits).mean(), rel=1e-5)


def test_selection_from_a_kept_table_equals_selection_from_the_models(floors):
    rng = np.random.default_rng(0)
    members = rng.random((400, 60)) < 0.7
    labels, test_labels = rng.integers(3, size=60), rng.integers(3, size=40)
    correct = rng.random((400, 60)) < np.where(members, 0.95, 0.5)
    tests = rng.random((400, 40)) < 0.4 + 0.4 * members[:, :40]
    models = estimators.estimate(members, correct, tests, labels, test_labels)
    kept = models.pairs(floors.mem_floor, floors.infl_floor)
    again = models.pairs(0.3, 0.2)
    chosen = pairs.select(kept, 0.3, 0.2, floors)
    assert 0 < len(chosen) < len(kept)
    assert list(zip(chosen.train, chosen.test)) == list(zip(*again[again.infl > 0][["train", "test"]].to_numpy().T))
