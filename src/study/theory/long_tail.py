"""What it costs not to fit: the long-tail theorem in the discrete case, simulated.

A domain of N points has no structure. Each point gets a frequency from a list (the prior), n points are drawn and
labelled, and a learner that leaves a point seen once or twice unfitted pays for it on new data. Theorem 2.3 of Feldman
(2020, arXiv 1906.05271) says how much; `run` draws many such worlds and compares the error that learners make with
what the theorem says.

Every array has axes (draw, point): a draw is one realisation of the frequencies and, where there is one, its sample.
All six problems together take about 20 seconds on one core (October 2025); the measured and the predicted excess error agree
to about 0.5 % where the theorem predicts equality.
"""

import itertools
import zlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import xlog1py, xlogy

from study.subsets import TrialSeed

KINDS = ("zipf", "uniform", "gap")
DEPTH = 40.0  # weights below exp(-40) of the largest are left out: a relative error under 1e-10 with 1e7 values
BANDS = ((0, 1 / 3), (1 / 3, 2), (2, 10), (10, np.inf))  # true frequency times n; the second is the tail of `floor`
MAX_WORLDS = 1_000_000


@dataclass(frozen=True)
class Prior:
    """A frequency prior: the list from which every point's unnormalised frequency is drawn (Feldman 2020, Sec. 2).

    ``zipf`` lists 1, 1/2, ..., 1/N; ``uniform`` lists one value; ``gap`` has ``head_points`` equally frequent heavy
    points and spreads ``tail_mass`` evenly over all the others, with nothing between.
    Raises ``ValueError`` for another kind, for no points, and for a gap prior without both a head and a tail.
    """

    kind: str
    points: int
    head_points: int = 0
    tail_mass: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"unknown prior {self.kind!r}; valid priors: {', '.join(KINDS)}")
        if self.points < 1:
            raise ValueError(f"a prior needs at least one point, not {self.points}")
        if self.kind == "gap" and not (0 < self.head_points < self.points and 0 < self.tail_mass < 1):
            raise ValueError(f"a gap prior needs 0 < head_points < points and 0 < tail_mass < 1, not {self}")

    def frequencies(self) -> np.ndarray:
        """The list, float ``(points,)``; only ratios matter, since draws are normalised."""
        if self.kind == "zipf":
            return 1.0 / np.arange(1, self.points + 1)
        if self.kind == "uniform":
            return np.ones(self.points)
        tail = self.points - self.head_points
        return np.repeat([(1 - self.tail_mass) / self.head_points, self.tail_mass / tail], [self.head_points, tail])


@dataclass(frozen=True)
class Problem:
    """A prior, a sample size ``n`` and a number of labels ``classes``; ``control`` marks those that must show no cost."""

    name: str
    prior: Prior
    n: int
    classes: int
    control: bool = False

    def generator(self, seed: int, part: str) -> np.random.Generator:
        """A stream of its own for each part of each problem, so that adding a problem changes no other."""
        return TrialSeed(seed, zlib.crc32(f"{self.name}/{part}".encode())).generator("analysis")


class Sample(NamedTuple):
    """Worlds and what was seen of them, all ``(draw, point)``: true frequencies, counts in the sample, true labels."""

    frequencies: np.ndarray
    counts: np.ndarray
    labels: np.ndarray


