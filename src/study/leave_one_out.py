"""Stage `leave_one_out`: exact ground truth for a few examples, to judge the subsampled estimates by.

Three numbers for each example, from models that have nothing in common:

* `estimate`: what is to be judged, from the second half of the trials of a setting (the first half chose the examples);
* `direct`: what that estimator estimates, memorization in random subsets of size m, from fresh models whose subsets are
  made to hold the example or to miss it;
* `loo`: the definition, models trained on all n examples against models trained on all but this one.

The estimate must agree with `direct` within standard errors. It need not agree with `loo`, which has another target: a model
that misses the example and 30 % of the others lacks more of what resembles the example than one that misses it alone.

The models trained on all n examples serve every example, so the errors of `loo` have a part in common; it is small, for
these models get nearly every training example right. 20 digits, 250 models a side at n and 150 a side at m: 11,250 models,
4 minutes of one core, standard errors of at most 0.032 (`loo`) and 0.041 (`direct`).
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import estimation, estimators, quantities, subsets, tables, trials
from study.data import Data
from study.estimators import Estimates
from study.learners import Learner
from study.params import LeaveOneOut, Setting
from study.progress import Progress
from study.subsets import TrialSeed


def run(section: LeaveOneOut, setting: Setting, client: Client | None = None) -> tuple[pd.DataFrame, dict]:
    """Train the ground truth; save it as ``ground_truth`` (a row an example) and ``leave_one_out`` (summary); return both.

    Raises `study.predictions.PredictionError` if the prediction file of the setting is missing or is not this setting's.
    """
    data = datasets.load(setting.data)
    first, second = halves(estimation.of_setting(section.setting, setting)[0])
    chosen = choose(first.memorization.mem.to_numpy(), section.examples)
    m = subsets.subset_size(data.n, setting.ratio)
    total = section.models * (section.examples + 1) + 2 * section.subset_models * section.examples
    with Progress("leave_one_out", total, "models") as progress:
        models = FreshModels(setting.learner, data, section.seed, client, progress)
        truth = at_m(models, chosen, m, section.subset_models), at_n(models, chosen, section.models)
    frame = pd.concat([_estimates_of(first, second, chosen), *truth], axis=1)
    sizes = {"n": data.n, "m": m, "trials_choosing": first.trials, "trials_estimating": second.trials}
    summary = sizes | section.model_dump(exclude={"setting", "seed"}) | summarise(frame, second, section)
    tables.save(section.setting, "ground_truth", frame)
    tables.save(section.setting, "leave_one_out", summary)
    return frame, summary


def halves(estimates: Estimates) -> tuple[Estimates, Estimates]:
    """The estimates from the first half of the trials, and from the rest."""
    return tuple(estimators.part(estimates, rows) for rows in np.array_split(np.arange(estimates.trials), 2))


def choose(mem: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` examples spread over the range of ``mem (n,)``, each at most once.

    For each of ``count`` equally spaced values from 0 to 1 in turn: the example not yet taken whose memorization is nearest,
    of equals the first. Examples without an estimate (NaN) are not taken. Raises ``ValueError`` if too few have one.
    """
    free = np.array(mem, dtype=float)
    if (identified := np.count_nonzero(~np.isnan(free))) < count:
        raise ValueError(f"{count} examples are wanted but only {identified} have an estimate of memorization")
    chosen = np.empty(count, dtype=np.int64)
    for k, target in enumerate(np.linspace(0, 1, count)):
        chosen[k] = np.nanargmin(np.abs(free - target))
        free[chosen[k]] = np.nan
    return chosen


@dataclass
class FreshModels:
    """Models that no other experiment uses: each call trains new ones and counts which training examples they get right."""

    learner: Learner
    data: Data
    seed: int
    client: Client | None
    progress: Progress
    numbers: itertools.count = field(default_factory=itertools.count)

    def seeds(self, count: int) -> list[TrialSeed]:
        """``count`` seeds that were never given out."""
        return subsets.trial_seeds(self.seed, itertools.islice(self.numbers, count))

    def right(self, members: np.ndarray, seeds: list[TrialSeed]) -> np.ndarray:
        """How many of the models trained on ``members (k, n)`` get each training example right, int ``(n,)``."""
        labels, _ = trials.predict(self.learner, self.data, members, seeds, self.client)
        self.progress.advance(len(seeds))
        return (labels == self.data.y_train).sum(0)


def at_n(models: FreshModels, chosen: np.ndarray, count: int) -> pd.DataFrame:
    """Leave-one-out memorization as defined, from ``count`` models on all examples and ``count`` without each of ``chosen``.

    One row an example, columns mem_loo, mem_loo_se, in_loo, out_loo (the two accuracies).
    """
    everything = np.ones((count, models.data.n), dtype=bool)
    right_in = models.right(everything, models.seeds(count))[chosen]
    right_out = np.array([models.right(_without(everything, i), models.seeds(count))[i] for i in chosen])
    return _differences("loo", right_in, right_out, count)


