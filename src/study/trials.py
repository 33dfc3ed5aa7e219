"""Run the trials of a setting: many models on random subsets, on any number of workers, interruptible at any moment.

The work is cut into blocks of trials. Workers train blocks and return bits; only this process writes files, one for each
finished block, under a temporary name and then renamed, in ``.scratch/<fingerprint>/``. A run that finds rows with its own
fingerprint, in that folder or in the prediction file, trains only what is missing. Killing it at any moment costs the
blocks in flight.

Other machines help in two ways: as workers of one cluster (`study.workers`), or by training a range of trials into a file
of their own (`train_range`), which `merge` adds to the prediction file.
"""

import hashlib
import inspect
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dask
import numpy as np
from dask.distributed import Client
from filelock import FileLock, Timeout

from study import data as datasets
from study import predictions, rows, scratch, subsets
from study.data import Data
from study.learners import FrozenFeatures
from study.params import Setting
from study.predictions import PredictionError
from study.progress import Progress
from study.rows import Rows
from study.workers import TrainingError, cluster, explained, one_thread, results

SCRATCH = Path(".scratch")


@dataclass(frozen=True)
class _Run:
    """What is to be done: the file ``path`` with the rows of exactly ``trials``; ``scratch`` holds finished blocks."""

    name: str
    setting: Setting
    data: Data
    trials: range
    path: Path
    scratch: Path


def train(name: str, setting: Setting, workers: int | None = None) -> Path:
    """Bring ``predictions/<name>.zarr.zip`` to exactly the trials 0 ... ``setting.trials`` - 1; return its path.

    ``workers`` as in `study.workers.cluster`, which is started only if a row is missing. A file of other parameters is
    replaced when all trials are there. Raises `PredictionError` for a file that is damaged or was made on other data, and
    `TrainingError` if the run cannot go on, be it that another process trains the setting; finished blocks are kept.
    """
    data = datasets.load(setting.data)
    scratch = SCRATCH / setting.fingerprint(data)
    return _bring(_Run(name, setting, data, range(setting.trials), predictions.path_of(name), scratch), workers)


def train_range(name: str, setting: Setting, trials: range, out: Path, workers: int | None = None) -> Path:
    """Train just ``trials``, whatever ``setting.trials`` says, into the prediction file ``out``; return its path.

    For another machine, whose file `merge` adds to the others. Resumes and raises like `train`, but replaces nothing: raises
    `PredictionError` if ``out`` holds a trial of another range or was made with other parameters.
    """
    data = datasets.load(setting.data)
    if out.is_file():
        _check_is_part(out, setting, trials)
    scratch = SCRATCH / f"{setting.fingerprint(data)}-{trials.start}-{trials.stop}"
    return _bring(_Run(name, setting, data, trials, out, scratch), workers)


def _check_is_part(out: Path, setting: Setting, trials: range) -> None:
    dataset = predictions.load(out)
    if difference := predictions.other_parameters(dataset, setting):
        raise PredictionError(f"{out} was made with other parameters ({difference}); name another file")
    if others := sorted(set(dataset.trial.values.tolist()) - set(trials)):
        raise PredictionError(f"{out} holds trial {others[0]}, which is not of {_span('trials', trials)}; name another file")


def merge(name: str, setting: Setting, files: list[Path]) -> tuple[Path, list[int]]:
    """Add the rows of other prediction files of the setting to ``predictions/<name>.zarr.zip``; return it and its trials.

    Raises `PredictionError`, and changes nothing, if one of the files was made by other parameters or on other data, if its
    subsets are not those of its trials, or if a trial that two files hold has different rows in them.
    """
    data, path, together = datasets.load(setting.data), predictions.path_of(name), {}
    with _alone(name, path.name):
        predictions.sweep(path)
        for file in [path, *files] if path.is_file() else files:
            found = rows.of_dataset(predictions.load(file), setting, data)
            together = rows.join(together, found, file)
        rows.write(path, setting, data, together, sorted(together))
    return path, sorted(together)


def _bring(run: _Run, workers: int | None) -> Path:
    """Collect the rows that are there, train those that are missing, write the file."""
    with _alone(run.name, run.scratch.name, run.path.name):
        with _writing(run.scratch):
            run.scratch.mkdir(parents=True, exist_ok=True)
            _sweep(run)
        found = _rows_of_file(run) | rows.of_scratch(run.scratch)
        with _told(run, found):
            _train_missing(run, found, workers)
            rows.write(run.path, run.setting, run.data, found, run.trials)
        shutil.rmtree(run.scratch)
    _report_diverged(run, found)
    return run.path


