"""Stage `fitting`: digits under true, partly random and random labels, fitted by a network and by a linear model.

The randomization test of Zhang et al. (2017, arXiv 1611.03530). In each repeat a random subset of the training digits gets
its labels corrupted: with probability p a label is drawn anew from all classes, the true one included, so that a share
p (1 - 1/k) of the labels is wrong. The draw is made once, and a label that is corrupted at one level is corrupted in the
same way at every higher level. One network with unchanged hyper-parameters is fitted at each level, from the same initial
weights and in the same order of examples. Two things are varied beside the labels: the pixels, each picture's permuted in
its own way, and the number of epochs, each a complete training with its own decay of the learning rate.

The control is the linear model with the least cross-entropy. The subset is larger than the number of its weights on
purpose: of 500 digits with a fifth of the labels corrupted, it can fit some draws without error.

Test accuracy is measured against true labels, held-out accuracy against the labels that the left-out training digits drew.

About 35 seconds on two cores for 480 networks and 60 linear models; over 10 repeats, accuracies have standard errors of
at most 0.01.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from distributed import Client
from scipy.linalg import solve_triangular
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from study import data as datasets
from study import quantities, subsets, tables
from study.data import Data, unit_floats
from study.learners import Mlp
from study.params import Fitting
from study.progress import Progress
from study.subsets import TrialSeed

DATA = "digits"


class Task(NamedTuple):
    """What is fitted in one repeat: pictures with their true labels, ``labels (levels, n)`` to fit, ``member (n,)`` bool."""

    data: Data
    labels: np.ndarray
    member: np.ndarray


class Job(NamedTuple):
    """One unit of work: all levels of corruption in one repeat, fitted by one model; ``epochs`` is 0 for the linear one."""

    model: str
    pixels: str
    repeat: int
    epochs: int = 0


def run(section: Fitting, client: Client | None = None) -> dict:
    """Fit everything, save ``accuracy`` (one row a model) and ``summary`` under ``tables/fitting``; return the summary."""
    work = list(jobs(section))
    with Progress("fitting", total=len(work), unit="fits") as progress:
        parts = []
        for part in _results(partial(fit, section), work, client):
            parts.append(part)
            progress.advance(1)
    accuracy = pd.concat(parts, ignore_index=True)
    summary = summarise(accuracy, section)
    tables.save("fitting", "accuracy", accuracy)
    tables.save("fitting", "summary", summary)
    return summary


def _results(function, work: list, client: Client | None) -> Iterator:
    if client is None:
        yield from map(function, work)
    else:
        yield from (future.result() for future in client.map(function, work, pure=False))


def jobs(section: Fitting) -> Iterator[Job]:
    """All units of work, the longest first, so that no worker starts a long one when the others are done."""
    for epochs in sorted(section.budgets, reverse=True):
        for repeat in range(section.repeats):
            yield from (Job("network", pixels, repeat, epochs) for pixels in ("true", "random"))
    for repeat in range(section.repeats):
        yield from (Job("linear", pixels, repeat) for pixels in ("true", "random"))


def fit(section: Fitting, job: Job) -> pd.DataFrame:
    """Do one job; one row a level of corruption, with the columns of `measure` and those of the job."""
    given = task(section, job.pixels, job.repeat)
    if job.model == "linear":
        predicted = fit_linear(given, section.penalty)
    else:
        learner = section.network.model_copy(update={"epochs": job.epochs})
        predicted = fit_network(given, learner, TrialSeed(section.seed, job.repeat))
    frame = measure(given, *predicted)
    frame.insert(0, "corruption", levels(section, job.pixels))
    return pd.DataFrame({**job._asdict()}, index=frame.index).join(frame)


def levels(section: Fitting, pixels: str) -> list[float]:
    """Levels of corruption that are fitted: all on true pixels, none on random ones."""
    return list(section.corruption) if pixels == "true" else [0.0]


def task(section: Fitting, pixels: str, repeat: int) -> Task:
    """The digits of one repeat; ``pixels`` is ``true`` or ``random``. Subset and corruption depend on the repeat alone."""
    data = datasets.load(DATA)
    seed = TrialSeed(section.seed, repeat)
    labels = corrupted(data.y_train, levels(section, pixels), len(data.classes), seed.generator("analysis"))
    if pixels == "random":
        rng = seed.generator("augmentation")
        data = replace(data, x_train=scrambled(data.x_train, rng), x_test=scrambled(data.x_test, rng))
    return Task(data, labels, subsets.members(section.seed, [repeat], data.n, section.ratio)[0])


def corrupted(labels: np.ndarray, probabilities, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels ``(levels, n)``: at each level, each of ``labels (n,)`` is with that probability drawn anew from all classes.

    A share ``p * (1 - 1 / classes)`` comes out wrong. What a level changes, every higher level changes in the same way.
    """
    threshold, drawn = rng.random(len(labels)), rng.integers(classes, size=len(labels))
    return np.where(threshold < np.asarray(probabilities)[:, None], drawn, labels)


