"""What it costs not to fit: the long-tail theorem in the discrete case, simulated.

A domain of N points has no structure. Each point gets its frequency from a list (the prior), n points are
drawn and labelled, and a learner that leaves points seen once or twice unfitted pays for it on new data.
Theorem 2.3 of Feldman (2020, arXiv 1906.05271) says how much. `run` draws many such worlds and puts the error
that learners make beside what the theorem says.

Arrays have axes (draw, point): a draw is one realisation of the frequencies, with its sample.
The stage takes about 15 seconds and 0.6 GB on one core. With 1,000 draws of each problem the standard error
of an excess error, measured or predicted, is about half a percent of it (November 2026).
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

from study import quantities
from study.subsets import TrialSeed

KINDS = ("zipf", "uniform", "gap")
DEPTH = 40.0  # weights below exp(-40) of the largest are left out: relative error under 1e-10 with 1e7 values
BANDS = ((0, 1 / 3), (1 / 3, 2), (2, 10), (10, np.inf))  # frequency times n; the second is the tail
MAX_WORLDS = 1_000_000


@dataclass(frozen=True)
class Prior:
    """A frequency prior: the list that points draw their unnormalised frequency from (Feldman 2020).

    ``zipf`` lists 1, 1/2, ..., 1/N; ``uniform`` lists one value; ``gap`` has ``head_points`` equally heavy
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
        head, tail = self.head_points, self.points - self.head_points
        return np.repeat([(1 - self.tail_mass) / head, self.tail_mass / tail], [head, tail])


@dataclass(frozen=True)
class Problem:
    """A prior, a sample size ``n`` and a number of ``labels``; a ``control`` must show no cost."""

    name: str
    title: str
    prior: Prior
    n: int
    labels: int
    control: bool = False

    def generator(self, seed: int, part: str) -> np.random.Generator:
        """A stream of its own for each part of each problem, so that adding a problem changes no other."""
        return TrialSeed(seed, zlib.crc32(f"{self.name}/{part}".encode())).generator("analysis")


class Sample(NamedTuple):
    """Worlds and what was seen of them, all ``(draw, point)``: true frequencies, counts seen, true labels."""

    frequencies: np.ndarray
    counts: np.ndarray
    labels: np.ndarray


