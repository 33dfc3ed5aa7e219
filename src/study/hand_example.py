"""Memorization and influence of six points on a line, in fractions, by going through every subset.

Small enough to follow with a pencil: the learner answers with the label of the nearest point. `leave_one_out`, `effect` and
`contrast` do the arithmetic of the definitions and use nothing else of the package, so that its estimators and its closed
forms can be held against them. Exact, and a matter of milliseconds.
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from study import subsets
from study.data import Data
from study.estimators import Estimates, estimate
from study.learners import NearestNeighbour


class Point(NamedTuple):
    """A named place on the line with its label."""

    name: str
    position: float
    label: str


TRAIN = (
    Point("a", 1.0, "circle"),
    Point("b", 2.0, "circle"),
    Point("c", 3.0, "circle"),
    Point("d", 7.0, "square"),
    Point("e", 8.0, "square"),
    Point("f", 10.0, "circle"),
)
TEST = (Point("p", 2.4, "circle"), Point("q", 7.4, "square"), Point("r", 9.2, "square"), Point("s", 10.8, "circle"))


def answer(members: Iterable[Point], position: float) -> str:
    """The learner: the label of the member that is nearest to ``position``."""
    return min(members, key=lambda point: abs(point.position - position)).label


def accuracy(training_sets: Sequence[Sequence[Point]], z: Point) -> Fraction:
    """Share of the training sets from which the learner labels ``z`` correctly."""
    return Fraction(sum(answer(members, z.position) == z.label for members in training_sets), len(training_sets))


def leave_one_out(train: Sequence[Point], i: Point, z: Point) -> Fraction:
    """infl(A, S, i, z): right with all of ``train`` or not, less the same without ``i``; mem is infl with z = i."""
    return accuracy([train], z) - accuracy([[point for point in train if point != i]], z)


def effect(train: Sequence[Point], i: Point, z: Point, m: int) -> Fraction:
    """infl_m of the talk: the mean of `leave_one_out` over all subsets of size ``m`` that contain ``i``."""
    smaller = list(combinations([point for point in train if point != i], m - 1))
    return accuracy([(*s, i) for s in smaller], z) - accuracy(smaller, z)


def contrast(train: Sequence[Point], i: Point, z: Point, m: int) -> Fraction:
    """What Algorithm 1 of the talk tends to: accuracy on ``z`` of the subsets of size ``m`` with ``i`` less those without.

    Its subsets without ``i`` have m points and not m - 1: another point takes the place of ``i``, a bias of one point in m.
    """
    every = list(combinations(train, m))
    return accuracy([s for s in every if i in s], z) - accuracy([s for s in every if i not in s], z)


def table(train: Sequence[Point], test: Sequence[Point], measure: Callable[..., Fraction], *size: int) -> pd.DataFrame:
    """mem of each training point (column ``mem``) and its influence on each test (columns by name), as fractions.

    ``measure`` is `leave_one_out`, or `effect` or `contrast` with the subset size. One row a training point.
    """
    rows = [[measure(train, i, z, *size) for z in (i, *test)] for i in train]
    return pd.DataFrame(rows, index=[i.name for i in train], columns=["mem", *(z.name for z in test)])


def without(train: Sequence[Point], i: Point, m: int) -> pd.DataFrame:
    """All subsets of size ``m`` that lack ``i``, with the nearest member and whether its label is right for ``i``."""
    others = [point for point in train if point != i]
    rows = [(s, min(s, key=lambda point: abs(point.position - i.position))) for s in combinations(others, m)]
    return pd.DataFrame(
        [
            {
                "subset": " ".join(point.name for point in s),
                "nearest": near.name,
                "answer": near.label,
                "right": near.label == i.label,
            }
            for s, near in rows
        ]
    )


def as_data(train: Sequence[Point], test: Sequence[Point]) -> Data:
    """The same points as a data set of the package, with one feature; classes in order of appearance."""
    classes = tuple(dict.fromkeys(point.label for point in train))
    x = [np.array([[point.position] for point in split], dtype=np.float32) for split in (train, test)]
    y = [np.array([classes.index(point.label) for point in split], dtype=np.int64) for split in (train, test)]
    return Data("six points", x[0], y[0], x[1], y[1], classes)


def estimated(train: Sequence[Point], test: Sequence[Point], m: int, trials: int, seed: int) -> Estimates:
    """Algorithm 1 of the talk on these points: ``trials`` random subsets of size ``m`` and the package's own learner."""
    data, learner = as_data(train, test), NearestNeighbour(models_at_once=trials)
    members = subsets.members(seed, range(trials), data.n, m / data.n)
    labels = learner.fit_predict(data, members, subsets.trial_seeds(seed, range(trials)))
    return estimate(members, labels[0] == data.y_train, labels[1] == data.y_test, data.y_train, data.y_test)
