"""The path of ImageNet in small: a folder of pictures, ResNet-50, trials, predictions, estimates."""

from pathlib import Path

import numpy as np
import pictures
import pytest

from study import audit, data, estimation, params, predictions, subsets, tables, trials
from study.image_folder import Stored
from study.learners import NearestNeighbour, nearest_neighbour
from study.params import Setting

STUDY = Path(__file__).parents[1] / "params.yaml"
TRAIN, VAL, SWAPPED = 8, 3, 1


@pytest.fixture(scope="module")
def study() -> params.Params:
    return params.load(STUDY)


@pytest.fixture
def imagenet(folder, monkeypatch) -> Path:
    """Three classes, told apart by colour, but a training picture of each has the colour of the next."""
    monkeypatch.setenv("STUDY_DATA", str(folder / "shared"))
    return pictures.write(folder / "shared", TRAIN, VAL, SWAPPED)


def in_small(setting: Setting, **changes) -> Setting:
    """The study's setting at 32 pixels, with minibatches for two dozen pictures."""
    small = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "crop": 1, "precision": "float32", "device": "cpu"}
    learner = setting.learner.model_copy(update=small)
    return setting.model_copy(update={"data": "imagenet-32", "learner": learner, "trials": 6} | changes)


def test_resnet_50_goes_from_a_folder_of_pictures_to_estimates(study, imagenet):
    """In so few steps it learns little: what is tested is that all of it runs, and that a row is what its trial gives."""
    setting = in_small(study.setting("imagenet-resnet50"))
    file = predictions.load(trials.train("small", setting, workers=0))
    assert file.train_correct.shape == (6, 3 * TRAIN) and file.test_correct.shape == (6, 3 * VAL)
    assert not file.diverged.values.any()
    summary = estimation.run("small", setting, study.estimate)
    members = subsets.members(setting.seed, range(6), 3 * TRAIN, setting.ratio)
    frame = tables.load("small", "memorization")
    assert summary["trials"] == 6 and frame.n_in.tolist() == members.sum(0).tolist()
    assert frame.mem.isna().tolist() == (members.all(0) | ~members.any(0)).tolist()
    assert audit.audit("small", setting, [4]).agreement.tolist() == [100]


def test_memorization_of_pictures_is_what_counting_subsets_says(study, imagenet):
    """Each class has a picture in another's colour: its nearest neighbours are of that class, and it is memorized."""
    learner = NearestNeighbour(models_at_once=100)
    setting = in_small(study.setting("imagenet-resnet50"), learner=learner, trials=400)
    trials.train("small", setting, workers=0)
    estimates, _ = estimation.of_setting("small", setting)
    frame, wrong = estimates.memorization, np.arange(3 * TRAIN) % TRAIN < SWAPPED
    exact = nearest_neighbour.memorization(data.load("imagenet-32"), subsets.subset_size(3 * TRAIN, setting.ratio))
    assert (np.abs(frame.mem - exact) < 4 * frame.std_error).all()
    assert exact[wrong].min() > 0.9 > 0.5 > exact[~wrong].mean()


def test_mapped_pictures_reach_workers_and_give_the_same_predictions_there(study, imagenet):
    learner = NearestNeighbour(models_at_once=4)
    setting = in_small(study.setting("imagenet-resnet50"), learner=learner, trials=12)
    assert isinstance(data.load(setting.data).x_train, Stored)
    there, here = (predictions.load(trials.train(f"{k}-workers", setting, workers=k)) for k in (1, 0))
    for split in ("train_correct", "test_correct"):
        assert np.array_equal(there[split], here[split])
    assert 0.5 < here.test_correct.values.mean() < 1


def test_another_resolution_is_another_setting(study, imagenet):
    setting = in_small(study.setting("imagenet-resnet50"))
    larger = setting.model_copy(update={"data": "imagenet-64"})
    assert setting.fingerprint(data.load("imagenet-32")) != larger.fingerprint(data.load("imagenet-64"))


def test_the_setting_of_the_study_is_that_of_the_talk_and_starts_by_hand_only(study):
    setting = study.setting("imagenet-resnet50")
    assert (setting.data, setting.learner.architecture.name) == ("imagenet-224", "resnet50")
    assert (setting.trials, setting.ratio) == (2000, 0.7)
    pipeline = (STUDY.parent / "dvc.yaml").read_text()
    assert "digits-mlp" in pipeline and "stage train imagenet" not in pipeline
    matrix = [line for line in pipeline.splitlines() if line.strip().startswith("setting: [")]
    assert matrix and not any("imagenet" in line for line in matrix)
