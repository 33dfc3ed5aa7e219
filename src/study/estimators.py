"""Memorization and influence from random subsets (Algorithm 1 of the talk; Feldman & Zhang 2020, arXiv 2008.03703).

`estimate` takes anyone's arrays: which examples each of t models was trained on, and which it got right. For a training
example i and any example z it compares the models trained with i and without:

    infl(i, z) = Pr[h(z) = y_z | i in the subset] - Pr[h(z) = y_z | i not in it],       mem(i) = infl(i, i).

Counts are exact: products of 0/1 matrices in 8-bit integers with 32-bit sums, of which one suffices, since the models
without i are all models less those with i. Influence is computed in blocks and reduced at once; the dense matrix is never
held. An example that no model was trained with, or none without, has no estimate: NaN, never 0.

Standard errors are those of a difference of two proportions after adding one success and one failure to each sample
(Agresti & Caffo 2000), which stay positive where all models agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

BLOCK_BYTES = 64 * 2**20  # of one int32 block of counts; a call needs about six times that


def estimate(members, train_correct, test_correct=None, train_labels=None, test_labels=None) -> "Estimates":
    """Estimates from ``members (t, n)``, ``train_correct (t, n)`` and optionally ``test_correct (t, n_test)``, all boolean.

    ``train_labels (n,)`` and ``test_labels (n_test,)`` are needed only where pairs are restricted to one class.
    Raises ``ValueError`` for arrays that are not boolean (or 0/1), or whose axes do not match.

    >>> members = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], dtype=bool)
    >>> correct = np.array([[1, 1], [0, 1], [1, 0], [0, 1]], dtype=bool)
    >>> estimate(members, correct).memorization.mem.tolist()
    [1.0, 0.5]
    """
    members, train_correct = _matrix("members", members), _matrix("train_correct", train_correct)
    if members.shape != train_correct.shape:
        raise ValueError(f"members is {members.shape} but train_correct is {train_correct.shape}; both are (trial, train)")
    if test_correct is not None:
        test_correct = _matrix("test_correct", test_correct)
        if len(test_correct) != len(members):
            raise ValueError(f"test_correct has {len(test_correct)} trials, members has {len(members)}")
    labels = _labels("train_labels", train_labels, members), _labels("test_labels", test_labels, test_correct)
    return Estimates(members, train_correct, test_correct, *labels)


def _matrix(name: str, values) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} has shape {values.shape}; a matrix with trials as rows is needed")
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name} holds {values.dtype} values other than 0 and 1; pass a boolean matrix")
    return np.ascontiguousarray(values, dtype=bool)


def _labels(name: str, labels, matrix) -> np.ndarray | None:
    if labels is None:
        return None
    labels = np.asarray(labels)
    if matrix is None or labels.shape != matrix.shape[1:]:
        raise ValueError(f"{name} has shape {labels.shape}; one label for each column of its correctness matrix is needed")
    return labels


def standard_error(successes_in, n_in, successes_out, n_out) -> np.ndarray:
    """Standard error of a difference of two proportions, with one success and one failure added to each sample."""
    p_in, p_out = (successes_in + 1) / (n_in + 2), (successes_out + 1) / (n_out + 2)
    return np.sqrt(p_in * (1 - p_in) / (n_in + 2) + p_out * (1 - p_out) / (n_out + 2))


def lemma_bound(t: int, ratio: float) -> float:
    """Lemma 2.1 of Feldman & Zhang (2020): an upper bound on the mean squared error of an estimate from ``t`` trials.

    1/(pt) + 1/((1-p)t) + exp(-pt/16)/2 with p the smaller of ``ratio`` and 1 - ``ratio``.
    """
    p = min(ratio, 1 - ratio)
    return 1 / (p * t) + 1 / ((1 - p) * t) + np.exp(-p * t / 16) / 2


def binomial_bound(t: int, ratio: float) -> float:
    """Largest variance of a difference of two proportions on ``ratio * t`` and ``(1 - ratio) * t`` trials."""
    return (1 / (ratio * t) + 1 / ((1 - ratio) * t)) / 4


@dataclass(frozen=True, eq=False)
class Estimates:
    """What `estimate` returns. Axes: ``members (t, n)``, ``train_correct (t, n)``, ``test_correct (t, n_test)``."""

    members: np.ndarray
    train_correct: np.ndarray
    test_correct: np.ndarray | None
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None

    @property
    def trials(self) -> int:
        return len(self.members)

    @cached_property
    def _members_of(self) -> np.ndarray:
        """Number of trials that each training example is in, int64 ``(n,)``."""
        return self.members.sum(0)

    @cached_property
    def _right_of(self) -> np.ndarray:
        """Number of trials that got each test right, int64 ``(n_test,)``."""
        return self._tests().sum(0)

    @cached_property
    def memorization(self) -> pd.DataFrame:
        """One row an example: index, (label,) mem, std_error, n_in, n_out, in_accuracy, out_accuracy; NaN where unknown."""
        n_in, right_in = self._members_of, (self.members & self.train_correct).sum(0)
        n_out, right_out = self.trials - n_in, self.train_correct.sum(0) - right_in
        in_accuracy, out_accuracy = _share(right_in, n_in), _share(right_out, n_out)
        mem = in_accuracy - out_accuracy
        error = np.where(np.isnan(mem), np.nan, standard_error(right_in, n_in, right_out, n_out))
        columns = {"index": np.arange(len(mem))}
        columns |= {} if self.train_labels is None else {"label": self.train_labels}
        columns |= {"mem": mem, "std_error": error, "n_in": n_in, "n_out": n_out}
        return pd.DataFrame(columns | {"in_accuracy": in_accuracy, "out_accuracy": out_accuracy})

    def influence(self, train=None, test=None) -> tuple[np.ndarray, np.ndarray]:
        """Influence of training examples ``train`` on tests ``test`` (indices, default all) with its standard error.

        Two float64 arrays ``(len(train), len(test))``. Raises ``ValueError`` without ``test_correct``.
        """
        train, test = _indices(train, self.members), _indices(test, self._tests())
        counts = count_together(self.members[:, train], self.test_correct[:, test])
        return self._differences(counts, train[:, None], test[None, :])

    def influence_at(self, train, test) -> tuple[np.ndarray, np.ndarray]:
        """Influence of ``train[k]`` on ``test[k]`` for index arrays of one length, with its standard error."""
        train, test = np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
        counts = (self.members[:, train] & self._tests()[:, test]).sum(0)
        return self._differences(counts, train, test)

    def pairs(
        self,
        mem_threshold: float,
        infl_threshold: float,
        same_class: bool = True,
        influence_of: "Estimates | None" = None,
    ) -> pd.DataFrame:
        """Pairs with mem >= ``mem_threshold`` and abs(infl) >= ``infl_threshold``, strongest first.

        Columns train, test, infl, std_error, mem, same_class. The talk's high-influence pairs are those with infl > 0 and
        same class; those with infl < 0 are the mirrored tail that tells how many arise by chance. ``influence_of`` takes
        the influence from other estimates on the same examples and keeps the selection by memorization.
        """
        source = influence_of or self
        mem = self.memorization.mem.to_numpy()
        found = list(source._strong(np.flatnonzero(mem >= mem_threshold), same_class, infl_threshold))
        train, test, infl, error = (np.concatenate(column) for column in zip(*found)) if found else np.empty((4, 0))
        train, test = train.astype(np.int64), test.astype(np.int64)
        frame = pd.DataFrame({"train": train, "test": test, "infl": infl, "std_error": error, "mem": mem[train]})
        frame["same_class"] = True if same_class else source._same_class(train, test)
        order = frame.sort_values(["infl", "train", "test"], ascending=[False, True, True])
        return order.reset_index(drop=True)

    def _strong(self, candidates: np.ndarray, same_class: bool, threshold: float) -> Iterator[tuple[np.ndarray, ...]]:
        """Train, test, infl and std_error of the pairs with abs(infl) >= ``threshold``, block by block.

        A block of counts is first sieved in float32, a little below the threshold; only what is left is computed in full.
        """
        for train, test in self._tiles(candidates, same_class):
            tests = self._tests()[:, test]
            rows = max(1, BLOCK_BYTES // (4 * len(test)))
            for part in (train[start : start + rows] for start in range(0, len(train), rows)):
                counts = count_together(self.members[:, part], tests)
                row, column = self._sieve(counts, part, self._right_of[test], threshold - 1e-4)
                infl, error = self._differences(counts[row, column], part[row], test[column])
                kept = np.abs(infl) >= threshold
                yield part[row][kept], test[column][kept], infl[kept], error[kept]

    def _sieve(self, counts: np.ndarray, train: np.ndarray, right: np.ndarray, threshold: float):
        """Rows and columns where abs(counts / n_in - (right - counts) / n_out) reaches ``threshold``, in three passes."""
        n_in = torch.from_numpy(self._members_of[train]).float()
        n_out = self.trials - n_in
        infl = torch.from_numpy(counts).float().mul_((1 / n_in + 1 / n_out)[:, None])
        infl.addr_(1 / n_out, torch.from_numpy(right).float(), alpha=-1)
        return (index.numpy() for index in torch.nonzero(infl.abs_() >= threshold, as_tuple=True))

    def _tiles(self, train: np.ndarray, same_class: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if not same_class:
            yield train, np.arange(self._tests().shape[1])
            return
        if self.train_labels is None or self.test_labels is None:
            raise ValueError("pairs of the same class need train_labels and test_labels; pass them to estimate()")
        for label in np.unique(self.train_labels[train]):
            tests = np.flatnonzero(self.test_labels == label)
            if len(tests):
                yield train[self.train_labels[train] == label], tests

    def _tests(self) -> np.ndarray:
        if self.test_correct is None:
            raise ValueError("influence needs test_correct; pass it to estimate()")
        return self.test_correct

    def _same_class(self, train: np.ndarray, test: np.ndarray):
        if self.train_labels is None or self.test_labels is None:
            return pd.Series(pd.NA, index=range(len(train)), dtype="boolean")
        return self.train_labels[train] == self.test_labels[test]

    def _differences(self, counts: np.ndarray, train: np.ndarray, test: np.ndarray):
        """Influence and standard error from counts of one shape with the indices (or broadcast with them)."""
        n_in = self._members_of[train]
        right_out, n_out = self._right_of[test] - counts, self.trials - n_in
        infl = _share(counts, n_in) - _share(right_out, n_out)
        return infl, np.where(np.isnan(infl), np.nan, standard_error(counts, n_in, right_out, n_out))


def count_together(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often both are true: exact int32 ``(p, q)`` for boolean ``a (t, p)`` and ``b (t, q)``."""
    left, right = (torch.from_numpy(np.ascontiguousarray(x)).view(torch.int8) for x in (a.T, b))
    return torch._int_mm(left, right).numpy()  # the int8 product of torch has no public name yet


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.divide(part, whole)  # 0 / 0 is NaN: not identified


