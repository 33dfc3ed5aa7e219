"""Part of the stage `objection`: remove the influencers and put something back.

If memorized examples matter because they stand for rare sub-populations, accuracy must come back with *other* members of
the same sub-populations, and not with as many strangers of the same class. In the made-up long tail members can be
drawn at will. Among digits nobody knows the sub-populations; there a random half of the tests, drawn anew for each
model, is taken out of the measurement, and its most similar picture of the class stands for a member.

The objection's own repair keeps one original example of every sub-population that removal would wipe out. Here it is
applied to a world in which, by construction, such examples are what memorization is for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from study.case_studies.refits import EVERYTHING, INFLUENCERS, Arms, Study, control, retrain, with_controls
from study.data import Data, unit_floats
from study.quantities import UNKNOWN, clustered_mean
from study.subsets import TrialSeed, trial_seeds

LIKE, STRANGERS = "influencers replaced by their like", "influencers replaced by strangers"
REPAIRED, LOST = "influencers, one of each sub-population kept", "influencers of lost sub-populations"
KEYS = {INFLUENCERS: "influencers", LIKE: "like", STRANGERS: "strangers", REPAIRED: "repaired", LOST: "lost"}
POOLS = 10  # independent sets of fresh points of the long tail; the models take them in turn
CLASSES, PER_CLASS, DIMENSION, NOISE, WORLD = 10, 60, 64, 0.05, 2019  # of the data set `longtail`


@dataclass(frozen=True)
class Experiment:
    """Arms over ``data``, whose training set is followed by a pool of examples that only some arms are trained on.

    ``removed[arm] (repeats, n)`` covers the pool, too; ``measured (repeats, n_test)`` marks the tests that count for a
    model; models with the same entry of ``pools (repeats,)`` share the examples put back. ``parts`` names sets of tests.
    """

    data: Data
    removed: Mapping[str, np.ndarray]
    measured: np.ndarray
    pools: np.ndarray
    parts: Mapping[str, np.ndarray]


def restore(study: Study) -> tuple[pd.DataFrame, dict]:
    """One row an arm and a part of the tests: accuracy, drop and recovered share; and the numbers that are quoted.

    Empty where the section asks for nothing to be restored.
    """
    if study.section.restored == "none":
        return pd.DataFrame({"arm": []}), {}
    experiment = long_tail(study) if study.section.restored == "members" else look_alikes(study)
    arms = retrain(study.setting.learner, experiment.data, experiment.removed, study.section.seed, study.client)
    measured = Measured(experiment, arms)
    rows = [measured.row(arm, part, study.data.n) for arm in experiment.removed for part in experiment.parts]
    return pd.DataFrame(rows), measured.summary(study.data.n)


@dataclass(frozen=True)
class Measured:
    """Results of an experiment; every quantity is a mean over models with an error that knows which share a pool."""

    experiment: Experiment
    arms: Arms

    def accuracy(self, arm: str, part: str) -> np.ndarray:
        """Accuracy of each model on its measured tests of ``part``, float ``(repeats,)``; NaN where it has none."""
        counted = self.experiment.measured & self.experiment.parts[part]
        with np.errstate(invalid="ignore"):
            return (self.arms.correct[arm] & counted).sum(1) / counted.sum(1)

    def mean(self, values: np.ndarray) -> dict[str, float]:
        return clustered_mean(values, self.experiment.pools)

    def ratio(self, part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
        """Ratio of two means, error to first order."""
        if not np.mean(whole):
            return dict(UNKNOWN)
        value = float(np.mean(part) / np.mean(whole))
        return {"value": value, "std_error": self.mean(part - value * whole)["std_error"] / abs(float(np.mean(whole)))}

    def drop(self, arm: str, part: str) -> np.ndarray:
        return self.accuracy(EVERYTHING, part) - self.accuracy(arm, part)

    def excess(self, arm: str, part: str) -> np.ndarray:
        return self.accuracy(control(arm), part) - self.accuracy(arm, part)

    def recovered(self, arm: str, part: str) -> dict[str, float]:
        """The share of the influencers' loss that is made up for in ``arm``."""
        return self.ratio(self.drop(INFLUENCERS, part) - self.drop(arm, part), self.drop(INFLUENCERS, part))

    def row(self, arm: str, part: str, n: int) -> dict:
        masks = self.experiment.removed[arm]
        row = {"arm": arm, "tests": part, "removed": int(masks[0, :n].sum()), "added": float((~masks[:, n:]).sum(1).mean())}
        for name, values in {"accuracy": self.accuracy(arm, part), "drop": self.drop(arm, part)}.items():
            row |= {name: self.mean(values)["value"], f"{name}_std_error": self.mean(values)["std_error"]}
        recovered = self.recovered(arm, part)
        return row | {"recovered": recovered["value"], "recovered_std_error": recovered["std_error"]}

    def summary(self, n: int) -> dict:
        """For each arm and part of the tests: drop, share recovered and, where it has a control, excess and what remains."""
        return {
            KEYS[arm]: {"removed": int(mask[0, :n].sum())}
            | {part: self._numbers(arm, part) for part in self.experiment.parts}
            for arm, mask in self.experiment.removed.items()
            if arm in KEYS
        } | {"like_over_strangers": self.mean(self.accuracy(LIKE, "affected") - self.accuracy(STRANGERS, "affected"))}

    def _numbers(self, arm: str, part: str) -> dict:
        numbers = {"accuracy": self.mean(self.accuracy(arm, part)), "drop": self.mean(self.drop(arm, part))}
        numbers["recovered"] = self.recovered(arm, part)
        if control(arm) in self.experiment.removed:
            excess = self.excess(arm, part)
            numbers |= {"excess": self.mean(excess), "control_drop": self.mean(self.drop(control(arm), part))}
            numbers["remaining"] = self.ratio(excess, self.excess(INFLUENCERS, part))
        return numbers


