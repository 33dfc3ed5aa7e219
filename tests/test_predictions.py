"""The prediction file: equal contents are equal bytes, damage never passes, and rows are proved to belong to their masks."""

import json
import random
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from study import params, predictions, subsets
from study.predictions import PredictionError

STUDY = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def setting(small_setting):
    return small_setting(trials=5)


@pytest.fixture
def rows(digits) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "trials": np.arange(5),
        "train_correct": draw.random((5, digits.n)) < 0.9,
        "test_correct": draw.random((5, digits.n_test)) < 0.9,
        "diverged": np.array([0, 0, 1, 0, 0], dtype=bool),
    }


@pytest.fixture
def path(setting, rows, digits, tmp_path) -> Path:
    path = tmp_path / "predictions" / "toy.zarr.zip"
    predictions.write(path, setting, digits, **rows)
    return path


def test_what_is_written_is_read(path, rows, setting, digits):
    file = predictions.load(path)
    assert np.array_equal(file.train_correct, rows["train_correct"]) and file.train_correct.dtype == bool
    assert np.array_equal(file.test_correct, rows["test_correct"]) and file.test_correct.dtype == bool
    assert np.array_equal(file.diverged, rows["diverged"]) and file.trial.values.tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(file.train_label, digits.y_train) and np.array_equal(file.test_label, digits.y_test)
    assert file.train_correct.dims == ("trial", "train") and file.test_correct.dims == ("trial", "test")
    assert file.attrs["fingerprint"] == setting.fingerprint(digits) and file.attrs["order_hash"] == digits.order_hash
    assert json.loads(file.attrs["setting"])["learner"]["widths"] == [8]


def test_equal_contents_are_equal_bytes(path, setting, rows, digits, tmp_path):
    again = tmp_path / "again.zarr.zip"
    predictions.write(again, setting, digits, **rows)
    assert again.read_bytes() == path.read_bytes()


def test_one_other_bit_is_another_file(path, setting, rows, digits, tmp_path):
    rows["test_correct"][4, 796] ^= True
    predictions.write(tmp_path / "other.zarr.zip", setting, digits, **rows)
    assert (tmp_path / "other.zarr.zip").read_bytes() != path.read_bytes()
    assert not predictions.load(tmp_path / "other.zarr.zip").identical(predictions.load(path))


def test_the_file_tells_nothing_of_when_and_where_it_was_made(path):
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert socket.gethostname().encode() not in everything and str(path.parent).encode() not in everything


def test_the_masks_are_not_stored(path):
    assert set(predictions.load(path).variables) == {
        "trial", "train_correct", "test_correct", "diverged", "subset_checksum", "train_label", "test_label"
    }  # fmt: skip


def test_examples_that_are_always_right_cost_next_to_nothing(setting, digits, tmp_path):
    """One example's bits over all trials lie together: 1,000 columns of which 20 are random take 20 columns' room."""
    draw = np.random.default_rng(0)
    correct = np.ones((2000, 1000), dtype=bool)
    correct[:, ::50] = draw.random((2000, 20)) < 0.5
    test = np.ones((2000, digits.n_test), dtype=bool)
    path = tmp_path / "toy.zarr.zip"
    predictions.write(path, setting, digits, np.arange(2000), correct, test, np.zeros(2000, dtype=bool))
    with zipfile.ZipFile(path) as archive:
        chunk = next(info for info in archive.infolist() if info.filename.startswith("train_correct/c/"))
    assert chunk.file_size < 1.5 * 20 * 2000 / 8 + 5000


class Columns:
    """A large matrix of which no more than some columns are ever in memory."""

    def __init__(self, values: np.ndarray):
        self.values, self.shape, self.asked = values, values.shape, []

    def __getitem__(self, key):
        self.asked.append(self.values[key].shape[1])
        return self.values[key]


def test_of_the_large_matrices_a_chunk_at_a_time_is_asked_for(path, setting, rows, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "EXAMPLES_A_CHUNK", 300)
    train, test = Columns(rows["train_correct"]), Columns(rows["test_correct"])
    predictions.write(tmp_path / "toy.zarr.zip", setting, digits, **rows | {"train_correct": train, "test_correct": test})
    assert train.asked == [300, 300, 300, 100] and test.asked == [300, 300, 197]
    assert predictions.load(tmp_path / "toy.zarr.zip").identical(predictions.load(path))


