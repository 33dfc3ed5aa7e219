"""Training heads on frozen features: the features are made once, kept while the run lasts, and change no bit."""

import numpy as np
import pytest

from study import predictions, scratch, subsets, trials
from study.learners import FrozenFeatures
from study.workers import TrainingError, cluster


@pytest.fixture
def setting(small, small_setting):
    """Six heads, two a block, on the features of a network of eight hidden units."""
    head = small(widths=(), batch_size=16, models_at_once=2)
    learner = FrozenFeatures(representation=small(), representation_seed=5, head=head)
    return small_setting(trials=6).model_copy(update={"learner": learner})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made(monkeypatch):
    """How often features were made."""
    calls, make = [], trials._make_features
    monkeypatch.setattr(trials, "_make_features", lambda *job: calls.append(job) or make(*job))
    return calls


@pytest.fixture
def interrupted(folder, setting, monkeypatch):
    """The scratch folder of a run that was interrupted after one block."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trials.rows, "of_block", lambda block: (_ for _ in ()).throw(KeyboardInterrupt))
        trials.train("heads", setting, workers=0)
    return next((folder / ".scratch").glob("*/"))


def test_a_run_makes_features_once_and_trains_what_the_learner_trains(folder, setting, digits, made):
    found = predictions.load(trials.train("heads", setting, workers=0))
    members = subsets.members(0, range(6), digits.n, 0.7)
    train, test = setting.learner.fit_predict(digits, members, subsets.trial_seeds(0, range(6)))
    assert len(made) == 1
    assert (found.train_correct.values == (train == digits.y_train)).all()
    assert (found.test_correct.values == (test == digits.y_test)).all()


def test_two_workers_write_the_bytes_of_a_serial_run(folder, setting):
    serial = trials.train("heads", setting, workers=0).read_bytes()
    (folder / "predictions/heads.zarr.zip").unlink()
    assert trials.train("heads", setting, workers=2).read_bytes() == serial


def test_a_resumed_run_takes_the_features_that_were_kept(interrupted, setting, made, digits):
    kept = scratch.load(interrupted / "features", ("x_train", "x_test"))
    assert np.array_equal(kept["x_train"], setting.learner.features(digits).x_train)
    trials.train("heads", setting, workers=0)
    assert not made and not interrupted.exists()


def test_damaged_features_are_made_again(interrupted, setting, made):
    features = interrupted / "features"
    features.write_bytes(features.read_bytes()[:1000])
    trials.train("heads", setting, workers=0)
    assert len(made) == 1


def test_features_that_the_disk_does_not_take_end_the_run(folder, setting, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"features could not be written .*No space left.*Make room.*0 of 6 trials"):
        trials.train("heads", setting, workers=0)
    assert not list(folder.glob(".scratch/*/*"))


def test_arrays_come_back_or_not_at_all(tmp_path):
    scratch.save(tmp_path / "a", x=np.arange(3), y=np.eye(2))
    assert scratch.load(tmp_path / "a", ("x",))["x"].tolist() == [0, 1, 2]
    assert scratch.load(tmp_path / "none", ("x",)) is None
    assert scratch.load(tmp_path / "a", ("z",)) is None and not (tmp_path / "a").exists()


def test_features_of_a_cluster_are_made_by_a_worker(folder, setting, digits):
    run = trials._Run("heads", setting, digits, range(2), folder / "out", folder)
    with cluster(1) as client:
        head, data = trials._for_workers(run, client)
    assert head == setting.learner.head and np.array_equal(data.x_test, setting.learner.features(digits).x_test)
