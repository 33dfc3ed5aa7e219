"""Figures of the pages on consistency and on the published pairs show what their tables hold, also where that is nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import charts, params
from study.case_studies import published as stage
from study.charts import consistency, published

LEARNERS = ("toy-net", "toy-net-repeat", "toy-rule")
SIMILARITY = {"itself": 0.9, "repeat": 0.88, "other": 0.3}


def kind_of(a: str, b: str) -> str:
    return "itself" if a == b else "repeat" if "rule" not in a + b else "other"


def curves() -> pd.DataFrame:
    couples = [(a, b) for k, a in enumerate(LEARNERS) for b in LEARNERS[k:]]
    grid = [("memorization", 0.25, 40), ("memorization", 0.5, 20), ("influence", 0.15, 12), ("influence", 0.5, 2)]
    rows = [
        {"first": a, "second": b, "kind": kind_of(a, b), "measure": measure, "threshold": threshold, "size_first": size}
        for a, b in couples
        for measure, threshold, size in grid
    ]
    frame = pd.DataFrame(rows)
    frame["jaccard"] = frame.kind.map(SIMILARITY)
    fixed = {"jaccard_se": 0.02, "difference": 0.2, "difference_se": 0.01, "jaccard_shuffled": 0.03}
    return frame.assign(**fixed, difference_shuffled=0.6, size_second=frame.size_first, h=50, data="toy")


def agreement() -> pd.DataFrame:
    frame = curves().drop_duplicates(["first", "second"])[["first", "second", "kind", "h", "data"]]
    return frame.assign(accuracy_gap=np.where(frame.kind == "other", 0.02, 0.0))


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def test_curves_set_the_first_learner_against_the_others_between_ceiling_and_floor():
    figure = consistency.curves(curves(), "toy", "jaccard")
    at = figure.table[(figure.table.measure == "memorization") & (figure.table.threshold == 0.25)]
    values = at.set_index("line").value.to_dict()
    assert values == {
        consistency.ITSELF: 0.9, consistency.REPEAT: 0.88, "rule": 0.3, consistency.SHUFFLED: pytest.approx(0.03)
    }  # fmt: skip
    assert drawn(figure) != drawn(consistency.curves(curves(), "toy", "difference"))


def test_a_similarity_of_very_few_items_is_not_drawn():
    table = consistency.curves(curves(), "toy", "jaccard").table
    assert set(table[table.measure == "influence"].threshold) == {0.15}
    nothing = consistency.curves(curves().assign(size_first=0, size_second=0), "toy", "jaccard")
    assert nothing.table.empty and drawn(nothing).startswith(b"\x89PNG")


def test_the_matrix_is_symmetric_and_moves_with_the_thresholds():
    frame = curves()
    frame.loc[(frame.measure == "memorization") & (frame.threshold == 0.5), "jaccard"] = 0.1
    figure = consistency.matrix(frame, "toy", 0.25, 0.15)
    cells = figure.table[figure.table.measure == "memorization"].pivot(index="row", columns="column", values="jaccard")
    assert cells.shape == (3, 3) and np.array_equal(cells, cells.T)
    assert cells.loc["net", "rule"] == 0.3 and cells.loc["net", "net"] == 0.9
    assert drawn(figure) != drawn(consistency.matrix(frame, "toy", 0.5, 0.15))


def test_what_was_not_compared_is_an_error_that_names_what_was():
    with pytest.raises(ValueError, match="no learners of 'moon' were compared; compared: toy"):
        consistency.curves(curves(), "moon", "jaccard")
    with pytest.raises(ValueError, match=r"threshold of influence of 0\.2; computed: 0\.15, 0\.5"):
        consistency.matrix(curves(), "toy", 0.25, 0.2)


def test_every_two_learners_are_one_point_of_accuracy():
    figure = consistency.accuracy_gap(curves(), agreement(), 0.25)
    assert len(figure.table) == 6
    assert set(figure.table.accuracy_gap[figure.table.kind == "other"]) == {0.02}
    assert drawn(figure).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def pairs():
    found, listed, _ = stage.made_up(0)
    return stage.with_kind(found["CIFAR-100"], listed), listed


def test_histograms_of_both_lists_show_every_pair(pairs):
    frames = [stage.histograms(pairs[0]).assign(data=name) for name in stage.SIZES]
    figure = published.released_histograms(pd.concat(frames, ignore_index=True), "influence")
    assert figure.table.groupby("data")["count"].sum().to_dict() == dict.fromkeys(stage.SIZES, len(pairs[0]))
    assert drawn(figure) != drawn(published.released_histograms(pd.concat(frames, ignore_index=True), "memorization"))


def test_published_bars_are_shares_of_each_training_set():
    bars = pd.DataFrame({"low": [0.0, 0.5] * 2, "high": [0.5, 1.0] * 2, "count": [3, 1, 1, 1], "data": list("aabb")})
    figure = published.memorization_bars(bars)
    assert figure.table.share.tolist() == [0.75, 0.25, 0.5, 0.5]
    assert drawn(figure).startswith(b"\x89PNG")


def test_duplicates_are_stacked_to_their_share_and_bands_without_pairs_left_out(pairs):
    table = stage.duplicates_by_band(*pairs, (0.0, 0.15, 0.3, 1.0))
    figure = published.duplicates(table)
    assert figure.table.pairs.sum() == len(pairs[0]) and len(figure.table) == 2
    kinds = figure.table[list(published.KINDS)].sum(axis=1)
    assert (kinds / figure.table.pairs).tolist() == pytest.approx(figure.table.share.tolist())
    assert drawn(figure).startswith(b"\x89PNG")


def transfer_table() -> pd.DataFrame:
    numbers = {"pairs": [9, 5, 4], "published": [0.3, 0.2, 0.5], "ours": [0.2, 0.1, 0.4], "low": [0.15, 0.15, 0.3]}
    frame = pd.DataFrame({"setting": "net", "group": ["all", "band", "band"], "high": [1.0, 0.3, 1.0], **numbers})
    return frame.assign(trials=48, ours_se=0.02, control=0.0, control_se=0.01)


def test_transfer_shows_a_band_a_point_and_says_where_nothing_was_run():
    figure = published.transfer(transfer_table())
    assert figure.table.ours.tolist() == [0.1, 0.4]
    assert "48 trials of " in figure.caption
    empty = published.transfer(transfer_table()[:0])
    assert "published.settings" in empty.caption
    assert drawn(empty) != drawn(figure)


def test_the_thresholds_of_the_page_are_among_those_that_the_stage_computes():
    study = params.load(Path(__file__).parents[1] / "params.yaml")
    page, rules = study.chapter("consistency"), study.consistency
    assert page["mem_threshold"] in rules.mem_thresholds and page["infl_threshold"] in rules.infl_thresholds
    assert study.chapter("published")["strong_from"] in study.published.bands
