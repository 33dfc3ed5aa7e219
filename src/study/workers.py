"""The workers: processes of this machine, or a Dask cluster anywhere that ``$STUDY_SCHEDULER`` names.

    dask scheduler --host 10.0.0.1 --no-dashboard              # on one machine
    dask worker tcp://10.0.0.1:8786 --nthreads 1               # on every machine, once a core or once a GPU
    STUDY_SCHEDULER=tcp://10.0.0.1:8786 python -m study stage train digits-mlp

Scheduler and workers run in this repository's environment. Workers may join late and leave at any time: work that was
on a lost one is done again by another. When all are gone a run waits ``$STUDY_PATIENCE`` seconds (default 300) for a new
one before it gives up; when the scheduler is gone it ends at once.
"""

import logging
import os
import time
from concurrent.futures import CancelledError
from contextlib import contextmanager

import dask
import torch
from dask.distributed import Client, Future, KilledWorker, LocalCluster, as_completed
from distributed.comm import get_address_host_port

CONNECT_SECONDS = 10
PATIENCE_SECONDS = 300
GLANCE_SECONDS = 0.02  # between two looks at what has finished
ROLL_CALL_SECONDS = 2  # between two looks at who is there

# Two of Dask's habits do not suit training. A worker over 80 per cent of its memory is paused, for good where the memory is
# the learner's own; otherwise it is killed at 95 per cent, its block is tried elsewhere, and the run ends with a message.
# And MALLOC_TRIM_THRESHOLD_ hands freed memory back to the system at once: the page faults cost a learner 8 to 14 per cent
# of its time.
LOCAL = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")} | {
    "distributed.nanny.pre-spawn-environ": {f"{name}_NUM_THREADS": 1 for name in ("OMP", "MKL", "OPENBLAS")}
}


class TrainingError(RuntimeError):
    """A run that cannot go on; the message names the cause and the remedy."""


@contextmanager
def cluster(workers: int | None = None):
    """A Dask client: of ``$STUDY_SCHEDULER`` if that is set, else of ``workers`` single-threaded processes.

    Their number is ``$STUDY_WORKERS`` unless it is given, and one a core by default; 0 yields ``None``, which every function
    that takes a client takes to mean "in this process". Raises ``ValueError`` if ``$STUDY_WORKERS`` is no number,
    `TrainingError` if no scheduler answers.
    """
    if workers is None:
        workers = _number("STUDY_WORKERS", os.cpu_count(), "worker processes; 0 trains in this one")
    if workers == 0:
        yield None
    elif address := os.environ.get("STUDY_SCHEDULER"):
        with _quiet(), _connected(address) as client:
            yield client
    else:
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        with dask.config.set(LOCAL), LocalCluster(**options) as local, Client(local) as client:
            yield client


def _number(variable: str, default: int, meaning: str) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ValueError(f"{variable} is {text!r}; it must be a whole number of {meaning}")
    return int(text)


def patience() -> int:
    """Seconds that a run waits while no worker is there: ``$STUDY_PATIENCE``; raises ``ValueError`` if that is no number."""
    return _number("STUDY_PATIENCE", PATIENCE_SECONDS, "seconds to wait for a worker")


def _connected(address: str) -> Client:
    try:
        get_address_host_port(address)
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"STUDY_SCHEDULER is {address!r}, but no Dask scheduler answers there ({error}). Start one with `dask "
            "scheduler`, correct the address (its form is tcp://host:8786), or unset STUDY_SCHEDULER to work on this machine"
        ) from error


@contextmanager
def _quiet():
    """Dask reports a lost scheduler by a traceback in the log; ours is reported by an error that names the remedy."""
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def one_thread():
    """Train with one thread, as every worker does: where a sum is split between threads, its last bits depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def results(futures: dict[Future, str], client: Client):
    """Results of futures as they finish; the text beside each says what it trains.

    Raises `TrainingError` if the scheduler is lost, if no worker is there for too long, or if memory ran out; what a learner
    raised is raised again.
    """
    waiting, missing = as_completed(futures), _Missing(client)
    while not waiting.is_empty():
        missing.check()
        for future in waiting.next_batch(block=False):
            with explained(futures[future]):
                result = _result(future, missing.address)
            yield result
            future.release()
        if not waiting.has_ready():
            time.sleep(GLANCE_SECONDS)


def _result(future: Future, address: str):
    try:
        failure = future.exception()
        if failure is None:
            return future.result()
    except (CancelledError, OSError) as error:
        raise TrainingError(
            f"the scheduler {address} (STUDY_SCHEDULER) was lost. Start it and its workers again, and run again"
        ) from error
    raise failure


class _Missing:
    """Watches, every few seconds, whether any worker is there to do the work."""

    def __init__(self, client: Client):
        self.client, self.address = client, client.scheduler.address
        self.looked = self.seen = time.monotonic()
        self.patience = patience()

    def check(self) -> None:
        now = time.monotonic()
        if now - self.looked < ROLL_CALL_SECONDS:
            return
        self.looked = now
        workers = self.client.scheduler_info()["workers"].values()
        if any(worker["status"] == "running" or worker["metrics"].get("executing") for worker in workers):
            self.seen = now
        elif now - self.seen > self.patience:
            raise TrainingError(
                f"for {self.patience} seconds the scheduler {self.address} had no worker that could train. Start some with "
                f"`dask worker {self.address} --nthreads 1` in this repository's environment (in another they leave as they "
                "get work), and run again; STUDY_PATIENCE sets how long a run waits"
            )


REMEDY = "Lower models_at_once of the learner (no prediction depends on it) or give each worker more memory, and run again"


@contextmanager
def explained(what: str):
    """Lack of memory while training ``what`` becomes a `TrainingError` that names it and the remedy."""
    try:
        yield
    except KilledWorker as error:
        deaths = error.allowed_failures + 1
        raise TrainingError(
            f"{deaths} worker(s) died while training {what}: memory ran out, or they do not run in this repository's "
            f"environment (their logs tell). {REMEDY}"
        ) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrainingError(f"memory ran out while training {what} ({error}). {REMEDY}") from error