def at_m(models: FreshModels, chosen: np.ndarray, m: int, count: int) -> pd.DataFrame:
    """Memorization in subsets of size ``m``, from ``count`` models with and ``count`` without each of ``chosen``.

    One row an example, columns mem_direct, mem_direct_se, in_direct, out_direct.
    """
    sides = []
    for holds in (True, False):
        drawn = [(i, models.seeds(count)) for i in chosen]
        sides.append(np.array([models.right(forced(seeds, models.data.n, m, i, holds), seeds)[i] for i, seeds in drawn]))
    return _differences("direct", *sides, count)


def _without(members: np.ndarray, i: int) -> np.ndarray:
    rest = members.copy()
    rest[:, i] = False
    return rest


def forced(seeds: list[TrialSeed], n: int, m: int, i: int, holds: bool) -> np.ndarray:
    """Uniform subsets of size ``m`` among those that hold example ``i``, or among those that do not; bool ``(k, n)``."""
    members, others = np.zeros((len(seeds), n), dtype=bool), np.delete(np.arange(n), i)
    for row, seed in zip(members, seeds):
        row[seed.generator("subset").permutation(others)[: m - holds]] = True
    members[:, i] = holds
    return members


def _differences(name: str, right_in: np.ndarray, right_out: np.ndarray, count: int) -> pd.DataFrame:
    error = estimators.standard_error(right_in, count, right_out, count)
    columns = {f"mem_{name}": (right_in - right_out) / count, f"mem_{name}_se": error}
    return pd.DataFrame(columns | {f"in_{name}": right_in / count, f"out_{name}": right_out / count})


def _estimates_of(first: Estimates, second: Estimates, chosen: np.ndarray) -> pd.DataFrame:
    columns = {"mem": "mem_estimate", "std_error": "mem_estimate_se"}
    frame = second.memorization.loc[chosen, ["index", "label", *columns]].rename(columns=columns).reset_index(drop=True)
    frame.insert(2, "mem_choosing", first.memorization.mem.to_numpy()[chosen])
    return frame


def summarise(frame: pd.DataFrame, second: Estimates, section: LeaveOneOut) -> dict:
    """How the three numbers agree; ``second`` are the estimates behind ``frame``, needed for the permuted null.

    ``a_b`` compares a with b: mean of a - b, reduced chi-square, share of examples within two standard errors.
    """
    rng = TrialSeed(section.seed, 0).generator("analysis")
    return {
        "pearson": _correlation(frame, "loo", section.bootstrap, rng),
        "pearson_direct": _correlation(frame, "direct", section.bootstrap, rng),
        "null_pearson": _null_correlation(frame, second, section.permutations, rng),
        "estimate_direct": agreement(frame, "estimate", "direct"),
        "estimate_loo": agreement(frame, "estimate", "loo"),
        "direct_loo": agreement(frame, "direct", "loo"),
    }


def _correlation(frame: pd.DataFrame, b: str, draws: int, rng: np.random.Generator) -> dict:
    return quantities.correlation(frame.mem_estimate.to_numpy(), frame[f"mem_{b}"].to_numpy(), draws, rng)


def _null_correlation(frame: pd.DataFrame, second: Estimates, permutations: int, rng: np.random.Generator) -> dict:
    """The definition against estimates whose masks were dealt to other models: mean correlation, which must be about 0."""
    nulls = [estimators.permuted(second, rng).memorization.mem.to_numpy() for _ in range(permutations)]
    chosen, truth = frame["index"].to_numpy(), frame.mem_loo.to_numpy()
    with np.errstate(invalid="ignore"):  # a constant has no correlation: NaN
        return quantities.mean(np.array([np.corrcoef(null[chosen], truth)[0, 1] for null in nulls]))


def agreement(frame: pd.DataFrame, a: str, b: str) -> dict:
    """Mean difference, reduced chi-square and share within two standard errors of ``mem_<a>`` and ``mem_<b>``.

    The chi-square of k examples has k degrees of freedom, since nothing is fitted: 1 is expected, give or take sqrt(2/k).
    Standard errors that keep a reserve near 0 and 1 (see `study.estimators.standard_error`) push it somewhat below.
    """
    difference = frame[f"mem_{a}"] - frame[f"mem_{b}"]
    error = np.hypot(frame[f"mem_{a}_se"], frame[f"mem_{b}_se"])
    count, within = len(frame), (difference.abs() <= 2 * error).mean()
    return {
        "mean_difference": {"value": difference.mean(), "std_error": np.sqrt((error**2).sum()) / count},
        "reduced_chi_square": {"value": ((difference / error) ** 2).mean(), "std_error": np.sqrt(2 / count)},
        "within_two": {"value": within, "std_error": np.sqrt(within * (1 - within) / count)},
    }
