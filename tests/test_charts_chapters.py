"""Figures of the chapters on case studies and layer localization show what their tables hold, and move with thresholds."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from study import charts, claims, estimators, subsets
from study.charts import case_studies, comparison, layer_localization
from study.pictures import Pictures

LEDGER = claims.load(Path(__file__).parents[1] / "claims.yaml")
PUBLISHED = {claim.id: claim.published for claim in LEDGER.claims}
U_SHAPE = np.array([50, 6, 4, 3, 3, 3, 4, 5, 22])  # examples in nine equal bins


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


def seen(digits) -> Pictures:
    return Pictures(digits.classes, digits.y_train, digits.x_train, digits.x_test)


def unseen(digits) -> Pictures:
    return Pictures(digits.classes, digits.y_train, None, None, "no data")


def test_histogram_counts_every_example_once(memorization):
    table = case_studies.memorization_histogram(memorization, 0.25).table
    assert table["count"].sum() == 1000
    assert table["count"].iloc[0] >= 900


def test_thresholds_move_the_figures(memorization):
    for figure in (case_studies.memorization_histogram, case_studies.memorization_ranked):
        assert drawn(figure(memorization, 0.25)) != drawn(figure(memorization, 0.6))


def test_strip_shows_the_nearest_example_of_the_class_or_leaves_a_gap(memorization, digits):
    frame = memorization.assign(label=digits.y_train)
    table = case_studies.memorized_examples(frame, seen(digits), "strip", "digits").table
    for row in table.itertuples():
        of_class = frame[frame.label == int(row[1])]
        assert abs(frame.mem[row.index] - row.level) == pytest.approx((of_class.mem - row.level).abs().min())
    none = case_studies.memorized_examples(frame.assign(mem=0.0), seen(digits), "strip", "digits").table
    assert set(none.level) == {0.0}


def test_gallery_shows_every_influencer_and_classmates_that_are_none(chosen, digits):
    table = case_studies.pair_gallery(chosen, seen(digits), count=4, seed=0).table
    assert table.index[table.column.str.startswith("influencer")].size == 3
    others = table["index"][table.column.str.startswith("random")]
    assert (digits.y_train[others] == 4).all()
    assert not set(others) & set(chosen.train)
    again = case_studies.pair_gallery(chosen, seen(digits), count=4, seed=1).table
    assert not again.equals(table)


def test_where_pictures_are_missing_their_places_are_named(chosen, digits, memorization):
    frame = memorization.assign(label=digits.y_train)
    strip = case_studies.memorized_examples(frame, unseen(digits), "strip", "digits", classes=(3, 4))
    gallery = case_studies.pair_gallery(chosen, unseen(digits), count=4, seed=0)
    assert set(strip.table["class"]) == {"3", "4"}
    for figure in (strip, gallery):
        assert "could not be had" in figure.caption and drawn(figure).startswith(b"\x89PNG")
    whole = case_studies.pair_gallery(chosen, seen(digits), count=4, seed=0)
    assert gallery.table.equals(whole.table) and "could not" not in whole.caption
    places = {case_studies.drawn(None, index, split) for index in (1, 2) for split in ("train", "test")}
    assert len(places) == 4


def test_pictures_of_any_kind_are_drawn_large_enough():
    for x in (np.zeros((2, 8, 8), np.float32), np.zeros((2, 28, 28), np.uint8), np.zeros((2, 32, 32, 3), np.uint8)):
        image = Image.open(io.BytesIO(base64.b64decode(case_studies.drawn(x, 1, "train").split(",")[1])))
        assert min(image.size) >= 56
        assert np.asarray(image.convert("L")).max() == (0 if x.ndim == 4 else 255)


def test_a_gallery_is_cut_to_the_strongest_influencers(chosen, digits):
    table = case_studies.pair_gallery(chosen, seen(digits), count=4, seed=0, influencers=1).table
    assert set(table.column[table.column.str.startswith("influencer")]) == {"influencer 1"}


def test_figures_of_an_empty_selection_can_be_drawn(chosen, digits):
    nothing = chosen[:0]
    tests = pd.DataFrame({"test": [0], "drop": [0.0], "std_error": [0.0], "with_all": [1.0], "without": [1.0]})
    figures = (case_studies.pair_gallery(nothing, seen(digits), 4, 0), case_studies.predicted_loss(tests, nothing),
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


def test_the_strongest_pairs_of_each_sign_are_ranked_by_their_size():
    infl = np.array([0.5, -0.4, 0.1, 0.3, -0.2, 0.9])
    columns = {"train": np.arange(6), "test": 0, "infl": infl, "std_error": 0.05, "mem": 0.9}
    figure = case_studies.influence_ranked(pd.DataFrame(columns), 0.15, 2, floor=0.2, shown=2)
    ranked = figure.table.set_index(["sign", "rank"]).infl
    assert ranked["positive"].to_dict() == {1: 0.9, 2: 0.5}
    assert ranked["negative, mirrored"].to_dict() == {1: -0.4, 2: -0.2}
    assert drawn(figure) != drawn(case_studies.influence_ranked(pd.DataFrame(columns), 0.15, 1, floor=0.2, shown=2))


def memorized_as(histogram: np.ndarray, trials: int, n: int = 3000) -> pd.DataFrame:
    """Estimates from real subsets of examples whose memorization follows ``histogram``, right on all that was trained on."""
    rng = np.random.default_rng(1)
    bins = rng.choice(len(histogram), p=histogram / histogram.sum(), size=n)
    planted = (bins + rng.random(n)) / len(histogram)
    members = subsets.members(0, range(trials), n, 0.7)
    return estimators.estimate(members, rng.random(members.shape) < np.where(members, 1.0, 1 - planted)).memorization


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return np.abs(one - other).sum() / 2


@pytest.mark.parametrize("trials", [12, 48])
def test_what_few_trials_make_of_a_histogram_is_foretold_and_differs_from_it(trials):
    estimated = memorized_as(U_SHAPE, trials)
    seen = case_studies.equal_bins(estimated.mem.dropna(), 9)
    foretold = case_studies.equal_bins(case_studies.as_measured(U_SHAPE, estimated, seed=0), 9)
    assert distance(seen, foretold) < 0.03
    assert distance(seen, U_SHAPE / U_SHAPE.sum()) > 0.06
    assert distance(seen, case_studies.equal_bins(case_studies.as_measured(np.ones(9), estimated, 0), 9)) > 0.2


def test_many_trials_show_a_histogram_as_it_is():
    many = pd.DataFrame({"mem": np.zeros(500), "n_in": 70_000, "n_out": 30_000, "in_accuracy": 1.0})
    shown = case_studies.equal_bins(case_studies.as_measured(U_SHAPE, many, seed=0), 9)
    assert distance(shown, U_SHAPE / U_SHAPE.sum()) < 0.02


def test_an_example_without_an_estimate_lends_no_trials():
    frame = pd.DataFrame({"mem": [0.5, np.nan], "n_in": [7, 10], "n_out": [3, 0], "in_accuracy": [1.0, 0.9]})
    assert len(case_studies.as_measured(U_SHAPE, frame, seed=0, repeats=4)) == 4


def test_estimates_beyond_zero_and_one_count_in_the_outer_bins():
    assert case_studies.equal_bins(np.array([-0.3, 0.0, 0.49, 0.5, 1.0, 1.2]), 2).tolist() == [0.5, 0.5]


def test_the_published_histogram_stands_beside_ours_and_beside_what_our_trials_would_show():
    estimated = memorized_as(U_SHAPE, 20, 800)
    table = case_studies.published_histogram(estimated, U_SHAPE, 0, 0.1).table.set_index(["source", "low"])
    assert table.share.groupby("source").sum().tolist() == pytest.approx([1, 1, 1])
    assert table.share["published"].to_numpy() == pytest.approx(U_SHAPE / U_SHAPE.sum())
    first = estimated.std_error[estimated.mem < 1 / 9].mean()
    assert table.std_error["ours", 0.0] == pytest.approx(first)
    figures = [case_studies.published_histogram(estimated, U_SHAPE, 0, spread) for spread in (0.1, 0.2)]
    assert drawn(figures[0]) != drawn(figures[1])


def summary(**changes) -> dict:
    certain = {"value": 0.5, "std_error": 0.01}
    counts = dict.fromkeys(("count", "mirrored_count", "unique_tests", "single_influencer_tests", "unique_trains"), 1234)
    pairs = counts | {"null_count": 2.5, "null_memorized": 0.0, "false_discovery": certain, "share_of_tests": 0.1}
    accuracies = dict.fromkeys(("in_accuracy", "out_accuracy", "test_accuracy"), certain)
    sizes = {"n": 50_000, "n_test": 10_000, "trials": 48, "mean_std_error": 0.1, "memorized": {"count": 9, "share": 0.5}}
    return sizes | accuracies | {"pairs": pairs} | changes


def test_data_sets_stand_beside_what_the_ledger_says_was_published_of_them():
    table = comparison.side_by_side({"digits": summary(), "MNIST": summary(trials=4000), "CIFAR-100": summary()}, PUBLISHED)
    assert list(table) == ["digits", "MNIST", "MNIST, published", "CIFAR-100", "CIFAR-100, published"]
    assert table.loc["trials"].tolist() == ["48", "4,000", "–", "48", "–"]
    assert table.loc["pairs"].tolist() == ["1,234", "1,234", "35", "1,234", "1,015"]
    assert table["CIFAR-100, published"]["examples in a pair"] == "964"
    assert table["CIFAR-100, published"]["accuracy, test"] == "72.3 ± 0.3\N{NO-BREAK SPACE}%"


def test_what_is_not_identified_is_said_so_in_the_comparison():
    unknown = summary()["pairs"] | {"count": 0, "false_discovery": {"value": None, "std_error": None}}
    table = comparison.side_by_side({"digits": summary(pairs=unknown)}, PUBLISHED)
    assert table.digits["pairs that chance explains"].startswith("not identified")


def test_the_published_histogram_of_the_ledger_holds_all_examples_of_cifar_100():
    assert sum(PUBLISHED["memorization-histogram-u-shaped"].values) == 50_000


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


def test_what_stays_memorized_is_a_share_of_what_was(memorization):
    rows = [("again", 0, 0, 36), ("all", 0, 1, 10), ("all", 1, 1, 14), ("untrained", 0, 1, 38)]
    moves = pd.DataFrame(rows, columns=["kind", "run", "frozen", "kept"]).assign(started=40, new=3)
    figure = layer_localization.still_memorized_above({"toy": moves, "other": moves})
    assert figure.table.groupby("kind").share.mean().to_dict() == {"again": 0.9, "all": 0.3, "untrained": 0.95}
    assert drawn(figure).startswith(b"\x89PNG")


def test_full_networks_stand_beside_heads_and_pairs_of_chance_are_not_counted():
    rough = summary(mean_memorization={"value": 0.3, "std_error": 0.01})
    by_chance = rough | {"pairs": rough["pairs"] | {"false_discovery": {"value": 0.9, "std_error": 0.1}}}
    table = layer_localization.side_by_side({("toy", "full networks"): by_chance, ("toy", "linear heads"): rough})
    assert table.loc["pairs"].tolist() == ["too few trials", "1,234"]
    assert table["toy", "linear heads"]["accuracy, held out"] == "50.00%"
    assert table["toy", "full networks"]["memorized"] == "9"
