"""Training with differential privacy: clipped gradients of single examples plus noise, for many small networks at once.

DP-SGD (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1). In each step every copy of every example is drawn with probability
``rate``, independently of all others; the gradient of each drawn copy is scaled down to length ``clip`` if it is longer;
the gradients are added up, normal noise of standard deviation ``noise * clip`` is added to each coordinate of the *sum*, and
the result is divided by a number fixed in advance, ``rate * n``. What that guarantees `study.theory.accountant` computes.

The gradient of a layer for one example is an outer product, so its squared length is known without forming it, |a|^2 |d|^2
for inputs a and backward signals d, and a clipped sum costs no more products than a plain one. The bias is a row of the
weights that meets a constant input of 1. `tests/test_private_training.py` holds the clipped sums against `torch.func`.

Floating-point noise is not perfectly normal, and its low bits could be exploited; this is an instrument for measuring, not
for guarding anyone's secrets.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from study.closed import Closed
from study.data import Data, unit_floats
from study.subsets import TrialSeed


class PrivateMlp(Closed):
    """Hyper-parameters of the learner; every one changes what is learned, except ``models_at_once``."""

    widths: tuple[PositiveInt, ...]
    steps: PositiveInt
    rate: Annotated[float, Field(gt=0, le=1)]
    learning_rate: PositiveFloat
    clip: PositiveFloat
    models_at_once: PositiveInt

    def fit_predict(self, data: Data, copies: np.ndarray, seeds: list[TrialSeed], noise: float, clipped: bool = True):
        """Train a network for each row of ``copies (k, n)``, how often each example is present; predict both splits.

        ``noise`` is in units of the clipping length. Returns int16 ``train (k, n)`` and ``test (k, n_test)``. Raises
        ``ValueError`` for noise without clipping, which promises nothing, ``RuntimeError`` for weights that are not finite.
        """
        blocks = [slice(start, start + self.models_at_once) for start in range(0, len(seeds), self.models_at_once)]
        x_train, x_test = inputs(data.x_train), inputs(data.x_test)
        labels = []
        for block in blocks:
            networks = self.fit(x_train, data.y_train, copies[block], seeds[block], noise, clipped, len(data.classes))
            labels.append([networks.predict(x) for x in (x_train, x_test)])
        return tuple(np.concatenate(split) for split in zip(*labels))

    def fit(self, x, y, copies: np.ndarray, seeds: list[TrialSeed], noise: float, clipped: bool, classes: int) -> "Networks":
        """Networks trained in step on ``x (n, d)`` and ``y (n,)``, one for each row of ``copies (k, n)``."""
        sizes = (x.shape[1], *self.widths, classes)
        networks = Networks([initial(sizes, seed) for seed in seeds])
        self.train(networks, x, y, copies, seeds, noise, clipped)
        return networks

    def train(self, networks: "Networks", x, y, copies, seeds: list[TrialSeed], noise: float, clipped: bool) -> None:
        """All steps of ``networks``, in place. Raises ``ValueError`` for noise without clipping."""
        if noise and not clipped:
            raise ValueError(f"noise is {noise} times the clipping length, but nothing is clipped; set noise to 0 or clip")
        length = self.clip if clipped else np.inf
        y, sources = torch.from_numpy(y), [seed.generator("augmentation") for seed in seeds]
        for batch, times in zip(*self._batches(copies, seeds)):
            change = networks.gradient(x[batch], y[batch], times, length)
            if noise:
                change += noise * self.clip * _normal(sources, change.shape[1])
            networks.weights -= self.learning_rate / (self.rate * len(x)) * change

    def _batches(self, copies: np.ndarray, seeds: list[TrialSeed]) -> tuple[torch.Tensor, torch.Tensor]:
        """Examples of each step and how many copies of each, both ``(steps, k, longest)``, filled up with zero copies."""
        counts = [
            seed.generator("order").binomial(row, self.rate, (self.steps, len(row))) for seed, row in zip(seeds, copies)
        ]
        counts = np.stack(counts, axis=1).astype(np.int16)
        longest = int((counts > 0).sum(-1).max())
        chosen = np.argsort(counts == 0, axis=-1, kind="stable")[..., : max(longest, 1)]
        return torch.from_numpy(chosen), torch.from_numpy(np.take_along_axis(counts, chosen, -1)).float()


def inputs(x: np.ndarray) -> torch.Tensor:
    """Examples as float32 rows of length 1, so that no example has a longer gradient for being brighter; zeros stay zero."""
    rows = torch.from_numpy(unit_floats(x).reshape(len(x), -1))
    return torch.nn.functional.normalize(rows)


def initial(sizes: tuple[int, ...], seed: TrialSeed) -> list[np.ndarray]:
    """Weights ``(inputs + 1, outputs)`` of each layer: He's normal distribution, and biases of zero in the last row."""
    draw = seed.generator("initialisation").standard_normal
    layers = [draw((a, b), dtype=np.float32) * np.float32(np.sqrt(2 / a)) for a, b in pairwise(sizes)]
    return [np.pad(layer, ((0, 1), (0, 0))) for layer in layers]