@contextmanager
def _alone(name: str, *marks: str):
    """Hold the lock of each mark: the work of a fingerprint and the file that is to be written."""
    with ExitStack() as held:
        with _writing(SCRATCH):
            SCRATCH.mkdir(parents=True, exist_ok=True)
            for mark in marks:
                held.enter_context(_lock(name, SCRATCH / f"{mark}.lock"))
        yield


def _lock(name: str, file: Path) -> AbstractContextManager:
    try:
        return FileLock(file, blocking=False).acquire()
    except Timeout:
        raise TrainingError(f"another process is training {name} (lock {file}); wait for it or end it") from None


@contextmanager
def _writing(folder: Path):
    """A disk that takes nothing is an error with its remedy before anything is trained."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{folder.resolve()} could not be written ({error}). Make room on that disk, or make it writable, and run again"
        ) from error


def _sweep(run: _Run) -> None:
    """Remove what killed runs left half-written."""
    predictions.sweep(run.path)
    for part in run.scratch.glob("*.part"):
        part.unlink()


@contextmanager
def _told(run: _Run, found: Rows):
    """Whoever is interrupted, by a fault or by hand, learns what is kept."""
    try:
        yield
    except (TrainingError, PredictionError) as error:
        raise TrainingError(f"{error}. {_kept(run, found)}") from error
    except KeyboardInterrupt:
        _say(f"interrupted. {_kept(run, found)}")
        raise


def _kept(run: _Run, found: Rows) -> str:
    finished = len(found.keys() & set(run.trials))
    return (
        f"{finished:,} of {len(run.trials):,} trials are finished and kept ({run.scratch}); the next run goes on from there"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report_diverged(run: _Run, found: Rows) -> None:
    diverged = [trial for trial in run.trials if found[trial].diverged]
    if diverged:
        few = ", ".join(map(str, diverged[:10])) + (" ..." if len(diverged) > 10 else "")
        _say(f"{run.name}: {len(diverged)} trial(s) diverged ({few}); the file marks them, and estimates leave them out")


def _rows_of_file(run: _Run) -> Rows:
    """Rows of the prediction file if there is one; a file of other parameters has none to offer, and will be replaced."""
    if not run.path.is_file():
        return {}
    dataset = predictions.load(run.path)
    if difference := predictions.other_parameters(dataset, run.setting):
        _say(f"{run.path} was made with other parameters ({difference}); it is replaced when all trials are trained")
        return {}
    return rows.of_dataset(dataset, run.setting, run.data)


def _train_missing(run: _Run, found: Rows, workers: int | None) -> None:
    """Train what is not in ``found``; each block is kept on the disk and added to ``found`` as it finishes."""
    missing = [trial for trial in run.trials if trial not in found]
    if not missing:
        return
    with closing(_train_blocks(run, missing, workers)) as blocks:
        for block in blocks:
            rows.keep(run.scratch, block)
            found.update(rows.of_block(block))


def _train_blocks(run: _Run, missing: list[int], workers: int | None):
    """Finished blocks, in the order in which they finish."""
    setting, size = run.setting, run.setting.learner.models_at_once
    blocks = [missing[start : start + size] for start in range(0, len(missing), size)]
    with cluster(workers) as client, Progress(f"train {run.name}", total=len(missing), unit="models") as progress:
        learner, data = _for_workers(run, client)
        jobs = {f"{_span('trials', block)} of {run.name}": (learner, setting.seed, setting.ratio, block) for block in blocks}
        for block in _map(_train_block, data, jobs, client):
            progress.advance(len(block["trials"]))
            yield block


def _for_workers(run: _Run, client: Client | None):
    """What workers train on what. Frozen features are made once and kept, for their network takes as long as many heads."""
    learner = run.setting.learner
    if not isinstance(learner, FrozenFeatures):
        return learner, run.data
    path, names = run.scratch / "features", ("x_train", "x_test")
    features = scratch.load(path, names)
    if features is None:
        (made,) = _map(_make_features, run.data, {f"the representation of {run.name}": (learner,)}, client)
        features = {name: getattr(made, name) for name in names}
        scratch.save(path, **features)
    return learner.head, replace(run.data, **features)


def _make_features(data: Data, learner: FrozenFeatures) -> Data:
    with one_thread():
        return learner.features(data)


def _span(noun: str, numbers) -> str:
    """``trials 3 to 5`` if none is left out between them."""
    first, last = numbers[0], numbers[-1]
    return (
        f"{noun} {first} to {last}" if len(numbers) == last - first + 1 else f"{len(numbers)} {noun} from {first} to {last}"
    )


def _train_block(data: Data, learner, seed: int, ratio: float, trials: list[int]) -> dict[str, np.ndarray]:
    members = subsets.members(seed, trials, data.n, ratio)
    with one_thread():
        labels = learner.fit_predict(data, members, subsets.trial_seeds(seed, trials))
    return {
        "trials": np.array(trials, dtype=np.int64),
        "train_correct": labels[0] == data.y_train,
        "test_correct": labels[1] == data.y_test,
        "diverged": (labels[0] == -1).all(1),
    }


def predict(learner, data: Data, members: np.ndarray, seeds: list, client: Client | None = None, title: str = ""):
    """Labels of models trained on given subsets: the learner's `fit_predict` in blocks over the workers.

    ``members (k, n)``; returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``. Rows may differ in size:
    models whose subsets have the same size are trained together. With a ``title`` progress is told under that name, and
    finished blocks are kept in ``.scratch/`` until all are, so that a call that was interrupted goes on when it is made
    again. Raises ``RuntimeError`` if a model diverged.
    """
    blocks = _blocks_of_one_size(members, learner.models_at_once)
    train = np.empty((len(members), data.n), dtype=np.int16)
    test = np.empty((len(members), data.n_test), dtype=np.int16)
    if title:
        finished = _kept_labels(title, learner, data, members, seeds, blocks, client)
    else:
        finished = _labels(learner, data, members, seeds, blocks, client)
    for block, labels in finished:
        train[block], test[block] = labels
    if (train == -1).any():
        raise RuntimeError(f"{(train == -1).all(1).sum()} of {len(members)} models diverged; lower the learning rate")
    return train, test


def _labels(learner, data: Data, members: np.ndarray, seeds: list, blocks: list[np.ndarray], client: Client | None):
    jobs = {_span("models", block): (learner, block, members[block], [seeds[row] for row in block]) for block in blocks}
    return _map(_predict_block, data, jobs, client)


def _kept_labels(title: str, learner, data: Data, members: np.ndarray, seeds: list, blocks: list[np.ndarray], client):
    """Labels of blocks that an interrupted call has kept, then those of the others, which are kept as they finish."""
    folder, names = SCRATCH / f"{title}-{_mark(learner, data, members, seeds)}", ("train", "test")
    missing = []
    with _alone(title, folder.name), Progress(title, len(members), "models") as progress:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for block in blocks:
            if found := scratch.load(folder / f"{block[0]}", names):
                progress.advance(len(block))
                yield block, tuple(found[name] for name in names)
            else:
                missing.append(block)
        for block, labels in _labels(learner, data, members, seeds, missing, client):
            scratch.save(folder / f"{block[0]}", **dict(zip(names, labels)))
            progress.advance(len(block))
            yield block, labels
        shutil.rmtree(folder)


def _mark(learner, data: Data, members: np.ndarray, seeds: list) -> str:
    """What a call of `predict` depends on, the code of the learner included, as a short text."""
    code = inspect.getsource(inspect.getmodule(type(learner)))
    parts = learner.model_dump_json(exclude={"device"}), data.order_hash, np.packbits(members).tobytes(), repr(seeds), code
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
    return digest.hexdigest()


def _blocks_of_one_size(members: np.ndarray, at_once: int) -> list[np.ndarray]:
    sizes = members.sum(1)
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    return [group[start : start + at_once] for group in groups for start in range(0, len(group), at_once)]


def _predict_block(data: Data, learner, block: np.ndarray, members: np.ndarray, seeds: list):
    with one_thread():
        return block, learner.fit_predict(data, members, seeds)


def _map(function, data: Data, jobs: dict[str, tuple], client: Client | None):
    """Results of ``function(data, *job)`` as they finish; a worker that dies is replaced and its jobs are done again.

    The key of a job says what it trains, for messages.
    """
    if client is None:
        for what, job in jobs.items():
            with explained(what):
                result = function(data, *job)
            yield result
        return
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # the data are wanted, however large
        shared = client.submit(_deliver, data, pure=False)
        futures = {client.submit(function, shared, *job, pure=False, retries=2): what for what, job in jobs.items()}
    yield from results(futures, client)


def _deliver(data: Data) -> Data:
    """The data set as the result of a task: Dask hands it from worker to worker, and makes it anew if its holder dies."""
    return data
