"""Data and networks of one's own: read as they are, trained as declared, refused with the remedy; the stage shows it."""

import importlib
import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from study import data, estimation, params, predictions, subsets, tables, trials
from study.case_studies import own_data
from study.data import DataError
from study.learners import OwnNetwork
from study.learners.mlp import schedule
from study.params import OwnData, Setting

STUDY = Path(__file__).parents[1] / "params.yaml"
CLASSES, EACH, TESTS = 3, 10, 4


def arrays(pictures: bool = False) -> dict[str, np.ndarray]:
    """Three classes of noise around a bright row of their own: 8 × 8 pixels, as bytes if ``pictures``."""
    draw = np.random.default_rng(0)
    y_train, y_test = (np.repeat(np.arange(CLASSES), number) for number in (EACH, TESTS))
    x = 0.3 * draw.random((len(y_train) + len(y_test), 8, 8))
    x[np.arange(len(x)), np.concatenate([y_train, y_test]) * 2] += 0.6
    x = (255 * x).astype(np.uint8) if pictures else x.astype(np.float32)
    return {"x_train": x[: len(y_train)], "y_train": y_train, "x_test": x[len(y_train) :], "y_test": y_test}


def save(folder, **changes):
    """Load ``own.npz`` with some arrays replaced, or left out (``None``)."""
    kept = {name: array for name, array in (arrays() | changes).items() if array is not None}
    np.savez(folder / "own.npz", **kept)
    return data.load("own.npz", folder)


# a file of arrays


@pytest.mark.parametrize("pictures", [True, False])
def test_arrays_are_read_as_they_were_saved(tmp_path, pictures):
    saved = arrays(pictures)
    read = save(tmp_path, **saved)
    for name, array in saved.items():
        assert np.array_equal(getattr(read, name), array)
    assert read.x_train.dtype == saved["x_train"].dtype and read.classes == ("0", "1", "2") and read.name == "own.npz"


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.uint64])
def test_labels_may_be_whole_numbers_of_any_width(tmp_path, kind):
    read = save(tmp_path, y_train=arrays()["y_train"].astype(kind), y_test=arrays()["y_test"].astype(kind))
    assert read.y_train.dtype == np.int64 and read.order_hash == save(tmp_path).order_hash


def test_a_file_is_sought_under_study_data_or_by_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    save(tmp_path / "mine")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    assert data.load("mine/own.npz").order_hash == data.load(str(tmp_path / "mine/own.npz")).order_hash


def test_another_value_is_other_data(tmp_path):
    raised = arrays()["x_test"]
    raised[0, 0, 0] += 0.5
    assert save(tmp_path).order_hash != save(tmp_path, x_test=raised).order_hash


