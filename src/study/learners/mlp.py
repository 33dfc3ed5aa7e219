"""`mlp`: many small multilayer perceptrons trained at once by batched matrix products.

Takes subsets of one data set and one seed each; returns the labels that every trained network predicts. One step of SGD
moves all networks together: a batched product forward, one backward, and one that adds the gradient straight into the
momentum buffer, so that a step is nine kernels a layer however many networks take it. Gradients are written out by hand;
`tests/test_learners.py` holds them against autograd.

Minibatches are cut from the concatenation of one random permutation of the subset per epoch, so that all have the same
size. The learning rate rises linearly over the first `warm_up` of the steps and falls linearly to zero. Weights start
from He's normal distribution, biases from zero.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from study.closed import Closed
from study.data import Data, unit_floats
from study.learners.subsets_of_one_size import member_indices
from study.subsets import TrialSeed


class Mlp(Closed):
    """Hyper-parameters of the learner; every one changes what is learned, except `models_at_once`."""

    name: Literal["mlp"] = "mlp"
    widths: tuple[PositiveInt, ...]
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    models_at_once: PositiveInt

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Train one network for each row of ``members (k, n)``; predict every example of both splits.

        Returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``; a network whose loss is not finite predicts
        -1 everywhere. Raises ``ValueError`` if the rows have different numbers of members or fewer than one minibatch.
        """
        networks = self.fit(data, members, seeds)
        return tuple(networks.predict(x).numpy().astype(np.int16) for x in self.inputs(data))

    def fit(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]) -> "Networks":
        """The trained networks, one for each row of ``members (k, n)``."""
        chosen = member_indices(members)
        if chosen.shape[1] < self.batch_size:
            raise ValueError(f"batch_size is {self.batch_size} but a subset has only {chosen.shape[1]} examples")
        x_train, _ = self.inputs(data)
        networks = self._initial(seeds, x_train.shape[1], len(data.classes))
        self._train(networks, x_train, torch.from_numpy(data.y_train), self._minibatches(chosen, seeds))
        return networks

    @staticmethod
    def inputs(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
        """Both splits as float32 rows, ``(n, d)`` and ``(n_test, d)``."""
        return tuple(torch.from_numpy(unit_floats(x).reshape(len(x), -1)) for x in (data.x_train, data.x_test))

    def _initial(self, seeds: list[TrialSeed], n_features: int, n_classes: int) -> "Networks":
        sizes = (n_features, *self.widths, n_classes)
        draws = [_initial_weights(seed, sizes) for seed in seeds]
        return Networks([torch.from_numpy(np.stack(layer)) for layer in zip(*draws)], self.batch_size)

    def _minibatches(self, chosen: np.ndarray, seeds: list[TrialSeed]) -> torch.Tensor:
        """Indices into the training set, int64 ``(steps, k, batch_size)``."""
        m = chosen.shape[1]
        steps = self.epochs * m // self.batch_size
        rows = [_epochs_of(row, self.epochs, seed)[: steps * self.batch_size] for row, seed in zip(chosen, seeds)]
        batches = np.stack(rows).reshape(len(rows), steps, self.batch_size)
        return torch.from_numpy(np.ascontiguousarray(batches.swapaxes(0, 1)))

    def _train(self, networks: "Networks", x: torch.Tensor, y: torch.Tensor, batches: torch.Tensor) -> None:
        for step, batch in enumerate(batches):
            rate = self.learning_rate * schedule((step + 0.5) / len(batches), self.warm_up)
            networks.step(x[batch], y[batch], rate, self.momentum, self.weight_decay)


def schedule(progress: float, warm_up: float) -> float:
    """Learning rate as a fraction of its peak: linear from 0 to 1 at ``warm_up``, then linear to 0 at 1."""
    return progress / warm_up if progress < warm_up else (1 - progress) / (1 - warm_up)


def _initial_weights(seed: TrialSeed, sizes: tuple[int, ...]) -> list[np.ndarray]:
    draw = seed.generator("initialisation").standard_normal
    return [draw((a, b), dtype=np.float32) * np.float32(np.sqrt(2 / a)) for a, b in pairwise(sizes)]


def _epochs_of(subset: np.ndarray, epochs: int, seed: TrialSeed) -> np.ndarray:
    shuffle = seed.generator("order").permutation
    return np.concatenate([subset[shuffle(len(subset))] for _ in range(epochs)])


@dataclass
class _Layer:
    """One layer of all networks: weight ``(k, in, out)``, bias ``(k, 1, out)``, their velocities, and two work arrays.

    The work arrays exist because fresh ones of this size would be handed back to the operating system after every
    kernel, and the page faults cost as much as the arithmetic.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    weight_velocity: torch.Tensor
    bias_velocity: torch.Tensor
    output: torch.Tensor
    gradient: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, self.weight, out=self.output)

    def update(self, x: torch.Tensor, gradient: torch.Tensor, rate: float, momentum: float, decay: float) -> None:
        scale = -rate / x.shape[1]
        torch.baddbmm(self.weight_velocity, x.mT, gradient, beta=momentum, alpha=scale, out=self.weight_velocity)
        if decay:
            self.weight_velocity.add_(self.weight, alpha=-rate * decay)
        self.bias_velocity.mul_(momentum).add_(gradient.sum(1, keepdim=True), alpha=scale)
        self.weight.add_(self.weight_velocity)
        self.bias.add_(self.bias_velocity)


def _layer(weight: torch.Tensor, batch_size: int) -> _Layer:
    k, _, out = weight.shape
    bias, activations = torch.zeros(k, 1, out), torch.empty(k, batch_size, out)
    return _Layer(weight, bias, torch.zeros_like(weight), bias.clone(), activations, torch.empty_like(activations))


def _padded(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """The weights with outputs, and the inputs they feed, rounded up to whole vectors of 16 numbers, filled with zeros.

    A product whose rows end within a vector is rounded by where it lies in memory, which is to say by the place of a
    network among those trained with it: without this, one test logit in nine differs in its last bits. The added units
    are zero and have no gradient, so they stay zero.
    """
    pad = torch.nn.functional.pad
    first, *rest = [pad(weight, (0, -weight.shape[2] % 16)) for weight in weights]
    return [first, *(pad(weight, (0, 0, 0, -weight.shape[1] % 16)) for weight in rest)]


class Networks:
    """k networks of one shape: ``weights[l]`` is ``(k, in, out)``."""

    def __init__(self, weights: list[torch.Tensor], batch_size: int):
        self.sizes, n_classes = [weight.shape[1] for weight in weights], weights[-1].shape[2]
        self.layers = [_layer(weight, batch_size) for weight in _padded(weights)]
        self.layers[-1].bias[..., n_classes:] = -torch.inf  # no added class is ever predicted

    def step(self, x: torch.Tensor, y: torch.Tensor, rate: float, momentum: float, decay: float) -> None:
        """One step of SGD on the mean cross-entropy of ``x (k, batch, d)`` and ``y (k, batch)``, velocity form."""
        inputs = self._forward(x)
        gradient = torch.softmax(self.layers[-1].output, -1)
        gradient.scatter_add_(2, y[..., None], torch.tensor(-1.0).expand(*y.shape, 1))
        for depth in reversed(range(len(self.layers))):
            layer = self.layers[depth]
            below = self._backward(depth, gradient) if depth else None
            layer.update(inputs[depth], gradient, rate, momentum, decay)
            gradient = below

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        inputs = [x]
        for layer in self.layers[:-1]:
            inputs.append(layer.forward(inputs[-1]).relu_())
        self.layers[-1].forward(inputs[-1])
        return inputs

    def _backward(self, depth: int, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient at the activations that enter layer ``depth``, from the one at its output."""
        below = self.layers[depth - 1]
        torch.bmm(gradient, self.layers[depth].weight.mT, out=below.gradient)
        return torch.ops.aten.threshold_backward(below.gradient, below.output, 0)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Labels ``(k, len(x))``; -1 throughout for a network with a weight that is not finite."""
        labels = self._evaluate(x)[-1].argmax(-1)
        finite = torch.stack([layer.weight.isfinite().all((1, 2)) for layer in self.layers]).all(0)
        return torch.where(finite[:, None], labels, -1)

    def features(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Activations of hidden layer ``depth``, counted from 1, the last by default; float32 ``(k, len(x), width)``."""
        depth = len(self.layers) - 1 if depth is None else depth
        return self._evaluate(x)[depth][..., : self.sizes[depth]]

    def weights_and_biases(self) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Weight ``(in, out)`` and bias ``(out,)`` of each layer of each network, padded with units that do nothing."""
        networks = range(len(self.layers[0].weight))
        return [[(layer.weight[k], layer.bias[k, 0]) for layer in self.layers] for k in networks]

    def _evaluate(self, x: torch.Tensor) -> list[torch.Tensor]:
        values = [x.expand(len(self.layers[0].weight), *x.shape)]
        for depth, layer in enumerate(self.layers):
            values.append(torch.baddbmm(layer.bias, values[-1], layer.weight))
            if depth < len(self.layers) - 1:
                values[-1].relu_()
        return values
