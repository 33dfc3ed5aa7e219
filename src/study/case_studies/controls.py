"""Stage `controls`: five experiments whose outcome is known beforehand, each beside one in which the effect must be there.

* *Rows permuted*: the masks of a setting's trials dealt to the wrong models. Nothing is memorized, no pair is left.
* *Random inputs*: directions at right angles to one another, with random labels. A network that fits them memorizes
  1 - 1/k of them on average, and no test has anything in common with a training example. Beside them stand tests that are
  near copies of the training examples, with their labels.
* *Random labels* on digits. Memorization is accuracy on the subset less 1/k, and training is worth nothing: accuracy on
  tests with their true labels is 1/k whatever is learned. Beside them stand the same digits with their true labels.
* *Nearest neighbour* on separated clusters of one label each. With several examples a cluster nothing is memorized; with
  one, everything is whose neighbours have other labels. Both are known exactly.
* *Sub-populations* that are all frequent, learned by a network: the others of its kind explain every example. Beside them
  stands a long tail of as many examples.

What random labels leave empty is not the list of pairs. If a test is decided by training example i with probability a, and
gets its true label with probability p otherwise, then infl = a (1[y_i = y'] - p): large where the random label happens to
be right. Only the mean vanishes, (1/k) a (1 - p) - (1 - 1/k) a p, whose expectation over labels is zero as E p = 1/k. And
the mean over all examples of what each does to all tests cannot be read off the estimates: subsets of one size trade an
example for another one, so that this mean is zero for true labels, too. It is measured by training fresh networks without
memorized examples.

Each experiment is done in several independent worlds (new data, labels and trials; of digits and predictions that exist
already: new labels, other trials), and standard errors are those over worlds.

Two and a half minutes of one core for four worlds of 1,000 trials (November 2026): 20,000 networks for estimates and 2,000
for removals. Mean memorization of a world is known to about 0.01 where labels are random.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from distributed import Client
from scipy.stats import hypergeom

from study import data as datasets
from study import estimation, estimators, quantities, subsets, tables, trials
from study.data import Data
from study.estimators import Estimates, estimate
from study.learners import Learner, NearestNeighbour, nearest_neighbour
from study.params import Clusters, Controls, Estimate, Setting
from study.progress import Progress
from study.subsets import TrialSeed

CONTROL, COUNTERPART = "control", "counterpart"
NORM = 4.0  # length of the random inputs, about that of a digit, for which the learning rate was chosen


@dataclass(frozen=True)
class World:
    """One repeat of one experiment: its own data and trials, all drawn from ``seed`` and the numbers of its trials.

    The first ``section.trials`` of ``numbers`` are for estimates, the others for fresh networks.
    """

    section: Controls
    setting: Setting
    rule: Estimate
    number: int
    numbers: range
    client: Client | None = None

    def draw(self) -> np.random.Generator:
        """What the data of this world are drawn with; the same numbers at every call."""
        return TrialSeed(self.section.seed, self.numbers.start).generator("analysis")

    def learner(self, epochs: int) -> Learner:
        """The setting's learner, trained for so many epochs."""
        return self.setting.learner.model_copy(update={"epochs": epochs})


def run(section: Controls, setting: Setting, rule: Estimate, client: Client | None = None) -> dict:
    """Do all experiments in all worlds; save `controls` (a row a world and role) and `summary`; return the summary.

    ``setting`` is ``section.setting``, whose predictions are permuted and whose learner is trained. Raises
    `study.predictions.PredictionError` if its prediction file is missing or is not this setting's.
    """
    rows = []
    with Progress("controls", total=len(EXPERIMENTS) * section.worlds, unit="worlds") as progress:
        for place, (control, experiment) in enumerate(EXPERIMENTS.items()):
            for number in range(section.worlds):
                numbers = _numbers(section, place * section.worlds + number)
                found = experiment(World(section, setting, rule, number, numbers, client))
                rows += [{"control": control, "role": role, "world": number} | row for role, row in found.items()]
                progress.advance(1)
    table = pd.DataFrame(rows)
    summary = summarise(table) | {"lost_cluster": lost_cluster(section, setting.ratio)}
    tables.save("controls", "controls", table)
    tables.save("controls", "summary", summary)
    return summary


def _numbers(section: Controls, place: int) -> range:
    each = section.trials + section.fresh
    return range(place * each, (place + 1) * each)


