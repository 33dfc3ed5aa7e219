"""Three networks without a training error, of which only some can do anything else.

`Line` reads one projection of its input and goes through all training points along it. `Bumps` is a sum of local
bumps, one for each point of a greedily chosen cover of the sample. The third is a trained multilayer perceptron. `run`
builds all of them on every pair of classes of two sets of digits, with true labels and with random ones, and then asks
what Yu, Gao, Zhang and Miao (2024, arXiv 2411.00372) ask in their abstract: how wide such a network must be, how many
parameters it needs as the sample grows, and how large a sample. The constructions, propositions and proofs here are our
own; of the paper only what its abstract states is used.

Labels are -1 and 1. Distances are sums of absolute differences, which two layers of ReLU compute exactly. An input on
which a network has the value 0 is undecided and counts as half right, as a coin toss would be on average.

The stage takes about a minute of one core, most of it for the pairs of classes. Test accuracies, averaged over all pairs,
have standard errors of up to 0.2 percent over three repeats, those of random directions up to 0.8 (November 2026).
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import cdist, pdist, squareform
from scipy.special import entr
from sklearn.linear_model import Ridge

from study import data as datasets
from study import quantities
from study.data import Data, unit_floats
from study.learners import Mlp
from study.learners.mlp import Networks
from study.params import Board, Cells, Memorizers, Pictures
from study.progress import Progress
from study.subsets import TrialSeed

LABELS = ("true", "random")
MEMORIZERS = ("random direction", "fitted direction", "local bumps", "trained network")
BITS = 32  # of a stored weight, in the count of functions
DOUBT = 0.01  # probability left that some network does better than the count allows
COUNTED = np.arange(12, 41)  # dimensions at which the count is far above zero

Layers = list[tuple[np.ndarray, np.ndarray]]


class Task(NamedTuple):
    """A binary problem: ``x (n, d)``, two sets of ``labels (n,)`` in {-1, 1} by name, ``x_test (t, d)``, ``y_test (t,)``."""

    x: np.ndarray
    labels: dict[str, np.ndarray]
    x_test: np.ndarray
    y_test: np.ndarray


def generator(seed: int, part: str) -> np.random.Generator:
    """A stream of its own for every part of the stage, so that one more part changes no other."""
    return trial_seed(seed, part).generator("analysis")


def trial_seed(seed: int, part: str) -> TrialSeed:
    return TrialSeed(seed, zlib.crc32(part.encode()))


def forward(layers: Layers, x: np.ndarray) -> np.ndarray:
    """Values ``(n,)`` of a ReLU network at ``x (n, d)``; layers are pairs of weights ``(out, in)`` and biases ``(out,)``."""
    *hidden, (weights, bias) = layers
    for inner, shift in hidden:
        x = np.maximum(x @ inner.T + shift, 0)
    return (x @ weights.T + bias)[:, 0]


# --- one direction -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """f(x) = offset + sum_j weights_j max(<direction, x> - knots_j, 0): a network whose first layer has rank one.

    ``direction (d,)``, ``knots (u,)`` ascending, ``weights (u,)``.
    """

    direction: np.ndarray
    knots: np.ndarray
    weights: np.ndarray
    offset: float

    def value(self, x: np.ndarray) -> np.ndarray:
        """Values ``(n,)`` at ``x (n, d)``."""
        return self.offset + np.maximum((x @ self.direction)[:, None] - self.knots, 0) @ self.weights

    @property
    def numbers(self) -> int:
        """How many numbers describe the network."""
        return len(self.direction) + 2 * len(self.knots) + 1

    def narrow(self) -> Layers:
        """The same function as a deep network: first layer of one unit, all others of four.

        The four carry the position along the line, the current ReLU, and the positive and negative parts of the sum so
        far. Both parts only grow, so no ReLU ever cuts them.
        """
        up, down = np.maximum(self.weights, 0), np.maximum(-self.weights, 0)
        first = [(self.direction[None], -self.knots[:1])]
        gaps = np.append(self.knots, self.knots[-1])[1:] - self.knots[0]
        second = [(np.array([[1.0], [1.0], up[:1], down[:1]]), np.array([0, -gaps[0], 0, 0]))]
        inner = [_carry(*numbers) for numbers in zip(up[1:], down[1:], gaps[1:], strict=True)]
        return [*first, *second, *inner, (np.array([[0.0, 0, 1, -1]]), np.array([self.offset]))]


def _carry(up: float, down: float, gap: float) -> tuple[np.ndarray, np.ndarray]:
    weights = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, up, 1, 0], [0, down, 0, 1]])
    return weights, np.array([0, -gap, 0, 0])


def along(direction: np.ndarray, x: np.ndarray, y: np.ndarray) -> Line:
    """The piecewise linear function of <direction, x> through all points ``x (n, d)`` with labels ``y (n,)``.

    Constant before the first and after the last. Between two neighbours it changes sign halfway, so it predicts the label
    of the nearest training point on the line. Raises ``ValueError`` where two points have the same projection.
    """
    order = np.argsort(x @ direction)
    z, values = (x @ direction)[order], y[order].astype(float)
    if not (np.diff(z) > 0).all():
        raise ValueError("two points have the same projection; leave out duplicates or take another direction")
    slopes = np.concatenate([[0.0], np.diff(values) / np.diff(z), [0.0]])
    bends = np.diff(slopes)
    return Line(direction, z[bends != 0], bends[bends != 0], values[0])


def random_direction(d: int, rng: np.random.Generator) -> np.ndarray:
    direction = rng.standard_normal(d)
    return direction / np.linalg.norm(direction)


def fitted_direction(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """The direction ``(d,)`` of least squares with ``penalty`` on the squared weights: it knows the labels."""
    return Ridge(alpha=penalty).fit(x, y).coef_


# --- local bumps -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bumps:
    """f(x) = sum_k labels_k max(reaches_k - |x - centres_k|_1, 0); ``centres (k, d)``, ``labels (k,)``, ``reaches (k,)``."""

    centres: np.ndarray
    labels: np.ndarray
    reaches: np.ndarray

    def value(self, x: np.ndarray) -> np.ndarray:
        """Values ``(n,)`` at ``x (n, d)``."""
        return self.of_distances(distances(x, self.centres))

    def of_distances(self, away: np.ndarray) -> np.ndarray:
        """Values ``(n,)`` from the distances ``away (n, k)`` to the centres."""
        return np.maximum(self.reaches - away, 0) @ self.labels

    @property
    def numbers(self) -> int:
        """How many numbers describe the network: a centre, a label and a reach for each bump."""
        return self.centres.size + 2 * len(self.centres)

    def layers(self) -> Layers:
        """The same function as a ReLU network with two hidden layers, of 2dk and k units."""
        k, d = self.centres.shape
        first = np.tile(np.concatenate([np.eye(d), -np.eye(d)]), (k, 1))
        shift = np.concatenate([-self.centres, self.centres], axis=1).ravel()
        second = np.kron(np.eye(k), -np.ones(2 * d))
        return [(first, shift), (second, self.reaches), (self.labels[None].astype(float), np.zeros(1))]


def distances(x: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Sums of absolute differences, ``(len(x), len(to))``."""
    return cdist(x, to, "cityblock")


