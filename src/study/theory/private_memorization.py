"""Stage `privacy`: what privately trained networks memorize, beside what privacy allows them to.

Examples of the tail are in or out of each network's training set by a coin of their own; all others are always in. So the
two sides of an example's memorization differ by that example and nothing else, which is what differential privacy speaks
about. Subsets of a fixed size would not do: there, another example comes in where one goes out.

The tail of the digits are those that ordinary networks memorize most; that of the long-tailed mixture are the examples whose
sub-population occurs once. Tests of the tail are those that a memorized digit helps (the pairs of the study), and those
of sub-populations that occur once. Standard errors of averages are over networks, since examples share them.

CONTROLS: the same training without noise, and without noise and clipping; randomised response, which must meet the bound; an
example built to be remembered, on which the learner itself must come close to what the accountant allows.

About 55 seconds of one core for 1,220 networks on a busy machine; means over the tail have standard errors of 0.02 at most,
single examples of 0.1 and more (November 2026).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import ndtr
from scipy.stats import binom

from study import data as datasets
from study import estimators, quantities, tables
from study.data import Data
from study.subsets import TrialSeed, trial_seeds
from study.theory import accountant, privacy
from study.theory.accountant import Mechanism
from study.theory.private_training import Networks, PrivateMlp, inputs

RESPONSES = np.array([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0])


class Parts(NamedTuple):
    """A data set with the training examples of its tail (indices), and its tests of head and tail (bool ``(n_test,)``)."""

    data: Data
    tail: np.ndarray
    head_tests: np.ndarray
    tail_tests: np.ndarray


class Condition(NamedTuple):
    """A way to train: ``plain``, ``clipped``, or ``private`` at ``epsilon`` with ``noise`` times the clipping length."""

    training: str
    epsilon: float = np.inf
    noise: float = 0.0


def run(section) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name; ``section`` is ``privacy`` of ``params.yaml``."""
    conditions = [Condition("plain"), Condition("clipped"), *private_conditions(section)]
    parts = {name: split(name, section) for name in section.models}
    measured = [measure(parts[name], condition, section) for name in parts for condition in conditions]
    training, examples = (pd.concat(frames, ignore_index=True) for frames in zip(*measured))
    results = {
        "training": training,
        "examples": examples,
        "copies": duplicates(parts[section.copies_of], section),
        "response": responses(section),
        "worst_case": worst_cases(conditions[2:], section.network.rate * parts[section.copies_of].data.n, section),
    }
    return results | {"summary": summarise(results, section)}


def private_conditions(section) -> list[Condition]:
    """One condition for each epsilon, with the least noise that the accountant asks for."""
    network = section.network
    noises = [accountant.noise_for(epsilon, section.delta, network.rate, network.steps) for epsilon in section.epsilons]
    return [Condition("private", *pair) for pair in zip(section.epsilons, noises)]


def split(name: str, section) -> Parts:
    """The head and the tail of ``digits`` or ``longtail``. Raises ``ValueError`` for a data set without a known tail."""
    data = datasets.load(name)
    if name == "digits":
        return _memorized_digits(data, section)
    if data.groups_train is None:
        raise ValueError(f"data set {name!r} has no known tail; valid: digits, longtail")
    seen = np.bincount(data.groups_train, minlength=1 + max(data.groups_train.max(), data.groups_test.max()))
    tail = np.flatnonzero(seen[data.groups_train] == 1)
    return Parts(data, tail, seen[data.groups_test] >= section.head_count, seen[data.groups_test] == 1)


def _memorized_digits(data: Data, section) -> Parts:
    memorization, pairs = (tables.load("digits-mlp", name) for name in ("memorization", "pairs"))
    tail = np.sort(memorization.nlargest(section.tail, "mem")["index"].to_numpy())
    chosen = pairs[(pairs.mem >= section.mem_threshold) & (pairs.infl >= section.infl_threshold)]
    helped = np.isin(np.arange(data.n_test), chosen.test)
    return Parts(data, tail, ~helped, helped)


def with_coins(data: Data, tail: np.ndarray, seeds: list[TrialSeed], choices=(1,)) -> np.ndarray:
    """How often each example is present, int ``(k, n)``: the head once, the tail by coins never or one of ``choices``."""
    copies = np.ones((len(seeds), data.n), dtype=np.int64)
    for row, seed in zip(copies, seeds):
        draw = seed.generator("subset")
        row[tail] = draw.integers(2, size=len(tail)) * draw.choice(choices, size=len(tail))
    return copies


def learner_of(name: str, condition: Condition, section) -> PrivateMlp:
    """The network of the stage; without clipping it needs a learning rate of its own for each data set."""
    if condition.training != "plain":
        return section.network
    return section.network.model_copy(update={"learning_rate": section.plain_learning_rates[name]})


