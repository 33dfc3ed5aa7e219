"""Stage `relatives`: scores that are kin to memorization, and how much of it cheaper ones already tell.

* *Consistency* (Jiang et al. 2021, arXiv 2002.03206): the accuracy on an example of models trained without it, on
  subsets of a share s of the data. Memorization at ratio s is the accuracy with the example less that score; fresh models
  put the identity to the test. Over a range of s the scores make the *consistency profile*, their mean is the *C-score*.
* *Learning speed*: how soon models trained on everything get the example right, that is the share of (model, training
  length) that does. Jiang et al. use the epochs of one run; here each length is a training of its own with its own
  schedule, so that even the shortest is a finished model.
* *Input-loss curvature* (Garg et al. 2024): how fast the gradient of the loss at the example turns as the input moves,
  tr(H^2) of the Hessian H with respect to the input, over the same models.
* *Density*: same-class less other-class neighbours, in pixels, which needs no model at all, and in the last hidden layer of
  one network; without labels; and, as a control, in the hidden layer of an untrained network.

None of the proxies sees a subset: their models are trained on all examples. Controls: scores in random order, and the
whole once more with shuffled labels.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from distributed import Client
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from study import data as datasets
from study import subsets, tables, trials
from study.case_studies.parts import Parts
from study.data import Data, unit_floats
from study.learners import LargeMlp, Mlp
from study.localization.last_layer import untrained
from study.params import Estimate, Relatives, Setting
from study.quantities import correlation, difference, mean
from study.subsets import TrialSeed

DENSITIES = ("density", "density_hidden", "density_untrained", "density_blind")
PROXIES = ("c_score", "speed", "curvature", *DENSITIES)
ROWS = 2000  # examples whose gradients or distances are computed at once
ROUNDING = 1e-9
WIDTH_FROM = 2000  # examples, the first ones, whose nearest neighbours set the width of a kernel


def run(name: str, section: Relatives, setting: Setting, rule: Estimate, client: Client | None = None) -> dict:
    """Train what is needed, save `relatives`, `consistency_profile` and `relatives_summary` of the setting, return the last.

    Raises ``ValueError`` unless the learner is a multilayer perceptron.
    """
    if not isinstance(setting.learner, Mlp | LargeMlp):
        raise ValueError(f"setting {name!r} has learner {setting.learner.name!r}; a multilayer perceptron is needed")
    data, memorization = datasets.load(setting.data), tables.load(name, "memorization")
    parts = Parts("relatives", section.model_dump_json(), setting.fingerprint(data), Path(__file__).read_text())
    found = Profile(**parts.keep("profile", PROFILE, lambda: vars(profile(section, setting, data, client))))
    table = memorization[["index", "label", "mem", "std_error", "in_accuracy", "out_accuracy"]].copy()
    table["c_score"] = found.c_scores()
    table = table.assign(**parts.keep("whole", ("speed", "curvature"), lambda: whole(section, setting, data)))
    table = table.assign(**parts.keep("densities", DENSITIES, lambda: densities(section, setting, data)))
    summary = {"setting": name, "ratios": list(section.ratios), "trials": section.trials, "networks": section.networks}
    summary |= {"lengths": list(section.lengths), "identity": identity(section, setting, name, memorization, found)}
    summary |= {"profile": [mean(each) for each in found.by_trial], "agreement": agreement(section, table, rule)}
    summary["inconsistent"] = inconsistent(found)
    summary["labels_shuffled"] = shuffled(section, setting, data, parts, client)
    tables.save(name, "relatives", table)
    tables.save(name, "consistency_profile", by_memorization(section, table, found.held_out))
    tables.save(name, "relatives_summary", summary)
    parts.forget()
    return summary


@dataclass(frozen=True)
class Profile:
    """Accuracy on held-out examples, for subsets of every ratio.

    ``held_out (n, r)`` is that of each example over the models trained without it, NaN where there was none;
    ``counts (n, r)`` is their number; ``by_trial (r, t)`` is that of each model over the examples it was not trained on.
    ``halves (2, n, r)`` is ``held_out`` from the first half of the models alone, and from the second.
    """

    held_out: np.ndarray
    counts: np.ndarray
    by_trial: np.ndarray
    halves: np.ndarray

    def c_scores(self) -> np.ndarray:
        """The mean over the ratios, float ``(n,)``; NaN where one of them is."""
        return self.held_out.mean(1)


PROFILE = tuple(Profile.__dataclass_fields__)


def profile(section: Relatives, setting: Setting, data: Data, client: Client | None = None) -> Profile:
    """Train ``section.trials`` fresh models for every ratio and score what they were not trained on."""
    drawn = [range(k * section.trials, (k + 1) * section.trials) for k in range(len(section.ratios))]
    masks = [subsets.members(section.seed, numbers, data.n, ratio) for numbers, ratio in zip(drawn, section.ratios)]
    seeds = subsets.trial_seeds(section.seed, itertools.chain(*drawn))
    labels, _ = trials.predict(setting.learner, data, np.concatenate(masks), seeds, client, title="relatives")
    out, right = ~np.stack(masks), (labels == data.y_train).reshape(len(masks), section.trials, data.n)
    right &= out
    halves = [
        _shares(right[:, half], out[:, half]) for half in (slice(section.trials // 2), slice(section.trials // 2, None))
    ]
    return Profile(_shares(right, out), out.sum(1).T, right.sum(2) / out.sum(2), np.stack(halves))


def _shares(right: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Of the trials that left an example out the share that got it right, ``(r, t, n)`` to ``(n, r)``; NaN if none did."""
    with np.errstate(invalid="ignore"):
        return right.sum(1).T / out.sum(1).T


