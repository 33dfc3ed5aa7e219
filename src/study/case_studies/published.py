"""Stage `published`: what the released pairs of CIFAR-100 and ImageNet say, and what our estimates say of them.

Feldman & Zhang (2020, arXiv 2008.03703) released the pairs that their thousands of ResNet-50s selected (`released`). From
these lists come the counts and histograms of both data sets. Three questions are added:

* *Near duplicates.* ciFAIR (Barz & Denzler 2020, arXiv 1902.00423) lists CIFAR-100's test pictures that have a near copy in
  the training set. How many of the pairs are such copies, by influence? (`duplicates_by_band`)
* *Transfer.* On CIFAR-100 few trials cannot find pairs, but they can test a list of a thousand: noise averages out. Is the
  mean of our influence estimate over the released pairs larger than over random pairs of the same classes, and does it grow
  with the published influence? (`transfer`) The pairs were chosen by other models, so no luck of ours selected them.
* *C-scores.* Do our estimates rank the training examples as the scores of another publication do? (`published_scores`)

Trials are few and each of them touches every pair, so the errors of single influences are not independent. Standard errors
leave out whole trials (`jackknife`); permuted masks check them.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from study import data as datasets
from study import estimation, estimators, quantities
from study import pairs as pair_table
from study.case_studies import published_scores, released
from study.data import DataError
from study.estimators import Estimates
from study.params import Estimate, Params, Published

SIZES = {"CIFAR-100": (50_000, 10_000), "ImageNet": (1_281_167, 50_000)}  # training and test examples
CLASS_SIZE = 500  # training pictures in each class of CIFAR-100
WEAK = 0.4  # the paper reports what share of its pairs lies below this influence
QUANTILES = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class Bars:
    """A published histogram: counts in equal bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: tuple[int, ...]


# Heights of the bars in the memorization histograms on the authors' page (`released.PAGE`, imgs/memorization-hist-*.svg).
# They add up to all training examples; ImageNet's begin at the smallest estimate, CIFAR-100's at zero.
MEMORIZATION = {
    "CIFAR-100": Bars(0.0, 1.0, (24370, 3116, 2131, 1621, 1433, 1279, 1118, 1079, 974, 924, 912, 933, 930, 961, 1013, 1198,
                                 1470, 4538)),
    "ImageNet": Bars(-0.00757, 1.0, (625280, 86290, 57300, 45673, 39610, 36307, 34651, 33996, 33598, 34181, 34677, 36015,
                                     37074, 37341, 36413, 33235, 25919, 13607)),
}  # fmt: skip


def run(study: Params) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name: `counts`, `histograms`, `bars`, `duplicates`, `transfer`, `c_scores` and `summary`.

    Raises `DataError` for released files that can neither be found nor fetched, ``ValueError`` for a setting on other data.
    """
    rules = study.published
    found, listed, scores = sources(rules)
    found["CIFAR-100"] = with_kind(found["CIFAR-100"], listed)
    estimates = {name: _estimates(name, study) for name in rules.settings}
    transfers = [transfer(ours, found["CIFAR-100"], rules).assign(setting=name) for name, ours in estimates.items()]
    agreements = [
        published_scores.agreement(ours, scores, rules.seed).assign(setting=name) for name, ours in estimates.items()
    ]
    tables = {
        "counts": pd.DataFrame([{"data": name} | counts(frame, name, study.estimate) for name, frame in found.items()]),
        "histograms": pd.concat([histograms(frame).assign(data=name) for name, frame in found.items()], ignore_index=True),
        "bars": pd.concat([_bars(bars).assign(data=name) for name, bars in MEMORIZATION.items()], ignore_index=True),
        "duplicates": duplicates_by_band(found["CIFAR-100"], listed, rules.bands),
        "transfer": pd.concat([pd.DataFrame(columns=TRANSFER), *transfers], ignore_index=True).astype(TRANSFER),
        "c_scores": pd.concat([pd.DataFrame(columns=C_SCORES), *agreements], ignore_index=True).astype(C_SCORES),
    }
    summary = summarise(tables, found["CIFAR-100"], listed, rules)
    return tables | {"summary": summary | {"c_scores": _scored(tables["c_scores"], found["CIFAR-100"], scores, rules.seed)}}


def sources(rules: Published) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Pairs by data set, the listed duplicates of CIFAR-100 and its C-scores; released, or made up."""
    if rules.source == "made_up":
        return made_up(rules.seed)
    return {name: released.pairs(name) for name in released.PAIRS}, released.duplicates(), released.c_scores()


