"""`nearest_neighbour`: the label of the nearest example of the subset, with memorization and influence in closed form.

The learner that memorizes by definition, and the study's yardstick: `memorization` and `influence` below give the
expectations that the estimators must meet, for random subsets of m out of n examples, by counting subsets. Which
neighbour answers is decided by rank alone, so the probability that the r-th nearest is the first inside the subset is
that of r - 1 misses followed by a hit when drawing without replacement.
"""

from typing import Literal

import numpy as np
from pydantic import PositiveInt
from scipy.spatial.distance import cdist

from study.closed import Closed
from study.data import Data, unit_floats
from study.subsets import TrialSeed


class NearestNeighbour(Closed):
    """One nearest neighbour in Euclidean distance; ties go to the example with the lower index."""

    name: Literal["nearest_neighbour"] = "nearest_neighbour"
    models_at_once: PositiveInt

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Label every example by its nearest member; ``seeds`` are not used, the algorithm draws nothing.

        Returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``. Raises ``ValueError`` for an empty subset.
        """
        if not members.any(1).all():
            raise ValueError("nearest_neighbour needs at least one example in each subset")
        return tuple(_answers(neighbours(data, split), members, data.y_train) for split in ("train", "test"))


def neighbours(data: Data, split: str) -> np.ndarray:
    """Training examples by distance from each example of ``split``, nearest first, int ``(len(split), n)``.

    A training example is its own nearest neighbour, also where it has an exact duplicate.
    """
    flat = [unit_floats(x).reshape(len(x), -1) for x in (getattr(data, f"x_{split}"), data.x_train)]
    distance = cdist(*flat)
    if split == "train":
        np.fill_diagonal(distance, -1)
    return distance.argsort(1, kind="stable")


def _answers(order: np.ndarray, members: np.ndarray, y_train: np.ndarray) -> np.ndarray:
    nearest = np.stack([np.take_along_axis(order, mask[order].argmax(1)[:, None], 1)[:, 0] for mask in members])
    return y_train[nearest].astype(np.int16)


def first_hit(n: int, m: int) -> np.ndarray:
    """Probability that the first of m chosen among n ranked examples has rank r, float ``(n,)``, r = 0, 1, ..."""
    ranks = np.arange(n)
    still_missing = np.cumprod(np.concatenate([[1.0], np.clip(1 - m / (n - ranks[:-1]), 0, 1)]))
    return still_missing * np.clip(m / (n - ranks), 0, 1)


def influence(data: Data, m: int) -> np.ndarray:
    """Exact difference of Algorithm 1 for subsets of size ``m``, float64 ``(n, n_test)``: influence of i on test j."""
    return _influence_on(data, m, "test", data.y_test)


def memorization(data: Data, m: int) -> np.ndarray:
    """Exact memorization for subsets of size ``m``, float64 ``(n,)``: the influence of each example on itself."""
    return np.diagonal(_influence_on(data, m, "train", data.y_train)).copy()


def _influence_on(data: Data, m: int, split: str, labels: np.ndarray) -> np.ndarray:
    """With i at rank s: if i is in, ranks below s answer first or i does; if i is out, its rank is skipped."""
    n, order = data.n, neighbours(data, split)
    right = (data.y_train[order] == labels[:, None]).astype(float)
    with_i, without_i = first_hit(n - 1, m - 1), first_hit(n - 1, m)
    i_answers = 1 - np.concatenate([[0.0], np.cumsum(with_i)])
    below_in = _before(right[:, :-1] * with_i)
    below_out = _before(right[:, :-1] * without_i)
    above_out = (right[:, 1:] * without_i)[:, ::-1].cumsum(1)[:, ::-1]
    above_out = np.pad(above_out, ((0, 0), (0, 1)))
    by_rank = below_in + right * i_answers - below_out - above_out
    result = np.empty((n, len(labels)))
    np.put_along_axis(result, order.T, by_rank.T, axis=0)
    return result


def _before(terms: np.ndarray) -> np.ndarray:
    """Sums over the ranks strictly below each rank: ``(rows, n - 1)`` to ``(rows, n)``."""
    return np.pad(terms.cumsum(1), ((0, 0), (1, 0)))
