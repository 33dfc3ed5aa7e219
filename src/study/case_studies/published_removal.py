"""Stage `published_removal`: take the published influencers of CIFAR-100 away from networks that did not choose them.

Feldman & Zhang (2020, arXiv 2008.03703) trained without the 964 training examples that occur in their pairs. Here the same
list is taken from networks of ours, which are smaller and less accurate. The list was drawn up by the authors' networks and
what its loss costs is measured by ours, so selection and measurement share no model. They do share the test set.

Four arms: nothing is removed; the influencers; as many random examples; and larger random sets. Model r of every arm has
the same initial weights, and random sets of its own, of which the smaller is part of the larger. Losses are differences
between partners, their standard errors are over models.

One network of `cifar100-convnet` takes four to five minutes of a core. Each that is finished leaves a file in ``.scratch/``,
named after all that it depends on, so that a run that was stopped, or asks for further repeats or sizes, trains only what is
missing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from distributed import Client
from scipy.stats import t as student

from study import data as datasets
from study import scratch, trials
from study.case_studies import published, released
from study.case_studies.refits import EVERYTHING, INFLUENCERS, Arms
from study.case_studies.removal import random_ranks
from study.data import Data
from study.params import Params, PublishedRemoval, Setting
from study.quantities import mean, ratio
from study.subsets import TrialSeed, checksums, trial_seeds

# Feldman & Zhang (2020), text on the pairs, ResNet50: accuracy and its uncertainty on all tests and on those in a pair, with
# all training examples and without the influencers.
PAPER = {
    "before": (0.7606, 0.0028),
    "after": (0.7352, 0.0025),
    "drop": (0.0254, 0.0020),
    "affected_before": (0.7214, 0.0132),
    "affected_after": (0.4538, 0.0145),
    "affected_drop": (0.2676, 0.0196),
}
KEPT = ("train", "test")  # arrays in the file of a model: which examples of either split it gets right


class Models(NamedTuple):
    """The models of all arms: what they leave out and get right, ``learned[arm] (repeats, n)`` on the training examples."""

    arms: Arms
    learned: Mapping[str, np.ndarray]

    def on_removed(self, arm: str, trained: str) -> np.ndarray:
        """Accuracy ``(repeats,)`` of the models of the arm ``trained`` on what ``arm`` leaves out."""
        removed, correct = self.arms.removed[arm], self.learned[trained]
        return (removed & correct).sum(1) / removed.sum(1)


def run(study: Params, client: Client | None = None) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name: `models`, `losses` and `summary`.

    Raises `DataError` if the released pairs can neither be found nor fetched or do not fit the data, ``ValueError`` for a
    setting on other data or a random set that is larger than they are, `TrainingError` if the training cannot go on.
    """
    section, setting = study.published_removal, study.setting(study.published_removal.setting)
    data, pairs = datasets.load(setting.data), released_pairs(section, setting)
    published.check_order(data.y_train, data.y_test, pairs)
    models = retrain(setting, data, arms(section, pairs, data.n), section.seed, client)
    affected = np.isin(np.arange(data.n_test), pairs.test)
    return {
        "models": by_model(models, affected),
        "losses": losses(models.arms, affected),
        "summary": {"source": section.source, "setting": section.setting, "pairs": len(pairs), "n": data.n}
        | {"n_test": data.n_test, "repeats": section.repeats}
        | summarise(models, pairs, affected),
    }


def released_pairs(section: PublishedRemoval, setting: Setting) -> pd.DataFrame:
    """The released pairs of CIFAR-100 or, for a trial of the pipeline, made-up pairs of digits."""
    needed = {"released": "cifar100", "made_up": "digits"}[section.source]
    if setting.data != needed:
        raise ValueError(
            f"published_removal.setting of params.yaml is {section.setting}, whose data are {setting.data!r}; "
            f"pairs that are {section.source} count the examples of {needed}. Name a setting on {needed}"
        )
    if section.source == "released":
        return released.pairs("CIFAR-100")
    return published.made_up(section.seed)[0]["CIFAR-100"]


def random_arm(size: int) -> str:
    """The name of the arm that removes ``size`` random examples."""
    return f"{size:,} random"