Y, X = arrays()["y_train"], arrays()["x_train"]
LONELY = np.r_[np.arange(2 * EACH), 2 * EACH]
WITH_NAN, INFINITE = X.copy(), X.copy()
WITH_NAN[[5, 7], 1, 2], INFINITE[3, 0, 0] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "y_test": None}, "lacks x_test, y_test; it has x_train, y_train. Save numeric arrays with"),
        ({"x_train": X.astype(float)}, r"x_train of .*own.npz is float64; .* \.astype\(numpy.float32\)"),
        ({"x_test": arrays()["x_test"] > 0.5}, "x_test of .* is bool; save pictures"),
        ({"x_train": X.astype(object)}, "cannot be read as plain arrays .*[Oo]bject.* Save numeric arrays"),
        ({"x_train": X[:, 0, 0]}, r"x_train of .* has shape \(30,\); one row an example"),
        ({"x_train": X[:0], "y_train": Y[:0]}, r"x_train of .* has shape \(0, 8, 8\); one row an example"),
        ({"x_train": np.zeros((30, 3, 8, 8), np.uint8)}, r"\(30, 3, 8, 8\), .* channels .*transpose\(0, 2, 3, 1\)"),
        ({"x_train": WITH_NAN}, r"x_train of .* NaN or infinite values in 2 example\(s\), the first is 5; leave"),
        ({"x_train": INFINITE}, r"x_train of .* in 1 example\(s\), the first is 3"),
        ({"x_test": arrays()["x_test"][:, :7]}, r"x_train is float32 \(8, 8\), of x_test float32 \(7, 8\); save both alike"),
        ({"x_test": arrays(True)["x_test"]}, r"x_train is float32 \(8, 8\), of x_test uint8 \(8, 8\)"),
        ({"y_train": Y[:-1]}, r"y_train of .* has shape \(29,\), but its inputs are 30 examples"),
        ({"y_train": np.eye(3, dtype=int)[Y]}, r"y_train of .* has shape \(30, 3\), but its inputs are 30 examples"),
        ({"y_train": Y.astype(float)}, "y_train of .* is float64; whole numbers are needed.* numpy.unique"),
        ({"y_train": np.array(list("abc"))[Y]}, "y_train of .* is <U1; whole numbers are needed.* numpy.unique"),
        ({"y_train": Y - 1}, "y_train of .* has the label -1; classes are numbered 0, 1, 2, .* numpy.unique"),
        ({"y_train": Y + 1}, "labels go up to 3, but 0 does not occur; classes are numbered"),
        ({"y_train": Y * 4}, "labels go up to 8, but 1, 2, 3, 5, 6 ... does not occur"),
        ({"y_train": Y + 40_000}, "has the label 40002; the largest possible is 32767"),
        ({"y_test": arrays()["y_test"] + 1}, "y_test of .* label 3 does not occur in y_train; leave .* or add"),
        ({"y_test": arrays()["y_test"] - 1}, "y_test of .* label -1 does not occur in y_train"),
        ({"x_train": X[LONELY], "y_train": Y[LONELY]}, r"too few training examples of 1 class\(es\): 2 has 1; at least 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_was_found_and_the_remedy(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        save(tmp_path, **changes)


def test_a_file_that_is_not_there_or_no_archive_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.npz does not exist; put the file there, or set STUDY_DATA"):
        data.load("nowhere.npz", tmp_path)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 and no more")
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    for name in ("torn.npz", "single.npz"):
        with pytest.raises(DataError, match=f"{name} cannot be read as plain arrays"):
            data.load(name, tmp_path)


# a folder of pictures


def folder_of_pictures(root, counts: dict[str, int], splits=("train", "val")):
    draw = np.random.default_rng(1)
    for split in splits:
        for name, number in counts.items():
            (root / "birds" / split / name).mkdir(parents=True)
            for k in range(number):
                pixels = draw.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "birds" / split / name / f"{k}.png")


def test_any_folder_of_pictures_is_a_data_set_at_any_resolution(tmp_path):
    folder_of_pictures(tmp_path, {"crow": 3, "wren": 2})
    read = data.load("birds@5", tmp_path)
    assert read.x_train.shape == (5, 5, 5, 3) and read.classes == ("crow", "wren") and read.name == "birds@5"
    assert read.y_train.tolist() == [0, 0, 0, 1, 1]
    assert data.load("birds@6", tmp_path).order_hash != read.order_hash


def test_a_folder_with_too_few_pictures_of_a_class_is_refused(tmp_path):
    folder_of_pictures(tmp_path, {"crow": 3, "wren": 1})
    with pytest.raises(DataError, match=r"'birds@5' has too few training examples of 1 class\(es\): wren has 1"):
        data.load("birds@5", tmp_path)


def test_a_folder_that_is_not_there_or_lacks_its_tests_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"owls/train cannot be read .*/owls/val/<class>/<picture>.* STUDY_DATA"):
        data.load("owls@5", tmp_path)
    folder_of_pictures(tmp_path, {"crow": 3}, splits=("train",))
    with pytest.raises(DataError, match=r"birds/val cannot be read"):
        data.load("birds@5", tmp_path)


@pytest.mark.parametrize("name", ["birds", "birds@", "@32", "birds@0", "birds@-3", "birds@x", "own.npy", "mnits"])
def test_a_name_of_no_form_is_refused_with_the_forms(name):
    message = f"unknown data set {name!r}; valid data sets: digits, .*; or your own, <file>.npz or <folder>@<pixels>"
    with pytest.raises(ValueError, match=message):
        data.maker(name)


def test_the_data_sets_of_the_study_keep_their_names(digits):
    assert [data.maker(name) for name in data.DATASETS] == list(data.DATASETS.values())
    assert data.load("digits").order_hash == digits.order_hash


# a network

MODULE = """
import numpy as np
import torch
from torch import nn

def perceptron(inputs=64, hidden=16, classes=3, dropout=0.0):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )

class Convolutions(nn.Module):
    def __init__(self, channels=1, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, classes)

    def forward(self, x):
        assert x.shape[1:] == (1, 8, 8) and x.dtype == torch.float32 and 0 <= x.min() and x.max() <= 1
        return self.head(self.body(x))

def zeros():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(network[1].weight), nn.init.zeros_(network[1].bias)
    return network

network = perceptron()
def same():
    return network
def seeded():
    torch.manual_seed(0)
    return perceptron()
def by_numpy():
    network = perceptron()
    network[1].weight.data += torch.from_numpy(np.random.normal(size=(16, 64)).astype("float32"))
    return network
def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
def frozen():
    return perceptron().requires_grad_(False)
def words():
    return ["no", "network"]
def pairs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = perceptron()
        def forward(self, x):
            return self.inner(x), x
    return Two()
def breaks():
    raise KeyError("weights.pt")
"""

