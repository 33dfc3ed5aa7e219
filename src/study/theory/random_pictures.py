"""Stage `random_pictures`: the randomization test of Zhang et al. (2017) on MNIST and CIFAR-100, with convolutions.

The paper (arXiv 1611.03530) trains networks on pictures of which labels or pixels have been made random and asks whether
they still fit. A subset of each data set, its first classes only, is given to a small convolutional network and to a
multilayer perceptron under these conditions, drawn once and then fixed:

* labels: true, or each drawn anew from all classes with probability p (`study.theory.random_labels.corrupted`);
* pixels, with true labels: as they are (``true``); permuted in one way for all pictures, test pictures included
  (``shuffled``); in each picture in a way of its own (``random``); or replaced by normal numbers with the mean and the
  variance that the data set has in each channel (``gaussian``). A permutation moves the channels of a pixel together.

One training is followed epoch by epoch, with unchanged hyper-parameters: the learning rate falls by the same factor after
every epoch, as in the paper, without regularization. It ends when all training pictures are right. Batch normalization uses
its running statistics whenever accuracy is measured, and accuracy on test pictures counts true labels.

Convolutions are what the permutations are about. A perceptron cannot see the difference between pictures and pictures whose
pixels are shuffled all alike: with the rows of its first layer shuffled likewise it computes the same numbers. It is the
control.

The other control is a convolutional network with fewer weights than pictures (``too_small``), which must fail to fit random
labels. A linear model is none: with 2,000 pictures and 7,850 weights it fits all random labels of MNIST (`linear`).

A second part trains the convolutional network with weight decay, with mirrored and shifted pictures, and with both, for a
fixed number of epochs, on true and on random labels. A third builds the network with 2n + d weights
(`study.theory.two_layer_memorizer`).

About 10 minutes of a core for 114 trainings and the networks on all pictures, on a busy machine; over 3 repeats, accuracies
have standard errors of at most 0.02, and times of 6 % (November 2026).
"""

import itertools
from collections.abc import Iterator
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from distributed import Client
from torch import nn
from torch.nn.functional import cross_entropy

from study import data as datasets
from study import quantities, tables
from study.data import Data, DataError, unit_floats
from study.learners.convnet import initialise, shifted
from study.learners.large_mlp import one_thread
from study.params import Convolutional, Perceptron, RandomPictures
from study.progress import Progress
from study.subsets import TrialSeed
from study.theory import random_labels, two_layer_memorizer

PIXELS = ("true", "shuffled", "random", "gaussian")
NETWORKS = ("convolutional", "perceptron")
NAMED = {"true": ("true", 0.0), "random_labels": ("true", 1.0)}
NAMED |= {"shuffled": ("shuffled", 0.0), "random_pixels": ("random", 0.0), "gaussian": ("gaussian", 0.0)}
EVALUATED_AT_ONCE = 1000


class Task(NamedTuple):
    """What one network is to fit: pictures ``x (n, h, w, c)`` and ``x_test (n_test, h, w, c)``, float32 with mean 0 and
    variance 1 in each channel of ``x``, labels ``y (n,)`` to fit, and true labels ``y_true (n,)`` and ``y_test (n_test,)``.
    """

    x: np.ndarray
    y: np.ndarray
    y_true: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int


class Job(NamedTuple):
    """One training; with ``whole`` it goes on for all epochs, else it ends when all training pictures are right."""

    data: str
    network: str
    pixels: str
    corruption: float
    repeat: int
    weight_decay: float = 0.0
    augmented: bool = False
    whole: bool = False


def run(section: RandomPictures, client: Client | None = None) -> dict:
    """Do everything; save ``runs`` and ``regularized`` (a row a training), ``curves`` (a row an epoch), ``built``,
    ``places`` and ``summary`` under ``tables/random_pictures``; return the summary.
    """
    work = [*jobs(section), *regularized_jobs(section)]
    parts = []
    with Progress("random_pictures", total=len(work), unit="trainings") as progress:
        for part in _results(partial(fit, section), work, client):
            parts.append(part)
            progress.advance(1)
    curves = pd.concat(parts, ignore_index=True)
    runs = outcomes(curves, section.fitted)
    content = {
        "runs": runs[~runs.whole],
        "regularized": runs[runs.whole],
        "curves": curves[~curves.whole].drop(columns=["whole", "weight_decay", "augmented", "test_accuracy"]),
        "linear": linear(section),
        "built": two_layer_memorizer.fits(section),
        "places": two_layer_memorizer.places(section),
    }
    content["summary"] = summarise(content, section)
    for name, table in content.items():
        tables.save("random_pictures", name, table)
    return content["summary"]


