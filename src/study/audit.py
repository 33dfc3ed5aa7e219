"""How a stranger checks the cache: train single trials again and compare them with their published rows."""

import numpy as np
import pandas as pd

from study import data as datasets
from study import predictions, subsets
from study.params import Setting


def audit(name: str, setting: Setting, trials: list[int]) -> pd.DataFrame:
    """One row a trial: agreement in per cent over both splits, and the examples on which old and new differ.

    Raises ``ValueError`` for a trial that the prediction file does not hold. On the same kind of processor the bits agree
    exactly; another one rounds differently, which moves a few predictions near the decision boundary.
    """
    data = datasets.load(setting.data)
    file = predictions.load(predictions.path_of(name))
    masks = predictions.verify(file, setting, data)
    positions = {int(trial): row for row, trial in enumerate(file.trial.values)}
    if unknown := [trial for trial in trials if trial not in positions]:
        raise ValueError(f"{name} has no trial {unknown[0]}; it holds {len(positions)}, from 0 to {max(positions)}")
    rows = [positions[trial] for trial in trials]
    labels = setting.learner.fit_predict(data, masks[rows], subsets.trial_seeds(setting.seed, trials))
    truth = (data.y_train, data.y_test)
    old = (file.train_correct.values[rows], file.test_correct.values[rows])
    differs = [(found == right) != was for found, right, was in zip(labels, truth, old)]
    return pd.DataFrame([_report(trial, *(split[k] for split in differs)) for k, trial in enumerate(trials)])


def _report(trial: int, train: np.ndarray, test: np.ndarray) -> dict:
    share = 1 - (train.sum() + test.sum()) / (len(train) + len(test))
    return {
        "trial": trial,
        "agreement": 100 * share,
        "train_differs": np.flatnonzero(train).tolist(),
        "test_differs": np.flatnonzero(test).tolist(),
    }
