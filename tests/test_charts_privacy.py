"""Figures of the chapter on privacy show what the tables hold: nothing invented or left out, bars where they belong."""

import numpy as np
import pandas as pd
import pytest

from study import charts
from study.charts import privacy
from study.theory import privacy as theory


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


CONDITIONS = [("clipped", np.inf, 0.0), ("plain", np.inf, 0.0), ("private", 1.0, 5.0), ("private", 8.0, 1.0)]


@pytest.fixture
def training() -> pd.DataFrame:
    rows = []
    for data in ("digits", "longtail"):
        for place, (kind, epsilon, noise) in enumerate(CONDITIONS):
            row = {"data": data, "training": kind, "epsilon": epsilon, "noise": noise, "models": 30, "tail_size": 12}
            row |= {"bound": 0.5, "usual": 2.0, "total_variation": 0.2}
            for shift, name in enumerate(("mem", "selected", "head_test", "tail_test", "tail_in", "tail_out")):
                row |= {name: 0.1 * place + 0.01 * shift + 0.05 * (data == "digits"), f"{name}_se": 0.02}
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture
def worst() -> pd.DataFrame:
    columns = {"training": "private", "epsilon": [8.0, 1.0], "mem": [0.4, 0.1], "mem_se": 0.03}
    return pd.DataFrame(columns)


def test_responses_stand_as_measured_on_the_curve_they_should_meet():
    epsilon = np.array([0.5, 2.0])
    bound = theory.memorization_bound(epsilon)
    table = pd.DataFrame({"epsilon": epsilon, "delta": 0.0, "mem": bound, "mem_se": 0.01, "bound": bound})
    figure = privacy.response(table, 500)
    pd.testing.assert_frame_equal(figure.table, table)
    assert "500 simulated runs" in figure.caption
    assert drawn(figure) != drawn(privacy.response(table.assign(mem=bound / 2), 500))


def test_trainings_are_ordered_from_ordinary_to_most_private_and_keep_their_numbers(training, worst):
    figure = privacy.memorization(training, worst, "longtail")
    table = figure.table.set_index(["quantity", "condition"]).value
    assert table["tail, mean"].to_dict() == pytest.approx({"plain": 0.1, "clipped": 0.0, "ε = 8": 0.3, "ε = 1": 0.2})
    assert list(table["tail, mean"].index) == ["plain", "clipped", "ε = 8", "ε = 1"]
    assert table["example built to be remembered"].to_dict() == {"ε = 8": 0.4, "ε = 1": 0.1}
    assert table["total variation"].to_dict() == {"ε = 8": 0.2, "ε = 1": 0.2}
    assert drawn(figure) != drawn(privacy.memorization(training, worst, "digits"))


def test_an_unknown_data_set_is_refused_with_the_valid_names(training, worst):
    with pytest.raises(ValueError, match="unknown data set 'mnist'; valid: digits, longtail"):
        privacy.memorization(training, worst, "mnist")


def test_who_pays_holds_every_accuracy_of_every_training(training):
    figure = privacy.who_pays(training)
    table = figure.table.set_index(["data", "quantity", "condition"]).value
    assert len(table) == 2 * 4 * len(CONDITIONS)
    assert table["digits", "head, new examples", "ε = 8"] == pytest.approx(0.37)
    assert "30 networks a training; long-tailed mixture: " in figure.caption
    assert drawn(figure).startswith(b"\x89PNG")


def test_bars_reach_two_standard_errors_to_each_side():
    row = privacy._with_bars(pd.DataFrame({"value": [0.5], "value_se": [0.1]}), "value").iloc[0]
    assert (row.value_low, row.value_high) == (0.3, 0.7)


def test_every_example_of_the_smallest_epsilon_is_shown_with_its_simultaneous_limit(training):
    columns = {"data": "digits", "training": "private", "index": range(4), "mem": [0.2, -0.1, 0.4, np.nan], "std_error": 0.1}
    examples = pd.DataFrame(columns | {"n_in": 20, "n_out": 20})
    examples = pd.concat([examples.assign(epsilon=8.0), examples.assign(epsilon=1.0)], ignore_index=True)
    figure = privacy.every_example(examples, training, 6, 0.05)
    assert figure.table["index"].tolist() == [1, 0, 2]
    reach = np.sqrt(np.log(6 / 0.05) * 0.1 / 2)
    assert (figure.table.mem - figure.table.limit).tolist() == pytest.approx([reach] * 3)
    assert drawn(figure) != drawn(privacy.every_example(examples, training, 6, 0.5))


def test_copies_hold_both_bounds_and_both_measurements():
    rows = [
        {
            "training": training,
            "copies": c,
            "mem": 0.1 * c,
            "mem_se": 0.01,
            "group_bound": 0.3 * c,
            "total_variation": 0.2 * c,
        }
        for training in ("clipped", "private")
        for c in (1, 2)
    ]
    figure = privacy.copies(pd.DataFrame(rows).assign(models=9, group_epsilon=1.0))
    table = figure.table.set_index(["quantity", "copies"]).value
    assert len(table) == 8
    assert table["allowed by group privacy", 2] == 0.6
    assert table["measured, private", 2] == 0.2
    assert drawn(figure).startswith(b"\x89PNG")


def test_the_curve_of_guarantees_shows_every_point_and_marks_the_stated_one():
    columns = {"training": "ε = 1", "epsilon": [0.0, 0.5, 1.0], "delta": [0.1, 0.01, 1e-5], "stated": [False, False, True]}
    table = pd.DataFrame(columns)
    table["bound"] = [float(theory.memorization_bound(e, d)) for e, d in zip(table.epsilon, table.delta)]
    figure = privacy.along_profile(table)
    pd.testing.assert_frame_equal(figure.table, table)
    assert drawn(figure) != drawn(privacy.along_profile(table.assign(stated=[True, False, False])))
