"""What training finds where weights are known to exist, and what SGD does close to a memorizing minimum.

Networks of one shape are trained side by side: their parameters are the rows of ``theta (k, P)``, all layers of a
network one after the other, so that a distance between networks is a distance between rows. Data have axes
``x (k, n, d)`` and ``y (k, n)``, each network its own.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from study.theory.relu_memorizers import Memorizer

POLISHED = 1e-28  # mean squared error of a minimum that counts as memorizing
CLEAR = 3e-3  # distance from its kink that every ReLU keeps there, at every point
CANDIDATES = 6  # starts for each minimum wanted


def layer_sizes(d: int, widths: tuple[int, ...]) -> tuple[int, ...]:
    """Inputs, hidden units, one output."""
    return (d, *widths, 1)


def initial(sizes: tuple[int, ...], k: int, generator: np.random.Generator) -> torch.Tensor:
    """``theta (k, P)``, float64: He's normal weights; biases of standard deviation 1, which spreads kinks over a line."""
    parts = []
    for a, b in pairwise(sizes):
        parts += [generator.standard_normal((k, a * b)) * math.sqrt(2 / a), generator.standard_normal((k, b))]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def layers(theta: torch.Tensor, sizes: tuple[int, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights ``(k, in, out)`` and biases ``(k, 1, out)`` as views into ``theta (k, P)``."""
    pieces = theta.split([count for a, b in pairwise(sizes) for count in (a * b, b)], dim=1)
    shapes = list(pairwise(sizes))
    return [(w.view(-1, *shape), b.view(len(b), 1, -1)) for w, b, shape in zip(pieces[::2], pieces[1::2], shapes)]


def outputs(theta: torch.Tensor, x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """What the k networks answer to ``x (k, n, d)``: ``(k, n)``."""
    *hidden, (weight, bias) = layers(theta, sizes)
    for w, b in hidden:
        x = torch.baddbmm(b, x, w).relu()
    return torch.baddbmm(bias, x, weight)[..., 0]


def as_memorizer(theta: torch.Tensor, sizes: tuple[int, ...]) -> Memorizer:
    """One network, a row ``theta (P,)``, as a module in float64."""
    return Memorizer([(w[0].T.double().numpy(), b[0, 0].double().numpy()) for w, b in layers(theta[None], sizes)])


class Trained(NamedTuple):
    """``theta (k, P)`` after training and the least share of wrong signs ``wrong (k,)`` seen on the way."""

    theta: torch.Tensor
    wrong: np.ndarray


def adam(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, sizes, rates, steps: int) -> Trained:
    """Adam on the mean squared error of all points at once, the learning rate falling to zero along a cosine.

    ``theta (r, k, P)`` holds k networks for each of the r learning rates ``rates``; ``x (r, k, n, d)``, ``y (r, k, n)``.
    Signs are looked at every 50 steps, and the best look counts: training gets the benefit of the doubt.
    """
    groups = [part.clone().requires_grad_() for part in theta]
    optimizer = torch.optim.Adam([{"params": [part], "lr": rate} for part, rate in zip(groups, rates)])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    wrong = np.ones(len(y))
    for step in range(1, steps + 1):
        answer = outputs(torch.cat(groups), x, sizes)
        if step % 50 == 0 or step == steps:
            wrong = np.minimum(wrong, (answer.detach() * y <= 0).double().mean(dim=1).numpy())
        optimizer.zero_grad()
        (answer - y).square().mean(dim=1).sum().backward()
        optimizer.step()
        schedule.step()
    return Trained(torch.cat(groups).detach(), wrong)


# Near a minimum


def preactivations(theta: torch.Tensor, x: torch.Tensor, sizes) -> torch.Tensor:
    """What enters the ReLUs, ``(k, n, units)``, all hidden layers side by side."""
    found = []
    for weight, bias in layers(theta, sizes)[:-1]:
        found.append(torch.baddbmm(bias, x, weight))
        x = found[-1].relu()
    return torch.cat(found, dim=2)


def jacobians(theta: torch.Tensor, x: torch.Tensor, sizes) -> torch.Tensor:
    """Gradients of every answer, ``(k, n, P)``."""

    def answers(row, points):
        return outputs(row[None], points[None], sizes)[0]

    return torch.func.vmap(torch.func.jacrev(answers))(theta, x)


class Minima(NamedTuple):
    """Networks that memorize: ``theta (k, P)``, their points ``x (k, n, d)`` and labels ``y (k, n)``."""

    theta: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor


def minima(count: int, n: int, sizes: tuple[int, ...], generator: np.random.Generator) -> Minima:
    """``count`` memorizing minima, each of ``n`` Gaussian points of its own with labels uniform in [-1, 1].

    Adam, then Gauss-Newton steps down to rounding error, from six times as many starts. A minimum must not lie on the kink
    of a ReLU, since nothing is claimed where the risk has no derivative; many that training finds do. Of those left the ones
    with the fastest `contraction` are kept, which makes descents short. Raises ``ValueError`` if too few are left.
    """
    starts = CANDIDATES * count
    x = torch.from_numpy(generator.standard_normal((starts, n, sizes[0])))
    y = torch.from_numpy(generator.uniform(-1, 1, (starts, n)))
    theta = adam(initial(sizes, starts, generator)[None], x[None], y[None], sizes, [0.01], 1000).theta
    for _ in range(40):
        residual = outputs(theta, x, sizes) - y
        damping = torch.where(residual.square().mean(1) < 1e-4, 1.0, 0.3)[:, None]
        step = torch.linalg.pinv(jacobians(theta, x, sizes), rtol=1e-10) @ residual[..., None]
        theta = theta - damping * step[..., 0]
    smooth = preactivations(theta, x, sizes).abs().amin((1, 2)) > CLEAR
    reached = torch.nonzero(smooth & ((outputs(theta, x, sizes) - y).square().mean(1) < POLISHED))[:, 0]
    if len(reached) < count:
        raise ValueError(
            f"only {len(reached)} of {starts} networks memorized {n} points away from kinks, {count} are wanted; "
            "ask for fewer, or give them more units"
        )
    theta, x, y = theta[reached], x[reached], y[reached]
    fastest = np.argsort(contraction(theta, x, sizes, step_sizes(theta, x, sizes)))[:count]
    return Minima(theta[fastest], x[fastest], y[fastest])


class Linear(NamedTuple):
    """SGD with the gradients at the minimum: ``errors (k, n)`` so far, ``kernel (k, n, n)`` times the step size."""

    errors: torch.Tensor
    kernel: torch.Tensor

    def after(self, order) -> "Linear":
        """After an epoch that takes the examples in this order."""
        errors = self.errors
        for i in order:
            errors = errors - self.kernel[:, :, i] * errors[:, i : i + 1]
        return self._replace(errors=errors)


def linear(found: Minima, start: torch.Tensor, sizes, step: torch.Tensor) -> Linear:
    """The linear problem at each minimum, for a ``start (k, P)`` and step sizes ``step (k,)``."""
    jacobian = jacobians(found.theta, found.x, sizes)
    offset = outputs(found.theta, found.x, sizes) - found.y
    errors = (jacobian @ (start - found.theta)[..., None])[..., 0] + offset
    return Linear(errors, jacobian @ jacobian.mT * step[:, None, None])


def times_to_shrink(problem: Linear, factors: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Epochs until linear SGD has shrunk its root mean square error by ``factors (k,)``, log-linear between epochs.

    Raises ``ValueError`` if ``orders (epochs, n)`` end before that.
    """
    norms = [problem.errors.norm(dim=1)]
    for order in orders:
        problem = problem.after(order)
        norms.append(problem.errors.norm(dim=1))
    logs = torch.stack(norms).log().numpy()
    below = logs <= logs[0] + np.log(factors)
    if not below[-1].all():
        raise ValueError(f"after {len(orders)} epochs linear SGD has not shrunk errors by {factors[~below[-1]].min():g}")
    last, k = below.argmax(axis=0), np.arange(len(factors))
    before = np.maximum(last - 1, 0)
    fall = np.minimum(logs[last, k] - logs[before, k], -1e-300)
    return before + (logs[0] + np.log(factors) - logs[before, k]) / fall


class Descent(NamedTuple):
    """Mean squared errors ``risk (epochs + 1, k)`` of SGD, and ``remainder``: those of its distance from linear SGD."""

    risk: np.ndarray
    remainder: np.ndarray


def sgd(found: Minima, start: torch.Tensor, sizes, step: torch.Tensor, orders: np.ndarray) -> Descent:
    """SGD on squared error, an example a step without replacement, from ``start (k, P)`` close to the minima ``found``.

    ``step (k,)`` is the constant step size of each network; ``orders (epochs, n)`` the order of examples in each epoch.
    With labels in ``found`` that the minimum does not fit, only ``risk`` means anything.
    """
    problem, now, rows = linear(found, start, sizes, step), start.clone(), []
    for order in [[], *orders]:
        problem = problem.after(order)
        for i in order:
            now = _one_step(now, found.x[:, i : i + 1], found.y[:, i : i + 1], sizes, step)
        with torch.no_grad():
            residual = outputs(now, found.x, sizes) - found.y
        rows.append((residual.square().mean(1), (residual - problem.errors).square().mean(1)))
    return Descent(*(torch.stack(column).numpy() for column in zip(*rows)))


def _one_step(theta, x, y, sizes, step):
    theta = theta.detach().requires_grad_()
    loss = (outputs(theta, x, sizes) - y).square().sum() / 2
    return (theta - step[:, None] * torch.autograd.grad(loss, theta)[0]).detach()


def step_sizes(theta: torch.Tensor, x: torch.Tensor, sizes) -> torch.Tensor:
    """1 / max_i |grad f(x_i)|^2 at the minimum, ``(k,)``: the largest step that overshoots on no example."""
    return 1 / jacobians(theta, x, sizes).square().sum(-1).amax(1)


def contraction(theta: torch.Tensor, x: torch.Tensor, sizes, step: torch.Tensor) -> np.ndarray:
    """By what factor an epoch of linear SGD at the minimum shrinks errors in the long run, ``(k,)``.

    The spectral radius of the product over examples of (1 - step times the kernel's column): linear algebra at the minimum,
    without any run of SGD. Examples come in the order in which they are stored.
    """
    jacobian = jacobians(theta, x, sizes)
    kernel = jacobian @ jacobian.mT * step[:, None, None]
    epoch = torch.eye(x.shape[1], dtype=kernel.dtype).repeat(len(x), 1, 1)
    for i in range(x.shape[1]):
        epoch = epoch - kernel[:, :, i : i + 1] * epoch[:, i : i + 1]
    return torch.linalg.eigvals(epoch).abs().amax(1).numpy()
