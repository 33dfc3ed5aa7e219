"""The two-layer ReLU network with 2n + d weights that fits any values at n distinct points of R^d.

Theorem 1 of Zhang et al. (2017, arXiv 1611.03530): there is a two-layer network with ReLU activations and 2n + d weights
that represents any function on a sample of n points in d dimensions. The proof builds

    c(x) = sum_j w_j max(<a, x> - b_j, 0)        with b_1 < z_1 <= b_2 < z_2 <= ... <= b_n < z_n

where z_1 < ... < z_n are the projections <a, x_i> in ascending order: d numbers a, n biases, n weights. Assumptions: the
points are distinct, and no two of them have the same projection, which for a random direction has probability one, in exact
arithmetic. The equations c(x_i) = y_i are triangular, so there is one solution for every choice of the biases.

How well a computer can solve them does depend on that choice. Let a bias stand at the share t of the gap between two
projections. An error in a slope of c is then passed on with the factor -t / (1 - t) to the next one (`amplification`): it
vanishes at t = 0, where c is the broken line through the points, and grows without bound beyond t = 1/2.

Building takes O(n) operations, evaluating n points O(n^2): 60,000 pictures in about 20 seconds of one core in float64.
"""

import hashlib
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from study import data as datasets
from study.data import unit_floats
from study.subsets import TrialSeed

ROWS_AT_ONCE = 32  # 60,000 units for each: 15 MB in float64
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}


class TwoLayer(nn.Module):
    """sum_j weights_j max(<direction, x> - biases_j, 0), with direction ``(d,)``, biases ``(n,)`` and weights ``(n,)``."""

    def __init__(self, direction: np.ndarray, biases: np.ndarray, weights: np.ndarray):
        super().__init__()
        self.direction, self.biases, self.weights = (
            nn.Parameter(torch.from_numpy(np.asarray(values, dtype=float)), requires_grad=False)
            for values in (direction, biases, weights)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values ``(m,)`` at points ``x (m, d)``."""
        return torch.relu((x @ self.direction)[:, None] - self.biases) @ self.weights

    @property
    def numbers(self) -> int:
        """How many numbers the network has: 2n + d."""
        return sum(parameter.numel() for parameter in self.parameters())


def build(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, place: float = 0.0) -> TwoLayer:
    """The network of Theorem 1 for points ``x (n, d)`` and real values ``y (n,)``.

    ``place`` in [0, 1) is the share of the gap between two projections at which a bias stands. Raises ``ValueError`` for
    another ``place``, or if two projections coincide, as those of equal points do.
    """
    if not 0 <= place < 1:
        raise ValueError(f"place is {place}; a bias must stand between two projections, 0 <= place < 1")
    direction = rng.standard_normal(x.shape[1])
    projected = x @ direction
    order = np.argsort(projected)
    z = projected[order]
    if not (np.diff(z) > 0).all():
        raise ValueError("two points have the same projection; equal points cannot get different values")
    biases = np.concatenate([[z[0] - 1], z[:-1] + place * np.diff(z)])
    return TwoLayer(direction, biases, np.diff(slopes(z, y[order], place), prepend=0))


def slopes(z: np.ndarray, y: np.ndarray, place: float) -> np.ndarray:
    """Slopes ``(n,)`` of the broken line through ``(z, y)``, z ascending, that bends at ``place`` of each gap.

    The first piece starts from zero, one before the first point.
    """
    gap, rise = np.diff(z), np.diff(y)
    if place == 0:
        return np.concatenate([[y[0]], rise / gap])
    found = [y[0]]
    with np.errstate(over="ignore", invalid="ignore"):  # beyond place 1/2 the slopes may leave the range of numbers
        for width, up in zip(gap, rise):
            found.append((up - place * width * found[-1]) / ((1 - place) * width))
    return np.array(found)


def amplification(place: float) -> float:
    """The factor -t / (1 - t) with which an error in one slope enters the next, for biases at the share t of each gap."""
    return -place / (1 - place)


def condition(z: np.ndarray) -> float:
    """Condition number, in the maximum norm, of the equations for weights with biases at the projections (place 0).

    For ``z (n,)`` ascending, n >= 3. The matrix max(z_i - b_j, 0) has its largest row sum in its last row. Its inverse takes
    second differences, divided by the gaps, so its row sums are known in closed form too.
    """
    biases = np.concatenate([[z[0] - 1], z[:-1]])
    steep = 1 / np.diff(z)
    inverse = max(1.0, 2 * steep[0] + 1, 2 * (steep[1:] + steep[:-1]).max())
    return float((z[-1] - biases).sum() * inverse)


def answers(network: TwoLayer, x: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """Values ``(m,)`` at ``x (m, d)`` with weights and arithmetic in ``dtype``, as float64."""
    cast = TwoLayer(*(p.numpy() for p in network.parameters())).to(dtype)
    chunks = torch.from_numpy(x).to(dtype).split(ROWS_AT_ONCE)
    return torch.cat([cast(chunk) for chunk in chunks]).double().numpy()


def wrong(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the whole number nearest to each value is not the label, bool ``(m,)``; what is not finite is wrong."""
    return np.rint(values) != labels


def distinct(pictures: np.ndarray) -> np.ndarray:
    """Indices, ascending, of ``pictures (n, ...)`` that equal no earlier one."""
    first: dict[bytes, int] = {}
    for place, picture in enumerate(pictures):
        first.setdefault(hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=16).digest(), place)
    return np.array(list(first.values()))


