"""`own_network`: any network of PyTorch, trained by one plain recipe, one at a time.

A setting names the function or class that makes the network as ``factory: package.module:name`` and what it is called with
as ``arguments``; it returns a `torch.nn.Module` that takes a minibatch and gives one score a class, ``(batch, classes)``.
Pictures reach it as float32 ``(batch, channels, height, width)``, bytes scaled to [0, 1]; rows of features as they are.

The recipe: minibatches cut from the concatenation of one permutation of the subset per epoch, cross-entropy, SGD with
Nesterov's momentum, a learning rate that rises linearly for ``warm_up`` of the steps and falls linearly to zero. Weight
decay spares biases and whatever else has one axis. No augmentation. With ``precision: bfloat16`` under autocast.

A network is a function of its trial's seed as long as it draws through torch: torch's generator is seeded from the stream
`initialisation` before the factory is called and from `augmentation` before training, for dropout, and is given back as it
was found. `OwnNetwork.fit_predict` looks at the factory before it trains, for what it would not notice in the results: a
network made only once, weights that do not depend on the seed, weights that depend on anything else.

The code behind ``factory`` is no part of a setting's fingerprint, only its name and arguments are: who changes what it
computes raises the setting's ``revision``.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, JsonValue, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from torch import nn
from torch.nn.functional import cross_entropy

from study.closed import Closed
from study.data import Data, unit_floats
from study.learners.mlp import schedule
from study.subsets import TrialSeed

EVALUATED_AT_ONCE = 500
SILENT = ("device", "models_at_once")  # no part of a fingerprint, wherever they stand


class OwnNetwork(Closed):
    """Where the network comes from, and the recipe; all of it changes what is learned, but `device` and `models_at_once`.

    ``models_at_once`` is the number of models that a worker trains, one after the other, between two savings.
    """

    name: Literal["own_network"] = "own_network"
    factory: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    arguments: dict[str, JsonValue]
    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegativeFloat
    precision: Literal["float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda"]
    models_at_once: PositiveInt

    @field_validator("arguments")
    @classmethod
    def _told_by_the_fingerprint(cls, arguments: dict) -> dict:
        if odd := sorted(set(SILENT) & set(_keys(arguments))):
            raise ValueError(
                f"an argument is called {odd[0]!r}, a name that fingerprints leave out; another value would not train "
                "anew; give it another name"
            )
        return arguments

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Train one network for each row of ``members (k, n)``; predict every example of both splits.

        Returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``; a network with a loss, weight or score that is
        not finite predicts -1 everywhere. Raises ``ValueError``, which names the factory and the remedy, if there is none,
        if what it makes is no network for these data, or if its weights are not a function of the seed; and for a subset
        smaller than a minibatch or a device that is not there.
        """
        device = self._device()
        with _generator_kept(device):  # importing a module may draw, too
            make = self._factory()
            self._check(make, _shown(data.x_train[:2]), len(data.classes), device)
        rows = [self._labels(make, data, mask, seed, device) for mask, seed in zip(members, seeds, strict=True)]
        return tuple(np.stack(labels).astype(np.int16) for labels in zip(*rows))

    def _labels(self, make, data: Data, mask: np.ndarray, seed: TrialSeed, device) -> list[np.ndarray]:
        subset = np.flatnonzero(mask)
        if len(subset) < self.batch_size:
            raise ValueError(
                f"batch_size is {self.batch_size} but a subset has only {len(subset)} examples; take a smaller one"
            )
        with _generator_kept(device):
            network = _seeded(make, _number(seed, "initialisation")).to(device)
            loss = self._train(network, data, subset, seed, device)
            scores = [self._scores(network.eval(), x, device) for x in (data.x_train, data.x_test)]
        finite = all(value.isfinite().all() for value in (loss, *network.state_dict().values(), *scores))
        return [(score.argmax(1) if finite else torch.full((len(score),), -1)).numpy() for score in scores]

    def _train(self, network: nn.Module, data: Data, subset: np.ndarray, seed: TrialSeed, device) -> torch.Tensor:
        """Returns the sum of the losses of all steps."""
        optimizer, total = self._optimizer(network), torch.zeros((), device=device)
        torch.manual_seed(_number(seed, "augmentation"))
        network.train()
        steps = self.epochs * len(subset) // self.batch_size
        for step, rows in enumerate(self._minibatches(subset, seed)):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * schedule((step + 0.5) / steps, self.warm_up)
            optimizer.zero_grad()
            labels = torch.from_numpy(data.y_train[rows]).to(device)
            loss = cross_entropy(self._forward(network, _shown(data.x_train[rows]).to(device)), labels)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total

    def _minibatches(self, subset: np.ndarray, seed: TrialSeed) -> Iterator[np.ndarray]:
        order = seed.generator("order")
        places = np.concatenate([subset[order.permutation(len(subset))] for _ in range(self.epochs)])
        for step in range(len(places) // self.batch_size):
            yield places[step * self.batch_size : (step + 1) * self.batch_size]

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in network.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)

    def _forward(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return network(inputs).float()

    @torch.no_grad()
    def _scores(self, network: nn.Module, x: np.ndarray, device) -> torch.Tensor:
        parts = (x[start : start + EVALUATED_AT_ONCE] for start in range(0, len(x), EVALUATED_AT_ONCE))
        return torch.cat([self._forward(network, _shown(part).to(device)).cpu() for part in parts])

    def _device(self) -> torch.device:
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise ValueError("device is cuda, but torch finds no GPU; choose auto or cpu")
        return torch.device("cuda" if there and self.device != "cpu" else "cpu")

    def _factory(self) -> Callable[[], nn.Module]:
        """What makes a network. Raises ``ValueError`` if it cannot be imported or is not to be called."""
        module, _, name = self.factory.partition(":")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except Exception as error:
            raise ValueError(
                f"factory {self.factory!r}: {module} cannot be imported ({type(error).__name__}: {error}). It must be "
                "importable where the command runs and on every worker: put it into the root of this repository, or install "
                "its package"
            ) from error
        if found is None:
            raise ValueError(f"factory {self.factory!r}: module {module} has no {name}; name a function or class of it")
        if isinstance(found, nn.Module) or not callable(found):
            raise ValueError(
                f"factory {self.factory!r} is a {type(found).__name__}; name a function or class that makes a new network "
                "with each call"
            )
        return lambda: self._made(found)

    def _made(self, factory: Callable) -> nn.Module:
        try:
            network = factory(**self.arguments)
        except Exception as error:
            raise ValueError(
                f"factory {self._called} failed ({type(error).__name__}: {error}); mend it or its arguments"
            ) from error
        if not isinstance(network, nn.Module):
            raise ValueError(f"factory {self._called} returned a {type(network).__name__}; it must return a torch.nn.Module")
        if any(isinstance(weight, nn.UninitializedParameter) for weight in network.parameters()):
            raise ValueError(f"factory {self._called} returned a network with lazy layers; give their sizes")
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ValueError(f"factory {self._called} returned a network without a weight that can be trained; give it one")
        return network

    @property
    def _called(self) -> str:
        return f"{self.factory}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"

    def _check(self, make, inputs: torch.Tensor, classes: int, device: torch.device) -> None:
        """Make the network three times, twice from one seed, and show it two examples."""
        first, again, other = (_seeded(make, seed) for seed in (1, 1, 2))
        self._check_weights(first, again, other)
        self._check_scores(first.to(device).eval(), inputs.to(device), classes)

    def _check_weights(self, first: nn.Module, again: nn.Module, other: nn.Module) -> None:
        if {*map(id, first.parameters())} & {*map(id, again.parameters())}:
            raise ValueError(f"factory {self._called} returns the same weights with each call; it must make a new network")
        if not _equal(first, again):
            raise ValueError(
                f"factory {self._called} made different weights from the same seed; draw them from torch's own generator "
                "alone, so that a trial can be repeated"
            )
        if _equal(first, other) and any(weight.numel() > 1 and weight.std() > 0 for weight in first.parameters()):
            raise ValueError(
                f"factory {self._called} made the same weights from two seeds, so that all models would share one "
                "initialisation; do not set a seed in it, and do not load weights"
            )

    @torch.no_grad()
    def _check_scores(self, network: nn.Module, inputs: torch.Tensor, classes: int) -> None:
        shape, needed = tuple(inputs.shape), (len(inputs), classes)
        try:
            scores = network(inputs)
        except Exception as error:
            raise ValueError(
                f"the network of {self._called} cannot take inputs of shape {shape} ({type(error).__name__}: {error}); make "
                "it fit the data"
            ) from error
        found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else f"a {type(scores).__name__}"
        if found != needed:
            raise ValueError(
                f"the network of {self._called} gives {found} for inputs of shape {shape}; a tensor {needed} is needed, one "
                f"score for each of the {classes} classes"
            )


def _shown(x: np.ndarray) -> torch.Tensor:
    """Some examples as the network sees them; ``x`` may be mapped from the disk, and read only."""
    x = torch.from_numpy(unit_floats(np.array(x)))
    if x.ndim == 3:
        return x[:, None]
    return x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x


@contextmanager
def _generator_kept(device: torch.device):
    """torch's generators are afterwards as they were before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def _number(seed: TrialSeed, stream: str) -> int:
    """A seed for torch's generator."""
    return int(seed.generator(stream).integers(2**63))


def _equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = list(first.parameters()), list(second.parameters())
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def _keys(tree) -> Iterator[str]:
    """All names in nested tables."""
    if isinstance(tree, dict):
        yield from tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _keys(value)