def _results(function, work: list, client: Client | None) -> Iterator:
    if client is None:
        yield from map(function, work)
    else:
        yield from (future.result() for future in client.map(function, work, pure=False))


def jobs(section: RandomPictures) -> Iterator[Job]:
    """All trainings without regularization, those on random labels first, which take the longest.

    Labels that are partly random are given to the convolutional network alone.
    """
    conditions = [("true", level) for level in sorted(section.corruption, reverse=True)]
    conditions += [(pixels, 0.0) for pixels in PIXELS[1:]]
    for condition in conditions:
        networks = NETWORKS if condition in NAMED.values() else NETWORKS[:1]
        for name in sorted(section.data, reverse=True):
            for repeat in range(section.repeats):
                yield from (Job(name, network, *condition, repeat) for network in networks)
    for name in section.data:
        yield from (Job(name, "too_small", *NAMED["random_labels"], repeat) for repeat in range(section.repeats))


def regularized_jobs(section: RandomPictures) -> Iterator[Job]:
    """Trainings with and without weight decay and augmentation, all of the same length."""
    for augmented in (True, False):
        for decay in (0.0, section.weight_decay):
            for corruption in (0.0, 1.0):
                for repeat in range(section.regularized_repeats):
                    yield Job(section.regularized, "convolutional", "true", corruption, repeat, decay, augmented, True)


def task(section: RandomPictures, name: str, pixels: str, corruption: float, repeat: int) -> Task:
    """The pictures of one repeat; which they are depends on the repeat alone, and so do the labels drawn for them.

    Raises ``ValueError`` if the data set has too few pictures of its first ``section.classes`` classes.
    """
    data, seed = subset(section, name, repeat), TrialSeed(section.seed, repeat)
    labels = random_labels.corrupted(data.y_train, [corruption], section.classes, seed.generator("analysis"))[0]
    splits = with_pixels(pixels, standardized(data), seed.generator("augmentation"))
    return Task(splits[0], labels, data.y_train, splits[1], data.y_test, section.classes)


def subset(section: RandomPictures, name: str, repeat: int) -> Data:
    """``section.pictures`` random training and the first ``section.tests`` test pictures of the first classes.

    Of equal training pictures, such as CIFAR-100 has, only the first can be chosen: no function gives them different labels.
    """
    data, train, test = _of_first_classes(section.data[name], section.classes)
    for wanted, found, what in ((section.pictures, train, "training"), (section.tests, test, "test")):
        if wanted > len(found):
            raise ValueError(
                f"random_pictures asks for {wanted:,} {what} pictures, but {name} has only {len(found):,} of its first "
                f"{section.classes} classes; lower the number or raise random_pictures.classes"
            )
    rng = TrialSeed(section.seed, repeat).generator("subset")
    chosen = np.sort(rng.permutation(train)[: section.pictures])
    parts = (
        data.x_train[chosen],
        data.y_train[chosen],
        data.x_test[test[: section.tests]],
        data.y_test[test[: section.tests]],
    )
    return Data(name, *parts, data.classes[: section.classes])


@cache
def _of_first_classes(source: str, classes: int) -> tuple[Data, np.ndarray, np.ndarray]:
    """A data set and the indices of its distinct training and of its test pictures; to read and check it takes a second."""
    data = datasets.load(source)
    train, test = (np.flatnonzero(y < classes) for y in (data.y_train, data.y_test))
    return data, train[two_layer_memorizer.distinct(data.x_train[train])], test


def standardized(data: Data) -> list[np.ndarray]:
    """Both splits as ``(n, h, w, c)`` float32, with the mean and the deviation that the channels have in training."""
    splits = [unit_floats(x).reshape(*x.shape[:3], -1) for x in (data.x_train, data.x_test)]
    mean, deviation = (getattr(splits[0], measure)((0, 1, 2), dtype=np.float64) for measure in ("mean", "std"))
    return [((x - mean) / deviation).astype(np.float32) for x in splits]


