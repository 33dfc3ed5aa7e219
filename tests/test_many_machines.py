"""Many machines: real schedulers and workers that die, join late or run out of memory; nothing is lost or done twice."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from machines import SECONDS, Greedy, Log, Machines, Watched, wait_until

from study import predictions, rows, trials, workers
from study.learners import NearestNeighbour
from study.params import Setting
from study.workers import TrainingError

T = 20
MANY = 60  # blocks, so that there are some left when the first is seen


def setting(learner: NearestNeighbour) -> Setting:
    """Few trials; the learners of `machines` compute what nearest neighbours do, so their fingerprint is the same."""
    return Setting(data="digits", learner=learner, ratio=0.7, seed=0, trials=T, revision=1)


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> bytes:
    """The file of a serial run on this machine, in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("serial"))
        return trials.train("toy", setting(NearestNeighbour(models_at_once=2)), workers=0).read_bytes()


@pytest.fixture(scope="module")
def cast(tmp_path_factory):
    """Machines for all tests."""
    cast = Machines(tmp_path_factory.mktemp("machines"))
    yield cast
    cast.end()


@pytest.fixture(scope="module")
def address(cast) -> str:
    """A scheduler that outlives the tests. The first death of a worker ends a task, where usually the fourth does."""
    return cast.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")[0]


@pytest.fixture
def train(folder, monkeypatch):
    """``train(address, learner)``: a run on the workers of a scheduler; ``then(k)`` is called when k blocks are kept."""
    keep = rows.keep

    def train(address: str, learner: NearestNeighbour, then=lambda blocks: None) -> Path:
        def keep_and_tell(scratch, block):
            keep(scratch, block)
            then(len(list(scratch.glob("*.npz"))))

        monkeypatch.setenv("STUDY_SCHEDULER", address)
        monkeypatch.setattr(rows, "keep", keep_and_tell)
        return trials.train("toy", setting(learner))

    return train


def kept(folder: Path) -> set[int]:
    return {int(trial) for path in folder.glob(".scratch/*/*.npz") for trial in np.load(path)["trials"]}


class Accidents:
    """Happen beside a run: workers halt within a block, and when all finished ones are kept, one or the scheduler dies."""

    def __init__(self, folder: Path, cast: Machines):
        self.folder, self.cast, self.log = folder, cast, Log(folder)
        self.address, self.scheduler = cast.scheduler()
        self.victim, self.other = cast.worker(self.address), cast.worker(self.address)
        self.lost: set[int] = set()
        self.outcomes: list[Future] = []
        self.aside = ThreadPoolExecutor(1)

    def strike(self, blocks: int) -> None:
        """The first when a block is kept, the second when the worker that joins then has finished one."""
        if not self.outcomes:
            self.begin("first", self.worker_dies_and_another_joins)
        elif len(self.outcomes) == 1 and self.outcomes[0].done() and self.log.trials("end", self.late.pid):
            self.begin("second", self.scheduler_dies)

    def begin(self, sign: str, accident) -> None:
        self.log.raise_sign(sign)
        self.outcomes.append(self.aside.submit(self.happen, sign, accident))

    def happen(self, sign: str, accident) -> None:
        try:
            accident()
        finally:
            self.log.lower_sign(sign)

    def halted(self, worker, sign: str) -> bool:
        return bool(self.log.in_flight(worker.pid, f"halt-{sign}"))

    def all_is_kept(self) -> bool:
        """No rows are on their way: these would be lost too."""
        return kept(self.folder) == set(self.log.trials("end"))

    def worker_dies_and_another_joins(self) -> None:
        wait_until(lambda: self.halted(self.victim, "first") and self.all_is_kept())
        self.lost = self.log.in_flight(self.victim.pid)
        self.victim.kill()
        self.late = self.cast.worker(self.address)
        wait_until(lambda: self.halted(self.late, "first"))

    def scheduler_dies(self) -> None:
        pair = (self.other, self.late)
        wait_until(lambda: any(self.halted(worker, "second") for worker in pair))
        wait_until(lambda: all(self.halted(worker, "second") or not self.log.in_flight(worker.pid) for worker in pair))
        wait_until(self.all_is_kept)
        self.scheduler.kill()
        self.cast.dismiss(*pair)


def test_nothing_is_lost_or_done_twice_when_workers_come_and_go_and_the_scheduler_dies(train, cast, folder, serial, address):
    """Two workers; one is killed; another joins; the scheduler is killed; one worker of a new scheduler does the rest."""
    accidents, watched = Accidents(folder, cast), Watched(models_at_once=2, folder=str(folder))
    lost = (
        r"STUDY_SCHEDULER\) was lost. Start it and its workers again, and run again. \d+ of 20 trials are finished and kept"
    )
    with pytest.raises(TrainingError, match=lost):
        train(accidents.address, watched, accidents.strike)
    assert [outcome.exception() for outcome in accidents.outcomes] == [None, None]
    log, before = accidents.log, kept(folder)
    assert before == set(log.trials("end")) and len(before) >= 4, "what was finished is kept"
    assert log.trials("end", accidents.late.pid), "who joins late takes part"
    assert not predictions.path_of("toy").exists()

    alone = cast.worker(address)
    assert train(address, watched).read_bytes() == serial
    assert set(log.trials("end", alone.pid)) == set(range(T)) - before, "only what was missing is trained"
    assert set(log.trials("end").values()) == {1} and accidents.lost, "nothing is trained twice to its end"
    cast.dismiss(alone)


