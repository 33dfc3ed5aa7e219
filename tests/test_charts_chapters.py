"""Figures of the chapters on case studies and layer localization show what their tables hold, and move with thresholds."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import case_studies, layer_localization


@pytest.fixture
def memorization():
    mem = np.concatenate([np.zeros(900), np.linspace(0, 1, 100)])
    columns = {"index": np.arange(1000), "label": np.arange(1000) % 10, "mem": mem, "std_error": 0.01}
    return pd.DataFrame(columns | {"in_accuracy": 1.0, "out_accuracy": 1 - mem})


@pytest.fixture
def chosen(digits):
    test = int(np.flatnonzero(digits.y_test == 4)[0])
    fours = np.flatnonzero(digits.y_train == 4)[:3]
    return pd.DataFrame({"train": fours, "test": test, "infl": [0.5, 0.3, 0.2], "mem": 0.9, "same_class": True})


def curve() -> pd.DataFrame:
    rows = [("memorized", 0.5, 20, 0.98, 0.90), ("random", np.nan, 0, 1.0, 0.97), ("random", np.nan, 20, 0.98, 0.96),
            ("random", np.nan, 300, 0.7, 0.92)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["kind", "threshold", "removed", "remaining", "accuracy"])
    return frame.assign(std=0.01, std_error=0.001, drop=0.97 - frame.accuracy, drop_std_error=0.001)


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_histogram_counts_every_example_once(memorization):
    table = case_studies.memorization_histogram(memorization, 0.25).table
    assert table["count"].sum() == 1000
    assert table["count"].iloc[0] >= 900


def test_thresholds_move_the_figures(memorization):
    for figure in (case_studies.memorization_histogram, case_studies.memorization_ranked):
        assert drawn(figure(memorization, 0.25)) != drawn(figure(memorization, 0.6))


def test_strip_shows_the_nearest_example_of_the_class_or_leaves_a_gap(memorization, digits):
    frame = memorization.assign(label=digits.y_train)
    table = case_studies.memorized_digits(frame, digits).table
    for row in table.itertuples():
        of_class = frame[frame.label == int(row[1])]
        assert abs(frame.mem[row.index] - row.level) == pytest.approx((of_class.mem - row.level).abs().min())
    none = case_studies.memorized_digits(frame.assign(mem=0.0), digits).table
    assert set(none.level) == {0.0}


def test_gallery_shows_every_influencer_and_classmates_that_are_none(chosen, digits):
    table = case_studies.pair_gallery(chosen, digits, count=4, seed=0).table
    assert table.index[table.column.str.startswith("influencer")].size == 3
    others = table["index"][table.column.str.startswith("random")]
    assert (digits.y_train[others] == 4).all()
    assert not set(others) & set(chosen.train)
    again = case_studies.pair_gallery(chosen, digits, count=4, seed=1).table
    assert not again.equals(table)


def test_figures_of_an_empty_selection_can_be_drawn(chosen, digits):
    nothing = chosen[:0]
    tests = pd.DataFrame({"test": [0], "drop": [0.0], "std_error": [0.0], "with_all": [1.0], "without": [1.0]})
    figures = (case_studies.pair_gallery(nothing, digits, 4, 0), case_studies.predicted_loss(tests, nothing),
               case_studies.influence_histogram(nothing, nothing, 0.15, 0.05))  # fmt: skip
    for figure in figures:
        assert drawn(figure).startswith(b"\x89PNG")


def test_removal_curve_sets_random_sets_of_the_same_size_under_each_threshold():
    table = case_studies.removal_curve(curve()).table
    assert table.set_index("kind").removed.to_dict() == {"memorized": 20, "random": 20}
    assert (table.threshold == 0.5).all()


def test_influencers_stand_beside_the_curves_with_their_own_loss():
    table = case_studies.worth_in_random_examples(curve(), {"count": 7, "drop": {"value": 0.05, "std_error": 0.01}}).table
    point = table[table.kind == "influencers"].iloc[0]
    assert (point.removed, point["drop"], point.drop_low) == (7, 0.05, pytest.approx(0.03))


def test_predicted_loss_adds_the_influences_of_a_test(chosen):
    tests = pd.DataFrame({"test": np.arange(797), "drop": 0.4, "std_error": 0.1, "with_all": 0.9, "without": 0.5})
    table = case_studies.predicted_loss(tests, chosen).table
    assert table["sum"].tolist() == pytest.approx([1.0])


def test_counts_above_a_threshold_are_those_of_the_table():
    examples = pd.DataFrame({"full": [0.0, 0.3, 0.9, 1.0], "linear": [0.0, 0.0, 0.25, np.nan]})
    table = layer_localization.memorized_above(examples, 0.25).table.set_index(["models", "threshold"]).examples
    assert table[layer_localization.FULL, 0.25] == 3
    assert table[layer_localization.FROZEN, 0.25] == 1
    assert table[layer_localization.FULL, 1.0] == 1


def test_heads_that_still_memorize_are_shown_in_order(digits):
    linear = np.linspace(0, 1, 1000)
    columns = {"index": np.arange(1000), "label": digits.y_train, "full": 1.0, "linear": linear}
    table = layer_localization.still_memorized(pd.DataFrame(columns), digits, 3).table
    assert table["index"].tolist() == [999, 998, 997]
    assert table["class"].tolist() == [str(label) for label in digits.y_train[[999, 998, 997]]]
