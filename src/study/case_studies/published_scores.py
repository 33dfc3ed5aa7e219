"""Published C-scores of CIFAR-100 beside our estimates: do networks of another make find the same examples hard?

The C-score of an example (Jiang et al. 2021, arXiv 2002.03206) is the accuracy on it of networks that were not trained on
it, averaged over sizes of the training set. Held-out accuracy is the same at one size, and memorization is the accuracy
inside less the accuracy outside the subset. On fitted subsets the first rises and the second falls with it.

Few trials blur our side, which lowers a correlation. How much follows from two halves of the trials: the correlation of
noiseless estimates is the one found divided by the root of their reliability (Spearman 1904). Ranks are correlated, and
standard errors are over examples (bootstrap).
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from study import estimators
from study.data import DataError
from study.estimators import Estimates
from study.quantities import correlation

SAMPLES = 100  # of the examples, for a standard error
SCORES = {"held_out": "out_accuracy", "memorization": "mem"}  # rows of `agreement` and columns of the estimates


def agreement(estimates: Estimates, scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rank correlation of our estimates with published C-scores, one row for each entry of `SCORES`.

    ``scores``: columns label, score, for all training examples in order. Columns of the result: score, examples, spearman,
    std_error, null (C-scores dealt to other examples of their class), reliability of our side (halves of the trials,
    Spearman and Brown) and corrected, the correlation that noiseless estimates would have. Raises `DataError` if the
    classes are not ours: then the scores are in another order.
    """
    n = len(estimates.train_labels)
    if len(scores) != n or (wrong := int((scores.label != estimates.train_labels).sum())):
        found = f"{len(scores)} examples" if len(scores) != n else f"{wrong} examples of another class"
        raise DataError(f"the C-scores hold {found}; they are not in the order of the training split, of {n}")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    halves = [estimators.part(estimates, rows).memorization for rows in estimators.halves(estimates.trials, rng)]
    dealt = scores.groupby("label").score.transform(lambda of_class: rng.permutation(of_class.to_numpy()))
    rows = [_row(key, column, estimates.memorization, halves, scores.score, dealt, rng) for key, column in SCORES.items()]
    return pd.DataFrame(rows)


def _row(key: str, column: str, ours: pd.DataFrame, halves: list, scores: pd.Series, dealt: pd.Series, rng) -> dict:
    known = ours[column].notna().to_numpy()
    found = _ranks(ours[column][known], scores[known], rng)
    both = (halves[0][column].notna() & halves[1][column].notna()).to_numpy()
    between = _ranks(halves[0][column][both], halves[1][column][both], rng)["value"]
    reliability = 2 * between / (1 + between)
    return {
        "score": key,
        "examples": int(known.sum()),
        "spearman": found["value"],
        "std_error": found["std_error"],
        "null": _ranks(ours[column][known], dealt[known], rng)["value"],
        "reliability": reliability,
        "corrected": found["value"] / np.sqrt(reliability) if reliability > 0 else np.nan,
    }


def of_influencers(pairs: pd.DataFrame, scores: pd.DataFrame, seed: int) -> dict:
    """Released memorization of the influencers against their published C-scores: two publications about the same examples.

    Spearman's correlation with its bootstrap error, the number of ``examples``, and the mean score of these and of ``all``.
    """
    each = pairs.drop_duplicates("train")
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    own = scores.score.to_numpy()[each.train]
    found = _ranks(each.mem, own, rng)
    return {"examples": len(each), "spearman": found, "mean": float(own.mean()), "all": float(scores.score.mean())}


def _ranks(a, b, rng: np.random.Generator) -> dict[str, float]:
    return correlation(rankdata(a), rankdata(b), SAMPLES, rng)
