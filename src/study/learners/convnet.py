"""`convnet`: one convolutional network at a time, in PyTorch, on a processor core or on a GPU.

Takes subsets of one data set of pictures and one seed each; returns the labels that every trained network predicts. The
network is `Compact`, a few residual stages behind a strided first convolution, sized for CIFAR and MNIST on a core, or
torchvision's ResNet-50. Activations are kept with channels last; with ``precision: bfloat16`` matrix products run in
bfloat16 on float32 weights.

Every draw is a function of the trial's seed: weights of the stream `initialisation`, minibatches of `order` (cut from the
concatenation of one permutation of the subset per epoch), mirrored and shifted pictures of `augmentation`. Nothing of
torch's global generator is used or changed. The mean and the standard deviation by which pictures are scaled come from
the subset too, so a held-out picture has no part in a network at all. A trained network is evaluated with the running
statistics of its batch normalisation; the learning rate has fallen to zero by then, so they belong to its final weights.

The convolutions may take orthogonal steps (`Orthogonal`) in place of those of SGD, for they fit a subset in fewer epochs:
``mnist-convnet`` with [16, 32, 64] channels labels 99.4 % of its subset and 98.7 % of the test pictures after three epochs
where SGD at the same rate of the head reaches 98.5 % and 97.8 % (November 2026, one trial each).

On CIFAR-100 a network must label 99 % of its subset and spend three minutes of a core. What that leaves to choose is when
to stop mirroring pictures. The network of ``cifar100-convnet`` (1.6 M weights, 15 million multiplications a picture), one
trial each:

    mirrored pictures, smoothing, rate      subset   test
    none, 8 epochs, 0, 0.06                 99.9 %   46.4 %
    55 % of 9 epochs, 0.05, 0.07            99.8 %   50.3 %
    65 % of 9 epochs, 0.1, 0.075            99.5 %   52.2 %   (the choice)
    72 % of 9 epochs, 0.1, 0.08             98.5 %   53.7 %
    all of 9 epochs, 0, 0.1                 89.0 %   55.8 %
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import nn
from torch.nn.functional import cross_entropy, pad

from study.closed import Closed
from study.data import Data
from study.learners.mlp import schedule
from study.subsets import TrialSeed

EVALUATED_AT_ONCE = 500
PICTURES_MEASURED = 1000  # of a subset, for the mean and the standard deviation of its channels


class Compact(Closed):
    """A residual network: stage i has ``widths[i]`` channels and ``blocks[i]`` residual blocks, at half the resolution of
    the stage before; the first stage is entered by a convolution of stride ``stride``, the head is linear on averages.
    """

    name: Literal["compact"] = "compact"
    stride: PositiveInt
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    blocks: tuple[NonNegativeInt, ...]

    @model_validator(mode="after")
    def _one_number_of_blocks_a_stage(self) -> Self:
        if len(self.blocks) != len(self.widths):
            raise ValueError(
                f"widths has {len(self.widths)} stages but blocks has {len(self.blocks)}; give one each a stage"
            )
        return self

    def parts(self, shape: tuple[int, int, int], classes: int) -> tuple[nn.Module, nn.Linear]:
        """The network up to its penultimate features, and the linear layer above them.

        ``shape`` is height, width and channels. Raises ``ValueError`` if a convolution would halve a side of one pixel: most
        of its weights would meet nothing but padding, and what oneDNN 3.13 returns as their gradient in bfloat16 is
        whatever lay in memory.
        """
        halved = max(len(self.widths) - 2, 0)  # times, before the last one
        _more_pixels_than(self.stride * 2**halved, shape, "take a smaller stride or fewer widths")
        channels = shape[2]
        stages = [_convolution(channels, self.widths[0], 2 * self.stride + 1, self.stride)]
        for depth, (width, blocks) in enumerate(zip(self.widths, self.blocks)):
            if depth:
                stages.append(_convolution(self.widths[depth - 1], width, 3, 2))
            stages += [_Residual(_convolution(width, width, 3, 1)) for _ in range(blocks)]
        return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(self.widths[-1], classes)


class ResNet50(Closed):
    """torchvision's ResNet-50 (He et al., 2016, with the stride in the 3 × 3 convolution), for colour pictures."""

    name: Literal["resnet50"] = "resnet50"

    def parts(self, shape: tuple[int, int, int], classes: int) -> tuple[nn.Module, nn.Linear]:
        """As `Compact.parts`. Raises ``ValueError`` also for pictures that are not in colour."""
        from torchvision.models import resnet50

        if shape[2] != 3:
            raise ValueError(f"architecture resnet50 needs pictures of 3 channels, got {shape[2]}; choose compact")
        _more_pixels_than(16, shape, "choose compact")  # for the same reason as in `Compact.parts`
        network = resnet50(weights=None, num_classes=classes)
        head, network.fc = network.fc, nn.Identity()
        return network, head