def inconsistent(found: Profile) -> dict:
    """How many examples have a C-score below one half: by all models, and by each half of them, which tells the error.

    A score is the mean over the sizes of which it is known, for half of the models may lack one that left an example out.
    """
    halves = [int((np.nanmean(scores, axis=1) < 0.5).sum()) for scores in found.halves]
    count, error = int((np.nanmean(found.held_out, axis=1) < 0.5).sum()), mean(np.array(halves))["std_error"]
    return {"count": {"value": count, "std_error": error}, "halves": halves}


def shuffled(section: Relatives, setting: Setting, data: Data, parts: Parts, client: Client | None = None) -> dict:
    """The control: profile, speed and density with all labels shuffled, where consistency must be that of a guess.

    On average, that is: an example whose neighbours were dealt its own label is predicted by them, so that speed and density
    may agree with the C-score even here.
    """
    rng = TrialSeed(section.seed, 2).generator("analysis")
    chance = data.relabelled(rng.permutation(data.y_train), f"{data.name}, labels shuffled")
    few = section.model_copy(update={"trials": section.shuffled_trials})
    found = Profile(**parts.keep("shuffled profile", PROFILE, lambda: vars(profile(few, setting, chance, client))))
    scores = parts.keep("shuffled scores", ("speed", "density"), lambda: _scores_of_chance(section, setting, chance))
    known = np.isfinite(found.c_scores())
    ranks = rankdata(found.c_scores()[known])
    agrees = {key: correlation(rankdata(score[known]), ranks, section.bootstrap, rng) for key, score in scores.items()}
    return {"profile": [mean(each) for each in found.by_trial], "with_c_score": agrees}


def _scores_of_chance(section: Relatives, setting: Setting, chance: Data) -> dict[str, np.ndarray]:
    return {"speed": speed(section, setting, chance), "density": density(_pixels(chance), chance.y_train)[0]}


