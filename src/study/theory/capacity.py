"""Stage `capacity`: how few ReLUs can memorize, built, measured, and set beside what training finds.

Yun, Sra and Jadbabaie (2019, arXiv 1810.07770) prove that two hidden layers with a number of units of the order of sqrt(N)
fit any labels of N distinct points, that no fewer do in the worst case, that residual networks need far fewer than N
units for points in general position, and that SGD started near a memorizing minimum quickly finds a point of much
smaller risk. `run` builds the networks (`relu_memorizers`), trains others (`capacity_training`) and returns tables:

* `fits`: the constructions on random points, on lines and on pictures, in float64 and float32;
* `precision`: wrong labels against the bits that each weight keeps;
* `controls`: the constructions without their alternating signs, with the last layer also fitted anew;
* `intervals`: into how many pieces networks cut a line, beside the bound;
* `training`: what Adam reaches at the same widths;
* `residual`: residual networks, and the points they must refuse;
* `descents`, `exponents`: SGD from near a minimum.

A label counts as wrong if another class's code is nearer to the answer. About 45 seconds of one core; but for the
exponents and the shares that Adam reaches, all is arithmetic that either holds or does not (November 2026).
"""

import copy
import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress

from study import data as datasets
from study import quantities
from study.data import DataError, unit_floats
from study.subsets import TrialSeed
from study.theory import capacity_training as training
from study.theory import relu_memorizers as relu
from study.theory.relu_memorizers import Memorizer

LINES = ("alternating line", "scattered line")
VARIANTS = {"as proved": {}, "groups all rise": {"alternate_groups": False}, "units all +": {"alternate_units": False}}
START, HALF_WAY, ASKED, REMAINDER = "at the start", "half-way", "after the epochs asked for", "distance from linear SGD"
TASKS = ("random points", "alternating line", "two halves of a line")


class Problem(NamedTuple):
    """Points ``x (n, d)`` in float64 with class labels ``labels (n,)`` into ``classes``; a test split for pictures."""

    name: str
    x: np.ndarray
    labels: np.ndarray
    classes: int
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None

    @property
    def y(self) -> np.ndarray:
        """Codes of the labels in [-1, 1]."""
        return relu.codes(self.classes)[self.labels]


def generator_of(section, part: str) -> np.random.Generator:
    """A stream of its own for each part, so that adding one changes no other."""
    return TrialSeed(section.seed, zlib.crc32(part.encode())).generator("analysis")


def points(name: str, n: int, dimension: int, generator: np.random.Generator) -> Problem:
    """``n`` points of R^dimension.

    ``random points``: Gaussian, ten classes at random. ``scattered line``: uniform on a line, ten classes at random.
    ``alternating line``: equal distances on a line, two classes by turns, which forces the most changes that labels can
    force. ``two halves of a line``: the same points, a class for each half. Raises ``ValueError`` for another name.
    """
    if name == "random points":
        return Problem(name, generator.standard_normal((n, dimension)), generator.integers(10, size=n), 10)
    direction, at = generator.standard_normal(dimension), np.linspace(-1, 1, n)
    if name == "scattered line":
        return Problem(name, np.outer(generator.uniform(-1, 1, n), direction), generator.integers(10, size=n), 10)
    labels = {"alternating line": np.arange(n) % 2, "two halves of a line": (at > 0).astype(int)}
    if name not in labels:
        raise ValueError(f"unknown points {name!r}; valid: random points, {', '.join(LINES)}, two halves of a line")
    return Problem(name, np.outer(at, direction), labels[name], 2)


def pictures(name: str, n: int) -> Problem:
    """The first ``n`` training pictures of a data set, or all if it has fewer, as rows of numbers in [0, 1].

    Raises `DataError` with the remedy where the data set cannot be had.
    """
    try:
        data = datasets.load(name)
    except DataError as error:
        raise DataError(f"{error}. Or take {name} out of capacity.pictures in params.yaml") from error
    x, x_test = (unit_floats(part).reshape(len(part), -1).astype(float) for part in (data.x_train[:n], data.x_test))
    return Problem(name, x, data.y_train[:n], len(data.classes), x_test, data.y_test)


