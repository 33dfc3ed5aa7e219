"""Run the trials of a setting: many models on random subsets, on any number of Dask workers, interruptible at any moment.

The work is cut into blocks of trials. Workers train blocks and return bits; only this process writes files, one for each
finished block, under a temporary name and then renamed, in ``.scratch/<fingerprint>/``. A run that finds rows with its own
fingerprint, in that folder or in the prediction file, trains only what is missing. Killing it at any moment costs the
blocks in flight.

By default the workers are one process a core; ``STUDY_SCHEDULER=tcp://host:8786`` names any other Dask cluster.
"""

import os
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from dask.distributed import Client, LocalCluster, as_completed
from filelock import FileLock, Timeout

from study import data as datasets
from study import predictions, subsets
from study.data import Data
from study.params import Setting
from study.progress import Progress

SCRATCH = Path(".scratch")


@contextmanager
def cluster(workers: int | None = None):
    """A Dask client: of ``$STUDY_SCHEDULER`` if that is set, else of ``workers`` single-threaded processes.

    Their number is ``$STUDY_WORKERS`` unless it is given, and one a core by default; 0 yields ``None``, which every function
    here takes to mean "in this process".
    """
    workers = int(os.environ.get("STUDY_WORKERS", os.cpu_count())) if workers is None else workers
    if workers == 0:
        yield None
    elif address := os.environ.get("STUDY_SCHEDULER"):
        with Client(address) as client:
            yield client
    else:
        options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        with LocalCluster(**options) as local, Client(local) as client:
            yield client


def train(name: str, setting: Setting, workers: int | None = None) -> Path:
    """Bring ``predictions/<name>.zarr.zip`` to exactly the trials 0 ... ``setting.trials`` - 1; return its path.

    ``workers`` as in `cluster`, which is started only if a row is missing. Raises ``RuntimeError`` if another process is
    training the same setting.
    """
    data = datasets.load(setting.data)
    path, scratch = predictions.path_of(name), SCRATCH / setting.fingerprint(data)
    scratch.mkdir(parents=True, exist_ok=True)
    with _alone(name, scratch):
        rows = _rows_of_file(path, setting, data) | _rows_of_scratch(scratch)
        missing = [trial for trial in range(setting.trials) if trial not in rows]
        for block in _train_blocks(name, setting, data, missing, workers) if missing else ():
            _keep(scratch, block)
            rows |= _by_trial(block)
        _assemble(path, setting, data, rows)
        shutil.rmtree(scratch)
    return path


