"""Stage `estimate`: from a prediction file to the tables that the chapters read.

Writes ``tables/<setting>/``: `memorization` (one row an example), `pairs` (both signs of influence, down to the floors in
``params.yaml``), `error_by_trials` (measured error against Lemma 2.1), `settling` (how far two halves agree, and how many
pairs there are, with fewer trials) and `summary`.
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
    results = everything(estimates, setting, rules)
    results["summary"] |= {"diverged": diverged}
    for table, content in results.items():
        tables.save(name, table, content)
    return results["summary"]


def everything(estimates: Estimates, setting: Setting, rules: Estimate) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name, from arrays in memory."""
    strongest = estimates.pairs(rules.mem_floor, rules.infl_floor, at_most=rules.pairs_kept)
    return {
        "memorization": estimates.memorization,
        "pairs": strongest,
        "error_by_trials": error_by_trials(estimates, setting.ratio),
        "settling": settling(estimates, rules),
        "summary": summarise(estimates, strongest, setting, rules),
    }


def of_setting(name: str, setting: Setting) -> tuple[Estimates, int]:
    """Estimates from the verified prediction file of a setting, and how many diverged trials were left out."""
    data = datasets.load(setting.data)
    file = predictions.load(predictions.path_of(name))
    members = predictions.verify(file, setting, data)
    good = ~file.diverged.values
    rows = slice(None) if good.all() else good  # a slice copies nothing
    correct = (file[variable].values[rows] for variable in ("train_correct", "test_correct"))
    return estimators.estimate(members[rows], *correct, data.y_train, data.y_test), int((~good).sum())