def identity(section: Relatives, setting: Setting, name: str, memorization: pd.DataFrame, found: Profile) -> dict | None:
    """Memorization against accuracy in less the consistency of fresh models at the setting's ratio; ``None`` without it.

    ``difference``: held-out accuracy of the fresh models less that of the setting's, which is the mean of mem - (in - C);
    ``within``: share of the examples for which the two differ by at most two standard errors. These come from the accuracy
    over both sets of models, since a few models that all are right would have an error of zero by themselves;
    ``elsewhere``: the same difference with the fresh models of the next ratio, which must not vanish.
    """
    if setting.ratio not in section.ratios:
        return None
    column, m = section.ratios.index(setting.ratio), memorization
    fresh, k = found.held_out[:, column], found.counts[:, column]
    gap = m.mem - (m.in_accuracy - fresh)
    both = (fresh * k + m.out_accuracy * m.n_out) / (k + m.n_out)
    with np.errstate(divide="ignore", invalid="ignore"):  # no model left the example out: no gap either
        error = np.sqrt((both * (1 - both)).clip(0) * (1 / k + 1 / m.n_out))
    here, there = mean(found.by_trial[column]), tables.load(name, "summary")["out_accuracy"]
    other = mean(found.by_trial[column - 1 if column else column + 1]) if len(section.ratios) > 1 else None
    return {
        "difference": difference(here, there),
        "elsewhere": other and difference(other, there),
        "within": float((gap.abs() <= 2 * error + ROUNDING)[np.isfinite(gap)].mean()),
    }


def whole(section: Relatives, setting: Setting, data: Data) -> dict[str, np.ndarray]:
    """Learning ``speed`` and ``curvature`` of every training example, float ``(n,)`` each, over the same models."""
    right, curvature = np.zeros(data.n), np.zeros(data.n)
    draw = TrialSeed(section.seed, 0).generator("analysis")
    for learner, networks in _trained_on_everything(section, setting, data):
        x = learner.inputs(data)[0]
        right += _share_right(networks, x, data)
        for layers in layers_of(networks, len(data.classes)):
            curvature += curvatures(layers, x.float(), torch.from_numpy(data.y_train), section, draw) / section.networks
    return {"speed": right / len(section.lengths), "curvature": curvature / len(section.lengths)}


def speed(section: Relatives, setting: Setting, data: Data) -> np.ndarray:
    """Learning speed alone, float ``(n,)``; curvatures take most of the time of `whole`."""
    trained = _trained_on_everything(section, setting, data)
    return np.mean([_share_right(networks, learner.inputs(data)[0], data) for learner, networks in trained], axis=0)


def _share_right(networks, x: torch.Tensor, data: Data) -> np.ndarray:
    return (networks.predict(x).numpy() == data.y_train).mean(0)


def _trained_on_everything(section: Relatives, setting: Setting, data: Data) -> Iterator:
    everyone = np.ones((section.networks, data.n), dtype=bool)
    for number, epochs in enumerate(section.lengths):
        learner = setting.learner.model_copy(update={"epochs": epochs})
        first = len(section.ratios) * section.trials + number * section.networks  # after the subsets' streams
        seeds = subsets.trial_seeds(section.seed, range(first, first + section.networks))
        with trials.one_thread():
            yield learner, learner.fit(data, everyone, seeds)


