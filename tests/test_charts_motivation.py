"""Figures of the chapter on motivation show what the tables of the stage and the ledger hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import charts, claims
from study.charts import motivation
from study.theory import privacy
from study.theory.random_labels import Task

ROOT = Path(__file__).parents[1]


@pytest.fixture
def accuracy():
    """Two repeats of a network and a linear model, with planted accuracies; a short training that must not be mixed in."""
    rows = []
    for repeat in (0, 1):
        for level in (0.0, 0.5, 1.0):
            right, wrong = np.nan if level == 1 else level + repeat / 10, np.nan if level == 0 else 0.1
            common = {
                "pixels": "true",
                "corruption": level,
                "repeat": repeat,
                "wrong_rate": 0.9 * level,
                "train_right": 1.0,
                "train_wrong": 1.0,
                "held_out_right": right,
                "held_out_wrong": wrong,
            }
            rows += [
                common | {"model": "network", "epochs": 50, "train_accuracy": 1.0, "test_accuracy": 0.9 - 0.8 * level},
                common | {"model": "network", "epochs": 5, "train_accuracy": 0.3, "test_accuracy": 0.2},
                common | {"model": "linear", "epochs": 0, "train_accuracy": 1 - 0.6 * level, "test_accuracy": 0.1},
            ]
    noise = rows[0] | {"pixels": "random"}
    return pd.DataFrame([*rows, noise, noise | {"repeat": 1}])


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_accuracy_is_that_of_the_longest_training_on_true_pixels_over_the_measured_share_of_wrong_labels(accuracy):
    figure = motivation.accuracy_by_corruption(accuracy)
    table = figure.table.pivot(index="wrong", columns="line", values="mean")
    assert table.index.tolist() == pytest.approx([0, 0.45, 0.9])
    names = motivation.LINES
    assert table[names["network", "train_accuracy"]].tolist() == [1, 1, 1]
    assert table[names["network", "test_accuracy"]].tolist() == pytest.approx([0.9, 0.5, 0.1])
    assert table[names["linear", "train_accuracy"]].tolist() == pytest.approx([1, 0.7, 0.4])
    assert drawn(figure).startswith(b"\x89PNG")


def test_error_bars_reach_two_standard_errors_to_each_side(accuracy):
    accuracy.loc[(accuracy.model == "linear") & (accuracy.repeat == 1), "train_accuracy"] += 0.1
    table = motivation.accuracy_by_corruption(accuracy).table
    linear = table[table.line == motivation.LINES["linear", "train_accuracy"]]
    assert (linear.high - linear["mean"]).tolist() == pytest.approx([0.1] * 3)  # deviations of 0.05: error 0.05


def test_learning_curves_hold_every_training_and_leave_the_linear_model_out(accuracy):
    figure = motivation.learning_curves(accuracy, 0.99)
    table = figure.table.set_index(["task", "epochs"])["mean"]
    assert table.to_dict() == {
        ("none", 5): 0.3,
        ("none", 50): 1.0,
        ("50%", 5): 0.3,
        ("50%", 50): 1.0,
        ("100%", 5): 0.3,
        ("100%", 50): 1.0,
        ("random pixels", 50): 1.0,
    }
    assert drawn(figure) != drawn(motivation.learning_curves(accuracy, 0.5))


def test_memorization_is_the_gap_and_is_left_out_where_no_such_label_exists(accuracy):
    table = motivation.memorization_by_label(accuracy).table.set_index(["part", "corruption"])["mean"]
    right, wrong = motivation.PARTS["right"], motivation.PARTS["wrong"]
    assert table[right].to_dict() == pytest.approx({0.0: 0.95, 0.5: 0.45})
    assert table[wrong].to_dict() == pytest.approx({0.5: 0.9, 1.0: 0.9})


def test_label_examples_show_true_and_random_labels_of_fitted_digits(digits):
    member = np.arange(digits.n) % 2 == 1
    labels = np.stack([digits.y_train, (digits.y_train + 3) % 10])
    table = motivation.label_examples(Task(digits, labels, member), 5).table
    assert table.example.unique().tolist() == [1, 3, 5, 7, 9]
    shown = table.pivot(index="example", columns="row", values="label")
    assert ((shown["true label"] + 3) % 10 == shown["random label"]).all()


def test_the_privacy_figure_holds_the_bounds_and_simulations_that_lie_on_them():
    figure = motivation.privacy_bound(delta=1e-5, most=4.0, classes=10, measured=0.9, trials=4_000)
    curve = figure.table[figure.table.curve == "bound"]
    assert curve.mem.to_numpy() == pytest.approx(privacy.memorization_bound(curve.epsilon, 1e-5))
    simulated = figure.table[figure.table.curve == "simulated"]
    distance = np.abs(simulated.mem - privacy.memorization_bound(simulated.epsilon))
    assert (distance < 2 * (simulated.high - simulated.low) / 2).all()
    assert figure.table.mem.max() <= 1
    assert drawn(figure) != drawn(motivation.privacy_bound(1e-5, 4.0, 10, 0.5, 4_000))


def test_the_published_table_is_that_of_the_ledger():
    ledger = claims.load(ROOT / "claims.yaml")
    table = motivation.published_table(ledger)
    values = {claim.id: claim.published for claim in ledger.claims}
    assert table["train accuracy (%)"].tolist() == list(values["random-labels-fitted-by-every-network"].values)
    assert table["test accuracy (%)"].tolist() == list(values["random-labels-chance-for-every-network"].values)
    assert table.index[0] == "Inception"
