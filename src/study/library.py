"""The estimators for anyone's models: masks and results as numpy arrays in, tidy tables out.

`estimate` needs no setting, no data set of this study and no file. Whoever has trained models on random subsets, with
whatever code, knows three matrices: which examples each model was trained on, which of them it gets right, and which
tests it gets right. The arithmetic is that of `study.estimators`; what is added here is that the matrices are looked at
before they are believed.

    from study import estimate
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from study import estimators
from study.estimators import Estimates

LEAST_TRIALS = 2


@dataclass(frozen=True, eq=False)
class Tables:
    """What `estimate` returns.

    ``memorization`` has one row an example: ``index``, ``label`` if labels were given, ``mem`` with its ``std_error``, the
    numbers of models ``n_in`` and ``n_out`` that were trained with it and without, and the shares of these that get it
    right, ``in_accuracy`` and ``out_accuracy``; NaN where no model was on one of the two sides.

    ``pairs`` has one row for each pair of a memorized training example and a test that passes the thresholds, strongest
    first: ``train`` and ``test`` (indices), ``infl`` with its ``std_error``, ``mem`` of the training example, and
    ``same_class`` (missing without labels). Negative influences are kept: as many positive ones as these must be
    expected by chance. ``None`` without results on tests.

    ``estimates`` answers what tables cannot, such as the influence of any example on any test:
    ``estimates.influence_at([3], [7])``.
    """

    memorization: pd.DataFrame
    pairs: pd.DataFrame | None
    estimates: Estimates = field(repr=False)


def estimate(
    members,
    train_correct,
    test_correct=None,
    train_labels=None,
    test_labels=None,
    mem_threshold: float = 0.25,
    infl_threshold: float = 0.15,
    at_most: int | None = 200_000,
) -> Tables:
    """Memorization of every training example, and the pairs in which it serves a test (Feldman & Zhang 2020, Algorithm 1).

    ``members (t, n)`` says which of n examples each of t models was trained on, ``train_correct (t, n)`` which it labels
    correctly, whether trained on or not, and ``test_correct (t, n_test)`` which of n_test tests. All are boolean, or hold
    0 and 1 only. With ``train_labels (n,)`` and ``test_labels (n_test,)`` pairs are sought within classes only, as in the
    paper.

    Pairs have mem >= ``mem_threshold`` and abs(infl) >= ``infl_threshold``, the paper's values by default; of more than
    ``at_most`` only the strongest are kept, and ``pairs.attrs["infl_floor"]`` says down to where.

    Raises ``ValueError`` that names the array, what was found in it and the remedy: for a matrix that is none, holds
    anything but 0 and 1, or has other axes than the others; for fewer than two models; for masks in which no example
    is both in and out of subsets, from which nothing can be learned; for labels of another length, or for tests without
    those for training; and for thresholds outside [0, 1].

    Six models on three examples. The first example is right only where it was trained on; the second always; the third was
    in every subset, so that nothing is known about it.

    >>> import numpy as np
    >>> from study import estimate
    >>> members = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 1, 1]], dtype=bool)
    >>> train_correct = np.array([[1, 1, 1]] * 3 + [[0, 1, 1]] * 3, dtype=bool)
    >>> tables = estimate(members, train_correct)
    >>> tables.memorization[["mem", "n_in", "n_out", "in_accuracy", "out_accuracy"]]
       mem  n_in  n_out  in_accuracy  out_accuracy
    0  1.0     3      3          1.0           0.0
    1  0.0     4      2          1.0           1.0
    2  NaN     6      0          1.0           NaN

    Two tests. The first is right just where the first example was in the subset, so the two are a pair; the second has
    nothing to do with it.

    >>> test_correct = np.array([[1, 1], [1, 1], [1, 1], [0, 1], [0, 1], [0, 1]], dtype=bool)
    >>> estimate(members, train_correct, test_correct).pairs[["train", "test", "infl", "mem"]]
       train  test  infl  mem
    0      0     0   1.0  1.0

    Few models give large errors, and say so.

    >>> tables.memorization.std_error.round(2).tolist()
    [0.25, 0.26, nan]

    A mistake costs a second.

    >>> estimate(members.T, train_correct)
    Traceback (most recent call last):
    ValueError: members has shape (3, 6) and train_correct (6, 3): they are each other's transposes; both
        need one row a model and one column an example
    """
    arrays = {"members": members, "train_correct": train_correct, "test_correct": test_correct}
    checked = {name: _matrix(name, array) for name, array in arrays.items() if array is not None}
    _check_axes(checked)
    _check_subsets(checked["members"])
    _check_labels(checked, train_labels, test_labels)
    for name, value in (("mem_threshold", mem_threshold), ("infl_threshold", infl_threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie between 0 and 1")
    found = estimators.estimate(*(checked.get(name) for name in arrays), train_labels, test_labels)
    selected = None
    if test_correct is not None:
        selected = found.pairs(mem_threshold, infl_threshold, train_labels is not None, at_most=at_most)
    return Tables(found.memorization, selected, found)


def _matrix(name: str, values) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; a matrix is needed, one row a model and one column an example")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {array.dtype} values; a boolean matrix is needed")
    if array.dtype != bool:
        _check_binary(name, array)
    return array.astype(bool)


def _check_binary(name: str, array: np.ndarray) -> None:
    """Raise ``ValueError`` unless all is 0 or 1; the usual mistakes are named."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        row, column = np.argwhere(np.isnan(array))[0]
        raise ValueError(
            f"{name} has {np.isnan(array).sum()} NaN, the first in row {row}, column {column}; leave out models whose "
            "results are missing"
        )
    odd = array[(array != 0) & (array != 1)]
    if not len(odd):
        return
    remedy = {
        "members": "if its rows list the indices of each subset, make masks of them, with mask[k, rows[k]] = True",
        "train_correct": "pass predictions == labels, not predictions, losses or probabilities",
        "test_correct": "pass predictions == labels, not predictions, losses or probabilities",
    }[name]
    raise ValueError(f"{name} holds {odd[0]:g}, where only 0 and 1 can stand; {remedy}")


