"""Stage `estimate`: from a prediction file to the tables that the chapters read.

Writes ``tables/<setting>/``: `memorization` (one row an example), `pairs` (both signs of influence, down to the floors in
``params.yaml``), `error_by_trials` (measured error against Lemma 2.1) and `summary`.
"""

import numpy as np
import pandas as pd

from study import data as datasets
from study import estimators, pairs, predictions, quantities, tables
from study.estimators import Estimates
from study.params import Estimate, Setting

WEAK = 0.4  # the paper reports what share of its pairs lies below this influence


def run(name: str, setting: Setting, rules: Estimate) -> dict:
    """Estimate everything for one setting, save the tables, return the summary."""
    estimates, diverged = of_setting(name, setting)
    strongest = estimates.pairs(rules.mem_floor, rules.infl_floor)
    errors = error_by_trials(estimates, setting.ratio)
    summary = summarise(estimates, strongest, setting, rules) | {"diverged": diverged}
    for table, frame in {"memorization": estimates.memorization, "pairs": strongest, "error_by_trials": errors}.items():
        tables.save(name, table, frame)
    tables.save(name, "summary", summary)
    return summary


def of_setting(name: str, setting: Setting) -> tuple[Estimates, int]:
    """Estimates from the verified prediction file of a setting, and how many diverged trials were left out."""
    data = datasets.load(setting.data)
    file = predictions.load(predictions.path_of(name))
    members = predictions.verify(file, setting, data)
    good = ~file.diverged.values
    correct = (file[variable].values[good] for variable in ("train_correct", "test_correct"))
    return estimators.estimate(members[good], *correct, data.y_train, data.y_test), int((~good).sum())


def summarise(estimates: Estimates, table: pd.DataFrame, setting: Setting, rules: Estimate) -> dict:
    """The numbers that chapters and claims quote; a quantity with chance in it is ``{"value", "std_error"}``."""
    rng = np.random.default_rng(np.random.SeedSequence(rules.seed))
    return {
        "data": setting.data,
        "n": estimates.members.shape[1],
        "n_test": estimates.test_correct.shape[1],
        "trials": estimates.trials,
        "ratio": setting.ratio,
        **_accuracies(estimates),
        **_memorized(estimates, rules),
        "pairs": _counts(table, estimates, rules) | _null_pairs(estimates, rules, rng),
        "reliability": _reliability(estimates, rules, rng),
        "bound": _bounds(estimates, setting.ratio, rng),
    }


def _accuracies(estimates: Estimates) -> dict:
    inside, outside = _by_trial(estimates)
    by_trial = {"in": inside, "out": outside, "test": estimates.test_correct.mean(1)}
    return {f"{key}_accuracy": _mean(values) for key, values in by_trial.items()}


def _mean(values: np.ndarray) -> dict:
    """Mean over trials with its standard error, and the spread of single trials."""
    return quantities.mean(values) | {"std": values.std(ddof=1) if len(values) > 1 else float("nan")}


def _memorized(estimates: Estimates, rules: Estimate) -> dict:
    frame = estimates.memorization
    above = int((frame.mem >= rules.mem_threshold).sum())
    return {
        "identified": int(frame.mem.notna().sum()),
        "mean_memorization": {"value": frame.mem.mean(), "std_error": _gap_error(estimates)},
        "mean_std_error": frame.std_error.mean(),
        "memorized": {"threshold": rules.mem_threshold, "count": above, "share": above / len(frame)} | _shape(frame.mem),
    }


def _shape(mem: pd.Series) -> dict:
    """Whether the histogram is U-shaped: how many lie near one, against the mean of the four bins in the middle."""
    near_one, middle = int((mem >= 0.9).sum()), int(((mem >= 0.3) & (mem < 0.7)).sum())
    return {
        "near_one": {"value": near_one, "std_error": near_one**0.5},
        "middle": {"value": middle / 4, "std_error": middle**0.5 / 4},
    }


def _gap_error(estimates: Estimates) -> float:
    """Standard error of the mean memorization: between trials, for within one trial all examples share a model."""
    inside, outside = _by_trial(estimates)
    return float((inside - outside).std(ddof=1) / np.sqrt(estimates.trials)) if estimates.trials > 1 else float("nan")


