"""How a stranger checks the cache: train single trials again and compare them with their published rows."""

import numpy as np
import pandas as pd
import xarray as xr

from study import data as datasets
from study import predictions, subsets
from study.data import Data
from study.params import Setting
from study.workers import one_thread

LISTED = 10  # examples that `summary` names for each trial
DIVERGED = {(False, False): "", (True, True): "both", (True, False): "published", (False, True): "again"}


def audit(name: str, setting: Setting, trials: list[int]) -> pd.DataFrame:
    """One row a trial: agreement in per cent over both splits, and the examples on which old and new differ.

    ``another_trial`` is the control: agreement of the trial trained again with the row of the trial that follows it in the
    file, which shows how much two honest models of the setting agree by themselves. ``diverged`` tells which of the two did:
    "" (neither), "both", "published" or "again". A model that diverged predicts nothing, so no prediction of it is compared:
    where both diverged, agreement is NaN, and where one did, 0. Trials are trained `models_at_once` together, in this
    process. Raises ``ValueError`` for a trial that the prediction file does not hold.

    On the same kind of processor the bits agree exactly; another one rounds differently, which moves some predictions near
    the decision boundary.
    """
    data = datasets.load(setting.data)
    file = predictions.load(predictions.path_of(name))
    predictions.check(file, setting, data)
    positions = {int(trial): row for row, trial in enumerate(file.trial.values)}
    if unknown := [trial for trial in trials if trial not in positions]:
        raise ValueError(f"{name} has no trial {unknown[0]}; it holds {len(positions)}, from 0 to {max(positions)}")
    size = setting.learner.models_at_once
    blocks = [trials[start : start + size] for start in range(0, len(trials), size)]
    again = (row for block in blocks for row in zip(*_trained_again(setting, data, block)))
    return pd.DataFrame([_compared(trial, *row, file, positions[trial]) for trial, row in zip(trials, again)])


def _trained_again(setting: Setting, data: Data, trials: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """What each trial gets right, bool ``(len(trials), n + n_test)``, and whether it diverged."""
    members = subsets.members(setting.seed, trials, data.n, setting.ratio)
    with one_thread():
        labels = setting.learner.fit_predict(data, members, subsets.trial_seeds(setting.seed, trials))
    return np.hstack([labels[0] == data.y_train, labels[1] == data.y_test]), (labels[0] == -1).all(1)


def _compared(trial: int, again: np.ndarray, diverged: bool, file: xr.Dataset, row: int) -> dict:
    states = DIVERGED[bool(file.diverged.values[row]), bool(diverged)]
    differs = np.zeros_like(again) if states else again != _published(file, row)
    train, test = np.split(differs, [file.sizes["train"]])
    return {
        "trial": trial,
        "agreement": {"": 100 * (1 - differs.mean()), "both": np.nan}.get(states, 0.0),
        "another_trial": np.nan if diverged else _control(again, file, row),
        "diverged": states,
        "train_differs": np.flatnonzero(train).tolist(),
        "test_differs": np.flatnonzero(test).tolist(),
    }


def _control(again: np.ndarray, file: xr.Dataset, row: int) -> float:
    """Agreement in per cent with the next row of another trial that did not diverge; NaN if there is none."""
    following = np.roll(np.arange(file.sizes["trial"]), -row)[1:]
    rows = following[~file.diverged.values[following]]
    return 100 * (again == _published(file, rows[0])).mean() if len(rows) else np.nan


def _published(file: xr.Dataset, row: int) -> np.ndarray:
    return np.concatenate([file.train_correct.values[row], file.test_correct.values[row]])


def summary(report: pd.DataFrame, threshold: float) -> str:
    """The report as text: a table with the first differing examples, and the verdict in one line."""
    columns = {name: report[name].map(_short) for name in ("train_differs", "test_differs")}
    table = report.assign(**columns).round({"another_trial": 1})
    return f"{table.to_string(index=False)}\n{_verdict(report, threshold)}"


def _short(examples: list[int]) -> str:
    return f"{examples[:LISTED]} and {len(examples) - LISTED} more" if len(examples) > LISTED else str(examples)


def _verdict(report: pd.DataFrame, threshold: float) -> str:
    exact, below, control = report.agreement == 100, report.agreement < threshold, report.another_trial
    near, left_out = (report.agreement >= threshold) & ~exact, report.agreement.isna().sum()
    parts = [f"{exact.sum()} of {len(report) - left_out} trials agree in every bit"]
    parts += [f"{left_out} diverged as published and are left out"] if left_out else []
    parts += [f"{near.sum()} in at least {threshold} per cent, but not in every bit"] if near.any() else []
    parts += [f"{below.sum()} in less than {threshold} per cent"] if below.any() else []
    parts += [f"rows of different trials agree in {control.mean():.1f} per cent"] if control.any() else []
    return "; ".join(parts)
