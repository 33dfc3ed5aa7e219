"""Stage `leave_one_out`: exact ground truth for a few examples, to judge the subsampled estimates by.

Three numbers for each example, from models that have nothing in common:

* the estimate under test, from the second half of the trials of a setting (the first half chose the examples);
* `direct`: what the estimator estimates, memorization in random subsets of size m, from fresh models whose subsets are
  forced to hold the example or to miss it;
* `loo`: the definition, models trained on all n examples against models trained on all but this one.

The estimate must agree with `direct` within standard errors. It need not agree with `loo`: models that miss the example
and 30 % of the rest get it right less often than models that miss it alone, so memorization at m lies above that at n.

The models without an example are its own; the models on all n examples are the same for every example, so the errors of
`loo` share a part, which is small because those models get nearly every training example right.
20 digits, 400 models a side at n and 200 a side at m: 2.5 minutes on two cores; standard errors up to 0.025 and 0.035.
"""

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from distributed import Client

from study import data as datasets
from study import estimation, estimators, subsets, tables, trials
from study.data import Data
from study.estimators import Estimates
from study.params import LeaveOneOut, Setting
from study.progress import Progress
from study.subsets import TrialSeed


def run(section: LeaveOneOut, setting: Setting, client: Client | None = None) -> tuple[pd.DataFrame, dict]:
    """Train the ground truth, save ``leave_one_out`` (table and summary) under ``tables/<section.setting>/``, return both.

    Raises `study.predictions.PredictionError` if the prediction file of the setting is missing or was made by another.
    """
    data = datasets.load(setting.data)
    estimates, _ = estimation.of_setting(section.setting, setting)
    first, second = halves(estimates)
    chosen = choose(first.memorization.mem.to_numpy(), section.examples)
    numbers = itertools.count()
    with Progress("leave_one_out", total=models_needed(section), unit="models") as progress:
        models = FreshModels(setting.learner, data, section.seed, numbers, progress, client)
        truth = at_n(models, chosen, section.models), at_m(models, chosen, section.subset_models, setting.ratio)
    frame = pd.concat([_estimated(first, second, chosen), *truth], axis=1)
    summary = summarise(frame, second, section) | {"m": subsets.subset_size(data.n, setting.ratio)}
    tables.save(section.setting, "leave_one_out", frame)
    tables.save(section.setting, "leave_one_out_summary", summary)
    return frame, summary