def made_up(seed: int, count: int = 60) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Random pairs of digits of one class in place of the released ones; the strongest third counts as duplicates.

    C-scores are random, too. They mean nothing: with them the pipeline can be tried where the files cannot be had.
    """
    digits, rng = datasets.load("digits"), np.random.default_rng(np.random.SeedSequence(seed))
    test = rng.choice(digits.n_test, count, replace=False)
    train = np.array([rng.choice(np.flatnonzero(digits.y_train == digits.y_test[j])) for j in test])
    infl = np.sort(np.minimum(0.15 + rng.exponential(0.15, count), 1.0))[::-1]
    frame = pd.DataFrame({"train": train, "test": test, "infl": infl, "mem": rng.uniform(0.25, 1, count)})
    listed = frame[: count // 3][["test", "train"]].assign(kind=released.KINDS[1])
    scores = pd.DataFrame({"label": digits.y_train, "score": rng.random(digits.n)})
    return {"CIFAR-100": frame, "ImageNet": frame.copy()}, listed, scores


def with_kind(pairs: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """The pairs with the kind of duplicate that they are, empty where not listed, and whether their test has any."""
    joined = pairs.merge(listed, on=["train", "test"], how="left", validate="one_to_one")
    return joined.assign(kind=joined.kind.fillna(""), test_listed=joined.test.isin(listed.test))


def counts(pairs: pd.DataFrame, name: str, selection: Estimate) -> dict:
    """Size of a list of pairs as the talk's table gives it, quantiles of influence, and entries that break the rule."""
    by_test, n_test = pairs.test.value_counts(), SIZES[name][1]
    broken = (pairs.mem < selection.mem_threshold) | (pairs.infl < selection.infl_threshold)
    return {
        **{key.replace(" ", "_").replace("-", "_"): value for key, value in pair_table.counts(pairs).items()},
        "n_test": n_test,
        "share_of_tests": len(by_test) / n_test,
        "max_influencers": int(by_test.max()),
        "weak": float((pairs.infl < WEAK).mean()),
        **{f"quantile_{q:g}": float(np.quantile(pairs.infl, q)) for q in QUANTILES},
        "against_the_rule": int((broken | pairs.duplicated(["train", "test"])).sum()),
    }


def histograms(pairs: pd.DataFrame) -> pd.DataFrame:
    """Counts in bins of 0.05: influence of the pairs, and memorization of the training examples in them, each once."""
    values = {"influence": pairs.infl, "memorization": pairs.drop_duplicates("train").mem}
    starts = {"influence": 0.15, "memorization": 0.25}
    return pd.concat([_counted(values[key], starts[key]).assign(quantity=key) for key in values], ignore_index=True)


def _counted(values: pd.Series, start: float) -> pd.DataFrame:
    edges = np.round(np.arange(start, 1.025, 0.05), 2)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": np.histogram(values, edges)[0]})


def _bars(bars: Bars) -> pd.DataFrame:
    edges = np.linspace(bars.low, bars.high, len(bars.counts) + 1)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": bars.counts})


