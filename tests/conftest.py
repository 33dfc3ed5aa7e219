"""What several test modules share: one thread, a folder of one's own, digits, and a network that trains in no time."""

import pytest
import torch

from study import data
from study.learners import Mlp
from study.params import Setting

SMALL = {
    "widths": (8,),
    "epochs": 1,
    "batch_size": 50,
    "learning_rate": 0.2,
    "momentum": 0.5,
    "warm_up": 0.2,
    "weight_decay": 0.001,
    "models_at_once": 3,
}


def pytest_collection_modifyitems(items):
    """The run of the whole pipeline, which takes longest, comes first: spread over cores, none waits for it."""
    items.sort(key=lambda item: item.path.stem != "test_pipeline")


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch):
    """Nothing of the user's shell reaches a test."""
    torch.set_num_threads(1)
    for variable in ("STUDY_SCHEDULER", "STUDY_WORKERS", "STUDY_PATIENCE", "STUDY_PROGRESS"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def digits() -> data.Data:
    return data.load("digits")


@pytest.fixture(scope="session")
def small():
    """``small(epochs=2)``: an `Mlp` of eight hidden units that takes 14 steps on a subset of the digits."""
    return lambda **changes: Mlp(**SMALL | changes)


@pytest.fixture(scope="session")
def small_setting(small):
    """``small_setting(trials=4, learner={"epochs": 2})``: a setting of the network `small` on digits."""

    def make(learner=None, **changes) -> Setting:
        learner = learner if isinstance(learner, Mlp) else small(**learner or {})
        fields = {"data": "digits", "learner": learner, "ratio": 0.7, "seed": 0, "trials": 10, "revision": 1}
        return Setting.model_validate(fields | changes)

    return make
