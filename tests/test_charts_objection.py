"""Figures of the page on the objection show what their tables hold."""

import pandas as pd
import pytest

from study import charts
from study.case_studies.leakage import AT_RANDOM, NEAR_ANY, NEAR_REMOVED
from study.case_studies.refits import EVERYTHING, INFLUENCERS, OWN, control
from study.case_studies.restoration import LIKE, STRANGERS
from study.charts import objection


def drawn(figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_a_training_stands_with_its_accuracy_and_the_control_is_that_of_the_influencers():
    fixed = {
        "removed": 23,
        "accuracy": 0.976,
        "drop_std_error": 0.001,
        "control_drop": 0.002,
        "control_drop_std_error": 0.0005,
    }
    rows = [
        {"learner": learner, "kind": kind, "tests": tests, "drop": 0.01} | fixed
        for learner in ("15 epochs", "60 epochs, weight decay 0.001")
        for kind in (INFLUENCERS, OWN)
        for tests in ("all", "affected")
    ]
    figure = objection.other_trainings(pd.DataFrame(rows), "digits", "n = 7.")
    assert figure.table.training.unique().tolist() == ["15 epochs (97.6 %)", "60 epochs + decay 0.001 (97.6 %)"]
    assert figure.table.groupby("kind", sort=False)["drop"].mean().to_dict() == pytest.approx(
        {INFLUENCERS: 0.01, OWN: 0.01, "the same, shuffled": 0.002}
    )
    assert len(figure.table) == 6, "tests in a pair are left out"
    assert figure.caption.endswith(" n = 7.")
    assert drawn(figure).startswith(b"\x89PNG")


def test_cleaned_tests_have_a_panel_for_each_data_set():
    rows = [(share, way, 0.5, 700, 30, 0.01, 0.001) for share in (0.0, 0.5) for way in (NEAR_REMOVED, NEAR_ANY, AT_RANDOM)]
    frame = pd.DataFrame(rows, columns=["share", "excluded", "limit", "tests", "affected", "excess", "std_error"])
    figure = objection.cleaned_tests({"digits": frame, "long tail": frame}, "n = 7.")
    assert figure.table.groupby("data").size().to_dict() == {"digits": 6, "long tail": 6}
    assert len(charts.specification(figure)["vconcat"]) == 2
    assert figure.caption.endswith(" n = 7.")
    assert drawn(figure).startswith(b"\x89PNG")


def test_what_is_put_back_is_shown_for_both_parts_of_the_tests():
    fixed = {"removed": 23, "accuracy": 0.9, "drop_std_error": 0.01, "recovered": 0.5}
    rows = [
        {"arm": arm, "tests": tests, "added": 23.0 * (arm in (LIKE, STRANGERS)), "drop": drop} | fixed
        for arm, drop in ((EVERYTHING, 0.0), (INFLUENCERS, 0.4), (control(INFLUENCERS), 0.01), (LIKE, 0.1), (STRANGERS, 0.3))
        for tests in ("all", "affected", "elsewhere")
    ]
    figure = objection.put_back(pd.DataFrame(rows), "digits", "n = 7.")
    assert set(figure.table.tests) == {"tests in a pair", "all other tests"}
    losses = figure.table.drop_duplicates("arm").set_index("arm")["drop"]
    assert losses["… and replaced by their like"] == 0.1 and losses["… and replaced by strangers"] == 0.3
    assert len(losses) == 4, "networks trained on everything lose nothing, by definition"
    assert figure.caption.endswith(" n = 7.")
    assert drawn(figure).startswith(b"\x89PNG")


def test_every_split_has_a_row_for_each_kind_of_removal():
    rows = [
        {"split": split, "fold": fold, "test_accuracy": 0.9, "memorized": 40, "pairs": 30, "mirrored": 1, "affected": 25}
        | {"influencers_excess": 0.01, "influencers_std_error": 0.001, "own_excess": 0.02, "own_std_error": 0.001}
        for split in ("at random", "by place")
        for fold in (0, 1)
    ]
    figure = objection.splits(pd.DataFrame(rows), "n = 7.")
    assert figure.table.split.nunique() == 4 and len(figure.table) == 8
    assert figure.table.groupby("kind").excess.mean().to_dict() == pytest.approx(
        {INFLUENCERS: 0.01, "memorized examples": 0.02}
    )
    assert figure.caption.endswith(" n = 7.")
    assert drawn(figure).startswith(b"\x89PNG")
