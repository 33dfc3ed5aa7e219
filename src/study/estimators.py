"""Memorization and influence from random subsets (Algorithm 1 of the talk; Feldman & Zhang 2020, arXiv 2008.03703).

`estimate` takes anyone's arrays: which examples each of t models was trained on, and which it got right. For a training
example i and any example z it compares the models trained with i and without:

    infl(i, z) = Pr[h(z) = y_z | i in the subset] - Pr[h(z) = y_z | i not in it],       mem(i) = infl(i, i).

Counts are exact: products of 0/1 matrices in 8-bit integers with 32-bit sums, of which one suffices, since the models
without i are all models less those with i. An example that no model was trained with, or none without, has no estimate:
NaN, never 0.

The dense matrix of influences is never held to select pairs from it. It is computed in blocks of `BLOCK_BYTES`, class by
class, only for examples that are memorized enough, and reduced at once; estimates from some of the trials, or from
permuted ones, share the arrays of all. Beyond these, memory grows with what is selected, and with ``at_most`` not even
with that; `benchmarks/estimation.py` measures it.

Standard errors are those of a difference of two proportions after adding one success and one failure to each sample
(Agresti & Caffo 2000), which stay positive where all models agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

BLOCK_BYTES = 64 * 2**20  # of one int32 block of counts; a call needs about six times that
BYTE_SUM = 255  # rows of zeros and ones whose sum still fits a byte


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
    test = None if test_correct is None else Rows(test_correct)
    return Estimates(Rows(members), Rows(train_correct), test, *labels)


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
class Rows:
    """Rows ``order`` (indices, default all) of a boolean ``matrix``, copied only as far as they are asked for."""

    matrix: np.ndarray
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.matrix) if self.order is None else len(self.order)

    @property
    def width(self) -> int:
        return self.matrix.shape[1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.matrix[rows] if self.order is None else self.matrix[self.order[rows]]

    def columns(self, chosen: np.ndarray) -> np.ndarray:
        """A copy ``(t, len(chosen))``, made row by row, for a whole row fits into a cache and a whole column does not."""
        copy = np.empty((len(self), len(chosen)), dtype=bool)
        for row, k in zip(copy, range(len(self)) if self.order is None else self.order):
            self.matrix[k].take(chosen, out=row, mode="clip")  # the other modes go through a buffer
        return copy

    def chosen(self, rows: np.ndarray) -> "Rows":
        """Some of these rows, or all in another order."""
        return Rows(self.matrix, rows if self.order is None else self.order[rows])


@dataclass(frozen=True, eq=False)
class Estimates:
    """What `estimate` returns: memorization, influence and pairs from masks and results of the same trials."""

    masks: Rows
    train_results: Rows
    test_results: Rows | None
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None

    @property
    def trials(self) -> int:
        return len(self.masks)

    @property
    def members(self) -> np.ndarray:
        """Which examples each trial was trained on, bool ``(t, n)``; for a part of the trials this is a copy."""
        return self.masks[:]

    @property
    def train_correct(self) -> np.ndarray:
        """Which training examples each trial got right, bool ``(t, n)``; for a part of the trials this is a copy."""
        return self.train_results[:]

    @property
    def test_correct(self) -> np.ndarray | None:
        """Which tests each trial got right, bool ``(t, n_test)``; for a part of the trials this is a copy."""
        return None if self.test_results is None else self.test_results[:]

    @property
    def shape(self) -> tuple[int, int]:
        """n and n_test. Raises ``ValueError`` without ``test_correct``."""
        return self.masks.width, self._tests().width

    @property
    def _width(self) -> int:
        """Number of columns that fill a block."""
        return max(1, BLOCK_BYTES // self.trials)

    @cached_property
    def _members_of(self) -> np.ndarray:
        """Number of trials that each training example is in, int64 ``(n,)``."""
        return count_true(self.masks)

    @cached_property
    def _right_of(self) -> np.ndarray:
        """Number of trials that got each test right, int64 ``(n_test,)``."""
        return count_true(self._tests())

    @cached_property
    def memorization(self) -> pd.DataFrame:
        """One row an example: index, (label,) mem, std_error, n_in, n_out, in_accuracy, out_accuracy; NaN where unknown."""
        right_in, n_in, right_out, n_out = _counts(self.masks, self.train_results)
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
        train, test = (_indices(chosen, length) for chosen, length in zip((train, test), self.shape))
        counts = count_together(self.masks.columns(train), self._tests().columns(test))
        return self._differences(counts, train[:, None], test[None, :])

    def influence_at(self, train, test) -> tuple[np.ndarray, np.ndarray]:
        """Influence of ``train[k]`` on ``test[k]`` for index arrays of one length, with its standard error."""
        train, test = np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)
        step = self._width
        blocks = [slice(start, start + step) for start in range(0, max(1, len(train)), step)]
        counts = [count_true(self.masks.columns(train[k]), self._tests().columns(test[k])) for k in blocks]
        return self._differences(np.concatenate(counts), train, test)

    def pairs(
        self,
        mem_threshold: float,
        infl_threshold: float,
        same_class: bool = True,
        influence_of: "Estimates | None" = None,
        at_most: int | None = None,
    ) -> pd.DataFrame:
        """Pairs with mem >= ``mem_threshold`` and abs(infl) >= ``infl_threshold``, strongest first.

        Columns train, test, infl, std_error, mem, same_class. The talk's high-influence pairs are those with infl > 0 and
        same class; those with infl < 0 are the mirrored tail that tells how many arise by chance. ``influence_of`` takes
        the influence from other estimates on the same examples and keeps the selection by memorization.

        With ``at_most``, a longer table is cut to its strongest pairs of either sign, where few trials would fill it with
        noise; ``attrs["infl_floor"]`` then holds the abs(infl) from which on it is complete.
        """
        found = self.pair_blocks(mem_threshold, infl_threshold, same_class, influence_of)
        (train, test, infl, error), floor = _strongest(found, at_most)
        mem = self.memorization.mem.to_numpy()
        frame = pd.DataFrame({"train": train, "test": test, "infl": infl, "std_error": error, "mem": mem[train]})
        frame["same_class"] = True if same_class else (influence_of or self)._same_class(train, test)
        frame = frame.iloc[_strongest_first(train, test, infl)].reset_index(drop=True)
        frame.attrs |= {} if floor is None else {"infl_floor": floor}
        return frame

    def pair_blocks(
        self,
        mem_threshold: float,
        infl_threshold: float,
        same_class: bool = True,
        influence_of: "Estimates | None" = None,
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """What `pairs` selects, in blocks and unsorted: arrays train, test, infl and std_error of one length each.

        For counting, where a table of all pairs would be large: at 48 trials noise alone passes the talk's thresholds
        hundreds of thousands of times on CIFAR-100.
        """
        chosen = np.flatnonzero(self.memorization.mem.to_numpy() >= mem_threshold)
        return (influence_of or self)._strong(chosen, same_class, infl_threshold)

    def _strong(self, candidates: np.ndarray, same_class: bool, threshold: float) -> Iterator[tuple[np.ndarray, ...]]:
        """Train, test, infl and std_error of the pairs with abs(infl) >= ``threshold``, block by block."""
        for tiles in self._batches(candidates, same_class):
            trains, tests = zip(*tiles)
            columns = zip(_columns(self.masks, trains), _columns(self._tests(), tests))
            for (train, test), (members, correct) in zip(tiles, columns):
                rows = max(1, BLOCK_BYTES // (4 * len(test)))
                for part in (slice(start, start + rows) for start in range(0, len(train), rows)):
                    yield self._above(threshold, train[part], test, count_together(members[:, part], correct))

    def _above(self, threshold: float, train: np.ndarray, test: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, ...]:
        """Those of one block, sieved in float32 a little below the threshold; only what is left is computed in full."""
        row, column = self._sieve(counts, train, self._right_of[test], threshold)
        infl, error = self._differences(counts[row, column], train[row], test[column])
        kept = np.abs(infl) >= threshold
        return train[row][kept], test[column][kept], infl[kept], error[kept]

    def _sieve(self, counts: np.ndarray, train: np.ndarray, right: np.ndarray, threshold: float):
        """Rows and columns where abs(counts / n_in - (right - counts) / n_out) comes near ``threshold``, in three passes."""
        n_in = torch.from_numpy(self._members_of[train]).float()
        n_out = self.trials - n_in
        infl = torch.from_numpy(counts).float().mul_((1 / n_in + 1 / n_out)[:, None])
        infl.addr_(1 / n_out, torch.from_numpy(right).float(), alpha=-1)
        terms = self.trials / torch.minimum(n_in, n_out).clamp_(min=1).min().item()  # what cancels is as large as this
        near = threshold - 1e-4 - 1e-6 * terms
        return (index.numpy() for index in torch.nonzero(infl.abs_() >= near, as_tuple=True))

    def _batches(self, train: np.ndarray, same_class: bool) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Tiles in groups whose training columns fit into `BLOCK_BYTES`.

        A class at a time, its columns lie far apart in every row; of many classes, one passage through the rows gathers all.
        """
        width, batch, held = self._width, [], 0
        for label_train, test in self._tiles(train, same_class):
            for part in (label_train[start : start + width] for start in range(0, len(label_train), width)):
                if held + len(part) > width:
                    yield batch
                    batch, held = [], 0
                batch.append((part, test))
                held += len(part)
        if batch:
            yield batch

    def _tiles(self, train: np.ndarray, same_class: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if not same_class:
            yield train, np.arange(self._tests().width)
            return
        if self.train_labels is None or self.test_labels is None:
            raise ValueError("pairs of the same class need train_labels and test_labels; pass them to estimate()")
        for label in np.unique(self.train_labels[train]):
            tests = np.flatnonzero(self.test_labels == label)
            if len(tests):
                yield train[self.train_labels[train] == label], tests

    def _tests(self) -> Rows:
        if self.test_results is None:
            raise ValueError("influence needs test_correct; pass it to estimate()")
        return self.test_results

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


def count_true(matrix: np.ndarray | Rows, also: np.ndarray | Rows | None = None) -> np.ndarray:
    """How often each column of boolean ``matrix (t, n)`` is true, where ``also (t, n)`` is true too: exact int64 ``(n,)``.

    Summed in bytes, as many rows at a time as a byte can count, which is ten times as fast as a sum of the whole
    conjunction and never holds it.
    """
    blocks = [slice(start, start + BYTE_SUM) for start in range(0, len(matrix), BYTE_SUM)]
    total = np.zeros(matrix[:0].shape[1], dtype=np.int64)
    for rows in blocks:
        block = matrix[rows] if also is None else matrix[rows] & also[rows]
        total += block.view(np.uint8).sum(0, dtype=np.uint8)
    return total


def _counts(members: np.ndarray | Rows, correct: np.ndarray | Rows) -> tuple[np.ndarray, ...]:
    """For each example: right and trained on, trained on, right and held out, held out."""
    n_in, right_in = count_true(members), count_true(members, correct)
    return right_in, n_in, count_true(correct) - right_in, len(members) - n_in


def count_together(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How often both are true: exact int32 ``(p, q)`` for boolean ``a (t, p)`` and ``b (t, q)``."""
    left, right = _bytes(a).T, _bytes(b)  # views: the product reads columns of a wider array where they lie
    return torch._int_mm(left, right).numpy()  # the int8 product of torch has no public name yet


def _bytes(matrix: np.ndarray) -> torch.Tensor:
    reversed_ = min(matrix.strides) < 0  # which torch cannot view
    return torch.from_numpy(matrix.copy() if reversed_ else matrix).view(torch.int8)


def _columns(rows: Rows, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Groups of columns, gathered at once: views of one copy."""
    ends = np.cumsum([len(columns) for columns in groups])
    return np.split(rows.columns(np.concatenate(groups)), ends[:-1], axis=1)


def _strongest_first(train: np.ndarray, test: np.ndarray, infl: np.ndarray) -> np.ndarray:
    """Order by falling influence, equals by train and test; twice as fast as a sort by three columns."""
    by_index = np.argsort((train << 32) + test)
    return by_index[np.argsort(-infl[by_index], kind="stable")]


def _strongest(blocks: Iterator[tuple[np.ndarray, ...]], at_most: int | None) -> tuple[list[np.ndarray], float | None]:
    """Train, test, infl and std_error of all blocks as four arrays, and the floor if there were more than ``at_most``.

    Cut each time that twice as many have come, so that no more than these and one block are ever held.
    """
    held, limit = [[np.empty(0, np.int64)] * 2 + [np.empty(0)] * 2], -1.0
    for block in blocks:
        held.append(block)
        if at_most is not None and sum(len(part[0]) for part in held) > 2 * at_most:
            columns, limit = _cut(held, limit, at_most)
            held = [columns]
    columns, limit = _cut(held, limit, at_most)
    return columns, (float(np.nextafter(limit, 2)) if limit >= 0 else None)


def _cut(blocks: list, limit: float, at_most: int | None) -> tuple[list[np.ndarray], float]:
    """The pairs with abs(infl) above ``limit``, and above the next one if they are still more than ``at_most``."""
    columns = [np.concatenate(column) for column in zip(*blocks)]
    strength = np.abs(columns[2])
    if at_most is not None and (strength > limit).sum() > at_most:
        limit = np.partition(strength, -at_most - 1)[-at_most - 1]
    return [column[strength > limit] for column in columns], limit


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.divide(part, whole)  # 0 / 0 is NaN: not identified


def _indices(chosen, length: int) -> np.ndarray:
    return np.arange(length) if chosen is None else np.atleast_1d(np.asarray(chosen))


def halves(t: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random split of ``t`` trials into two halves (of equal size; an odd one is left out), each in ascending order.

    Raises ``ValueError`` for fewer than two trials.
    """
    if t < 2:
        raise ValueError(f"{t} trial has no halves to compare; at least two are needed")
    order = rng.permutation(t)[: t // 2 * 2]
    return np.sort(order[: t // 2]), np.sort(order[t // 2 :])


def part(estimates: Estimates, rows: np.ndarray) -> Estimates:
    """The estimates from some of the trials only, given by their indices ``rows``."""
    test = None if estimates.test_results is None else estimates.test_results.chosen(rows)
    labels = estimates.train_labels, estimates.test_labels
    return Estimates(estimates.masks.chosen(rows), estimates.train_results.chosen(rows), test, *labels)


def permuted(estimates: Estimates, rng: np.random.Generator) -> Estimates:
    """The null hypothesis: the rows of the masks dealt to other models, which breaks every link and keeps all margins."""
    return replace(estimates, masks=estimates.masks.chosen(rng.permutation(estimates.trials)))


def mean_squared_error(estimates: Estimates, t: int) -> float:
    """Mean squared error of memorization from ``t`` trials, measured on disjoint groups of ``t`` trials.

    The variance between groups, averaged over the examples that every group identifies; unbiased, since the groups are
    independent and their expectation is the target. Raises ``ValueError`` if there are fewer than two groups.
    """
    groups = estimates.trials // t
    if groups < 2:
        raise ValueError(f"{estimates.trials} trials hold {groups} groups of {t}; at least two are needed")
    width = max(1, BLOCK_BYTES // (8 * groups))
    columns = [slice(start, start + width) for start in range(0, estimates.masks.width, width)]
    return float(np.nanmean(np.concatenate([_variance(estimates, t, groups, chosen) for chosen in columns])))


def _variance(estimates: Estimates, t: int, groups: int, columns: slice) -> np.ndarray:
    """Variance of memorization between groups of ``t`` trials, for some of the examples; NaN where a group knows nothing."""
    rows = [slice(start, start + t) for start in range(0, groups * t, t)]
    counts = (_counts(estimates.masks[r][:, columns], estimates.train_results[r][:, columns]) for r in rows)
    mem = [_share(right_in, n_in) - _share(right_out, n_out) for right_in, n_in, right_out, n_out in counts]
    return np.var(mem, axis=0, ddof=1)