def _indices(chosen, matrix: np.ndarray) -> np.ndarray:
    return np.arange(matrix.shape[1]) if chosen is None else np.atleast_1d(np.asarray(chosen))


def halves(t: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random split of ``t`` trials into two halves (of equal size; an odd one is left out), each in ascending order."""
    order = rng.permutation(t)[: t // 2 * 2]
    return np.sort(order[: t // 2]), np.sort(order[t // 2 :])


def part(estimates: Estimates, rows: np.ndarray) -> Estimates:
    """The estimates from some of the trials only."""
    test = None if estimates.test_correct is None else estimates.test_correct[rows]
    labels = estimates.train_labels, estimates.test_labels
    return Estimates(estimates.members[rows], estimates.train_correct[rows], test, *labels)


def permuted(estimates: Estimates, rng: np.random.Generator) -> Estimates:
    """The null hypothesis: the rows of the masks dealt to other models, which breaks every link and keeps all margins."""
    rows, labels = rng.permutation(estimates.trials), (estimates.train_labels, estimates.test_labels)
    return Estimates(estimates.members[rows], estimates.train_correct, estimates.test_correct, *labels)


def mean_squared_error(estimates: Estimates, t: int) -> float:
    """Mean squared error of memorization from ``t`` trials, measured on disjoint groups of ``t`` trials.

    The variance between groups, averaged over the examples that every group identifies; unbiased, since the groups are
    independent and their expectation is the target. Raises ``ValueError`` if there are fewer than two groups.
    """
    groups = estimates.trials // t
    if groups < 2:
        raise ValueError(f"{estimates.trials} trials hold {groups} groups of {t}; at least two are needed")
    rows = np.arange(groups * t).reshape(groups, t)
    return float(np.nanmean(np.var([part(estimates, r).memorization.mem for r in rows], axis=0, ddof=1)))