# ---------------------------------------------------------------------------------------------------------------------
# The experiments: what is known beforehand, and what was measured, by role


def permuted_rows(world: World) -> dict[str, dict]:
    """The setting's trials, of which each world has its share, with the rows of the masks dealt to other models.

    The permuted influences are asked of the examples that are memorized with the rows as they are, for without memorized
    examples no pairs would be no finding.
    """
    models, _ = estimation.of_setting(world.section.setting, world.setting)
    part = estimators.part(models, np.array_split(np.arange(models.trials), world.section.worlds)[world.number])
    wrong = estimators.permuted(part, world.draw())
    return {
        CONTROL: measure(wrong, world.rule, memorized_by=part) | {"expected": 0.0, "expected_pairs": 0.0},
        COUNTERPART: measure(part, world.rule),
    }


def random_inputs(world: World) -> dict[str, dict]:
    """Random labels of inputs that have nothing in common: tests of the same kind, and tests that are near copies."""
    data, learner = orthogonal(world.section, world.draw()), world.learner(world.section.random_inputs.epochs)
    found = trained(world, learner, data)
    lost = losses(world, learner, data, _memorized(found, world.rule))
    rows = {}
    for role, tests, pairs in ((CONTROL, slice(0, data.n), 0), (COUNTERPART, slice(data.n, None), data.n)):
        row = measure(on_tests(found, tests), world.rule) | {"expected_pairs": float(pairs)}
        rows[role] = row | {"expected": row["in_accuracy"] - 1 / len(data.classes)} | lost.on(tests)
    return rows


def random_labels(world: World) -> dict[str, dict]:
    """Digits with uniformly random labels, and the same digits with their own; tests have their own labels.

    What removal costs with random labels varies with their draw, so it is a mean over several draws. Only the first has
    estimates; in it nearly every example is memorized, so that of the others any may be removed.
    """
    section, draw, digits = world.section.random_labels, world.draw(), datasets.load("digits")
    chosen = np.sort(draw.permutation(digits.n)[: section.n])
    true = replace(digits, x_train=digits.x_train[chosen], y_train=digits.y_train[chosen], name="some digits")
    drawn = draw.integers(len(true.classes), size=(section.labelings, true.n))
    random, *others = [true.relabelled(labels, "some digits, random labels") for labels in drawn]
    rows, learner = {}, world.learner(section.epochs)
    for role, data, more in ((CONTROL, random, others), (COUNTERPART, true, [])):
        found = trained(world, learner, data)
        lost = [losses(world, learner, data, _memorized(found, world.rule))]
        lost += [losses(world, learner, other, np.ones(other.n, dtype=bool)) for other in more]
        rows[role] = measure(found, world.rule) | pd.DataFrame([each.on(slice(None)) for each in lost]).mean().to_dict()
    rows[CONTROL] |= {"expected": rows[CONTROL]["in_accuracy"] - 1 / len(true.classes)}
    return rows


def separated_clusters(world: World) -> dict[str, dict]:
    """Nearest neighbour on clusters of several examples, and on as many clusters of one; both with exact expectations."""
    section, draw, rows = world.section.nearest_neighbour, world.draw(), {}
    sizes = {CONTROL: np.full(section.groups, section.each), COUNTERPART: np.ones(section.groups * section.each, int)}
    for role, each in sizes.items():
        data = clusters(each, each, section, world.section.classes, draw)
        rows[role] = measure(trained(world, NearestNeighbour(models_at_once=100), data), world.rule) | exact(world, data)
    return rows