def marginal(prior: Prior, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Realisations of D, float ``(draws, points)``, each row summing to 1.

    For every point a value is drawn from the list, independently and with replacement, and the row is normalised
    (Feldman 2020, Sec. 2). D is random: fixing it at the list itself is another model, with other costs.
    """
    listed = prior.frequencies()
    chosen = listed[generator.integers(len(listed), size=(draws, prior.points))]
    return chosen / chosen.sum(axis=1, keepdims=True)


def every_world(prior: Prior) -> np.ndarray:
    """All equally likely realisations of D, float ``(points ** points, points)``: expectations over them are exact.

    Raises ``ValueError`` beyond a million of them, that is for more than 7 points.
    """
    if prior.points**prior.points > MAX_WORLDS:
        raise ValueError(f"{prior.points} points have too many realisations to list; at most 7 points")
    worlds = np.array(list(itertools.product(prior.frequencies(), repeat=prior.points)))
    return worlds / worlds.sum(axis=1, keepdims=True)


def posterior_means(prior: Prior, counts) -> np.ndarray:
    """E[D(x) | all counts], float ``(points,)``, for a sample with ``counts (points,)``; exact, by listing every world."""
    worlds = every_world(prior)
    weights = np.exp(xlogy(np.asarray(counts), worlds).sum(axis=1))
    return weights @ worlds / weights.sum()


def sample(problem: Problem, draws: int, generator: np.random.Generator, twins: bool = False) -> Sample:
    """Draws worlds and ``problem.n`` observations of each.

    Labels are uniform over the classes and independent from point to point; with ``twins`` the points 2j and 2j + 1
    share theirs, so that a label seen tells something about a point not seen. Raises ``ValueError`` for twins of an odd
    number of points.
    """
    frequencies = marginal(problem.prior, draws, generator)
    counts = generator.multinomial(problem.n, frequencies).astype(np.int32)
    labels = generator.integers(problem.classes, size=counts.shape, dtype=np.int16)
    return Sample(frequencies, counts, _twinned(labels) if twins else labels)


def _twinned(labels: np.ndarray) -> np.ndarray:
    if labels.shape[1] % 2:
        raise ValueError(f"twins need an even number of points, not {labels.shape[1]}")
    return labels[:, ::2].repeat(2, axis=1)


class Tau(NamedTuple):
    """Posterior mean frequencies: for each of ``counts (l,)`` its ``value (l,)`` and the ``influence (draw, l)`` of each draw.

    The influences are the terms of the linearised ratio; sums of their squares give variances, also of combinations.
    """

    counts: np.ndarray
    value: np.ndarray
    influence: np.ndarray

    @property
    def std_error(self) -> np.ndarray:
        """Monte Carlo standard errors, ``(l,)``; NaN from a single draw."""
        return self.error_of(np.eye(len(self.counts)))

    def error_of(self, weights: np.ndarray) -> np.ndarray:
        """Standard errors of the combinations ``weights (..., l)`` of the values."""
        draws = len(self.influence)
        spread = np.square(weights @ self.influence.T).sum(axis=-1)
        return np.sqrt(spread * draws / (draws - 1)) if draws > 1 else np.full(spread.shape, np.nan)

    def table(self) -> np.ndarray:
        """Values addressed by count, float ``(largest count + 1,)``; 0 at count 0, NaN where not computed."""
        lookup = np.full(self.counts.max() + 1, np.nan)
        lookup[self.counts] = self.value
        lookup[0] = 0.0
        return lookup


def tau(frequencies: np.ndarray, n: int, counts) -> Tau:
    """tau_l = E[a^(l+1) (1-a)^(n-l)] / E[a^l (1-a)^(n-l)], with a distributed as D(x) (Feldman 2020, Theorem 2.3).

    The mean frequency of a point that occurs l times among n draws, by Bayes' rule from that count alone.
    ``frequencies (draw, point)`` are realisations of D; every entry counts as one value of a, and standard errors
    treat rows, not entries, as independent. ``counts`` are the wanted l. Exact in log space for any l and n.
    Raises ``ValueError`` for a count outside 1..n.
    """
    counts = np.unique(np.asarray(counts, dtype=int))
    if len(counts) == 0 or counts[0] < 1 or counts[-1] > n:
        raise ValueError(f"counts must lie in 1..{n}, not {counts.tolist()}")
    draws, points = frequencies.shape
    order = np.argsort(frequencies, axis=None, kind="stable")
    alpha, draw = frequencies.ravel()[order], order // points
    ratios = [_ratio(alpha, draw, draws, int(count), n) for count in counts]
    return Tau(counts, np.array([value for value, _ in ratios]), np.stack([terms for _, terms in ratios], axis=1))


def _ratio(alpha: np.ndarray, draw: np.ndarray, draws: int, count: int, n: int) -> tuple[float, np.ndarray]:
    """tau for one count from sorted ``alpha`` and the draw that each value belongs to, with the influence of each draw."""
    first, last, largest = _window(alpha, count, n)
    alpha, draw = alpha[first:last], draw[first:last]
    weight = np.exp(_log_weight(alpha, count, n) - largest)
    above = np.bincount(draw, alpha * weight, minlength=draws)
    below = np.bincount(draw, weight, minlength=draws)
    value = above.sum() / below.sum()
    return value, (above - value * below) / below.sum()


def _window(alpha: np.ndarray, count: int, n: int) -> tuple[int, int, float]:
    """Where in sorted ``alpha`` the weights matter, and the largest log weight: they rise up to l/n and then fall."""
    def height(index):
        return _log_weight(alpha[index], count, n)

    peak = int(np.searchsorted(alpha, count / n))
    largest = max(height(index) for index in (peak - 1, peak) if 0 <= index < len(alpha))
    first = bisect_left(range(peak), largest - DEPTH, key=height)
    last = peak + bisect_left(range(peak, len(alpha)), DEPTH - largest, key=lambda index: -height(index))
    return first, last, largest


def _log_weight(alpha, count: int, n: int):
    return xlogy(count, alpha) + xlog1py(n - count, -alpha)


def tail_weight(frequencies: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """weight([low, high]) = N E[a 1(low <= a <= high)] with its standard error (Feldman 2020, Sec. 2).

    The expected share of the mass of D on points whose frequency lies in the band, from ``frequencies (draw, point)``.
    """
    inside = (low <= frequencies) & (frequencies <= high)
    return mean_and_error((frequencies * inside).sum(axis=1))


def floor(weight: float, n: int) -> float:
    """A lower bound on tau_1: weight([1/(3n), 2/n]) / (5n), for n of at least 3.

    Derivation. Keep only the band in the numerator of tau_1: E[a^2 (1-a)^(n-1)] >= E[a 1(band)] * m, with m the least
    value of g(a) = a (1-a)^(n-1) on the band. g rises up to 1/n and falls after it, so m is taken at an end.
    Left end: log(1-x) >= -x/(1-x) gives (1 - 1/(3n))^(n-1) >= exp(-(n-1)/(3n-1)) >= exp(-1/3), hence
    g >= exp(-1/3)/(3n) > 0.238/n. Right end: n g(2/n) = 2 (1-2/n)^(n-1) is 2/9 at n = 3 and at least 1/4 from n = 4 on.
    So m >= 1/(5n). As E[a 1(band)] = weight/N, the numerator is at least weight/(5nN); the denominator
    E[a (1-a)^(n-1)] is at most E[a] = 1/N. Their ratio is the bound.
    Raises ``ValueError`` for n below 3, where the right end has g(2/n) = 0 (n = 2) or leaves the unit interval (n = 1).
    """
    if n < 3:
        raise ValueError(f"the bound on tau_1 holds for samples of at least 3, not {n}")
    return weight / (5 * n)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over the first axis of independent ``values (draw,)``; the error of one value is NaN."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


class Learner(NamedTuple):
    """A learning algorithm of the discrete problem, given by what it does not fit.

    ``refuses(sample, generator)`` marks the seen points (bool, ``(draw, point)``) that get a random guess in place of
    their label. ``predicted`` is what the theorem says of the excess error: ``equal`` to the bound on average (misfit
    depends on a point's own count), ``above`` (bad guesses elsewhere), or ``open`` (outside the averaged statement).
    """

    name: str
    refuses: Callable[[Sample, np.random.Generator], np.ndarray]
    predicted: str = "equal"
    flip: float = np.nan


def counted(name: str, most: int) -> Learner:
    """Refuses the points that it saw at most ``most`` times; with 0 it fits everything."""
    return Learner(name, lambda seen, generator: seen.counts <= most)


def randomised_response(flip: float) -> Learner:
    """Fits every point but gives its label up for a uniform one with probability ``flip``; raises unless in [0, 1]."""
    if not 0 <= flip <= 1:
        raise ValueError(f"flip rate is {flip}; it must lie in [0, 1]")
    return Learner("randomised response", lambda seen, generator: generator.random(seen.counts.shape) < flip, flip=flip)


def narrow_samples(distinct: float) -> Learner:
    """Refuses singletons only where the sample has fewer than ``distinct`` different points: misfit depends on all counts."""
    def refuses(seen, generator):
        narrow = (seen.counts > 0).sum(axis=1, keepdims=True) < distinct
        return (seen.counts == 1) & narrow

    return Learner("refuses singletons of narrow samples", refuses, predicted="open")


def informed(threshold: float) -> Learner:
    """Refuses singletons whose true frequency is below ``threshold``; no learner that sees only the sample can do this."""
    exact = threshold * (1 - 1e-9)  # a frequency that equals the threshold must not fall below it by rounding
    return Learner("is told the frequencies",
                   lambda seen, generator: (seen.counts == 1) & (seen.frequencies < exact), predicted="open")


def learners(flips, distinct: float, tau1: float) -> list[Learner]:
    """All learners that are compared on independent labels."""
    by_count = [counted("memorizer", 0), counted("refuses singletons", 1), counted("refuses singletons and doubletons", 2)]
    return [*by_count, *(randomised_response(flip) for flip in flips), narrow_samples(distinct), informed(tau1)]


def predict(learner: Learner, seen: Sample, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Predicted labels, ``(draw, point)``: the true one where seen and fitted, a uniform guess elsewhere.

    A guess is right once in ``classes`` times, so a refused point errs with probability (classes - 1) / classes.
    """
    guesses = generator.integers(classes, size=seen.counts.shape, dtype=np.int16)
    fitted = (seen.counts > 0) & ~learner.refuses(seen, generator)
    return np.where(fitted, seen.labels, guesses)


def predict_with_twins(seen: Sample, classes: int, generator: np.random.Generator) -> np.ndarray:
    """Fits every seen point and gives an unseen one the label of its twin where that was seen (labels drawn as twins)."""
    guesses = generator.integers(classes, size=seen.counts.shape, dtype=np.int16)
    return np.where((seen.counts > 0) | _twin_seen(seen), seen.labels, guesses)


def _twin_seen(seen: Sample) -> np.ndarray:
    pairs = seen.counts.reshape(len(seen.counts), -1, 2)[:, :, ::-1]
    return pairs.reshape(seen.counts.shape) > 0


def optimum(seen: Sample, classes: int, twins: bool = False) -> np.ndarray:
    """opt: the least expected error given the sample, ``(draw,)``: a guess on points about whose label nothing is known."""
    unknown = (seen.counts == 0) & ~_twin_seen(seen) if twins else seen.counts == 0
    return (seen.frequencies * unknown).sum(axis=1) * (classes - 1) / classes


def compare(seen: Sample, predictions: np.ndarray, opt: np.ndarray, known: Tau) -> dict[str, float]:
    """Error, optimum, excess error and the theorem's right-hand side over draws, each with a standard error.

    ``gap`` is error minus bound, formed draw by draw, since both sides see the same samples; its standard error adds
    what is not known of tau. ``known`` must hold every count that occurs. All values are shares of new points.
    """
    wrong = predictions != seen.labels
    misfit = wrong & (seen.counts > 0)
    error = (seen.frequencies * wrong).sum(axis=1)
    bound = opt + (known.table()[seen.counts] * misfit).sum(axis=1)
    per_count = np.bincount(seen.counts[misfit], minlength=known.counts.max() + 1)[known.counts] / len(error)
    ours = {"err": error, "opt": opt, "excess": error - opt, "bound": bound, "bound_excess": bound - opt, "gap": error - bound}
    row = {}
    for name, values in ours.items():
        row[name], row[f"{name}_se"] = mean_and_error(values)
    for name in ("bound", "bound_excess", "gap"):
        row[f"{name}_se"] = float(np.hypot(row[f"{name}_se"], known.error_of(per_count)))
    return row | {"misfits": float(misfit.sum(axis=1).mean())}


def by_band(seen: Sample, predictions: np.ndarray, n: int) -> pd.DataFrame:
    """Error within each band of true frequency: which subgroup pays. One row a band that has any mass.

    Columns: ``low, high`` (frequency times n), ``mass`` (share of new points), ``err`` within the band and its standard
    error (ratio of means over draws), ``cost`` = mass * err.
    """
    wrong = seen.frequencies * (predictions != seen.labels)
    rows = []
    for low, high in BANDS:
        inside = (low / n <= seen.frequencies) & (seen.frequencies < high / n)
        mass, errors = (seen.frequencies * inside).sum(axis=1), (wrong * inside).sum(axis=1)
        if mass.any():
            share = errors.mean() / mass.mean()
            error = mean_and_error(errors - share * mass)[1] / mass.mean()
            rows.append({"low": low, "high": high, "mass": mass.mean(), "err": share, "err_se": error, "cost": errors.mean()})
    return pd.DataFrame(rows)


def problems(parameters) -> list[Problem]:
    """The problems of the stage: three priors with a tail near 1/n, two sizes of one of them, and two controls."""
    n, large, classes = parameters.n, parameters.n_large, parameters.classes
    near, rare = (Prior("gap", n, parameters.head_points, mass) for mass in (parameters.tail_near, parameters.tail_rare))
    return [Problem("zipf", Prior("zipf", n), n, classes),
            Problem("zipf, large", Prior("zipf", large), large, classes),
            Problem("uniform", Prior("uniform", n), n, classes),
            Problem("gap, tail near 1/n", near, n, classes),
            Problem("uniform, short tail", Prior("uniform", n), parameters.control_ratio * n, classes, control=True),
            Problem("gap, tail far below 1/n", rare, n, classes, control=True)]


def run(parameters) -> dict[str, pd.DataFrame | dict]:
    """Simulates every problem and returns the stage's tables by name.

    ``parameters`` is the section ``long_tail`` of ``params.yaml``. ``costs`` has one row a problem and learner, ``tau``
    one a problem and count, ``subgroups`` one a problem, learner and band, ``priors`` one a problem, ``example`` one a
    size of the worked Zipf example; ``summary`` holds what claims refer to. Frequencies are shares, never times n,
    except in columns named ``n_...``.
    """
    parts = [_solve(problem, parameters) for problem in problems(parameters)]
    tables = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    tables["example"] = zipf_example(parameters)
    return tables | {"summary": summary(tables)}


def _solve(problem: Problem, parameters) -> dict[str, pd.DataFrame]:
    """All tables of one problem; tau comes from draws of D that share nothing with the simulated samples."""
    frequencies = marginal(problem.prior, parameters.prior_draws, problem.generator(parameters.seed, "tau"))
    seen = sample(problem, parameters.datasets, problem.generator(parameters.seed, "sample"))
    twins = sample(problem, parameters.datasets, problem.generator(parameters.seed, "twins"), twins=True)
    listed = np.arange(1, parameters.counts_reported + 1)
    occurring = np.union1d(np.unique(seen.counts), np.unique(twins.counts))
    known = tau(frequencies, problem.n, np.union1d(listed, occurring[occurring > 0]))
    rows, bands = _learned(problem, parameters, seen, known, expected_distinct(frequencies, problem.n))
    rows += _twin_rows(problem, parameters, twins, known)
    return {"costs": _named(problem, pd.DataFrame(rows)), "subgroups": _named(problem, bands),
            "tau": _named(problem, _tau_table(known, seen, problem.n, len(listed))),
            "priors": _named(problem, pd.DataFrame([_describe(problem, frequencies, seen, known)]))}


def expected_distinct(frequencies: np.ndarray, n: int) -> float:
    """Expected number of different points in a sample of ``n``, over draws of D ``(draw, point)``."""
    return float(-np.expm1(xlog1py(n, -frequencies)).sum(axis=1).mean())


def _learned(problem, parameters, seen, known, distinct) -> tuple[list[dict], pd.DataFrame]:
    """Rows of `compare` and of `by_band` for the learners on independent labels."""
    opt = optimum(seen, problem.classes)
    rows, bands = [], []
    for number, learner in enumerate(learners(parameters.flips, distinct, known.table()[1])):
        predictions = predict(learner, seen, problem.classes, problem.generator(parameters.seed, f"learner {number}"))
        about = {"learner": learner.name, "flip": learner.flip}
        rows.append(about | {"labels": "independent", "predicted": learner.predicted}
                    | compare(seen, predictions, opt, known))
        bands.append(by_band(seen, predictions, problem.n).assign(**about))
    return rows, pd.concat(bands, ignore_index=True)


def _twin_rows(problem, parameters, seen, known) -> list[dict]:
    """Labels that come in pairs: a learner blind to it stays above the bound, one that uses it meets the bound."""
    generator = problem.generator(parameters.seed, "twin learners")
    opt = optimum(seen, problem.classes, twins=True)
    predicted = {"ignores twins": ("above", predict(counted("", 0), seen, problem.classes, generator)),
                 "uses twins": ("equal", predict_with_twins(seen, problem.classes, generator))}
    return [{"learner": name, "flip": np.nan, "labels": "twins", "predicted": verdict}
            | compare(seen, predictions, opt, known) for name, (verdict, predictions) in predicted.items()]


def _named(problem: Problem, frame: pd.DataFrame) -> pd.DataFrame:
    about = pd.DataFrame({"prior": problem.name, "control": problem.control, "N": problem.prior.points, "n": problem.n},
                         index=frame.index)
    return pd.concat([about, frame], axis=1)


def _tau_table(known: Tau, seen: Sample, n: int, listed: int) -> pd.DataFrame:
    """n tau_l for the first ``listed`` counts, with the mean number of points seen that often."""
    occurrences = np.bincount(seen.counts.ravel(), minlength=listed + 1)[1:listed + 1] / len(seen.counts)
    return pd.DataFrame({"count": known.counts[:listed], "n_tau": n * known.value[:listed],
                         "n_tau_se": n * known.std_error[:listed], "points": occurrences})


def _describe(problem: Problem, frequencies: np.ndarray, seen: Sample, known: Tau) -> dict[str, float]:
    """One row about a problem: singletons, tau_1 and tau_2, the weight of the tail and the floor that it gives tau_1."""
    n = problem.n
    weight, weight_error = tail_weight(frequencies, 1 / (3 * n), 2 / n)
    row = {"weight": weight, "weight_se": weight_error, "n_floor": n * floor(weight, n)}
    for count, name in ((1, "singletons"), (2, "doubletons")):
        row[name], row[f"{name}_se"] = mean_and_error((seen.counts == count).sum(axis=1) / n)
        row[f"n_tau{count}"], row[f"n_tau{count}_se"] = n * known.value[count - 1], n * known.std_error[count - 1]
    return row


def singleton_cost(frequencies: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected share of the sample seen once and expected mass of those points, both ``(draw,)``, given ``frequencies``.

    The second is what a learner that always errs on singletons loses; both are sums over points, with no sampling.
    """
    once = frequencies * np.exp(xlog1py(n - 1, -frequencies))
    return once.sum(axis=1), n * (frequencies * once).sum(axis=1)


def zipf_example(parameters) -> pd.DataFrame:
    """Zipf's law with N = n, from ``example_points / 500`` to ``example_points``: singletons and what refusing them costs.

    ``model`` is ``random`` (frequencies drawn from the list, as the theorem has it) or ``fixed`` (D is the list).
    ``cost`` supposes an error on every singleton; a guess among k labels errs (k-1)/k as often.
    """
    rows = []
    for points in (parameters.example_points // divisor for divisor in (500, 50, 5, 1)):
        prior = Prior("zipf", points)
        generator = Problem(f"example {points}", prior, points, parameters.classes).generator(parameters.seed, "example")
        fixed = prior.frequencies()[None] / prior.frequencies().sum()
        drawn = np.concatenate([np.stack(singleton_cost(marginal(prior, 1, generator), points), axis=-1)
                                for _ in range(parameters.example_draws)])
        rows += [_example_row("random", points, drawn), _example_row("fixed", points, np.stack(singleton_cost(fixed, points), axis=-1))]
    return pd.DataFrame(rows)


def _example_row(model: str, points: int, drawn: np.ndarray) -> dict[str, float]:
    """One row from ``drawn (draw, 2)``; nothing is random about the fixed model, so its errors are 0."""
    singles, cost = drawn.T
    row = {"model": model, "N": points, "n": points}
    row["singletons"], row["singletons_se"] = mean_and_error(singles)
    row["cost"], row["cost_se"] = mean_and_error(cost)
    row["n_tau1"] = row["cost"] / row["singletons"]
    row["n_tau1_se"] = mean_and_error(cost - row["n_tau1"] * singles)[1] / row["singletons"]
    return {name: 0.0 if model == "fixed" and name.endswith("_se") else value for name, value in row.items()}


def summary(tables: dict[str, pd.DataFrame]) -> dict:
    """What claims and prose refer to, measured quantities as ``{"value", "std_error"}``."""
    costs, example = tables["costs"], tables["example"]
    equal = costs[(costs.predicted == "equal") & (costs.gap_se > 0)]
    worked = example[(example.N == example.N.max())].set_index("model")
    return {"equality": {"comparisons": len(equal), "largest_z": float((equal.gap / equal.gap_se).abs().max())},
            "problems": {_slug(name): _problem_summary(name, tables) for name in costs.prior.unique()},
            "zipf_example": {model: _measured(row, ("singletons", "n_tau1", "cost")) | {"N": int(row.N), "n": int(row.n)}
                             for model, row in worked.iterrows()}}


def _problem_summary(name: str, tables: dict[str, pd.DataFrame]) -> dict:
    prior = tables["priors"].query("prior == @name").iloc[0]
    costs = tables["costs"].query("prior == @name")
    quantities = ("err", "opt", "excess", "bound", "bound_excess", "gap")
    described = _measured(prior, ("n_tau1", "n_tau2", "singletons", "doubletons", "weight"))
    return {"control": bool(prior.control), "N": int(prior.N), "n": int(prior.n)} | described | {
        "learners": {_slug(row.learner if np.isnan(row.flip) else f"{row.learner} {row.flip:g}"): _measured(row, quantities)
                     for _, row in costs.iterrows()}}


def _measured(row, names) -> dict[str, dict[str, float]]:
    return {name: {"value": float(row[name]), "std_error": float(row[f"{name}_se"])} for name in names}


def _slug(text: str) -> str:
    """``gap, tail near 1/n`` -> ``gap_tail_near_1_n``: a name that needs no escaping in a JSON pointer."""
    return "_".join("".join(letter if letter.isalnum() else " " for letter in text).split())