def with_pixels(pixels: str, splits: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Standardized ``splits``, each ``(n, h, w, c)``, under one of `PIXELS`. Raises ``ValueError`` for another name."""
    if pixels == "true":
        return splits
    if pixels == "gaussian":
        return [rng.standard_normal(x.shape, dtype=np.float32) for x in splits]
    count = splits[0].shape[1] * splits[0].shape[2]
    if pixels == "shuffled":
        order = rng.permutation(count)
        return [_moved(x, np.broadcast_to(order, (len(x), count))) for x in splits]
    if pixels == "random":
        return [_moved(x, rng.permuted(np.tile(np.arange(count), (len(x), 1)), axis=1)) for x in splits]
    raise ValueError(f"unknown pixels {pixels!r}; valid: {', '.join(PIXELS)}")


def _moved(x: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Pictures ``x (n, h, w, c)`` whose pixel k is that at place ``order[:, k]``."""
    flat = x.reshape(len(x), -1, x.shape[3])
    return np.take_along_axis(flat, order[..., None], axis=1).reshape(x.shape)


def network_of(given: Convolutional | Perceptron, shape: tuple[int, int, int], classes: int, seed: TrialSeed) -> nn.Module:
    """An untrained network for pictures of ``shape`` height, width and channels, that takes them with channels second.

    Weights start from `study.learners.convnet.initialise`.
    """
    if isinstance(given, Convolutional):
        layers = given.architecture.parts(shape, classes)
    else:
        sizes = (int(np.prod(shape)), *given.widths)
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU(inplace=True))]
        layers = [nn.Flatten(), *hidden, nn.Linear(sizes[-1], classes)]
    network = nn.Sequential(*layers)
    initialise(network, seed.generator("initialisation"))
    return network


def fit(section: RandomPictures, job: Job) -> pd.DataFrame:
    """Do one job: the columns of the job and, a row an epoch, the training accuracy after it.

    The accuracy on test pictures, taken at the end, ``wrong_rate`` and the number of ``pictures`` are the same in each row.
    """
    given = task(section, job.data, job.pixels, job.corruption, job.repeat)
    seed, kind = TrialSeed(section.seed, job.repeat), getattr(section, job.network)
    network = network_of(kind, given.x.shape[1:], given.classes, seed)
    with one_thread():
        accuracies = train(network, given, section, job, seed)
        tested = accuracy(network, torch.from_numpy(given.x_test), torch.from_numpy(given.y_test))
    frame = pd.DataFrame({"epoch": np.arange(len(accuracies)) + 1, "train_accuracy": accuracies})
    frame = frame.assign(test_accuracy=tested, wrong_rate=(given.y != given.y_true).mean(), pictures=len(given.y))
    return pd.DataFrame({**job._asdict()}, index=frame.index).join(frame)


def train(network: nn.Module, given: Task, section: RandomPictures, job: Job, seed: TrialSeed) -> list[float]:
    """Train ``network`` in place; accuracy on the labels to fit, on pictures as they are, after each epoch."""
    x, y, order, draw = torch.from_numpy(given.x), torch.from_numpy(given.y), *map(seed.generator, ("order", "augmentation"))
    rate = getattr(section, job.network).learning_rate
    sgd = torch.optim.SGD(network.parameters(), rate, section.momentum, nesterov=True, weight_decay=job.weight_decay)
    found = []
    for epoch in range(section.regularized_epochs if job.whole else section.epochs):
        sgd.param_groups[0]["lr"] = rate * section.decay**epoch
        network.train()
        for rows in torch.from_numpy(order.permutation(len(x))).split(section.batch_size):
            pictures = augmented(x[rows], section.shift, draw) if job.augmented else x[rows]
            sgd.zero_grad()
            cross_entropy(network(pictures.permute(0, 3, 1, 2)), y[rows]).backward()
            sgd.step()
        found.append(accuracy(network, x, y))
        if found[-1] == 1 and not job.whole:
            break
    return found


def augmented(pictures: torch.Tensor, shift: int, draw: np.random.Generator) -> torch.Tensor:
    """``pictures (b, h, w, c)``, each mirrored or not by a coin and shifted by up to ``shift`` pixels, borders reflected."""
    mirrored = torch.from_numpy(draw.random(len(pictures)) < 0.5)
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(2), pictures)
    return shifted(pictures, draw.integers(0, 2 * shift + 1, (2, len(pictures))), shift)


