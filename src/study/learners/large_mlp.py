"""`large_mlp`: one multilayer perceptron at a time, near the arithmetic floor of a core.

`mlp` trains many tiny networks at once because there the cost is the number of kernels. Here the cost is arithmetic, and
one network whose weights stay in the core's cache is fastest. What makes it fast, in order of weight:

* bfloat16 matrix products, twice as fast as float32 on processors with AVX-512 BF16, on float32 master weights;
* examples that the network has learned take no further part: from the second epoch on an epoch leaves out every example
  whose loss, when it was last seen, was below `skip_below` (selective backpropagation, Jiang et al. 2019). What is left
  are the examples that training still has to fit, which is where memorization happens. ``skip_below: 0`` is plain SGD;
* inputs that are constant over the training split are left out (67 of MNIST's 784 pixels): they would be multiplied by
  zero after centring. Work arrays are made once, for fresh ones cost page faults.

Floor, for MNIST with widths 512-256 and 42,000 examples on a core that reaches 219 GFLOP/s in bfloat16: an epoch of all
examples is 95 GFLOP, predicting 70,000 examples 71 GFLOP. The four epochs of setting `mnist-mlp` visit 1.7 times all
examples, for more than half are learned after the first; that makes 1.0 s a model. `benchmarks/mnist.py` measured 1.5 s
of a core on an AMD EPYC with both of its cores at work: half as much again as the floor, and 11.4 times as many models an
hour as the reference in JAX.

Gradients are written out by hand; `tests/test_large_mlp.py` holds them against autograd.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt

from study.closed import Closed
from study.data import Data, unit_floats
from study.learners.mlp import schedule
from study.learners.subsets_of_one_size import member_indices
from study.subsets import TrialSeed

VECTOR = 16  # numbers in a vector register: arrays end with whole ones, see `study.learners.mlp`
EVALUATED_AT_ONCE = 2000


class LargeMlp(Closed):
    """Hyper-parameters of the learner; every one changes what is learned, except `models_at_once`.

    ``skip_below`` is a cross-entropy in nats; ``models_at_once`` is the number of trials in one piece of work.
    """

    name: Literal["large_mlp"] = "large_mlp"
    widths: tuple[PositiveInt, ...]
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    skip_below: Annotated[float, Field(ge=0)]
    precision: Literal["float32", "bfloat16"]
    models_at_once: PositiveInt

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Train one network for each row of ``members (k, n)``; predict every example of both splits.

        Returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``; a network with a weight that is not finite
        predicts -1 everywhere. Raises ``ValueError`` if a row has fewer members than a minibatch.
        """
        inputs = self.inputs(data)
        networks = self._trained(data, inputs[0], members, seeds)
        labels = [[network.predict(x).numpy().astype(np.int16) for x in inputs] for network in networks]
        return tuple(np.stack(split) for split in zip(*labels))

    def fit(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]) -> "Networks":
        """The trained networks, one for each row of ``members (k, n)``; errors as in `fit_predict`."""
        return Networks(list(self._trained(data, self.inputs(data)[0], members, seeds)))

    def _trained(self, data: Data, x: torch.Tensor, members: np.ndarray, seeds: list[TrialSeed]) -> Iterator["Network"]:
        chosen, y = member_indices(members), torch.from_numpy(data.y_train)
        if chosen.shape[1] < self.batch_size:
            raise ValueError(f"batch_size is {self.batch_size} but a subset has only {chosen.shape[1]} examples")
        sizes = (x.shape[1], *self.widths, len(data.classes))
        for row, seed in zip(chosen, seeds, strict=True):
            network = Network(_initial_weights(seed, sizes), len(data.classes), self.batch_size, x.dtype)
            with one_thread():
                self._train(network, x, y, torch.from_numpy(row), seed.generator("order"))
            yield network

    def inputs(self, data: Data) -> tuple[torch.Tensor, torch.Tensor]:
        """Both splits as rows ``(n, d)`` and ``(n_test, d)``: varying inputs only, centred, d padded with zeros."""
        train, test = (unit_floats(x).reshape(len(x), -1) for x in (data.x_train, data.x_test))
        varies = np.flatnonzero(np.ptp(train, axis=0))
        centre = train[:, varies].mean(0, dtype=np.float64).astype(np.float32)
        return tuple(self._row_tensor(split[:, varies] - centre) for split in (train, test))

    def _row_tensor(self, rows: np.ndarray) -> torch.Tensor:
        padded = torch.nn.functional.pad(torch.from_numpy(rows), (0, -rows.shape[1] % VECTOR))
        return padded.to(getattr(torch, self.precision))

    def _train(self, network: "Network", x, y, members: torch.Tensor, order: np.random.Generator) -> None:
        """SGD with Nesterov's momentum; ``members`` holds the subset's indices into ``x (n, d)`` and ``y (n,)``."""
        step = torch.optim.SGD(
            [network.parameters],
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
            fused=True,
        )
        last_loss = torch.full((len(x),), torch.inf)
        for epoch in range(self.epochs):
            left = members[last_loss[members] >= self.skip_below].numpy()
            batches = _minibatches(order.permutation(left), self.batch_size)
            for k, batch in enumerate(batches):
                progress = (epoch + (k + 0.5) / len(batches)) / self.epochs
                step.param_groups[0]["lr"] = self.learning_rate * schedule(progress, self.warm_up)
                last_loss[batch] = network.gradients(torch.index_select(x, 0, batch), y[batch])
                step.step()
                network.cast()


