"""Part of the stage `objection`: is what removal costs a matter of near duplicates among training and test examples?

Two ways to clean the tests of a removal that was measured: exclude those that have one of the removed examples near, or
those that have any training example near, as a list of duplicates would; the control excludes as many of each class at
random. And one way that cleans the data instead: split the digits so that pictures which stand together in the file, and
are likely of one hand, come to one side, and estimate, remove and measure anew.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from study import pairs as high_influence
from study.case_studies.refits import (
    EVERYTHING,
    INFLUENCERS,
    KEYS,
    Arms,
    Study,
    control,
    fresh_estimates,
    retrain,
    shuffled,
    with_controls,
)
from study.case_studies.writers import positions
from study.data import Data, unit_floats
from study.quantities import UNKNOWN, mean, ratio
from study.subsets import TrialSeed

NEAR_REMOVED, NEAR_ANY, AT_RANDOM = "near a removed example", "near any training example", "at random"


def nearest_of_class(data: Data, among: np.ndarray) -> np.ndarray:
    """Distance from each test to the nearest training example of its class in ``among (n,)``; infinite where there is none.

    Euclidean, inputs in [0, 1]; float ``(n_test,)``.
    """
    train, test = (unit_floats(x).reshape(len(x), -1).astype(np.float32) for x in (data.x_train, data.x_test))
    nearest = np.full(data.n_test, np.inf)
    for label in range(len(data.classes)):
        near, here = train[among & (data.y_train == label)], data.y_test == label
        if len(near) and here.any():
            squared = (test[here] ** 2).sum(1)[:, None] - 2 * test[here] @ near.T + (near**2).sum(1)
            nearest[here] = np.sqrt(np.maximum(squared.min(1), 0))
    return nearest


def exclusions(study: Study, arms: Arms) -> tuple[pd.DataFrame, dict]:
    """The influencers' excess loss on the tests that remain when a share of them is excluded, one row a share and way.

    The control excludes as many tests of each class at random. Columns: share, excluded (way), limit (largest distance of
    an excluded test), tests (left), affected (of those), excess, std_error.
    """
    gain = arms.correct[control(INFLUENCERS)].astype(np.float32) - arms.correct[INFLUENCERS]
    distances = {
        NEAR_REMOVED: nearest_of_class(study.data, study.influencer),
        NEAR_ANY: nearest_of_class(study.data, np.ones(study.data.n, dtype=bool)),
    }
    rows = []
    for share in (0.0, *study.section.excluded):
        for way, distance in distances.items():
            out = _nearest_share(distance, share)
            rows.append(_exclusion_row(study, gain, share, way, out, distance))
        out = _nearest_share(distances[NEAR_REMOVED], share)
        rows.append(_random_row(study, gain, share, out))
    return pd.DataFrame(rows), _duplicates(study, gain, distances)


def _nearest_share(distance: np.ndarray, share: float) -> np.ndarray:
    """The ``share`` of all tests with the smallest distances, bool; never one without any distance."""
    return (distance.argsort(kind="stable").argsort() < round(share * len(distance))) & np.isfinite(distance)


def _exclusion_row(study: Study, gain: np.ndarray, share: float, way: str, out: np.ndarray, distance: np.ndarray) -> dict:
    limit = float(distance[out].max()) if out.any() else 0.0
    row = {"share": share, "excluded": way, "limit": limit, "tests": int((~out).sum())}
    left = mean(gain[:, ~out].mean(1)) if (~out).any() else dict(UNKNOWN)
    return row | {"affected": float((study.affected & ~out).sum()), "excess": left["value"], "std_error": left["std_error"]}


def _random_row(study: Study, gain: np.ndarray, share: float, out: np.ndarray) -> dict:
    draws = shuffled(out, study.data.y_test, study.section.draws, study.section.seed)
    values, affected = np.zeros(len(gain)), 0.0
    for draw in draws:
        values += gain[:, ~draw].mean(1) / len(draws)
        affected += (study.affected & ~draw).sum() / len(draws)
    left = mean(values)
    row = {"share": share, "excluded": AT_RANDOM, "limit": np.nan, "tests": int((~out).sum()), "affected": affected}
    return row | {"excess": left["value"], "std_error": left["std_error"]}


def _duplicates(study: Study, gain: np.ndarray, distances: Mapping[str, np.ndarray]) -> dict:
    """A test counts as a near duplicate below the ``section.duplicates`` quantile of all tests' distances.

    ``remaining`` is the share of the tests lost (net) that the other tests account for.
    """
    limit = np.quantile(distances[NEAR_ANY], study.section.duplicates)
    pair_distance = high_influence.distances(study.chosen, study.data)
    numbers = {"limit": float(limit), "share": study.section.duplicates, "pairs_below": int((pair_distance <= limit).sum())}
    for key, way in {"near_removed": NEAR_REMOVED, "near_any": NEAR_ANY}.items():
        out = distances[way] <= limit
        rest = gain[:, ~out]
        numbers[key] = {
            "excluded": int(out.sum()),
            "affected_left": int((study.affected & ~out).sum()),
            "excess": mean(rest.mean(1)),
            "remaining": ratio(rest.sum(1), gain.sum(1)),
        }
    return numbers


# ---------------------------------------------------------------------------------------------------------------------
# Digits of one hand on both sides of the split


def split_by_place(data: Data, fold: int, folds: int) -> Data:
    """The same digits, split so that the tests are a run of neighbours in the file, which begins later with every fold.

    The file goes round: after its last picture comes the first. All that stands between the two borders of the run is
    then on one side, and so is what one hand wrote, except at the borders.
    """
    x, y, places = _in_file_order(data)
    start = round(fold * len(y) / folds)
    test = np.isin(places, (start + np.arange(data.n_test)) % len(y))
    return replace(data, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test], name=f"{data.name}, by place")


def split_at_random(data: Data, fold: int, seed: int) -> Data:
    """The same digits, split at random into sets of the same sizes."""
    x, y, _ = _in_file_order(data)
    test = np.zeros(len(y), dtype=bool)
    test[TrialSeed(seed, fold).generator("analysis").permutation(len(y))[: data.n_test]] = True
    return replace(data, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test], name=f"{data.name}, at random")


def _in_file_order(data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(np.concatenate(positions(data)))
    x, y = np.concatenate([data.x_train, data.x_test])[order], np.concatenate([data.y_train, data.y_test])[order]
    return x, y, np.arange(len(y))


def compare_splits(study: Study) -> tuple[pd.DataFrame, dict]:
    """Estimate, remove and measure anew on splits by place and on as many random splits; empty without ``section.folds``.

    One row a split: split, fold, test_accuracy, memorized, pairs, mirrored, affected, and for the influencers and the
    memorized examples of that split the excess loss and its standard error.
    """
    rows, folds = [], study.section.folds
    for fold in range(folds):
        halves = {"at random": split_at_random(study.data, fold, study.section.seed)}
        halves["by place"] = split_by_place(study.data, fold, folds)
        rows += [{"split": split, "fold": fold} | _one_split(study, data) for split, data in halves.items()]
    table = pd.DataFrame(rows)
    return table, {way.replace(" ", "_"): _mean_split(part) for way, part in (table.groupby("split") if folds else ())}


def _one_split(study: Study, data: Data) -> dict:
    learner, rule = study.setting.learner, study.rule
    found = fresh_estimates(study, learner, data)
    strong = found.pairs(rule.mem_threshold, rule.infl_threshold)
    chosen, mirrored = strong[strong.infl > 0], strong[strong.infl < 0]
    marked = [np.isin(np.arange(data.n), chosen.train), found.memorization.mem.to_numpy() >= rule.mem_threshold]
    removed = with_controls(dict(zip(KEYS, marked)), data.y_train, study.section.repeats, study.section.seed)
    arms = retrain(learner, data, removed, study.section.seed, study.client)
    row = {"test_accuracy": arms.accuracy(EVERYTHING).mean(), "memorized": int(marked[1].sum())}
    row |= {"pairs": len(chosen), "mirrored": len(mirrored), "affected": chosen.test.nunique()}
    for kind, key in KEYS.items():
        excess = mean(arms.excess(kind))
        row |= {f"{key}_excess": excess["value"], f"{key}_std_error": excess["std_error"]}
    return row


def _mean_split(rows: pd.DataFrame) -> dict:
    """Means over the folds; their standard errors are those over folds, which differ by more than their models do."""
    columns = ("test_accuracy", "memorized", "pairs", "mirrored", "affected", "influencers_excess", "own_excess")
    return {column: mean(rows[column].to_numpy(dtype=float)) for column in columns}
