"""Scores that are kin to memorization: closed forms, planted truths, and controls that stay at zero."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from study import data, estimation, params, tables, trials
from study.case_studies import relatives
from study.learners import NearestNeighbour
from study.params import Relatives
from study.subsets import TrialSeed

RULE = params.load().estimate
FEW = {
    "trials": 60,
    "shuffled_trials": 40,
    "networks": 2,
    "directions": 2,
    "bootstrap": 200,
    "lengths": (1, 4),
    "ratios": (0.3, 0.7),
}


@pytest.fixture(scope="module")
def section() -> Relatives:
    return params.load().relatives["digits-mlp"].model_copy(update=FEW)


@pytest.fixture(scope="module")
def setting():
    return params.load().setting("digits-mlp").model_copy(update={"trials": 200})


@pytest.fixture(scope="module")
def stage(section, setting, tmp_path_factory):
    """Summary, scores and profile of the digits, with few models; the memorization is estimated from other models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("relatives"))
        trials.train("toy", setting, workers=0)
        estimates, _ = estimation.of_setting("toy", setting)
        tables.save("toy", "memorization", estimates.memorization.assign(label=data.load("digits").y_train))
        tables.save("toy", "summary", {"out_accuracy": {"value": 0.9655, "std_error": 0.0003}})
        summary = relatives.run("toy", section, setting, RULE)
        return summary, tables.load("toy", "relatives"), tables.load("toy", "consistency_profile")


def test_memorization_is_accuracy_in_less_consistency_of_fresh_models(stage):
    identity = stage[0]["identity"]
    assert abs(identity["difference"]["value"]) < 0.005
    assert identity["within"] > 0.95
    assert abs(identity["elsewhere"]["value"]) > 0.01


def test_every_proxy_agrees_with_memorization_and_shuffled_ones_do_not(stage):
    agreement = stage[0]["agreement"]
    for proxy, found in agreement.items():
        assert abs(found["shuffled"]["value"]) < 4 * found["shuffled"]["std_error"], proxy
        if proxy not in ("density_blind", "density_untrained"):
            assert found["spearman"]["value"] > 5 * found["spearman"]["std_error"], proxy
            assert found["auroc"] > 0.75, proxy
    assert agreement["c_score"]["with_c_score"]["value"] == pytest.approx(1)
    assert agreement["density_blind"]["auroc"] < agreement["density"]["auroc"]


def test_with_shuffled_labels_held_out_examples_are_guessed(stage):
    """On average only: an example whose neighbours were dealt its own label is predicted by them all the same."""
    found = stage[0]["labels_shuffled"]
    assert [each["value"] for each in found["profile"]] == pytest.approx([0.1, 0.1], abs=0.01)
    assert 0.1 < found["with_c_score"]["speed"]["value"] < 0.7


def test_consistency_rises_with_the_size_of_the_subset_and_falls_with_memorization(stage):
    summary, _, profile = stage
    small, large = (each["value"] for each in summary["profile"])
    assert large > small + 0.02
    at = profile[profile.ratio == 0.7].set_index("group").held_out
    assert at.loc[-1.0] > 0.95 and at.loc[0.75] < 0.25
    assert profile.groupby("ratio").examples.sum().eq(1000).all()


def test_a_profile_counts_only_models_that_did_not_see_the_example(section, setting, monkeypatch):
    planted = {"right": None}

    def predict(learner, data, members, seeds, client, title):
        planted["right"] = members  # a model is right about what it saw and wrong about the rest
        return np.where(members, data.y_train, -2), None

    monkeypatch.setattr(relatives.trials, "predict", predict)
    found = relatives.profile(section, setting, data.load("digits"), None)
    assert np.nanmax(found.held_out) == 0 and found.by_trial.max() == 0
    expected = (~planted["right"]).reshape(2, 60, 1000).sum(1).T
    assert np.array_equal(found.counts, expected)


def test_inconsistent_examples_are_counted_by_all_models_and_by_each_half():
    c_scores = np.array([[0.2, 0.4], [0.4, 0.9], [0.6, 0.1], [np.nan, 0.1]])
    found = relatives.Profile(c_scores, c_scores, c_scores, np.stack([c_scores, 1 - c_scores]))
    assert relatives.inconsistent(found) == {"count": {"value": 3, "std_error": 1.0}, "halves": [3, 1]}