@contextmanager
def _alone(name: str, scratch: Path):
    lock = FileLock(scratch.with_suffix(".lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(f"another process is training {name} (lock {lock.lock_file}); wait for it or end it") from None
    try:
        yield
    finally:
        lock.release()


def _train_blocks(name: str, setting: Setting, data: Data, missing: list[int], workers: int | None):
    """Finished blocks, in the order in which they finish."""
    size = setting.learner.models_at_once
    blocks = [missing[start : start + size] for start in range(0, len(missing), size)]
    with cluster(workers) as client, Progress(f"train {name}", total=len(missing), unit="models") as progress:
        for block in _map(_train_block, data, [(setting, block) for block in blocks], client):
            progress.advance(len(block["trials"]))
            yield block


def _train_block(data: Data, setting: Setting, trials: list[int]) -> dict[str, np.ndarray]:
    members = subsets.members(setting.seed, trials, data.n, setting.ratio)
    labels = setting.learner.fit_predict(data, members, subsets.trial_seeds(setting.seed, trials))
    return {
        "trials": np.array(trials, dtype=np.int64),
        "train_correct": labels[0] == data.y_train,
        "test_correct": labels[1] == data.y_test,
        "diverged": (labels[0] == -1).all(1),
    }


def predict(learner, data: Data, members: np.ndarray, seeds: list, client: Client | None = None):
    """Labels of models trained on given subsets: the learner's `fit_predict` in blocks over the workers.

    ``members (k, n)``; returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``. Rows may differ in size:
    models whose subsets have the same size are trained together. Raises ``RuntimeError`` if a model diverged.
    """
    blocks = _blocks_of_one_size(members, learner.models_at_once)
    jobs = [(learner, block, members[block], [seeds[row] for row in block]) for block in blocks]
    train = np.empty((len(members), data.n), dtype=np.int16)
    test = np.empty((len(members), data.n_test), dtype=np.int16)
    for block, labels in _map(_predict_block, data, jobs, client):
        train[block], test[block] = labels
    if (train == -1).any():
        raise RuntimeError(f"{(train == -1).all(1).sum()} of {len(members)} models diverged; lower the learning rate")
    return train, test


def _blocks_of_one_size(members: np.ndarray, at_once: int) -> list[np.ndarray]:
    sizes = members.sum(1)
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    return [rows[start : start + at_once] for rows in groups for start in range(0, len(rows), at_once)]


def _predict_block(data: Data, learner, block: np.ndarray, members: np.ndarray, seeds: list):
    return block, learner.fit_predict(data, members, seeds)


def _map(function, data: Data, jobs: list[tuple], client: Client | None):
    """Results of ``function(data, *job)`` as they finish; a worker that dies is replaced and its jobs are done again."""
    if client is None:
        yield from (function(data, *job) for job in jobs)
        return
    shared = client.submit(_deliver, data, pure=False)
    futures = [client.submit(function, shared, *job, pure=False, retries=2) for job in jobs]
    for future in as_completed(futures):
        yield future.result()
        future.release()


def _deliver(data: Data) -> Data:
    """The data set as the result of a task: Dask hands it from worker to worker, and makes it anew if its holder dies."""
    return data


def _keep(scratch: Path, block: dict[str, np.ndarray]) -> None:
    """Save one block: ``first-count.npz``, bits packed, complete or not there."""
    path = scratch / f"{block['trials'][0]:08d}-{len(block['trials'])}.npz"
    bits = {key: np.packbits(block[key], axis=1) for key in ("train_correct", "test_correct")}
    shapes = {f"{key}_width": block[key].shape[1] for key in bits}
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as handle:
        np.savez(handle, **block | bits | shapes)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)


def _rows_of_scratch(scratch: Path) -> dict[int, tuple]:
    rows = {}
    for path in sorted(scratch.glob("*.npz")):
        try:
            rows |= _by_trial(_read(path))
        except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError):
            path.unlink()  # damaged on the disk; its trials are trained again
    return rows


def _read(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as saved:
        block = {key: saved[key] for key in saved.files}
    for key in ("train_correct", "test_correct"):
        block[key] = np.unpackbits(block[key], axis=1, count=int(block[f"{key}_width"])).astype(bool)
    return block


def _rows_of_file(path: Path, setting: Setting, data: Data) -> dict[int, tuple]:
    """Rows of an existing prediction file, if it was made by the same setting; a stranger's rows are never used."""
    if not path.is_file():
        return {}
    dataset = predictions.load(path)
    if dataset.attrs["fingerprint"] != setting.fingerprint(data):
        return {}
    predictions.verify(dataset, setting, data)
    names = {
        "trials": "trial",
        "train_correct": "train_correct",
        "test_correct": "test_correct",
        "diverged": "diverged",
    }
    return _by_trial({key: dataset[variable].values for key, variable in names.items()})


def _by_trial(block: dict[str, np.ndarray]) -> dict[int, tuple]:
    columns = zip(block["trials"], block["train_correct"], block["test_correct"], block["diverged"])
    return {int(trial): (train, test, diverged) for trial, train, test, diverged in columns}


def _assemble(path: Path, setting: Setting, data: Data, rows: dict[int, tuple]) -> None:
    trials = range(setting.trials)
    train, test, diverged = zip(*(rows[trial] for trial in trials))
    predictions.write(path, setting, data, trials, np.stack(train), np.stack(test), np.array(diverged))
