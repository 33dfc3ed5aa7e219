"""Figures of the page on random labels and pixels show what the tables of the stage hold."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import random_pictures as figures

CONDITIONS = [("true", 0.0), ("true", 0.5), ("true", 1.0), ("shuffled", 0.0), ("random", 0.0), ("gaussian", 0.0)]


def planted(network, pixels, corruption, repeat):
    """Accuracy on new pictures: the convolutional network is ahead until pixels are shuffled; repeats differ by 0.02."""
    if pixels in ("random", "gaussian"):
        return 0.1
    ahead = 0.2 if network == "convolutional" and pixels == "true" else 0.0
    return (0.6 + ahead) * (1 - corruption) + 0.1 * corruption + 0.02 * repeat


@pytest.fixture
def runs():
    rows = [
        {"data": name, "network": network, "pixels": pixels, "corruption": level, "repeat": repeat, "pictures": 500}
        | {"train_accuracy": 1.0, "wrong_rate": 0.9 * level, "epochs_to_fit": 3.0, "epochs": 4}
        | {"test_accuracy": planted(network, pixels, level, repeat)}
        for name in ("mnist", "cifar100")
        for network in ("convolutional", "perceptron")
        for pixels, level in CONDITIONS
        for repeat in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def curves(runs):
    """Repeat 0 is fitted after two epochs, repeat 1 after four."""
    seen = {0: [0.5, 1.0], 1: [0.4, 0.6, 0.8, 1.0]}
    parts = []
    for _, row in runs.iterrows():
        found = seen[row["repeat"]]
        own = row[["data", "network", "pixels", "corruption", "repeat", "pictures"]].to_dict()
        parts.append(pd.DataFrame(own | {"epoch": np.arange(len(found)) + 1, "train_accuracy": found}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def regularized():
    rows = [
        {"data": "cifar100", "corruption": level, "weight_decay": decay, "augmented": shifts, "repeat": repeat}
        | {"pictures": 500, "epochs": 25, "train_accuracy": 1 - 0.3 * shifts, "test_accuracy": 0.5 + 0.1 * shifts}
        for level in (0.0, 1.0)
        for decay in (0.0, 5e-4)
        for shifts in (False, True)
        for repeat in (0, 1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def pictures():
    rows = [
        {"data": name, "pixels": pixels, "place": place, "shape": shape, "values": np.full(np.prod(shape), 0.25)}
        for name, shape in (("mnist", [8, 8, 1]), ("cifar100", [8, 8, 3]))
        for pixels in ("true", "shuffled", "random", "gaussian")
        for place in range(3)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def built():
    rows = [
        {
            "data": name,
            "n": n,
            "precision": precision,
            "error": error * n,
            "wrong": 0,
            "numbers": 2 * n + 5,
            "condition": n**3,
        }
        for name in ("mnist", "cifar100")
        for n in (100, 1000)
        for precision, error in (("float64", 1e-12), ("float32", 1e-2))
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def places():
    rows = [{"data": "mnist", "n": n, "place": place, "error": error, "wrong": 0} for n, place, error in (
        (30, 0.0, 1e-13), (100, 0.0, 1e-12), (30, 0.6, 1e-6), (100, 0.6, 1e3), (30, 0.75, 1.0), (100, 0.75, np.inf),
    )]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_figure_is_drawn(runs, curves, regularized, pictures, built, places):
    drawn = [
        figures.examples(pictures),
        figures.learning_curves(curves, 0.99),
        figures.test_accuracy(runs),
        figures.corruption(runs),
        figures.regularizers(regularized),
        figures.precision(built),
        figures.places(places),
    ]
    for figure in drawn:
        assert charts.raster(charts.specification(figure)).startswith(b"\x89PNG"), figure.name


def test_captions_say_n_and_repeats(runs, curves, regularized):
    made = (
        figures.learning_curves(curves, 0.99),
        figures.test_accuracy(runs),
        figures.corruption(runs),
        figures.regularizers(regularized),
    )
    for figure in made:
        assert "n = 500 training pictures, means over 2 repeats; bars reach two standard errors" in figure.caption
    assert "25 epochs each" in made[-1].caption


def test_a_training_that_ended_counts_with_all_pictures_right_until_the_last_of_its_kind_ends(curves):
    table = figures.learning_curves(curves, 0.99).table
    own = table[(table.data == "mnist") & (table.network == "perceptron") & (table.task == "random pixels")]
    assert own.set_index("epoch")["mean"].to_dict() == pytest.approx({1: 0.45, 2: 0.8, 3: 0.9, 4: 1.0})
    assert set(table.task) == set(figures.TASKS.values()), "partly random labels have a figure of their own"


def test_accuracy_on_new_pictures_is_the_mean_over_repeats_with_its_error(runs):
    table = figures.test_accuracy(runs).table.set_index(["data", "network", "task"])
    ahead, flat = (table.loc["mnist", network, "as they are"] for network in ("convolutional", "perceptron"))
    assert (ahead["mean"], flat["mean"]) == pytest.approx((0.81, 0.61))
    assert ahead.std_error == pytest.approx(0.01)
    assert table.loc["mnist", "convolutional", "shuffled pixels"]["mean"] == pytest.approx(0.61)
    assert "random labels" not in table.index.get_level_values("task")


def test_corruption_is_drawn_over_the_measured_share_of_wrong_labels(runs):
    table = figures.corruption(runs).table
    own = table[(table.data == "cifar100") & (table.part == "new pictures")]
    assert own.set_index("wrong")["mean"].to_dict() == pytest.approx({0.0: 0.81, 0.45: 0.46, 0.9: 0.11})
    assert (table[table.part == "labels it was fitted to"]["mean"] == 1).all()


def test_regularizers_show_new_pictures_for_true_labels_and_the_fit_of_random_ones(regularized):
    table = figures.regularizers(regularized).table.set_index(["part", "regularizer"])["mean"]
    assert table["true labels: new pictures"].to_dict() == pytest.approx(
        {"none": 0.5, "weight decay": 0.5, "mirrored and shifted": 0.6, "both": 0.6}
    )
    assert table["random labels: training pictures"]["both"] == pytest.approx(0.7)


def test_what_overflowed_is_in_the_table_but_not_in_the_drawing(places):
    figure = figures.places(places)
    assert np.isinf(figure.table.error).sum() == 1
    data = charts.specification(figure)["datasets"].values()
    assert sum(len(rows) for rows in data if "place" in rows[0]) == 5
