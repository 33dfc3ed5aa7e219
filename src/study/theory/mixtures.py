"""The long-tail theorem with structure: sub-populations in R^d, and learners that see vectors instead of names.

In the discrete world (`study.theory.long_tail`) a point is drawn again as itself. Here point j is a Gaussian cluster around
a random centre, with a label of its own; what comes again is another vector of the cluster. Whether not fitting a training
vector costs anything then depends on whether the learner treats the fresh vector as it treated the one it saw. Feldman
(2020, arXiv 1906.05271, Sec. 3) calls a learner coupled to sub-populations if it does. Here the coupling is measured.

For a sub-population seen l times let e be the share of its training vectors that are misfitted, e' the error on fresh
vectors, s the share of pairs (training vector, fresh vector) in which the first is misfitted and the second gets the same
wrong label, and w that in which both labels are wrong. As all of a cluster has one label, e' >= w >= s. Averaged over
worlds and samples, with tau_l the mean frequency of a sub-population seen l times,

    err = opt + E sum_j D_j e'_j,     E sum_j D_j e'_j = E sum_j tau_l(j) e'_j  >=  E sum_j tau_l(j) s_j ,

where opt = (k-1)/k times the mass of what was not seen, since labels are independent. The equality needs that e' depends
on D only through the counts; it is tested, as the bound is. With lambda_l = E[s] / E[e] at count l, the share of misfits
that carry over, the bound reads sum_l lambda_l tau_l errn(l), the form of the discrete theorem. lambda = 1 gives that
theorem back; for a learner that errs on its sample alone (`contrary`) it is wrong.

About 30 seconds of one core with 24 worlds of 400 sub-populations, six learners, seven noise levels (November 2026).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from study import quantities
from study.data import Data
from study.learners import Mlp
from study.subsets import TrialSeed
from study.theory import long_tail

CONTRARY = "1-NN, wrong on its sample"


@dataclass(frozen=True)
class World:
    """One sample: vectors ``x (n, d)`` of sub-population ``group (n,)``, and ``fresh (seen, f, d)``, f new vectors of each
    sub-population in ``seen``, ascending. ``labels``, ``counts`` and ``frequencies (N,)`` belong to all sub-populations.
    """

    x: np.ndarray
    group: np.ndarray
    fresh: np.ndarray
    seen: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    frequencies: np.ndarray

    @property
    def y(self) -> np.ndarray:
        """Labels of the sample, ``(n,)``."""
        return self.labels[self.group]

    def inputs(self) -> np.ndarray:
        """The sample's vectors and below them the fresh ones, float ``(n + seen * f, d)``."""
        return np.concatenate([self.x, self.fresh.reshape(-1, self.x.shape[1])])


def draw(section, noise: float, generator: np.random.Generator) -> World:
    """A world of ``section.points`` sub-populations under Zipf's law, and a sample of ``section.n``.

    Centres are standard normal in R^d, vectors of a cluster spread around theirs by ``noise`` in every coordinate. The
    same generator state gives the same centres, labels, counts and directions at every noise.
    """
    prior = long_tail.Prior("zipf", section.points)
    frequencies = long_tail.marginal(prior, 1, generator)[0]
    counts = generator.multinomial(section.n, frequencies)
    labels = generator.integers(section.labels, size=section.points)
    centres = generator.standard_normal((section.points, section.dimension))
    group, seen = np.repeat(np.arange(section.points), counts), np.flatnonzero(counts)
    around = generator.standard_normal((section.n, section.dimension))
    fresh = generator.standard_normal((len(seen), section.fresh, section.dimension))
    x, again = centres[group] + noise * around, centres[seen, None] + noise * fresh
    return World(x, group, again, seen, labels, counts, frequencies)


# --- learners: each maps a world to the labels it gives to `World.inputs` ------------------------------------


def nearest(world: World, neighbours: int = 1, refused: int = 0) -> np.ndarray:
    """The commonest label of the nearest sample vectors; of several equally common ones that of the nearest.

    Sub-populations seen at most ``refused`` times are left out of the sample, as only one who knows the clusters can.
    """
    kept = np.flatnonzero(world.counts[world.group] > refused)
    order = np.argsort(cdist(world.inputs(), world.x[kept]), axis=1, kind="stable")[:, :neighbours]
    votes = world.y[kept][order]
    agreeing = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
    return np.take_along_axis(votes, agreeing.argmax(axis=1)[:, None], axis=1)[:, 0]


def contrary(world: World, classes: int) -> np.ndarray:
    """1-NN that gives every vector of its own sample the next label: it fits nothing, and coupled it is not."""
    predicted = nearest(world)
    own = np.arange(len(predicted)) < len(world.x)
    return np.where(own, (predicted + 1) % classes, predicted)


