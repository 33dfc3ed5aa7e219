"""Figures of the page on long tails in data show what their tables hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import charts, params
from study.charts import tails

ROOT = Path(__file__).parents[1]


def drawn(figure: charts.Figure) -> bytes:
    return charts.raster(charts.specification(figure))


def growth() -> pd.DataFrame:
    rows = [
        {"case": case, "title": case, "control": False, "N": n, "n": n, "n_tau1": 0.5, "cost": cost}
        for case, cost in (("zipf", 0.1), ("fixed", 1e-9))
        for n in (100, 1000)
    ]
    return pd.DataFrame(rows).assign(n_tau1_se=0.01, cost_se=0.001, share=0.2, share_se=0.01)


def prices() -> pd.DataFrame:
    frame = pd.DataFrame({"count": [1, 2, 3], "points": [9, 4, 0], "measured": [0.5, 1.5, np.nan], "measured_se": 0.1})
    frame = frame.assign(fitted=[0.6, 1.4, 2.4], fitted_se=0.0, good_turing=[0.5, np.nan, 2.0], good_turing_se=0.0)
    frame = frame.assign(naive=[1.0, 2.0, 3.0], naive_se=0.0, n=50)
    return pd.concat([frame.assign(data=name, side=side) for name in ("digits", "mnist") for side in (4, 6)])


def worlds() -> pd.DataFrame:
    rows = [{"data": name, "side": side, "n": 50, "again": side / 100} for name in ("digits", "mnist") for side in (4, 6)]
    return pd.DataFrame(rows).assign(again_se=0.01, predicted_again=0.05, predicted_again_se=0.0, excess=0.02, excess_se=0.0)


def mixtures() -> pd.DataFrame:
    rows = [{"learner": name, "noise": noise} for noise in (0.0, 1.0) for name in ("1-NN", "network")]
    frame = pd.DataFrame(rows).assign(bound=0.01, both=0.03, expected=0.06, excess=0.061, excess_se=0.002, discrete=0.04)
    return frame.assign(**{"lambda": [np.nan, 0.9, np.nan, 0.2], "lambda_se": 0.05, "agreement": 0.8, "agreement_se": 0.01})


def law() -> pd.DataFrame:
    frame = pd.DataFrame({"count": [1, 2], "examples": [20, 10], "mem": [0.9, 0.4], "mem_se": [0.01, 0.02]})
    return frame.assign(predicted=[0.9, 0.27], setting="longtail-mlp", data="longtail")


def keyed(frame: pd.DataFrame) -> pd.DataFrame:
    parts = [
        frame.assign(setting=f"{name}-mlp", data=name, space=space, scope=scope, linkage="average", clusters=count)
        for name in ("digits", "mnist")
        for space in tails.SPACES
        for scope in tails.SCOPES
        for count in (2, 4)
    ]
    return pd.concat(parts, ignore_index=True)


def agreement() -> pd.DataFrame:
    row = pd.DataFrame({"auroc": [0.9], "auroc_se": 0.02, "null": 0.5, "null_low": 0.45, "null_high": 0.55})
    truth = keyed(row).iloc[:1].assign(space="truth", linkage="known", clusters=0)
    return pd.concat([keyed(row), truth], ignore_index=True)


def bands() -> pd.DataFrame:
    frame = pd.DataFrame({"band": [1, 2], "examples": 5, "others": [0.1, 0.3], "share": [0.4, 0.0], "share_se": [0.1, 0.0]})
    return keyed(frame.assign(null=0.2, null_low=0.1, null_high=0.3))


def kinds() -> pd.DataFrame:
    frame = pd.DataFrame([{"memorized": m, "kind": kind} for m in (True, False) for kind in tails.KINDS])
    return keyed(frame.assign(examples=8, share=0.25, share_se=0.01))


def test_prices_by_size_leave_out_what_has_no_cost_and_carry_the_closed_form():
    figure = tails.price_by_size(growth())
    assert set(figure.table.case) == {"zipf"}
    assert figure.table.zipf_limit.is_monotonic_decreasing
    assert drawn(figure) != drawn(tails.price_by_size(growth().assign(n_tau1=0.7)))


def test_a_price_list_has_the_counts_that_were_measured():
    figure = tails.price_lists(prices(), 6)
    assert set(figure.table["count"]) == {1, 2} and set(figure.table.data) == {"digits", "mnist"}
    assert figure.table.groupby("kind")["count"].count().to_dict() == {
        "measured": 4,
        "fitted prior": 4,
        "sample frequency": 4,
        "Good's rule": 2,
    }
    assert drawn(figure).startswith(b"\x89PNG")


def test_codes_that_were_not_made_are_an_error_that_names_those_that_were():
    with pytest.raises(ValueError, match="no codes of 5 cells a side; there are: 4, 6"):
        tails.price_lists(prices(), 5)


def test_coarseness_sets_measured_beside_predicted_by_number_of_cells():
    figure = tails.coarseness(worlds())
    assert len(figure.table) == 12
    assert drawn(figure) != drawn(tails.coarseness(worlds().assign(excess=0.2)))


def test_parts_of_a_loss_add_up_to_what_tau_makes_of_it():
    figure = tails.mixture_costs(mixtures())
    sums = figure.table.groupby(["learner", "noise"]).value.sum()
    np.testing.assert_allclose(sums, 0.06)
    assert drawn(figure).startswith(b"\x89PNG")


def test_learners_that_misfit_nothing_have_no_line_of_lambda():
    table = tails.coupling(mixtures()).table
    assert set(table[table.kind.str.contains("misfitted")].learner) == {"network"}
    assert set(table[table.kind == "all vectors"].learner) == {"1-NN", "network"}


def test_the_law_is_drawn_beside_the_measurement():
    figure = tails.law(law(), 1000)
    assert figure.table.predicted.tolist() == [0.9, 0.27] and "30 examples" in figure.caption
    assert drawn(figure).startswith(b"\x89PNG")


def test_areas_show_every_space_at_every_number_of_clusters_and_not_the_truth():
    figure = tails.areas(agreement(), "average")
    assert len(figure.table) == 2 * len(tails.SPACES) * 2 * 2
    assert set(figure.table.space) == set(tails.SPACES)
    assert drawn(figure) != drawn(tails.areas(agreement().assign(auroc=0.5), "average"))


def test_bands_and_kinds_show_one_cut_of_the_tree():
    assert len(tails.bands(bands(), "average", 4).table) == 2 * 2 * len(tails.SPACES)
    figure = tails.kinds(kinds()[lambda t: t.scope == "blind"], "average", 4)
    assert figure.table.groupby(["data", "memorized"]).share.sum().eq(1).all()
    assert drawn(figure).startswith(b"\x89PNG")


def test_the_page_shows_what_the_stages_compute():
    study = params.load(ROOT / "params.yaml")
    shown = study.chapter("tails")
    assert shown["shown_side"] in study.tails.measured.sides
    assert shown["linkage"] in study.subpopulations.linkages and shown["clusters"] in study.subpopulations.clusters
    assert {"longtail-mlp", "digits-mlp"} <= set(study.subpopulations.settings)