def measure(parts: Parts, condition: Condition, section) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train the networks of one condition; one row about it, and one for each example of the tail.

    The same seeds, and so the same sets, initial weights and draws, serve every condition.
    """
    data, tail = parts.data, parts.tail
    seeds = trial_seeds(section.seed, range(section.models[data.name]))
    copies = with_coins(data, tail, seeds)
    learner = learner_of(data.name, condition, section)
    train, test = learner.fit_predict(data, copies, seeds, condition.noise, condition.training != "plain")
    right, tested = train == data.y_train, test == data.y_test
    examples = per_example(copies[:, tail] > 0, right[:, tail])
    about = {"data": data.name, **condition._asdict(), "models": len(seeds), "tail_size": len(tail)}
    row = (
        about
        | allowed(condition, section)
        | _averages(parts, copies, right, tested)
        | selected(copies[:, tail] > 0, right[:, tail])
    )
    examples.insert(0, "index", tail)
    return pd.DataFrame([row]), pd.DataFrame(about, index=examples.index).join(examples)


def allowed(condition: Condition, section) -> dict[str, float]:
    """What bounds memorization: the exact and the usual bound at (epsilon, delta), and total variation; 1 without noise."""
    if not condition.noise:
        return {"bound": 1.0, "usual": np.inf, "total_variation": 1.0}
    network = section.network
    profile = accountant.profile(Mechanism(network.rate, condition.noise, network.steps))
    return {
        "bound": float(privacy.memorization_bound(condition.epsilon, section.delta)),
        "usual": float(privacy.usual_bound(condition.epsilon, section.delta)),
        "total_variation": profile.total_variation,
    }


def per_example(present: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Memorization of each example from bool ``present (k, t)`` and ``right (k, t)``, with its standard error and counts."""
    n_in, n_out = present.sum(0), (~present).sum(0)
    right_in, right_out = (present & right).sum(0), (~present & right).sum(0)
    with np.errstate(invalid="ignore"):  # never present, or never absent: not identified, NaN
        mem = right_in / n_in - right_out / n_out
    error = np.where(np.isnan(mem), np.nan, estimators.standard_error(right_in, n_in, right_out, n_out))
    return pd.DataFrame({"mem": mem, "std_error": error, "n_in": n_in, "n_out": n_out})


