"""The nearest-neighbour rule on data of any size: of each example only the nearest few training examples are kept.

`study.learners.nearest_neighbour` ranks all n of them, which takes n^2 numbers (29 GB for MNIST). But who answers is almost
always among the first few: in a random subset of 70 % the nearest fifty are all missing once in 10^26 times.
"""

import numpy as np
import torch

from study.data import Data, unit_floats
from study.learners.nearest_neighbour import first_hit
from study.workers import one_thread

KEPT = 50  # nearest training examples of each example
ROWS = 1000  # examples whose distances to all others are computed at once
NEGLIGIBLE = 1e-6


def nearest(data: Data, split: str) -> np.ndarray:
    """The `KEPT` nearest training examples of each example of ``split``, int64 ``(len(split), KEPT)``, nearest first.

    Euclidean; of equals the lower index comes first. A training example is not its own neighbour. Fewer than `KEPT`
    columns where there are fewer training examples.
    """
    points, of = (torch.from_numpy(unit_floats(np.asarray(x)).reshape(len(x), -1)) for x in _pictures(data, split))
    kept, lengths, found = min(KEPT, data.n - (split == "train")), points.square().sum(1), []
    with one_thread():
        for rows in torch.arange(len(of)).split(ROWS):
            distance = torch.addmm(lengths, of[rows], points.T, alpha=-2)  # squared, less what is the same in a row
            if split == "train":
                distance[torch.arange(len(rows)), rows] = torch.inf
            values, order = (part.numpy() for part in distance.topk(kept, largest=False))
            found.append(np.take_along_axis(order, np.lexsort((order, values), axis=1), axis=1))
    return np.concatenate(found)


def _pictures(data: Data, split: str) -> tuple[np.ndarray, np.ndarray]:
    return data.x_train, getattr(data, f"x_{split}")


def labels(ranked: np.ndarray, members: np.ndarray, y_train: np.ndarray) -> np.ndarray:
    """What the rule answers for each row of ``ranked``, as `nearest` gives it, from each of the subsets ``members (k, n)``.

    Returns ``(k, len(ranked))``. Raises ``ValueError`` if none of an example's neighbours that were kept is in a subset.
    """
    answers = np.empty((len(members), len(ranked)), dtype=y_train.dtype)
    for row, mask in zip(answers, members):
        hits = mask[ranked]
        if not hits.any(1).all():
            raise ValueError(f"a subset lacks all {ranked.shape[1]} nearest examples of some example; raise neighbours.KEPT")
        row[:] = y_train[ranked[np.arange(len(ranked)), hits.argmax(1)]]
    return answers


def memorization(data: Data, m: int) -> np.ndarray:
    """Exact memorization for subsets of size ``m``, float64 ``(n,)``: one less the accuracy on an example left out.

    An example in the subset is its own nearest, also where it has an exact duplicate, so the rule is right about it. Raises
    ``ValueError`` where the subset is so small that the neighbours that were kept often are all missing.
    """
    ranked = nearest(data, "train")
    answers = first_hit(data.n - 1, m)[: ranked.shape[1]]
    if answers.sum() < 1 - NEGLIGIBLE:
        raise ValueError(
            f"a subset of {m:,} out of {data.n:,} lacks the nearest {len(answers)} examples too often; raise neighbours.KEPT"
        )
    return 1 - (data.y_train[ranked] == data.y_train[:, None]) @ answers
