"""Random labels and pixels: what is drawn, what is trained, and what page and ledger will read."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from study import charts, claims, data, params, tables
from study.charts import random_pictures as figures
from study.data import DataError
from study.subsets import TrialSeed
from study.theory import random_pictures
from study.theory.random_pictures import Job

ROOT = Path(__file__).parents[1]
STUDY = params.load(ROOT / "params.yaml").random_pictures
TOY = {
    "data": {"digits": "digits"},
    "regularized": "digits",
    "pictures": 300,
    "tests": 200,
    "corruption": [0.0, 0.5, 1.0],
    "convolutional": {
        "architecture": {"name": "compact", "stride": 1, "widths": [16, 32, 64], "blocks": [0, 0, 0]},
        "learning_rate": 0.1,
    },
    "perceptron": {"widths": [64], "learning_rate": 0.05},
    "too_small": {
        "architecture": {"name": "compact", "stride": 2, "widths": [2, 4], "blocks": [0, 0]},
        "learning_rate": 0.1,
    },
    "batch_size": 25,
    "epochs": 60,
    "repeats": 2,
    "regularized_epochs": 2,
    "regularized_repeats": 2,
    "shift": 1,
    "built": [50, 400],
    "placed": [30, 100],
    "shown": 3,
}
SMALL = params.RandomPictures.model_validate(STUDY.model_dump() | TOY)


def pictures(n=30, side=5, channels=3):
    """Pictures in which every number occurs once, so that a permutation can be read off."""
    return np.arange(n * side * side * channels, dtype=np.float32).reshape(n, side, side, channels)


def changed(pixels, *splits, seed=0):
    return random_pictures.with_pixels(pixels, list(splits), np.random.default_rng(seed))


def permutations(before, after):
    """Where each pixel of each picture came from, ``(n, h * w)``; all channels must agree."""
    flat = [x.reshape(len(x), -1, x.shape[3]) for x in (before, after)]
    channels = [
        np.stack([np.argsort(a[:, c])[np.searchsorted(np.sort(a[:, c]), b[:, c])] for a, b in zip(*flat)])
        for c in range(before.shape[3])
    ]
    assert all((found == channels[0]).all() for found in channels), "channels of a pixel must move together"
    return channels[0]


def test_shuffled_pixels_move_alike_in_all_pictures_of_both_splits():
    train, test = pictures(), pictures(n=7)
    moved = [permutations(a, b) for a, b in zip((train, test), changed("shuffled", train, test))]
    one = np.concatenate(moved)
    assert (one == one[0]).all()
    assert sorted(one[0]) == list(range(25)) and (one[0] != np.arange(25)).any()


def test_random_pixels_move_in_each_picture_in_a_way_of_its_own():
    train = pictures()
    found = permutations(train, changed("random", train)[0])
    assert (np.sort(found, axis=1) == np.arange(25)).all()
    assert len(np.unique(found, axis=0)) == len(train)


def test_gaussian_pixels_have_the_data_sets_mean_and_deviation_and_nothing_of_its_pictures():
    train = np.random.default_rng(3).standard_normal((200, 8, 8, 3)).astype(np.float32)
    noise, tested = changed("gaussian", train, train[:50])
    assert noise.shape == train.shape and tested.shape == train[:50].shape
    assert noise.mean((0, 1, 2)) == pytest.approx([0, 0, 0], abs=0.05) and noise.std((0, 1, 2)) == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(noise.ravel(), train.ravel())[0, 1]) < 0.03


def test_true_pixels_stay_and_other_names_are_refused():
    train = pictures()
    assert changed("true", train)[0] is train
    with pytest.raises(ValueError, match="unknown pixels 'grey'; valid: true, shuffled, random, gaussian"):
        changed("grey", train)


def test_channels_have_mean_0_and_deviation_1_in_training():
    subset = random_pictures.subset(SMALL, "digits", 0)
    train, test = random_pictures.standardized(subset)
    assert train.shape == (300, 8, 8, 1) and test.shape == (200, 8, 8, 1)
    assert train.mean() == pytest.approx(0, abs=1e-5) and train.std() == pytest.approx(1, abs=1e-5)
    shades = data.unit_floats(subset.x_test)
    assert test[..., 0] == pytest.approx((shades - subset.x_train.mean()) / subset.x_train.std(), abs=1e-4)


def test_a_repeat_has_its_own_pictures_whatever_is_done_to_them():
    true, shuffled, following = (
        random_pictures.task(SMALL, "digits", pixels, 0.5, repeat)
        for pixels, repeat in (("true", 0), ("shuffled", 0), ("true", 1))
    )
    assert (true.y == shuffled.y).all() and (true.y_true == shuffled.y_true).all()
    assert np.sort(true.x, axis=None) == pytest.approx(np.sort(shuffled.x, axis=None))
    assert (true.x != following.x).any()
    assert 0.3 < (true.y != true.y_true).mean() < 0.6


def test_test_labels_are_never_corrupted():
    given = random_pictures.task(SMALL, "digits", "true", 1.0, 0)
    assert (given.y_test == data.load("digits").y_test[:200]).all()


def test_of_equal_pictures_only_the_first_can_be_chosen(monkeypatch):
    own = data.load("digits")
    twice = np.arange(1000) % 400
    doubled = data.Data("digits", own.x_train[twice], own.y_train[twice], own.x_test, own.y_test, own.classes)
    monkeypatch.setitem(data.DATASETS, "doubled", lambda root: doubled)
    chosen = random_pictures.subset(SMALL.model_copy(update={"data": {"digits": "doubled"}}), "digits", 0).x_train
    assert len(np.unique(chosen.reshape(300, -1), axis=0)) == 300


def test_too_few_pictures_are_told_with_the_remedy():
    with pytest.raises(ValueError, match="5,000 training pictures, but digits has only 1,000 of its first 10 classes"):
        random_pictures.subset(SMALL.model_copy(update={"pictures": 5000}), "digits", 0)


def test_a_perceptron_with_its_rows_shuffled_likewise_does_not_see_a_shuffle():
    """The control behind the page: training on shuffled pictures gives the same numbers, up to rounding."""
    true, shuffled = (random_pictures.task(SMALL, "digits", pixels, 0.0, 0) for pixels in ("true", "shuffled"))
    order = permutations(pictures(1, 8, 1), changed_like_the_task(pictures(1, 8, 1)))[0]
    networks = [random_pictures.network_of(SMALL.perceptron, (8, 8, 1), 10, TrialSeed(SMALL.seed, 0)) for _ in range(2)]
    networks[1][1].weight.data = networks[0][1].weight.data[:, torch.from_numpy(order)].clone()
    short = SMALL.model_copy(update={"epochs": 2})
    seed, job = TrialSeed(SMALL.seed, 0), Job("digits", "perceptron", "true", 0.0, 0)
    for network, given in zip(networks, (true, shuffled)):
        random_pictures.train(network, given, short, job, seed)
    found = [
        network(torch.from_numpy(given.x_test).permute(0, 3, 1, 2)) for network, given in zip(networks, (true, shuffled))
    ]
    assert torch.allclose(*found, atol=1e-3)


def changed_like_the_task(x):
    rng = TrialSeed(SMALL.seed, 0).generator("augmentation")
    return random_pictures.with_pixels("shuffled", [x], rng)[0]


def test_augmented_pictures_are_mirrored_and_shifted_and_no_shade_is_new():
    x = torch.from_numpy(pictures(40, 6, 1))
    seen = random_pictures.augmented(x, 2, np.random.default_rng(0))
    assert seen.shape == x.shape
    assert not (seen == x).flatten(1).all(1).all()
    middle = seen[:, 2:4, 2:4]
    assert all(torch.isin(a, b).all() for a, b in zip(middle, x))
    rows = (middle[:, :, 1] - middle[:, :, 0]).flatten(1)  # -1 where a picture is mirrored
    assert 0.2 < (rows < 0).all(1).float().mean() < 0.8


def test_a_training_ends_when_all_is_right_and_a_whole_one_does_not():
    ended = random_pictures.fit(SMALL, Job("digits", "perceptron", "true", 0.0, 0))
    assert ended.train_accuracy.iloc[-1] == 1 and (ended.train_accuracy.iloc[:-1] < 1).all() and len(ended) < 60
    whole = random_pictures.fit(SMALL, Job("digits", "perceptron", "true", 0.0, 0, whole=True))
    assert len(whole) == SMALL.regularized_epochs


def test_the_same_job_gives_the_same_numbers_and_another_repeat_others():
    job = Job("digits", "convolutional", "random", 0.0, 0, 1e-3, True, True)
    first, again = (random_pictures.fit(SMALL, job) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    other = random_pictures.fit(SMALL, job._replace(repeat=1))
    assert (first.train_accuracy != other.train_accuracy).any()


def test_weight_decay_and_augmentation_change_what_is_learned():
    base = Job("digits", "convolutional", "true", 0.0, 0, whole=True)
    found = [
        random_pictures.fit(SMALL, base._replace(**change)).train_accuracy.tolist()
        for change in ({}, {"weight_decay": 0.3}, {"augmented": True})
    ]
    assert found[0] != found[1] and found[0] != found[2]


def test_the_time_to_fit_is_read_off_the_curve():
    job = Job("digits", "perceptron", "true", 0.0, 0)._asdict()
    seen = {"epoch": [1, 2, 3], "train_accuracy": [0.5, 0.9, 1.0], "test_accuracy": 0.5, "wrong_rate": 0.0, "pictures": 300}
    curves = pd.DataFrame(job | seen)
    found = random_pictures.outcomes(curves, 0.95).iloc[0]
    assert found.epochs == 3 and found.train_accuracy == 1 and found.epochs_to_fit == pytest.approx(6**0.5)
    assert np.isnan(random_pictures.outcomes(curves[:2], 0.95).epochs_to_fit.item())


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("random_pictures"))
        summary = random_pictures.run(SMALL)
        saved = json.loads((tables.ROOT / "random_pictures" / "summary.json").read_text())
        names = ("runs", "regularized", "curves", "linear", "built", "places")
        return summary, {name: tables.load("random_pictures", name) for name in names}, saved, tables.ROOT.absolute()


def test_random_labels_are_fitted_and_test_accuracy_is_at_chance(small_run):
    summary = small_run[0]
    found = summary["digits"]["convolutional"]
    assert summary["worst_train_accuracy"] > 0.98
    assert found["true"]["test_accuracy"]["value"] > 0.85
    assert found["random_labels"]["test_accuracy"]["value"] == pytest.approx(0.1, abs=0.07)
    assert found["gaussian"]["test_accuracy"]["value"] == pytest.approx(0.1, abs=0.07)
    assert found["slowdown"]["value"] > 1
    assert summary["digits"]["corruption"]["levels"] == [0.0, 0.5, 1.0]
    assert summary["digits"]["corruption"]["test_accuracy"][1]["value"] == pytest.approx(
        small_run[1]["runs"].query("network == 'convolutional' and corruption == 0.5").test_accuracy.mean()
    )


def test_every_condition_leaves_one_row_a_repeat(small_run):
    runs = small_run[1]["runs"]
    assert (runs.groupby(["network", "pixels", "corruption"]).size() == 2).all()
    assert len(runs) == (6 + 5 + 1) * 2, "one network is not given partly random labels, one nothing but random ones"
    assert not runs.duplicated(list(Job._fields)).any()
    regularized = small_run[1]["regularized"]
    assert len(regularized) == 2 * 2 * 2 * 2 and (regularized.epochs == 2).all()


def test_a_network_with_fewer_weights_than_pictures_fails_to_fit_random_labels(small_run):
    found = small_run[0]["too_small"]["digits"]
    assert found["numbers"] < 300
    assert found["train_accuracy"]["value"] < 0.7 < small_run[0]["worst_train_accuracy"]


def test_the_linear_model_is_tried_where_pictures_outnumber_pixels(small_run):
    assert len(small_run[1]["linear"]) == 2 and small_run[0]["linear"]["digits"]["value"] > 0.2
    few = SMALL.model_copy(update={"pictures": 50})
    assert random_pictures.linear(few).empty


def test_the_gain_is_that_of_both_regularizers_over_none(small_run):
    rows = small_run[1]["regularized"].query("corruption == 0")
    both, none = (
        rows[(rows.augmented == on) & ((rows.weight_decay > 0) == on)].test_accuracy.mean() for on in (True, False)
    )
    found = small_run[0]["regularized"]
    assert found["gain"]["value"] == pytest.approx(both - none)
    assert found["share_without"]["value"] == pytest.approx((none - 0.1) / (both - 0.1))


def test_examples_are_shades_of_the_first_pictures():
    shown = random_pictures.examples(SMALL)
    assert len(shown) == 4 * 3
    first = shown[(shown.pixels == "true") & (shown.place == 0)].iloc[0]
    assert first["values"] == pytest.approx(random_pictures.subset(SMALL, "digits", 0).x_train[0].ravel(), abs=1e-3)


def test_examples_that_cannot_be_had_are_named_and_no_stage_keeps_any(monkeypatch, small_run):
    def refuse(section, name, repeat):
        raise DataError("no network")

    monkeypatch.setattr(random_pictures, "subset", refuse)
    shown = random_pictures.examples(SMALL)
    assert len(shown) == 4 * 3 and shown["values"].isna().all()
    assert charts.raster(charts.specification(figures.examples(shown))).startswith(b"\x89PNG")
    assert not (Path(small_run[3]) / "random_pictures" / "examples.parquet").exists()


def test_the_summary_holds_no_number_that_is_not_there(small_run):
    saved = small_run[2]
    for network in random_pictures.NETWORKS:
        for condition in random_pictures.NAMED:
            assert saved["digits"][network][condition]["train_accuracy"]["value"] is not None
    assert saved["built"]["errors_float64"] == 0 and saved["built"]["digits"]["numbers"] == 2 * 400 + 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruption": [0.2, 1.0]}, "must ascend from 0 to 1"),
        ({"regularized": "mnist"}, "regularized is 'mnist'; data has digits"),
        ({"pictures": 301}, "a last minibatch of one"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        params.RandomPictures.model_validate(SMALL.model_dump() | change)


def test_every_number_of_the_stage_that_the_ledger_reads_is_in_the_summary(small_run):
    summary = small_run[2]
    named = summary | {
        "mnist": summary["digits"],
        "cifar100": summary["digits"],
        "too_small": {"cifar100": summary["too_small"]["digits"]},
    }
    named["built"] = summary["built"] | {"cifar100": summary["built"]["digits"]}
    pointers = {pointer for claim in claims.load(ROOT / "claims.yaml").claims for pointer in claim.pointers()}
    ours = [pointer for pointer in pointers if pointer.startswith("tables/random_pictures/summary.json#")]
    assert ours
    for pointer in ours:
        claims.resolve(named, pointer.partition("#")[2])
