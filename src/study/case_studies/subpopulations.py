"""Stage `subpopulations`: do memorized examples sit in small sub-populations?

The long-tail theory says that what must be memorized are the only members of rare sub-populations. Real data come without
names of sub-populations; clusters of the last hidden layer's features stand in for them. An example's size is the share of
the other points in its cluster, and the question is whether small sizes find the memorized examples (area under the ROC
curve; 0.5 would be chance). Four ways to fool oneself, and what is done about each:

* *A network that was trained on an example has fitted it*, and so moved it. Features come from networks trained on one
  half of the training examples and are taken for the other half and for test examples; repeats swap and redraw the halves.
  What the features of the half that was seen would say is computed beside it.
* *The number of clusters is arbitrary.* All numbers of a range are cut from one tree, for two ways to build it.
* *An example that looks like another class is alone within its own*, however frequent its kind is among the others. So
  clusters are made within each class, where a sub-population has one label, and blindly among all points; `kinds` tells
  examples in small clusters from those in large clusters of another class.
* *Classes differ.* The null deals the memorization scores to other examples of the class. A second null keeps the scores and
  shuffles every feature within the class, which leaves clusters without meaning.

Pixels and an untrained network stand beside the features. Where the sub-populations are known (`longtail`), they are the
positive control, and memorization by the number of occurrences has a closed form (`law`).

About 50 seconds of one core for digits, longtail and 6,000 examples of MNIST (November 2026).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import gammaln
from scipy.stats import rankdata
from sklearn.metrics.pairwise import euclidean_distances

from study import data as datasets
from study import quantities, subsets, tables, trials
from study.data import Data, unit_floats
from study.learners import LargeMlp, Mlp
from study.localization.last_layer import untrained
from study.params import Params, Setting
from study.subsets import TrialSeed

SPACES = ("features", "seen", "pixels", "untrained", "shuffled")
SCOPES = ("within", "blind")
KINDS = ("alone", "foreign", "small", "ordinary")


class Cloud(NamedTuple):
    """Points to be clustered: ``x (p, d)``, their ``label (p,)``, and ``example (p,)``, the place of a training example
    among those that are scored, -1 for a test example.
    """

    x: np.ndarray
    label: np.ndarray
    example: np.ndarray


class Size(NamedTuple):
    """Of every scored example: ``others (s,)``, the share of the other points in its cluster, and ``kind (s, 4)``, how often
    it was of each of `KINDS`; both averaged over the networks that place it.
    """

    others: np.ndarray
    kind: np.ndarray


def run(study: Params) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage: `agreement`, `bands`, `kinds`, `law` and `summary`."""
    section = study.subpopulations
    parts = [of_setting(name, study) for name in section.settings]
    found = {key: pd.concat([part[key] for part in parts], ignore_index=True) for key in parts[0]}
    return found | {"summary": summarise(found, section)}


def of_setting(name: str, study: Params) -> dict[str, pd.DataFrame]:
    """The tables of one setting. Raises ``ValueError`` unless its learner is a multilayer perceptron."""
    setting, section = study.setting(name), study.subpopulations
    if not isinstance(setting.learner, Mlp | LargeMlp):
        raise ValueError(f"setting {name!r} has learner {setting.learner.name!r}; a multilayer perceptron is needed")
    data = datasets.load(setting.data)
    scored, tests = _drawn(data, section.settings[name], section.seed)
    mem = tables.load(name, "memorization").mem.to_numpy()[scored]
    sizes = sizes_of(
        clouds(setting, data, scored, tests, section.settings[name].repeats, section.seed), len(scored), section
    )
    about = _About(data, scored, mem >= study.estimate.mem_threshold, mem)
    deals = dealt(about.memorized, data.y_train[scored], section.permutations, TrialSeed(section.seed, 1))
    found = {
        "agreement": pd.DataFrame(_agreement(about, sizes, deals)),
        "bands": pd.concat([_bands(about, key, sizes[key], deals, section.bands) for key in sizes if key[0] == "features"]),
        "kinds": pd.concat([_kinds(about, key, sizes[key]) for key in sizes if key[1] == "blind"]),
        "law": law(data, mem, scored, subsets.subset_size(data.n, setting.ratio)),
    }
    return {key: table.assign(setting=name, data=data.name) for key, table in found.items()}


class _About(NamedTuple):
    data: Data
    scored: np.ndarray
    memorized: np.ndarray
    mem: np.ndarray