def _more_pixels_than(number: int, shape: tuple[int, ...], remedy: str) -> None:
    """Raise ``ValueError`` for pictures with a side of ``number`` pixels or less."""
    if min(shape[:2]) <= number:
        raise ValueError(f"pictures have {shape[0]} × {shape[1]} pixels, but more than {number} a side are needed; {remedy}")


class ConvNet(Closed):
    """Hyper-parameters of the learner; every one changes what is learned, except `device` and `models_at_once`.

    ``learning_rate`` and ``weight_decay`` belong to SGD with Nesterov's momentum. ``orthogonal_rate``, if positive, is the
    learning rate of the convolutions, which then take the steps of `Orthogonal` with the same momentum. ``flip``
    mirrors half of the pictures in one epoch and the other half in the next; ``crop`` shifts each picture by up to so many
    pixels, its border reflected. Both end after ``augmented``, a share of the steps: pictures seen as they are in the last
    epochs are fitted to the last one, and what the network learned of them mirrored it keeps.
    """

    name: Literal["convnet"] = "convnet"
    architecture: Annotated[Compact | ResNet50, Field(discriminator="name")]
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]  # batch normalisation needs two pictures
    learning_rate: PositiveFloat
    orthogonal_rate: NonNegativeFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegativeFloat
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    crop: NonNegativeInt
    augmented: Annotated[float, Field(ge=0, le=1)]
    precision: Literal["float32", "bfloat16"]
    device: Literal["auto", "cpu", "cuda"]
    models_at_once: PositiveInt

    def fit_predict(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]):
        """Train one network for each row of ``members (k, n)``; predict every example of both splits.

        Returns int16 ``train_labels (k, n)`` and ``test_labels (k, n_test)``; a network with a loss, weight or score that is
        not finite predicts -1 everywhere. Raises ``ValueError`` for inputs that are not pictures, a subset smaller than a
        minibatch, or a device that is not there.
        """
        train, test = np.empty((len(members), data.n), np.int16), np.empty((len(members), data.n_test), np.int16)
        for k, network in enumerate(self._trained(data, members, seeds)):
            train[k], test[k] = network.labels(*self.inputs(data))
        return train, test

    def fit(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]) -> "ConvNets":
        """The trained networks, one for each row of ``members (k, n)``; errors as in `fit_predict`."""
        return ConvNets(list(self._trained(data, members, seeds)))

    @staticmethod
    def inputs(data: Data) -> tuple[np.ndarray, np.ndarray]:
        """Both splits as pictures, ``(n, height, width, channels)``. Raises ``ValueError`` for rows of features."""
        if data.x_train.ndim not in (3, 4):
            raise ValueError(
                f"convnet needs pictures, (n, height, width) or (n, height, width, channels), but those of data set "
                f"{data.name!r} have shape {data.x_train.shape}; choose another learner"
            )
        return tuple(x if x.ndim == 4 else x[..., None] for x in (data.x_train, data.x_test))

    def _trained(self, data: Data, members: np.ndarray, seeds: list[TrialSeed]) -> Iterator["_Network"]:
        x, _ = self.inputs(data)
        _more_pixels_than(self.crop, x.shape[1:], "take a smaller crop")  # its border is reflected
        device = self._device()
        for row, seed in zip(members, seeds, strict=True):
            subset = np.flatnonzero(row)
            if len(subset) < self.batch_size:
                raise ValueError(f"batch_size is {self.batch_size} but a subset has only {len(subset)} examples")
            parts = self._parts(x.shape[1:], len(data.classes))
            network = _Network(_measured(x, subset), *parts, seed, self.precision, device)
            self._train(network, x, data.y_train, subset, seed)
            yield network

    def _parts(self, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, nn.Linear]:
        with torch.device("meta"):  # no weight is drawn, here or from torch's generator, that `initialise` draws anew
            body, head = self.architecture.parts(shape, classes)
        return body.to_empty(device="cpu"), head.to_empty(device="cpu")

    def _device(self) -> torch.device:
        there = torch.cuda.is_available()
        if self.device == "cuda" and not there:
            raise ValueError("device is cuda, but torch finds no GPU; choose auto or cpu")
        return torch.device("cuda" if there and self.device != "cpu" else "cpu")

    def _train(self, network: "_Network", x: np.ndarray, y: np.ndarray, subset: np.ndarray, seed: TrialSeed) -> None:
        optimizer, steps = self._optimizer(network.module), self._steps(len(subset))
        network.module.train()
        for step, (rows, pictures) in enumerate(self._minibatches(x, subset, seed)):
            labels = torch.from_numpy(y[rows]).to(network.device)
            loss = cross_entropy(network.scores(pictures), labels, label_smoothing=self.label_smoothing)
            loss.backward()
            optimizer.step(schedule((step + 0.5) / steps, self.warm_up))
            network.loss += loss.detach()
        network.module.eval()

    def _steps(self, m: int) -> int:
        return self.epochs * m // self.batch_size

    def _optimizer(self, module: nn.Module) -> "_Optimizer":
        """Weights of convolutions and of the head decay; those of batch normalisation, and biases, do not."""
        turned = [part.weight for part in module.modules() if isinstance(part, nn.Conv2d)] if self.orthogonal_rate else []
        others = [p for p in module.parameters() if not any(p is weight for weight in turned)]
        groups = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
        ]
        sgd = torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.momentum > 0)
        return _Optimizer(
            sgd, self.learning_rate, Orthogonal(turned, self.momentum) if turned else None, self.orthogonal_rate
        )

    def _minibatches(self, x: np.ndarray, subset: np.ndarray, seed: TrialSeed):
        """Each step's examples ``(batch,)`` and their pictures as they are shown, ``(batch, height, width, channels)``."""
        order, augmentation, m = seed.generator("order"), seed.generator("augmentation"), len(subset)
        places = np.concatenate([order.permutation(m) for _ in range(self.epochs)])
        mirrored_first = augmentation.random(m) < 0.5
        for step in range(self._steps(m)):
            here = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
            pictures = _gathered(x, subset[places[here]])
            if step < self.augmented * self._steps(m):
                mirrored = mirrored_first[places[here]] ^ (here // m % 2 == 1)
                pictures = self._augmented(pictures, mirrored, augmentation)
            yield subset[places[here]], pictures

    def _augmented(self, pictures: torch.Tensor, mirrored: np.ndarray, draw: np.random.Generator) -> torch.Tensor:
        if self.flip:
            pictures[mirrored] = pictures[mirrored].flip(2)
        if self.crop:
            pictures = shifted(pictures, draw.integers(0, 2 * self.crop + 1, (2, len(pictures))), self.crop)
        return pictures


def shifted(pictures: torch.Tensor, corners: np.ndarray, margin: int) -> torch.Tensor:
    """Windows of the original size into pictures ``(b, height, width, c)`` that a reflected border of ``margin`` surrounds.

    ``corners (2, b)``, from 0 to 2 ``margin``, are the upper and the left ends of the windows; ``margin`` changes nothing.
    """
    _, height, width, _ = pictures.shape
    surrounded = pad(pictures.permute(0, 3, 1, 2).float(), (margin,) * 4, mode="reflect").permute(0, 2, 3, 1)
    top, left = (torch.from_numpy(ends)[:, None] for ends in corners)
    down, right = (top + torch.arange(height))[:, :, None], (left + torch.arange(width))[:, None, :]
    return surrounded[torch.arange(len(pictures))[:, None, None], down, right].to(pictures.dtype)


def _gathered(x: np.ndarray, rows) -> torch.Tensor:
    """A copy of some pictures; ``x`` may be mapped from the disk, and read only."""
    return torch.from_numpy(np.array(x[rows]))


def _measured(x: np.ndarray, subset: np.ndarray) -> "_Scale":
    """The scaling by mean and standard deviation of the channels, from pictures spread evenly over the subset."""
    pictures = _gathered(x, subset[:: -(-len(subset) // PICTURES_MEASURED)]).float()
    deviation = pictures.std((0, 1, 2))
    return _Scale(pictures.mean((0, 1, 2)), deviation.where(deviation > 0, 1))  # a constant channel becomes zero


class _Scale(nn.Module):
    """Pictures ``(b, height, width, c)`` to channels of mean 0 and deviation 1, float32 ``(b, c, height, width)``."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return ((pictures - self.mean) / self.deviation).permute(0, 3, 1, 2)


def _convolution(before: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class _Network:
    """One network on its device: ``module`` is scale, body and head; ``loss`` sums the losses of its training."""

    def __init__(
        self, scale: _Scale, body: nn.Module, head: nn.Linear, seed: TrialSeed, precision: str, device: torch.device
    ):
        self.module = nn.Sequential(scale, body, head)
        initialise(self.module, seed.generator("initialisation"))
        self.module.to(device, memory_format=torch.channels_last)
        self.device, self.precision, self.loss = device, precision, torch.zeros((), device=device)

    def scores(self, pictures: torch.Tensor, layers: int = 3) -> torch.Tensor:
        """Output of the first ``layers`` of scale, body and head, float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.module[:layers](pictures.to(self.device)).float()

    @torch.no_grad()
    def evaluate(self, x: np.ndarray, layers: int = 3) -> torch.Tensor:
        """`scores` of all pictures ``x``, in order, on the CPU."""
        starts = range(0, len(x), EVALUATED_AT_ONCE)
        return torch.cat([self.scores(_gathered(x, slice(i, i + EVALUATED_AT_ONCE)), layers).cpu() for i in starts])

    def labels(self, *splits: np.ndarray) -> list[torch.Tensor]:
        """Predicted labels of each split; -1 for all of them if anything is not finite."""
        scores = [self.evaluate(x) for x in splits]
        finite = all(value.isfinite().all() for value in (self.loss, *self.module.state_dict().values(), *scores))
        return [score.argmax(1) if finite else torch.full((len(score),), -1) for score in scores]


def initialise(module: nn.Module, draw: np.random.Generator) -> None:
    """He's normal distribution for convolutions (variance 2 / fan-in), variance 1 / fan-in for linear layers, biases zero.

    Batch normalisation starts as the identity. Raises ``TypeError`` for a layer with weights of another kind.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            gain, fan_in = (2 if isinstance(part, nn.Conv2d) else 1), part.weight[0].numel()
            normal = draw.standard_normal(part.weight.shape, dtype=np.float32) * np.float32((gain / fan_in) ** 0.5)
            part.weight.data.copy_(torch.from_numpy(normal))
            if part.bias is not None:
                part.bias.data.zero_()
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
        elif any(True for _ in part.parameters(recurse=False)):
            raise TypeError(f"no initialisation is known for a {type(part).__name__}")


class Orthogonal:
    """Orthogonal steps for convolutions: torch's Muon (Jordan et al., 2024), then a return to the sphere.

    The momentum of a weight, written as one row an output channel, is replaced by the nearest orthogonal matrix, up to the
    error of a few Newton–Schulz iterations. After the step the weight is scaled back to the norm of such a matrix, so that
    the learning rate is a relative one; batch normalisation, which must follow, hides the scale.
    """

    def __init__(self, weights: list[nn.Parameter], momentum: float):
        self.weights = weights
        self.rows = [nn.Parameter(_as_rows(weight.detach())) for weight in weights]
        self.muon = torch.optim.Muon(self.rows, lr=0.0, weight_decay=0.0, momentum=momentum, ns_steps=3)

    def step(self, rate: float) -> None:
        """One step of all weights at learning rate ``rate`` against their gradients, which are then gone."""
        for weight, row in zip(self.weights, self.rows):
            row.grad, weight.grad = _as_rows(weight.grad), None
        self.muon.param_groups[0]["lr"] = rate
        self.muon.step()
        for weight in self.weights:
            weight.detach().mul_(len(weight) ** 0.5 / weight.detach().norm())


def _as_rows(weight: torch.Tensor) -> torch.Tensor:
    """A convolution's weight as ``(out, height × width × in)``; where channels lie last it is the same memory."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


class _Optimizer:
    """SGD, and orthogonal steps for the weights that take them, on one schedule."""

    def __init__(self, sgd: torch.optim.SGD, rate: float, orthogonal: Orthogonal | None, orthogonal_rate: float):
        self.sgd, self.rate, self.orthogonal, self.orthogonal_rate = sgd, rate, orthogonal, orthogonal_rate

    def step(self, share: float) -> None:
        """One step at ``share`` of the peak learning rates; gradients are gone afterwards."""
        for group in self.sgd.param_groups:
            group["lr"] = share * self.rate
        self.sgd.step()
        self.sgd.zero_grad()
        if self.orthogonal:
            self.orthogonal.step(share * self.orthogonal_rate)


class ConvNets:
    """k trained networks of one shape."""

    def __init__(self, networks: list[_Network]):
        self.networks = networks

    def predict(self, x: np.ndarray) -> torch.Tensor:
        """Labels ``(k, len(x))`` of pictures as `ConvNet.inputs` gives them; -1 throughout for a network that diverged."""
        return torch.stack([network.labels(x)[0] for network in self.networks])

    def features(self, x: np.ndarray) -> torch.Tensor:
        """Activations below the last layer, float32 ``(k, len(x), d)``, on the CPU; d is the last width."""
        return torch.stack([network.evaluate(x, layers=2) for network in self.networks])