def command(cast: Machines, folder: Path, address: str) -> subprocess.Popen:
    """`python -m study train`, in a process of its own, of a setting `toy` with a model in each block."""
    tree = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
    tree["settings"]["toy"] = setting(NearestNeighbour(models_at_once=1)).model_dump(mode="json")
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    verb = [sys.executable, "-m", "study", "train", "toy", "--trials", f"0:{MANY}", "--out", "part.zarr.zip"]
    environment = os.environ | {"STUDY_SCHEDULER": address}
    cast.processes.append(subprocess.Popen(verb, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True))
    return cast.processes[-1]


def test_a_command_that_was_killed_goes_on_where_it_was_and_is_merged(cast, address, folder):
    """Of all parts only the one that writes files dies; scheduler and worker live on, with its work in hand."""
    worker, killed = cast.worker(address), command(cast, folder, address)
    wait_until(lambda: killed.poll() is not None or len(kept(folder)) > 1)
    killed.kill()
    killed.communicate()
    before = kept(folder)
    assert killed.returncode == -signal.SIGKILL and 1 < len(before) < MANY and not Path("part.zarr.zip").exists()
    again = command(cast, folder, address)
    _, told = again.communicate(timeout=SECONDS)
    missing = MANY - len(before)
    assert again.returncode == 0 and f"train toy: {missing} of {missing} models" in told, "only what was missing is trained"
    cast.dismiss(worker)
    toy = setting(NearestNeighbour(models_at_once=100))
    merged, held = trials.merge("toy", toy, [Path("part.zarr.zip")])
    serial = trials.train("serial", toy.model_copy(update={"trials": MANY}), workers=0)
    assert held == list(range(MANY)) and merged.read_bytes() == serial.read_bytes()


def test_without_a_worker_the_run_ends_with_the_remedy(train, address, monkeypatch):
    monkeypatch.setenv("STUDY_PATIENCE", "1")
    monkeypatch.setattr(workers, "ROLL_CALL_SECONDS", 0.1)
    remedy = (
        f"for 1 seconds the scheduler {address} had no worker .* `dask worker {address} --nthreads 1` in .*, and run again"
    )
    with pytest.raises(TrainingError, match=remedy):
        train(address, NearestNeighbour(models_at_once=2))


def test_a_worker_out_of_memory_is_reported_and_what_was_finished_is_kept(train, cast, address, folder, serial, monkeypatch):
    """Its nanny kills it, as any operating system would."""
    nanny = cast.worker(address, "--nanny", "--memory-limit", "1.5GiB", DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE="False")
    greedy, sign = Greedy(models_at_once=2, sign=str(folder / "sign")), folder / "sign"
    message = r"1 worker\(s\) died while training trials \d+ to \d+ of toy: memory ran out.* Lower models_at_once"
    with pytest.raises(TrainingError, match=message):
        train(address, greedy, lambda blocks: sign.touch() if blocks == 2 else None)
    cast.dismiss(nanny)
    before, again, train_block = kept(folder), [], trials._train_block
    monkeypatch.setattr(trials, "_train_block", lambda *job: again.extend(job[-1]) or train_block(*job))
    whole = trials.train("toy", setting(NearestNeighbour(models_at_once=2)), workers=0)
    assert whole.read_bytes() == serial
    assert len(before) >= 4 and sorted([*before, *again]) == list(range(T))


def test_memory_that_runs_out_in_this_process_has_the_same_remedy(folder, monkeypatch):
    monkeypatch.setattr(NearestNeighbour, "fit_predict", lambda *arguments: np.empty(2**56))
    with pytest.raises(TrainingError, match=r"memory ran out while training trials 0 to 2 of toy \(.*\). Lower models_"):
        trials.train("toy", setting(NearestNeighbour(models_at_once=3)), workers=0)


def test_a_worker_of_another_environment_is_as_good_as_none(train, cast, address, folder, monkeypatch):
    """It finds a package `study` that is not ours, and Dask makes it leave, with or without a task."""
    monkeypatch.setenv("STUDY_PATIENCE", "1")
    monkeypatch.setattr(workers, "ROLL_CALL_SECONDS", 0.1)
    (folder / "elsewhere/study").mkdir(parents=True)
    (folder / "elsewhere/study/__init__.py").touch()
    stranger = cast.worker(address, PYTHONPATH=str(folder / "elsewhere"))
    with pytest.raises(TrainingError, match=r"(had no worker|worker\(s\) died).* in this repository's environment"):
        train(address, NearestNeighbour(models_at_once=2))
    cast.dismiss(stranger)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "localhost", "http://127.0.0.1:8786"])
def test_an_address_without_a_scheduler_is_refused_with_the_remedy(folder, monkeypatch, address):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 0.3)
    monkeypatch.setenv("STUDY_SCHEDULER", address)
    refused = f"STUDY_SCHEDULER is '{address}', but no Dask scheduler answers there .* `dask scheduler`, correct the address"
    with pytest.raises(TrainingError, match=refused), workers.cluster():
        pass


@pytest.mark.parametrize("value", ["two", "-1", "1.5", ""])
def test_what_is_no_number_is_refused_with_the_variable(monkeypatch, value):
    for variable, read in {
        "STUDY_WORKERS": lambda: workers.cluster().__enter__(),
        "STUDY_PATIENCE": workers.patience,
    }.items():
        monkeypatch.setenv(variable, value)
        with pytest.raises(ValueError, match=f"{variable} is '{value}'; it must be a whole number of "):
            read()