def arms(section: PublishedRemoval, pairs: pd.DataFrame, n: int) -> dict[str, np.ndarray]:
    """What each arm leaves out, bool ``(repeats, n)``.

    Raises ``ValueError`` for a random set that leaves nothing to train on.
    """
    if too_large := [size for size in section.random if size >= n]:
        raise ValueError(f"published_removal.random asks to remove {too_large[0]} of {n} training examples; name fewer")
    influencer, ranks = np.isin(np.arange(n), pairs.train), random_ranks(section, n)
    fixed = {EVERYTHING: np.zeros(n, dtype=bool), INFLUENCERS: influencer}
    removed = {arm: np.tile(mask, (section.repeats, 1)) for arm, mask in fixed.items()}
    return removed | {random_arm(size): ranks < size for size in sorted({int(influencer.sum()), *section.random})}


def retrain(
    setting: Setting, data: Data, removed: Mapping[str, np.ndarray], seed: int, client: Client | None = None
) -> Models:
    """A model for every row of ``removed[arm] (repeats, n)``, repeat by repeat; those that are kept are only read."""
    repeats = len(next(iter(removed.values())))
    found = [
        _repeat(setting, data, {arm: rows[each.trial] for arm, rows in removed.items()}, each, client)
        for each in trial_seeds(seed, range(repeats))
    ]
    learned, correct = ({arm: np.stack([of[arm][split] for of in found]) for arm in removed} for split in KEPT)
    return Models(Arms(removed, correct, learned[EVERYTHING].mean(1)), learned)


def _repeat(setting: Setting, data: Data, removed: Mapping[str, np.ndarray], seed: TrialSeed, client: Client | None) -> dict:
    """For each arm which examples of either split its model of this repeat gets right, after training those not kept."""
    files = {arm: kept_as(setting, data, mask, seed) for arm, mask in removed.items()}
    found = {arm: scratch.load(file, KEPT) for arm, file in files.items()}
    missing = [arm for arm, arrays in found.items() if arrays is None]
    if missing:
        members, title = ~np.stack([removed[arm] for arm in missing]), f"published_removal-{seed.trial}"
        labels = trials.predict(setting.learner, data, members, [seed] * len(missing), client, title=title)
        for arm, train, test in zip(missing, *labels):
            found[arm] = dict(zip(KEPT, (train == data.y_train, test == data.y_test)))
            scratch.save(files[arm], **found[arm])
    return found


def kept_as(setting: Setting, data: Data, removed: np.ndarray, seed: TrialSeed) -> Path:
    """The file of the model of one repeat that is trained without ``removed (n,)``."""
    (mark,) = checksums(removed[None])
    return trials.SCRATCH / f"published_removal-{setting.fingerprint(data)}-{seed.seed}-{seed.trial}-{mark:016x}.npz"