def _drawn(data: Data, limits, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training examples that are scored and of the tests beside them: all, or a random choice."""
    draw = TrialSeed(seed, 0).generator("analysis").permutation
    return np.sort(draw(data.n)[: limits.examples]), np.sort(draw(data.n_test)[: limits.tests])


def clouds(setting: Setting, data: Data, scored: np.ndarray, tests: np.ndarray, repeats: int, seed: int) -> Iterator:
    """Pairs of a space and a `Cloud`. In each repeat every scored example is placed once in each space.

    Two networks a repeat are trained on complementary halves. The clouds of a network hold the tests and the examples of
    the half it was not trained on; for ``seen`` those of the half it was.
    """
    halves = subsets.members(seed, range(repeats), data.n, 0.5)
    halves = np.stack([halves, ~halves], axis=1).reshape(-1, data.n)
    taught = _of_equal_size(halves)
    trained = _features(setting.learner, data, taught, scored, tests, seed)
    blank = _features(untrained(setting.learner), data, taught[:1], scored, tests, seed)[0]
    pixels = np.concatenate([_rows(data.x_train[scored]), _rows(data.x_test[tests])])
    for number, features in enumerate(trained):
        inside, draw = halves[number, scored], TrialSeed(seed, number).generator("augmentation")
        yield "features", (cloud := _cloud(features, data, scored, tests, ~inside))
        yield "seen", _cloud(features, data, scored, tests, inside)
        yield "pixels", _cloud(pixels, data, scored, tests, ~inside)
        yield "untrained", _cloud(blank, data, scored, tests, ~inside)
        yield "shuffled", cloud._replace(x=shuffled(cloud.x, cloud.label, draw))


def _of_equal_size(halves: np.ndarray) -> np.ndarray:
    """The same sets ``(k, n)``, the larger ones without their last example where an odd number was halved."""
    members = np.argsort(~halves, axis=1, kind="stable")[:, : halves.sum(axis=1).min()]
    result = np.zeros_like(halves)
    np.put_along_axis(result, members, True, axis=1)
    return result


def _rows(x: np.ndarray) -> np.ndarray:
    return unit_floats(np.asarray(x)).reshape(len(x), -1)


def _features(learner, data: Data, taught: np.ndarray, scored, tests, seed: int) -> np.ndarray:
    """Last hidden layer of a network for each row of ``taught (k, n)``, float ``(k, scored + tests, width)``."""
    with trials.one_thread():
        networks = learner.fit(data, taught, subsets.trial_seeds(seed, range(len(taught))))
        train, test = learner.inputs(data)
        parts = [networks.features(x).float().numpy() for x in (train[scored], test[tests])]
    return np.concatenate(parts, axis=1)


def _cloud(x: np.ndarray, data: Data, scored: np.ndarray, tests: np.ndarray, chosen: np.ndarray) -> Cloud:
    places = np.flatnonzero(chosen)
    rows = np.concatenate([places, len(scored) + np.arange(len(tests))])
    labels = np.concatenate([data.y_train[scored[places]], data.y_test[tests]])
    return Cloud(x[rows], labels, np.concatenate([places, np.full(len(tests), -1)]))


def shuffled(x: np.ndarray, label: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """``x (p, d)`` with each column in random order within each class, so that nothing belongs together any more."""
    result = x.copy()
    for each in np.unique(label):
        rows = np.flatnonzero(label == each)
        result[rows] = draw.permuted(x[rows], axis=0)
    return result


# --- sizes of clusters -------------------------------------------------------------------------------------


def sizes_of(placed: Iterator, examples: int, section) -> dict[tuple, Size]:
    """Sizes by (space, scope, linkage, clusters a class), averaged over the clouds that hold an example."""
    total: dict[tuple, np.ndarray] = {}
    for space, cloud in placed:
        for scope in SCOPES:
            for method, count, found in _cut(cloud, scope, section):
                sums = total.setdefault((space, scope, method, count), np.zeros((examples, 2 + len(KINDS))))
                known = cloud.example >= 0
                sums[cloud.example[known]] += found[known]
    return {key: Size(sums[:, 1] / sums[:, 0], sums[:, 2:] / sums[:, :1]) for key, sums in total.items()}


def _cut(cloud: Cloud, scope: str, section) -> Iterator:
    """(linkage, clusters a class, rows) with rows ``(p, 2 + 4)`` of 1, the share of others, and the kind."""
    parts = [np.flatnonzero(cloud.label == each) for each in np.unique(cloud.label)]
    groups = parts if scope == "within" else [np.arange(len(cloud.label))]
    distances = [_condensed(cloud.x[rows]) for rows in groups]
    for method in section.linkages:
        trees = [linkage(distance, method) for distance in distances]
        for count in section.clusters:
            wanted = count if scope == "within" else count * len(parts)
            found = np.ones((len(cloud.label), 2 + len(KINDS)))
            for rows, tree in zip(groups, trees):
                found[rows, 1:] = sizes(fcluster(tree, wanted, "maxclust"), cloud.label[rows], wanted)
            yield method, count, found


def _condensed(x: np.ndarray) -> np.ndarray:
    return squareform(euclidean_distances(x.astype(np.float64)), checks=False)


def sizes(cluster: np.ndarray, label: np.ndarray, wanted: int) -> np.ndarray:
    """Share of the other points in the same cluster, and the kind as four 0/1 columns, float ``(p, 1 + 4)``.

    ``cluster (p,)`` numbers each point's cluster. A point is *alone* if nothing else is in its cluster, *foreign* if most of
    the others there have another label, *small* if its cluster has less than half of the mean size p / ``wanted``, and
    else *ordinary*; the first that applies counts.
    """
    p = len(cluster)
    others = np.bincount(cluster)[cluster] - 1
    table = np.zeros((cluster.max() + 1, label.max() + 1))
    np.add.at(table, (cluster, label), 1)
    own = table[cluster, label] - 1
    conditions = [others == 0, own < others / 2, others + 1 < p / wanted / 2]
    kind = np.select(conditions, range(3), default=3)
    return np.column_stack([others / (p - 1), kind[:, None] == np.arange(len(KINDS))])


# --- sizes and memorization --------------------------------------------------------------------------------


def auroc(size: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    """Chance that a ``chosen`` example has a smaller ``size (s,)`` than another, ties counting half, with its error.

    The error is that of DeLong et al. (1988): examples are a sample, and the mean over pairs is a U-statistic. NaN unless
    at least two examples are and two are not chosen.
    """
    if min(chosen.sum(), (~chosen).sum()) < 2:
        return dict(quantities.UNKNOWN)
    ranks, yes, no = rankdata(-size), chosen, ~chosen
    above = (ranks[yes] - rankdata(-size[yes])) / no.sum()
    below = 1 - (ranks[no] - rankdata(-size[no])) / yes.sum()
    error = np.sqrt(above.var(ddof=1) / yes.sum() + below.var(ddof=1) / no.sum())
    return {"value": float(above.mean()), "std_error": float(error)}


def dealt(memorized: np.ndarray, label: np.ndarray, permutations: int, seed: TrialSeed) -> np.ndarray:
    """Which examples count as memorized when the marks are dealt anew within each class, bool ``(permutations, s)``."""
    draw, result = seed.generator("analysis"), np.tile(memorized, (permutations, 1))
    for each in np.unique(label):
        rows = np.flatnonzero(label == each)
        result[:, rows] = draw.permuted(result[:, rows], axis=1)
    return result


def _dealt_auroc(size: np.ndarray, deals: np.ndarray) -> np.ndarray:
    """The area for each row of ``deals``, from sums of ranks."""
    count = deals.sum(axis=1)
    sums = deals @ rankdata(-size)
    with np.errstate(invalid="ignore"):
        return (sums - count * (count + 1) / 2) / (count * (deals.shape[1] - count))


def _agreement(about: _About, sizes: dict[tuple, Size], deals: np.ndarray) -> Iterator[dict]:
    """One row a choice of clusters: area, its null, and, where groups are known, rank correlation with their true sizes."""
    truth = _true_sizes(about)
    for (space, scope, method, count), size in sizes.items():
        row = {"space": space, "scope": scope, "linkage": method, "clusters": count}
        yield row | _area(about, size.others, deals) | {"with_truth": _spearman(size.others, truth)}
    if truth is not None:
        row = {"space": "truth", "scope": "within", "linkage": "known", "clusters": 0}
        yield row | _area(about, truth, deals) | {"with_truth": 1.0}


def _area(about: _About, size: np.ndarray, deals: np.ndarray) -> dict[str, float]:
    area, null = auroc(size, about.memorized), _dealt_auroc(size, deals)
    counts = {"examples": len(size), "memorized": int(about.memorized.sum())}
    low, high = np.quantile(null, [0.025, 0.975])
    result = {"auroc": area["value"], "auroc_se": area["std_error"], "null": null.mean(), "null_low": low, "null_high": high}
    return counts | result | {"spearman": _spearman(size, -about.mem)}


def _spearman(a: np.ndarray, b: np.ndarray | None) -> float:
    """Rank correlation where ``b`` is known; NaN without ``b`` or if one of the two is constant."""
    if b is None:
        return np.nan
    known = np.isfinite(b)
    a, b = rankdata(a[known]), rankdata(b[known])
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else np.nan


def _true_sizes(about: _About) -> np.ndarray | None:
    """How often each example's true group occurs in training, where groups are known."""
    groups = about.data.groups_train
    return None if groups is None else np.bincount(groups)[groups][about.scored].astype(float)


def _bands(about: _About, key: tuple, size: Size, deals: np.ndarray, bands: int) -> pd.DataFrame:
    """Share memorized in each of equally large bands of size, the smallest first, and its 95 % range under the null."""
    order = np.argsort(size.others, kind="stable")
    rows = []
    for band, chosen in enumerate(np.array_split(order, bands)):
        null = deals[:, chosen].mean(axis=1)
        share = quantities.mean(about.memorized[chosen].astype(float))
        low, high = np.quantile(null, [0.025, 0.975])
        row = {"band": band + 1, "examples": len(chosen), "others": float(size.others[chosen].mean())}
        row |= {"share": share["value"], "share_se": share["std_error"]}
        rows.append(row | {"null": null.mean(), "null_low": low, "null_high": high})
    return _keyed(pd.DataFrame(rows), key)


def _keyed(table: pd.DataFrame, key: tuple) -> pd.DataFrame:
    return table.assign(**dict(zip(("space", "scope", "linkage", "clusters"), key, strict=True)))


def _kinds(about: _About, key: tuple, size: Size) -> pd.DataFrame:
    """Share of each of `KINDS` among memorized examples and among the others, with standard errors over examples."""
    rows = []
    for memorized in (True, False):
        of_group = size.kind[about.memorized == memorized]
        for place, kind in enumerate(KINDS):
            share = quantities.mean(of_group[:, place])
            row = {"memorized": memorized, "examples": len(of_group), "kind": kind}
            rows.append(row | {"share": share["value"], "share_se": share["std_error"]})
    return _keyed(pd.DataFrame(rows), key)


def law(data: Data, mem: np.ndarray, scored: np.ndarray, m: int) -> pd.DataFrame:
    """Memorization by the number l of training examples of the true group, measured and in closed form; one row a count.

    A learner that fits what it sees, knows a group as soon as it saw a member, and guesses among k labels otherwise, errs
    on a held-out example when the m of the n - 1 others hold none of the l - 1 of its group. So
    mem = (1 - 1/k) C(n-l, m) / C(n-1, m), about (1 - 1/k) (1 - m/n)^(l-1). No rows where groups are unknown.
    """
    columns = ["count", "examples", "mem", "mem_se", "predicted"]
    if data.groups_train is None:
        return pd.DataFrame(columns=columns).astype({"count": int, "examples": int} | dict.fromkeys(columns[2:], float))
    groups = data.groups_train[scored]
    counts, rows = np.bincount(data.groups_train)[groups], []
    for count in np.unique(counts):
        chosen = counts == count
        found = quantities.clustered_mean(mem[chosen], groups[chosen])
        predicted = (1 - 1 / len(data.classes)) * none_of(count - 1, data.n - 1, m)
        rows.append([int(count), int(chosen.sum()), found["value"], found["std_error"], predicted])
    return pd.DataFrame(rows, columns=columns)


def none_of(special: int, n: int, m: int) -> float:
    """Chance that m of n, drawn without replacement, hold none of ``special`` marked ones."""
    if m > n - special:
        return 0.0
    return float(np.exp(gammaln(n - special + 1) - gammaln(n - special - m + 1) - gammaln(n + 1) + gammaln(n - m + 1)))


def summarise(found: dict[str, pd.DataFrame], section) -> dict:
    """What claims refer to: for each setting, at the main linkage and number of clusters, the area by space and scope, the
    null, the range over all numbers and linkages, the share memorized in the smallest and the largest band, and the kinds.
    """
    summary = {"main": {"linkage": section.main_linkage, "clusters": section.main_clusters}}
    for name, table in found["agreement"].groupby("setting", sort=False):
        main = _main(table, section)
        areas = {scope: _by_space(main[main.scope == scope]) for scope in SCOPES}
        features = table[(table.space == "features") & (table.scope == "within")]
        bands = _main(found["bands"][found["bands"].setting == name], section).query("scope == 'within'").sort_values("band")
        first, last = ({"value": row.share, "std_error": row.share_se} for row in (bands.iloc[0], bands.iloc[-1]))
        summary[name] = areas | {"range": [features.auroc.min(), features.auroc.max()], "smallest": first, "largest": last}
        null = {"value": main.null.mean(), "low": main.null_low.min(), "high": main.null_high.max()}
        summary[name] |= {"null": null, "examples": int(table.examples.iloc[0]), "memorized": int(table.memorized.iloc[0])}
    return summary


def _main(table: pd.DataFrame, section) -> pd.DataFrame:
    return table[(table.linkage == section.main_linkage) & (table.clusters == section.main_clusters)]


def _by_space(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {row.space: {"value": row.auroc, "std_error": row.auroc_se} for row in rows.itertuples()}
