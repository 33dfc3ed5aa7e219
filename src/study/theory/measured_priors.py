"""How much of the cost of not fitting is left at larger sizes, and under frequency priors measured on real pictures.

Two questions about the price list tau_l of `study.theory.long_tail` (Feldman 2020, arXiv 1906.05271, Theorem 2.3).

*Growth*: `growth` follows n tau_1, the share of singletons and the cost of erring on all of them as the sample grows to a
million. For one point's own value the mean is an exact sum over the list; only the sum of the other points' values, by
which frequencies are normalised, is drawn. That takes the spread of a Monte Carlo estimate from percents to per milles.

*Measured priors*: `measured` cuts pictures into coarse codes, so that a real data set becomes a discrete world whose
frequencies nobody chose. One random half of the pictures is the sample. How often a code that occurs l times there occurs
in the other half is tau_l itself, whatever the prior; a prior fitted to the counts of the first half alone
(`fitted_prior`), Good's rule and the naive l / n are three predictions of it.

About 20 seconds of one core. With 40 draws the standard error of n tau_1 is below one percent of it (November 2026).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import exp1, xlog1py, xlogy

from study import data as datasets
from study import quantities
from study.data import Data, unit_floats
from study.subsets import TrialSeed

FEW = 1000  # different values up to which the others are counted, not drawn one by one
GRID = 120  # frequencies on which a prior is fitted
ROUNDS = 300  # of the fit; the likelihood rises by less than 1e-4 a point after that


@dataclass(frozen=True)
class Case:
    """One way for a world to grow: what it is called, and its list of frequencies at sample size n."""

    name: str
    title: str
    control: bool
    listed: Callable[[int], np.ndarray]


def power_law(points: int, exponent: float) -> np.ndarray:
    """The list 1, 2^-s, ..., N^-s, float ``(points,)``; exponent 1 is Zipf's law."""
    return np.arange(1, points + 1, dtype=float) ** -exponent


def gap(points: int, head: int, tail_mass: float) -> np.ndarray:
    """``head`` equally heavy points, and ``tail_mass`` spread evenly over the others, float ``(points,)``."""
    return np.repeat([(1 - tail_mass) / head, tail_mass / (points - head)], [head, points - head])


