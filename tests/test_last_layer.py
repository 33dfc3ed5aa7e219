"""Frozen features have seen what they are said to have seen; heads memorize what they have not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from study import claims, data, params, tables, trials
from study.learners import FrozenFeatures
from study.localization import last_layer
from study.subsets import TrialSeed

HEADS, RUNS = 60, 2


@pytest.fixture(scope="module")
def study():
    """The study's parameters with a few dozen trials."""
    whole = params.load()
    few = {name: setting.model_copy(update={"trials": HEADS}) for name, setting in whole.settings.items()}
    section = whole.localization.model_copy(update={"networks": 3, "representations": RUNS, "heads": HEADS, "bootstrap": 50})
    return whole.model_copy(update={"settings": few, "localization": section})


@pytest.fixture(scope="module")
def ledger():
    return claims.load()


@pytest.fixture(scope="module")
def stage(study, tmp_path_factory):
    """The stage run in a folder of its own, on predictions made there; returns summary, runs and examples."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("localization"))
        for name in (study.localization.full, study.localization.linear):
            trials.train(name, study.setting(name), workers=0)
        last_layer.run(study)
        return tuple(tables.load("localization", name) for name in ("summary", "runs", "examples"))


@pytest.fixture(scope="module")
def learner(study) -> FrozenFeatures:
    return study.setting(study.localization.linear).learner


def test_heads_memorize_what_the_body_has_not_seen_and_not_what_it_has(stage):
    summary, runs, _ = stage
    half = runs[runs.kind == "half"].pivot(index="run", columns="part", values="mean_memorization")
    assert (half.unseen > 2 * half.seen).all()
    assert summary["half"]["difference"]["mean_memorization"]["value"] > 0.01
    assert summary["linear"]["memorized"] < summary["full"]["memorized"] / 2


def test_every_kind_of_body_has_its_parts_and_they_cover_the_examples(stage):
    _, runs, _ = stage
    sizes = runs.groupby(["kind", "part"]).examples.unique().map(list).to_dict()
    assert sizes == {
        ("all", "seen"): [1000],
        ("full", "unseen"): [1000],
        ("half", "seen"): [500],
        ("half", "unseen"): [500],
        ("untrained", "unseen"): [1000],
    }
    assert runs.groupby("kind").run.nunique().to_dict() == {"all": RUNS, "full": 1, "half": RUNS, "untrained": RUNS}


def test_mean_memorization_of_a_part_is_its_accuracy_in_less_out(stage):
    _, runs, _ = stage
    assert runs.mean_memorization.to_numpy() == pytest.approx(runs.in_accuracy - runs.out_accuracy, abs=1e-3)


def test_seen_and_unseen_average_only_over_bodies_that_had_or_had_not_seen_the_example(stage, study, learner):
    _, _, examples = stage
    digits = data.load("digits")
    comparison = last_layer.Comparison(digits, None, None, learner)
    seen = np.stack([
        mask for run in range(RUNS) for kind, mask, _ in last_layer.representations(study.localization, comparison, run)
        if kind == "half"
    ])  # fmt: skip
    assert (examples.seen.isna() == (seen.sum(0) == 0)).all()
    assert (examples.unseen.isna() == (seen.sum(0) == RUNS)).all()


def test_every_pointer_of_the_ledger_has_a_number(stage, ledger):
    summary, _, _ = stage
    wanted = [pointer for claim in ledger.claims for pointer in claim.pointers() if "tables/localization/" in pointer]
    assert wanted
    for pointer in wanted:
        node = claims.resolve(summary, pointer.split("#")[1])
        assert np.isfinite(node["value"] if isinstance(node, dict) else node)


def test_a_body_trained_on_everything_is_that_of_the_learner(learner):
    digits = data.load("digits")
    seed = TrialSeed(learner.representation_seed, 0)
    ours = last_layer.represent(learner.representation, digits, np.ones(digits.n, bool), seed)
    theirs = learner.features(digits)
    assert (ours.x_train == theirs.x_train).all()
    assert (ours.x_test == theirs.x_test).all()


def test_an_unseen_example_cannot_change_the_features_of_others(learner):
    digits, seen = data.load("digits"), np.arange(1000) % 2 == 0
    body = learner.representation.model_copy(update={"epochs": 1})

    def features(changed: int) -> np.ndarray:
        pictures = digits.x_train.copy()
        pictures[changed] = 1 - pictures[changed]
        altered = replace(digits, x_train=pictures)
        return np.delete(last_layer.represent(body, altered, seen, TrialSeed(1, 0)).x_train, [4, 5], axis=0)

    same = np.delete(last_layer.represent(body, digits, seen, TrialSeed(1, 0)).x_train, [4, 5], axis=0)
    assert (features(5) == same).all()
    assert (features(4) != same).any()


def test_untrained_features_are_those_of_the_initial_weights(learner):
    digits, seed = data.load("digits"), TrialSeed(3, 0)
    body = last_layer.untrained(learner.representation)
    found = last_layer.represent(body, digits, np.ones(digits.n, bool), seed).x_train
    draw, x = seed.generator("initialisation"), digits.x_train.reshape(1000, -1)
    for width in learner.representation.widths:
        scale = np.float32(np.sqrt(2 / x.shape[1]))
        x = np.maximum(x @ (draw.standard_normal((x.shape[1], width), dtype=np.float32) * scale), 0)
    assert found == pytest.approx(x, abs=1e-4)


def test_settings_that_do_not_share_subsets_are_refused(study):
    other = study.settings[study.localization.linear].model_copy(update={"seed": 1})
    wrong = study.model_copy(update={"settings": study.settings | {study.localization.linear: other}})
    with pytest.raises(ValueError, match="differ in seed: 0 and 1"):
        last_layer.compared(wrong)


def test_a_setting_without_frozen_features_is_refused(study):
    section = study.localization.model_copy(update={"linear": study.localization.full})
    with pytest.raises(ValueError, match="has learner 'mlp'; frozen_features is needed"):
        last_layer.compared(study.model_copy(update={"localization": section}))