@contextmanager
def one_thread():
    """One thread for torch: with more, the order of sums, and so the last bits, would depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _minibatches(order: np.ndarray, batch_size: int) -> torch.Tensor:
    """``order`` cut into rows of exactly ``batch_size``, the last one completed from the start; no row if it is empty.

    All have one size because products whose rows do not fill whole vectors are a fifth slower.
    """
    steps = -(-len(order) // batch_size)
    return torch.from_numpy(np.resize(order, steps * batch_size).reshape(steps, batch_size))


def _initial_weights(seed: TrialSeed, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """He's normal distribution; the last layer starts at half of it."""
    draw = seed.generator("initialisation").standard_normal
    weights = [draw((a, b), dtype=np.float32) * np.float32(np.sqrt(2 / a)) for a, b in pairwise(sizes)]
    weights[-1] /= 2
    return [torch.from_numpy(weight) for weight in weights]


class Network:
    """One network. Its parameters are one flat float32 vector, ``parameters``, for the optimizer; products read and write
    views of two copies in the precision of the inputs, so that a step is few kernels: ``cast`` and ``gradients``.
    """

    def __init__(self, weights: list[torch.Tensor], n_classes: int, batch_size: int, precision: torch.dtype):
        self.n_classes, self.sizes = n_classes, [weight.shape[0] for weight in weights]
        shapes = [_padded(weight).shape for weight in weights]
        tensors = [_padded(weight).flatten() for weight in weights] + [torch.zeros(columns) for _, columns in shapes]
        self.parameters = torch.cat(tensors)
        self.parameters.grad = torch.zeros_like(self.parameters)
        self._low, self._low_gradient = self.parameters.to(precision), self.parameters.grad.to(precision)
        self.shapes = shapes
        self._weights, self._biases = _views(self._low, shapes)
        self._weight_gradients, self._bias_gradients = _views(self._low_gradient, shapes)
        self._values = [torch.empty(batch_size, columns, dtype=precision) for _, columns in shapes]
        self._errors = [torch.empty_like(values) for values in self._values]

    def cast(self) -> None:
        """Bring the copies that enter products up to date with the parameters."""
        self._low.copy_(self.parameters)

    def gradients(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Leave the gradient of the mean cross-entropy in ``parameters.grad``; return the losses, float32 ``(rows,)``."""
        inputs = [x, *self._forward(x)]
        losses, error = self._output_error(inputs.pop(), y)
        for depth in reversed(range(len(self._weights))):
            torch.mm(inputs[depth].T, error, out=self._weight_gradients[depth])
            torch.sum(error, 0, out=self._bias_gradients[depth])
            if depth:
                below = torch.mm(error, self._weights[depth].T, out=self._errors[depth - 1])
                error = torch.ops.aten.threshold_backward(below, inputs[depth], 0)
        self.parameters.grad.copy_(self._low_gradient)
        return losses

    def _forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Activations of every layer, in the work arrays."""
        values = []
        for weight, bias, work in zip(self._weights, self._biases, self._values):
            x = torch.addmm(bias, x, weight, out=work)
            values.append(x)
            if len(values) < len(self._weights):
                x.relu_()
        return values

    def _output_error(self, output: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_p = torch.log_softmax(output[:, : self.n_classes].float(), 1)
        losses = -log_p.gather(1, y[:, None])[:, 0]
        error = log_p.exp_()
        error.scatter_add_(1, y[:, None], torch.tensor(-1.0).expand(len(y), 1))
        work = self._errors[-1].zero_()
        work[:, : self.n_classes] = error.div_(len(y))
        return losses, work

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Labels of ``x (n, d)``, int64 ``(n,)``; -1 throughout if a weight is not finite."""
        if not self.parameters.isfinite().all():
            return torch.full((len(x),), -1)
        return torch.cat([self._evaluate(rows)[-1][:, : self.n_classes].argmax(1) for rows in x.split(EVALUATED_AT_ONCE)])

    def features(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Activations of hidden layer ``depth``, counted from 1, the last by default; float32 ``(n, width)``."""
        depth = len(self.sizes) - 1 if depth is None else depth
        parts = (self._evaluate(rows)[depth] for rows in x.split(EVALUATED_AT_ONCE))
        return torch.cat([part[:, : self.sizes[depth]].float() for part in parts])

    def _evaluate(self, x: torch.Tensor) -> list[torch.Tensor]:
        values = [x]
        with one_thread():
            for weight, bias in zip(self._weights, self._biases):
                values.append(torch.addmm(bias, values[-1], weight))
                if len(values) <= len(self._weights):
                    values[-1].relu_()
        return values


class Networks:
    """k trained networks of one shape."""

    def __init__(self, networks: list[Network]):
        self.networks = networks

    def features(self, x: torch.Tensor, depth: int | None = None) -> torch.Tensor:
        """Activations as `Network.features` gives them, ``(k, len(x), width)``; ``x`` as `LargeMlp.inputs` gives it."""
        return torch.stack([network.features(x, depth) for network in self.networks])

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Labels ``(k, len(x))``; -1 throughout for a network with a weight that is not finite."""
        return torch.stack([network.predict(x) for network in self.networks])

    def weights_and_biases(self) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Float32 weight ``(in, out)`` and bias ``(out,)`` of each layer of each network; padding units do nothing."""
        return [list(zip(*_views(network.parameters, network.shapes))) for network in self.networks]


def _padded(weight: torch.Tensor) -> torch.Tensor:
    """The weight with inputs and outputs rounded up to whole vectors with zeros, which stay zero."""
    rows, columns = weight.shape
    return torch.nn.functional.pad(weight, (0, -columns % VECTOR, 0, -rows % VECTOR))


def _views(flat: torch.Tensor, shapes: list[torch.Size]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights and biases as views of ``flat``, which holds all weights first, then all biases."""
    sizes = [rows * columns for rows, columns in shapes] + [columns for _, columns in shapes]
    parts = flat.split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes)], list(parts[len(shapes) :])
