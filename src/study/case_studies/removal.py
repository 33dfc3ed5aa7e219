"""Stage `removal`: are memorized examples useful? Train fresh models without them, and without as many random ones.

Which examples are removed was decided by the trials of a setting; what their removal costs is measured by models that
took no part in the decision, so nothing is flattered by its own selection. Model r has the same initial weights in every
arm, and its own random set wherever a random set is removed: differences are taken model by model, and their standard
errors hold both sources of chance. For one model the random sets of growing size are nested.

On digits, 26 arms of 200 networks take about a minute on two idle cores; the standard error of a drop is 0.03 points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import pairs as high_influence
from study import tables, trials
from study.data import Data
from study.params import Estimate, Removal, Setting
from study.quantities import UNKNOWN, clustered_mean, difference, mean, ratio
from study.subsets import trial_seeds


class Arm(NamedTuple):
    """One condition of the experiment: what is removed, and its threshold (`memorized`) or count (`random`)."""

    kind: str
    amount: float = 0


EVERYTHING = Arm("random", 0)
INFLUENCERS, SOME_INFLUENCERS, OTHERS = Arm("influencers"), Arm("some influencers"), Arm("other memorized")


def run(name: str, section: Removal, setting: Setting, rule: Estimate, client: Client | None = None) -> dict:
    """Train every arm, save `removal_curve`, `removal_influencers`, `removal_tests` and `removal`, return the last.

    Reads the estimates of the setting ``name``; ``rule`` says which of its pairs have high influence. Raises
    ``FileNotFoundError`` if they have not been estimated.
    """
    data = datasets.load(setting.data)
    mem = tables.load(name, "memorization").mem.to_numpy()
    table = tables.load(name, "pairs")
    chosen = high_influence.select(table, rule.mem_threshold, rule.infl_threshold, rule)
    removed = arms(section, mem, chosen, rule.mem_threshold)
    results = Results(retrain(setting, data, removed, section.seed, client), removed, affected(chosen, data))
    summary = {"setting": name} | summarise(results, section, chosen, data)
    tables.save(name, "removal_curve", curve(results))
    tables.save(name, "removal_influencers", groups(results))
    tables.save(name, "removal_tests", by_test(results))
    tables.save(name, "removal", summary)
    return summary


def affected(chosen: pd.DataFrame, data: Data) -> np.ndarray:
    """The test examples that occur in a pair, bool ``(n_test,)``."""
    return np.isin(np.arange(data.n_test), chosen.test)


def arms(section: Removal, mem: np.ndarray, chosen: pd.DataFrame, mem_threshold: float) -> dict[Arm, np.ndarray]:
    """What each arm leaves out, bool ``(repeats, n)``.

    The two last arms tell influence from memorization: memorized examples that are in no pair, and as many influencers.
    """
    ranks = random_ranks(section, len(mem))
    influencer = np.isin(np.arange(len(mem)), chosen.train)
    other = (mem >= mem_threshold) & ~influencer
    fewer = min(influencer.sum(), other.sum())
    fixed = {Arm("memorized", t): mem >= t for t in section.thresholds} | {INFLUENCERS: influencer}
    removed = {arm: np.tile(mask, (section.repeats, 1)) for arm, mask in fixed.items()}
    removed |= {SOME_INFLUENCERS: some_of(influencer, fewer, ranks), OTHERS: some_of(other, fewer, ranks)}
    sizes = {0, *(round(share * len(mem)) for share in section.random_shares)}
    sizes |= {int(mask[0].sum()) for mask in removed.values()}
    return removed | {Arm("random", size): ranks < size for size in sorted(sizes)}


def random_ranks(section: Removal, n: int) -> np.ndarray:
    """A random ranking of the examples for every repeat, int ``(repeats, n)``."""
    seeds = trial_seeds(section.seed, range(section.repeats))
    return np.stack([seed.generator("subset").permutation(n) for seed in seeds])


def some_of(mask: np.ndarray, count: int, ranks: np.ndarray) -> np.ndarray:
    """In each repeat ``count`` random examples of those in ``mask (n,)``, bool ``(repeats, n)``."""
    order = np.where(mask, ranks, mask.size).argsort(1).argsort(1)
    return order < count


def retrain(setting: Setting, data: Data, removed: Mapping[Arm, np.ndarray], seed: int, client: Client | None = None):
    """Which tests the models of each arm get right, bool ``(repeats, n_test)`` for each arm."""
    members = ~np.concatenate(list(removed.values()))
    seeds = [each for mask in removed.values() for each in trial_seeds(seed, range(len(mask)))]
    _, labels = trials.predict(setting.learner, data, members, seeds, client, title="removal")
    ends = np.cumsum([len(mask) for mask in removed.values()])
    return dict(zip(removed, np.split(labels == data.y_test, ends[:-1])))


@dataclass(frozen=True)
class Results:
    """``correct[arm] (repeats, n_test)``, ``removed[arm] (repeats, n)`` and ``affected (n_test,)``, all bool."""

    correct: Mapping[Arm, np.ndarray]
    removed: Mapping[Arm, np.ndarray]
    affected: np.ndarray

    def accuracy(self, arm: Arm, on: np.ndarray | None = None) -> np.ndarray:
        """Test accuracy of each model, float ``(repeats,)``, on the tests in ``on (n_test,)``; NaN if there is none."""
        correct = self.correct[arm] if on is None else self.correct[arm][:, on]
        return correct.mean(1) if correct.shape[1] else np.full(len(correct), np.nan)

    def drop(self, arm: Arm, on: np.ndarray | None = None) -> np.ndarray:
        """Accuracy of each model trained on everything less that of its partner in ``arm``, ``(repeats,)``."""
        return self.accuracy(EVERYTHING, on) - self.accuracy(arm, on)

    def count(self, arm: Arm) -> int:
        return int(self.removed[arm][0].sum())

    def matched(self, arm: Arm) -> Arm:
        """The arm that removes as many random examples."""
        return Arm("random", self.count(arm))

    def where(self) -> dict[str, np.ndarray]:
        return {"all": np.ones_like(self.affected), "affected": self.affected, "elsewhere": ~self.affected}


def curve(results: Results) -> pd.DataFrame:
    """One row an arm: kind, threshold (NaN for random sets), removed, remaining (share), accuracy, std, std_error, drop."""
    curves = [arm for arm in results.correct if arm.kind in ("memorized", "random")]
    return pd.DataFrame([_curve_row(results, arm) for arm in curves]).sort_values(["kind", "removed"], ignore_index=True)


def _curve_row(results: Results, arm: Arm) -> dict:
    threshold = arm.amount if arm.kind == "memorized" else float("nan")
    n = results.removed[arm].shape[1]
    row = {"kind": arm.kind, "threshold": threshold, "removed": results.count(arm), "remaining": 1 - results.count(arm) / n}
    accuracy, drop = results.accuracy(arm), mean(results.drop(arm))
    row |= {"accuracy": accuracy.mean(), "std": accuracy.std(), "std_error": mean(accuracy)["std_error"]}
    return row | {"drop": drop["value"], "drop_std_error": drop["std_error"]}


def groups(results: Results) -> pd.DataFrame:
    """One row an arm and a part of the test set: arm, removed, tests, count, accuracy, std_error, drop, drop_std_error."""
    compared = (EVERYTHING, INFLUENCERS, results.matched(INFLUENCERS), SOME_INFLUENCERS, OTHERS, results.matched(OTHERS))
    parts = results.where().items()
    return pd.DataFrame([_group_row(results, arm, *part) for arm in dict.fromkeys(compared) for part in parts])


def _group_row(results: Results, arm: Arm, tests: str, on: np.ndarray) -> dict:
    accuracy, drop = mean(results.accuracy(arm, on)), mean(results.drop(arm, on))
    row = {"arm": "nothing" if arm == EVERYTHING else arm.kind, "removed": results.count(arm), "tests": tests}
    row |= {"count": int(on.sum()), "accuracy": accuracy["value"], "std_error": accuracy["std_error"]}
    return row | {"drop": drop["value"], "drop_std_error": drop["std_error"]}


def by_test(results: Results) -> pd.DataFrame:
    """One row a test: its accuracy over models trained on everything and on all but the influencers, and the drop."""
    with_all, without = (results.correct[arm].mean(0) for arm in (EVERYTHING, INFLUENCERS))
    paired = results.correct[EVERYTHING].astype(float) - results.correct[INFLUENCERS]
    error = paired.std(0, ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.full(len(with_all), np.nan)
    columns = {"test": np.arange(len(with_all)), "affected": results.affected, "with_all": with_all, "without": without}
    return pd.DataFrame(columns | {"drop": with_all - without, "std_error": error})


def summarise(results: Results, section: Removal, chosen: pd.DataFrame, data: Data) -> dict:
    """The numbers that chapters and claims quote; drops are fractions of the tests they are measured on."""
    return {
        "repeats": section.repeats,
        "n": data.n,
        "n_test": data.n_test,
        "all_data": {"test_accuracy": mean(results.accuracy(EVERYTHING))},
        "influencers": _influencers(results),
        "other_memorized": _others(results),
        "curve": _curve_summary(results, section),
        "pairs": _likeness(chosen, data),
    }


def _influencers(results: Results) -> dict:
    on, random = results.affected, results.matched(INFLUENCERS)
    drop, explained = results.drop(INFLUENCERS), results.drop(INFLUENCERS, on) * on.mean()
    return {
        "count": results.count(INFLUENCERS),
        "affected_tests": int(on.sum()),
        "accuracy": mean(results.accuracy(INFLUENCERS)),
        "drop": mean(drop),
        "affected_before": mean(results.accuracy(EVERYTHING, on)),
        "affected_after": mean(results.accuracy(INFLUENCERS, on)),
        "affected_drop": mean(results.drop(INFLUENCERS, on)),
        "explained_drop": mean(explained),
        "explained_share": ratio(explained, drop),
        "elsewhere_drop": mean(results.drop(INFLUENCERS, ~on)),
        "random_drop": mean(results.drop(random)),
        "random_affected_drop": mean(results.drop(random, on)),
        "random_elsewhere_drop": mean(results.drop(random, ~on)),
        "equivalent_random": equivalent(results, drop),
    }


def equivalent(results: Results, drop: np.ndarray) -> dict[str, float]:
    """How many random examples cost as much accuracy as ``drop (repeats,)``: a line between the two sizes around it.

    NaN where the largest random set that was tried costs less.
    """
    sizes = np.array(sorted(arm.amount for arm in results.correct if arm.kind == "random"))
    costs = np.stack([results.drop(Arm("random", size)) for size in sizes])
    means = np.maximum.accumulate(costs.mean(1))
    above = np.flatnonzero(means > max(drop.mean(), 0))
    if not len(above):
        return dict(UNKNOWN)
    high, low = above[0], above[0] - 1
    slope = (means[high] - means[low]) / (sizes[high] - sizes[low])
    weight = (drop.mean() - means[low]) / (means[high] - means[low])
    excess = drop - (1 - weight) * costs[low] - weight * costs[high]
    return {"value": sizes[low] + weight * (sizes[high] - sizes[low]), "std_error": mean(excess)["std_error"] / slope}


def _others(results: Results) -> dict:
    on = results.affected
    return {
        "count": results.count(OTHERS),
        "drop": mean(results.drop(OTHERS)),
        "affected_drop": mean(results.drop(OTHERS, on)),
        "influencers_drop": mean(results.drop(SOME_INFLUENCERS)),
        "influencers_affected_drop": mean(results.drop(SOME_INFLUENCERS, on)),
        "random_drop": mean(results.drop(results.matched(OTHERS))),
        "difference": mean(results.drop(SOME_INFLUENCERS) - results.drop(OTHERS)),
    }


def _curve_summary(results: Results, section: Removal) -> dict:
    memorized = [Arm("memorized", threshold) for threshold in section.thresholds]
    costs = np.stack([results.drop(arm) for arm in memorized])
    random = np.stack([results.drop(results.matched(arm)) for arm in memorized])
    return {
        "thresholds": list(section.thresholds),
        "removed": [results.count(arm) for arm in memorized],
        "difference": [mean(values) for values in costs - random],
        "mean_difference": mean((costs - random).mean(0)),
        "random_against_random": _between_halves(random.mean(0)),
    }


def _between_halves(values: np.ndarray) -> dict[str, float]:
    """First half of the models less the second, whose random sets and seeds have nothing in common."""
    first, second = (mean(half) for half in np.array_split(values, 2))
    return difference(first, second)


def _likeness(chosen: pd.DataFrame, data: Data) -> dict:
    within, to_class = high_influence.distances(chosen, data), high_influence.class_distances(chosen, data)
    clusters = chosen.train.to_numpy()
    measured = {"distance": within, "random_distance": to_class, "distance_difference": to_class - within}
    return {"count": len(chosen)} | {key: clustered_mean(values, clusters) for key, values in measured.items()}
