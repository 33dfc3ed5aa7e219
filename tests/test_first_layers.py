"""Frozen layers are those of one network trained on everything; what is above them is trained on subsets."""

import numpy as np
import pytest
import torch

from study import data, params, tables
from study.learners import NearestNeighbour
from study.localization import first_layers
from study.params import FrozenLayers
from study.subsets import TrialSeed

RULE = params.load().estimate
SECTION = FrozenLayers(representations=2, heads=60, seed=3)


@pytest.fixture(scope="module")
def setting():
    """The digits of the study, with layers of two widths."""
    whole = params.load().setting("digits-mlp")
    return whole.model_copy(update={"learner": whole.learner.model_copy(update={"widths": (64, 32)})})


@pytest.fixture(scope="module")
def stage(setting, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("frozen"))
        summary = first_layers.run("toy", SECTION, setting, RULE)
        return summary, tables.load("toy", "frozen_layers"), tables.load("toy", "frozen_layers_moves")


def test_features_of_each_layer_feed_the_next(setting, digits):
    body, seed = setting.learner, TrialSeed(3, 999)
    first, second = first_layers.representations(body, digits, seed)
    networks = body.fit(digits, np.ones((1, digits.n), dtype=bool), [seed])
    assert first.x_train.shape == (1000, 64) and second.x_test.shape == (797, 32)
    layer = networks.layers[1]
    padded = torch.nn.functional.pad(torch.from_numpy(first.x_test), (0, layer.weight.shape[1] - 64))
    expected = torch.relu(padded @ layer.weight[0] + layer.bias[0])[:, :32]
    assert np.allclose(second.x_test, expected.numpy(), atol=1e-5)
    assert np.allclose(second.x_train, networks.features(body.inputs(digits)[0])[0].numpy())


def test_the_large_learner_has_the_same_layers(digits):
    large = params.load().setting("mnist-mlp-deep").learner.model_copy(update={"widths": (24, 8), "precision": "float32"})
    first, second = first_layers.representations(large, digits, TrialSeed(0, 1))
    network = large.fit(digits, np.ones((1, digits.n), dtype=bool), [TrialSeed(0, 1)])
    whole = network.features(large.inputs(digits)[1])[0].numpy()
    assert first.x_test.shape[1] == 24 and np.array_equal(second.x_test, whole)


def test_every_depth_of_every_representation_is_there(stage):
    _, runs, moves = stage
    counts = runs.groupby(["kind", "frozen"]).size().to_dict()
    trained = {(kind, frozen): 2 for kind in ("all", "untrained") for frozen in (1, 2)}
    assert counts == {("full", 0): 1, ("again", 0): 1} | trained
    assert len(moves) == len(runs) - 1 and moves.started.nunique() == 1


def test_freezing_all_hidden_layers_of_a_network_that_saw_everything_leaves_little_to_memorize(stage):
    summary, _, moves = stage
    kept = moves.groupby(["kind", "frozen"])[["kept", "started"]].sum().eval("kept / started")
    assert kept[("again", 0)] > 0.6, "chance alone keeps most"
    assert kept[("all", 2)] < kept[("again", 0)] / 2
    gaps = [each["value"] for each in summary["gap"]["all"]]
    assert gaps[2] < gaps[0] / 2


def test_untrained_layers_have_memorized_nothing(stage):
    """Above one random layer there is still a layer that can fit, so what is memorized stays."""
    _, runs, _ = stage
    means = runs.groupby(["kind", "frozen"]).mean(numeric_only=True).mean_memorization
    assert means[("untrained", 1)] > 1.5 * means[("all", 1)]


def test_a_learner_without_layers_is_refused(setting):
    other = setting.model_copy(update={"learner": NearestNeighbour(models_at_once=3)})
    with pytest.raises(ValueError, match=r"'toy' has learner 'nearest_neighbour'; a multilayer perceptron is needed"):
        first_layers.run("toy", SECTION, other, RULE)


def test_runs_share_their_subsets_and_the_repetition_has_others(setting, digits, monkeypatch):
    seen = []
    monkeypatch.setattr(
        first_layers, "_estimates", lambda learner, data, members, seeds, client: seen.append((members, seeds))
    )
    list(first_layers.train(SECTION, setting, data.load("digits"), None))
    assert len(seen) == 2 + 2 * 2 * 2
    for members, seeds in seen[2:]:
        assert np.array_equal(members, seen[0][0]) and seeds == seen[0][1]
    assert not np.array_equal(seen[0][0], seen[1][0]) and not set(map(repr, seen[0][1])) & set(map(repr, seen[1][1]))