def parts(affected: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of the test set on which losses are taken, bool ``(n_test,)``: tests in a pair are `affected`."""
    return {"all": np.ones_like(affected), "affected": affected, "elsewhere": ~affected}


def by_model(models: Models, affected: np.ndarray) -> pd.DataFrame:
    """One row a model: arm, removed, repeat, accuracy on each of the `parts`, and what it makes of the removed examples.

    ``held_out`` is its accuracy on what it was not given, ``held_in`` that of its partner that was trained on everything;
    NaN if nothing was removed.
    """
    rows = []
    for arm in models.arms.removed:
        columns = {"arm": arm, "removed": models.arms.count(arm), "repeat": np.arange(len(models.arms.fitted))}
        columns |= {name: models.arms.accuracy(arm, on) for name, on in parts(affected).items()}
        if arm != EVERYTHING:
            columns |= {"held_in": models.on_removed(arm, EVERYTHING), "held_out": models.on_removed(arm, arm)}
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def losses(arms: Arms, affected: np.ndarray) -> pd.DataFrame:
    """One row an arm and a part of the tests: arm, removed, tests, count, accuracy, std_error, drop, drop_std_error.

    ``low`` and ``high`` are the ends of the `interval` of the drop. ``each`` is how many tests of that part are lost for
    each example that is removed, with its error; NaN if none is.
    """
    return pd.DataFrame([_loss(arms, arm, *part) for arm in arms.removed for part in parts(affected).items()])


def _loss(arms: Arms, arm: str, tests: str, on: np.ndarray) -> dict:
    accuracy, drop, removed = mean(arms.accuracy(arm, on)), interval(arms.drop(arm, on)), arms.count(arm)
    row = {"arm": arm, "removed": removed, "tests": tests, "count": int(on.sum())}
    row |= {"accuracy": accuracy["value"], "std_error": accuracy["std_error"]}
    row |= {"drop": drop["value"], "drop_std_error": drop["std_error"], "low": drop["low"], "high": drop["high"]}
    scale = on.sum() / removed if removed else float("nan")
    return row | {"each": drop["value"] * scale, "each_std_error": drop["std_error"] * scale}


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean of independent ``values (k,)``, standard error, and ends ``low`` and ``high`` of the 95 % interval (Student's t).

    Of few values the standard error is itself uncertain, and twice that error is too short. The ends are NaN for fewer than
    two values.
    """
    found = mean(values)
    reach = student.ppf(0.975, len(values) - 1) * found["std_error"]
    return found | {"low": float(found["value"] - reach), "high": float(found["value"] + reach)}


def summarise(models: Models, pairs: pd.DataFrame, affected: np.ndarray) -> dict:
    """The numbers that the page and the claims quote; drops are fractions of the tests they are measured on.

    ``random`` is the arm that removes as many as there are influencers, ``larger`` lists the other random sets.
    """
    arms = models.arms
    random = random_arm(arms.count(INFLUENCERS))
    others = [arm for arm in arms.removed if arm not in (EVERYTHING, INFLUENCERS, random)]
    published_mem = float(pairs.drop_duplicates("train").mem.mean())
    return {
        "accuracy": mean(arms.accuracy(EVERYTHING)),
        "fitted": mean(arms.fitted),
        "affected_tests": int(affected.sum()),
        "influencers": _influencers(models, random, affected) | {"published_memorization": published_mem},
        "random": _cost(models, random, affected),
        "larger": [_larger(models, arm, affected) for arm in others],
        "paper": {name: {"value": value, "std_error": error} for name, (value, error) in PAPER.items()},
    }


def _influencers(models: Models, random: str, on: np.ndarray) -> dict:
    """What the influencers are worth, and how much of it beyond ``random``, the arm of as many random examples."""
    arms = models.arms
    drop, affected = arms.drop(INFLUENCERS), arms.drop(INFLUENCERS, on)
    return _cost(models, INFLUENCERS, on) | {
        "affected_before": mean(arms.accuracy(EVERYTHING, on)),
        "affected_after": mean(arms.accuracy(INFLUENCERS, on)),
        "affected_share_lost": ratio(affected, arms.accuracy(EVERYTHING, on)),
        "explained_drop": mean(affected * on.mean()),
        "explained_share": ratio(affected * on.mean(), drop),
        "excess": interval(drop - arms.drop(random)),
        "affected_excess": interval(affected - arms.drop(random, on)),
    }


def _larger(models: Models, arm: str, on: np.ndarray) -> dict:
    """A larger random set beside the influencers; ``exchange`` is how many of its examples one influencer is worth."""
    arms = models.arms
    each = {name: arms.drop(name) / arms.count(name) for name in (arm, INFLUENCERS)}
    difference = interval(arms.drop(INFLUENCERS) - arms.drop(arm))
    return _cost(models, arm, on) | {"difference": difference, "exchange": ratio(each[INFLUENCERS], each[arm])}


def _cost(models: Models, arm: str, on: np.ndarray) -> dict:
    """What an arm costs, and how well examples are known that are removed: accuracy on them with and without them."""
    arms = models.arms
    memorized = models.on_removed(arm, EVERYTHING) - models.on_removed(arm, arm)
    return {
        "count": arms.count(arm),
        "accuracy": mean(arms.accuracy(arm)),
        "drop": interval(arms.drop(arm)),
        "affected_drop": interval(arms.drop(arm, on)),
        "elsewhere_drop": interval(arms.drop(arm, ~on)),
        "memorized": mean(memorized),
    }