def _normal(sources: list[np.random.Generator], count: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([source.standard_normal(count, dtype=np.float32) for source in sources]))


@dataclass(init=False)
class Networks:
    """k networks of one shape; ``weights (k, parameters)`` holds all layers one after the other."""

    weights: torch.Tensor
    shapes: list[tuple[int, int]]

    def __init__(self, layers: list[list[np.ndarray]]):
        """From the layers of each network, ``(inputs + 1, outputs)`` arrays."""
        self.shapes = [layer.shape for layer in layers[0]]
        self.weights = torch.from_numpy(np.stack([np.concatenate([layer.ravel() for layer in own]) for own in layers]))

    def _layers(self) -> list[torch.Tensor]:
        parts = self.weights.split([a * b for a, b in self.shapes], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes)]

    def gradient(self, x: torch.Tensor, y: torch.Tensor, times: torch.Tensor, length: float) -> torch.Tensor:
        """Sum over the batch of ``times (k, b)`` copies of each example's gradient, cut to ``length``; ``(k, parameters)``.

        ``x (k, b, d)``, ``y (k, b)``; the gradient is that of the cross-entropy. Without clipping ``length`` is infinite.
        """
        layers = self._layers()
        values = _forward(x, layers)
        signals = _backward(values, layers, y)
        squared = sum(value.square().sum(-1) * signal.square().sum(-1) for value, signal in zip(values, signals))
        factor = times * (length / squared.sqrt().clamp(min=1e-12)).clamp(max=1.0)
        sums = [value.mT @ (signal * factor[..., None]) for value, signal in zip(values, signals)]
        return torch.cat([layer.flatten(1) for layer in sums], dim=1)

    def predict(self, x: torch.Tensor) -> np.ndarray:
        """Labels int16 ``(k, len(x))``. Raises ``RuntimeError`` if a network has a weight that is not finite."""
        if not self.weights.isfinite().all():
            raise RuntimeError("a network diverged; lower the learning rate")
        layers = self._layers()
        values = _forward(x.expand(len(self.weights), *x.shape), layers)
        return (values[-1] @ layers[-1]).argmax(-1).numpy().astype(np.int16)


def _forward(x: torch.Tensor, layers: list[torch.Tensor]) -> list[torch.Tensor]:
    """What enters each layer, ``(k, b, inputs + 1)``, the constant 1 last."""
    values = [_with_one(x)]
    for layer in layers[:-1]:
        values.append(_with_one((values[-1] @ layer).relu()))
    return values


def _with_one(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 1), value=1.0)


def _backward(values: list[torch.Tensor], layers: list[torch.Tensor], y: torch.Tensor) -> list[torch.Tensor]:
    """Each example's gradient of the cross-entropy at the output of each layer, ``(k, b, outputs)``."""
    signal = torch.softmax(values[-1] @ layers[-1], -1)
    signal.scatter_add_(2, y[..., None], torch.full((*y.shape, 1), -1.0))
    signals = [signal]
    for value, layer in zip(reversed(values[1:]), reversed(layers[1:])):
        signals.append((signals[-1] @ layer[:, :-1].mT) * (value[..., :-1] > 0))
    return signals[::-1]