RECIPE = {
    "factory": "networks_of_mine:perceptron",
    "arguments": {},
    "epochs": 12,
    "batch_size": 7,
    "learning_rate": 0.3,
    "momentum": 0.8,
    "warm_up": 0.2,
    "weight_decay": 0.0,
    "precision": "float32",
    "device": "cpu",
    "models_at_once": 4,
}


def own(**changes) -> OwnNetwork:
    return OwnNetwork(**RECIPE | changes)


@pytest.fixture
def module(folder, monkeypatch):
    """A reader's module in the folder of the test."""
    (folder / "networks_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    yield
    sys.modules.pop("networks_of_mine", None)


@pytest.fixture
def bright(tmp_path) -> data.Data:
    return save(tmp_path)


def trained(learner: OwnNetwork, read: data.Data, numbers=range(3)) -> tuple[np.ndarray, np.ndarray]:
    members = subsets.members(0, numbers, read.n, 0.7)
    return learner.fit_predict(read, members, subsets.trial_seeds(0, numbers))


@pytest.mark.parametrize("factory", ["perceptron", "Convolutions"])
def test_a_network_of_ones_own_learns_whether_a_function_or_a_class_makes_it(module, bright, factory):
    train, test = trained(own(factory=f"networks_of_mine:{factory}"), bright)
    assert train.dtype == test.dtype == np.int16 and train.shape == (3, 30) and test.shape == (3, 12)
    assert (train == bright.y_train).mean() > 0.9 and (test == bright.y_test).mean() > 0.9


def test_a_network_of_a_package_needs_no_module(bright):
    rows = data.Data(
        "rows",
        *(
            getattr(bright, name).reshape(-1, 64) if name[0] == "x" else getattr(bright, name)
            for name in ("x_train", "y_train", "x_test", "y_test")
        ),
        bright.classes,
    )
    train, _ = trained(own(factory="torch.nn:Linear", arguments={"in_features": 64, "out_features": 3}), rows)
    assert (train == rows.y_train).mean() > 0.9


def test_a_whole_training_is_that_of_a_plain_loop(module, bright):
    """Initial weights, batches, schedule, momentum and decay: the recipe as the head of the module describes it."""
    learner = own(weight_decay=0.01)
    seed, subset = subsets.TrialSeed(0, 1), np.flatnonzero(subsets.members(0, [1], bright.n, 0.7)[0])
    torch.manual_seed(int(seed.generator("initialisation").integers(2**63)))
    network = importlib.import_module("networks_of_mine").perceptron()
    weights, draw = list(network.parameters()), seed.generator("order")
    order = np.concatenate([subset[draw.permutation(len(subset))] for _ in range(12)])
    speed = [torch.zeros_like(weight) for weight in weights]
    for step in range(36):
        rows = order[7 * step : 7 * step + 7]
        scores = network(torch.from_numpy(bright.x_train[rows]))
        gradients = torch.autograd.grad(
            torch.nn.functional.cross_entropy(scores, torch.from_numpy(bright.y_train[rows])), weights
        )
        rate = 0.3 * schedule((step + 0.5) / 36, 0.2)
        for weight, gradient, moved in zip(weights, gradients, speed):
            gradient = gradient + 0.01 * weight.data if weight.ndim > 1 else gradient
            moved.mul_(0.8).add_(gradient)
            weight.data -= rate * (gradient + 0.8 * moved)
    expected = [network(torch.from_numpy(x)).argmax(1).tolist() for x in (bright.x_train, bright.x_test)]
    assert [labels[0].tolist() for labels in trained(learner, bright, [1])] == expected


@pytest.mark.parametrize("changes", [{}, {"arguments": {"dropout": 0.5}}, {"precision": "bfloat16"}], ids=str)
def test_a_trial_is_the_same_in_any_company_and_after_any_other_draw(module, bright, changes):
    learner = own(epochs=2, **changes)
    together = trained(learner, bright, range(4))
    torch.rand(5)
    for k in (3, 1):
        assert [labels[0].tolist() for labels in trained(learner, bright, [k])] == [
            labels[k].tolist() for labels in together
        ]


def test_two_trials_start_from_different_weights(module, bright):
    """One step at a vanishing rate: what is predicted is what the initial weights say."""
    train, _ = trained(own(epochs=1, batch_size=21, learning_rate=1e-9), bright, range(6))
    assert len({tuple(row) for row in train.tolist()}) > 1


def test_nothing_of_torchs_own_generator_is_used_or_changed(module, bright):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(own(epochs=1, arguments={"dropout": 0.5}), bright)
    assert torch.equal(torch.rand(3), expected)


def test_dropout_is_at_work_in_training_and_not_in_evaluation(module, bright):
    learner = own(epochs=2, arguments={"dropout": 0.5})
    assert not np.array_equal(trained(own(epochs=2), bright)[0], trained(learner, bright)[0])
    assert np.array_equal(trained(learner, bright)[1], trained(learner, bright)[1])


def test_weights_that_are_all_alike_are_no_fault(module, bright):
    train, _ = trained(own(factory="networks_of_mine:zeros"), bright)
    assert (train == bright.y_train).mean() > 0.9


def test_a_network_that_diverges_labels_everything_minus_one(module, bright):
    assert all((labels == -1).all() for labels in trained(own(learning_rate=1e30), bright))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"factory": "nowhere.at_all:f"},
            "'nowhere.at_all:f': nowhere.at_all cannot be imported .* root of this repository",
        ),
        (
            {"factory": "networks_of_mine:perceptrons"},
            "module networks_of_mine has no perceptrons; name a function or class",
        ),
        ({"factory": "networks_of_mine:network"}, "'networks_of_mine:network' is a Sequential; name a function or class"),
        ({"factory": "networks_of_mine:RATE"}, "module networks_of_mine has no RATE"),
        ({"factory": "networks_of_mine:words"}, r"words\(\) returned a list; it must return a torch.nn.Module"),
        ({"factory": "networks_of_mine:breaks"}, r"breaks\(\) failed \(KeyError: 'weights.pt'\); mend it or its arguments"),
        ({"arguments": {"depth": 2}}, r"perceptron\(depth=2\) failed \(TypeError: .*depth.*\); mend it or its arguments"),
        ({"factory": "networks_of_mine:frozen"}, "returned a network without a weight that can be trained"),
        ({"factory": "networks_of_mine:lazy"}, "returned a network with lazy layers; give their sizes"),
        ({"factory": "networks_of_mine:same"}, "returns the same weights with each call; it must make a new network"),
        ({"factory": "networks_of_mine:seeded"}, "made the same weights from two seeds, .*; do not set a seed in it"),
        ({"factory": "networks_of_mine:by_numpy"}, "made different weights from the same seed; draw them from torch's own"),
        ({"arguments": {"classes": 4}}, r"gives \(2, 4\) for inputs of shape \(2, 1, 8, 8\); a tensor \(2, 3\) is needed"),
        ({"factory": "networks_of_mine:pairs"}, r"gives a tuple for inputs of shape .*; a tensor \(2, 3\) is needed"),
        (
            {"arguments": {"inputs": 65}},
            r"cannot take inputs of shape \(2, 1, 8, 8\) \(RuntimeError: .*make it fit the data",
        ),
        ({"batch_size": 22}, "batch_size is 22 but a subset has only 21 examples; take a smaller one"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_its_name_and_the_remedy(module, bright, changes, message):
    with pytest.raises(ValueError, match=message):
        trained(own(**changes), bright)


def test_a_module_that_cannot_be_read_is_refused_by_name(folder, monkeypatch, bright):
    (folder / "torn_module.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ValueError, match=r"torn_module cannot be imported \(SyntaxError"):
        trained(own(factory="torn_module:f"), bright)


def test_a_gpu_that_is_not_there_is_refused(module, bright, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is cuda, but torch finds no GPU; choose auto or cpu"):
        trained(own(device="cuda"), bright)


@pytest.mark.parametrize(
    "factory", ["networks_of_mine", "networks_of_mine:", ":f", "a-b:f", "a.b:f.g", "a..b:f", "a/b.py:f"]
)
def test_a_factory_of_another_form_is_refused_with_params_yaml(factory):
    with pytest.raises(ValidationError, match="factory"):
        own(factory=factory)


@pytest.mark.parametrize("arguments", [{"device": "cpu"}, {"body": {"models_at_once": 3}}, {"parts": [{"device": 1}]}])
def test_an_argument_that_no_fingerprint_would_tell_is_refused(arguments):
    with pytest.raises(ValidationError, match=r"a name that fingerprints leave out; .*give it another name"):
        own(arguments=arguments)


# settings

OTHER = {
    "factory": "networks_of_mine:Convolutions",
    "arguments": {"hidden": 17},
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.2,
    "momentum": 0.7,
    "warm_up": 0.3,
    "weight_decay": 0.1,
    "precision": "bfloat16",
}


def setting(learner: OwnNetwork, **changes) -> Setting:
    fields = {"data": "own.npz", "learner": learner, "ratio": 0.7, "seed": 0, "trials": 8, "revision": 1}
    return Setting.model_validate(fields | changes)


def test_factory_arguments_recipe_and_revision_are_in_the_fingerprint_and_speed_is_not(bright):
    assert OTHER.keys() == OwnNetwork.model_fields.keys() - {"name", "device", "models_at_once"}
    base = setting(own()).fingerprint(bright)
    others = [setting(own(**{key: value})).fingerprint(bright) for key, value in OTHER.items()]
    assert len({base, *others, setting(own(), revision=2).fingerprint(bright)}) == len(OTHER) + 2
    assert setting(own(device="auto", models_at_once=9)).fingerprint(bright) == base


def test_a_setting_with_ones_own_data_and_network_goes_from_trials_to_estimates(module, folder, monkeypatch):
    """On a worker process too, which finds the module where the command runs."""
    monkeypatch.setenv("STUDY_DATA", str(folder))
    save(folder)
    chosen = setting(own(epochs=2))
    files = [predictions.load(trials.train(f"with-{k}", chosen, workers=k)) for k in (0, 1)]
    assert np.array_equal(files[0].train_correct, files[1].train_correct)
    estimates, diverged = estimation.of_setting("with-0", chosen)
    members = subsets.members(0, range(8), 30, 0.7)
    assert diverged == 0 and estimates.memorization.n_in.tolist() == members.sum(0).tolist()


def test_a_fault_of_the_network_reaches_the_one_who_started_the_workers(module, folder, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(folder))
    save(folder)
    with pytest.raises(ValueError, match=r"gives \(2, 4\) for inputs of shape"):
        trials.train("broken", setting(own(arguments={"classes": 4})), workers=1)


# the stage

SECTION = {
    "classes": 3,
    "per_class": 8,
    "test_per_class": 4,
    "pictures_per_class": 5,
    "test_pictures_per_class": 2,
    "mislabelled": 3,
    "twins": 2,
    "noise": 0.02,
    "seed": 0,
}


@pytest.fixture(scope="module")
def section() -> OwnData:
    study = params.load(STUDY)
    return OwnData.model_validate(SECTION | {"settings": {k: v.model_dump() for k, v in study.own_data.settings.items()}})


def test_the_section_of_the_study_is_valid_and_takes_no_nonsense(section):
    fields = section.model_dump()
    with pytest.raises(ValidationError, match="twins is 4; only the 3 mislabelled examples can have one"):
        OwnData.model_validate(fields | {"twins": 4})
    both = {name: fields["settings"]["own-arrays"] for name in ("a", "b")}
    with pytest.raises(ValidationError, match="data of both kinds"):
        OwnData.model_validate(fields | {"settings": both})


def test_wrong_labels_are_planted_where_the_stage_says_and_nowhere_in_the_control(section, tmp_path):
    planted = own_data.make(tmp_path, section)
    for name, chosen in section.settings.items():
        spoilt, right = (data.load(kind, tmp_path) for kind in (chosen.data, own_data._right(chosen.data)))
        wrong = planted[name].wrong
        assert len(wrong) == 3 and planted[name + "-right"].wrong.size == 3
        if chosen.data.endswith(".npz"):
            assert np.flatnonzero(spoilt.y_train != right.y_train).tolist() == sorted(wrong)
            assert np.array_equal(spoilt.x_train, right.x_train)
        else:
            files = sorted((tmp_path / "shapes" / "train").glob("*/*.png"))
            misplaced = [k for k, file in enumerate(files) if not file.name.startswith(file.parent.name)]
            assert misplaced == wrong.tolist()
            files = sorted((tmp_path / "shapes-right" / "train").glob("*/*.png"))
            assert all(file.name.startswith(file.parent.name) for file in files)


def test_in_the_control_the_same_pictures_are_marked(section, tmp_path):
    """Under the right labels the folder has another order, and the marks must follow."""
    planted = own_data.make(tmp_path, section)
    files = {name: sorted((tmp_path / name / "train").glob("*/*.png")) for name in ("shapes", "shapes-right")}
    wrong = {files["shapes"][k].name for k in planted["own-pictures"].wrong}
    assert wrong == {files["shapes-right"][k].name for k in planted["own-pictures-right"].wrong}


def test_a_twin_is_a_near_copy_with_the_same_label(section, tmp_path):
    planted = own_data.make(tmp_path, section)
    for name, file in (("own-arrays", "digits.npz"), ("own-arrays-right", "digits-right.npz")):
        read = data.load(file, tmp_path)
        assert len(planted[name].twins) == 2
        for train, test in planted[name].twins.items():
            assert read.y_train[train] == read.y_test[test]
            assert 0 < np.abs(read.x_train[train] - read.x_test[test]).max() < 0.2


def test_the_settings_that_the_page_shows_are_those_that_params_yaml_gets(section, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(STUDY.read_text())
    (tmp_path / "data").mkdir()
    own_data.make(tmp_path / "data", section)
    settings = own_data.with_controls(section.settings)
    files = own_data._write_files(tmp_path, settings)
    read = params.load(tmp_path / "params.yaml")
    assert {name: read.settings[name] for name in settings} == settings and "digits-mlp" in read.settings
    assert files["settings"]["own-arrays"] in (tmp_path / "params.yaml").read_text()
    assert files["data"]["own-arrays"][0] == "x_train  float32  (24, 8, 8)"
    assert "shapes-right/train/circle/  5 pictures" in files["data"]["own-pictures-right"]


def test_every_mistake_of_the_page_has_a_message_with_a_remedy(section, tmp_path):
    own_data.make(tmp_path / "data", section)
    (tmp_path / own_data.MODULE).write_text(own_data.NETWORKS)
    arguments = {"inputs": 64, "hidden": 4, "classes": 3}
    small = {
        "own-arrays": section.settings["own-arrays"].learner.model_copy(update={"arguments": arguments, "batch_size": 4})
    }
    settings = section.settings | {
        name: section.settings[name].model_copy(update={"learner": learner}) for name, learner in small.items()
    }
    table = own_data.mistakes(tmp_path, settings)
    assert len(table) == 20 and table.message.is_unique and not table.message.str.contains(str(tmp_path)).any()
    told = dict(table.values)
    assert told["classes numbered from 1"].startswith("y_train of data/spoilt.npz: labels go up to 3, but 0 does not occur")
    assert told["a class without tests"].startswith("data/spoilt: class circle is in only one of train and val")
    assert "gives (2, 2)" in told["a wrong number of outputs"]


def test_a_mistake_that_passes_without_a_word_ends_the_stage(tmp_path):
    with pytest.raises(RuntimeError, match="no error for this mistake: nothing"):
        own_data._said("nothing", lambda: None, tmp_path)


def test_the_stage_leaves_folder_variables_and_modules_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", "elsewhere")
    before = os.getcwd(), list(sys.path)
    with own_data._inside(tmp_path):
        assert (os.getcwd(), os.environ["STUDY_DATA"]) == (str(tmp_path), "data")
    assert (os.getcwd(), sys.path) == before and os.environ["STUDY_DATA"] == "elsewhere"


def test_a_command_that_fails_ends_the_stage_with_what_it_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)`python -m study stage train nothing` failed:.*unknown stage 'train'"):
        own_data._run("python -m study stage train nothing", tmp_path)


def test_the_lines_of_the_page_name_the_files_of_the_most_memorized_pictures_and_draw_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("shapes/train/a", "shapes/train/b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(15):
            Image.new("L", (8, 8)).save(tmp_path / "data" / name / f"{number:02}.png")
    memorization = pd.DataFrame({"index": np.arange(30), "mem": np.linspace(0, 1, 30)})
    for setting in ("own-pictures", "own-arrays"):
        tables.save(setting, "memorization", memorization)
    page = (STUDY.parent / "notebooks/chapters/08_own_data.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (files,), (drawing,) = ([block for block in blocks if word in block] for word in ("ImageFolder(", ".chart.save("))
    held = {"tables": tables}
    exec(files.replace("\n[", "\nnamed = ["), held)
    exec(drawing, held)
    assert [(Path(path).parent.name, Path(path).name) for path, _ in held["named"][:2]] == [("b", "14.png"), ("b", "13.png")]
    with Image.open(tmp_path / "memorization.png") as picture:
        assert min(picture.size) > 100