def shuffled(problem: Problem, generator: np.random.Generator) -> Problem:
    """The same pictures with their labels permuted: for a memorizer nothing should change."""
    return problem._replace(name=f"{problem.name}, labels shuffled", labels=generator.permutation(problem.labels))


def answers(network: torch.nn.Module, x: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
    """What ``network`` says to ``x (n, d)`` with weights and arithmetic in ``dtype``: float64 ``(n, outputs)``."""
    cast = copy.deepcopy(network).to(dtype)
    with torch.no_grad():
        return cast(torch.from_numpy(x).to(dtype)).double().numpy()


def nearest(values: np.ndarray, classes: int) -> np.ndarray:
    """Classes ``(n,)`` of answers: the nearest code of one output, the largest of several; NaN is never right."""
    if values.shape[1] > 1:
        return np.where(np.isnan(values).any(axis=1), -1, values.argmax(axis=1))
    at = (values[:, 0] + 1) / 2 * (classes - 1)
    return np.clip(np.rint(np.where(np.isnan(at), -1, at)), -1, classes).astype(int)


def rounded(network: Memorizer, bits: int) -> Memorizer:
    """The network with every weight and bias rounded to ``bits`` significant binary digits; arithmetic stays float64."""

    def keep(values: np.ndarray) -> np.ndarray:
        mantissa, exponent = np.frexp(values)
        return np.ldexp(np.rint(mantissa * 2.0**bits) / 2.0**bits, exponent)

    return Memorizer([(keep(weight), keep(bias)) for weight, bias in network.affine])


def fit(problem: Problem, generator: np.random.Generator, directions: int) -> list[dict]:
    """Rows of `fits`: both constructions in both precisions."""
    scalar = relu.memorizer(problem.x, problem.y, generator, directions)
    networks = {"two hidden layers": scalar, "one-hot": relu.one_hot(scalar, problem.classes)}
    precisions = {"float64": torch.float64, "float32": torch.float32}
    rows = []
    for name, network in networks.items():
        rows += [_about(problem, name, network, precision, dtype) for precision, dtype in precisions.items()]
    return rows


def _about(problem: Problem, name: str, network: Memorizer, precision: str, dtype: torch.dtype) -> dict:
    values = answers(network, problem.x, dtype)
    wanted = problem.y[:, None] if values.shape[1] == 1 else np.eye(problem.classes)[problem.labels]
    known = problem.y_test is not None and name != "one-hot" and precision == "float64"
    tested = nearest(answers(network, problem.x_test), problem.classes) == problem.y_test if known else np.array([np.nan])
    return {
        "problem": problem.name,
        "N": len(problem.x),
        "d": problem.x.shape[1],
        "classes": problem.classes,
        "network": name,
        "precision": precision,
        "d1": network.widths[0],
        "d2": network.widths[1],
        "units": sum(network.widths),
        "parameters": relu.parameters(network),
        "largest_weight": relu.largest_weight(network),
        "error": float(np.abs(values - wanted).max()),
        "wrong": int((nearest(values, problem.classes) != problem.labels).sum()),
        "test_accuracy": float(tested.mean()),
    }


def fits(section) -> pd.DataFrame:
    """All problems, at all sizes."""
    rows = []
    for name in ("random points", *LINES):
        for n in section.points:
            generator = generator_of(section, f"{name} {n}")
            rows += fit(points(name, n, section.dimension, generator), generator, section.directions)
    for name in section.pictures:
        generator, problem = generator_of(section, name), pictures(name, section.pictures_fitted)
        for each in (problem, shuffled(problem, generator)):
            rows += fit(each, generator, section.directions)
    return pd.DataFrame(rows).assign(share=lambda frame: frame.wrong / frame.N)


def precision(section) -> pd.DataFrame:
    """Wrong labels on random points when every weight keeps only so many bits; ``needed`` is the least with none wrong."""
    rows = []
    for n in section.points:
        generator = generator_of(section, f"precision {n}")
        problem = points("random points", n, section.dimension, generator)
        network = relu.memorizer(problem.x, problem.y, generator, section.directions)
        for bits in section.bits:
            found = nearest(answers(rounded(network, bits), problem.x), problem.classes)
            rows.append({"N": n, "bits": bits, "share": (found != problem.labels).mean()})
    return pd.DataFrame(rows)


def controls(section) -> pd.DataFrame:
    """Each construction without one of its alternations: errors as built, and with the last layer fitted anew."""
    rows = []
    for name in ("random points", *LINES):
        for variant, changes in VARIANTS.items():
            generator = generator_of(section, f"controls {name}")
            problem = points(name, section.control_points, section.dimension, generator)
            network = relu.memorizer(problem.x, problem.y, generator, section.directions, **changes)
            built = answers(network, problem.x)[:, 0]
            for last, values in (("as built", built), ("fitted anew", refitted(network, problem))):
                wrong = nearest(values[:, None], problem.classes) != problem.labels
                row = {"problem": name, "variant": variant, "last_layer": last, "N": len(built)}
                rows.append(row | {"error": np.abs(values - problem.y).max(), "share": wrong.mean()})
    return pd.DataFrame(rows)


def refitted(network: Memorizer, problem: Problem) -> np.ndarray:
    """Answers ``(n,)`` with the last layer fitted to the labels by least squares: the best that these units allow."""
    with torch.no_grad():
        hidden = network.layers[:-1](torch.from_numpy(problem.x)).numpy()
    hidden = np.hstack([hidden, np.ones((len(hidden), 1))])
    scaled = hidden / np.maximum(np.abs(hidden).max(axis=0), 1e-300)
    return scaled @ np.linalg.lstsq(scaled, problem.y)[0]


def intervals(section) -> pd.DataFrame:
    """Pieces of a line: networks as built, a zigzag made for the purpose, random ones, and the bound for each width."""
    rows = []
    for width in section.widths:
        drawn = _random_pieces(width, section.drawn, generator_of(section, f"intervals {width}"))
        row = {"width": width, "bound": relu.most_intervals(width, width), "random": drawn, "built": _built(width)}
        rows.append(row | _zigzag(width))
    return pd.DataFrame(rows)


def _random_pieces(width: int, count: int, generator: np.random.Generator) -> int:
    """The most pieces among so many networks with random weights."""
    sizes = training.layer_sizes(1, (width, width))
    networks = [training.as_memorizer(row, sizes) for row in training.initial(sizes, count, generator)]
    return max(_pieces_of(network) for network in networks)


def _pieces_of(network: Memorizer) -> int:
    return len(relu.breakpoints(network, np.zeros(1), np.ones(1))) + 1


def _zigzag(width: int) -> dict:
    n = width * width + 1
    network, wanted = relu.zigzag(width, width), np.where(np.arange(n) % 2, 1.0, -1.0)
    error = np.abs(answers(network, np.arange(n)[:, None] / width)[:, 0] - wanted).max()
    return {"zigzag": _pieces_of(network), "zigzag_points": n, "zigzag_error": error}


def _built(width: int) -> float:
    """Intervals of the construction on alternating labels, as many as the widths are proved to fit; NaN for odd sizes."""
    n = width * width // 4
    if width % 4:
        return float("nan")
    at = np.linspace(-1, 1, n)[:, None]
    network = relu.memorizer(at, np.where(np.arange(n) % 2, 1.0, -1.0), np.random.default_rng(0))
    return float(_pieces_of(network))


def trained(section) -> pd.DataFrame:
    """What Adam reaches on ``section.trained_points`` points, for each task, width, learning rate and repeat.

    ``share``: least share of wrong signs seen in training. ``fewest``: the share that no network of this width can get
    below on alternating labels, 0 for other tasks. ``intervals``: pieces of the line after training, NaN off a line.
    """
    return pd.concat([_trained_at(section, width) for width in section.widths], ignore_index=True)


def _trained_at(section, width: int) -> pd.DataFrame:
    n, sizes = section.trained_points, training.layer_sizes(section.dimension, (width, width))
    keys = [(task, repeat) for task in TASKS for repeat in range(section.repeats)]
    given = [_task(section, task, repeat) for task, repeat in keys]
    x, y = (torch.from_numpy(np.stack(part)).float() for part in zip(*given))
    rates = len(section.rates)
    theta = training.initial(sizes, rates * len(keys), generator_of(section, f"training {width}")).float()
    x, y, theta = x.expand(rates, *x.shape), y.expand(rates, *y.shape), theta.view(rates, len(keys), -1)
    found = training.adam(theta, x, y, sizes, section.rates, section.steps)
    bound = relu.fewest_errors(n, relu.most_intervals(width, width)) / n
    rows = []
    for i, (rate, (task, repeat)) in enumerate((rate, key) for rate in section.rates for key in keys):
        row = {"task": task, "width": width, "rate": rate, "repeat": repeat, "N": n, "share": found.wrong[i]}
        row |= {"fewest": bound if task == "alternating line" else 0.0}
        rows.append(row | {"intervals": _pieces(found.theta[i], sizes, given[i % len(keys)][0], task)})
    return pd.DataFrame(rows)


def _task(section, task: str, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """Points scaled to unit variance a coordinate, on average, and signs; random signs for random points."""
    generator = generator_of(section, f"{task} {repeat}")
    problem = points(task, section.trained_points, section.dimension, generator)
    signs = np.where(problem.labels % 2, 1.0, -1.0)
    return problem.x / np.sqrt(np.square(problem.x).mean()), signs


def _pieces(theta: torch.Tensor, sizes, x: np.ndarray, task: str) -> float:
    if task == "random points":
        return float("nan")
    return float(len(relu.breakpoints(training.as_memorizer(theta, sizes), np.zeros(sizes[0]), x[-1])) + 1)


def residual(section) -> pd.DataFrame:
    """Residual networks for points in general position, and three sets of points that must be refused.

    ``why`` is empty where the network was built. ``most``: the largest number of alternating labels on a line for which
    a network with these units, in one block, could have enough pieces.
    """
    return pd.DataFrame([_residual_row(section, name, *given) for name, given in _residual_problems(section).items()])


def _residual_problems(section) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    generator = generator_of(section, "residual points")
    n, d = section.residual_points, section.residual_dimension
    gaussian, digits = generator.standard_normal((n, d)), pictures("digits", n)
    noise = section.jitter * generator.standard_normal(digits.x.shape)
    line = np.outer(np.linspace(-1, 1, n), generator.standard_normal(d))
    flat = gaussian * np.where(np.arange(d) == 0, 0.0, 1.0)
    return {
        "random points, 2 classes": (gaussian, generator.integers(2, size=n)),
        "random points, 10 classes": (gaussian, generator.integers(10, size=n)),
        f"digits with noise of {section.jitter:g}": (digits.x + noise, digits.labels),
        "digits": (digits.x, digits.labels),
        "a line, alternating": (line, np.arange(n) % 2),
        "a hyperplane": (flat, generator.integers(2, size=n)),
    }


def _residual_row(section, name: str, x: np.ndarray, labels: np.ndarray) -> dict:
    counts = np.bincount(labels)
    first, last = 4 * int(np.ceil(counts / x.shape[1]).sum()), 4 * len(counts)
    row = {"problem": name, "N": len(x), "d": x.shape[1], "classes": len(counts), "blocks": section.blocks}
    row |= {"units": first + last, "most": relu.most_intervals(first, last) + 1}
    try:
        network = relu.residual_memorizer(x, labels, section.blocks, generator_of(section, f"residual {name}"))
    except ValueError as refusal:
        return row | {"error": np.nan, "wrong": np.nan, "largest_weight": np.nan, "why": str(refusal)}
    values = answers(network, x)
    row |= {"error": np.abs(values - np.eye(len(counts))[labels]).max(), "wrong": (values.argmax(1) != labels).sum()}
    return row | {"largest_weight": relu.largest_weight(network), "why": ""}


class Descents(NamedTuple):
    """Risks ``(epochs + 1, minimum, distance)`` of SGD for both kinds of labels; all others ``(minimum, distance)``.

    ``remainder``: largest mean squared distance from linear SGD over all epochs. ``half_way`` and ``asked``: epochs after
    which linear SGD, by itself, has shrunk its errors by the root of the distance and by the distance. ``switched``: share
    of the ReLUs, over all points, that are on at the minimum and off at the start, or the other way round.
    """

    risk: dict[str, np.ndarray]
    remainder: np.ndarray
    half_way: np.ndarray
    asked: np.ndarray
    switched: np.ndarray


def descend(section) -> Descents:
    """SGD from points at each of ``section.distances`` from each minimum, on its own labels and on permuted ones."""
    generator = generator_of(section, "descents")
    sizes = training.layer_sizes(section.near_dimension, (section.near_width, section.near_width))
    single = training.minima(section.minima, section.near_points, sizes, generator)
    repeats, grid = len(section.distances), (section.minima, len(section.distances))
    found = training.Minima(*(part.repeat_interleave(repeats, 0) for part in single))
    distances = np.tile(section.distances, section.minima)
    start = found.theta + torch.from_numpy(_offsets(found.theta.shape, section.distances, generator))
    step = training.step_sizes(found.theta, found.x, sizes)
    orders = _orders(section, training.contraction(single.theta, single.x, sizes, step[::repeats]), generator)
    problem = training.linear(found, start, sizes, step)
    half, asked = (training.times_to_shrink(problem, factor, orders) for factor in (np.sqrt(distances), distances))
    orders = orders[: int(np.ceil(asked.max()))]
    permuted = found._replace(y=found.y[:, torch.from_numpy(generator.permutation(section.near_points))])
    own, foreign = (training.sgd(each, start, sizes, step, orders) for each in (found, permuted))
    on, switched = (training.preactivations(theta, found.x, sizes) > 0 for theta in (found.theta, start))
    return Descents(
        {"own": own.risk.reshape(-1, *grid), "permuted": foreign.risk.reshape(-1, *grid)},
        own.remainder.max(axis=0).reshape(grid),
        half.reshape(grid),
        asked.reshape(grid),
        (on != switched).double().mean(dim=(1, 2)).numpy().reshape(grid),
    )


def _orders(section, contraction: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Orders of examples for three times the epochs that the slowest contraction is expected to take."""
    epochs = int(np.ceil(3 * np.log(min(section.distances)) / np.log(contraction.max()))) + max(section.epochs, default=0)
    return np.stack([generator.permutation(section.near_points) for _ in range(epochs)])


def _offsets(shape, distances, generator: np.random.Generator) -> np.ndarray:
    """For each minimum one direction, and on it all distances: ``(minima * distances, P)``."""
    drawn = generator.standard_normal((shape[0] // len(distances), 1, shape[1]))
    drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
    return (drawn * np.reshape(distances, (1, -1, 1))).reshape(shape)


def at_times(risk: np.ndarray, times: np.ndarray) -> np.ndarray:
    """``risk (epochs + 1, minimum, distance)`` at the epochs ``times (minimum, distance)``, log-linear between epochs."""
    low = np.minimum(np.floor(times).astype(int), len(risk) - 2)
    part, (i, j) = times - low, np.indices(times.shape)
    return np.exp((1 - part) * np.log(risk[low, i, j]) + part * np.log(risk[low + 1, i, j]))


def measured_risks(section, descents: Descents) -> dict[str, np.ndarray]:
    """Risks ``(minimum, distance)`` by name: at the start, after fixed times, after growing times, and controls."""
    own, foreign = descents.risk["own"], descents.risk["permuted"]
    found = {START: own[0]}
    found |= {f"after {epochs} epochs": own[epochs] for epochs in section.epochs if epochs < len(own)}
    found |= {HALF_WAY: at_times(own, descents.half_way), ASKED: at_times(own, descents.asked)}
    fixed = max(epochs for epochs in (0, *section.epochs) if epochs < len(own))
    found |= {REMAINDER: descents.remainder, f"permuted labels, after {fixed} epochs": foreign[fixed]}
    return found | {f"permuted labels, {ASKED}": at_times(foreign, descents.asked)}


def exponents(risks: dict[str, np.ndarray], distances) -> pd.DataFrame:
    """Slope of log risk against log distance, a line through each minimum: mean over minima with standard error."""
    rows = []
    for name, values in risks.items():
        slopes = [linregress(np.log(distances), np.log(row)).slope for row in values]
        rows.append({"quantity": name} | quantities.mean(np.array(slopes)))
    return pd.DataFrame(rows)


def _descent_table(section, risks: dict[str, np.ndarray], descents: Descents) -> pd.DataFrame:
    """Geometric means over minima, a row a quantity and distance."""
    rows = []
    for name, values in risks.items():
        for j, distance in enumerate(section.distances):
            logs = quantities.mean(np.log10(values[:, j]))
            row = {"quantity": name, "distance": distance, "log10_risk": logs["value"], "log10_risk_se": logs["std_error"]}
            rows.append(row | {"epochs_asked": descents.asked[:, j].mean(), "switched": descents.switched[:, j].mean()})
    return pd.DataFrame(rows)


def run(section) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name; ``section`` is `study.params.Capacity`. See the head of this module."""
    torch.set_num_threads(1)
    descents = descend(section)
    risks = measured_risks(section, descents)
    tables = {
        "fits": fits(section),
        "precision": precision(section),
        "controls": controls(section),
        "intervals": intervals(section),
        "training": trained(section),
        "residual": residual(section),
        "descents": _descent_table(section, risks, descents),
        "exponents": exponents(risks, section.distances),
    }
    return tables | {"summary": summary(tables, section)}


def summary(tables: dict[str, pd.DataFrame], section) -> dict:
    """What claims and prose refer to; shares of wrong labels, units for each point, exponents with standard errors."""
    fits, controls, residual = (tables[name] for name in ("fits", "controls", "residual"))
    exact = fits[fits.precision == "float64"]
    square = exact[exact.network == "two hidden layers"]
    without = controls[(controls.variant != "as proved") & (controls.last_layer == "fitted anew")]
    accepted, line = residual[residual.why == ""], residual[residual.problem == "a line, alternating"].iloc[0]
    return {
        "fits": {"networks": len(exact), "wrong": int(exact.wrong.sum()), "largest_error": exact.error.max()},
        "units_over_root": float((square.units / np.sqrt(square.N)).max()),
        "float32": float(fits[fits.precision == "float32"].share.max()),
        "controls": {"least_error": float(without.error.min()), "least_share": float(without.share.min())},
        "parameters": {"per_point": float((square.parameters / square.N)[square.d == section.dimension].min())},
        "below": below_the_bound(tables["training"], tables["intervals"]),
        "residual": {
            "units_per_point": float((accepted.units / accepted.N).max()),
            "wrong": int(accepted.wrong.sum()),
            "refused": int((residual.why != "").sum()),
            "line_points": int(line.N),
            "line_most": int(line.most),
        },
        "sgd": _named_exponents(tables["exponents"]),
        "adam": adam_needs(tables["training"]),
    }


def _named_exponents(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    found = table.set_index("quantity")[["value", "std_error"]].T.to_dict()
    permuted = [name for name in found if name.startswith("permuted labels, ")]
    names = {"start": START, "half_way": HALF_WAY, "asked": ASKED, "remainder": REMAINDER}
    names |= {"fixed": permuted[0].removeprefix("permuted labels, "), "permuted_fixed": permuted[0]}
    return {key: found.get(name, found[START]) for key, name in (names | {"permuted_asked": permuted[1]}).items()}


def below_the_bound(training: pd.DataFrame, intervals: pd.DataFrame) -> dict[str, float]:
    """Widths too small for the alternating labels: the least share Adam got wrong, the least any network must, and whether
    the construction at the sufficient width 2 sqrt(N) errs."""
    rows = training[training.task == "alternating line"]
    small = rows[rows.fewest > 0]
    return {
        "N": int(rows.N.iloc[0]),
        "widest": int(small.width.max()) if len(small) else 0,
        "necessary": int(np.ceil(np.sqrt(rows.N.iloc[0] - 1) - 1)),
        "sufficient": int(np.ceil(2 * np.sqrt(rows.N.iloc[0]))),
        "least_share": float(small.share.min()) if len(small) else float("nan"),
        "least_over_bound": float((small.share - small.fewest).min()) if len(small) else float("nan"),
        "zigzag_error": float(intervals.zigzag_error.max()),
        "most_of_bound": float((intervals[["random", "built", "zigzag"]].max(axis=1) / intervals.bound).max()),
    }


def adam_needs(training: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For each task the least width at which some learning rate fitted every repeat, NaN if none, and the best shares."""
    found = {}
    for task, rows in training.groupby("task"):
        worst = rows.groupby(["width", "rate"]).share.max().groupby("width").min()
        fitted = worst.index[worst == 0]
        widest = rows[rows.width == rows.width.max()]
        found[task] = {
            "width": float(fitted.min()) if len(fitted) else float("nan"),
            "widest": int(widest.width.iloc[0]),
            "best_at_widest": float(widest.share.min()),
        }
    return found