def cases(section) -> list[Case]:
    """Worlds that grow with the sample, one that does not, and two in which no cost may be left."""
    fixed, s, ratio = section.fixed_points, section.exponent, section.control_ratio
    head, far = section.head_points, section.tail_far
    return [
        Case("zipf", "Zipf, N = n", False, lambda n: power_law(n, 1.0)),
        Case("steep", f"power law {s:g}, N = n", False, lambda n: power_law(n, s)),
        Case("uniform", "uniform, N = n", False, lambda n: np.ones(n)),
        Case("fixed", f"Zipf, N = {fixed:,}", False, lambda n: power_law(fixed, 1.0)),
        Case("uniform_many", f"control: uniform, n = {ratio} N", True, lambda n: np.ones(n // ratio)),
        Case("gap_far", f"control: gap, tail of {far:.1%}", True, lambda n: gap(n, head, far)),
    ]


def singletons(listed: np.ndarray, n: int, draws: int, generator: np.random.Generator) -> dict[str, dict[str, float]]:
    """What singletons are and cost when each of N points draws its frequency from ``listed (N,)`` (Feldman 2020, Sec. 2).

    ``share``: expected share of the sample that occurs once, N E[a (1-a)^(n-1)]; ``cost``: expected error of a learner that
    errs on all of these points and on nothing else it saw, n N E[a^2 (1-a)^(n-1)]; ``n_tau1`` is their ratio. Values with
    standard errors over the draws of the other points' sum; 0 where the list leaves nothing to chance. In log space.
    """
    values, times = np.unique(listed, return_counts=True)
    found = [_given_others(values, times, others, n) for others in _sums_of_others(listed, values, times, draws, generator)]
    cost, share = np.array(found).T
    return {"share": quantities.mean(share), "cost": quantities.mean(cost), "n_tau1": quantities.ratio(cost, share)}


def _sums_of_others(listed, values, times, draws: int, generator):
    """Sums of N - 1 values drawn from the list, independently and with replacement."""
    others = len(listed) - 1
    for _ in range(draws):
        if len(values) <= FEW:
            yield generator.multinomial(others, times / len(listed)) @ values
        else:
            yield listed[generator.integers(len(listed), size=others)].sum()


def _given_others(values, times, others: float, n: int) -> tuple[float, float]:
    a = values / (values + others)
    once = times * np.exp(np.log(a) + xlog1py(n - 1, -a))  # the N of the definition cancels against the mean over the list
    return float(n * (once @ a)), float(once.sum())


def zipf_limit(n) -> np.ndarray:
    """n tau_1 under Zipf's law with N = n, to leading order: exp(-1/H) / E1(1/H) with H = log n + 0.5772.

    Derivation. Points of rank i have frequency 1/(iH), which makes H^-1 a^-2 da points of frequency a, from 1/(nH) on.
    Then N E[a (1-a)^(n-1)] is H^-1 times the integral of exp(-na)/a, that is E1(1/H)/H, and n N E[a^2 (1-a)^(n-1)], the
    cost, is n/H times the integral of exp(-na), that is exp(-1/H)/H. Both vanish like log log n / log n and 1 / log n.
    """
    h = np.log(n) + np.euler_gamma
    return np.exp(-1 / h) / exp1(1 / h)


def growth(section, seed: int) -> pd.DataFrame:
    """One row a case and sample size: ``share``, ``cost`` and ``n_tau1`` of `singletons`, each with ``_se``."""
    rows = []
    for number, case in enumerate(cases(section)):
        for n in section.sizes:
            listed = case.listed(n)
            generator = TrialSeed(seed, number).generator("analysis")
            found = singletons(listed, n, section.draws, generator)
            about = {"case": case.name, "title": case.title, "control": case.control, "N": len(listed), "n": n}
            rows.append(about | _columns(found))
    return pd.DataFrame(rows)


def _columns(found: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{name}{end}": each[key] for name, each in found.items() for key, end in (("value", ""), ("std_error", "_se"))}


# --- priors measured on pictures ---------------------------------------------------------------------------


def codes(pictures: np.ndarray, side: int, level: float) -> np.ndarray:
    """The coarse code of each picture, int ``(n,)``: which of ``side x side`` cells are on average brighter than ``level``.

    ``pictures (n, h, w)`` in [0, 1]; cells differ by a pixel where ``side`` does not divide a length. Equal codes have equal
    numbers, in no order that means anything. Raises ``ValueError`` for more cells than pixels.
    """
    height, width = pictures.shape[1:3]
    if not 1 <= side <= min(height, width):
        raise ValueError(
            f"side is {side}; a picture of {height} x {width} pixels has at most {min(height, width)} cells a side"
        )
    rows, columns = (np.linspace(0, length, side + 1).astype(int) for length in (height, width))
    sums = np.add.reduceat(np.add.reduceat(pictures, rows[:-1], 1), columns[:-1], 2)
    bits = sums / np.outer(np.diff(rows), np.diff(columns)) > level
    return np.unique(np.packbits(bits.reshape(len(pictures), -1), axis=1), axis=0, return_inverse=True)[1].ravel()


def good_turing(counts: np.ndarray, longest: int) -> np.ndarray:
    """(l+1) N_(l+1) / (n N_l) for l = 1 ... longest, from ``counts (points,)``; NaN where no point has that count.

    Good (1953). N_l is the number of points that occur l times. An estimate of tau_l that knows no prior.
    """
    kinds = np.bincount(counts, minlength=longest + 2)[: longest + 2].astype(float)
    step = np.arange(1, longest + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(kinds[1:-1] > 0, (step + 1) * kinds[2:] / (counts.sum() * kinds[1:-1]), np.nan)


@dataclass(frozen=True)
class FittedPrior:
    """A frequency prior on a grid: ``frequency (g,)`` and the expected number of ``points (g,)`` of each, seen or not."""

    frequency: np.ndarray
    points: np.ndarray

    def tau(self, n: int, counts) -> np.ndarray:
        """tau_l under this prior for each l of ``counts``: the mean frequency of a point seen l times."""
        weight = self.points * np.exp(_log_binomial(self.frequency, np.asarray(counts)[:, None], n))
        return (weight @ self.frequency) / weight.sum(axis=1)

    def weight(self, low: float, high: float) -> float:
        """Mass of the points with a frequency from ``low`` to ``high``, as a share of all mass."""
        inside = (low <= self.frequency) & (self.frequency <= high)
        mass = self.points * self.frequency
        return float(mass[inside].sum() / mass.sum())


def fitted_prior(counts: np.ndarray) -> FittedPrior:
    """The prior that makes ``counts (points,)`` most likely, each at least 1, by EM on a grid (Kiefer and Wolfowitz 1956).

    Nothing is assumed about its shape. A point can only be counted if it was seen, so likelihoods are conditional on
    that; the number of points at a frequency is what was seen there over the chance to be seen. The grid runs from a
    hundredth of 1/n, below which a sample of n cannot tell frequencies apart, to twice the largest one seen.
    """
    kinds, times = np.unique(counts, return_counts=True)
    n = int(counts.sum())
    grid = np.geomspace(0.01 / n, min(2 * kinds[-1] / n, 1 - 1 / n), GRID)
    seen = -np.expm1(n * np.log1p(-grid))
    logs = _log_binomial(grid, kinds[:, None], n)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True)) / seen
    share = np.full(GRID, 1 / GRID)
    for _ in range(ROUNDS):
        belongs = likelihood * share
        share = (times / len(counts)) @ (belongs / belongs.sum(axis=1, keepdims=True))
    return FittedPrior(grid, len(counts) * share / seen)


def _log_binomial(a, count, n: int) -> np.ndarray:
    """Log of a^l (1-a)^(n-l): the binomial coefficient cancels from everything here."""
    return xlogy(count, a) + xlog1py(n - count, -a)


def split(points: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two random halves of the examples, the sample and the new data; of an odd number one is left out."""
    order = generator.permutation(len(points))
    half = len(points) // 2
    return order[:half], order[half : 2 * half]


def prices(points: np.ndarray, sample: np.ndarray, fresh: np.ndarray, longest: int) -> pd.DataFrame:
    """n tau_l for l = 1 ... longest, ``measured`` on the fresh half and predicted from the sample alone, one row a count.

    ``points (examples,)`` numbers each example's code. Columns: ``count``, ``points`` (codes seen that often), ``measured``
    (mean number of their occurrences in the fresh half, which is as large as the sample; NaN where there is no such code),
    ``fitted``, ``good_turing``, ``naive``.
    """
    size = points.max() + 1
    seen, again = (np.bincount(points[chosen], minlength=size) for chosen in (sample, fresh))
    counts, n = np.arange(1, longest + 1), len(sample)
    kinds = np.bincount(seen, minlength=longest + 1)[1 : longest + 1]
    occurrences = np.bincount(seen, again, minlength=longest + 1)[1 : longest + 1]
    with np.errstate(invalid="ignore"):
        measured = np.where(kinds > 0, occurrences / kinds, np.nan)
    fitted = n * fitted_prior(seen[seen > 0]).tau(n, counts)
    turing = n * good_turing(seen, longest)
    columns = {"count": counts, "points": kinds, "measured": measured, "fitted": fitted, "good_turing": turing}
    return pd.DataFrame(columns | {"naive": counts.astype(float)})


def refusal(points: np.ndarray, y: np.ndarray, sample: np.ndarray, fresh: np.ndarray) -> dict[str, float]:
    """Error on the fresh half of learners that know codes only, with and without those seen once.

    Each gives a code the commonest label that it had in the sample, and the commonest label of all to what it has not seen
    or refuses. ``singletons`` and ``unseen`` are shares of the fresh half's examples whose code was seen once, or never;
    ``excess`` is what refusing costs; ``certain`` what it would cost if labels followed from codes: the share of
    examples under a refused code that the common guess gets wrong.
    """
    size, classes = points.max() + 1, y.max() + 1
    votes = np.zeros((size, classes), dtype=int)
    np.add.at(votes, (points[sample], y[sample]), 1)
    counts, guess = votes.sum(axis=1)[points[fresh]], votes.sum(axis=0).argmax()
    told = votes.argmax(axis=1)[points[fresh]]
    memorizer, refuser = (np.where(counts > refused, told, guess) != y[fresh] for refused in (0, 1))
    once = counts == 1
    return {
        "err": memorizer.mean(),
        "err_refused": refuser.mean(),
        "excess": refuser.mean() - memorizer.mean(),
        "certain": (once & (y[fresh] != guess)).mean(),
        "again": once.mean(),
        "unseen": (counts == 0).mean(),
    }


def measured(section, seed: int) -> dict[str, pd.DataFrame]:
    """The tables `prices` and `worlds` of every data set at every coarseness, averaged over random halvings.

    Their errors are the spread between halvings, which is about that of a single halving, so that they err on the large
    side. ``worlds`` holds what `refusal` and `about` say.
    """
    tables: dict[str, list] = {"prices": [], "worlds": []}
    for name in section.data:
        data = datasets.load(name)
        pictures, y = _all_pictures(data, section.examples)
        for side in section.sides:
            points = codes(pictures, side, section.level)
            found = [_halving(points, y, section, TrialSeed(seed, repeat)) for repeat in range(section.repeats)]
            label = {"data": name, "side": side, "n": len(y) // 2}
            tables["prices"].append(_averaged([each[0] for each in found], "count").assign(**label))
            tables["worlds"].append(_averaged([pd.DataFrame([each[1]]) for each in found]).assign(**label))
    return {key: pd.concat(parts, ignore_index=True) for key, parts in tables.items()}


def _all_pictures(data: Data, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most ``most`` pictures of both splits, in the order of the data set, as floats ``(n, h, w)``, with their labels."""
    pictures = np.concatenate([data.x_train, data.x_test])[:most]
    return unit_floats(pictures), np.concatenate([data.y_train, data.y_test])[:most]


def _halving(points: np.ndarray, y: np.ndarray, section, seed: TrialSeed) -> tuple[pd.DataFrame, dict]:
    sample, fresh = split(points, seed.generator("analysis"))
    table = prices(points, sample, fresh, section.longest)
    return table, refusal(points, y, sample, fresh) | about(points, sample)


def about(points: np.ndarray, sample: np.ndarray) -> dict[str, float]:
    """Of the sample alone: how many codes, the share that occurs once, and the prior's mass between 1/(3n) and 2/n."""
    counts = np.bincount(points[sample])
    seen, n = counts[counts > 0], len(sample)
    prior = fitted_prior(seen)
    cost = float((seen == 1).sum() * prior.tau(n, [1])[0])
    return {
        "codes": len(seen),
        "singletons": (seen == 1).sum() / n,
        "largest": seen.max() / n,
        "weight": prior.weight(1 / (3 * n), 2 / n),
        "predicted_again": cost,
    }


def _averaged(frames: list[pd.DataFrame], *fixed: str) -> pd.DataFrame:
    """Mean over equally laid out frames, with the spread between them as ``_se``; columns in ``fixed`` are kept."""
    stacked = np.stack([frame.drop(columns=list(fixed)).to_numpy(dtype=float) for frame in frames])
    names = [name for name in frames[0] if name not in fixed]
    result = frames[0][list(fixed)].copy()
    for place, name in enumerate(names):
        values = stacked[..., place]
        known = np.isfinite(values).sum(axis=0) == len(frames)
        result[name] = np.where(known, values.mean(axis=0), np.nan)
        result[f"{name}_se"] = np.where(known, values.std(axis=0, ddof=1), np.nan)
    return result


def summary(tables: dict[str, pd.DataFrame]) -> dict:
    """What claims refer to: the end of each line of growth, and each data set where its singletons weigh most."""
    found: dict[str, dict] = {"growth": {}, "measured": {}}
    for case, rows in tables["growth"].groupby("case", sort=False):
        last = rows.iloc[-1]
        found["growth"][case] = {"n": int(last.n)} | {key: _quantity(last, key) for key in ("n_tau1", "share", "cost")}
    for name, rows in tables["worlds"].groupby("data", sort=False):
        found["measured"][name] = _at_most_weight(rows, tables["prices"][tables["prices"].data == name])
    return found


def _at_most_weight(worlds: pd.DataFrame, prices: pd.DataFrame) -> dict:
    row = worlds.loc[worlds.again.idxmax()]
    once = prices[(prices.side == row.side) & (prices["count"] == 1)].iloc[0]
    price = {key: _quantity(once, key) for key in ("measured", "fitted", "good_turing")}
    shares = {key: _quantity(row, key) for key in ("singletons", "again", "predicted_again", "excess")}
    return {"side": int(row.side), "n": int(row.n), "price": price} | shares


def _quantity(row: pd.Series, name: str) -> dict[str, float]:
    return {"value": row[name], "std_error": row[f"{name}_se"]}
