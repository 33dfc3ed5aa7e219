"""Rows of trials on their way from the workers to the prediction file: what each trial got right, as bits.

Eight examples are a byte, so that 4,000 trials of 70,000 examples are 35 MB in memory. Each block of trials that a worker
has finished is saved at once as ``.scratch/<fingerprint>/<first>-<count>.npz``: under a temporary name, flushed, renamed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from study import predictions, scratch
from study.data import Data
from study.params import Setting
from study.predictions import PredictionError

SPLITS = ("train_correct", "test_correct")


class Row(NamedTuple):
    """One trial: uint8 ``train_correct (ceil(n / 8),)``, ``test_correct (ceil(n_test / 8),)``, and whether it diverged."""

    train_correct: np.ndarray
    test_correct: np.ndarray
    diverged: bool


Rows = dict[int, Row]


@dataclass(frozen=True)
class Bits:
    """A matrix of truth values held as bits, uint8 ``(t, ceil(width / 8))``, that yields columns like an array of bool."""

    packed: np.ndarray
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.packed), self.width

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        """``bits[:, first:end]`` as bool; ``first`` must be a multiple of 8."""
        rows, columns = key
        first, end, _ = columns.indices(self.width)
        return np.unpackbits(self.packed[rows, first // 8 : -(-end // 8)], axis=1, count=end - first).view(bool)


def of_block(block: dict[str, np.ndarray]) -> Rows:
    """The rows of a block: ``trials (k,)``, ``train_correct (k, n)``, ``test_correct (k, n_test)``, ``diverged (k,)``."""
    return _by_trial(block | {split: np.packbits(block[split], axis=1) for split in SPLITS})


def of_dataset(dataset: xr.Dataset, setting: Setting, data: Data) -> Rows:
    """The rows of a prediction file; raises `PredictionError` unless they were made by ``setting`` on ``data``."""
    predictions.check(dataset, setting, data)
    block = {name: dataset[name].values for name in (*SPLITS, "diverged")}
    return of_block(block | {"trials": dataset.trial.values})


def _by_trial(packed: dict[str, np.ndarray]) -> Rows:
    columns = (packed[name] for name in (*SPLITS, "diverged"))
    return {int(trial): Row(*row) for trial, *row in zip(packed["trials"], *columns)}


def keep(folder: Path, block: dict[str, np.ndarray]) -> None:
    """Save one finished block, complete or not at all. Raises `TrainingError` if the disk does not take it."""
    bits = {split: np.packbits(block[split], axis=1) for split in SPLITS}
    widths = {f"{split}_width": block[split].shape[1] for split in SPLITS}
    scratch.save(folder / f"{block['trials'][0]:08d}-{len(block['trials'])}.npz", **block | bits | widths)


def of_scratch(folder: Path) -> Rows:
    """The rows of all saved blocks; one that the disk has damaged is deleted, and its trials are trained again."""
    blocks = (scratch.load(path, ("trials", *SPLITS, "diverged")) for path in sorted(folder.glob("*.npz")))
    return {trial: row for block in blocks if block for trial, row in _by_trial(block).items()}


def write(path: Path, setting: Setting, data: Data, rows: Rows, trials) -> None:
    """Assemble the prediction file of ``trials (t,)`` from their rows."""
    chosen = [rows[trial] for trial in trials]
    train = Bits(np.stack([row.train_correct for row in chosen]), data.n)
    test = Bits(np.stack([row.test_correct for row in chosen]), data.n_test)
    predictions.write(path, setting, data, trials, train, test, np.array([row.diverged for row in chosen]))


def join(rows: Rows, others: Rows, source: Path) -> Rows:
    """Both together. Raises `PredictionError` if a trial that both hold has different rows in them."""
    for trial in sorted(rows.keys() & others.keys()):
        if count := _differing(rows[trial], others[trial]):
            raise PredictionError(
                f"{source} is not merged: its trial {trial} differs in {count} examples from the row that is there. Rows of "
                "one trial must be equal; `python -m study audit` tells which is right, and a range of trials without those "
                "that are there can be merged"
            )
    return rows | others


def _differing(one: Row, other: Row) -> int:
    differing = (one_split ^ other_split for one_split, other_split in zip(one[:2], other[:2]))
    return int(sum(np.bitwise_count(bits).sum() for bits in differing)) + int(one.diverged != other.diverged)