def scrambled(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``pictures (n, h, w)`` with the pixels of each permuted in its own way."""
    return rng.permuted(pictures.reshape(len(pictures), -1), axis=1).reshape(pictures.shape)


def fit_network(given: Task, learner: Mlp, seed: TrialSeed) -> tuple[np.ndarray, np.ndarray]:
    """One network a level, all trained in step: predictions ``(levels, n)`` and ``(levels, n_test)``.

    The levels become copies of the pictures side by side, each with its labels, of which each network sees its own.
    """
    count = len(given.labels)
    copies = np.concatenate([given.data.x_train] * count)
    side_by_side = replace(given.data, x_train=copies, y_train=given.labels.ravel())
    members = np.kron(np.eye(count, dtype=bool), given.member)
    networks = learner.fit(side_by_side, members, [seed] * count)
    return tuple(networks.predict(x).numpy() for x in learner.inputs(given.data))


def fit_linear(given: Task, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear model of least cross-entropy at each level: predictions ``(levels, n)`` and ``(levels, n_test)``.

    Pixels are whitened first, which changes no linear model and makes the minimum quick to reach; ``penalty`` on the
    squared weights is there to give a minimum also where the labels can be fitted without error.
    """
    train, test = (unit_floats(x).reshape(len(x), -1) for x in (given.data.x_train, given.data.x_test))
    whiten = PCA(n_components=_rank(train[given.member]), whiten=True).fit(train[given.member])
    train, test = whiten.transform(train), whiten.transform(test)
    model = LogisticRegression(C=1 / penalty, max_iter=10_000)
    fitted = (model.fit(train[given.member], y[given.member]) for y in given.labels)
    return tuple(map(np.stack, zip(*[(model.predict(train), model.predict(test)) for model in fitted])))


def _rank(x: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(x - x.mean(0)))


def measure(given: Task, train: np.ndarray, test: np.ndarray) -> pd.DataFrame:
    """Shares of right predictions ``train (levels, n)``, ``test (levels, n_test)``, one row a level.

    ``train_accuracy`` and ``held_out_accuracy`` count agreement with the labels of the task, on the examples fitted
    and on the others; ``_right`` and ``_wrong`` are their parts on labels that are true and that are not, NaN where
    there are none. ``test_accuracy`` counts agreement with true labels. ``wrong_rate`` is the share of wrong labels
    among those fitted.
    """
    rows = []
    for labels, predicted, tested in zip(given.labels, train, test):
        right, wrong = predicted == labels, labels != given.data.y_train
        row = {"wrong_rate": wrong[given.member].mean(), "test_accuracy": (tested == given.data.y_test).mean()}
        for name, rows_of in (("train", given.member), ("held_out", ~given.member)):
            row |= {
                f"{name}_accuracy": right[rows_of].mean(),
                f"{name}_right": _share(right[rows_of & ~wrong]),
                f"{name}_wrong": _share(right[rows_of & wrong]),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def epochs_to_fit(epochs: np.ndarray, accuracy: np.ndarray, fitted: float) -> float:
    """Epochs at which ``accuracy (k,)`` first reaches ``fitted``, linear in log(epochs) between trainings, or NaN.

    ``epochs (k,)`` ascend. A network that is there after the shortest training counts with that many epochs.
    """
    reached = np.flatnonzero(accuracy >= fitted)
    if len(reached) == 0:
        return float("nan")
    last = reached[0]
    if last == 0:
        return float(epochs[0])
    between = slice(last - 1, last + 1)
    return float(np.exp(np.interp(fitted, accuracy[between], np.log(epochs[between]))))


def fitting_times(accuracy: pd.DataFrame, fitted: float) -> pd.DataFrame:
    """`epochs_to_fit` of the network for each pixels, corruption and repeat."""
    networks = accuracy[accuracy.model == "network"].sort_values("epochs")
    groups = networks.groupby(["pixels", "corruption", "repeat"])
    times = {key: epochs_to_fit(g.epochs.to_numpy(), g.train_accuracy.to_numpy(), fitted) for key, g in groups}
    keys = pd.MultiIndex.from_tuples(times, names=["pixels", "corruption", "repeat"])
    return pd.DataFrame({"epochs": list(times.values())}, index=keys).reset_index()


def interpolator(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A two-layer ReLU network through all points ``x (n, d)`` with real values ``y (n,)``.

    Returns direction ``(d,)``, biases ``(n,)`` and weights ``(n,)``. Theorem 1 of Zhang et al. (2017): along a random
    direction a unit switches on at each point and corrects what the units before it left, so the equations are
    triangular. Raises ``ValueError`` if two projections coincide, as those of equal points do.
    """
    direction = rng.standard_normal(x.shape[1])
    projected = x @ direction
    order = np.argsort(projected)
    z = projected[order]
    if not (np.diff(z) > 0).all():
        raise ValueError("two points have the same projection; equal points cannot get different labels")
    biases = np.concatenate([[z[0] - 1], z[:-1]])
    weights = solve_triangular(np.maximum(z[:, None] - biases, 0), y[order], lower=True)
    return direction, biases, weights


def two_layer(x: np.ndarray, direction: np.ndarray, biases: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_j weights_j max(<direction, x> - biases_j, 0) for each row of ``x (n, d)``."""
    return np.maximum((x @ direction)[:, None] - biases, 0) @ weights


def expressivity(section: Fitting) -> dict:
    """The construction on each repeat's random labels, and the same weights with the biases shuffled as control."""
    rows = pd.DataFrame([_expressed(section, repeat) for repeat in range(section.repeats)])
    shares = {name: quantities.mean(rows[name].to_numpy()) for name in ("test_accuracy", "shuffled_train_accuracy")}
    return {"weights": int(rows.weights[0]), "examples": int(rows.examples[0]), "errors": int(rows.errors.sum())} | shares


def _expressed(section: Fitting, repeat: int) -> dict:
    given, rng = task(section, "true", repeat), TrialSeed(section.seed, repeat).generator("initialisation")
    train, test = (unit_floats(x).reshape(len(x), -1).astype(float) for x in (given.data.x_train, given.data.x_test))
    x, y = train[given.member], given.labels[-1][given.member]
    direction, biases, weights = interpolator(x, y.astype(float), rng)
    fitted = np.rint(two_layer(x, direction, biases, weights))
    tested = np.rint(two_layer(test, direction, biases, weights))
    shuffled = np.rint(two_layer(x, direction, rng.permutation(biases), weights))
    return {
        "weights": len(direction) + len(biases) + len(weights),
        "examples": len(y),
        "errors": int((fitted != y).sum()),
        "test_accuracy": (tested == given.data.y_test).mean(),
        "shuffled_train_accuracy": (shuffled == y).mean(),
    }


def summarise(accuracy: pd.DataFrame, section: Fitting) -> dict:
    """What claims and prose refer to: means over repeats with standard errors, of the longest training."""
    times = fitting_times(accuracy, section.fitted)
    longest = accuracy[accuracy.epochs.isin((0, section.network.epochs))]
    by_level = [_condition(longest, times, "network", "true", level) for level in section.corruption]
    columns = {name: [condition[name] for condition in by_level] for name in by_level[0]}
    linear = [_condition(longest, times, "linear", "true", level)["train_accuracy"] for level in section.corruption]
    return {
        "examples": subsets.subset_size(datasets.load(DATA).n, section.ratio),
        "repeats": section.repeats,
        "epochs": section.network.epochs,
        "fitted": section.fitted,
        "parameters": _parameters(section.network),
        "true": by_level[0],
        "random": by_level[-1],
        "slowdown": _slowdown(times),
        "random_pixels": _condition(longest, times, "network", "random", 0.0),
        "corruption": {"levels": list(section.corruption)} | columns | {"linear_train_accuracy": linear},
        "linear": {
            "true_train_accuracy": linear[0],
            "random_train_accuracy": linear[-1],
            "most_on_random": float(_of(longest, "linear", "true", 1.0).train_accuracy.max()),
        },
        "worst_train_accuracy": float(longest[longest.model == "network"].train_accuracy.min()),
        "expressivity": expressivity(section),
    }


def _of(frame: pd.DataFrame, model: str, pixels: str, level: float) -> pd.DataFrame:
    return frame[(frame.model == model) & (frame.pixels == pixels) & (frame.corruption == level)]


def _condition(longest, times, model: str, pixels: str, level: float) -> dict:
    rows = _of(longest, model, pixels, level)
    found = {
        name: quantities.mean(rows[name].to_numpy())
        for name in ("wrong_rate", "train_accuracy", "test_accuracy", "held_out_accuracy")
    }
    for part in ("accuracy", "right", "wrong"):
        gap = rows[f"train_{part}"] - rows[f"held_out_{part}"]
        found["memorization" if part == "accuracy" else f"memorization_{part}"] = quantities.mean(gap.to_numpy())
    needed = times[(times.pixels == pixels) & (times.corruption == level)].epochs.to_numpy()
    return found | {"epochs_to_fit": quantities.mean(needed)}


def _slowdown(times: pd.DataFrame) -> dict[str, float]:
    """How many times as long random labels take as true ones, repeat by repeat."""
    by_level = times[times.pixels == "true"].pivot(index="repeat", columns="corruption", values="epochs")
    return quantities.mean((by_level[1.0] / by_level[0.0]).to_numpy())


def _parameters(network: Mlp) -> dict[str, int]:
    """Weights and biases of the network and of the linear model."""
    data = datasets.load(DATA)
    inputs, classes = data.x_train[0].size, len(data.classes)
    sizes = (inputs, *network.widths, classes)
    return {"network": sum((a + 1) * b for a, b in pairwise(sizes)), "linear": (inputs + 1) * classes}