def test_the_halves_are_made_of_different_models(section, setting, monkeypatch):
    def predict(learner, data, members, seeds, client, title):
        early = np.arange(len(members)) % 60 < 30  # of each ratio the first half of the models is right about everything
        return np.where(early[:, None], data.y_train, -2), None

    monkeypatch.setattr(relatives.trials, "predict", predict)
    found = relatives.profile(section, setting, data.load("digits"), None)
    assert (found.halves[0] == 1).all() and (found.halves[1] == 0).all()
    assert 0.2 < found.held_out.mean() < 0.8


def test_curvature_is_the_trace_of_the_squared_hessian(section):
    torch.manual_seed(0)
    sizes = [(16, 12), (12, 3)]
    layers = [(torch.randn(sizes[0]) / 2, torch.randn(12)), (torch.randn(sizes[1]) / 2, torch.randn(3))]
    x, y = torch.randn(4, 16), torch.tensor([0, 1, 2, 0])

    def loss(row, label):
        values = torch.relu(row @ layers[0][0] + layers[0][1]) @ layers[1][0] + layers[1][1]
        return torch.nn.functional.cross_entropy(values[None], label[None])

    exact = [torch.autograd.functional.hessian(lambda row, k=k: loss(row, y[k]), x[k]).square().sum() for k in range(4)]
    many = section.model_copy(update={"directions": 3000, "step": 1e-3})
    found = relatives.curvatures(layers, x, y, many, np.random.default_rng(0))
    assert found == pytest.approx(np.array(exact), rel=0.15, abs=1e-3)


def test_both_perceptrons_hand_out_the_layers_that_they_compute_with(setting, digits):
    large = params.load().setting("mnist-mlp").learner.model_copy(update={"widths": (24, 8), "precision": "float32"})
    for learner in (setting.learner, large):
        networks = learner.fit(digits, np.ones((2, digits.n), dtype=bool), [TrialSeed(0, 0), TrialSeed(0, 1)])
        x = learner.inputs(digits)[1].float()
        for k, layers in enumerate(relatives.layers_of(networks, 10)):
            values = torch.nn.functional.pad(x, (0, layers[0][0].shape[0] - x.shape[1]))
            for weight, bias in layers[:-1]:
                values = torch.relu(values @ weight + bias)
            labels = (values @ layers[-1][0] + layers[-1][1]).argmax(1)
            assert (labels == networks.predict(learner.inputs(digits)[1])[k]).float().mean() > 0.999


def test_density_is_high_among_classmates_and_low_among_strangers():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 0.1, (50, 4)), rng.normal(5, 0.1, (50, 4))]).astype(np.float32)
    y = np.repeat([0, 1], 50)
    y[0] = 1  # a stranger among class 0
    found, blind = relatives.density(x, y)
    assert found.argmin() == 0 and found[0] < 0 and (np.delete(found, 0) > 0).all()
    assert (blind > 0).all() and np.corrcoef(found[1:], blind[1:])[0, 1] > 0.9


def test_scores_do_not_depend_on_the_size_of_blocks(digits, monkeypatch):
    x = digits.x_train.reshape(digits.n, -1)
    whole = relatives.density(x, digits.y_train)
    distance = cdist(x, x) + np.diag(np.full(digits.n, np.inf))
    weight = np.exp(-((distance / distance.min(1).mean()) ** 2) / 2)
    sign = np.where(digits.y_train[:, None] == digits.y_train, 1, -1)
    assert np.allclose(whole, [(weight * sign).mean(1), weight.mean(1)], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(relatives, "ROWS", 300)
    assert np.allclose(relatives.density(x, digits.y_train), whole)


def test_without_the_settings_own_ratio_there_is_no_identity_to_test(section, setting):
    other = section.model_copy(update={"ratios": (0.2, 0.4)})
    assert relatives.identity(other, setting, "toy", pd.DataFrame(), None) is None


def test_a_learner_without_layers_is_refused(section, setting):
    other = setting.model_copy(update={"learner": NearestNeighbour(models_at_once=3)})
    with pytest.raises(ValueError, match=r"'toy' has learner 'nearest_neighbour'; a multilayer perceptron is needed"):
        relatives.run("toy", section, other, RULE)