@torch.no_grad()
def accuracy(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of pictures ``x (n, h, w, c)`` that ``network`` in evaluation mode gives the labels ``y (n,)``."""
    network.eval()
    right = [
        network(a.permute(0, 3, 1, 2)).argmax(1) == b for a, b in zip(x.split(EVALUATED_AT_ONCE), y.split(EVALUATED_AT_ONCE))
    ]
    return torch.cat(right).double().mean().item()


def examples(section: RandomPictures) -> pd.DataFrame:
    """The first training pictures of repeat 0 under every treatment of their pixels, a row a picture.

    ``values`` are shades in [0, 1] of a picture of ``shape`` height, width and channels; what lies beyond is cut off. They
    are pictures of the data set, so no stage keeps them; where the raw data cannot be had, ``values`` is ``None``.
    """
    rows = []
    for name in section.data:
        try:
            shades = unit_floats(subset(section, name, 0).x_train)
        except DataError:
            places = itertools.product(PIXELS, range(section.shown))
            rows += [{"data": name, "pixels": p, "place": k, "shape": None, "values": None} for p, k in places]
            continue
        shades = shades.reshape(*shades.shape[:3], -1)
        mean, deviation = shades.mean((0, 1, 2)), shades.std((0, 1, 2))
        for pixels in PIXELS:
            for place, x in enumerate(task(section, name, pixels, 0.0, 0).x[: section.shown]):
                values = np.clip(x * deviation + mean, 0, 1).ravel().round(3)
                rows.append({"data": name, "pixels": pixels, "place": place, "shape": x.shape, "values": values})
    return pd.DataFrame(rows)


def outcomes(curves: pd.DataFrame, fitted: float) -> pd.DataFrame:
    """One row a training: columns of `Job`, ``epochs`` run, ``epochs_to_fit``, and what `fit` says of the end.

    ``epochs_to_fit``, where the training accuracy first reaches ``fitted``, is interpolated between epochs, NaN if never.
    """
    rows = []
    for key, own in curves.groupby(list(Job._fields), sort=False):
        seen, last = own.train_accuracy.to_numpy(), own.iloc[-1]
        needed = random_labels.epochs_to_fit(own.epoch.to_numpy(), seen, fitted)
        row = {"epochs": len(own), "epochs_to_fit": needed, "train_accuracy": seen[-1]}
        same = {name: last[name] for name in ("test_accuracy", "wrong_rate", "pictures")}
        rows.append(dict(zip(Job._fields, key)) | row | same)
    return pd.DataFrame(rows)


def linear(section: RandomPictures) -> pd.DataFrame:
    """The linear model of least cross-entropy on random labels, on each data set with fewer pixels than pictures.

    With more pixels than pictures it can fit any labels. One row a repeat: data, repeat, train_accuracy; none if no data
    set has fewer.
    """
    rows = []
    for name in section.data:
        for repeat in range(section.repeats):
            data, rng = subset(section, name, repeat), TrialSeed(section.seed, repeat).generator("analysis")
            if data.x_train[0].size >= data.n:
                continue
            labels = random_labels.corrupted(data.y_train, [1.0], section.classes, rng)
            given = random_labels.Task(data, labels, np.ones(data.n, dtype=bool))
            predicted, _ = random_labels.fit_linear(given, section.penalty)
            rows.append({"data": name, "repeat": repeat, "train_accuracy": (predicted == labels).mean()})
    return pd.DataFrame(rows, columns=["data", "repeat", "train_accuracy"])


def summarise(content: dict, section: RandomPictures) -> dict:
    """What claims and prose refer to: means over repeats with standard errors."""
    runs = content["runs"]
    found = {
        **{name: getattr(section, name) for name in ("pictures", "tests", "classes", "repeats", "epochs", "fitted")},
        "worst_train_accuracy": float(runs[runs.network.isin(NETWORKS)].train_accuracy.min()),
        "too_small": {name: _too_small(runs, section, name) for name in section.data},
        "fits": [_of(runs, name, network, "random_labels").train_accuracy for name in section.data for network in NETWORKS],
        "chance": [_of(runs, name, network, "random_labels").test_accuracy for name in section.data for network in NETWORKS],
    }
    for measure in ("fits", "chance"):
        found[measure] = [quantities.mean(values.to_numpy()) for values in found[measure]]
    for name in section.data:
        found[name] = {network: _conditions(runs, name, network) for network in NETWORKS}
        found[name]["corruption"] = _by_level(runs[(runs.data == name) & (runs.network == NETWORKS[0])], section)
        found[name]["shuffling"] = _shuffling(runs, name)
        found[name]["numbers"] = {network: _numbers(section, name, network) for network in NETWORKS}
    own = content["linear"].groupby("data").train_accuracy
    found["linear"] = {name: quantities.mean(values.to_numpy()) for name, values in own}
    return found | {"regularized": _regularized(content["regularized"], section), "built": _built(content["built"])}


def _too_small(runs: pd.DataFrame, section: RandomPictures, name: str) -> dict:
    fitted = _of(runs, name, "too_small", "random_labels").train_accuracy
    return {"train_accuracy": quantities.mean(fitted.to_numpy()), "numbers": _numbers(section, name, "too_small")}


def _of(runs: pd.DataFrame, name: str, network: str, condition: str) -> pd.DataFrame:
    """The trainings of one condition of `NAMED`, indexed by repeat."""
    pixels, corruption = NAMED[condition]
    rows = runs[(runs.data == name) & (runs.network == network) & (runs.pixels == pixels) & (runs.corruption == corruption)]
    return rows.set_index("repeat").sort_index()


def _conditions(runs: pd.DataFrame, name: str, network: str) -> dict:
    rows = {condition: _of(runs, name, network, condition) for condition in NAMED}
    labels = rows["random_labels"].epochs_to_fit
    found = {condition: _means(own) for condition, own in rows.items()}
    for condition, own in rows.items():
        found[condition]["time_against_random_labels"] = quantities.mean((own.epochs_to_fit / labels).to_numpy())
    slowdown = (labels / rows["true"].epochs_to_fit).to_numpy()
    return found | {"slowdown": quantities.mean(slowdown)}


def _by_level(runs: pd.DataFrame, section: RandomPictures) -> dict:
    """What `_means` tells, as lists over the levels of corruption."""
    by_level = [_means(runs[(runs.pixels == "true") & (runs.corruption == level)]) for level in section.corruption]
    return {"levels": list(section.corruption)} | {key: [row[key] for row in by_level] for key in by_level[0]}


def _means(rows: pd.DataFrame) -> dict:
    names = ("train_accuracy", "test_accuracy", "epochs_to_fit", "wrong_rate")
    found = {name: quantities.mean(rows[name].to_numpy()) for name in names}
    return found | {"gap": quantities.mean((rows.train_accuracy - rows.test_accuracy).to_numpy())}


def _shuffling(runs: pd.DataFrame, name: str) -> dict:
    """What shuffling all pictures alike takes from the test accuracy of each network, and how much more it takes from the
    one with convolutions, repeat by repeat.
    """
    of = {(net, pixels): _of(runs, name, net, pixels).test_accuracy for net in NETWORKS for pixels in ("true", "shuffled")}
    found = {f"{network}_loss": of[network, "true"] - of[network, "shuffled"] for network in NETWORKS}
    for pixels in ("true", "shuffled"):
        found[f"ahead_{pixels}"] = of["convolutional", pixels] - of["perceptron", pixels]
    found["more_lost"] = found["convolutional_loss"] - found["perceptron_loss"]
    return {key: quantities.mean(values.to_numpy()) for key, values in found.items()}


def _numbers(section: RandomPictures, name: str, network: str) -> int:
    """Weights and biases of a network."""
    shape = standardized(subset(section, name, 0))[0].shape[1:]
    module = network_of(getattr(section, network), shape, section.classes, TrialSeed(0, 0))
    return sum(parameter.numel() for parameter in module.parameters())


def _regularized(rows: pd.DataFrame, section: RandomPictures) -> dict:
    """Accuracies by labels and regularizer, the gain in test accuracy from both, and the share of what is above chance
    that needs no regularizer.
    """
    found = {}
    for corruption, labels in ((0.0, "true"), (1.0, "random")):
        found[labels] = {}
        for (decay, shifts), own in rows[rows.corruption == corruption].groupby(["weight_decay", "augmented"]):
            found[labels][_named(decay > 0, shifts)] = _means(own)
    of = rows[rows.corruption == 0].set_index(["weight_decay", "augmented", "repeat"]).test_accuracy.sort_index()
    on, off = (of.loc[key] for key in ((section.weight_decay, True), (0.0, False)))
    chance = 1 / section.classes
    return found | {
        "data": section.regularized,
        "repeats": section.regularized_repeats,
        "epochs": section.regularized_epochs,
        "gain": quantities.mean((on - off).to_numpy()),
        "share_without": quantities.ratio((off - chance).to_numpy(), (on - chance).to_numpy()),
    }


def _named(decay: bool, shifts: bool) -> str:
    if decay and shifts:
        return "both"
    return "weight_decay" if decay else "augmentation" if shifts else "none"


def _built(rows: pd.DataFrame) -> dict:
    """Of the network with 2n + d weights: errors in both precisions over all sizes, and the largest of each data set."""
    by_precision = rows.groupby("precision").wrong.sum()
    found = {f"errors_{precision}": int(count) for precision, count in by_precision.items()}
    for name, own in rows.groupby("data"):
        largest = own[own.n == own.n.max()].set_index("precision")
        exact = largest.loc["float64"]
        keep = ("n", "d", "numbers", "dropped", "condition", "error", "test_accuracy", "shuffled_wrong")
        found[name] = {key: exact[key] for key in keep}
        found[name]["float32_wrong"] = largest.loc["float32"].wrong / exact.n
    return found