def layers_of(networks, classes: int) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Float32 weights ``(in, out)`` and biases ``(out,)`` of each layer of each network, without the padding of the last."""
    found = networks.weights_and_biases()
    return [[*layers[:-1], (layers[-1][0][:, :classes], layers[-1][1][:classes])] for layers in found]


def curvatures(layers, x: torch.Tensor, y: torch.Tensor, section: Relatives, draw: np.random.Generator) -> np.ndarray:
    """tr(H^2) of the loss at each row of ``x (n, d)``, float ``(n,)``, from random directions of +-1 and a finite step.

    E |Hv|^2 = tr(H^2) for directions v with independent entries of variance one, and Hv is the change of the gradient
    along a step of length ``section.step`` in every input, divided by it.
    """
    found = np.zeros(len(x))
    for rows in torch.arange(len(x)).split(ROWS):
        here, labels = x[rows], y[rows]
        start = _gradient(layers, here, labels)
        for _ in range(section.directions):
            v = torch.from_numpy(draw.choice(np.array([-1, 1], np.float32), size=here.shape))
            turned = (_gradient(layers, here + section.step * v, labels) - start) / section.step
            found[rows] += turned.square().sum(1).numpy() / section.directions
    return found


def _gradient(layers, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_(True)
    values = torch.nn.functional.pad(x, (0, layers[0][0].shape[0] - x.shape[1]))
    for depth, (weight, bias) in enumerate(layers):
        values = torch.addmm(bias, values, weight)
        values = values.relu() if depth < len(layers) - 1 else values
    return torch.autograd.grad(cross_entropy(values, y, reduction="sum"), x)[0]


def densities(section: Relatives, setting: Setting, data: Data) -> dict[str, np.ndarray]:
    """The `DENSITIES`, float ``(n,)`` each."""
    found, everyone = dict.fromkeys(DENSITIES), np.ones((1, data.n), dtype=bool)
    found["density"], found["density_blind"] = density(_pixels(data), data.y_train)
    for name, learner in (("density_hidden", setting.learner), ("density_untrained", untrained(setting.learner))):
        with trials.one_thread():
            network = learner.fit(data, everyone, [TrialSeed(section.seed, 0)])
            hidden = network.features(learner.inputs(data)[0])[0].numpy()
        found[name], _ = density(hidden, data.y_train)
    return found


def _pixels(data: Data) -> np.ndarray:
    return unit_floats(np.asarray(data.x_train)).reshape(data.n, -1)


def density(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel density of ``x (n, d)`` at its own rows, each without itself, float ``(n,)`` (Jiang et al., section 5).

    First with labels ``y (n,)``: neighbours of another class count negatively; then without them. The kernel is Gaussian;
    its width is the mean distance to the nearest neighbour, over the first `WIDTH_FROM` rows.
    """
    points, parts = torch.from_numpy(x - x.mean(0)).float(), []
    classes = torch.nn.functional.one_hot(torch.from_numpy(y).long()).float()
    with trials.one_thread():
        near = [_squares(points, rows).amin(1).sqrt() for rows in torch.arange(len(x))[:WIDTH_FROM].split(ROWS)]
        width = torch.cat(near).mean()
        for rows in torch.arange(len(x)).split(ROWS):
            by_class = _squares(points, rows).div_(-2 * width**2).exp_() @ classes
            every = by_class.sum(1)
            parts.append(torch.stack([2 * (by_class * classes[rows]).sum(1) - every, every]) / len(x))
    return tuple(torch.cat(parts, 1).double().numpy())


def _squares(points: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances from some rows to all, infinite to themselves."""
    lengths = points.square().sum(1)
    found = torch.addmm(lengths, points[rows], points.T, alpha=-2).add_(lengths[rows, None]).clamp_(min=0)
    found[torch.arange(len(rows)), rows] = torch.inf
    return found


def agreement(section: Relatives, table: pd.DataFrame, rule: Estimate) -> dict:
    """For each proxy: rank correlation with memorization and with the C-score, the first also with shuffled scores, and the
    area under the ROC curve with which it finds the memorized examples. Signs are turned: agreement is positive.
    """
    known = table.dropna(subset=["mem", *PROXIES])
    rng, memorized = TrialSeed(section.seed, 1).generator("analysis"), known.mem >= rule.mem_threshold
    found = {}
    for proxy in PROXIES:
        score = known[proxy] if proxy == "curvature" else -known[proxy]
        ranks, of_mem, consistency = rankdata(score), rankdata(known.mem), rankdata(-known.c_score)
        found[proxy] = {
            "spearman": correlation(ranks, of_mem, section.bootstrap, rng),
            "with_c_score": correlation(ranks, consistency, section.bootstrap, rng),
            "shuffled": correlation(rng.permutation(ranks), of_mem, section.bootstrap, rng),
            "auroc": float(roc_auc_score(memorized, score)) if memorized.nunique() == 2 else None,
        }
    return found


def by_memorization(section: Relatives, table: pd.DataFrame, held_out: np.ndarray) -> pd.DataFrame:
    """The consistency profile of examples grouped by memorization: mean and standard error over the examples of a group.

    One row a group and ratio: group (lower end), examples, ratio, held_out, std_error.
    """
    edges = np.array(section.groups)
    group = np.searchsorted(edges, table.mem.fillna(-1), side="right") - 1
    rows = []
    for place, low in enumerate(edges):
        for column, ratio in enumerate(section.ratios):
            values = held_out[group == place, column]
            found = mean(values[np.isfinite(values)])
            row = {"group": low, "examples": int((group == place).sum()), "ratio": ratio}
            rows.append(row | {"held_out": found["value"], "std_error": found["std_error"]})
    return pd.DataFrame(rows)
