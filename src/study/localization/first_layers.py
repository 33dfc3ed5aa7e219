"""Stage `frozen_layers`: freeze the first k hidden layers of a perceptron and train the rest on random subsets.

`last_layer` freezes all hidden layers at once. Here k runs from none to all of them, and each training example is followed
from one k to the next: where it stops being memorized, the layers frozen up to there had done so. Two kinds of frozen
layers: ``all``, trained on every example, and ``untrained``, with initial weights, which have seen nothing and show what
the remaining layers would do on any features. An independent repetition with nothing frozen (``again``) tells how many
examples cross the threshold by chance.

Every k and kind has the same subsets and the same seeds, but for the repetition; layers above the frozen ones keep widths
and hyper-parameters. Differences between representations are what the standard errors hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import estimators, subsets, tables, trials
from study.data import Data
from study.estimators import Estimates
from study.learners import LargeMlp, Mlp
from study.localization.last_layer import untrained
from study.params import Estimate, FrozenLayers, Setting
from study.quantities import mean
from study.subsets import TrialSeed


@dataclass(frozen=True)
class Run:
    """Estimates of the networks above ``frozen`` layers of representation ``run`` of a kind."""

    kind: str
    run: int
    frozen: int
    estimates: Estimates

    def row(self, rule: Estimate) -> dict:
        frame = self.estimates.memorization
        return {
            "kind": self.kind,
            "run": self.run,
            "frozen": self.frozen,
            "memorized": int((frame.mem >= rule.mem_threshold).sum()),
            "mean_memorization": frame.mem.mean(),
            "in_accuracy": frame.in_accuracy.mean(),
            "out_accuracy": frame.out_accuracy.mean(),
            "test_accuracy": self.estimates.test_correct.mean(),
        }


def run(name: str, section: FrozenLayers, setting: Setting, rule: Estimate, client: Client | None = None) -> dict:
    """Train everything, save `frozen_layers` tables of the setting ``name``, return the summary.

    Raises ``ValueError`` unless the learner of the setting is a perceptron with a hidden layer.
    """
    learner = setting.learner
    if not isinstance(learner, Mlp | LargeMlp) or not learner.widths:
        raise ValueError(f"setting {name!r} has learner {learner.name!r}; a multilayer perceptron is needed")
    found = list(train(section, setting, datasets.load(setting.data), client))
    runs = pd.DataFrame([each.row(rule) for each in found])
    summary = {"setting": name, "heads": section.heads, "representations": section.representations}
    summary |= {
        "widths": list(learner.widths),
        "memorized": _means(runs, "memorized"),
        "gap": _means(runs, "mean_memorization"),
    }
    tables.save(name, "frozen_layers", runs)
    tables.save(name, "frozen_layers_moves", moves(found, rule.mem_threshold))
    tables.save(name, "frozen_layers_summary", summary)
    return summary


def train(section: FrozenLayers, setting: Setting, data: Data, client: Client | None = None) -> Iterator[Run]:
    """Nothing frozen first, twice; then for every representation of every kind, 1 to all hidden layers."""
    drawn = [_drawn(section.seed, range(k * section.heads, (k + 1) * section.heads), data.n, setting.ratio) for k in (0, 1)]
    for kind, heads in zip(("full", "again"), drawn):
        yield Run(kind, 0, 0, _estimates(setting.learner, data, *heads, client))
    for number in range(section.representations):
        seed = TrialSeed(section.seed, 2 * section.heads + number)  # after the heads, so that no two share a stream
        for kind, body in (("all", setting.learner), ("untrained", untrained(setting.learner))):
            for frozen, features in enumerate(representations(body, data, seed), 1):
                rest = setting.learner.model_copy(update={"widths": setting.learner.widths[frozen:]})
                yield Run(kind, number, frozen, _estimates(rest, features, *drawn[0], client))


def _drawn(seed: int, numbers: range, n: int, ratio: float) -> tuple[np.ndarray, list[TrialSeed]]:
    return subsets.members(seed, numbers, n, ratio), subsets.trial_seeds(seed, numbers)


def representations(body: Mlp | LargeMlp, data: Data, seed: TrialSeed) -> Iterator[Data]:
    """The data set as each hidden layer of one network trained on all examples sees it, from the first to the last."""
    networks, inputs = body.fit(data, np.ones((1, data.n), dtype=bool), [seed]), body.inputs(data)
    for depth in range(1, len(body.widths) + 1):
        x_train, x_test = (networks.features(x, depth)[0].numpy() for x in inputs)
        yield replace(data, name=f"{data.name} above layer {depth}", x_train=x_train, x_test=x_test)


def _estimates(learner: Mlp | LargeMlp, data: Data, members: np.ndarray, seeds: list[TrialSeed], client) -> Estimates:
    train_labels, test_labels = trials.predict(learner, data, members, seeds, client, title="frozen_layers")
    return estimators.estimate(members, train_labels == data.y_train, test_labels == data.y_test)


def _means(runs: pd.DataFrame, column: str) -> dict[str, list[dict[str, float]]]:
    """For each kind the mean over representations at 0, 1, ... frozen layers; no error where there is one only."""
    start = mean(runs[runs.frozen == 0][column].to_numpy(float))
    rows = dict(list(runs[runs.frozen > 0].groupby("kind")))
    return {kind: [start] + [mean(g[column].to_numpy(float)) for _, g in of.groupby("frozen")] for kind, of in rows.items()}


def moves(runs: list[Run], threshold: float) -> pd.DataFrame:
    """How many of the examples that are memorized with nothing frozen still are at each k, by kind and representation.

    One row a run: kind, run, frozen, started (memorized with nothing frozen), kept (of these still memorized), new.
    """
    start = runs[0].estimates.memorization.mem.to_numpy() >= threshold
    rows = []
    for each in runs[1:]:
        now = each.estimates.memorization.mem.to_numpy() >= threshold
        counts = {"started": int(start.sum()), "kept": int((start & now).sum()), "new": int((now & ~start).sum())}
        rows.append({"kind": each.kind, "run": each.run, "frozen": each.frozen} | counts)
    return pd.DataFrame(rows)
