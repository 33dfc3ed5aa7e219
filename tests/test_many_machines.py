"""Many machines: real schedulers and workers that die, come late and run out of memory; nothing is lost, nothing done twice."""

import os
from pathlib import Path

import machines
import numpy as np
import pytest
from machines import Greedy, Log, Machines, Watched, wait_until

from study import predictions, rows, trials, workers
from study.learners import NearestNeighbour
from study.params import Setting
from study.workers import TrainingError

T = 12


def setting(learner: NearestNeighbour) -> Setting:
    """Twelve trials; the learners of `machines` compute what nearest neighbours compute, so their fingerprint is the same."""
    return Setting(data="digits", learner=learner, ratio=0.7, seed=0, trials=T, revision=1)


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> bytes:
    """The file of a serial run on this machine, in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("serial"))
        return trials.train("toy", setting(NearestNeighbour(models_at_once=2)), workers=0).read_bytes()


@pytest.fixture
def cast(folder):
    """Machines for one test."""
    cast = Machines(folder)
    yield cast
    cast.end()


@pytest.fixture
def log(folder) -> Log:
    return Log(folder)


@pytest.fixture
def train(folder, monkeypatch):
    """``train(address, learner)``: a run on the workers of a scheduler; ``then(k)`` is called when k blocks are kept."""

    def train(address: str, learner: NearestNeighbour, then=lambda kept: None) -> Path:
        def keep_and_tell(scratch, block):
            keep(scratch, block)
            then(len(list(scratch.glob("*.npz"))))

        monkeypatch.setenv("STUDY_SCHEDULER", address)
        with monkeypatch.context() as patch:
            keep = rows.keep
            patch.setattr(rows, "keep", keep_and_tell)
            return trials.train("toy", setting(learner))

    return train


def kept(folder: Path) -> set[int]:
    return {int(trial) for path in folder.glob(".scratch/*/*.npz") for trial in np.load(path)["trials"]}


def test_a_worker_is_killed_and_another_joins_late(train, cast, log, folder, serial):
    address, _ = cast.scheduler()
    victim, other = cast.worker(address), cast.worker(address)
    lost = set()

    def strike(blocks: int) -> None:
        if blocks == 2:
            log.hold.touch()
            wait_until(lambda: log.in_flight(victim.pid) and log.in_flight(other.pid))
            lost.update(log.in_flight(victim.pid))
            victim.kill()
            late = cast.worker(address)
            wait_until(lambda: log.in_flight(late.pid))
            log.hold.unlink()

    path = train(address, Watched(models_at_once=2, folder=str(folder)), strike)
    assert path.read_bytes() == serial
    begun = log.trials("begin")
    assert set(begun) == set(range(T)) and lost
    assert {trial for trial, times in begun.items() if times > 1} == lost, "only what was in flight is trained again"
    assert set(log.trials("end").values()) == {1}


def test_the_scheduler_is_killed_and_the_run_taken_up_by_fewer_workers(train, cast, log, folder, serial):
    address, scheduler = cast.scheduler()
    pair = [cast.worker(address), cast.worker(address)]

    def strike(blocks: int) -> None:
        if blocks == 2:
            log.hold.touch()
            wait_until(lambda: all(log.in_flight(worker.pid) for worker in pair))
            scheduler.kill()

    watched = Watched(models_at_once=2, folder=str(folder))
    with pytest.raises(TrainingError, match=r"STUDY_SCHEDULER.* was lost. Start it .* run again. 4 of 12 trials are .* kept"):
        train(address, watched, strike)
    assert len(kept(folder)) == 4 and not predictions.path_of("toy").exists()
    before, in_flight = kept(folder), set.union(*(log.in_flight(worker.pid) for worker in pair))
    for worker in pair:
        worker.kill()
    log.hold.unlink()

    address, _ = cast.scheduler()
    alone = cast.worker(address)
    assert train(address, watched).read_bytes() == serial
    assert not before & set(log.trials("begin", alone.pid)), "what was kept is not trained again"
    assert {trial for trial, times in log.trials("begin").items() if times > 1} <= in_flight | (set(range(T)) - before)
    assert set(log.trials("end", alone.pid)) == set(range(T)) - before


def test_without_a_worker_the_run_ends_with_the_remedy(train, cast, folder, monkeypatch):
    monkeypatch.setenv("STUDY_PATIENCE", "1")
    monkeypatch.setattr(workers, "ROLL_CALL_SECONDS", 0.1)
    address, _ = cast.scheduler()
    remedy = f"for 1 seconds the scheduler {address} had no worker .* `dask worker {address} --nthreads 1`, and run again"
    with pytest.raises(TrainingError, match=remedy):
        train(address, NearestNeighbour(models_at_once=2))


def test_a_worker_out_of_memory_is_named_and_what_was_finished_is_kept(train, cast, folder, serial):
    address, _ = cast.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    cast.worker(address, "--nanny", "--memory-limit", "1.5GiB", DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE="False")
    message = r"1 worker\(s\) died while training trials \d to \d+ of toy, .* memory .*Lower models_at_once .* more memory"
    with pytest.raises(TrainingError, match=message):
        train(address, Greedy(models_at_once=2))
    assert kept(folder) <= {0, 1, 2, 3}
    finished = trials.train("toy", setting(NearestNeighbour(models_at_once=2)), workers=0)
    assert finished.read_bytes() == serial


def test_memory_that_runs_out_in_this_process_has_the_same_remedy(folder, monkeypatch):
    monkeypatch.setattr(NearestNeighbour, "fit_predict", lambda *arguments: np.empty(2**60))
    with pytest.raises(TrainingError, match=r"memory ran out while training trials 0 to 2 of toy \(.*\). Lower models_at_once"):
        trials.train("toy", setting(NearestNeighbour(models_at_once=3)), workers=0)


def test_a_worker_from_another_environment_is_told_apart(train, cast, folder):
    """One that finds a package `study` which is not ours."""
    (folder / "elsewhere/study").mkdir(parents=True)
    (folder / "elsewhere/study/__init__.py").touch()
    address, _ = cast.scheduler()
    cast.worker(address, PYTHONPATH=f"{folder / 'elsewhere'}{os.pathsep}{Path(machines.__file__).parent}")
    with pytest.raises(TrainingError, match=r"worker of tcp.* failed with: No module named 'study.*this repository's environment"):
        train(address, NearestNeighbour(models_at_once=2))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "localhost", "http://127.0.0.1:8786", ""])
def test_an_address_without_a_scheduler_is_refused_with_the_remedy(folder, monkeypatch, address):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.3)
    monkeypatch.setenv("STUDY_SCHEDULER", address)
    refused = f"STUDY_SCHEDULER is '{address}', but no Dask scheduler answers there .* `dask scheduler`, correct the address"
    with pytest.raises(TrainingError, match=refused), workers.cluster():
        pass


@pytest.mark.parametrize("variable", ["STUDY_WORKERS", "STUDY_PATIENCE"])
@pytest.mark.parametrize("value", ["two", "-1", "1.5", ""])
def test_what_is_no_number_is_refused_with_the_variable(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be a whole number of "):
        workers.numbers()
