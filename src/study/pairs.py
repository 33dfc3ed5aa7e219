"""High-influence pairs: select them at any thresholds, count them, and say how alike their pictures are.

The table ``tables/<setting>/pairs.parquet`` holds both signs of influence down to two floors, so a chapter can move the
thresholds without going back to the models. Where noise would fill it (few trials, standard errors as large as the
thresholds), it is cut to its strongest pairs, says so in its ``attrs``, and `select` refuses what it no longer holds.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from study.data import Data, unit_floats
from study.params import Estimate


def select(pairs: pd.DataFrame, mem_threshold: float, infl_threshold: float, floors: Estimate) -> pd.DataFrame:
    """Pairs of one class with mem >= ``mem_threshold`` and infl >= ``infl_threshold`` (talk, "Finding high influence
    train-test pairs").

    Raises ``ValueError`` below the floors to which the table was cut, where it would miss pairs without saying so.
    """
    _above_floors(pairs, mem_threshold, infl_threshold, floors)
    return pairs[pairs.same_class & (pairs.mem >= mem_threshold) & (pairs.infl >= infl_threshold)]


def mirrored(pairs: pd.DataFrame, mem_threshold: float, infl_threshold: float, floors: Estimate) -> pd.DataFrame:
    """The same selection with infl <= -``infl_threshold``: pairs that no useful memorization explains."""
    _above_floors(pairs, mem_threshold, infl_threshold, floors)
    return pairs[pairs.same_class & (pairs.mem >= mem_threshold) & (pairs.infl <= -infl_threshold)]


def _above_floors(pairs: pd.DataFrame, mem_threshold: float, infl_threshold: float, floors: Estimate) -> None:
    asked = (("mem", mem_threshold, floors.mem_floor), ("infl", infl_threshold, floors.infl_floor))
    for name, threshold, floor in asked:
        if threshold < floor:
            raise ValueError(
                f"{name}_threshold is {threshold}, but pairs are kept only down to {floor}; lower "
                f"estimate.{name}_floor in params.yaml and run `dvc repro`"
            )
    if (reached := infl_floor(pairs, floors)) > infl_threshold:
        raise ValueError(
            f"infl_threshold is {infl_threshold}, but of this setting only the strongest pairs are kept, down to "
            f"{reached:.3f}; more of them would be mostly noise at this number of trials. Add trials, or raise "
            "estimate.pairs_kept in params.yaml and run `dvc repro`"
        )


def infl_floor(pairs: pd.DataFrame, floors: Estimate) -> float:
    """The absolute influence from which on a table is complete: the floor, unless it was cut to its strongest pairs."""
    return max(floors.infl_floor, pairs.attrs.get("infl_floor", 0.0))


def counts(chosen: pd.DataFrame) -> dict[str, int]:
    """Size of a selection as the talk's table gives it: pairs, tests, tests with one influencer, training examples."""
    by_test = chosen.test.value_counts()
    return {
        "pairs": len(chosen),
        "tests": len(by_test),
        "single-influencer tests": int((by_test == 1).sum()),
        "training examples": int(chosen.train.nunique()),
    }


def tally(blocks: Iterable[tuple[np.ndarray, ...]], shape: tuple[int, int], infl_threshold: float, weak: float) -> dict:
    """Counts of a selection that is too long for a table, from blocks (train, test, infl, ...) of `Estimates.pair_blocks`.

    ``by_train (n,)`` and ``by_test (n_test,)`` count pairs with infl >= ``infl_threshold``; ``weak`` how many of them have
    infl < ``weak``; ``mirrored`` those with infl <= -``infl_threshold``. ``shape`` is (n, n_test).
    """
    by_train, by_test = (np.zeros(length, dtype=np.int64) for length in shape)
    mirrored = below = 0
    for train, test, infl, *_ in blocks:
        chosen = infl >= infl_threshold
        by_train += np.bincount(train[chosen], minlength=shape[0])
        by_test += np.bincount(test[chosen], minlength=shape[1])
        mirrored += int((infl <= -infl_threshold).sum())
        below += int((infl[chosen] < weak).sum())
    return {"by_train": by_train, "by_test": by_test, "mirrored": mirrored, "weak": below}


def distances(chosen: pd.DataFrame, data: Data) -> np.ndarray:
    """Euclidean distance between the two pictures of each pair, inputs in [0, 1], float ``(pairs,)``."""
    train, test = _flat(data)
    return np.linalg.norm(train[chosen.train] - test[chosen.test], axis=1)


def class_distances(chosen: pd.DataFrame, data: Data) -> np.ndarray:
    """Mean distance from each pair's training picture to all test pictures of its class, float ``(pairs,)``.

    What `distances` would be on average for a test example drawn at random from the class.
    """
    train, test = _flat(data)
    classmates = [test[data.y_test == data.y_train[i]] for i in chosen.train]
    return np.array([np.linalg.norm(train[i] - mates, axis=1).mean() for i, mates in zip(chosen.train, classmates)])


def _flat(data: Data) -> tuple[np.ndarray, ...]:
    return tuple(unit_floats(x).reshape(len(x), -1) for x in (data.x_train, data.x_test))