def test_a_failure_while_writing_leaves_the_old_file_alone(path, setting, rows, digits, monkeypatch):
    before = path.read_bytes()
    rows["train_correct"][:] = True

    def fail(*arguments):
        raise OSError("disk full")

    remedy = r"toy.zarr.zip could not be written \(disk full\); what stood there is untouched. Make room in .*predictions"
    with monkeypatch.context() as patch, pytest.raises(PredictionError, match=remedy):
        patch.setattr(predictions.os, "replace", fail)
        predictions.write(path, setting, digits, **rows)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# damage


def test_a_missing_file_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(
        PredictionError, match=r"nowhere.zarr.zip does not exist; `dvc pull` fetches it .* `dvc repro` trains"
    ):
        predictions.load(tmp_path / "nowhere.zarr.zip")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_with_the_remedy(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PredictionError, match=r"toy.zarr.zip is damaged .*; delete it and run `dvc pull` or `dvc repro`"):
        predictions.load(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(path):
    """Some bytes of a zip archive mean nothing (its dates); a bit of any other must not pass, nor end in a traceback."""
    whole, truth, dice = path.read_bytes(), predictions.load(path), random.Random(0)
    start = whole.index(b"PK\x01\x02")  # of the archive's directory
    telling = [(29, 7), (start + 10, 3), (start + 31, 7)]  # lengths and the method of compression: odd errors of zipfile
    refused = 0
    for position, bit in telling + [(dice.randrange(len(whole)), dice.randrange(8)) for _ in range(150)]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
        try:
            assert predictions.load(path).identical(truth), position
        except PredictionError:
            refused += 1
    assert refused > 75


def rewritten(path: Path, **changes) -> xr.Dataset:
    """The file's content with some variables or attributes replaced."""
    file = predictions.load(path)
    for name, value in changes.items():
        if name in file.attrs:
            file.attrs[name] = value
        else:
            file[name] = (file[name].dims, value)
    return file


def test_a_file_that_is_no_prediction_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "toy.zarr.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(PredictionError, match=r"toy.zarr.zip is damaged"):
        predictions.load(tmp_path / "toy.zarr.zip")


def test_a_file_of_another_study_is_refused_by_what_it_lacks(path, setting, digits, tmp_path):
    """Whole, readable and with rows, but not ours; `verify` may be given it without `load`."""
    file = predictions.load(path)
    lacking = {
        "fingerprint, order_hash": file.drop_attrs().assign_attrs(setting="{}"),
        "subset_checksum": file.drop_vars("subset_checksum"),
        "train_correct": file.drop_vars("train_correct").assign(train_correct=file.train_correct.T),
    }
    for name, stranger in lacking.items():
        for check in (predictions.verify, predictions.check):
            with pytest.raises(PredictionError, match=f"is no prediction file of this study: it lacks {name}. Delete it"):
                check(stranger, setting, digits)
    stranger = path.parent / "stranger.zarr.zip"
    xr.Dataset({"height": ("person", [1.7, 1.8])}).to_zarr(tmp_path / "people", consolidated=False, zarr_format=3)
    predictions._zip(tmp_path / "people", tmp_path / "part", stranger)
    with pytest.raises(
        PredictionError, match=r"stranger.zarr.zip is no prediction file of this study: it lacks fingerprint"
    ):
        predictions.load(stranger)


# belonging


def test_the_masks_of_the_trials_are_returned(path, setting, digits):
    masks = predictions.verify(predictions.load(path), setting, digits)
    assert np.array_equal(masks, subsets.members(setting.seed, range(5), 1000, 0.7))


def test_the_masks_follow_the_trial_numbers_of_the_file(setting, rows, digits, tmp_path):
    path = tmp_path / "some.zarr.zip"
    predictions.write(path, setting, digits, **rows | {"trials": np.array([7, 3, 900, 1, 0])})
    masks = predictions.verify(predictions.load(path), setting, digits)
    assert np.array_equal(masks, subsets.members(setting.seed, [7, 3, 900, 1, 0], 1000, 0.7))


def test_data_in_another_order_are_refused_by_their_hash(path, setting, digits):
    other = digits.relabelled(digits.y_train[::-1].copy(), "digits")
    with pytest.raises(PredictionError, match=f"{digits.order_hash}, but data set 'digits' has {other.order_hash}"):
        predictions.verify(predictions.load(path), setting, other)


def test_a_file_of_other_numbers_of_examples_is_refused(path, setting, digits):
    with pytest.raises(PredictionError, match=r"toy.zarr.zip holds 999 training and 797 test examples, but data"):
        predictions.verify(predictions.load(path).isel(train=slice(999)), setting, digits)


def test_how_many_models_trained_at_once_is_no_difference(path, small_setting, digits):
    other = small_setting(trials=5, learner={"models_at_once": 50})
    assert predictions.other_parameters(predictions.load(path), other) == ""
    assert len(predictions.verify(predictions.load(path), other, digits)) == 5


def test_the_device_that_trained_is_no_difference(small_setting, rows, digits, tmp_path):
    """Else a run on a machine with a graphics processor would throw away the rows of one without."""
    convnet = params.load(STUDY).setting("mnist-convnet").learner
    ours, theirs = (
        small_setting().model_copy(update={"learner": convnet.model_copy(update={"device": device})})
        for device in ("auto", "cpu")
    )
    predictions.write(tmp_path / "toy.zarr.zip", theirs, digits, **rows)
    file = predictions.load(tmp_path / "toy.zarr.zip")
    assert predictions.other_parameters(file, ours) == "" and len(predictions.verify(file, ours, digits)) == 5


def test_the_masks_need_not_be_held_to_be_checked(path, setting, digits, monkeypatch):
    """At MNIST's scale all masks are 240 MB: they are made and compared a few at a time, here two."""
    asked, members = [], subsets.members
    monkeypatch.setattr(predictions, "TRIALS_A_SLICE", 2)
    monkeypatch.setattr(subsets, "members", lambda seed, some, *rest: asked.append(len(some)) or members(seed, some, *rest))
    file = predictions.load(path)
    predictions.check(file, setting, digits)
    assert asked == [2, 2, 1]
    file.subset_checksum.values[3] += 1
    with pytest.raises(PredictionError, match=r"toy.zarr.zip: subset checksums of 1 trials differ, the first is 3"):
        predictions.check(file, setting, digits)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, r"toy.zarr.zip: .* seed was 0, is 1. Name a file of this setting, or give the setting"),
        ({"ratio": 0.6}, "parameters: ratio was 0.7, is 0.6. Name"),
        ({"learner": {"epochs": 2}}, "learner was .*'epochs': 1.*, is .*'epochs': 2"),
    ],
)
def test_other_parameters_are_refused_and_named(path, small_setting, digits, changes, difference):
    with pytest.raises(PredictionError, match=difference):
        predictions.verify(predictions.load(path), small_setting(trials=5, **changes), digits)