def _check_axes(arrays: dict[str, np.ndarray]) -> None:
    members, train, test = (arrays.get(name) for name in ("members", "train_correct", "test_correct"))
    shapes = f"members has shape {members.shape} and train_correct {train.shape}"
    if members.shape != train.shape and members.shape == train.shape[::-1]:
        raise ValueError(f"{shapes}: they are each other's transposes; both need one row a model and one column an example")
    if members.shape != train.shape:
        raise ValueError(f"{shapes}; both need one row a model and one column a training example")
    if test is not None and len(test) != len(members):
        raise ValueError(
            f"test_correct has {len(test)} rows, but members has {len(members)}; both need one row a model, in one order"
        )


def _check_subsets(members: np.ndarray) -> None:
    trials = len(members)
    if trials < LEAST_TRIALS:
        raise ValueError(f"members has {trials} row; estimates compare models, of which at least {LEAST_TRIALS} are needed")
    counts = members.sum(0)
    if not ((counts > 0) & (counts < trials)).any():
        raise ValueError(
            f"in members no example is in some of the {trials} subsets and out of others, so that nothing can be compared; "
            "train each model on a random subset of its own"
        )


def _check_labels(arrays: dict[str, np.ndarray], train_labels, test_labels) -> None:
    """Labels go with their matrix, and those of both splits go together."""
    given = {"train": train_labels, "test": test_labels}
    for split, labels in given.items():
        matrix = arrays.get(f"{split}_correct")
        if labels is not None and (matrix is None or np.shape(labels) != matrix.shape[1:]):
            needed = "none, for there is no test_correct" if matrix is None else f"({matrix.shape[1]},)"
            raise ValueError(f"{split}_labels has shape {np.shape(labels)}; needed is {needed}")
    if "test_correct" in arrays and (train_labels is None) != (test_labels is None):
        missing = "train_labels" if train_labels is None else "test_labels"
        raise ValueError(f"{missing} is missing; pairs within classes need the labels of both splits, or pass neither")