def mutual(x: np.ndarray) -> np.ndarray:
    """`distances` of the rows of ``x (n, d)`` among each other, ``(n, n)``, in half the time."""
    return squareform(pdist(x, "cityblock"))


def clearances(among: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance ``(n,)`` of each training point to the nearest one with the other label; ``among (n, n)`` are distances.

    Raises ``ValueError`` where only one label occurs, or equal points have different labels: no network can fit those.
    """
    found = np.where(y[:, None] != y, among, np.inf).min(axis=1)
    if not np.isfinite(found).all():
        raise ValueError(f"all {len(y)} labels are {y[0]}; bumps need points of both labels")
    if not found.all():
        raise ValueError(f"{np.count_nonzero(found == 0)} points coincide with a point of the other label")
    return found


def local_bumps(x: np.ndarray, y: np.ndarray, among: np.ndarray, cover: float, reach: float) -> tuple[Bumps, np.ndarray]:
    """The bumps on a greedy cover of ``x (n, d)`` with labels ``y (n,)``, and the indices of their centres.

    A point covers those nearer than ``cover`` times its clearance, which all have its label; its bump reaches ``reach``
    times as far as its clearance, with 0 < cover <= reach <= 1. **No training error:** at a training point the bumps of the
    other label are zero, because it lies at least a clearance from their centres, and one of its own label is positive.
    """
    clear = clearances(among, y)
    chosen = greedy_cover(among < cover * clear[:, None])
    return Bumps(x[chosen], y[chosen], reach * clear[chosen]), chosen


def greedy_cover(covers: np.ndarray) -> np.ndarray:
    """Rows of ``covers (n, n)`` bool that together cover every column: each time the row that covers most of what is left.

    Raises ``ValueError`` if a column is covered by no row.
    """
    if not covers.any(axis=0).all():
        raise ValueError(f"{np.count_nonzero(~covers.any(axis=0))} points are covered by none")
    left, gain, chosen = np.ones(covers.shape[1], dtype=bool), covers.sum(axis=1), []
    while left.any():
        chosen.append(int(gain.argmax()))
        fresh = covers[chosen[-1]] & left
        left &= ~fresh
        gain = gain - covers[:, fresh].sum(axis=1)
    return np.array(chosen)


def packing(covers: np.ndarray) -> np.ndarray:
    """Columns of ``covers (n, n)`` no two of which one row covers: every cover has at least as many rows.

    Chosen greedily, those that few rows cover first.
    """
    free, chosen = np.ones(covers.shape[1], dtype=bool), []
    for column in np.argsort(covers.sum(axis=0), kind="stable"):
        if free[column]:
            chosen.append(int(column))
            free &= ~covers[covers[:, column]].any(axis=0)
    return np.array(chosen)


def ball_radius(cover: float, reach: float) -> float:
    """The largest a for which bumps provably generalize from balls of radius a times the distance to the other class.

    Proposition. Let the support of each label be covered by balls, S in all. Write r(z) for the distance of z to the
    support of the other label, and let a ball around z (a point of the support) have radius a r(z). If ``a`` is at most
    this value, `local_bumps` is right on every point of every ball that a sample with both labels hits. Hence
    N >= (S / eps) ln(S / delta) points give accuracy 1 - eps with probability 1 - delta, if both labels are among them.

    Proof. Let x be a point and x' a training point of the ball; r = r(z), so |x - x'| <= 2ar and r(x), r(x') >= (1 - a) r.
    *Its own label.* Some centre c of this label covers x': |x' - c| < cover R(c), where R(c) is the clearance of c in the
    sample. R(c) >= r(c) >= r(x') - |x' - c|, so R(c) > (1 - a) r / (1 + cover). The bump of c is positive at x if
    2ar + cover R(c) <= reach R(c), which follows from 2a <= (1 - a) (reach - cover) / (1 + cover).
    *The other label.* A centre c' has R(c') <= |c' - x'| <= |c' - x| + 2ar. Its bump is zero at x if
    |c' - x| >= reach R(c'), which follows from (1 - reach) |c' - x| >= 2a r reach and, as
    |c' - x| >= r(x) >= (1 - a) r, from 2a reach <= (1 - reach) (1 - a).
    *The size.* A ball of mass at least eps / S is missed with probability at most exp(-N eps / S); by the choice of N none
    of these is, with probability 1 - delta. The others weigh less than eps together.

    Raises ``ValueError`` unless 0 < cover < reach < 1: at 1 nothing keeps the bumps of the other label away.
    """
    if not 0 < cover < reach < 1:
        raise ValueError(f"cover is {cover} and reach {reach}; the proof needs 0 < cover < reach < 1")
    return min(_share((reach - cover) / (1 + cover)), _share((1 - reach) / reach))


def _share(ratio: float) -> float:
    """The solution a of 2a = (1 - a) ratio."""
    return ratio / (2 + ratio)


# --- trained networks --------------------------------------------------------------------------------------


def train(learner: Mlp, tasks: list[Task], labels: str, seeds: list[TrialSeed]) -> Networks:
    """One network a task, all trained in step on the labels of that name; tasks have equal sizes.

    The tasks lie side by side in one data set, and each network sees its own part.
    """
    x = np.concatenate([task.x for task in tasks]).astype(np.float32)
    y = np.concatenate([task.labels[labels] for task in tasks])
    together = Data("tasks", x, (y > 0).astype(np.int64), x[:1], np.zeros(1, dtype=np.int64), ("-1", "1"))
    return learner.fit(together, np.kron(np.eye(len(tasks), dtype=bool), np.ones(len(tasks[0].x), dtype=bool)), seeds)


def signs(networks: Networks, x: np.ndarray) -> np.ndarray:
    """What each network says of its own inputs ``x (k, n, d)``: -1 or 1, ``(k, n)``."""
    values = torch.from_numpy(x.astype(np.float32))
    for layer in networks.layers[:-1]:
        values = torch.baddbmm(layer.bias, values, layer.weight).relu_()
    last = networks.layers[-1]
    return 2 * torch.baddbmm(last.bias, values, last.weight).argmax(-1).numpy() - 1


def network_numbers(learner: Mlp, d: int) -> int:
    """Weights and biases of a network with ``d`` inputs and two outputs."""
    return sum((a + 1) * b for a, b in pairwise((d, *learner.widths, 2)))


# --- measuring ---------------------------------------------------------------------------------------------


def accuracy(values: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Share of ``values (t,)`` with the sign ``y (t,)``, zeros counted as half, and the share of zeros."""
    undecided = np.mean(values == 0)
    return float(np.mean(values * y > 0) + undecided / 2), float(undecided)


def _row(memorizer: str, labels: str, fit: tuple, test: tuple, n: int, numbers: int) -> dict:
    train_accuracy, test_accuracy = accuracy(*fit)[0], accuracy(*test)
    found = {"train_accuracy": train_accuracy, "train_errors": round((1 - train_accuracy) * n)}
    found |= {"test_accuracy": test_accuracy[0], "undecided": test_accuracy[1], "numbers": numbers}
    return {"memorizer": memorizer, "labels": labels} | found


def _rows_of(task: Task, section: Memorizers | Cells, penalty: float, rng: np.random.Generator) -> Iterator[dict]:
    """The three constructions on both sets of labels of one task."""
    among, across = mutual(task.x), distances(task.x_test, task.x)
    for name, y in task.labels.items():
        directions = (random_direction(task.x.shape[1], rng), fitted_direction(task.x, y, penalty))
        for memorizer, direction in zip(MEMORIZERS, directions):
            line = along(direction, task.x, y)
            tested = (line.value(task.x_test), task.y_test)
            yield _row(memorizer, name, (line.value(task.x), y), tested, len(y), line.numbers)
        bumps, chosen = local_bumps(task.x, y, among, section.cover, section.reach)
        fit, test = (bumps.of_distances(away[:, chosen]) for away in (among, across))
        row = _row("local bumps", name, (fit, y), (test, task.y_test), len(y), bumps.numbers)
        yield row | {"bumps": len(chosen)}


def _network_rows(learner: Mlp, tasks: list[Task], seed: int, part: str) -> Iterator[list[dict]]:
    """One row a task for each set of labels, of the trained networks."""
    for name in LABELS:
        seeds = [trial_seed(seed, f"{part}/{name}/{number}") for number in range(len(tasks))]
        networks = train(learner, tasks, name, seeds)
        fit, test = (signs(networks, np.stack([getattr(task, of) for task in tasks])) for of in ("x", "x_test"))
        numbers = network_numbers(learner, tasks[0].x.shape[1])
        yield [
            _row(MEMORIZERS[-1], name, (f, task.labels[name]), (t, task.y_test), len(f), numbers)
            for task, f, t in zip(tasks, fit, test)
        ]


def _measured(tasks: list[Task], about: list[dict], section, learner: Mlp, penalty: float, seed: int, part: str):
    """All four memorizers on all tasks; ``about`` describes each. One row a task, memorizer and set of labels."""
    rows = []
    for number, (task, words) in enumerate(zip(tasks, about, strict=True)):
        rows += [words | row for row in _rows_of(task, section, penalty, generator(seed, f"{part}/{number}"))]
    for found in _network_rows(learner, tasks, seed, part):
        rows += [words | row for words, row in zip(about, found)]
    return pd.DataFrame(rows)


# --- pairs of classes --------------------------------------------------------------------------------------


def pair_tasks(pictures: Pictures, data: Data, rng: np.random.Generator) -> tuple[list[Task], list[dict]]:
    """A task for each pair of classes, from equally many random examples of each, and the names of the classes.

    Raises ``ValueError`` where a class has too few examples.
    """
    chosen = _by_class(data.y_train, len(data.classes), pictures.per_class, rng, "per_class")
    tested = _by_class(data.y_test, len(data.classes), pictures.test_per_class, rng, "test_per_class")
    x, x_test = (_flat(part[rows]) for part, rows in ((data.x_train, chosen), (data.x_test, tested)))
    pairs = list(itertools.combinations(range(len(data.classes)), 2))
    names = [{"first": data.classes[a], "second": data.classes[b]} for a, b in pairs]
    return [_pair(x[list(pair)], x_test[list(pair)], rng) for pair in pairs], names


def _by_class(y: np.ndarray, classes: int, count: int, rng: np.random.Generator, key: str) -> np.ndarray:
    """Indices ``(classes, count)`` of random examples of each class."""
    fewest = np.bincount(y, minlength=classes).min()
    if count > fewest:
        raise ValueError(f"{key} is {count}, but the smallest class has {fewest} examples; lower it in params.yaml")
    return np.stack([rng.permutation(np.flatnonzero(y == c))[:count] for c in range(classes)])


def _flat(x: np.ndarray) -> np.ndarray:
    """Pictures ``(classes, n, ...)`` as float64 rows ``(classes, n, d)``."""
    return unit_floats(x).reshape(*x.shape[:2], -1).astype(float)


def _pair(x: np.ndarray, x_test: np.ndarray, rng: np.random.Generator) -> Task:
    """The task of telling ``x[0]`` (label -1) from ``x[1]`` (label 1)."""
    y, y_test = (np.repeat([-1, 1], len(part[0])) for part in (x, x_test))
    labels = {"true": y, "random": rng.choice([-1, 1], size=len(y))}
    return Task(np.concatenate(list(x)), labels, np.concatenate(list(x_test)), y_test)


def pairs(section: Memorizers) -> pd.DataFrame:
    """All memorizers on all pairs of classes; one row a data set, repeat, pair, set of labels and memorizer."""
    parts = []
    with Progress("pairs of classes", total=len(section.pictures) * section.repeats, unit="repeats") as progress:
        for name, pictures in section.pictures.items():
            data = datasets.load(pictures.data)
            for repeat in range(section.repeats):
                part = f"{name}/{repeat}"
                tasks, names = pair_tasks(pictures, data, generator(section.seed, part))
                about = [{"data": name, "repeat": repeat, "n": len(tasks[0].x)} | words for words in names]
                parts.append(_measured(tasks, about, section, pictures.network, section.penalty, section.seed, part))
                progress.advance(1)
    return pd.concat(parts, ignore_index=True)


# --- width -------------------------------------------------------------------------------------------------


def clusters(dimension: int, count: int, noise: float, sizes: Iterable[int], rng: np.random.Generator) -> list:
    """Samples (x, y) from ``count`` Gaussian clusters with alternating labels; ``noise`` in units of the centres' spread."""
    centres = rng.standard_normal((count, dimension))
    drawn = [rng.integers(count, size=size) for size in sizes]
    return [(centres[g] + noise * rng.standard_normal((len(g), dimension)), 1 - 2 * (g % 2)) for g in drawn]


def board(shape: Board, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sample from a chessboard: ``side ** dimension`` cubes of side 1 - gap, one apart, with alternating labels.

    With an even side, the label is a fair coin given all coordinates but one: no function of those does better than 1/2.
    """
    cell = rng.integers(shape.side, size=(size, shape.dimension))
    x = cell + shape.gap / 2 + (1 - shape.gap) * rng.random(cell.shape)
    return x, 1 - 2 * (cell.sum(axis=1) % 2)


def projections(kind: str, dimension: int, rng: np.random.Generator) -> np.ndarray:
    """An orthogonal matrix ``(dimension, dimension)`` whose first columns are read: ``random`` or the ``coordinates``."""
    if kind == "coordinates":
        return np.eye(dimension)
    return np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]


def sweep(section: Memorizers) -> pd.DataFrame:
    """Bumps behind a first layer that reads ``width`` directions; one row a distribution, projection, width and repeat."""
    part, rows = section.sweep, []
    for repeat in range(part.repeats):
        for dimension in part.dimensions:
            rng = generator(section.seed, f"clusters/{dimension}/{repeat}")
            samples = clusters(dimension, part.clusters, part.noise, (part.cluster_points, part.tests), rng)
            about = {"distribution": "clusters", "dimension": dimension, "repeat": repeat}
            rows += [about | row for row in _by_width(section, samples, ("random",), rng)]
        for shape in part.boards:
            rng = generator(section.seed, f"board/{shape.dimension}/{repeat}")
            samples = [board(shape, size, rng) for size in (part.board_points, part.tests)]
            about = {"distribution": "chessboard", "dimension": shape.dimension, "repeat": repeat}
            rows += [about | row for row in _by_width(section, samples, ("random", "coordinates"), rng)]
    return pd.DataFrame(rows)


def _by_width(section: Memorizers, samples: list, kinds: tuple[str, ...], rng: np.random.Generator) -> Iterator[dict]:
    (x, y), (x_test, y_test) = samples
    widths = [width for width in section.sweep.widths if width < x.shape[1]]
    for kind in kinds:
        matrix = projections(kind, x.shape[1], rng)
        for width in (*widths, x.shape[1]):
            read, read_test = x @ matrix[:, :width], x_test @ matrix[:, :width]
            bumps, _ = local_bumps(read, y, mutual(read), section.cover, section.reach)
            row = _row(
                "local bumps", "true", (bumps.value(read), y), (bumps.value(read_test), y_test), len(y), bumps.numbers
            )
            yield {"projection": kind, "width": width, "n": len(y)} | row | {"bumps": len(bumps.labels)}


# --- number of bumps ---------------------------------------------------------------------------------------


def growth(section: Memorizers) -> pd.DataFrame:
    """Number of bumps against sample size: for pairs of classes, and for clusters, with true and with random labels.

    ``packing`` is a lower bound on the size of every cover of the sample, ``bumps`` an upper bound on the smallest.
    """
    part, rows = section.growth, []
    for repeat in range(part.repeats):
        for source, x, y, x_test, y_test in _growing(section, repeat):
            among, across = mutual(x), distances(x_test, x)
            coins = generator(section.seed, f"growth/{source}/{repeat}").choice([-1, 1], size=len(y))
            for name, labels in zip(LABELS, (y, coins)):
                words = {"source": source, "labels": name, "repeat": repeat}
                for n in part.sizes:
                    found = _covered(section, among[:n, :n], across[:, :n], labels[:n], y_test)
                    rows.append(words | {"n": n} | found)
    return pd.DataFrame(rows)


def _growing(section: Memorizers, repeat: int) -> Iterator[tuple]:
    """Name, sample and tests of each source, the sample as large as the largest size."""
    part, size = section.growth, max(section.growth.sizes)
    data = datasets.load(section.pictures[part.pictures].data)
    for a, b in part.pairs:
        rng = generator(section.seed, f"growing/{a}/{b}/{repeat}")
        train, test = (_drawn(labels, (a, b), rng) for labels in (data.y_train, data.y_test))
        if len(train) < size:
            raise ValueError(f"growth.sizes ends at {size}, but classes {a} and {b} have {len(train)} examples together")
        train, test = train[:size], test[: part.tests]
        x, x_test = _flat(data.x_train[train][None])[0], _flat(data.x_test[test][None])[0]
        yield f"{part.pictures} {a} and {b}", x, _sign(data.y_train[train], b), x_test, _sign(data.y_test[test], b)
    rng = generator(section.seed, f"growing/clusters/{repeat}")
    of = section.sweep
    (x, y), (x_test, y_test) = clusters(part.cluster_dimension, of.clusters, of.noise, (size, part.tests), rng)
    yield "clusters", x, y, x_test, y_test


def _drawn(labels: np.ndarray, pair: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(np.flatnonzero(np.isin(labels, pair)))


def _sign(labels: np.ndarray, positive: int) -> np.ndarray:
    return np.where(labels == positive, 1, -1)


def _covered(section: Memorizers, among, across, y, y_test) -> dict:
    clear = clearances(among, y)
    covers = among < section.cover * clear[:, None]
    chosen = greedy_cover(covers)
    bumps = Bumps(among[chosen], y[chosen], section.reach * clear[chosen])
    right, undecided = accuracy(bumps.of_distances(across[:, chosen]), y_test)
    counts = {"bumps": len(chosen), "packing": len(packing(covers))}
    return counts | {"test_accuracy": right, "undecided": undecided}


# --- size of the sample ------------------------------------------------------------------------------------


def cell_world(cells: Cells, n: int, rng: np.random.Generator) -> Task:
    """``n`` training points from ``count`` equally likely small cubes in space, each with a fair coin as its label.

    The cubes are as large as `ball_radius` allows around centres drawn from a normal distribution. The random labels toss a
    coin for each point instead.
    """
    centres = rng.standard_normal((cells.count, cells.dimension))
    label = rng.choice([-1, 1], size=cells.count)
    share = ball_radius(cells.cover, cells.reach)
    radius = clearances(mutual(centres), label).min() * share / (1 + share)
    at, at_test = (rng.integers(cells.count, size=size) for size in (n, cells.tests))
    x, x_test = (
        centres[g] + rng.uniform(-1, 1, (len(g), cells.dimension)) * radius / cells.dimension for g in (at, at_test)
    )
    return Task(x, {"true": label[at], "random": rng.choice([-1, 1], size=n)}, x_test, label[at_test])


def samples(section: Memorizers) -> pd.DataFrame:
    """All memorizers on worlds of cells for each sample size; one row a size, world, set of labels and memorizer."""
    cells, parts = section.cells, []
    for n in cells.sizes:
        tasks = [cell_world(cells, n, generator(section.seed, f"cells/{n}/{world}")) for world in range(cells.worlds)]
        about = [{"n": n, "world": world} for world in range(cells.worlds)]
        parts.append(_measured(tasks, about, cells, cells.network, section.penalty, section.seed, f"cells/{n}"))
    return pd.concat(parts, ignore_index=True)


def missed_mass(count: int, n) -> np.ndarray:
    """Expected mass of those among ``count`` equally likely cells that ``n`` points miss: (1 - 1/count)^n."""
    return (1 - 1 / count) ** np.asarray(n, dtype=float)


def sample_bounds(cells: Cells) -> pd.DataFrame:
    """What accuracy the cells allow at each sample size, on average over worlds.

    ``limit`` binds every learner: in a cell it has not seen, the label is a fair coin to it. ``guarantee`` is what
    `ball_radius` promises of bumps: an error only in such cells.
    """
    missed = missed_mass(cells.count, cells.sizes)
    return pd.DataFrame({"n": cells.sizes, "limit": 1 - missed / 2, "guarantee": 1 - missed})


# --- a calculation -----------------------------------------------------------------------------------------


def numbers_needed(dimension, error: float, doubt: float = DOUBT) -> np.ndarray:
    """Fewest stored numbers of `BITS` bits for networks to err on at most a share ``error`` of randomly labelled corners.

    The cube has M = 2^dimension corners, each with a fair coin as its label. A given function agrees with a share
    1 - error of them with probability at most 2^(-M (1 - H(error))), H the binary entropy, error < 1/2. Networks of one
    wiring with P numbers compute at most 2^(BITS P) functions. So, except with probability ``doubt``, none of them does as
    well unless BITS P >= M (1 - H(error)) - log2(1 / doubt). Raises ``ValueError`` for an error outside [0, 1/2).
    """
    if not 0 <= error < 0.5:
        raise ValueError(f"error is {error}; labels of corners can be guessed half of the time, so it must be below 1/2")
    entropy = (entr(error) + entr(1 - error)) / np.log(2)
    bits = 2.0 ** np.asarray(dimension) * (1 - entropy) + np.log2(doubt)
    return np.maximum(bits / BITS, 0)


def corners(section: Memorizers) -> pd.DataFrame:
    """Cubes of growing dimension, every corner a training point: bumps for random labels, for parity, and for clusters."""
    rows = []
    for dimension in section.corner_dimensions:
        x = np.array(list(itertools.product([0.0, 1.0], repeat=dimension)))
        rng = generator(section.seed, f"corners/{dimension}")
        (points, sides), *_ = clusters(dimension, section.sweep.clusters, section.sweep.noise, [len(x)], rng)
        cases = {"random labels": (x, _coins(len(x), rng)), "parity": (x, 1 - 2 * (x.sum(axis=1).astype(int) % 2))}
        for name, (inputs, y) in (cases | {"clusters": (points, sides)}).items():
            bumps, _ = local_bumps(inputs, y, mutual(inputs), section.cover, section.reach)
            rows.append({"dimension": dimension, "case": name, "bumps": len(bumps.labels), "numbers": bumps.numbers})
        rows.append({"dimension": dimension, "case": "parity, one direction", "numbers": parity(dimension).numbers})
    return pd.DataFrame(rows)


def _coins(count: int, rng: np.random.Generator) -> np.ndarray:
    """Fair coins, of which the first two differ, so that both labels occur."""
    return np.concatenate([[-1, 1], rng.choice([-1, 1], size=count - 2)])


def parity(dimension: int) -> Line:
    """The parity of a corner of the cube by a network of rank one: a zigzag along the sum of the coordinates.

    What needs a bump for every corner may need only ``dimension`` units: numbers of bumps are upper bounds.
    """
    counts = np.arange(dimension + 1)
    steps = counts[:, None] > np.arange(dimension)  # one corner for each sum
    return along(np.ones(dimension), steps.astype(float), 1 - 2 * (counts % 2))


# --- the stage ---------------------------------------------------------------------------------------------


def run(section: Memorizers) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name; ``summary`` holds what claims and prose refer to."""
    found = {
        "pairs": pairs(section),
        "sweep": sweep(section),
        "growth": growth(section),
        "samples": samples(section),
        "sample_bounds": sample_bounds(section.cells),
        "corners": corners(section),
    }
    return found | {"summary": summary(section, found)}


def summary(section: Memorizers, found: dict[str, pd.DataFrame]) -> dict:
    """Means with standard errors over repeats, each repeat a mean over all pairs of classes."""
    return {
        "repeats": section.repeats,
        "pictures": {name: _of_pictures(found["pairs"], name) for name in section.pictures},
        "sweep": _of_sweep(found["sweep"]),
        "growth": {source: _of_growth(rows) for source, rows in found["growth"].groupby("source", sort=False)},
        "samples": _of_samples(section.cells, found),
        "corners": _of_corners(section, found["corners"]),
        "narrow": narrowed(section),
    }


def _of_pictures(table: pd.DataFrame, name: str) -> dict:
    rows = table[table.data == name]
    described = {"n": int(rows.n.iloc[0]), "pairs": len(rows[["first", "second"]].drop_duplicates())}
    for labels, part in rows.groupby("labels"):
        described[labels] = {_key(memorizer): _of_memorizer(own) for memorizer, own in part.groupby("memorizer")}
        exact = part[part.memorizer != "trained network"]
        described[labels]["construction_errors"] = int(exact.train_errors.sum())
    bumps, network = (_by_repeat(rows, name, "true").test_accuracy for name in ("local bumps", "trained network"))
    return described | {"bumps_less_network": quantities.mean((bumps - network).to_numpy())}


def _key(memorizer: str) -> str:
    return memorizer.replace(" ", "_")


def _by_repeat(rows: pd.DataFrame, memorizer: str, labels: str) -> pd.DataFrame:
    chosen = rows[(rows.memorizer == memorizer) & (rows.labels == labels)]
    return chosen.groupby("repeat")[["train_accuracy", "test_accuracy", "undecided"]].mean()


def _of_memorizer(rows: pd.DataFrame) -> dict:
    """Accuracies over repeats, the pairs with the lowest and highest, the share of fits without an error, and the size."""
    means = rows.groupby("repeat")[["train_accuracy", "test_accuracy", "undecided"]].mean()
    by_pair = rows.groupby(["first", "second"]).test_accuracy.mean()
    found = {name: quantities.mean(means[name].to_numpy()) for name in means}
    found |= {"lowest": float(by_pair.min()), "highest": float(by_pair.max()), "numbers": float(rows.numbers.mean())}
    return found | {"perfect": float((rows.train_errors == 0).mean()), "lowest_pair": list(by_pair.idxmin())}


def _of_sweep(table: pd.DataFrame) -> dict:
    """Accuracy one direction short of the dimension and at it, and errors in training over the whole sweep.

    The chessboard is the first of its kind; ``narrow`` reads all its coordinates but one.
    """
    boards = table[(table.distribution == "chessboard") & (table.projection == "coordinates")]
    boards = boards[boards.dimension == boards.dimension.min()]
    kind = table[
        (table.distribution == "clusters") & (table.dimension == table[table.distribution == "clusters"].dimension.max())
    ]
    found = {"errors": int(table.train_errors.sum())}
    for name, rows in (("board", boards), ("clusters", kind)):
        found[name] = {"dimension": int(rows.dimension.iloc[0])}
        for where, width in (("narrow", rows.width[rows.width < rows.dimension].max()), ("full", rows.dimension.iloc[0])):
            found[name][where] = quantities.mean(rows[rows.width == width].test_accuracy.to_numpy())
    return found


def _of_growth(rows: pd.DataFrame) -> dict:
    """At the largest size: bumps, packing, accuracy; what the last doubling multiplies bumps by; the power of n."""
    found = {}
    for labels, part in rows.groupby("labels"):
        last = part[part.n == part.n.max()]
        before = part[part.n == _half(part.n)].set_index("repeat").bumps
        ratio = last.set_index("repeat").bumps / before
        power = np.log(ratio) / np.log(part.n.max() / _half(part.n))
        found[labels] = {
            "n": int(part.n.max()),
            **{
                name: quantities.mean(last[name].to_numpy(float))
                for name in ("bumps", "packing", "test_accuracy", "undecided")
            },
            "last_step": quantities.mean(ratio.to_numpy()),
            "power": quantities.mean(power.to_numpy()),
        }
    return found


def _half(sizes: pd.Series) -> int:
    """The largest size but one."""
    return int(sizes[sizes < sizes.max()].max())


def _of_samples(cells: Cells, found: dict[str, pd.DataFrame]) -> dict:
    """Accuracies at the smallest and the largest sample, beside limit and guarantee."""
    bounds = found["sample_bounds"].set_index("n")
    described = {"cells": cells.count, "worlds": cells.worlds, "ball_radius": ball_radius(cells.cover, cells.reach)}
    for name, n in (("few", min(cells.sizes)), ("many", max(cells.sizes))):
        rows = found["samples"][found["samples"].n == n]
        described[name] = {"n": n} | bounds.loc[n].to_dict()
        for (labels, memorizer), part in rows.groupby(["labels", "memorizer"]):
            described[name].setdefault(labels, {})[_key(memorizer)] = quantities.mean(part.test_accuracy.to_numpy())
        described[name]["best"] = max(described[name]["true"].values(), key=lambda quantity: quantity["value"])
    return described


def _of_corners(section: Memorizers, table: pd.DataFrame) -> dict:
    """By how many powers of two each number grows with a dimension, over the second half of the dimensions."""
    slopes = {"counted": float(np.polyfit(COUNTED, np.log2(numbers_needed(COUNTED, section.corner_error)), 1)[0])}
    dimensions = sorted(section.corner_dimensions)[len(section.corner_dimensions) // 2 :]
    for case, rows in table.dropna(subset="bumps").groupby("case"):
        own = rows[rows.dimension.isin(dimensions)]
        slopes[_key(case)] = float(np.polyfit(own.dimension, np.log2(own.bumps), 1)[0])
    return slopes


def narrowed(section: Memorizers) -> dict:
    """The random-direction memorizer of one pair of digits as a deep network with layers of at most four units."""
    name, pictures = next(iter(section.pictures.items()))
    rng = generator(section.seed, f"narrow/{name}")
    task = pair_tasks(pictures, datasets.load(pictures.data), rng)[0][0]
    line = along(random_direction(task.x.shape[1], rng), task.x, task.labels["true"])
    layers = line.narrow()
    inputs = np.concatenate([task.x, task.x_test])
    wrong = int((np.sign(forward(layers, task.x)) != task.labels["true"]).sum())
    return {
        "depth": len(layers),
        "widest": max(len(bias) for _, bias in layers),
        "errors": wrong,
        "difference": float(np.abs(forward(layers, inputs) - line.value(inputs)).max()),
    }
