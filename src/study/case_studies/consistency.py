"""Stage `consistency`: do different learners memorize the same examples, and find the same pairs?

Two learners on one data set select examples (memorization at or above a threshold) or pairs (influence, too). Their
agreement is the Jaccard similarity of the two selections, and the mean absolute difference of the two estimates over the
union, both as functions of the threshold (talk, slide on consistency across architectures; Feldman & Zhang 2020, arXiv
2008.03703, architecture study).

What such a number means depends on four things that are easily forgotten, so they are built in:

* *Equal numbers of trials.* Noise lowers similarity. All selections of a data set come from ``h`` trials, half of the
  smallest common number; longer prediction files are cut to their first trials.
* *No shared subsets.* Settings of one seed draw the same subsets, so trial k of one and trial k of the other err together.
  The first half of one learner's trials is compared with the second half of the other's, and the other way round; the
  table holds the flattered value from shared subsets beside it.
* *A ceiling.* A learner compared with itself, on the other half of its trials, and with a setting that differs in the seed
  alone, is how similar two selections are where nothing but chance differs.
* *A floor.* Scores of one side are dealt to other examples of the same class, for a similarity that means nothing.

Standard errors are the spread over random halves of each half of the trials (`spread`): they are errors over trials, and
the examples are taken as given.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd

from study import data as datasets
from study import estimators, predictions
from study.data import Data
from study.estimators import Estimates
from study.params import Consistency, Estimate, Params, Setting

MEASURES = ("memorization", "influence")
KINDS = ("itself", "repeat", "network", "other")
NO_NETWORK = ("nearest_neighbour", "frozen_features")  # learners that are not a network trained as a whole


def run(study: Params) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name: `learners`, `curves`, `agreement` and `summary`.

    Raises ``ValueError`` for settings of different data in one list, or too few trials to halve them twice.
    """
    rules, parts = study.consistency, []
    for name, listed in rules.settings.items():
        settings = {setting: study.setting(setting) for setting in listed}
        data = _common_data(name, settings)
        parts.append(of_data_set(name, first_trials(settings, data), rules, study.estimate))
    tables = {key: pd.concat([part[key] for part in parts], ignore_index=True) for key in parts[0]}
    return tables | {"summary": summarise(tables, study.estimate)}


def _common_data(name: str, settings: dict[str, Setting]) -> Data:
    found = {setting: entry.data for setting, entry in settings.items()}
    if len(set(found.values())) > 1:
        raise ValueError(
            f"consistency.settings.{name} of params.yaml lists settings of different data: "
            f"{', '.join(f'{setting} ({data})' for setting, data in found.items())}; learners are compared on one"
        )
    return datasets.load(next(iter(found.values())))


@dataclass(frozen=True, eq=False)
class Learner:
    """One setting with the results of its first trials.

    ``trial (t,)`` holds the number of each row of ``estimates``: where a trial diverged, its number is missing. ``key`` is
    equal for settings that differ in the seed alone; ``network`` tells a network trained as a whole from other learners.
    """

    name: str
    estimates: Estimates
    trial: np.ndarray
    key: str
    seed: int
    network: bool = True

    def rows(self, trials: np.ndarray) -> np.ndarray:
        """Rows of the trials with these numbers, as far as they are there."""
        return np.flatnonzero(np.isin(self.trial, trials))


def first_trials(settings: dict[str, Setting], data: Data) -> list[Learner]:
    """The learners of verified prediction files, each cut to the smallest number of trials that all of them have."""
    files = {name: predictions.load(predictions.path_of(name)) for name in settings}
    t = min(file.sizes["trial"] for file in files.values())
    return [_learner(name, settings[name], files.pop(name).isel(trial=slice(t)), data) for name in settings]


def _learner(name: str, setting: Setting, file, data: Data) -> Learner:
    members, good = predictions.verify(file, setting, data), ~file.diverged.values
    results = (file[variable].values[good] for variable in ("train_correct", "test_correct"))
    estimates = estimators.estimate(members[good], *results, data.y_train, data.y_test)
    key = setting.model_dump_json(exclude={"seed", "trials"})
    return Learner(name, estimates, file.trial.values[good], key, setting.seed, setting.learner.name not in NO_NETWORK)