def averaged(present: np.ndarray, absent: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Mean over examples of accuracy where ``present`` less accuracy where ``absent``, all bool ``(k, t)``.

    Examples without a network on one side are left out. The standard error is over the k independent networks: each one's
    part in the linearised mean. NaN if no example is left.
    """
    known = present.any(0) & absent.any(0)
    if not known.any():
        return dict(quantities.UNKNOWN)
    present, absent, right = present[:, known], absent[:, known], right[:, known]
    parts, means = np.zeros(len(right)), []
    for side, sign in ((present, 1), (absent, -1)):
        mean = (side & right).sum(0) / side.sum(0)
        parts += sign * (side * (right - mean) / side.sum(0)).mean(1)
        means.append(mean)
    count = len(parts)
    error = np.sqrt((parts**2).sum() * count / (count - 1)) if count > 1 else np.nan
    return {"value": float((means[0] - means[1]).mean()), "std_error": float(error)}


def selected(present: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The most memorized example by one half of the networks, measured by the other half; and both ways round, the mean.

    The largest of many estimates is large by luck; networks that had no part in the choice do not know of that luck.
    """
    half = len(present) // 2
    first, second = (per_example(present[rows], right[rows]) for rows in (slice(half), slice(half, None)))
    values = [(b.mem[a.mem.idxmax()], b.std_error[a.mem.idxmax()]) for a, b in ((first, second), (second, first))]
    value, error = np.mean([value for value, _ in values]), np.hypot(*[error for _, error in values]) / 2
    return {"largest": float(per_example(present, right).mem.max()), "selected": float(value), "selected_se": float(error)}


def lower_limit(mem, n_in, n_out, comparisons: int, doubt: float) -> np.ndarray:
    """Limits that all of ``comparisons`` true values exceed at once, except with probability ``doubt``.

    Hoeffding's inequality for a difference of two means of independent values in [0, 1], and Bonferroni's for many.
    """
    return mem - np.sqrt(np.log(comparisons / doubt) * (1 / n_in + 1 / n_out) / 2)


def _averages(parts: Parts, copies: np.ndarray, right: np.ndarray, tested: np.ndarray) -> dict[str, float]:
    """Means with standard errors over networks: memorization of the tail, accuracy of head and tail, trained and tested."""
    present = copies[:, parts.tail] > 0
    head = np.setdiff1d(np.arange(parts.data.n), parts.tail)
    means = {
        "mem": averaged(present, ~present, right[:, parts.tail]),
        "head_train": quantities.mean(right[:, head].mean(1)),
        "head_test": quantities.mean(tested[:, parts.head_tests].mean(1)),
        "tail_test": quantities.mean(tested[:, parts.tail_tests].mean(1)),
    }
    for name, side in (("tail_in", present), ("tail_out", ~present)):
        means[name] = quantities.mean((side & right[:, parts.tail]).sum(1) / side.sum(1))
    return _flat(means)


def _flat(means: dict[str, dict]) -> dict[str, float]:
    values = {name: mean["value"] for name, mean in means.items()}
    return values | {f"{name}_se": mean["std_error"] for name, mean in means.items()}


def duplicates(parts: Parts, section) -> pd.DataFrame:
    """Examples present c times: memorization beside group privacy and beside the accountant's own answer for c copies.

    In each network each example of the tail is by a coin absent or present one of ``section.copies`` times. One row a c.
    """
    network, data = section.network, parts.data
    seeds = trial_seeds(section.seed + 1, range(section.copies_models))
    noise = accountant.noise_for(section.copies_epsilon, section.delta, network.rate, network.steps)
    copies = with_coins(data, parts.tail, seeds, section.copies)
    trained = {"clipped": 0.0, "private": noise}
    rows = []
    for training, level in trained.items():
        labels, _ = network.fit_predict(data, copies, seeds, level)
        right, held = (labels == data.y_train)[:, parts.tail], copies[:, parts.tail]
        for c in section.copies:
            mem = averaged(held == c, held == 0, right)
            row = {"data": data.name, "training": training, "copies": c, "noise": level, "models": len(seeds)}
            rows.append(row | _flat({"mem": mem}) | allowed_copies(level, c, section))
    return pd.DataFrame(rows)


def allowed_copies(noise: float, copies: int, section) -> dict[str, float]:
    """Bounds for an example present ``copies`` times: by group privacy, and by accounting for copies; 1 without noise."""
    if not noise:
        return {"group_bound": 1.0, "group_epsilon": np.inf, "group_delta": 1.0, "total_variation": 1.0, "epsilon": np.inf}
    epsilon, delta = privacy.group_privacy(section.copies_epsilon, section.delta, copies)
    network = section.network
    profile = accountant.profile(Mechanism(network.rate, noise, network.steps, copies))
    return {
        "group_bound": float(privacy.memorization_bound(epsilon, delta)),
        "group_epsilon": epsilon,
        "group_delta": delta,
        "total_variation": profile.total_variation,
        "epsilon": profile.epsilon(section.delta),
    }


def responses(section) -> pd.DataFrame:
    """Randomised response measured beside the bound it must meet, without and with a large delta, one row an epsilon."""
    rows = []
    for place, delta in enumerate((0.0, section.response_delta)):
        rng = TrialSeed(section.seed, place).generator("analysis")
        for epsilon in RESPONSES:
            mem, error = privacy.randomised_response(epsilon, section.response_runs, rng, delta)
            bounds = privacy.memorization_bound(epsilon, delta), privacy.usual_bound(epsilon, delta)
            rows.append((epsilon, delta, mem, error, *map(float, bounds)))
    return pd.DataFrame(rows, columns=["epsilon", "delta", "mem", "mem_se", "bound", "usual"])


def attack(mechanism: Mechanism) -> tuple[float, float]:
    """Threshold and memorization of the best event of the form "the noisy sum along a gradient exceeds a threshold".

    The example's gradient points the same way, at full length, in every step; then the sum is Binomial(c T, rate) with it
    and 0 without, plus normal noise of variance T noise^2, in units of the clipping length. A floor for what the accountant
    may allow.
    """
    trials, spread = mechanism.steps * mechanism.copies, mechanism.noise * np.sqrt(mechanism.steps)
    counts = np.arange(trials + 1)
    weights = binom.pmf(counts, trials, mechanism.rate)

    def missed(threshold: float) -> float:
        return -float(weights @ ndtr((counts - threshold) / spread) - ndtr(-threshold / spread))

    best = minimize_scalar(missed, bounds=(0, trials * mechanism.rate), method="bounded")
    return float(best.x), -float(best.fun)


def worst_cases(conditions: list[Condition], batch: float, section) -> pd.DataFrame:
    """`attack` carried out by the learner itself on a data set of one example, beside theory; one row an epsilon.

    ``careless`` is a fault put in on purpose, which must break the bound: noise is added to the mean over a ``batch`` and
    not to the sum.
    """
    rows = []
    for condition in conditions:
        mechanism = Mechanism(section.network.rate, condition.noise, section.network.steps)
        threshold, theory = attack(mechanism)
        row = condition._asdict() | allowed(condition, section) | {"theory": theory}
        for name, noise in (("mem", condition.noise), ("careless", condition.noise / batch)):
            row |= _flat({name: remembered(mechanism, threshold, noise, section)})
        rows.append(row)
    return pd.DataFrame(rows)


def remembered(mechanism: Mechanism, threshold: float, noise: float, section) -> dict[str, float]:
    """Memorization of the only example of a data set by linear networks that start out biased against its label.

    The bias is set so that the label is predicted when the noisy sum exceeds ``threshold``; the learning rate is so
    small that the gradient stays longer than the clipping length throughout.
    """
    clip, runs = 0.5, section.worst_runs
    against = 0.01  # logits; margins stay so small that gradients are nearly twice as long as the clipping length
    rate = against * mechanism.rate / (2 * clip * threshold)
    learner = section.network.model_copy(update={"widths": (), "clip": clip, "learning_rate": rate})
    seeds = trial_seeds(section.seed + 2, range(2 * runs))
    networks = Networks([[np.array([[0, 0], [against, 0]], dtype=np.float32)]] * len(seeds))
    present = np.arange(len(seeds)) < runs
    x, y = inputs(np.ones((1, 1), dtype=np.float32)), np.array([1])
    learner.train(networks, x, y, present[:, None].astype(np.int64), seeds, noise, True)
    right = networks.predict(x)[:, 0] == 1
    counts = right[present].sum(), right[~present].sum()
    error = estimators.standard_error(counts[0], runs, counts[1], runs)
    return {"value": float((counts[0] - counts[1]) / runs), "std_error": float(error)}


def summarise(results: dict[str, pd.DataFrame], section) -> dict:
    """What claims and prose refer to; lists run over epsilon from the largest to the smallest, then over copies."""
    response, training, worst = (results[name] for name in ("response", "training", "worst_case"))
    private = training[training.training == "private"]
    return {
        "delta": section.delta,
        "epsilons": list(section.epsilons),
        "response": {
            "measured": _listed(response, "mem"),
            "bound": response.bound.tolist(),
            "largest_z": float(((response.mem - response.bound) / response.mem_se).abs().max()),
        },
        "worst_case": {
            "measured": _listed(worst, "mem"),
            "careless": _listed(worst, "careless"),
            "theory": worst.theory.tolist(),
            "bound": worst.bound.tolist(),
            "total_variation": worst.total_variation.tolist(),
        },
        **{name: _of_data(training[training.data == name]) for name in section.models},
        "check": check(results["examples"], private, section.doubt),
        "copies": _of_copies(results["copies"]),
    }


def _of_data(rows: pd.DataFrame) -> dict:
    private = rows[rows.training == "private"]
    found = {name: _listed(private, name) for name in ("mem", "selected", "head_test", "tail_test", "tail_in", "tail_out")}
    found |= {"bound": private.bound.tolist(), "total_variation": private.total_variation.tolist()}
    names = ("mem", "head_train", "head_test", "tail_test", "tail_in", "tail_out")
    control = {row.training: {name: _measured(row, name) for name in names} for _, row in rows.iterrows() if not row.noise}
    return found | control | {"models": int(rows.models.iloc[0]), "tail": int(rows.tail_size.iloc[0])}


def _of_copies(rows: pd.DataFrame) -> dict:
    private = rows[rows.training == "private"]
    bounds = {name: private[name].tolist() for name in ("group_bound", "total_variation", "epsilon")}
    clipped = _listed(rows[rows.training == "clipped"], "mem")
    return {"copies": private.copies.tolist(), "mem": _listed(private, "mem"), "clipped": clipped} | bounds


def _listed(frame: pd.DataFrame, name: str) -> list[dict]:
    return [_measured(row, name) for _, row in frame.iterrows()]


def _measured(row, name: str) -> dict[str, float]:
    return {"value": float(row[name]), "std_error": float(row[f"{name}_se"])}


def check(examples: pd.DataFrame, private: pd.DataFrame, doubt: float) -> dict:
    """All examples of all private conditions against total variation, with the doubt shared among them.

    ``naive`` counts estimates above what is allowed, which chance alone produces; ``refuted`` counts lower limits above it.
    """
    keys = ["data", "epsilon"]
    rows = examples[examples.training == "private"].merge(private[[*keys, "bound", "total_variation"]], on=keys)
    rows = rows[rows.mem.notna()]
    limit = lower_limit(rows.mem, rows.n_in, rows.n_out, len(rows), doubt)
    return {
        "comparisons": len(rows),
        "doubt": doubt,
        "naive": int((rows.mem > rows.bound).sum()),
        "naive_total_variation": int((rows.mem > rows.total_variation).sum()),
        "refuted": int((limit > rows.bound).sum()),
        "refuted_total_variation": int((limit > rows.total_variation).sum()),
        "closest": float((limit - rows.total_variation).max()),
    }
