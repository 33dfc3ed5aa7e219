"""Stage `localization`: does the last layer memorize, or the representation below it?

The talk's experiment compares full networks on random subsets with linear heads on the same subsets, whose features were
frozen after training on *all* examples (settings ``full`` and ``linear``). If the heads memorize nothing, then either a
linear layer cannot memorize, or the features had already memorized for it. Three kinds of frozen features tell which:

* ``all``: trained on all examples, as in the talk, but several of them;
* ``half``: trained on a random half, so that heads meet examples that their features have seen and have not seen;
* ``untrained``: initial weights, which have seen nothing.

Representation r is followed by the same subsets and the same seeds of heads in every kind. Standard errors are between
representations, which are independent, and not between heads, which share one.

12,000 heads and 100 networks on digits: about a minute on two idle cores; mean memorization by kind is known to 0.002.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import estimation, estimators, pairs, subsets, tables, trials
from study.data import Data
from study.estimators import Estimates
from study.learners import FrozenFeatures, Mlp
from study.params import Estimate, Localization, Params
from study.progress import Progress
from study.quantities import clustered_mean, correlation, mean
from study.subsets import TrialSeed

KINDS = ("all", "half", "untrained")


def run(study: Params, client: Client | None = None) -> dict:
    """Train heads and networks, save `runs`, `examples` and `summary` under ``tables/localization/``, return the last.

    Raises ``ValueError`` unless both settings have the same data, subsets and trials, and ``linear`` has frozen features.
    """
    section, rule = study.localization, study.estimate
    comparison = compared(study)
    heads = list(train_heads(section, comparison, study.setting(section.linear).ratio, client))
    whole = network_accuracy(section, study.setting(section.full).learner, comparison.data, client)
    runs = pd.DataFrame([row for trained in (*full_runs(section, comparison), *heads) for row in trained.rows(rule)])
    summary = summarise(section, rule, comparison, runs) | {"all_data": {"test_accuracy": mean(whole)}}
    tables.save("localization", "runs", runs)
    tables.save("localization", "examples", examples(comparison, heads))
    tables.save("localization", "summary", summary)
    return summary


@dataclass(frozen=True)
class Comparison:
    """Estimates of both settings on one data set, and the learner of the linear one."""

    data: Data
    full: Estimates
    linear: Estimates
    learner: FrozenFeatures


def compared(study: Params) -> Comparison:
    """Read the prediction files of both settings; raises ``ValueError`` if they do not share subsets."""
    section = study.localization
    full, linear = study.setting(section.full), study.setting(section.linear)
    if not isinstance(linear.learner, FrozenFeatures):
        raise ValueError(f"setting {section.linear!r} has learner {linear.learner.name!r}; frozen_features is needed")
    for key in ("data", "ratio", "seed", "trials"):
        if (a := getattr(full, key)) != (b := getattr(linear, key)):
            raise ValueError(f"settings {section.full!r} and {section.linear!r} differ in {key}: {a} and {b}")
    named = {section.full: full, section.linear: linear}
    estimates = [estimation.of_setting(name, setting)[0] for name, setting in named.items()]
    return Comparison(datasets.load(full.data), *estimates, linear.learner)


def represent(body: Mlp, data: Data, seen: np.ndarray, seed: TrialSeed) -> Data:
    """``data`` with inputs replaced by the penultimate features of one network trained on the examples ``seen (n,)``."""
    networks = body.fit(data, seen[None], [seed])
    x_train, x_test = (networks.features(x)[0].numpy() for x in body.inputs(data))
    return replace(data, name=f"{data.name} features", x_train=x_train, x_test=x_test)


def untrained(body: Mlp) -> Mlp:
    """A network that stays as it was initialised: one epoch at learning rate zero, which no parameter file may ask for."""
    return body.model_copy(update={"learning_rate": 0.0, "epochs": 1})


@dataclass(frozen=True)
class Run:
    """Estimates from the models that share representation ``run``, and which examples that one has ``seen (n,)``."""

    kind: str
    run: int
    estimates: Estimates
    seen: np.ndarray

    def rows(self, rule: Estimate) -> list[dict]:
        """One row for the examples seen by the representation and one for the others, where there are any."""
        return [self._row(name, part, rule) for name, part in (("seen", self.seen), ("unseen", ~self.seen)) if part.any()]

    def _row(self, name: str, part: np.ndarray, rule: Estimate) -> dict:
        frame = self.estimates.memorization[part]
        row = {"kind": self.kind, "run": self.run, "part": name, "examples": len(frame)}
        row |= {"mean_memorization": frame.mem.mean(), "memorized_share": (frame.mem >= rule.mem_threshold).mean()}
        row |= {key: frame[key].mean() for key in ("in_accuracy", "out_accuracy")}
        return row | {"test_accuracy": self.estimates.test_correct.mean()}


def train_heads(section: Localization, comparison: Comparison, ratio: float, client: Client | None) -> Iterator[Run]:
    """For every representation of every kind the estimates from ``section.heads`` linear heads."""
    with Progress("localization", len(KINDS) * section.representations * section.heads, "heads") as progress:
        for run in range(section.representations):
            numbers = range(run * section.heads, (run + 1) * section.heads)
            members = subsets.members(section.seed, numbers, comparison.data.n, ratio)
            seeds = subsets.trial_seeds(section.seed, numbers)
            for kind, seen, features in representations(section, comparison, run):
                train, test = trials.predict(comparison.learner.head, features, members, seeds, client)
                progress.advance(len(seeds))
                correct = train == features.y_train, test == features.y_test
                yield Run(kind, run, estimators.estimate(members, *correct), seen)


def representations(section: Localization, comparison: Comparison, run: int) -> Iterator[tuple[str, np.ndarray, Data]]:
    """The kinds of frozen features with one seed, the examples each has seen, and the data set they make."""
    n, body = comparison.data.n, comparison.learner.representation
    number = section.representations * section.heads + run  # after the heads, so that no two share a stream
    seed = TrialSeed(section.seed, number)
    half = subsets.members(section.seed, [number], n, 0.5)[0]
    everyone = np.ones(n, dtype=bool)
    kinds = {"all": (body, everyone, everyone), "half": (body, half, half)}
    kinds["untrained"] = (untrained(body), everyone, ~everyone)
    for kind, (network, trained_on, seen) in kinds.items():
        yield kind, seen, represent(network, comparison.data, trained_on, seed)


def full_runs(section: Localization, comparison: Comparison) -> Iterator[Run]:
    """The full networks in blocks of as many trials as there are heads on a representation.

    A full network trains its own representation on its subset; there is nothing that has seen an example before.
    """
    blocks = min(section.representations, max(1, comparison.full.trials // section.heads))
    unseen = np.zeros(comparison.data.n, dtype=bool)
    for run in range(blocks):
        rows = np.arange(run * section.heads, min((run + 1) * section.heads, comparison.full.trials))
        yield Run("full", run, estimators.part(comparison.full, rows), unseen)


def network_accuracy(section: Localization, learner: Mlp, data: Data, client: Client | None) -> np.ndarray:
    """Test accuracy of ``section.networks`` full networks trained on all examples, float ``(networks,)``."""
    first = section.representations * (section.heads + 1)
    seeds = subsets.trial_seeds(section.seed, range(first, first + section.networks))
    _, labels = trials.predict(learner, data, np.ones((len(seeds), data.n), dtype=bool), seeds, client)
    return (labels == data.y_test).mean(1)


def examples(comparison: Comparison, heads: list[Run]) -> pd.DataFrame:
    """One row an example: memorization by full networks and by the heads of both the talk's kind and ours.

    `seen` and `unseen` average over the half-trained representations that had or had not seen the example; NaN where
    there was none.
    """
    full, linear = comparison.full.memorization, comparison.linear.memorization
    columns = {"index": full["index"], "label": comparison.data.y_train, "full": full.mem, "full_std_error": full.std_error}
    columns |= {"linear": linear.mem, "linear_std_error": linear.std_error}
    columns |= {kind: _average(heads, kind) for kind in ("all", "untrained")}
    return pd.DataFrame(columns | {"seen": _average(heads, "half", True), "unseen": _average(heads, "half", False)})


def _average(heads: list[Run], kind: str, seen: bool | None = None) -> np.ndarray:
    """Mean memorization over runs of a kind, float ``(n,)``, counting only those where the example was (un)seen."""
    runs = [run for run in heads if run.kind == kind]
    mem = np.stack([run.estimates.memorization.mem for run in runs])
    counts = np.ones(mem.shape) if seen is None else np.stack([run.seen == seen for run in runs])
    with np.errstate(invalid="ignore"):
        return np.where(counts, mem, 0).sum(0) / counts.sum(0)


def summarise(section: Localization, rule: Estimate, comparison: Comparison, runs: pd.DataFrame) -> dict:
    """The numbers that chapters and claims quote; shares and accuracies are fractions."""
    sides = {"full": comparison.full, "linear": comparison.linear}
    chosen = {name: _selected(estimates, rule) for name, estimates in sides.items()}
    summary = {name: _side(sides[name], chosen[name], comparison.data, rule) for name in sides}
    summary["agreement"] = _agreement(section, comparison, chosen, rule)
    summary["heads"], summary["representations"] = section.heads, section.representations
    summary |= {kind: _kind(runs[runs.kind == kind]) for kind in ("untrained", "half")}
    return summary | {"several": _kind(runs[runs.kind == "all"]), "blocks": _kind(runs[runs.kind == "full"])}


def _selected(estimates: Estimates, rule: Estimate) -> pd.DataFrame:
    table = estimates.pairs(rule.mem_threshold, rule.infl_threshold)
    return pairs.select(table, rule.mem_threshold, rule.infl_threshold, rule)


def _side(estimates: Estimates, chosen: pd.DataFrame, data: Data, rule: Estimate) -> dict:
    mem, clusters = estimates.memorization.mem, chosen.train.to_numpy()
    return {
        "trials": estimates.trials,
        "memorized": int((mem >= rule.mem_threshold).sum()),
        "mean_memorization": mean_gap(estimates),
        "test_accuracy": mean(estimates.test_correct.mean(1)),
        "pairs": len(chosen),
        "pair_distance": clustered_mean(pairs.distances(chosen, data), clusters),
        "class_distance": clustered_mean(pairs.class_distances(chosen, data), clusters),
    }


def mean_gap(estimates: Estimates) -> dict[str, float]:
    """Mean accuracy in less mean accuracy out of the subset, over trials; equals mean memorization up to weights."""
    members, correct = estimates.members, estimates.train_correct
    inside = (members & correct).sum(1) / members.sum(1)
    return mean(inside - (~members & correct).sum(1) / (~members).sum(1))


def _agreement(section: Localization, comparison: Comparison, chosen: dict[str, pd.DataFrame], rule: Estimate) -> dict:
    full, linear = (side.memorization.mem.to_numpy() for side in (comparison.full, comparison.linear))
    known = ~np.isnan(full) & ~np.isnan(linear)
    rng = TrialSeed(section.seed, 0).generator("analysis")
    both = (full >= rule.mem_threshold) & (linear >= rule.mem_threshold)
    return {
        "pearson": correlation(full[known], linear[known], section.bootstrap, rng),
        "memorized_by_both": int(both.sum()),
        "pairs_of_both": len(chosen["full"].merge(chosen["linear"], on=["train", "test"])),
    }


def _kind(runs: pd.DataFrame) -> dict:
    """Means over representations: overall, and for each part of the examples."""
    summary = {"test_accuracy": mean(runs.drop_duplicates("run").test_accuracy.to_numpy()), "runs": runs.run.nunique()}
    for part, rows in runs.groupby("part"):
        keys = ("mean_memorization", "memorized_share", "in_accuracy", "out_accuracy")
        summary[part] = {key: mean(rows[key].to_numpy()) for key in keys}
    if runs.part.nunique() == 2:
        summary["difference"] = _seen_against_unseen(runs)
    return summary


def _seen_against_unseen(runs: pd.DataFrame) -> dict:
    """Unseen less seen, within each representation: the features are equally good for both parts, only seeing differs."""
    keys = ["mean_memorization", "memorized_share"]
    wide = {part: rows.set_index("run")[keys].sort_index() for part, rows in runs.groupby("part")}
    return {key: mean((wide["unseen"][key] - wide["seen"][key]).to_numpy()) for key in keys}