@dataclass(frozen=True, eq=False)
class Scores:
    """Memorization and pairs from some trials of a learner.

    ``mem (n,)`` is NaN where not identified; ``pairs`` are the same-class pairs whose mem and infl reach their lowest
    thresholds, one int64 each (see `_pair`), ascending. ``train_of (n,)`` and ``test_of (n_test,)`` say whose influence an
    example carries: its own, unless `shuffled` dealt them.
    """

    estimates: Estimates = field(repr=False)
    mem: np.ndarray = field(repr=False)
    pairs: np.ndarray = field(repr=False)
    train_of: np.ndarray = field(repr=False)
    test_of: np.ndarray = field(repr=False)

    def influence(self, pairs: np.ndarray) -> np.ndarray:
        """Influence of each of ``pairs``."""
        return self.estimates.influence_at(self.train_of[pairs >> 32], self.test_of[pairs & LOW])[0]

    def shuffled(self, rng: np.random.Generator) -> "Scores":
        """The same scores dealt to other examples of the same class."""
        train = _within_classes(self.estimates.train_labels, rng)
        test = _within_classes(self.estimates.test_labels, rng)
        pairs = np.sort(_pair(np.argsort(train)[self.pairs >> 32], np.argsort(test)[self.pairs & LOW]))
        return Scores(self.estimates, self.mem[train], pairs, self.train_of[train], self.test_of[test])


LOW = 0xFFFFFFFF  # the bits of a pair that hold its test