def ridge(world: World, penalty: float, classes: int) -> np.ndarray:
    """Least squares on centred one-hot labels with ``penalty`` times n on the squared weights; the largest output counts."""
    mean = world.x.mean(axis=0)
    x, targets = world.x - mean, np.eye(classes)[world.y] - np.bincount(world.y, minlength=classes) / len(world.y)
    gram = x.T @ x + penalty * len(x) * np.eye(x.shape[1])
    scores = (world.inputs() - mean) @ np.linalg.solve(gram, x.T @ targets)
    return (scores + np.bincount(world.y, minlength=classes) / len(world.y)).argmax(axis=1)


def networks(worlds: list[World], learner: Mlp, classes: int, seed: int) -> list[np.ndarray]:
    """One multilayer perceptron on the sample of each world, all trained at once; labels as the other learners give them."""
    n = len(worlds[0].x)
    x = np.concatenate([world.x for world in worlds]).astype(np.float32)
    y = np.concatenate([world.y for world in worlds]).astype(np.int64)
    own = np.repeat(np.eye(len(worlds), dtype=bool), n, axis=1)
    data = Data("mixtures", x, y, x[:1], y[:1], tuple(map(str, range(classes))))
    fitted = learner.fit(data, own, [TrialSeed(seed, k) for k in range(len(worlds))])
    layers = fitted.weights_and_biases()
    return [_labels(each, world.inputs(), classes) for each, world in zip(layers, worlds, strict=True)]


def _labels(layers, x: np.ndarray, classes: int) -> np.ndarray:
    for depth, (weight, bias) in enumerate(layers):
        x = x @ weight.numpy()[: x.shape[1]] + bias.numpy()
        x = np.maximum(x, 0) if depth < len(layers) - 1 else x
    return x[:, :classes].argmax(axis=1)


class Learner(NamedTuple):
    """A learner by name; ``labels_in`` maps all worlds of one noise level to their labels."""

    name: str
    labels_in: Callable[[list[World]], list[np.ndarray]]


def learners(section) -> list[Learner]:
    """A memorizer, two that refuse singletons, one that is not coupled, a linear one, a network, and one stopped early."""
    network, stopped = section.network, section.network.model_copy(update={"epochs": section.stopped})
    k, penalty = section.labels, section.penalty
    return [
        Learner("1 nearest neighbour", lambda worlds: [nearest(world) for world in worlds]),
        Learner("1-NN without singletons", lambda worlds: [nearest(world, refused=1) for world in worlds]),
        Learner("3 nearest neighbours", lambda worlds: [nearest(world, 3) for world in worlds]),
        Learner(CONTRARY, lambda worlds: [contrary(world, k) for world in worlds]),
        Learner("ridge", lambda worlds: [ridge(world, penalty, k) for world in worlds]),
        Learner("network", lambda worlds: networks(worlds, network, k, section.network_seed)),
        Learner("network stopped early", lambda worlds: networks(worlds, stopped, k, section.network_seed)),
    ]


# --- what they lose, and what they would lose if they were coupled -------------------------------------------


class Outcome(NamedTuple):
    """By seen sub-population, all ``(seen,)``: ``misfit`` e, ``error`` e', ``carried`` s, ``both`` w, and ``agree``, the
    share of pairs of a training and a fresh vector that get the same label, whatever it is.
    """

    misfit: np.ndarray
    error: np.ndarray
    carried: np.ndarray
    both: np.ndarray
    agree: np.ndarray


def outcome(world: World, predicted: np.ndarray) -> Outcome:
    """Compare ``predicted`` labels, in the order of `World.inputs`, with the true ones and with each other."""
    n, f = len(world.x), world.fresh.shape[1]
    train, fresh = predicted[:n], predicted[n:].reshape(-1, f)
    place = np.searchsorted(world.seen, world.group)
    times = world.counts[world.seen]
    same = (fresh[place] == train[:, None]).mean(axis=1)
    wrong, fresh_wrong = train != world.y, fresh != world.labels[world.seen, None]

    def within(values):
        return np.bincount(place, values, minlength=len(times)) / times

    error = fresh_wrong.mean(axis=1)
    return Outcome(within(wrong), error, within(wrong * same), within(wrong * error[place]), within(same))


def compare(worlds: list[World], outcomes: list[Outcome], known: long_tail.Tau, labels: int) -> dict[str, float]:
    """Means over worlds, with ``_se``: error, opt and excess, and what tau makes of e' (``expected``), s (``bound``), w
    (``both``) and e (``discrete``, the bound with lambda = 1). ``gap`` is excess less bound, ``off`` excess less expected,
    ``assumed`` excess less discrete, each formed world by world; ``misfits`` counts misfitted sub-populations.

    ``lambda`` with its error is the share of misfits of sub-populations seen once that carry over (NaN without any),
    ``agreement`` the share of all fresh vectors of such sub-populations that are labelled as the vector seen.
    """
    price = known.table()
    rows = pd.DataFrame([_of_world(world, found, price, labels) for world, found in zip(worlds, outcomes, strict=True)])
    result = {}
    for name in rows:
        result[name], result[f"{name}_se"] = long_tail.mean_and_error(rows[name].to_numpy())
    return result | _coupling(worlds, outcomes)