def fits(section) -> pd.DataFrame:
    """Random labels of pictures fitted in both precisions, for each data set and each of ``section.built``.

    Labels are numbers 0 ... k - 1. ``shuffled_wrong`` is the share of wrong labels with the biases shuffled, which keeps
    every number and breaks the construction.
    """
    rows = []
    for name, source in section.data.items():
        data = replace(datasets.load(source), name=name)
        kept = distinct(data.x_train)
        for n in sorted({min(size, len(kept)) for size in section.built}):
            rows += _fit(data, kept[:n], TrialSeed(section.seed, zlib.crc32(f"{name} {n}".encode())))
    return pd.DataFrame(rows)


def _fit(data: datasets.Data, chosen: np.ndarray, seed: TrialSeed) -> list[dict]:
    x, x_test = (unit_floats(part).reshape(len(part), -1).astype(float) for part in (data.x_train[chosen], data.x_test))
    labels = seed.generator("analysis").integers(len(data.classes), size=len(chosen))
    network = build(x, labels.astype(float), seed.generator("initialisation"))
    z = np.sort(x @ network.direction.numpy())
    shuffled = TwoLayer(network.direction, seed.generator("order").permutation(network.biases), network.weights)
    few = slice(0, 1000)  # of the broken network, for which an estimate is enough
    common = {
        "data": data.name,
        "n": len(x),
        "d": x.shape[1],
        "numbers": network.numbers,
        "dropped": int(chosen[-1] + 1 - len(chosen)),
        "condition": condition(z),
        "least_gap": np.diff(z).min(),
        "largest_weight": np.abs(network.weights.numpy()).max(),
        "shuffled_wrong": wrong(answers(shuffled, x[few]), labels[few]).mean(),
        "test_accuracy": 1 - wrong(answers(network, x_test[few]), data.y_test[few]).mean(),
    }
    return [common | {"precision": precision} | _errors(network, x, labels, precision) for precision in PRECISIONS]


def _errors(network: TwoLayer, x: np.ndarray, labels: np.ndarray, precision: str) -> dict:
    values = answers(network, x, PRECISIONS[precision])
    return {"error": float(np.abs(values - labels).max()), "wrong": int(wrong(values, labels).sum())}


def places(section) -> pd.DataFrame:
    """The same labels of pictures with biases at each of ``section.places``, in float64: errors by number of points."""
    rows = []
    name, source = next(iter(section.data.items()))
    data = datasets.load(source)
    kept = distinct(data.x_train[: 2 * max(section.placed)])
    for n in section.placed:
        seed = TrialSeed(section.seed, zlib.crc32(f"places {n}".encode()))
        x = unit_floats(data.x_train[kept[:n]]).reshape(n, -1).astype(float)
        labels = seed.generator("analysis").integers(len(data.classes), size=n)
        for place in section.places:
            network = build(x, labels.astype(float), seed.generator("initialisation"), place)
            values = answers(network, x)
            error = np.abs(values - labels).max() if np.isfinite(values).all() else np.inf
            rows.append({"data": name, "n": n, "place": place, "error": error, "wrong": wrong(values, labels).sum()})
    return pd.DataFrame(rows)