# ---------------------------------------------------------------------------------------------------------------------
# The made-up long tail, where sub-populations are known


def long_tail(study: Study) -> Experiment:
    """Fresh members of the removed sub-populations or fresh strangers; the objection's repair; each with its control."""
    data, section, influencer = study.data, study.section, study.influencer
    lost, repeats = lost_groups(data, influencer), section.restored_repeats
    spared = [one_of_each(data, lost, seed.generator("analysis")) for seed in trial_seeds(section.seed, range(repeats))]
    repaired = influencer & ~np.stack(spared)
    masks = {INFLUENCERS: influencer, LOST: np.isin(data.groups_train, lost), REPAIRED: repaired[0]}
    removed = with_controls(masks, data.y_train, repeats, section.seed) | {REPAIRED: repaired}
    removed |= {LIKE: removed[INFLUENCERS], STRANGERS: removed[INFLUENCERS]}
    pools = np.arange(repeats) % POOLS
    extended, added = with_pools(data, influencer, section.seed)
    nothing = np.zeros((repeats, extended.n - data.n), dtype=bool)
    added = {arm: added[arm][pools] if arm in added else nothing for arm in removed}
    removed = {arm: np.concatenate([mask, ~added[arm]], axis=1) for arm, mask in removed.items()}
    parts = _parts(study) | {"lost": np.isin(data.groups_test, lost)}
    return Experiment(extended, removed, np.ones((repeats, data.n_test), dtype=bool), pools, parts)


def _parts(study: Study) -> dict[str, np.ndarray]:
    return {"all": np.ones(study.data.n_test, dtype=bool), "affected": study.affected, "elsewhere": ~study.affected}