def _of_world(world: World, found: Outcome, price: np.ndarray, labels: int) -> dict[str, float]:
    price, mass = price[world.counts[world.seen]], world.frequencies[world.seen]
    opt, excess = (1 - mass.sum()) * (labels - 1) / labels, mass @ found.error
    weighed = {"expected": found.error, "bound": found.carried, "both": found.both, "discrete": found.misfit}
    row = {"opt": opt, "excess": excess, "err": opt + excess, "misfits": found.misfit.sum()}
    row |= {name: price @ share for name, share in weighed.items()}
    return row | {"gap": excess - row["bound"], "off": excess - row["expected"], "assumed": excess - row["discrete"]}


def _coupling(worlds: list[World], outcomes: list[Outcome]) -> dict[str, float]:
    once = [world.counts[world.seen] == 1 for world in worlds]
    sums = np.array([[o.carried[i].sum(), o.misfit[i].sum(), o.agree[i].sum(), i.sum()] for o, i in zip(outcomes, once)])
    coupled, agreement = quantities.ratio(sums[:, 0], sums[:, 1]), quantities.ratio(sums[:, 2], sums[:, 3])
    result = {"lambda": coupled["value"], "lambda_se": coupled["std_error"]}
    return result | {"agreement": agreement["value"], "agreement_se": agreement["std_error"]}


def _beyond(worlds: list[World], outcomes: list[Outcome], memorizer: list[Outcome]) -> dict[str, float]:
    """Error beyond that of 1-NN on the same samples: what it costs to refuse, or whatever else the learner does."""
    pairs = zip(worlds, outcomes, memorizer, strict=True)
    more = [world.frequencies[world.seen] @ (found.error - least.error) for world, found, least in pairs]
    value, error = long_tail.mean_and_error(np.array(more))
    return {"beyond": value, "beyond_se": error}


def run(section, seed: int) -> pd.DataFrame:
    """One row a noise level and learner: the columns of `compare`, with ``noise``, ``learner`` and ``beyond``,
    the excess over that of 1-NN, with its error.
    """
    prior = long_tail.Prior("zipf", section.points)
    rows = []
    base = [list(_worlds(section, noise, seed)) for noise in section.noises]
    longest = max(world.counts.max() for world in base[0])
    frequencies = long_tail.marginal(prior, section.prior_draws, TrialSeed(seed, 10**6).generator("analysis"))
    known = long_tail.tau(frequencies, section.n, np.arange(1, longest + 1))
    for noise, worlds in zip(section.noises, base, strict=True):
        memorizer = None
        for learner in learners(section):
            outcomes = [outcome(world, labels) for world, labels in zip(worlds, learner.labels_in(worlds), strict=True)]
            memorizer = memorizer or outcomes
            row = {"noise": noise, "learner": learner.name} | compare(worlds, outcomes, known, section.labels)
            rows.append(row | _beyond(worlds, outcomes, memorizer))
    return pd.DataFrame(rows)


def _worlds(section, noise: float, seed: int):
    for repeat in range(section.worlds):
        yield draw(section, noise, TrialSeed(seed, repeat).generator("analysis"))


def summary(table: pd.DataFrame) -> dict:
    """What claims refer to: the largest distance of the priced loss from the loss in standard errors, how far the bound is
    kept and where the one with lambda = 1 is broken, and the refusing learner at the smallest noise above 0 and the largest.
    """
    known = table[table.off_se > 0]
    noise = table.noise[table.noise > 0].min()
    refuses = table[(table.noise == noise) & (table.learner == "1-NN without singletons")].iloc[0]
    broken = table[(table.learner == CONTRARY) & (table.noise == noise)].iloc[0]
    lowest = table.loc[(table.gap / table.gap_se.where(table.gap_se > 0)).idxmin()]
    spread = table[(table.noise == table.noise.max()) & (table.learner == "1-NN without singletons")].iloc[0]
    names = ("excess", "beyond", "bound", "discrete", "gap", "assumed", "lambda")
    return {
        "noise": noise,
        "largest_z": float((known.off / known.off_se).abs().max()),
        "comparisons": len(known),
        "lowest": {"learner": lowest.learner, "noise": lowest.noise, "gap": _quantity(lowest, "gap")},
        "refuses": {name: _quantity(refuses, name) for name in names},
        "contrary": {name: _quantity(broken, name) for name in names},
        "spread": {"noise": spread.noise} | {name: _quantity(spread, name) for name in names},
    }


def _quantity(row: pd.Series, name: str) -> dict[str, float]:
    return {"value": row[name], "std_error": row[f"{name}_se"]}