def test_the_number_of_trials_does_not_matter(path, small_setting, digits):
    assert len(predictions.verify(predictions.load(path), small_setting(trials=99), digits)) == 5


def test_an_edited_checksum_is_refused_with_the_trial(path, setting, digits):
    checksums = predictions.load(path).subset_checksum.values.copy()
    checksums[[1, 3]] += 1
    with pytest.raises(PredictionError, match="subset checksums of 2 trials differ, the first is 1"):
        predictions.verify(rewritten(path, subset_checksum=checksums), setting, digits)


def test_rows_given_to_other_trials_are_refused(path, setting, digits):
    file = predictions.load(path).isel(trial=[1, 0, 2, 3, 4]).assign_coords(trial=range(5))
    with pytest.raises(PredictionError, match="subset checksums of 2 trials differ, the first is 0"):
        predictions.verify(file, setting, digits)


@pytest.mark.parametrize("check", [predictions.verify, predictions.check])
def test_a_trial_that_stands_in_a_file_twice_is_refused(path, setting, digits, check):
    """Its subset is right each time, and estimates would count its model twice."""
    file = predictions.load(path).isel(trial=[0, 1, 2, 1, 4])
    with pytest.raises(PredictionError, match=r"toy.zarr.zip holds trial 1 more than once. The file was altered; delete it"):
        check(file, setting, digits)


def test_an_edited_fingerprint_is_refused(path, setting, digits):
    with pytest.raises(PredictionError, match="the fingerprint differs"):
        predictions.verify(rewritten(path, fingerprint="0" * 24), setting, digits)