def sub_populations(world: World) -> dict[str, dict]:
    """A network on frequent sub-populations, and on a long tail of them with as many training examples."""
    section, draw, rows = world.section.sub_populations, world.draw(), {}
    n, classes, learner = section.groups * section.each, world.section.classes, world.learner(section.epochs)
    frequency = 1 / (np.arange(section.tail) // classes + 1)
    tail = [draw.multinomial(n, frequency / frequency.sum()) for _ in ("train", "test")]
    for role, counts in ((CONTROL, [np.full(section.groups, section.each)] * 2), (COUNTERPART, tail)):
        data = clusters(*counts, section, classes, draw)
        expected = law(counts[0], classes, subsets.subset_size(n, world.setting.ratio))
        rows[role] = measure(trained(world, learner, data), world.rule) | {"expected": expected}
    rows[CONTROL] |= {"expected_pairs": 0.0}
    return rows


EXPERIMENTS: dict[str, Callable[[World], dict[str, dict]]] = {
    "permuted_rows": permuted_rows,
    "random_inputs": random_inputs,
    "random_labels": random_labels,
    "nearest_neighbour": separated_clusters,
    "sub_populations": sub_populations,
}


# ---------------------------------------------------------------------------------------------------------------------
# Made-up data, and what must come out


def orthogonal(section: Controls, draw: np.random.Generator) -> Data:
    """Random directions at right angles, with uniformly random labels: n to train and n tests.

    Below these tests stand n near copies of the training examples, with their labels.
    """
    n, k = section.random_inputs.n, section.classes
    directions = np.linalg.qr(draw.standard_normal((2 * n, 2 * n)))[0] * NORM
    noise = draw.standard_normal((n, 2 * n)) * section.random_inputs.copy_noise * NORM / np.sqrt(2 * n)
    x, x_test = directions[:n], np.concatenate([directions[n:], directions[:n] + noise])
    y, fresh = draw.integers(k, size=(2, n))
    names = tuple(map(str, range(k)))
    return Data("random inputs", x.astype(np.float32), y, x_test.astype(np.float32), np.concatenate([fresh, y]), names)


def clusters(train: np.ndarray, test: np.ndarray, section: Clusters, classes: int, draw: np.random.Generator) -> Data:
    """Gaussian clusters of ``train (g,)`` and ``test (g,)`` examples; cluster j has label j modulo ``classes``.

    Made like `study.data.longtail`: centres of norm 1, noise of ``section.noise`` a coordinate.
    """
    centres = draw.standard_normal((len(train), section.dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    groups = [np.repeat(np.arange(len(counts)), counts) for counts in (train, test)]
    around = [section.noise * draw.standard_normal((len(group), section.dimension)) for group in groups]
    x, x_test = ((centres[group] + noise).astype(np.float32) for group, noise in zip(groups, around))
    names = tuple(map(str, range(classes)))
    return Data("clusters", x, groups[0] % classes, x_test, groups[1] % classes, names, *groups)


def law(counts: np.ndarray, classes: int, m: int) -> float:
    """Mean memorization of a learner that fits, knows a cluster as soon as it saw a member, and guesses otherwise.

    An example of a cluster with l of the n examples (``counts`` lists l) is then memorized to (1 - 1/k) times the chance
    that m of the n - 1 others hold none of the l - 1 others of its cluster.
    """
    n, seen = counts.sum(), counts[counts > 0]
    none = hypergeom.pmf(0, n - 1, seen - 1, m)
    return float((1 - 1 / classes) * (seen * none).sum() / n)


def exact(world: World, data: Data) -> dict[str, float]:
    """Mean memorization and number of pairs of the nearest-neighbour rule in closed form."""
    m = subsets.subset_size(data.n, world.setting.ratio)
    mem, infl = nearest_neighbour.memorization(data, m), nearest_neighbour.influence(data, m)
    alike = data.y_train[:, None] == data.y_test
    pairs = alike & (mem >= world.rule.mem_threshold)[:, None] & (infl >= world.rule.infl_threshold)
    return {"expected": float(mem.mean()), "expected_pairs": float(pairs.sum())}


def lost_cluster(section: Controls, ratio: float) -> float:
    """Bound on the chance that any subset of the nearest-neighbour control misses a whole cluster (a sum over all)."""
    groups, each = section.nearest_neighbour.groups, section.nearest_neighbour.each
    n = groups * each
    missed = hypergeom.pmf(0, n, each, subsets.subset_size(n, ratio))
    return float(groups * missed * section.trials * section.worlds)


# ---------------------------------------------------------------------------------------------------------------------
# What is measured


def trained(world: World, learner: Learner, data: Data) -> Estimates:
    """Estimates from ``section.trials`` models on random subsets."""
    seed, numbers = world.section.seed, world.numbers[: world.section.trials]
    masks, seeds = subsets.members(seed, numbers, data.n, world.setting.ratio), subsets.trial_seeds(seed, numbers)
    train, test = trials.predict(learner, data, masks, seeds, world.client)
    return estimate(masks, train == data.y_train, test == data.y_test, data.y_train, data.y_test)


def on_tests(found: Estimates, tests: slice) -> Estimates:
    """The same estimates with some of the tests only."""
    return estimate(
        found.members, found.train_correct, found.test_correct[:, tests], found.train_labels, found.test_labels[tests]
    )


def measure(found: Estimates, rule: Estimate, memorized_by: Estimates | None = None) -> dict[str, float]:
    """Memorization, counts and sums of one set of estimates.

    ``pairs`` are those of the talk's rule and ``mirrored`` the same with infl <= -threshold; ``raised`` and ``lowered``
    count both signs over all combinations of classes, and ``strong`` large influences within a class whatever the
    memorization. ``summed`` is the mean over all examples of the influence summed over all tests. With ``memorized_by`` the
    memorized examples of ``pairs`` and the next three are those of other estimates.
    """
    frame = found.memorization
    above = (memorized_by or found).pairs(rule.mem_threshold, rule.infl_threshold, same_class=False, influence_of=found)
    alike = above[above.same_class.astype(bool)]
    n, n_test = found.shape
    return {
        "n": n,
        "n_test": n_test,
        "classes": len(np.unique(found.train_labels)),
        "trials": found.trials,
        "in_accuracy": frame.in_accuracy.mean(),
        "memorization": frame.mem.mean(),
        "memorized": int((frame.mem >= rule.mem_threshold).sum()),
        "share": (frame.mem >= rule.mem_threshold).mean(),
        "pairs": int((alike.infl > 0).sum()),
        "mirrored": int((alike.infl < 0).sum()),
        "raised": int((above.infl > 0).sum()),
        "lowered": int((above.infl < 0).sum()),
        "strong": int((found.pairs(-1.0, rule.infl_threshold).infl > 0).sum()),
        "summed": np.nanmean(found.influence()[0].sum(1)),
    }


def _memorized(found: Estimates, rule: Estimate) -> np.ndarray:
    return found.memorization.mem.to_numpy() >= rule.mem_threshold


class Losses(NamedTuple):
    """What fresh networks lose on each test, ``(n_test,)``, without ``removed`` memorized or as many random examples."""

    memorized: np.ndarray
    random: np.ndarray
    removed: int

    def on(self, tests: slice) -> dict[str, float]:
        """Tests lost for each removed example; NaN if none could be removed."""
        lost = [part[tests].sum() / self.removed if self.removed else np.nan for part in (self.memorized, self.random)]
        return {"removed": self.removed, "loss": lost[0], "loss_random": lost[1]}


def losses(world: World, learner: Learner, data: Data, memorized: np.ndarray) -> Losses:
    """Train fresh networks on all examples, without memorized ones (``memorized (n,)``), and without as many random ones.

    Half of the examples are removed at most; where more are memorized, each network loses its own random choice of them.
    Model r has the same seed in every arm.
    """
    seeds = subsets.trial_seeds(world.section.seed, world.numbers[world.section.trials :])
    count, kept = min(int(memorized.sum()), data.n // 2), np.ones((3, len(seeds), data.n), dtype=bool)
    for r, seed in enumerate(seeds):
        draw = seed.generator("analysis")
        kept[1, r, draw.permutation(np.flatnonzero(memorized))[:count]] = False
        kept[2, r, draw.permutation(data.n)[:count]] = False
    _, test = trials.predict(learner, data, kept.reshape(-1, data.n), seeds * 3, world.client)
    right = (test == data.y_test).reshape(3, len(seeds), -1).mean(1)
    return Losses(right[0] - right[1], right[0] - right[2], count)


def summarise(table: pd.DataFrame) -> dict:
    """For each control and role its sizes, and the means over worlds with standard errors of all that was measured.

    ``beyond`` is memorization less what was expected of it.
    """
    sizes = ["n", "n_test", "classes", "trials"]
    summary: dict = {"worlds": int(table.world.nunique())}
    for (control, role), rows in table.groupby(["control", "role"], sort=False):
        beyond = {"beyond": quantities.mean((rows.memorization - rows.expected).to_numpy())}
        measured = rows.drop(columns=["control", "role", "world", *sizes])
        means = {column: quantities.mean(measured[column].to_numpy(dtype=float)) for column in measured}
        sized = {size: int(rows[size].iloc[0]) for size in sizes}
        summary.setdefault(control, {})[role] = sized | means | beyond
    return summary
