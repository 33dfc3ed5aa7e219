"""Small ReLU networks that fit any labels, written down instead of trained, and how many pieces such networks have.

Three constructions, each a `torch.nn.Module` in float64 that can be called at once:

* `memorizer`: two hidden layers with d1 d2 = 4 N units fit N points with labels in [-1, 1];
* `one_hot`: a third hidden layer of 4 units a class turns that into one output a class, exactly 0 or 1;
* `residual_memorizer`: residual blocks with about 4 N / d units in all, for points of R^d in general position.

That networks of this size suffice is a theorem of Yun, Sra and Jadbabaie (2019, arXiv 1810.07770, abstract). The weights
here follow a derivation of our own, which the docstrings give, so that nothing has to be taken on trust.

10,000 points take about a second on one core, nearly all of it for the choice of a direction among 32 (November 2026).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

TRAPEZOID = np.array([1.0, -1.0, -1.0, 1.0])  # r(t+b) - r(t+a) - r(t-a) + r(t-b): a plateau on |t| < a, zero from b on
EDGES = np.array([1 / 2, 1 / 4, -1 / 4, -1 / 2])  # b, a, -a, -b in shares of the distance between neighbours
CHOICES = 16  # random hyperplanes, of which the one with the widest margin is taken
SLACK = 1.5  # units that must saturate are driven this much further than exact arithmetic needs


class Memorizer(nn.Module):
    """Linear layers with ReLU between them, float64; called on ``(n, d)`` it returns ``(n, outputs)``."""

    def __init__(self, affine: list[tuple[np.ndarray, np.ndarray]]):
        """``affine`` are pairs of a weight ``(out, in)`` and a bias ``(out,)``, one a layer."""
        super().__init__()
        modules = [module for pair in affine for module in (_linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*modules[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    @property
    def affine(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weight and bias of each layer."""
        return [(layer.weight.numpy(force=True), layer.bias.numpy(force=True)) for layer in self.layers[::2]]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(layer.out_features for layer in self.layers[:-1:2])


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1], device="meta").to_empty(device="cpu").double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer


def parameters(network: nn.Module) -> int:
    """Number of weights and biases."""
    return sum(part.numel() for part in network.parameters())


def largest_weight(network: nn.Module) -> float:
    """The largest absolute value among weights and biases."""
    return max(part.abs().max().item() for part in network.parameters())