def marginal(prior: Prior, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Realisations of D, float ``(draws, points)``, each row summing to 1.

    For every point a value is drawn from the list, independently and with replacement, and the row is
    normalised (Feldman 2020, Sec. 2). Taking the list itself for D is another model, with other costs.
    """
    listed = prior.frequencies()
    chosen = listed[generator.integers(len(listed), size=(draws, prior.points))]
    return chosen / chosen.sum(axis=1, keepdims=True)


def every_world(prior: Prior) -> np.ndarray:
    """All realisations of D, equally likely, float ``(points ** points, points)``: averages are exact.

    Raises ``ValueError`` beyond a million of them, that is for more than 7 points.
    """
    if prior.points**prior.points > MAX_WORLDS:
        raise ValueError(f"{prior.points} points have too many realisations to list; at most 7 points")
    worlds = np.array(list(itertools.product(prior.frequencies(), repeat=prior.points)))
    return worlds / worlds.sum(axis=1, keepdims=True)


def posterior_means(prior: Prior, counts) -> np.ndarray:
    """E[D(x) | the whole sample], float ``(points,)``, given ``counts (points,)``; exact."""
    worlds = every_world(prior)
    weights = np.exp(xlogy(np.asarray(counts), worlds).sum(axis=1))
    return weights @ worlds / weights.sum()


def sample(problem: Problem, draws: int, generator: np.random.Generator, twins: bool = False) -> Sample:
    """Draws worlds and ``problem.n`` observations of each.

    Labels are uniform and independent from point to point. With ``twins`` the points 2j and 2j + 1 share
    theirs, so that a label seen tells something about a point not seen. Raises ``ValueError`` for twins of an
    odd number of points.
    """
    frequencies = marginal(problem.prior, draws, generator)
    counts = generator.multinomial(problem.n, frequencies).astype(np.int32)
    labels = generator.integers(problem.labels, size=counts.shape, dtype=np.int16)
    return Sample(frequencies, counts, _twinned(labels) if twins else labels)


def _twinned(labels: np.ndarray) -> np.ndarray:
    if labels.shape[1] % 2:
        raise ValueError(f"twins need an even number of points, not {labels.shape[1]}")
    return labels[:, ::2].repeat(2, axis=1)


class Tau(NamedTuple):
    """Posterior mean frequencies: ``value (l,)`` for each of ``counts (l,)``, and ``influence (draw, l)``.

    The influences are each draw's term of the linearised ratio; sums of their squares are variances, also
    those of combinations of values.
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
    """tau_l = E[a^(l+1) (1-a)^(n-l)] / E[a^l (1-a)^(n-l)] with a distributed as D(x) (Feldman 2020, Thm 2.3).

    The mean frequency of a point that occurs l times among n draws, by Bayes' rule from that count alone.
    ``frequencies (draw, point)`` are realisations of D; every entry is one value of a, and standard errors
    take rows, not entries, as independent. ``counts`` are the wanted l. Works in log space, for any l and n.
    Raises ``ValueError`` for a count outside 1..n.
    """
    counts = np.unique(np.asarray(counts, dtype=int))
    if len(counts) == 0 or counts[0] < 1 or counts[-1] > n:
        raise ValueError(f"counts must lie in 1..{n}, not {counts.tolist()}")
    draws, points = frequencies.shape
    order = np.argsort(frequencies, axis=None, kind="stable")
    alpha, draw = frequencies.ravel()[order], order // points
    values, influences = zip(*(_ratio(alpha, draw, draws, int(count), n) for count in counts), strict=True)
    return Tau(counts, np.array(values), np.stack(influences, axis=1))


def _ratio(alpha: np.ndarray, draw: np.ndarray, draws: int, count: int, n: int) -> tuple[float, np.ndarray]:
    """tau for one count and each draw's influence; ``alpha`` is sorted, ``draw`` says where it came from."""
    first, last, largest = _window(alpha, count, n)
    alpha, draw = alpha[first:last], draw[first:last]
    weight = np.exp(_log_weight(alpha, count, n) - largest)
    above = np.bincount(draw, alpha * weight, minlength=draws)
    below = np.bincount(draw, weight, minlength=draws)
    value = above.sum() / below.sum()
    return value, (above - value * below) / below.sum()


def _window(alpha: np.ndarray, count: int, n: int) -> tuple[int, int, float]:
    """Where in sorted ``alpha`` weights matter, and the largest log weight: they peak at l/n."""

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

    The expected share of the mass of D that lies on points with a frequency in the band, from
    ``frequencies (draw, point)``.
    """
    inside = (low <= frequencies) & (frequencies <= high)
    return mean_and_error((frequencies * inside).sum(axis=1))


def tau1_floor(weight: float, n: int) -> float:
    """A lower bound on tau_1: weight([1/(3n), 2/n]) / (5n), for n of at least 3.

    Derivation. Let g(a) = a (1-a)^(n-1) and m its least value on the band. Keeping only the band in the
    numerator of tau_1 leaves E[a g(a)] >= m E[a 1(band)] = m weight / N. As g rises up to 1/n and falls after
    it, m is taken at an end of the band.
    Left end: log(1-x) >= -x/(1-x) gives (1 - 1/(3n))^(n-1) >= exp(-(n-1)/(3n-1)) >= exp(-1/3), hence
    n g >= exp(-1/3)/3 > 0.238. Right end: n g(2/n) = 2 (1-2/n)^(n-1) is 2/9 at n = 3 and at least 1/4 from
    n = 4 on. So m >= 1/(5n). The denominator E[g(a)] is at most E[a] = 1/N. The ratio is the bound.
    Raises ``ValueError`` for n below 3, where g vanishes at 2/n (n = 2) or 2/n exceeds 1 (n = 1).
    """
    if n < 3:
        raise ValueError(f"the bound on tau_1 holds for samples of at least 3, not {n}")
    return weight / (5 * n)


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of independent ``values (draw,)``; the error of a single value is NaN."""
    return quantities.known(quantities.mean(values))


class Learner(NamedTuple):
    """A learning algorithm of the discrete problem, given by what it does not fit.

    ``refuses(seen, generator)`` marks the points (bool, ``(draw, point)``) that get a random guess in place
    of the label seen. ``predicted`` is what theory says of the average error: ``equal`` to the bound (misfit
    depends on a point's own count), ``above`` it (bad guesses elsewhere) or ``open`` (neither).
    """

    name: str
    refuses: Callable[[Sample, np.random.Generator], np.ndarray]
    predicted: str = "equal"
    flip: float = np.nan


def up_to(name: str, count: int) -> Learner:
    """Refuses the points it saw at most ``count`` times; with 0 it fits everything."""
    return Learner(name, lambda seen, generator: seen.counts <= count)


def some_singletons(flip: float) -> Learner:
    """Refuses each singleton with probability ``flip``."""
    return Learner(
        "refuses some singletons",
        flip=flip,
        refuses=lambda seen, generator: (seen.counts == 1) & (generator.random(seen.counts.shape) < flip),
    )


def randomised_response(flip: float) -> Learner:
    """Gives up every label, however often seen, for a uniform one with probability ``flip``."""
    return Learner(
        "randomised response", flip=flip, refuses=lambda seen, generator: generator.random(seen.counts.shape) < flip
    )


def narrow_samples(distinct: float) -> Learner:
    """Refuses singletons only in samples with fewer than ``distinct`` different points.

    Its misfit on one point depends on the counts of all the others.
    """

    def refuses(seen, generator):
        narrow = (seen.counts > 0).sum(axis=1, keepdims=True) < distinct
        return (seen.counts == 1) & narrow

    return Learner("refuses singletons of narrow samples", refuses, predicted="open")


def informed(threshold: float) -> Learner:
    """Refuses singletons that are rarer than ``threshold``, which it could not know from the sample."""
    below = threshold * (1 - 1e-9)  # a frequency equal to the threshold must not fall below it by rounding
    return Learner(
        "is told the frequencies",
        predicted="open",
        refuses=lambda seen, generator: (seen.counts == 1) & (seen.frequencies < below),
    )


def learners(flips, distinct: float, tau1: float) -> list[Learner]:
    """All learners that are compared on independent labels."""
    names = ("memorizer", "refuses singletons", "refuses singletons and doubletons")
    refusing = [up_to(name, count) for count, name in enumerate(names)]
    return [*refusing, *map(randomised_response, flips), narrow_samples(distinct), informed(tau1)]


def predict(learner: Learner, seen: Sample, labels: int, generator: np.random.Generator) -> np.ndarray:
    """Predicted labels, ``(draw, point)``: the true one where seen and fitted, a uniform guess elsewhere.

    A guess is right once in ``labels`` times, so a refused point errs with probability (labels - 1) / labels.
    """
    guesses = generator.integers(labels, size=seen.counts.shape, dtype=np.int16)
    fitted = (seen.counts > 0) & ~learner.refuses(seen, generator)
    return np.where(fitted, seen.labels, guesses)


def predict_with_twins(seen: Sample, labels: int, generator: np.random.Generator) -> np.ndarray:
    """Fits every point seen and gives one not seen the label of its twin, where that was seen."""
    guesses = generator.integers(labels, size=seen.counts.shape, dtype=np.int16)
    return np.where((seen.counts > 0) | _twin_seen(seen), seen.labels, guesses)


def _twin_seen(seen: Sample) -> np.ndarray:
    pairs = seen.counts.reshape(len(seen.counts), -1, 2)[:, :, ::-1]
    return pairs.reshape(seen.counts.shape) > 0


def optimum(seen: Sample, labels: int, twins: bool = False) -> np.ndarray:
    """opt: the least expected error given the sample, ``(draw,)``; unknown labels can only be guessed."""
    unknown = (seen.counts == 0) & ~_twin_seen(seen) if twins else seen.counts == 0
    return (seen.frequencies * unknown).sum(axis=1) * (labels - 1) / labels


def compare(seen: Sample, predictions: np.ndarray, opt: np.ndarray, known: Tau) -> dict[str, float]:
    """Error, optimum, excess error and the right-hand side of Theorem 2.3, averaged over draws, with ``_se``.

    ``gap`` is error minus bound, formed draw by draw since both belong to the same sample; its standard error
    includes that of tau. ``known`` must hold every count that occurs. All are shares of new points.
    """
    wrong = predictions != seen.labels
    misfit = wrong & (seen.counts > 0)
    error = (seen.frequencies * wrong).sum(axis=1)
    cost = known.table()[seen.counts * misfit].sum(axis=1)
    per_count = np.bincount(seen.counts[misfit], minlength=known.counts.max() + 1)[known.counts] / len(error)
    row = _means({"err": error, "opt": opt, "excess": error - opt}, 0.0)
    predicted = {"bound": opt + cost, "bound_excess": cost, "gap": error - opt - cost}
    row |= _means(predicted, known.error_of(per_count))
    return row | {"misfits": float(misfit.sum(axis=1).mean())}


def _means(columns: dict[str, np.ndarray], further_error: float) -> dict[str, float]:
    row = {}
    for name, values in columns.items():
        row[name], error = mean_and_error(values)
        row[f"{name}_se"] = float(np.hypot(error, further_error))
    return row


def by_band(seen: Sample, predictions: np.ndarray, n: int) -> pd.DataFrame:
    """Error within each band of true frequency: which subgroup pays. One row for each band that has any mass.

    Columns: ``low`` and ``high`` (frequency times n), ``mass`` (share of new points), ``err`` within the band
    with its standard error (a ratio of means over draws), ``cost`` (mass times err).
    """
    wrong = seen.frequencies * (predictions != seen.labels)
    rows = []
    for low, high in BANDS:
        inside = (low / n <= seen.frequencies) & (seen.frequencies < high / n)
        mass, errors = (seen.frequencies * inside).sum(axis=1), (wrong * inside).sum(axis=1)
        if mass.any():
            share = errors.mean() / mass.mean()
            se = mean_and_error(errors - share * mass)[1] / mass.mean()
            rows.append({"low": low, "high": high, "mass": mass.mean(), "err": share, "err_se": se, "cost": errors.mean()})
    return pd.DataFrame(rows)


def growth(seen: Sample, labels: int, flips, known: Tau, generator: np.random.Generator):
    """Excess error against the number of unfitted singletons, where each is refused with probability q.

    Returns a frame with a row for each q in ``flips`` (``flip, misfits, excess, excess_se``), the slope of
    excess through the origin divided by tau_1, and its standard error. By Theorem 2.3 the ratio is 1. If no
    singleton was left unfitted it is not identified: NaN.
    """
    opt = optimum(seen, labels)
    wrong = [predict(some_singletons(flip), seen, labels, generator) != seen.labels for flip in flips]
    excess = np.stack([(seen.frequencies * each).sum(axis=1) - opt for each in wrong])
    misfits = np.stack([(each & (seen.counts > 0)).sum(axis=1) for each in wrong])
    rows = [
        {"flip": flip, "misfits": misfits[i].mean()} | _means({"excess": excess[i]}, 0.0) for i, flip in enumerate(flips)
    ]
    if not misfits.any():
        return pd.DataFrame(rows), np.nan, np.nan
    lever = misfits.mean(axis=1) / np.square(misfits.mean(axis=1)).sum()
    slope = lever @ excess.mean(axis=1)
    error = mean_and_error(lever @ (excess - slope * misfits))[1]
    tau1, tau1_error = known.value[0], known.std_error[0]
    return pd.DataFrame(rows), slope / tau1, float(np.hypot(error, slope * tau1_error / tau1) / tau1)


def problems(parameters) -> list[Problem]:
    """The problems of the stage: three priors with a tail near 1/n, one at two sizes, and two controls."""
    n, large, labels, head = parameters.n, parameters.n_large, parameters.labels, parameters.head_points
    many, near, far = parameters.control_ratio * n, parameters.tail_near, parameters.tail_far
    costly = [
        Problem("zipf", f"Zipf, N = n = {n:,}", Prior("zipf", n), n, labels),
        Problem("zipf_large", f"Zipf, N = n = {large:,}", Prior("zipf", large), large, labels),
        Problem("uniform", f"uniform, N = n = {n:,}", Prior("uniform", n), n, labels),
        Problem("gap_near", f"gap, tail of {near:.0%}", Prior("gap", n, head, near), n, labels),
    ]
    return [
        *costly,
        Problem("uniform_many", f"control: uniform, n = {many:,}", Prior("uniform", n), many, labels, True),
        Problem("gap_far", f"control: gap, tail of {far:.1%}", Prior("gap", n, head, far), n, labels, True),
    ]


def run(parameters) -> dict[str, pd.DataFrame | dict]:
    """Simulates every problem and returns the stage's tables by name.

    ``parameters`` is the section ``long_tail`` of ``params.yaml``. Each row of ``costs`` is a problem and a
    learner, of ``tau`` a problem and a count, of ``subgroups`` a problem, a learner and a band, of ``growth``
    a problem and a share of singletons refused, of ``priors`` a problem, of ``example`` a size of the worked
    Zipf example. ``summary`` holds what claims refer to. Errors are shares of new points; columns ``n_...``
    are frequencies times n.
    """
    parts = [_solve(problem, parameters) for problem in problems(parameters)]
    tables = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    tables["example"] = zipf_example(parameters)
    scale = {"labels": parameters.labels, "draws": parameters.draws, "prior_draws": parameters.prior_draws}
    return tables | {"summary": summary(tables) | {"scale": scale}}


def _solve(problem: Problem, parameters) -> dict[str, pd.DataFrame]:
    """All tables of one problem; tau comes from realisations of D that the simulated samples do not share."""
    frequencies = marginal(problem.prior, parameters.prior_draws, problem.generator(parameters.seed, "tau"))
    seen = sample(problem, parameters.draws, problem.generator(parameters.seed, "sample"))
    twins = sample(problem, parameters.draws, problem.generator(parameters.seed, "twins"), twins=True)
    listed = np.arange(1, parameters.counts_reported + 1)
    known = tau(
        frequencies,
        problem.n,
        np.unique(np.concatenate([listed, seen.counts[seen.counts > 0], twins.counts[twins.counts > 0]])),
    )
    rows, bands = _learned(problem, parameters, seen, known, expected_distinct(frequencies, problem.n))
    generator = problem.generator(parameters.seed, "growth")
    grown, ratio, ratio_error = growth(seen, problem.labels, parameters.flips, known, generator)
    about = _describe(problem, frequencies, seen, known)
    about |= {"slope_ratio": ratio, "slope_ratio_se": ratio_error}
    tables = {
        "costs": pd.DataFrame(rows + _twin_rows(problem, parameters, twins, known)),
        "growth": grown,
        "tau": _tau_table(known, seen, problem.n, len(listed)),
        "subgroups": bands,
        "priors": pd.DataFrame([about]),
    }
    return {name: _named(problem, frame) for name, frame in tables.items()}


def expected_distinct(frequencies: np.ndarray, n: int) -> float:
    """Expected number of different points in a sample of ``n``, over realisations of D ``(draw, point)``."""
    return float(-np.expm1(xlog1py(n, -frequencies)).sum(axis=1).mean())


def _learned(problem, parameters, seen, known, distinct) -> tuple[list[dict], pd.DataFrame]:
    """Rows of `compare` and of `by_band` for the learners on independent labels."""
    opt = optimum(seen, problem.labels)
    rows, bands = [], []
    for number, learner in enumerate(learners(parameters.flips, distinct, known.value[0])):
        generator = problem.generator(parameters.seed, f"learner {number}")
        predictions = predict(learner, seen, problem.labels, generator)
        about = {"learner": learner.name, "flip": learner.flip}
        rows.append(about | {"predicted": learner.predicted} | compare(seen, predictions, opt, known))
        bands.append(by_band(seen, predictions, problem.n).assign(**about))
    return rows, pd.concat(bands, ignore_index=True)


def _twin_rows(problem, parameters, seen, known) -> list[dict]:
    """Labels that come in pairs: who is blind to it stays above the bound, who uses it meets the bound."""
    generator = problem.generator(parameters.seed, "twin learners")
    opt = optimum(seen, problem.labels, twins=True)
    blind = predict(up_to("", 0), seen, problem.labels, generator)
    aware = predict_with_twins(seen, problem.labels, generator)
    rows = [
        {"learner": "ignores twins", "predicted": "above"} | compare(seen, blind, opt, known),
        {"learner": "uses twins", "predicted": "equal"} | compare(seen, aware, opt, known),
    ]
    return [row | {"flip": np.nan} for row in rows]


def _named(problem: Problem, frame: pd.DataFrame) -> pd.DataFrame:
    about = {
        "prior": problem.name,
        "title": problem.title,
        "control": problem.control,
        "N": problem.prior.points,
        "n": problem.n,
        "labels": problem.labels,
    }
    return pd.concat([pd.DataFrame(about, index=frame.index), frame], axis=1)


def _tau_table(known: Tau, seen: Sample, n: int, listed: int) -> pd.DataFrame:
    """n tau_l for the first ``listed`` counts, with the mean number of points seen that often."""
    occurrences = np.bincount(seen.counts.ravel(), minlength=listed + 1)[1 : listed + 1] / len(seen.counts)
    return pd.DataFrame(
        {
            "count": known.counts[:listed],
            "n_tau": n * known.value[:listed],
            "n_tau_se": n * known.std_error[:listed],
            "points": occurrences,
        }
    )


def _describe(problem: Problem, frequencies: np.ndarray, seen: Sample, known: Tau) -> dict[str, float]:
    """About one problem: singletons and doubletons, their tau, the tail's weight and the floor it implies."""
    n = problem.n
    weight, weight_error = tail_weight(frequencies, 1 / (3 * n), 2 / n)
    row = {"weight": weight, "weight_se": weight_error, "n_floor": n * tau1_floor(weight, n)}
    for index, name in enumerate(("singletons", "doubletons")):
        row[name], row[f"{name}_se"] = mean_and_error((seen.counts == index + 1).sum(axis=1) / n)
        row[f"n_tau{index + 1}"] = n * known.value[index]
        row[f"n_tau{index + 1}_se"] = n * known.std_error[index]
    return row


def singleton_cost(frequencies: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected share of the sample that is seen once, and expected mass of those points, both ``(draw,)``.

    The second is what a learner that errs on every singleton loses. Given ``frequencies (draw, point)`` both
    are sums over points, with no sampling.
    """
    once = frequencies * np.exp(xlog1py(n - 1, -frequencies))
    return once.sum(axis=1), n * (frequencies * once).sum(axis=1)


def zipf_example(parameters) -> pd.DataFrame:
    """Zipf's law with N = n up to ``example_points``: the share of singletons and what erring on them costs.

    ``model`` is ``random`` (frequencies drawn from the list, as in the theorem) or ``fixed`` (D is the list).
    ``cost`` supposes an error on every singleton; a guess among k labels errs only (k-1)/k as often.
    """
    rows = []
    for points in (parameters.example_points // divisor for divisor in (500, 50, 5, 1)):
        prior = Prior("zipf", points)
        generator = Problem(f"example {points}", "", prior, points, 0).generator(parameters.seed, "example")
        worlds = (marginal(prior, 1, generator) for _ in range(parameters.example_draws))
        drawn = np.concatenate([singleton_cost(world, points) for world in worlds], axis=1)
        fixed = singleton_cost(prior.frequencies()[None] / prior.frequencies().sum(), points)
        rows.append({"model": "random", "N": points, "n": points} | _example_row(*drawn))
        rows.append({"model": "fixed", "N": points, "n": points} | _exact(_example_row(*fixed)))
    return pd.DataFrame(rows)


def _example_row(singletons: np.ndarray, cost: np.ndarray) -> dict[str, float]:
    """Means over draws and their ratio times n, which is n tau_1, with standard errors."""
    ratio = cost.mean() / singletons.mean()
    error = mean_and_error(cost - ratio * singletons)[1] / singletons.mean()
    return _means({"singletons": singletons, "cost": cost}, 0.0) | {"n_tau1": ratio, "n_tau1_se": error}


def _exact(row: dict[str, float]) -> dict[str, float]:
    """With D fixed nothing is random, so the standard error is 0 rather than unknown."""
    return {name: 0.0 if name.endswith("_se") else value for name, value in row.items()}


def summary(tables: dict[str, pd.DataFrame]) -> dict:
    """What claims and prose refer to: an entry a problem, ``equality`` over all of them, ``zipf_example``.

    Measured quantities are ``{"value", "std_error"}``; ``error_refused``, ``bound`` and ``excess`` are of
    the learner that fits all but singletons, on which it guesses.
    """
    costs, example = tables["costs"], tables["example"]
    largest = example[example.N == example.N.max()].set_index("model")
    worked = {model: {"N": int(row.N)} | _measured(row, "singletons", "n_tau1", "cost") for model, row in largest.iterrows()}
    problems = {name: _problem_summary(tables, name) for name in costs.prior.unique()}
    return problems | {"equality": equality(costs), "zipf_example": worked}


def equality(costs: pd.DataFrame) -> dict[str, float]:
    """How far, in standard errors, the worst learner is from the bound that it should meet, among how many.

    Controls are left out: there misfits are so rare that their spread over draws is no guide to their mean.
    """
    rows = costs[(costs.predicted == "equal") & ~costs.control]
    return {"comparisons": len(rows), "largest_z": float((rows.gap / rows.gap_se).abs().max())}


def _problem_summary(tables: dict[str, pd.DataFrame], name: str) -> dict:
    prior = tables["priors"].query("prior == @name").iloc[0]
    refused = tables["costs"].query("prior == @name and learner == 'refuses singletons'").iloc[0]
    return {
        "N": int(prior.N),
        "n": int(prior.n),
        "error_refused": _measured(refused, "err")["err"],
        "n_tau_1": float(prior.n_tau1),
        "n_tau_1_lower": float(prior.n_floor),
        **_measured(prior, "n_tau1", "n_tau2", "singletons", "doubletons", "weight", "slope_ratio"),
        **_measured(refused, "opt", "bound", "excess", "gap"),
    }


def _measured(row, *names: str) -> dict[str, dict[str, float]]:
    return {name: {"value": float(row[name]), "std_error": float(row[f"{name}_se"])} for name in names}