def share_from(bars: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """Least and largest share of examples at or above ``threshold`` that a histogram allows: its bin may be cut anywhere."""
    whole = bars["count"].sum()
    inside = (bars.low >= threshold, bars.high > threshold)
    return tuple(float(bars.loc[chosen, "count"].sum() / whole) for chosen in inside)


def duplicates_by_band(pairs: pd.DataFrame, listed: pd.DataFrame, bands: tuple[float, ...]) -> pd.DataFrame:
    """One row a band of influence: pairs, how many are listed duplicates (by kind), their share with a 95 % interval.

    ``pairs`` come from `with_kind`. The interval is Wilson's (1927). ``null`` is the largest share to be expected if each
    training example were replaced by a random one of its class: of those, one at most is the listed copy of the test.
    """
    band = pd.cut(pairs.infl, list(bands), right=False, labels=False)
    band = band.mask(pairs.infl == bands[-1], len(bands) - 2)
    rows = [_band_row(pairs[band == k], low, high) for k, (low, high) in enumerate(pairwise(bands))]
    return pd.DataFrame(rows)


def _band_row(pairs: pd.DataFrame, low: float, high: float) -> dict:
    found, size = int((pairs.kind != "").sum()), len(pairs)
    interval = binomtest(found, size).proportion_ci(method="wilson") if size else (np.nan, np.nan)
    kinds = {kind.replace(" ", "_"): int((pairs.kind == kind).sum()) for kind in released.KINDS}
    share, null = (found / size, pairs.test_listed.mean() / CLASS_SIZE) if size else (np.nan, np.nan)
    return {
        "low": low,
        "high": high,
        "pairs": size,
        "listed": found,
        **kinds,
        "share": share,
        "share_low": interval[0],
        "share_high": interval[1],
        "null": null,
    }


TRANSFER = {
    "setting": "string",
    "group": "string",
    "low": float,
    "high": float,
    "pairs": "int64",
    "trials": "int64",
    "published": float,
    "ours": float,
    "ours_se": float,
    "control": float,
    "control_se": float,
    "difference": float,
    "difference_se": float,
    "null": float,
    "null_std": float,
}


C_SCORES = {
    "setting": "string",
    "score": "string",
    "examples": "int64",
    "spearman": float,
    "std_error": float,
    "null": float,
    "reliability": float,
    "corrected": float,
}


def _estimates(name: str, study: Params) -> Estimates:
    setting = study.setting(name)
    if study.published.source == "released" and setting.data != "cifar100":
        raise ValueError(
            f"published.settings of params.yaml lists {name}, whose data are {setting.data!r}; the released pairs count the "
            "examples of cifar100. Take it off the list"
        )
    return estimation.of_setting(name, setting)[0]


def transfer(estimates: Estimates, pairs: pd.DataFrame, rules: Published) -> pd.DataFrame:
    """Mean influence over ``pairs`` by our ``estimates``: over all, by band of published influence, by listing as duplicate.

    ``control`` is the mean over pairs of the same tests with ``rules.controls`` random training examples of their class;
    ``difference`` ours less control; standard errors by `jackknife`. ``null`` and ``null_std`` are mean and standard
    deviation of ``ours`` when the rows of the masks are permuted. Raises `DataError` if a pair is not of one class: then
    the data are not in the order in which the pairs count them.
    """
    check_order(estimates.train_labels, estimates.test_labels, pairs)
    rng = np.random.default_rng(np.random.SeedSequence(rules.seed))
    others = control_pairs(estimates, pairs, rules.controls, rng)
    groups = _groups(pairs, rules.bands)
    members = np.array([group.pop("chosen") for group in groups])
    samples = [np.arange(estimates.trials), *_without_each(estimates.trials, rules.groups)]
    parts = [estimators.part(estimates, rows) for rows in samples]
    ours, control = (np.array([_means(some, chosen, members) for some in parts]) for chosen in (pairs, others))
    null = [_means(estimators.permuted(estimates, rng), pairs, members) for _ in range(rules.permutations)]
    columns = {"ours": ours, "control": control, "difference": ours - control}
    columns = {name: values[0] for name, values in columns.items()} | {
        f"{name}_se": jackknife(values) for name, values in columns.items()
    }
    null = {"null": np.mean(null, axis=0), "null_std": np.std(null, axis=0, ddof=1)}
    return pd.DataFrame(groups).assign(trials=estimates.trials, **columns, **null)


def check_order(train_labels: np.ndarray, test_labels: np.ndarray, pairs: pd.DataFrame) -> None:
    """Raise `DataError` unless every pair is of one class, as in data of the order that the list counts in."""
    labels = train_labels, test_labels
    sides = (pairs.train.to_numpy(), pairs.test.to_numpy())
    outside = any(side.max() >= len(own) for side, own in zip(sides, labels))
    if outside or (wrong := int((labels[0][sides[0]] != labels[1][sides[1]]).sum())):
        found = "an example beyond the last" if outside else f"{wrong} of {len(pairs)} pairs of two classes"
        raise DataError(f"the list of pairs holds {found}; the data are not in the order that its indices count in")


def control_pairs(estimates: Estimates, pairs: pd.DataFrame, controls: int, rng: np.random.Generator) -> pd.DataFrame:
    """For each pair in order, its test with ``controls`` random training examples of the class that no pair names for it."""
    named = pairs.groupby("test").train.agg(list)
    drawn = [
        rng.choice(np.setdiff1d(np.flatnonzero(estimates.train_labels == estimates.test_labels[j]), named[j]), controls)
        for j in pairs.test
    ]
    return pd.DataFrame({"train": np.concatenate(drawn), "test": pairs.test.to_numpy().repeat(controls)})


def _groups(pairs: pd.DataFrame, bands: tuple[float, ...]) -> list[dict]:
    """Groups of pairs over which means are taken: all, each band, listed as duplicates or not; empty ones are left out."""
    infl, listed = pairs.infl.to_numpy(), pairs.kind.to_numpy() != ""
    ends = zip(bands, [*bands[1:-1], np.inf])
    chosen = {("all", *bands[:: len(bands) - 1]): np.ones(len(pairs), dtype=bool)}
    chosen |= {("band", low, min(high, bands[-1])): (infl >= low) & (infl < high) for low, high in ends}
    chosen |= {("listed", bands[0], bands[-1]): listed, ("not listed", bands[0], bands[-1]): ~listed}
    return [
        {
            "group": group,
            "low": low,
            "high": high,
            "chosen": which,
            "pairs": int(which.sum()),
            "published": infl[which].mean(),
        }
        for (group, low, high), which in chosen.items()
        if which.any()
    ]


def _means(estimates: Estimates, pairs: pd.DataFrame, groups: np.ndarray) -> np.ndarray:
    """Mean influence over the pairs of each of ``groups (g, p)``; ``pairs`` holds one or several rows for each of the p."""
    infl, _ = estimates.influence_at(pairs.train, pairs.test)
    infl = infl.reshape(groups.shape[1], -1)
    return np.array([np.nanmean(infl[group]) for group in groups])


def _without_each(trials: int, groups: int) -> list[np.ndarray]:
    """The rows that are left without each of ``groups`` groups of trials, or without each trial if there are fewer."""
    group = np.arange(trials) * min(groups, trials) // trials
    return [np.flatnonzero(group != k) for k in range(min(groups, trials))]


def jackknife(values: np.ndarray) -> np.ndarray:
    """Standard errors from ``values (1 + g, ...)``: with all trials, and without each of g groups of them.

    sqrt((g - 1) / g * sum of squared deviations from their mean). A trial is left out of all pairs at once, so what its
    accuracy adds to all of them is part of the error, as it should be.
    """
    left = values[1:]
    return np.sqrt((len(left) - 1) / len(left) * ((left - left.mean(0)) ** 2).sum(0))


def summarise(tables: dict, pairs: pd.DataFrame, listed: pd.DataFrame, rules: Published) -> dict:
    """The numbers that the page and the claims quote."""
    counted = {row.pop("data").lower().replace("-", ""): row for row in tables["counts"].to_dict("records")}
    for row in counted.values():
        row["quantiles"] = [row[f"quantile_{q:g}"] for q in QUANTILES]
        row["talk"] = [row[key] for key in ("pairs", "tests", "single_influencer_tests")]
    shares = {name: share_from(bars, 0.3) for name, bars in tables["bars"].groupby("data")}
    return {
        "source": rules.source,
        **counted,
        "imagenet_memorized_share": dict(zip(("least", "most"), shares["ImageNet"])),
        "duplicates": _duplicates(pairs, listed),
        "transfer": {name: _transferred(rows) for name, rows in tables["transfer"].groupby("setting")},
    }


def _duplicates(pairs: pd.DataFrame, listed: pd.DataFrame) -> dict:
    is_listed, strong, left = pairs.kind != "", pairs.infl >= WEAK, pairs[~pairs.test_listed]
    shares = [
        quantities.clustered_mean(is_listed[chosen].to_numpy(float), pairs.train[chosen].to_numpy())
        for chosen in (strong, ~strong)
    ]
    return {
        "listed": len(listed),
        "listed_by_kind": {kind.replace(" ", "_"): int((listed.kind == kind).sum()) for kind in released.KINDS},
        "count": int(is_listed.sum()),
        "share": quantities.clustered_mean(is_listed.to_numpy(float), pairs.train.to_numpy()),
        "strong_from": WEAK,
        "strong": shares[0],
        "weak": shares[1],
        "difference": quantities.difference(*shares),
        "null": float(pairs.test_listed.mean() / CLASS_SIZE),
        "median_influence_listed": float(pairs.infl[is_listed].median()),
        "median_influence_others": float(pairs.infl[~is_listed].median()),
        "pairs_left": len(left),
        "tests_left": int(left.test.nunique()),
        "tests_listed": int(pairs.loc[pairs.test_listed, "test"].nunique()),
    }


def _scored(agreements: pd.DataFrame, pairs: pd.DataFrame, scores: pd.DataFrame, seed: int) -> dict:
    """The agreement with C-scores in numbers: of the released memorization of influencers, and of each setting of ours."""
    found = {"released": published_scores.of_influencers(pairs, scores, seed)}
    for row in agreements.itertuples():
        quantity = {"value": row.spearman, "std_error": row.std_error}
        found.setdefault(row.setting, {})[row.score] = quantity | {"null": row.null, "corrected": row.corrected}
    return found


def _transferred(rows: pd.DataFrame) -> dict:
    """The transfer check of one setting in numbers: over all pairs, and from the weakest to the strongest band."""
    whole, bands = rows[rows.group == "all"].iloc[0], rows[rows.group == "band"]
    quantity = {key: {"value": whole[key], "std_error": whole[f"{key}_se"]} for key in ("ours", "control", "difference")}
    return {
        "trials": int(whole.trials),
        "pairs": int(whole.pairs),
        "published": whole.published,
        **quantity,
        "ratio": {"value": whole.difference / whole.published, "std_error": whole.difference_se / whole.published},
        "null": {"value": whole.null, "std_error": whole.null_std},
        "by_band": {"value": bands.difference.tolist(), "std_error": bands.difference_se.tolist()},
    }
