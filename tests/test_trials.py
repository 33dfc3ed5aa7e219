"""Trials: the same bytes serially and on workers, in one go and after any number of kills, and never a stranger's rows."""

import hashlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from study import data as datasets
from study import predictions, rows, subsets, trials
from study.learners import NearestNeighbour
from study.predictions import PredictionError

FORKS = multiprocessing.get_context("forkserver")  # children that cost no imports, and threads are not forked
FORKS.set_forkserver_preload(["study.trials", "psutil", "pytest"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def train(folder, monkeypatch):
    """``train(setting)``: in this process; remembers in ``train.trained`` which trials were trained."""
    original = trials._train_block

    def recorded(data, setting, block):
        run.trained += block
        return original(data, setting, block)

    def run(setting, name: str = "toy") -> Path:
        run.trained = []
        return trials.train(name, setting, workers=0)

    monkeypatch.setattr(trials, "_train_block", recorded)
    return run


@pytest.fixture(scope="module")
def unbroken(small_setting, tmp_path_factory) -> str:
    """Hash of the file of ten trials of the small setting, trained in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("unbroken"))
        return sha256(trials.train("toy", small_setting(), workers=0))


@pytest.fixture(scope="module")
def client():
    """A cluster of two workers."""
    with trials.cluster(2) as client:
        yield client


# what is trained


def test_a_row_holds_what_the_learner_got_right(train, small_setting, digits):
    setting = small_setting(trials=4)
    file = predictions.load(train(setting))
    masks, seeds = subsets.members(0, range(4), 1000, 0.7), subsets.trial_seeds(0, range(4))
    labels = setting.learner.fit_predict(digits, masks, seeds)
    assert np.array_equal(file.train_correct, labels[0] == digits.y_train)
    assert np.array_equal(file.test_correct, labels[1] == digits.y_test)
    assert file.trial.values.tolist() == [0, 1, 2, 3] and not file.diverged.any()
    assert np.array_equal(file.subset_checksum, subsets.checksums(masks))


@pytest.mark.parametrize("at_once", [1, 4, 50])
def test_how_many_models_train_at_once_changes_no_row(train, small_setting, at_once):
    ours, other = (predictions.load(train(small_setting(learner={"models_at_once": k}))) for k in (3, at_once))
    assert ours.drop_attrs().identical(other.drop_attrs())
    assert ours.attrs["fingerprint"] == other.attrs["fingerprint"]


def test_diverged_trials_are_marked_and_right_about_nothing(train, small_setting):
    file = predictions.load(train(small_setting(trials=4, learner={"learning_rate": 1e30})))
    assert file.diverged.all() and not file.train_correct.any() and not file.test_correct.any()


def test_progress_is_reported_while_training(train, small_setting, folder, monkeypatch):
    monkeypatch.setenv("STUDY_PROGRESS", str(folder / "progress"))
    train(small_setting())
    assert "train toy: 10 of 10 models, " in (folder / "progress").read_text()


# workers


def test_the_rows_of_two_workers_are_the_bytes_of_a_serial_run(client, small_setting, unbroken, folder, monkeypatch):
    monkeypatch.setenv("STUDY_SCHEDULER", client.scheduler.address)
    assert sha256(trials.train("toy", small_setting())) == unbroken


def test_a_cluster_of_no_workers_is_this_process():
    with trials.cluster(0) as client:
        assert client is None


def test_the_environment_sets_the_number_of_workers_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("STUDY_WORKERS", "0")
    with trials.cluster() as client:
        assert client is None
    with trials.cluster(1) as client:
        assert len(client.scheduler_info()["workers"]) == 1


def test_a_cluster_has_one_single_threaded_process_for_each_worker(client):
    threads = client.nthreads()
    assert list(threads.values()) == [1, 1]
    assert os.getpid() not in client.run(os.getpid).values()


def test_a_cluster_starts_beside_another_program_on_its_port():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if taken.connect_ex(("127.0.0.1", 8787)):
            taken = socket.create_server(("127.0.0.1", 8787))
        with taken, trials.cluster(1) as client:
            assert client.submit(int, "7").result() == 7


class Fragile(NearestNeighbour):
    """Fails the first time it is asked, or kills its worker."""

    grave: str
    deadly: bool

    def fit_predict(self, data, members, seeds):
        try:
            os.close(os.open(self.grave, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().fit_predict(data, members, seeds)
        if self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("no more memory")


@pytest.mark.parametrize("deadly", [False, True], ids=["fails", "dies"])
def test_work_that_fails_or_whose_worker_dies_is_done_again(client, digits, tmp_path, deadly):
    masks, seeds = subsets.members(0, range(4), 1000, 0.7), subsets.trial_seeds(0, range(4))
    fragile = Fragile(models_at_once=2, grave=str(tmp_path / "grave"), deadly=deadly)
    found = trials.predict(fragile, digits, masks, seeds, client)
    assert (tmp_path / "grave").exists()
    for ours, theirs in zip(found, NearestNeighbour(models_at_once=4).fit_predict(digits, masks, seeds)):
        assert np.array_equal(ours, theirs)


def test_subsets_of_any_sizes_are_predicted_in_their_order(client, small, digits):
    sizes = [700, 300, 700, 999, 300, 700, 700]
    masks = np.array([np.random.default_rng(k).permutation(1000) < size for k, size in enumerate(sizes)])
    seeds = subsets.trial_seeds(3, range(10, 17))
    serial, spread = (trials.predict(small(), digits, masks, seeds, where) for where in (None, client))
    for k in range(7):
        alone = small().fit_predict(digits, masks[[k]], [seeds[k]])
        for split in (0, 1):
            assert np.array_equal(serial[split][k], alone[split][0])
            assert np.array_equal(spread[split][k], alone[split][0])


def test_a_diverged_model_is_an_error_where_no_row_could_mark_it(small, digits):
    masks = subsets.members(0, range(2), 1000, 0.7)
    with pytest.raises(RuntimeError, match="2 of 2 models diverged; lower the learning rate"):
        trials.predict(small(learning_rate=1e30), digits, masks, subsets.trial_seeds(0, range(2)))


# killed and resumed


def victim(folder: Path, setting, workers: int, blocks: int) -> None:
    """Trains until so many blocks are saved, and then stands still, with others in flight."""
    os.chdir(folder)
    keep = rows.keep

    def keep_and_wait(scratch, block):
        keep(scratch, block)
        if len(list(scratch.glob("*.npz"))) == blocks:
            time.sleep(600)

    rows.keep = keep_and_wait
    trials.train("toy", setting, workers=workers)


def kill_after(blocks: int, folder: Path, setting, workers: int = 0) -> list[psutil.Process]:
    """SIGKILL a training process when it has saved ``blocks`` blocks; return the processes it had started."""
    process = FORKS.Process(target=victim, args=(folder, setting, workers, blocks))
    process.start()
    while process.is_alive() and len(list(folder.glob(".scratch/*/*.npz"))) < blocks:
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it ended before it could be killed"
    return children


def saved(folder: Path) -> set[int]:
    """Trials in the blocks of an interrupted run."""
    return {int(trial) for path in folder.glob(".scratch/*/*.npz") for trial in np.load(path)["trials"]}


def test_a_killed_run_resumes_to_the_same_bytes_and_trains_only_what_is_missing(train, small_setting, unbroken, folder):
    setting = small_setting()
    for blocks in (1, 3):
        kill_after(blocks, folder, setting)
    kept = saved(folder)
    assert kept == set(range(9)) and not predictions.path_of("toy").exists()
    assert sha256(train(setting)) == unbroken
    assert sorted([*train.trained, *kept]) == list(range(10))


def test_a_run_killed_on_one_worker_resumes_on_two_to_the_same_bytes(client, small_setting, unbroken, folder, monkeypatch):
    workers = kill_after(2, folder, small_setting(), workers=1)
    assert len(saved(folder)) in (4, 6), "rows that one worker has trained"
    monkeypatch.setenv("STUDY_SCHEDULER", client.scheduler.address)
    assert sha256(trials.train("toy", small_setting())) == unbroken
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers and not alive, "no worker outlives its client"


WRITING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}


def suicide(folder: Path, setting, strike: int) -> None:
    """Trains, but kills itself just before it changes a file for the ``strike``-th time."""
    os.chdir(folder)
    left = [strike]

    def count(event, arguments):
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opens or event in WRITING:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    trials.train("toy", setting, workers=0)


def run_until(strike: int, folder: Path, setting) -> int:
    process = FORKS.Process(target=suicide, args=(folder, setting, strike))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


def test_a_run_may_be_killed_before_any_change_of_a_file(train, small_setting, folder):
    """One folder, one run after another, each killed later than the last, until one lives to the end."""
    setting = small_setting(trials=4, learner={"models_at_once": 2})
    whole = sha256(train(setting, "whole"))
    strike, deaths, path = 1, 0, predictions.path_of("toy")
    while run_until(strike, folder, setting) == -signal.SIGKILL:
        assert not path.exists() or sha256(path) == whole, "a prediction file is whole or not there"
        strike, deaths = strike + 1 + (strike > 14) * strike // 5, deaths + 1
    assert deaths > 20, "fewer changes than a run makes: the trap does not close"
    assert sha256(path) == whole
    assert list(folder.glob(".scratch/*/")) == [], "no scratch folder stays behind"


def test_a_finished_run_leaves_no_scratch_and_a_second_one_trains_nothing(train, small_setting, unbroken, folder):
    path = train(small_setting())
    assert not list(folder.glob(".scratch/*/")) and os.listdir("predictions") == [path.name]
    assert sha256(train(small_setting())) == unbroken and train.trained == []


@pytest.fixture
def interrupted(train, small_setting, folder, monkeypatch):
    """The scratch folder of a run of ten trials that failed after six."""
    keep, seen = rows.keep, []

    def fail_third(*block):
        seen.append(block)
        if len(seen) == 3:
            raise KeyboardInterrupt
        keep(*block)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rows, "keep", fail_third)
        train(small_setting())
    (scratch,) = folder.glob(".scratch/*/")
    return scratch


def test_a_block_that_was_being_written_is_ignored(train, small_setting, unbroken, interrupted):
    """Even where it looks whole: here with the rows of trials 0, 1, 2 under the numbers 6, 7, 8."""
    block = sorted(interrupted.glob("*.npz"))[0]
    with np.load(block) as saved, open(interrupted / "00000006-3.123.part", "wb") as part:
        np.savez(part, **dict(saved) | {"trials": saved["trials"] + 6})
    (interrupted / "00000009-1.123.part").write_bytes(block.read_bytes()[:100])
    assert sha256(train(small_setting())) == unbroken
    assert train.trained == [6, 7, 8, 9]


def test_a_block_gets_its_name_when_it_is_complete(train, small_setting, monkeypatch):
    named, replace = [], os.replace

    def checked(part, path):
        if path.suffix == ".npz":
            assert not path.exists()
            named.extend(np.load(part)["trials"].tolist())
        replace(part, path)

    monkeypatch.setattr(trials.os, "replace", checked)
    train(small_setting())
    assert named == list(range(10))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:300] + b"x" + b[301:]])
def test_the_trials_of_a_damaged_block_are_trained_again(train, small_setting, unbroken, interrupted, damage):
    """A block is renamed when it is complete, so only a failing disk does this; its rows can be had again."""
    block = sorted(interrupted.glob("*.npz"))[0]
    block.write_bytes(damage(block.read_bytes()))
    assert sha256(train(small_setting())) == unbroken
    assert train.trained == [0, 1, 2, 6, 7, 8, 9]


# more trials, fewer, others


def test_more_trials_extend_the_file_and_keep_its_rows(train, small_setting, unbroken):
    old = predictions.load(train(small_setting(trials=4)))
    new = predictions.load(train(small_setting(trials=10)))
    assert train.trained == [4, 5, 6, 7, 8, 9]
    assert new.isel(trial=range(4)).identical(old)
    assert sha256(predictions.path_of("toy")) == unbroken


def test_fewer_trials_cut_the_file(train, small_setting):
    fresh = sha256(train(small_setting(trials=4), "fresh"))
    train(small_setting(trials=10))
    assert sha256(train(small_setting(trials=4))) == fresh
    assert train.trained == []


OTHERS = [{"learner": {"epochs": 2}}, {"learner": {"weight_decay": 0.1}}, {"seed": 1}, {"ratio": 0.6}, {"revision": 2}]


@pytest.mark.parametrize("changes", OTHERS, ids=str)
def test_changed_parameters_never_meet_old_rows(train, small_setting, changes):
    fresh = sha256(train(small_setting(trials=4, **changes), "fresh"))
    train(small_setting(trials=4))
    assert sha256(train(small_setting(trials=4, **changes))) == fresh
    assert train.trained == [0, 1, 2, 3]


def test_changed_data_never_meet_old_rows(train, small_setting, digits, monkeypatch):
    train(small_setting(trials=4))
    x, y = digits.x_train[::-1].copy(), digits.y_train[::-1].copy()
    reversed_ = datasets.Data("digits", x, y, digits.x_test, digits.y_test, digits.classes)
    monkeypatch.setitem(datasets.DATASETS, "digits", lambda root: reversed_)
    file = predictions.load(train(small_setting(trials=4)))
    assert train.trained == [0, 1, 2, 3] and file.attrs["order_hash"] == reversed_.order_hash


def test_blocks_of_other_parameters_are_left_alone(train, small_setting, unbroken, interrupted):
    train(small_setting(seed=1), "other")
    assert len(list(interrupted.glob("*.npz"))) == 2
    assert sha256(train(small_setting())) == unbroken


def test_a_damaged_prediction_file_is_neither_used_nor_overwritten(train, small_setting):
    path = train(small_setting(trials=4))
    path.write_bytes(path.read_bytes()[:-100])
    before = sha256(path)
    with pytest.raises(PredictionError, match=r"toy.zarr.zip is damaged .* delete it"):
        train(small_setting(trials=10))
    assert sha256(path) == before and train.trained == []


def occupant(folder: Path, setting, ready, leave) -> None:
    """Trains, and after its first block waits until it may go on."""
    os.chdir(folder)
    keep = rows.keep
    rows.keep = lambda *block: (keep(*block), ready.set(), leave.wait(60))
    trials.train("toy", setting, workers=0)


def test_a_second_process_may_not_train_the_same_setting(train, small_setting, unbroken, folder):
    ready, leave = FORKS.Event(), FORKS.Event()
    process = FORKS.Process(target=occupant, args=(folder, small_setting(), ready, leave))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(RuntimeError, match=r"another process is training toy .*; wait for it or end it"):
            train(small_setting())
        assert train.trained == []
    finally:
        leave.set()
        process.join()
    assert process.exitcode == 0 and sha256(predictions.path_of("toy")) == unbroken
