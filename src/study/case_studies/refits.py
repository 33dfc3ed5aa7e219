"""Fresh models without chosen examples, and without the same selection shuffled: what the parts of `objection` share.

A selection is a mask over the training examples. Its control is the selection with the examples of each class shuffled, so
that as many of each class are missing, drawn anew for each model. Model r has the same seed in every arm, so what is
lost is a difference between partners.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from distributed import Client

from study import trials
from study.data import Data
from study.estimators import Estimates, estimate
from study.params import Estimate, Objection, Setting
from study.subsets import members, trial_seeds

EVERYTHING = "nothing"
INFLUENCERS, OWN = "influencers", "memorized by this training"
KEYS = {INFLUENCERS: "influencers", OWN: "own"}


def control(arm: str) -> str:
    """The name of the arm that loses the same selection, shuffled within classes."""
    return f"{arm}, shuffled"


@dataclass(frozen=True)
class Study:
    """What all parts share: the data, the setting's estimates ``mem (n,)``, and its high-influence pairs ``chosen``."""

    section: Objection
    setting: Setting
    rule: Estimate
    data: Data
    mem: np.ndarray
    chosen: pd.DataFrame
    client: Client | None = None

    @property
    def influencer(self) -> np.ndarray:
        """The training examples that occur in a pair, bool ``(n,)``."""
        return np.isin(np.arange(self.data.n), self.chosen.train)

    @property
    def affected(self) -> np.ndarray:
        """The tests that occur in a pair, bool ``(n_test,)``."""
        return np.isin(np.arange(self.data.n_test), self.chosen.test)


class Arms(NamedTuple):
    """What the models of each arm leave out, bool ``(repeats, n)``, and which tests they get right, ``(repeats, n_test)``.

    ``fitted (repeats,)`` is the accuracy of the first arm's models on what they were trained on.
    """

    removed: Mapping[str, np.ndarray]
    correct: Mapping[str, np.ndarray]
    fitted: np.ndarray

    def accuracy(self, arm: str, on: np.ndarray | None = None) -> np.ndarray:
        """Test accuracy of each model ``(repeats,)``, on the tests in ``on (n_test,)``; NaN if there is none."""
        correct = self.correct[arm] if on is None else self.correct[arm][:, on]
        return correct.mean(1) if correct.shape[1] else np.full(len(correct), np.nan)

    def drop(self, arm: str, on: np.ndarray | None = None) -> np.ndarray:
        """Accuracy of each model trained on everything less that of its partner in ``arm``."""
        return self.accuracy(EVERYTHING, on) - self.accuracy(arm, on)

    def excess(self, arm: str, on: np.ndarray | None = None) -> np.ndarray:
        """What ``arm`` costs beyond its `control`."""
        return self.accuracy(control(arm), on) - self.accuracy(arm, on)

    def count(self, arm: str) -> int:
        return int(self.removed[arm][0].sum())


def retrain(learner, data: Data, removed: Mapping[str, np.ndarray], seed: int, client: Client | None = None) -> Arms:
    """Train a model for every row of ``removed[arm] (repeats, n)``; model r has the same seed in every arm."""
    kept = ~np.concatenate(list(removed.values()))
    seeds = [each for mask in removed.values() for each in trial_seeds(seed, range(len(mask)))]
    train, test = trials.predict(learner, data, kept, seeds, client, title="objection")
    ends = np.cumsum([len(mask) for mask in removed.values()])[:-1]
    first = kept[: len(next(iter(removed.values())))]
    fitted = ((train[: len(first)] == data.y_train) & first).sum(1) / first.sum(1)
    return Arms(removed, dict(zip(removed, np.split(test == data.y_test, ends))), fitted)


def shuffled(mask: np.ndarray, labels: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    """For each repeat as many random examples of each class as ``mask (n,)`` marks, bool ``(repeats, n)``."""
    result = np.empty((repeats, len(mask)), dtype=bool)
    for row, each in zip(result, trial_seeds(seed, range(repeats))):
        draw = each.generator("subset")
        for label in np.unique(labels):
            mates = np.flatnonzero(labels == label)
            row[mates] = mask[draw.permutation(mates)]
    return result


def with_controls(masks: Mapping[str, np.ndarray], labels: np.ndarray, repeats: int, seed: int) -> dict[str, np.ndarray]:
    """Arms that remove nothing, each of ``masks (n,)``, and each of them shuffled within classes."""
    removed = {EVERYTHING: np.zeros((repeats, len(labels)), dtype=bool)}
    for arm, mask in masks.items():
        removed[arm] = np.tile(mask, (repeats, 1))
        removed[control(arm)] = shuffled(mask, labels, repeats, seed)
    return removed


def fresh_estimates(study: Study, learner, data: Data) -> Estimates:
    """Estimates from ``section.own_trials`` models on random subsets; their seeds follow those of the arms."""
    section = study.section
    numbers = range(section.repeats, section.repeats + section.own_trials)
    masks, seeds = members(section.seed, numbers, data.n, study.setting.ratio), trial_seeds(section.seed, numbers)
    train, test = trials.predict(learner, data, masks, seeds, study.client, title="objection-estimates")
    return estimate(masks, train == data.y_train, test == data.y_test, data.y_train, data.y_test)
