"""Trials: the same bytes serially and on workers, in one go and after any number of kills, and never a stranger's rows."""

import hashlib
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from machines import Unlucky

from study import data as datasets
from study import estimation, estimators, predictions, rows, scratch, subsets, trials
from study.learners import NearestNeighbour
from study.params import Setting
from study.predictions import PredictionError
from study.workers import TrainingError

FORKS = multiprocessing.get_context("forkserver")  # children that cost no imports, and threads are not forked
FORKS.set_forkserver_preload(["study.trials", "psutil", "pytest"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def train(folder, monkeypatch):
    """``train(setting)``: in this process; remembers in ``train.trained`` which trials were trained."""
    original = trials._train_block

    def recorded(data, *job):
        run.trained += job[-1]
        return original(data, *job)

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


def test_a_diverged_trial_is_reported_and_left_out_of_the_estimates(train, folder, digits, capsys):
    """Trial 2 of sixty: counted as wrong it would change most examples' estimates, left out it changes none."""
    learner = Unlucky(models_at_once=7)
    setting = Setting(data="digits", learner=learner, ratio=0.7, seed=0, trials=60, revision=1)
    file = predictions.load(train(setting))
    assert np.flatnonzero(file.diverged.values).tolist() == [2]
    assert "toy: 1 trial(s) diverged (2); the file marks them, and estimates leave them out" in capsys.readouterr().err
    found, diverged = estimation.of_setting("toy", setting)
    good = [trial for trial in range(60) if trial != 2]
    masks = subsets.members(0, good, 1000, 0.7)
    labels = NearestNeighbour(models_at_once=60).fit_predict(digits, masks, subsets.trial_seeds(0, good))
    truth = (digits.y_train, digits.y_test)
    expected = estimators.estimate(masks, *(found == right for found, right in zip(labels, truth)), *truth)
    assert diverged == 1 and found.trials == 59
    assert found.memorization.equals(expected.memorization)


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


def test_a_worker_of_this_machine_is_never_paused_for_good(client):
    """Over 80 per cent of its memory Dask would pause it, and the run would stand still without a word."""
    paused = client.run(lambda dask_worker: dask_worker.memory_manager.memory_pause_fraction)
    assert set(paused.values()) == {False}


def test_large_data_reach_the_workers_without_a_complaint(client):
    """Of any size: Dask warns from 10 MB on, and a warning fails this test."""
    x = np.random.default_rng(0).random((20, 200_000), dtype=np.float32)
    y = np.arange(20) % 2
    large = datasets.Data("large", x, y, x, y, ("0", "1"))
    train, test = trials.predict(
        NearestNeighbour(models_at_once=2), large, np.ones((2, 20), dtype=bool), [None, None], client
    )
    assert (train == y).all() and (test == y).all()


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


def test_labels_with_a_title_survive_an_interruption(small, digits, folder, monkeypatch):
    masks, seeds = subsets.members(0, range(9), 1000, 0.7), subsets.trial_seeds(0, range(9))
    whole, fit = trials.predict(small(), digits, masks, seeds), trials._predict_block
    calls = []

    def fit_two(*job):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*job)

    monkeypatch.setattr(trials, "_predict_block", fit_two)
    with pytest.raises(KeyboardInterrupt):
        trials.predict(small(), digits, masks, seeds, title="toy")
    (kept,) = folder.glob(".scratch/toy-*/")
    assert len(list(kept.iterdir())) == 2
    for ours, theirs in zip(trials.predict(small(), digits, masks, seeds, title="toy"), whole):
        assert np.array_equal(ours, theirs)
    assert len(calls) == 4 and not kept.exists()


def test_kept_labels_are_those_of_the_same_call_only(small, digits, turned):
    masks, seeds = subsets.members(0, range(3), 1000, 0.7), subsets.trial_seeds(0, range(3))
    calls = [(small(), digits, masks, seeds), (small(epochs=3), digits, masks, seeds), (small(), turned, masks, seeds)]
    calls += [(small(), digits, ~masks, seeds), (small(), digits, masks, seeds[::-1])]
    assert len({trials._mark(*call) for call in calls}) == len(calls)


def test_a_diverged_model_is_an_error_where_no_row_could_mark_it(small, digits):
    masks = subsets.members(0, range(2), 1000, 0.7)
    with pytest.raises(RuntimeError, match="2 of 2 models diverged; lower the learning rate"):
        trials.predict(small(learning_rate=1e30), digits, masks, subsets.trial_seeds(0, range(2)))


# killed and resumed


def victim(folder: Path, setting, workers: int, blocks: int) -> None:
    """Trains until so many blocks are saved, and then stands still, with others in flight."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would this one
    os.chdir(folder)
    keep = rows.keep

    def keep_and_wait(scratch, block):
        keep(scratch, block)
        while len(list(scratch.glob("*.npz"))) == blocks:
            time.sleep(0.05)  # a signal that comes just before a long sleep would be seen after it

    rows.keep = keep_and_wait
    trials.train("toy", setting, workers=workers)


def kill_after(blocks: int, folder: Path, setting, workers: int = 0, by=signal.SIGKILL) -> list[psutil.Process]:
    """End a training process when it has saved ``blocks`` blocks; return the processes it had started.

    SIGINT reaches these as well, as it does when a user interrupts what runs in a terminal.
    """
    process = FORKS.Process(target=victim, args=(folder, setting, workers, blocks))
    process.start()
    while process.is_alive() and len(list(folder.glob(".scratch/*/*.npz"))) < blocks:
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    for each in [*children, process] if by == signal.SIGINT else [process]:
        os.kill(each.pid, by)
    process.join()
    assert process.exitcode == (1 if by == signal.SIGINT else -by), "it ended before it could be killed"
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


@pytest.mark.parametrize(("by", "workers"), [(signal.SIGKILL, 1), (signal.SIGINT, 2)], ids=["killed", "interrupted"])
def test_a_run_that_ends_early_is_taken_up_by_fewer_workers(train, small_setting, unbroken, folder, by, workers):
    started = kill_after(2, folder, small_setting(), workers=workers, by=by)
    kept = saved(folder)
    assert len(kept) in (4, 6), "rows that workers have trained"
    _, alive = psutil.wait_procs(started, timeout=60)
    assert started and not alive, "no worker outlives its client"
    assert sha256(train(small_setting())) == unbroken
    assert sorted([*train.trained, *kept]) == list(range(10))


def test_a_serial_run_that_was_killed_is_taken_up_by_two_workers(client, small_setting, unbroken, folder, monkeypatch):
    kill_after(2, folder, small_setting(), workers=0)
    monkeypatch.setenv("STUDY_SCHEDULER", client.scheduler.address)
    assert sha256(trials.train("toy", small_setting())) == unbroken


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
    assert {each.name for each in path.parent.iterdir()} == {"whole.zarr.zip", "toy.zarr.zip"}, "nor half of an assembly"


def test_a_finished_run_leaves_no_scratch_and_a_second_one_trains_nothing(train, small_setting, unbroken, folder):
    path = train(small_setting())
    assert not list(folder.glob(".scratch/*/")) and os.listdir("predictions") == [path.name]
    assert sha256(train(small_setting())) == unbroken and train.trained == []


def test_what_a_killed_assembly_left_is_removed_and_nothing_else(train, small_setting, folder):
    """Other files are written beside it, be it one whose name begins alike."""
    others = {".other.zarr.zip.x7", ".toy.zarr", ".toy.zarr.zip.2.x7"}
    for name in (".toy.zarr.zip.x7", *others):
        (folder / "predictions" / name / "zarr").mkdir(parents=True)
    path = train(small_setting(trials=2))
    assert {each.name for each in path.parent.iterdir()} == {"toy.zarr.zip", *others}


def killed_while_packing(folder: Path, setting, path: Path, merged: tuple[Path, ...] = ()) -> None:
    """Dies when the bytes of the prediction file are about to be packed, its parts being on the disk."""
    os.chdir(folder)
    predictions._zip = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    trials.merge("toy", setting, list(merged)) if merged else trials.train_range("toy", setting, range(4), path, workers=0)


@pytest.mark.parametrize("verb", ["range", "merge"])
def test_the_next_run_removes_what_a_killed_assembly_left(part, small_setting, folder, verb):
    """Also beside a file that the user has named, and after a merge, which keeps no blocks."""
    merged = (part(4, 6),) if verb == "merge" else ()
    path = predictions.path_of("toy") if merged else folder / "elsewhere/0-4.zarr.zip"
    process = FORKS.Process(target=killed_while_packing, args=(folder, small_setting(), path, merged))
    process.start()
    process.join()
    left = [each for each in path.parent.iterdir() if each.is_dir()]
    assert process.exitcode == -signal.SIGKILL and len(left) == 1 and not path.exists()
    trials.merge("toy", small_setting(), list(merged)) if merged else part(0, 4)
    assert path.is_file() and not [each for each in path.parent.iterdir() if each.is_dir()]


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


def test_whoever_interrupts_a_run_learns_what_is_kept(capsys, interrupted):
    scratch = interrupted.relative_to(Path.cwd())
    assert f"interrupted. 6 of 10 trials are finished and kept ({scratch}); the next run" in capsys.readouterr().err


def test_a_block_gets_its_name_when_it_is_complete(train, small_setting, monkeypatch):
    named, replace = [], os.replace

    def checked(part, path):
        if path.suffix == ".npz":
            assert not path.exists()
            named.extend(np.load(part)["trials"].tolist())
        replace(part, path)

    monkeypatch.setattr(scratch.os, "replace", checked)
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


def test_a_file_of_other_parameters_stands_until_all_trials_are_there(train, small_setting, folder, monkeypatch, capsys):
    old = sha256(train(small_setting(trials=4)))

    def fail(*block):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rows, "keep", fail)
        train(small_setting(trials=4, seed=1))
    assert sha256(predictions.path_of("toy")) == old
    replaced = "predictions/toy.zarr.zip was made with other parameters (seed was 0, is 1); it is replaced when all trials"
    assert replaced in capsys.readouterr().err
    assert sha256(train(small_setting(trials=4, seed=1))) != old


@pytest.fixture
def turned(digits) -> datasets.Data:
    """The training data in the opposite order, under the same name."""
    x, y = digits.x_train[::-1].copy(), digits.y_train[::-1].copy()
    return datasets.Data("digits", x, y, digits.x_test, digits.y_test, digits.classes)


def test_a_changed_order_of_the_data_is_refused_by_its_hash(train, small_setting, digits, turned, monkeypatch):
    before, now = sha256(train(small_setting(trials=4))), turned.order_hash
    monkeypatch.setitem(datasets.DATASETS, "digits", lambda root: turned)
    changed = f"order hash {digits.order_hash}, but data set 'digits' has {now}; .* changed. Bring the data back, or delete"
    with pytest.raises(PredictionError, match=changed):
        train(small_setting(trials=4))
    assert sha256(predictions.path_of("toy")) == before and train.trained == []
    predictions.path_of("toy").unlink()
    assert predictions.load(train(small_setting(trials=4))).attrs["order_hash"] == now
    assert train.trained == [0, 1, 2, 3]


def test_blocks_of_data_in_another_order_are_not_used(train, small_setting, interrupted, turned, monkeypatch):
    monkeypatch.setitem(datasets.DATASETS, "digits", lambda root: turned)
    train(small_setting(trials=4))
    assert train.trained == [0, 1, 2, 3]


def test_blocks_of_other_parameters_are_left_alone(train, small_setting, unbroken, interrupted):
    train(small_setting(seed=1), "other")
    assert len(list(interrupted.glob("*.npz"))) == 2
    assert sha256(train(small_setting())) == unbroken


DAMAGES = {
    "truncated": lambda whole: whole[:-100],
    "edited": lambda whole: whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :],
    "emptied": lambda whole: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_prediction_file_is_neither_used_nor_overwritten(train, small_setting, damage):
    path = train(small_setting(trials=4))
    path.write_bytes(damage(path.read_bytes()))
    before = sha256(path)
    with pytest.raises(PredictionError, match=r"toy.zarr.zip is damaged .* delete it"):
        train(small_setting(trials=10))
    assert sha256(path) == before and train.trained == []


def cramped(folder: Path, setting, largest: int) -> None:
    """Trains where no file may grow beyond ``largest`` bytes, which the kernel refuses as it does on a full disk."""
    os.chdir(folder)
    sys.stderr = open(os.devnull, "w")  # pytest keeps it in a file, which may not grow either
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        trials.train("toy", setting, workers=0)
    except TrainingError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        (folder / "message").write_text(str(error))


def run_cramped(*arguments) -> str:
    process = FORKS.Process(target=cramped, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return (arguments[0] / "message").read_text()


@pytest.mark.parametrize("largest", [100, 1000, 6000], ids=["metadata", "chunks", "archive"])
def test_a_disk_that_fills_up_while_assembling_costs_nothing(train, small_setting, unbroken, folder, largest):
    old = train(small_setting(seed=1, trials=2)).read_bytes()
    kill_after(4, folder, small_setting())
    message, path = run_cramped(folder, small_setting(), largest), predictions.path_of("toy")
    assert message.startswith(f"{path} could not be written (") and f"Make room in {folder / 'predictions'}" in message
    assert "10 of 10 trials are finished and kept (.scratch/" in message
    assert path.read_bytes() == old and os.listdir("predictions") == [path.name], "nothing is half-written"
    path.unlink()
    assert sha256(train(small_setting())) == unbroken
    assert train.trained == [], "only the assembly is done again"


def test_a_disk_that_fills_up_while_a_block_is_kept_costs_that_block(train, small_setting, folder):
    setting = small_setting(learner={"models_at_once": 3})
    kill_after(1, folder, setting)
    message = run_cramped(folder, setting, 1000)
    assert "could not be written (" in message and "Make room on that disk, and run again. 3 of 10 trials" in message
    assert not list(folder.glob(".scratch/*/*.part")), "what does not fit is removed"
    train(setting)
    assert train.trained == [3, 4, 5, 6, 7, 8, 9]


def test_a_disk_that_takes_nothing_is_refused_before_anything_is_trained(train, small_setting, folder):
    (folder / ".scratch").write_text("")
    refused = rf"{folder}/.scratch could not be written \(.*\). Make room on that disk, or make it writable, and run again"
    with pytest.raises(TrainingError, match=refused):
        train(small_setting())
    assert train.trained == []


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
        with pytest.raises(TrainingError, match=r"another process is training toy .*; wait for it or end it"):
            train(small_setting())
        with pytest.raises(TrainingError, match=r"another process is training toy .*; wait for it or end it"):
            trials.merge("toy", small_setting(), [Path("part.zarr.zip")])
        assert train.trained == []
    finally:
        leave.set()
        process.join()
    assert process.exitcode == 0 and sha256(predictions.path_of("toy")) == unbroken


# other machines, each with a range of the trials


@pytest.fixture
def part(folder, small_setting):
    """``part(4, 10)``: the prediction file of these trials, trained elsewhere."""

    def part(first: int, end: int, **changes) -> Path:
        out = folder / f"elsewhere/{first}-{end}.zarr.zip"
        return trials.train_range("toy", small_setting(**changes), range(first, end), out, workers=0)

    return part


def test_ranges_trained_apart_are_merged_to_the_bytes_of_one_run(part, small_setting, unbroken):
    """Whatever number of trials the other machines' own settings name, and in whatever order the files come."""
    files = [part(7, 10, trials=1), part(0, 4), part(4, 7, trials=99)]
    path, held = trials.merge("toy", small_setting(), files)
    assert sha256(path) == unbroken and held == list(range(10))


def test_merged_rows_are_not_trained_again(train, part, small_setting, unbroken):
    train(small_setting(trials=3))
    _, held = trials.merge("toy", small_setting(), [part(6, 9)])
    assert held == [0, 1, 2, 6, 7, 8], "a gap may stay"
    assert sha256(train(small_setting())) == unbroken
    assert train.trained == [3, 4, 5, 9]


def test_a_trial_that_both_files_hold_may_not_differ(train, part, small_setting, digits):
    path = train(small_setting(trials=6))
    before, again = sha256(path), predictions.load(part(4, 8))
    assert trials.merge("toy", small_setting(), [part(4, 8)])[1] == list(range(8)), "equal rows may be there twice"
    path = train(small_setting(trials=6))
    assert sha256(path) == before
    forged = again.train_correct.values.copy()
    forged[1, [3, 999]] ^= True
    file = path.parent / "forged.zarr.zip"
    predictions.write(file, small_setting(), digits, range(4, 8), forged, again.test_correct.values, again.diverged.values)
    with pytest.raises(
        PredictionError, match=r"forged.zarr.zip is not merged: its trial 5 differs in 2 examples from the row"
    ):
        trials.merge("toy", small_setting(), [file])
    assert sha256(path) == before


def test_what_belongs_to_something_else_is_not_merged(train, part, small_setting, digits, turned, monkeypatch):
    before, right = sha256(train(small_setting(trials=2))), part(6, 8)
    strangers = {
        "seed was 1, is 0": part(2, 4, seed=1),
        "nowhere.zarr.zip does not exist": Path("nowhere.zarr.zip"),
        "subset checksums of 2 trials differ, the first is 4": swapped(part(4, 6), small_setting(), digits),
    }
    with monkeypatch.context() as patch:
        patch.setitem(datasets.DATASETS, "digits", lambda root: turned)
        strangers["the data, or their order, changed"] = part(8, 10)
    for message, file in strangers.items():
        with pytest.raises(PredictionError, match=message):
            trials.merge("toy", small_setting(), [right, file])
        assert sha256(predictions.path_of("toy")) == before, "nor is what came with it"


def swapped(path: Path, setting, digits) -> Path:
    """The file with its rows, and their checksums, given to each other's trials."""
    file, checksums = predictions.load(path), predictions._checksums
    turned_rows = (file[name].values[::-1] for name in (*rows.SPLITS, "diverged"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "_checksums", lambda *arguments: checksums(*arguments)[::-1])
        predictions.write(path, setting, digits, file.trial.values, *turned_rows)
    return path


def test_a_range_does_not_replace_the_file_of_another_setting(part):
    """Unlike the prediction file of a setting, which follows its parameters, this one was named by hand."""
    before = part(0, 2).read_bytes()
    refused = r"0-2.zarr.zip was made with other parameters \(seed was 0, is 1\); name another file"
    with pytest.raises(PredictionError, match=refused):
        part(0, 2, seed=1)
    assert part(0, 2).read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_part_is_neither_merged_nor_overwritten(train, part, small_setting, damage):
    whole, file = sha256(train(small_setting(trials=4))), part(4, 6)
    file.write_bytes(damage(file.read_bytes()))
    before = sha256(file)
    for again in (lambda: part(4, 6), lambda: trials.merge("toy", small_setting(), [file])):
        with pytest.raises(PredictionError, match=r"4-6.zarr.zip is damaged .* copy it again from its machine"):
            again()
    assert sha256(file) == before and sha256(predictions.path_of("toy")) == whole


def test_a_range_resumes_and_keeps_to_itself(part, train, small_setting, interrupted, monkeypatch, folder):
    """Neither does it use the blocks of an unfinished run nor remove them, and a second machine may share the folder."""
    trained, train_block = [], trials._train_block
    monkeypatch.setattr(trials, "_train_block", lambda *job: trained.extend(job[-1]) or train_block(*job))
    first = part(0, 2).read_bytes()
    part(0, 2)
    assert trained == [0, 1] and part(0, 2).read_bytes() == first
    assert len(list(interrupted.glob("*.npz"))) == 2
    other = folder / "elsewhere/0-2.zarr.zip"
    with pytest.raises(
        PredictionError, match=r"0-2.zarr.zip holds trial 0, which is not of trials 1 to 4; name another file"
    ):
        trials.train_range("toy", small_setting(), range(1, 5), other, workers=0)
    assert other.read_bytes() == first