def _pair(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    return (train.astype(np.int64) << 32) + test


def _within_classes(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A permutation of the examples that moves none to another class."""
    order = np.arange(len(labels))
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        order[of_class] = rng.permutation(of_class)
    return order


def scores_of(estimates: Estimates, rows: np.ndarray, mem_threshold: float, infl_floor: float) -> Scores:
    """The scores from some ``rows`` of `Estimates` with labels; pairs down to the threshold and the floor."""
    some = estimators.part(estimates, rows)
    found = some.pairs(mem_threshold, infl_floor)
    pairs = np.sort(_pair(*(found.loc[found.infl > 0, side].to_numpy() for side in ("train", "test"))))
    identity = (np.arange(length) for length in some.shape)
    fresh = estimators.part(estimates, rows)  # `some` holds a table of all examples, and there are many such scores
    return Scores(fresh, some.memorization.mem.to_numpy(copy=True), pairs, *identity)


def similarity(a, b, thresholds, chosen_by_a=True, chosen_by_b=True) -> pd.DataFrame:
    """Agreement of two score vectors ``(k,)`` of the same items at each of ``thresholds``: one row a threshold.

    ``jaccard`` is the number of items that both select over the number that either selects, NaN where there is none;
    ``difference`` the mean of abs(a - b) over the latter; ``first`` and ``second`` count the two selections. An item is
    selected by a score at or above the threshold, and only where ``chosen_by_a (k,)`` or ``chosen_by_b (k,)`` allows it.
    Items that one of the two does not identify (NaN) are left out.

    >>> similarity(np.array([0.9, 0.6, 0.0]), np.array([0.7, 0.2, 0.0]), [0.5]).round(2).iloc[0].tolist()
    [0.5, 0.3, 2.0, 1.0]
    """
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    first, second = _selected(a, thresholds, chosen_by_a, known), _selected(b, thresholds, chosen_by_b, known)
    either = (first | second).sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: neither selects anything
        jaccard, difference = (first & second).sum(1) / either, (first | second) @ np.abs(a - b) / either
    return pd.DataFrame({"jaccard": jaccard, "difference": difference, "first": first.sum(1), "second": second.sum(1)})


def _selected(values: np.ndarray, thresholds, allowed, known: np.ndarray) -> np.ndarray:
    allowed = np.broadcast_to(allowed, known.shape)[known]
    return (values >= np.asarray(thresholds)[:, None]) & allowed


def compare(a: Scores, b: Scores, rules: Consistency) -> np.ndarray:
    """All statistics of one comparison as a vector, in the order of `layout`."""
    either = np.union1d(a.pairs, b.pairs)
    chosen = (np.isin(either, side.pairs, assume_unique=True) for side in (a, b))
    influence = similarity(a.influence(either), b.influence(either), rules.infl_thresholds, *chosen)
    memorization = similarity(a.mem, b.mem, rules.mem_thresholds)
    known = ~np.isnan(a.mem) & ~np.isnan(b.mem)
    pearson = pd.Series(a.mem[known]).corr(pd.Series(b.mem[known]))
    return np.concatenate([memorization.to_numpy().ravel(), influence.to_numpy().ravel(), [pearson]])


def layout(rules: Consistency) -> pd.DataFrame:
    """What each entry of `compare` is: measure, threshold and statistic; the last is the correlation of memorization."""
    grids = zip(MEASURES, (rules.mem_thresholds, rules.infl_thresholds))
    rows = [
        (measure, threshold, statistic)
        for measure, grid in grids
        for threshold in grid
        for statistic in ("jaccard", "difference", "first", "second")
    ]
    return pd.DataFrame([*rows, ("memorization", np.nan, "pearson")], columns=["measure", "threshold", "statistic"])


def samples(h: int, rules: Consistency) -> list[list[np.ndarray]]:
    """Numbers of the trials to compare: ``[half][0]`` all h of a half, ``[half][1 ...]`` random halves of these.

    The same for all learners. Raises ``ValueError`` if ``h`` is below 4.
    """
    if h < 4:
        raise ValueError(f"half of the smallest common number of trials is {h}; at least 4 are needed. Train more trials")
    rng = np.random.default_rng(np.random.SeedSequence(rules.seed))
    first = np.arange(h)
    chosen = [first, *(np.sort(rng.permutation(h)[: h // 2]) for _ in range(rules.replicates))]
    return [chosen, [trials + h for trials in chosen]]


def spread(values: np.ndarray) -> np.ndarray:
    """Standard errors from ``values (1 + replicates, ...)``: with all trials, and with random halves of them.

    Half of a sample of k, drawn without replacement, varies about the whole of it by the variance 1/(k/2) - 1/k = 1/k of
    the whole itself: the delete-half jackknife, whose steps are large enough to move examples across a threshold. Leaving
    out single groups is not: where no score lies very near a threshold, it reports no error at all.
    """
    return values[1:].std(0, ddof=1)


def of_data_set(name: str, learners: list[Learner], rules: Consistency, selection: Estimate) -> dict[str, pd.DataFrame]:
    """The tables `learners`, `curves` and `agreement` of one data set, whose ``learners`` hold equal numbers of trials."""
    h = (min(int(learner.trial.max()) for learner in learners) + 1) // 2
    cells = {learner.name: _cells(learner, samples(h, rules), min(rules.infl_thresholds), selection) for learner in learners}
    pairs = list(combinations_with_replacement(learners, 2))
    values = {(a.name, b.name): _crossed(cells[a.name], cells[b.name], a is b, rules) for a, b in pairs}
    curves = [_curves(a, b, values[a.name, b.name], cells, rules) for a, b in pairs]
    return {
        "learners": pd.DataFrame([_learner_row(a, h, cells[a.name], selection) for a in learners]).assign(data=name),
        "curves": pd.concat(curves, ignore_index=True).assign(data=name, h=h),
        "agreement": pd.DataFrame([_agreement(a, b, values) for a, b in pairs]).assign(data=name, h=h),
    }


def _cells(learner: Learner, chosen: list, infl_floor: float, selection: Estimate) -> list[list[Scores]]:
    """Scores by half and sample, in the order of `samples`."""
    rows = [[learner.rows(trials) for trials in half] for half in chosen]
    return [[scores_of(learner.estimates, some, selection.mem_threshold, infl_floor) for some in half] for half in rows]


def _crossed(a: list, b: list, same: bool, rules: Consistency) -> np.ndarray:
    """Statistics ``(1 + replicates, k)`` between halves that share no trial; for two learners the mean of both crossings."""
    forth = np.array([compare(first, second, rules) for first, second in zip(a[0], b[1])])
    if same:
        return forth
    back = np.array([compare(first, second, rules) for first, second in zip(a[1], b[0])])
    return (forth + back) / 2


def kind_of(a: Learner, b: Learner) -> str:
    """``itself``, ``repeat`` (the seed alone differs), ``network`` (both are networks) or ``other``."""
    if a is b:
        return "itself"
    if a.key == b.key:
        return "repeat"
    return "network" if a.network and b.network else "other"


def _curves(a: Learner, b: Learner, values: np.ndarray, cells: dict, rules: Consistency) -> pd.DataFrame:
    """One row a measure and threshold: similarity and difference with errors, from shared subsets, and shuffled."""
    first, second = cells[a.name], cells[b.name]
    long = layout(rules).assign(value=values[0], std_error=spread(values))
    long["shuffled"] = np.mean([compare(first[0][0], other, rules) for other in _dealt(second[1][0], rules)], axis=0)
    shared = a is not b and a.seed == b.seed
    long["shared"] = np.mean([compare(first[k][0], second[k][0], rules) for k in (0, 1)], axis=0) if shared else np.nan
    wide = long.dropna(subset="threshold").set_index(["measure", "threshold", "statistic"]).unstack()
    kept = {name: wide[column, statistic] for name, (column, statistic) in COLUMNS.items()}
    return pd.DataFrame({"first": a.name, "second": b.name, "kind": kind_of(a, b)} | kept).reset_index()


COLUMNS = {
    "jaccard": ("value", "jaccard"),
    "jaccard_se": ("std_error", "jaccard"),
    "difference": ("value", "difference"),
    "difference_se": ("std_error", "difference"),
    "jaccard_shuffled": ("shuffled", "jaccard"),
    "difference_shuffled": ("shuffled", "difference"),
    "jaccard_shared": ("shared", "jaccard"),
    "size_first": ("value", "first"),
    "size_second": ("value", "second"),
}


def _dealt(scores: Scores, rules: Consistency) -> Iterator[Scores]:
    """The same scores shuffled, ``rules.shuffles`` times."""
    streams = np.random.SeedSequence(rules.seed).spawn(rules.shuffles)
    return (scores.shuffled(np.random.default_rng(stream)) for stream in streams)


def _agreement(a: Learner, b: Learner, values: dict) -> dict:
    """Correlation of memorization between disjoint trials, and how near it comes to the two learners' own reliability.

    ``corrected`` is Spearman's (1904) correction for attenuation, r_ab / sqrt(r_aa r_bb), with its spread.
    """
    r, r_a, r_b = (values[pair][:, -1] for pair in ((a.name, b.name), (a.name, a.name), (b.name, b.name)))
    with np.errstate(invalid="ignore", divide="ignore"):  # halves that do not correlate leave nothing to correct by: NaN
        corrected = r / np.sqrt(r_a * r_b)
    return {
        "first": a.name,
        "second": b.name,
        "kind": kind_of(a, b),
        "pearson": r[0],
        "pearson_se": spread(r),
        "corrected": corrected[0],
        "corrected_se": np.nan if a is b else spread(corrected),
        "accuracy_gap": abs(_accuracy(a) - _accuracy(b)),
    }


def _accuracy(learner: Learner) -> float:
    return float(learner.estimates.test_correct.mean())


def _learner_row(learner: Learner, h: int, cells: list, selection: Estimate) -> dict:
    """Accuracies of the trials used, and how much one half of them selects (the mean of both halves)."""
    members, correct = learner.estimates.members, learner.estimates.train_correct
    return {
        "setting": learner.name,
        "seed": learner.seed,
        "trials": len(learner.trial),
        "h": h,
        "in_accuracy": correct[members].mean(),
        "out_accuracy": correct[~members].mean(),
        "test_accuracy": _accuracy(learner),
        "memorized": np.mean([(half[0].mem >= selection.mem_threshold).sum() for half in cells]),
    }


def summarise(tables: dict[str, pd.DataFrame], selection: Estimate) -> dict:
    """For each data set: trials of a half, and similarities at the study's thresholds, for chapters and claims.

    Each of `KINDS` holds the mean over the comparisons of that kind, null where there is none, with an error that takes the
    comparisons' errors as fully dependent (they share trials), so that sharing cannot make it too small.
    """
    found = {}
    for name, curves in tables["curves"].groupby("data", sort=False):
        at = {"memorization": selection.mem_threshold, "influence": selection.infl_threshold}
        measures = {measure: _by_kind(curves, measure, threshold) for measure, threshold in at.items()}
        found[name] = {"h": int(curves.h.iloc[0]), "learners": int(curves["first"].nunique())} | measures
    return found


def _by_kind(curves: pd.DataFrame, measure: str, threshold: float) -> dict:
    at = curves[(curves.measure == measure) & np.isclose(curves.threshold, threshold)]
    by_kind = {kind: at[at.kind == kind] for kind in KINDS}
    values = {kind: {"value": rows.jaccard.mean(), "std_error": rows.jaccard_se.mean()} for kind, rows in by_kind.items()}
    return {"threshold": threshold, **values, "shuffled": at.jaccard_shuffled.mean()}