def _by_trial(estimates: Estimates) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of each trial on its own subset and on the rest of the training set."""
    members, correct = estimates.members, estimates.train_correct
    return (members & correct).sum(1) / members.sum(1), (~members & correct).sum(1) / (~members).sum(1)


def _counts(table: pd.DataFrame, estimates: Estimates, rules: Estimate) -> dict:
    thresholds = rules.mem_threshold, rules.infl_threshold
    chosen = pairs.select(table, *thresholds, rules)
    counted, by_test = pairs.counts(chosen), chosen.test.value_counts()
    return {
        "mem_threshold": rules.mem_threshold,
        "infl_threshold": rules.infl_threshold,
        "count": counted["pairs"],
        "unique_tests": counted["tests"],
        "single_influencer_tests": counted["single-influencer tests"],
        "unique_trains": counted["training examples"],
        "max_influencers": int(by_test.max()) if len(by_test) else 0,
        "share_of_tests": len(by_test) / estimates.test_correct.shape[1],
        "mirrored_count": len(pairs.mirrored(table, *thresholds, rules)),
        "weak": {"threshold": WEAK} | _proportion(int((chosen.infl < WEAK).sum()), len(chosen)),
    }


def _proportion(part: int, whole: int) -> dict:
    share = part / whole if whole else float("nan")
    error = np.sqrt(share * (1 - share) / whole) if whole else float("nan")
    return {"share": {"value": share, "std_error": error}}


def _null_pairs(estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    """Pairs, and memorized examples, that remain when the rows of the masks are dealt to other models."""
    found, memorized, spread = [], [], []
    for _ in range(rules.null_permutations):
        null = estimators.permuted(estimates, rng)
        by_chance = estimates.pairs(rules.mem_threshold, rules.infl_threshold, influence_of=null)
        found.append((by_chance.infl > 0).sum())
        memorized.append((null.memorization.mem >= rules.mem_threshold).sum())
        spread.append(null.memorization.mem.std())
    return {
        "null_permutations": rules.null_permutations,
        "null_count": float(np.mean(found)),
        "null_memorized": float(np.mean(memorized)),
        "null_mem_std": float(np.mean(spread)),
    }


def _reliability(estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    """Agreement of two halves of the trials, averaged over random splits; influence is selected on one half and measured
    on the other, because the same trials would flatter what they selected."""
    splits = pd.DataFrame([_one_split(estimates, rules, rng) for _ in range(rules.reliability_splits)])
    return splits.mean().to_dict()


def _one_split(estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    first, second = (estimators.part(estimates, rows) for rows in estimators.halves(estimates.trials, rng))
    mem = pd.DataFrame({"a": first.memorization.mem, "b": second.memorization.mem}).dropna()
    a, b = (half.pairs(rules.mem_threshold, rules.infl_threshold) for half in (first, second))
    a, b = a[a.infl > 0], b[b.infl > 0]
    shuffled = estimators.permuted(second, rng).memorization.mem
    both = len(a.merge(b, on=["train", "test"]))
    again, _ = second.influence_at(a.train, a.test)
    return {
        "memorization_pearson": mem.a.corr(mem.b),
        "memorization_spearman": mem.a.rank().corr(mem.b.rank()),
        "null_pearson": first.memorization.mem.corr(shuffled),
        "memorization_rmse": float(np.sqrt(((mem.a - mem.b) ** 2).mean() / 2)),
        "pairs_count": len(a),
        "pairs_jaccard": both / max(len(a) + len(b) - both, 1),
        "influence_where_selected": a.infl.mean(),
        "influence_measured_afresh": quantities.mean(again[~np.isnan(again)])["value"],
    }


def _bounds(estimates: Estimates, ratio: float, rng: np.random.Generator) -> dict:
    """Measured mean squared error at half the trials (two halves differ by twice it) beside Lemma 2.1 and the binomial."""
    halves = estimators.halves(estimates.trials, rng)
    first, second = (estimators.part(estimates, rows).memorization.mem for rows in halves)
    trials = len(halves[0])
    return {
        "trials": trials,
        "mean_squared_error": _mean(((first - second) ** 2 / 2).dropna().to_numpy()),
        "lemma": estimators.lemma_bound(trials, ratio),
        "binomial": estimators.binomial_bound(trials, ratio),
    }


def error_by_trials(estimates: Estimates, ratio: float) -> pd.DataFrame:
    """Root mean squared error of memorization from t trials, measured between disjoint groups, with both bounds."""
    grid = [t for t in (25, 50, 100, 200, 400, 800, 1000, 2000) if estimates.trials // t >= 2]
    rows = [
        {
            "trials": t,
            "groups": estimates.trials // t,
            "rmse": np.sqrt(estimators.mean_squared_error(estimates, t)),
            "lemma_bound": np.sqrt(estimators.lemma_bound(t, ratio)),
            "binomial_bound": np.sqrt(estimators.binomial_bound(t, ratio)),
        }
        for t in grid
    ]
    return pd.DataFrame(rows, columns=["trials", "groups", "rmse", "lemma_bound", "binomial_bound"])