def summarise(estimates: Estimates, table: pd.DataFrame, setting: Setting, rules: Estimate) -> dict:
    """The numbers that chapters and claims quote; a quantity with chance in it is ``{"value", "std_error"}``."""
    rng = np.random.default_rng(np.random.SeedSequence(rules.seed))
    return {
        "data": setting.data,
        "n": estimates.shape[0],
        "n_test": estimates.shape[1],
        "trials": estimates.trials,
        "ratio": setting.ratio,
        **_accuracies(estimates),
        **_memorized(estimates, rules),
        "pairs": _pairs(table, estimates, rules, rng),
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
    inside = np.array([np.count_nonzero(row & right) for row, right in zip(members, correct)])
    size, right = np.count_nonzero(members, axis=1), np.count_nonzero(correct, axis=1)
    return inside / size, (right - inside) / (members.shape[1] - size)


def _pairs(table: pd.DataFrame, estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    found = _counts(estimates, rules)
    return (
        found
        | _null_pairs(estimates, rules, found["count"], rng)
        | {"kept": {"count": len(table), "infl_floor": pairs.infl_floor(table, rules)}}
    )


def _counts(estimates: Estimates, rules: Estimate) -> dict:
    thresholds, shape = (
        (rules.mem_threshold, rules.infl_threshold),
        (estimates.shape[0], estimates.shape[1]),
    )
    found = pairs.tally(estimates.pair_blocks(*thresholds), shape, rules.infl_threshold, WEAK)
    by_test, count = found["by_test"], int(found["by_test"].sum())
    tests = int((by_test > 0).sum())
    return {
        "mem_threshold": rules.mem_threshold,
        "infl_threshold": rules.infl_threshold,
        "count": count,
        "unique_tests": tests,
        "single_influencer_tests": int((by_test == 1).sum()),
        "unique_trains": int((found["by_train"] > 0).sum()),
        "max_influencers": int(by_test.max()),
        "share_of_tests": tests / len(by_test),
        "mirrored_count": found["mirrored"],
        "weak": {"threshold": WEAK} | _proportion(found["weak"], count),
    }


def _proportion(part: int, whole: int) -> dict:
    share = part / whole if whole else float("nan")
    error = np.sqrt(share * (1 - share) / whole) if whole else float("nan")
    return {"share": {"value": share, "std_error": error}}


def _null_pairs(estimates: Estimates, rules: Estimate, count: int, rng: np.random.Generator) -> dict:
    """Pairs, and memorized examples, that remain when the rows of the masks are dealt to other models.

    ``false_discovery`` is the share of the ``count`` pairs found that chance explains: with few trials nearly all.
    """
    found, memorized, spread = [], [], []
    for _ in range(rules.null_permutations):
        null = estimators.permuted(estimates, rng)
        found.append(_positive(estimates, rules, null))
        memorized.append((null.memorization.mem >= rules.mem_threshold).sum())
        spread.append(null.memorization.mem.std())
    by_chance = quantities.mean(np.array(found))
    return {
        "null_permutations": rules.null_permutations,
        "null_count": by_chance["value"],
        "null_memorized": float(np.mean(memorized)),
        "null_mem_std": float(np.mean(spread)),
        "false_discovery": {key: number / count for key, number in by_chance.items()} if count else quantities.UNKNOWN,
    }


def _positive(estimates: Estimates, rules: Estimate, influence_of: Estimates | None = None) -> int:
    """Number of pairs with positive influence that pass the thresholds."""
    blocks = estimates.pair_blocks(rules.mem_threshold, rules.infl_threshold, influence_of=influence_of)
    return sum(int((infl > 0).sum()) for _, _, infl, _ in blocks)


def _reliability(estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    """Agreement of two halves of the trials, averaged over random splits; influence is selected on one half and measured
    on the other, because the same trials would flatter what they selected."""
    splits = pd.DataFrame([_one_split(estimates, rules, rng) for _ in range(rules.reliability_splits)])
    return splits.mean().to_dict()


def _one_split(estimates: Estimates, rules: Estimate, rng: np.random.Generator) -> dict:
    rows, other = estimators.halves(estimates.trials, rng)
    first, a = _half(estimators.part(estimates, rows), rules)
    rest = estimators.part(estimates, other)
    second, b = _half(rest, rules)
    shuffled = estimators.permuted(rest, rng).memorization.mem
    return {
        **_agreement(first.mem, second.mem),
        "null_pearson": first.mem.corr(shuffled),
        "pairs_count": int((a.infl > 0).sum()),
        **_overlap(a, b),
        **_afresh(a[a.infl > 0], rest, rules.infl_threshold),
    }


def _half(half: Estimates, rules: Estimate) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Memorization, and the pairs of either sign, from one half of the trials."""
    return half.memorization, half.pairs(rules.mem_threshold, rules.infl_threshold)


def _agreement(first: pd.Series, second: pd.Series) -> dict:
    """Two estimates of memorization over the examples that both identify: correlations, and the error of each of them."""
    mem = pd.DataFrame({"a": first, "b": second}).dropna()
    return {
        "memorization_pearson": mem.a.corr(mem.b),
        "memorization_spearman": mem.a.rank().corr(mem.b.rank()),
        "memorization_rmse": float(np.sqrt(((mem.a - mem.b) ** 2).mean() / 2)),
    }


def _overlap(a: pd.DataFrame, b: pd.DataFrame) -> dict:
    """Pairs of positive influence in common over those in either, and how many there are in common with the other half's
    negative ones: where chance made them, about as many. NaN where there is none in either.
    """
    above, again, below = a[a.infl > 0], b[b.infl > 0], b[b.infl < 0]
    return {"pairs_jaccard": _jaccard(above, again), "mirrored_jaccard": _jaccard(above, below)}


def _jaccard(a: pd.DataFrame, b: pd.DataFrame) -> float:
    first, second = ((chosen.train.to_numpy() << 32) + chosen.test.to_numpy() for chosen in (a, b))
    both = len(np.intersect1d(first, second, assume_unique=True))
    either = len(a) + len(b) - both
    return both / either if either else float("nan")


def _afresh(chosen: pd.DataFrame, other: Estimates, threshold: float) -> dict:
    """What trials that did not select ``chosen`` say of it: mean influence, and the share that passes the threshold again.

    ``survivors_mirrored`` is the share at or below minus the threshold: as many pass above it by chance.
    """
    again, _ = other.influence_at(chosen.train, chosen.test)
    again = again[~np.isnan(again)]
    return {
        "influence_where_selected": chosen.infl.mean(),
        "influence_measured_afresh": quantities.mean(again)["value"],
        "survivors": quantities.mean(again >= threshold)["value"],
        "survivors_mirrored": quantities.mean(again <= -threshold)["value"],
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


def settling(estimates: Estimates, rules: Estimate) -> pd.DataFrame:
    """How reliability and pairs settle as the number of trials grows: a row for each number and each random choice of them.

    ``pairs`` and ``mean_std_error`` (of memorization) come from all ``trials`` chosen, ``null_pairs`` from the same with the
    masks' rows permuted once. The rest compares two disjoint halves of the choice, ``half`` trials each: correlations and
    error of memorization, ``half_pairs`` (the mean of both) and the pairs in common (see `_overlap`). The choices overlap
    the more, the nearer ``trials`` is to all; where it is all of them, repeats differ only in split and permutation.
    """
    grid = [*sorted({t for t in rules.settling_trials if t < estimates.trials}), estimates.trials]
    return pd.DataFrame([_settled(estimates, t, repeat, rules) for t in grid for repeat in range(rules.settling_repeats)])


def _settled(estimates: Estimates, t: int, repeat: int, rules: Estimate) -> dict:
    rng = np.random.default_rng(np.random.SeedSequence(rules.seed, spawn_key=(t, repeat)))
    chosen = estimators.part(estimates, np.sort(rng.permutation(estimates.trials)[:t]))
    halves = estimators.halves(t, rng)
    (first, a), (second, b) = (_half(estimators.part(chosen, rows), rules) for rows in halves)
    return {
        "trials": t,
        "repeat": repeat,
        "mean_std_error": chosen.memorization.std_error.mean(),
        "pairs": _positive(chosen, rules),
        "null_pairs": _positive(chosen, rules, estimators.permuted(chosen, rng)),
        "half": t // 2,
        **_agreement(first.mem, second.mem),
        "half_pairs": ((a.infl > 0).sum() + (b.infl > 0).sum()) / 2,
        **_overlap(a, b),
    }