def centres() -> np.ndarray:
    """The centres of the sub-populations of the data set ``longtail``, float64 ``(600, 64)``: the first draw of its seed."""
    points = np.random.default_rng(np.random.SeedSequence(WORLD)).standard_normal((CLASSES * PER_CLASS, DIMENSION))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def fresh(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A new point of each sub-population in ``groups (k,)``, float32 ``(k, 64)``."""
    return (centres()[groups] + NOISE * rng.standard_normal((len(groups), DIMENSION))).astype(np.float32)


def other_groups(removed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of the sub-populations ``removed (k,)`` another of its class that is not among them, by frequency."""
    share = np.tile(1 / np.arange(1, PER_CLASS + 1), CLASSES)
    share[removed] = 0
    share = share.reshape(CLASSES, PER_CLASS)
    share = share / share.sum(1, keepdims=True)
    return np.array([rng.choice(PER_CLASS, p=share[c]) + c * PER_CLASS for c in removed // PER_CLASS], dtype=np.int64)


def lost_groups(data: Data, removed: np.ndarray) -> np.ndarray:
    """The sub-populations of which ``removed (n,)`` takes the last training example."""
    return np.setdiff1d(data.groups_train[removed], data.groups_train[~removed])


def one_of_each(data: Data, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One random training example of each sub-population in ``groups``, bool ``(n,)``."""
    order = rng.permutation(data.n)
    _, first = np.unique(data.groups_train[order], return_index=True)
    return np.isin(np.arange(data.n), order[first]) & np.isin(data.groups_train, groups)


def with_pools(data: Data, removed: np.ndarray, seed: int) -> tuple[Data, dict[str, np.ndarray]]:
    """The data followed by `POOLS` sets of members and of strangers; which of them belong to a set, ``(POOLS, size)``."""
    groups, rng = data.groups_train[removed], TrialSeed(seed, 0).generator("augmentation")
    drawn = [groups if kind == LIKE else other_groups(groups, rng) for kind in (LIKE, STRANGERS) for _ in range(POOLS)]
    owner = np.repeat(np.arange(2 * POOLS), len(groups))
    masks = np.arange(2 * POOLS)[:, None] == owner
    drawn = np.concatenate(drawn)
    extended = replace(
        data,
        name=f"{data.name}, with fresh points",
        x_train=np.concatenate([data.x_train, fresh(drawn, rng)]),
        y_train=np.concatenate([data.y_train, drawn // PER_CLASS]),
        groups_train=np.concatenate([data.groups_train, drawn]),
    )
    return extended, {LIKE: masks[:POOLS], STRANGERS: masks[POOLS:]}


# ---------------------------------------------------------------------------------------------------------------------
# Pictures, where they are not known


def look_alikes(study: Study) -> Experiment:
    """For each influencer its most similar picture from a random half of the tests, or a random one of its class."""
    data, repeats = study.data, study.section.restored_repeats
    halves, like, other = (np.zeros((repeats, data.n_test), dtype=bool) for _ in range(3))
    order = by_likeness(data, np.flatnonzero(study.influencer))
    for r, seed in enumerate(trial_seeds(study.section.seed, range(repeats))):
        draw = seed.generator("analysis")
        halves[r, draw.permutation(data.n_test)[: data.n_test // 2]] = True
        like[r, [next(j for j in row if halves[r, j]) for row in order]] = True
        other[r] = same_classes(like[r], halves[r], data.y_test, draw)
    extended = replace(
        data,
        name=f"{data.name}, followed by its tests",
        x_train=np.concatenate([data.x_train, data.x_test]),
        y_train=np.concatenate([data.y_train, data.y_test]),
    )
    removed = with_controls({INFLUENCERS: study.influencer}, data.y_train, repeats, study.section.seed)
    added = {LIKE: like, STRANGERS: other}
    removed |= {arm: removed[INFLUENCERS] for arm in added}
    none = np.zeros_like(halves)
    removed = {arm: np.concatenate([mask, ~added.get(arm, none)], axis=1) for arm, mask in removed.items()}
    return Experiment(extended, removed, ~halves, np.arange(repeats), _parts(study))


def by_likeness(data: Data, chosen: np.ndarray) -> list[np.ndarray]:
    """For each training example in ``chosen`` the tests of its class, the most similar in pixels first."""
    train, test = (unit_floats(x).reshape(len(x), -1) for x in (data.x_train, data.x_test))
    found = []
    for i in chosen:
        mates = np.flatnonzero(data.y_test == data.y_train[i])
        found.append(mates[np.linalg.norm(test[mates] - train[i], axis=1).argsort(kind="stable")])
    return found


def same_classes(mask: np.ndarray, among: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many random ones of each class as ``mask`` marks, from those in ``among`` that it does not mark; all bool."""
    chosen = np.zeros_like(mask)
    for label in np.unique(labels[mask]):
        free = np.flatnonzero(among & ~mask & (labels == label))
        chosen[rng.permutation(free)[: (mask & (labels == label)).sum()]] = True
    return chosen
