"""High-influence pairs: select them at any thresholds, count them, and say how alike their pictures are.

The table ``tables/<setting>/pairs.parquet`` holds both signs of influence down to two floors, so a chapter can move the
thresholds without going back to the models.
"""

import numpy as np
import pandas as pd

from study.data import Data, unit_floats
from study.params import Estimate


def select(pairs: pd.DataFrame, mem_threshold: float, infl_threshold: float, floors: Estimate) -> pd.DataFrame:
    """Pairs of one class with mem >= ``mem_threshold`` and infl >= ``infl_threshold`` (talk, "Finding high influence
    train-test pairs").

    Raises ``ValueError`` below the floors to which the table was cut, where it would miss pairs without saying so.
    """
    _above_floors(mem_threshold, infl_threshold, floors)
    return pairs[pairs.same_class & (pairs.mem >= mem_threshold) & (pairs.infl >= infl_threshold)]


def mirrored(pairs: pd.DataFrame, mem_threshold: float, infl_threshold: float, floors: Estimate) -> pd.DataFrame:
    """The same selection with infl <= -``infl_threshold``: pairs that no useful memorization explains."""
    _above_floors(mem_threshold, infl_threshold, floors)
    return pairs[pairs.same_class & (pairs.mem >= mem_threshold) & (pairs.infl <= -infl_threshold)]


def _above_floors(mem_threshold: float, infl_threshold: float, floors: Estimate) -> None:
    asked = (("mem", mem_threshold, floors.mem_floor), ("infl", infl_threshold, floors.infl_floor))
    for name, threshold, floor in asked:
        if threshold < floor:
            raise ValueError(
                f"{name}_threshold is {threshold}, but pairs are kept only down to {floor}; lower "
                f"estimate.{name}_floor in params.yaml and run `dvc repro`"
            )


def counts(chosen: pd.DataFrame) -> dict[str, int]:
    """Size of a selection as the talk's table gives it: pairs, tests, tests with one influencer, training examples."""
    by_test = chosen.test.value_counts()
    return {
        "pairs": len(chosen),
        "tests": len(by_test),
        "single-influencer tests": int((by_test == 1).sum()),
        "training examples": int(chosen.train.nunique()),
    }


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