def shape(n: int) -> tuple[int, int]:
    """Groups p and units q, q even, with p q >= n as small as possible and neither above twice the other.

    The network has widths 2p and 2q, hence d1 d2 = 4 p q, which is 4 n wherever n factors suitably.
    """
    largest = int(2 * np.sqrt(n)) + 2
    choices = [(max(-(-n // q), 1), q) for q in range(2, largest + 1, 2)]
    square = [(p, q) for p, q in choices if p <= 2 * q and q <= 2 * p]
    return min(square, key=lambda pair: (pair[0] * pair[1], sum(pair)))


class Arrangement(NamedTuple):
    """Points sorted along a direction into p groups of q, and what the first layer makes of them.

    ``slope (p,)`` and ``shift (p,)``: unit j of the first layer is clip(slope_j (u, x) + shift_j, -1, 1), which runs from
    one end to the other within group j and is constant outside. ``signs (p,)`` tell which way. ``owner (p, q)``: the
    point of each group that unit k of the second layer looks after, -1 for a dummy. ``value (p, q)``: unit j of the
    first layer at that point, which with alternating signs grows with k in every group.
    """

    direction: np.ndarray
    slope: np.ndarray
    shift: np.ndarray
    signs: np.ndarray
    owner: np.ndarray
    value: np.ndarray


def arrange(x: np.ndarray, direction: np.ndarray, alternate: bool = True) -> Arrangement:
    """Groups of the points ``x (n, d)`` along ``direction (d,)``, filled up with dummies behind the last point.

    Without ``alternate`` all units of the first layer rise, and the second layer takes every group in the same order: a
    control. (To change the signs alone would change nothing, for the weights behind them would change theirs.) Raises
    ``ValueError`` that names two points with the same projection, as equal points have.
    """
    p, q = shape(len(x))
    line, owner = _sorted_line(x @ direction, p * q)
    line, owner = line.reshape(p, q), owner.reshape(p, q)
    borders = (line[1:, 0] + line[:-1, -1]) / 2
    step = np.diff(line.ravel()).mean()
    low, high = np.concatenate([[line[0, 0] - step], borders]), np.concatenate([borders, [line[-1, -1] + step]])
    signs = np.where(np.arange(p) % 2, -1.0, 1.0) if alternate else np.ones(p)
    slope, shift = signs * 2 / (high - low), -signs * (low + high) / (high - low)
    value = slope[:, None] * line + shift[:, None]
    falls = signs < 0
    value[falls], owner[falls] = value[falls, ::-1], owner[falls, ::-1]
    return Arrangement(direction, slope, shift, signs, owner, value)


def _sorted_line(projected: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(projected)
    line = projected[order]
    tied = np.flatnonzero(np.diff(line) <= 0)
    if len(tied):
        first, second = sorted(order[tied[0] : tied[0] + 2].tolist())
        raise ValueError(f"points {first} and {second} have the same projection; the points must be distinct")
    step = np.diff(line).mean() if len(line) > 1 else 1.0
    dummies = size - len(line)
    return (
        np.concatenate([line, line[-1] + step * np.arange(1, dummies + 1)]),
        np.concatenate([order, np.full(dummies, -1)]),
    )


def second_layer(at: Arrangement, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``(q, p)`` and biases ``(q,)`` that give unit k the value ``targets[l, k]`` at the point it owns in group l.

    At that point the units before l show s_j and those behind it -s_j, so two consecutive equations differ in two
    terms: (s_l - t_l) W_l + (s_(l+1) + t_(l+1)) W_(l+1) = difference of the targets, with t the `Arrangement.value`.
    So W_1 sets all the others, and with alternating signs all of them grow with it. W_1 is the least with which every
    W_l times the distance to the next point of group l exceeds 2: then unit k is saturated at all points but its own,
    at +1 where the owner stands behind k, at -1 where it stands before.
    """
    p, q = targets.shape
    zero = np.zeros((p - 1, q))
    growth, offset = _recursion(at, zero, np.ones(q)), _recursion(at, np.diff(targets, axis=0), np.zeros(q))
    needed = np.where(growth > 0, (2 * SLACK / _room(at.value) - offset) / np.where(growth > 0, growth, 1), -np.inf)
    weight = _recursion(at, np.diff(targets, axis=0), needed.max(axis=0))
    bias = targets[0] - at.value[0] * weight[0] + (at.signs[1:, None] * weight[1:]).sum(axis=0)
    return weight.T, bias


def _recursion(at: Arrangement, differences: np.ndarray, first: np.ndarray) -> np.ndarray:
    weight = np.empty_like(at.value)
    weight[0] = first
    for j, step in enumerate(differences):
        carried = (at.signs[j] - at.value[j]) * weight[j]
        weight[j + 1] = (step - carried) / (at.signs[j + 1] + at.value[j + 1])
    return weight


def _room(value: np.ndarray) -> np.ndarray:
    """Distance of each entry to its nearest neighbour in the row."""
    gaps = np.abs(np.diff(value, axis=1))
    ends = np.full((len(value), 1), np.inf)
    return np.minimum(np.hstack([ends, gaps]), np.hstack([gaps, ends]))


def memorizer(
    x: np.ndarray,
    y: np.ndarray,
    generator: np.random.Generator,
    directions: int = 32,
    alternate_groups: bool = True,
    alternate_units: bool = True,
) -> Memorizer:
    """Two hidden ReLU layers that map each of ``x (n, d)`` to its label ``y (n,)`` or ``(n, outputs)`` in [-1, 1].

    Widths are 2p and 2q for each output, with p q >= n (`shape`). Write H(t) = r(t+1) - r(t-1) - 1 for the hard tanh made
    of two ReLUs. Unit k of the second layer shows v_k y at the points it owns, and at all others +1 or -1, as the owner
    m of the point stands behind k or before it (`second_layer`). With v_k = -1, +1, -1, ... and q even the others add up
    to -1 whatever m is, so 1 + sum_k v_k H(z_k) = v_m v_m y = y.

    Of ``directions`` random directions the one with the least weights in the second layer is taken. Without
    ``alternate_groups`` the signs of the first layer are all +, without ``alternate_units`` all v_k are: controls, in
    which the argument breaks. Raises ``ValueError`` for labels outside [-1, 1], values that are not finite, other
    shapes, and points that are not distinct.
    """
    x, y = _checked(x, y)
    tried = (arrange(x, direction, alternate_groups) for direction in _directions(x, directions, generator))
    v = np.where(np.arange(shape(len(x))[1]) % 2, 1.0, -1.0) if alternate_units else np.ones(shape(len(x))[1])
    built = ((at, [second_layer(at, v * _targets(at, column)) for column in y.T]) for at in tried)
    at, units = min(built, key=lambda pair: max(np.abs(weight).max() for weight, _ in pair[1]))
    return _assemble(at, units, v)


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or not len(x):
        raise ValueError(f"x must be (n, d) and y (n,) or (n, outputs) with n > 0, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite")
    if np.abs(y).max() > 1:
        raise ValueError(f"labels must lie in [-1, 1], but one is {y.flat[np.abs(y).argmax()]:g}; scale them first")
    return x, y


def _directions(x: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    if count < 1:
        raise ValueError(f"at least one direction must be tried, not {count}")
    drawn = generator.standard_normal((count, x.shape[1]))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _targets(at: Arrangement, labels: np.ndarray) -> np.ndarray:
    return np.where(at.owner < 0, 0.0, labels[at.owner])


def _assemble(at: Arrangement, units: list, v: np.ndarray) -> Memorizer:
    """The layers in ReLUs: each hard tanh is a pair, and its constant -1 goes into the next bias."""
    weight, bias = np.vstack([each for each, _ in units]), np.concatenate([each for _, each in units])
    last = np.kron(np.eye(len(units)), v)
    return Memorizer(
        [
            _pairs(np.outer(at.slope, at.direction), at.shift),
            _pairs(_split(weight), bias - weight.sum(axis=1)),
            (_split(last), 1 - last.sum(axis=1)),
        ]
    )


def _pairs(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two ReLUs for each hard tanh, switching on at -1 and at +1."""
    return weight.repeat(2, axis=0), (bias[:, None] + [1.0, -1.0]).ravel()


def _split(weight: np.ndarray) -> np.ndarray:
    return np.kron(weight, [1.0, -1.0])


def codes(classes: int) -> np.ndarray:
    """One label in [-1, 1] for each class, evenly spaced, ``(classes,)``."""
    if classes < 2:
        raise ValueError(f"there must be at least two classes, not {classes}")
    return np.linspace(-1, 1, classes)


def one_hot(network: Memorizer, classes: int) -> Memorizer:
    """Puts a hidden layer of 4 units a class behind a scalar ``network`` fitted to `codes`: outputs ``(n, classes)``.

    Each class gets a trapezoid around its code, 1 within a quarter of the distance between codes and 0 from half of it
    on. So the output is exact wherever the scalar network errs by less than a quarter of that distance.
    """
    distance = 2 / (classes - 1)
    *hidden, (weight, bias) = network.affine
    edges = bias - codes(classes)[:, None] + EDGES * distance
    third = (np.repeat(weight, 4 * classes, axis=0), edges.ravel())
    return Memorizer([*hidden, third, (np.kron(np.eye(classes), TRAPEZOID) * 4 / distance, np.zeros(classes))])


# Points in general position


class ResidualMemorizer(nn.Module):
    """x -> x + V r(U x + b), block after block, then a `Memorizer` with one hidden layer; returns ``(n, classes)``."""

    def __init__(self, blocks: list[Memorizer], head: Memorizer):
        super().__init__()
        self.blocks, self.head = nn.ModuleList(blocks), head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each block and of the hidden layer of the head."""
        return tuple(width for block in [*self.blocks, self.head] for width in block.widths)


class Slab(NamedTuple):
    """A hyperplane (normal, x) = offset through at most d points of one class; others keep at least ``margin`` away."""

    normal: np.ndarray
    offset: float
    margin: float
    label: int = 0


def residual_memorizer(x: np.ndarray, labels: np.ndarray, blocks: int, generator: np.random.Generator) -> ResidualMemorizer:
    """Residual blocks that sort the points ``x (n, d)`` by class ``labels (n,)``; the head reads off the class.

    The points of a class are taken d at a time. A hyperplane through d points in general position contains no other
    point, so 4 ReLUs, a trapezoid across it, respond to these d points and to nothing else. The block pushes them along
    a common direction by a distance that belongs to their class. The distance is so large that a pushed point comes
    near none of the hyperplanes of later blocks, and that the classes end up in disjoint intervals, which 4 ReLUs a
    class tell apart. In all there are 4 sum_c ceil(n_c / d) + 4 classes units.

    Raises ``ValueError`` for points that are not in general position, which it names, or so nearly not that float64
    cannot tell, for shapes that do not fit, and for more blocks than hyperplanes.
    """
    x, labels = np.asarray(x, dtype=float), np.asarray(labels)
    if x.ndim != 2 or labels.shape != x.shape[:1] or not len(x) or labels.min() < 0:
        raise ValueError(f"x must be (n, d) and labels (n,) from 0 on, n > 0, not {x.shape} and {labels.shape}")
    slabs = _slabs(x, labels, generator)
    if not 1 <= blocks <= len(slabs):
        raise ValueError(f"blocks is {blocks}; it must lie between 1 and the number of hyperplanes, {len(slabs)}")
    direction, step = _push(x, slabs, generator)
    _check_precision(x, slabs, step)
    order = generator.permutation(len(slabs))
    parts = [[slabs[i] for i in part] for part in np.array_split(order, blocks)]
    return ResidualMemorizer([_block(part, direction, step) for part in parts], _head(x, labels, direction, step))


def _slabs(x: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> list[Slab]:
    """Slabs for all points, class by class; of 16 random choices of the next d points that with the widest slab."""
    slabs = []
    for label in np.unique(labels):
        left = np.flatnonzero(labels == label)
        while len(left):
            draws = (generator.choice(left, size=min(len(left), x.shape[1]), replace=False) for _ in range(CHOICES))
            slab, chosen = max(((_slab(x, draw, generator), draw) for draw in draws), key=lambda pair: pair[0].margin)
            _check_position(x, slab, chosen)
            slabs.append(slab._replace(label=int(label)))
            left = np.setdiff1d(left, chosen)
    return slabs


def _slab(x: np.ndarray, chosen: np.ndarray, generator: np.random.Generator) -> Slab:
    """Through the ``chosen`` points; where fewer than d leave a choice, a random one of the hyperplanes."""
    centre = x[chosen].mean(axis=0)
    _, sizes, rows = np.linalg.svd(x[chosen] - centre)
    flat = rows[int((sizes > 1e-10 * np.abs(x).max()).sum()) :]
    normal = generator.standard_normal(len(flat)) @ flat
    normal /= np.linalg.norm(normal)
    return Slab(normal, float(centre @ normal), float(np.delete(np.abs((x - centre) @ normal), chosen).min(initial=1)))


def _check_position(x: np.ndarray, slab: Slab, chosen: np.ndarray) -> None:
    if slab.margin <= 1e-9 * np.abs(x).max():
        distance = np.abs(x @ slab.normal - slab.offset)
        distance[chosen] = np.inf
        raise ValueError(
            f"the points are not in general position: point {distance.argmin()} lies on the hyperplane through points "
            f"{', '.join(map(str, chosen[:3]))} and so on; no d + 1 points may lie on one hyperplane"
        )


def _push(x: np.ndarray, slabs: list[Slab], generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Direction and step: class c moves by (c + 1) steps, of which one leaves the reach of every slab."""
    drawn = _directions(x, 1000, generator)
    slants = np.abs(np.array([slab.normal for slab in slabs]) @ drawn.T).min(axis=0)
    reach = np.linalg.norm(x - x.mean(axis=0), axis=1).max()
    return drawn[slants.argmax()], float(4 * reach / slants.max())


def _check_precision(x: np.ndarray, slabs: list[Slab], step: float) -> None:
    """What rounding leaves of slabs that should answer 0 must not move a point out of a later slab."""
    narrowest = min(slab.margin for slab in slabs)
    heaviest = 8 * step * sum(slab.label + 1 for slab in slabs) / narrowest
    if heaviest * np.finfo(float).eps * np.abs(x).max() > narrowest / 16:
        raise ValueError(
            f"the points are too close to not being in general position for float64: a point lies {narrowest:.1e} from a "
            f"hyperplane through {x.shape[1]} others. Spread the points or use more digits"
        )


def _block(slabs: list[Slab], direction: np.ndarray, step: float) -> Memorizer:
    """All ``slabs`` side by side: 1 near the hyperplane, 0 from half its margin on, times the push of its class."""
    normals = np.repeat([slab.normal for slab in slabs], 4, axis=0)
    bias = np.concatenate([EDGES * slab.margin - slab.offset for slab in slabs])
    rates = np.concatenate([TRAPEZOID * 4 * (slab.label + 1) * step / slab.margin for slab in slabs])
    return Memorizer([(normals, bias), (np.outer(direction, rates), np.zeros(len(direction)))])


def _head(x: np.ndarray, labels: np.ndarray, direction: np.ndarray, step: float) -> Memorizer:
    """A trapezoid around the interval of each class along ``direction``."""
    classes = int(labels.max()) + 1
    centre = x.mean(axis=0) @ direction + step * np.arange(1, classes + 1)
    hidden = (np.tile(direction, (4 * classes, 1)), (EDGES * step - centre[:, None]).ravel())
    return Memorizer([hidden, (np.kron(np.eye(classes), TRAPEZOID) * 4 / step, np.zeros(classes))])


# Pieces on a line


def most_intervals(d1: int, d2: int) -> int:
    """d1 d2 + d1 + d2 + 1: into no more intervals do two hidden ReLU layers cut a line.

    The first layer has at most d1 breakpoints. On each of the d1 + 1 intervals between them a unit of the second layer
    is affine before its ReLU, so it adds one breakpoint at most. That makes d1 + d2 (d1 + 1) breakpoints.
    """
    return d1 * d2 + d1 + d2 + 1


def fewest_errors(n: int, intervals: int) -> int:
    """The least number of wrong signs among ``n`` alternating ones for a function affine on each of ``intervals``.

    Such a function changes its sign at most once an interval; the labels do so n - 1 times, and a wrong point takes away
    two changes at most.
    """
    return max(0, -((intervals - (n - 1)) // 2))


def breakpoints(network: Memorizer, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where on the line origin + t direction a ReLU switches, ascending t, for a network of any number of layers."""
    found = np.empty(0)
    for depth in range(len(network.widths)):
        at = np.concatenate([[-1.0], found, [1.0]])
        if len(found):
            at[[0, -1]] = found[0] - 1, found[-1] + 1
        with torch.no_grad():
            values = network.layers[: 2 * depth + 1](torch.from_numpy(origin + at[:, None] * direction)).numpy()
        found = np.union1d(found, _zeros(at, values))
    return found


def _zeros(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Zeros of functions that are affine between the points ``at (k,)`` and go on beyond the ends, ``values (k, units)``."""
    low, high = at[:-1].copy(), at[1:].copy()
    low[0], high[-1] = -np.inf, np.inf
    slope = np.diff(values, axis=0) / np.diff(at)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = at[:-1, None] - values[:-1] / slope
    return np.unique(zero[np.isfinite(zero) & (low[:, None] < zero) & (zero < high[:, None])])


def zigzag(d1: int, d2: int) -> Memorizer:
    """A network of the real line whose values at 0, 1/d2, 2/d2, ..., d1 alternate: -1, 1, -1, ...

    The first layer folds [0, d1] into [0, 1] like a concertina, the second folds that again d2 times. So d1 d2 + 1
    alternating labels at equal distances can be fitted, close to what `most_intervals` allows.
    """
    folds = [(np.ones((d, 1)), -np.arange(d) / scale) for d, scale in ((d1, 1), (d2, d2))]
    turn = [np.where(np.arange(d) % 2, -2.0, 2.0) for d in (d1, d2)]
    for weights in turn:
        weights[0] = 1.0
    return Memorizer([folds[0], (np.outer(np.ones(d2), turn[0]), folds[1][1]), (2 * d2 * turn[1][None], -np.ones(1))])
