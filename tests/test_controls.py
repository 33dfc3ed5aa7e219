"""The controls that must stay empty: what is known of them beforehand, and that they fail where an effect is planted."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from study import charts, claims, estimation, estimators, params, subsets, tables
from study.case_studies import controls
from study.case_studies.controls import CONTROL, COUNTERPART, World
from study.charts import controls as figures
from study.estimators import estimate
from study.learners import NearestNeighbour
from study.params import Clusters

ROOT = Path(__file__).parents[1]
STUDY = params.load(ROOT / "params.yaml")
RULE = STUDY.estimate
NEIGHBOUR = NearestNeighbour(models_at_once=100)
SMALL = {
    "worlds": 2,
    "trials": 60,
    "fresh": 3,
    "classes": 3,
    "random_inputs": {"n": 20, "copy_noise": 0.05, "epochs": 2},
    "random_labels": {"n": 80, "epochs": 2, "labelings": 2},
    "nearest_neighbour": {"groups": 6, "each": 8, "dimension": 16, "noise": 0.02},
    "sub_populations": {"groups": 6, "each": 8, "dimension": 16, "noise": 0.02, "tail": 30, "epochs": 2},
}


def section(**changes) -> params.Controls:
    fields = STUDY.controls.model_dump() | SMALL
    return params.Controls.model_validate(fields | changes)


def world(small_setting, number: int = 0, **changes) -> World:
    chosen = section(**changes)
    each = chosen.trials + chosen.fresh
    setting = small_setting(learner={"batch_size": 10})
    return World(chosen, setting, RULE, number, range(number * each, (number + 1) * each))


@pytest.fixture
def planted(monkeypatch):
    """Predictions of 1,200 trials: examples 0 to 4 are right only if trained on, and so are their tests, 0 to 4."""
    masks = subsets.members(3, range(1200), 40, 0.7)
    right = np.ones_like(masks)
    right[:, :5] = masks[:, :5]
    labels = np.arange(40) % 2
    found = estimate(masks, right, right[:, :20], labels, labels[:20])
    monkeypatch.setattr(estimation, "of_setting", lambda name, setting: (found, 0))
    return found


def test_permuted_rows_lose_what_was_planted_and_the_rows_as_they_are_show_it(planted, small_setting):
    for number in range(2):
        rows = controls.permuted_rows(world(small_setting, number))
        assert rows[COUNTERPART]["memorized"] == rows[COUNTERPART]["pairs"] == 5
        assert rows[COUNTERPART]["trials"] == rows[CONTROL]["trials"] == 600
        assert rows[CONTROL]["memorized"] == 0
        assert abs(rows[CONTROL]["memorization"]) < 0.02 < rows[COUNTERPART]["memorization"]


def test_rows_that_are_not_permuted_would_be_noticed(planted, small_setting, monkeypatch):
    monkeypatch.setattr(estimators, "permuted", lambda estimates, draw: estimates)
    row = controls.permuted_rows(world(small_setting))[CONTROL]
    assert row["memorized"] == row["pairs"] == row["strong"] == 5


def test_pairs_under_permuted_rows_are_sought_among_examples_that_are_memorized():
    masks = subsets.members(4, range(200), 30, 0.7)
    blind, seeing = np.ones_like(masks), masks.copy()
    labels = np.zeros(30, dtype=int)
    unmemorized, memorized = (estimate(masks, right, masks, labels, labels) for right in (blind, seeing))
    assert controls.measure(unmemorized, RULE)["pairs"] == 0
    assert controls.measure(unmemorized, RULE, memorized_by=memorized)["pairs"] >= 30


def test_the_influence_summed_over_all_tests_and_examples_cannot_tell_use_from_no_use():
    """With subsets of one size, each example in as many of them, it is zero even where every example is needed."""
    masks = np.array([np.isin(np.arange(6), chosen) for chosen in combinations(range(6), 4)])
    found = estimate(masks, masks, masks, np.zeros(6, int), np.zeros(6, int))
    row = controls.measure(found, RULE)
    assert row["memorization"] == 1 and row["pairs"] == 6 and row["mirrored"] == 30
    assert row["summed"] == pytest.approx(0, abs=1e-12)


def test_random_inputs_have_nothing_in_common_but_with_their_copies():
    data = controls.orthogonal(section(), np.random.default_rng(0))
    n = data.n
    products = data.x_test @ data.x_train.T / controls.NORM**2
    assert np.abs(products[:n]).max() < 1e-5
    assert np.abs(data.x_train @ data.x_train.T / controls.NORM**2 - np.eye(n)).max() < 1e-5
    assert (products[n:].argmax(1) == np.arange(n)).all() and np.diag(products[n:]).min() > 0.9
    assert (data.y_test[n:] == data.y_train).all() and (data.y_test[:n] != data.y_train).any()


def test_random_inputs_are_memorized_and_used_by_their_copies_alone(small_setting):
    """The nearest-neighbour rule in place of the network: what is known of it holds exactly."""
    setting = world(small_setting, random_inputs={"n": 40, "copy_noise": 0.05, "epochs": 2}, trials=200)
    data = controls.orthogonal(setting.section, setting.draw())
    found = controls.trained(setting, NEIGHBOUR, data)
    rows = [controls.measure(controls.on_tests(found, tests), RULE) for tests in (slice(40), slice(40, None))]
    assert rows[0]["in_accuracy"] == 1 and rows[0]["memorization"] == rows[1]["memorization"] > 0.4
    lost = controls.losses(setting, NEIGHBOUR, data, np.ones(40, dtype=bool))
    assert lost.removed == 20
    assert lost.on(slice(40, None))["loss"] == pytest.approx(2 / 3, abs=0.25)
    assert abs(lost.on(slice(40))["loss"]) < lost.on(slice(40, None))["loss"] / 2
    assert rows[1]["pairs"] >= 20


def test_clusters_of_the_study_lie_apart_and_have_one_label_each():
    for chosen in (STUDY.controls.nearest_neighbour, STUDY.controls.sub_populations):
        counts = np.full(chosen.groups, chosen.each)
        data = controls.clusters(counts, counts, chosen, STUDY.controls.classes, np.random.default_rng(1))
        distance = cdist(data.x_train, data.x_train)
        alike = data.groups_train[:, None] == data.groups_train
        assert distance[alike].max() < distance[~alike].min()
        assert (np.bincount(data.groups_train) == chosen.each).all()
        assert (data.y_train == data.groups_train % STUDY.controls.classes).all()
        assert len(np.unique(data.y_train)) == STUDY.controls.classes


def test_nearest_neighbours_memorize_nothing_in_clusters_of_several_and_what_is_known_in_clusters_of_one(small_setting):
    rows = controls.separated_clusters(world(small_setting, trials=400))
    empty, full = rows[CONTROL], rows[COUNTERPART]
    assert empty["memorization"] == empty["memorized"] == empty["strong"] == empty["lowered"] == 0
    assert empty["n"] == full["n"] == 48
    assert full["memorization"] == pytest.approx(full["expected"], abs=0.03) and full["expected"] > 0.3
    assert full["pairs"] == pytest.approx(full["expected_pairs"], rel=0.15) and full["expected_pairs"] > 20


def test_clusters_of_two_would_be_noticed_in_place_of_clusters_of_several(small_setting):
    pairs = SMALL["nearest_neighbour"] | {"groups": 24, "each": 2}
    row = controls.separated_clusters(world(small_setting, trials=400, nearest_neighbour=pairs))[CONTROL]
    assert row["memorization"] == pytest.approx(row["expected"], abs=0.02) and row["expected"] > 0.1
    assert row["strong"] > 0


def test_no_subset_of_the_study_is_likely_to_miss_a_cluster():
    assert controls.lost_cluster(STUDY.controls, 0.7) < 1e-5
    assert controls.lost_cluster(section(nearest_neighbour=SMALL["nearest_neighbour"] | {"each": 2}), 0.7) > 1


def test_the_law_counts_subsets():
    """An example of a cluster of l is guessed if the 3 of the 5 others hold none of the l - 1 others; all are counted."""
    counts = np.array([1, 2, 3, 0])
    groups = np.repeat(np.arange(4), counts)
    alone = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        drawn = list(combinations(others, 3))
        alone.append(np.mean([all(groups[j] != groups[i] for j in chosen) for chosen in drawn]))
    assert controls.law(counts, 4, 3) == pytest.approx(0.75 * np.mean(alone))


def test_frequent_sub_populations_need_no_memory_and_rare_ones_do(small_setting):
    """By the law, and by the nearest-neighbour rule, which knows a cluster as soon as it saw a member."""
    chosen = Clusters(groups=6, each=8, dimension=32, noise=0.02)
    rare = np.random.default_rng(2).multinomial(48, np.full(60, 1 / 60))
    setting, found = world(small_setting, trials=400), {}
    for counts in (np.full(6, 8), rare):
        data = controls.clusters(counts, counts, chosen, 3, np.random.default_rng(3))
        mem = controls.measure(controls.trained(setting, NEIGHBOUR, data), RULE)["memorization"]
        found[counts.max()] = mem, controls.law(counts, 3, 34)
    (frequent, none), (single, some) = found.values()
    assert frequent == 0 and none < 1e-3
    assert some > 0.2 and single == pytest.approx(some, abs=0.08)


def test_a_removed_example_costs_the_test_that_needs_it_and_others_cost_nothing(small_setting):
    chosen = Clusters(groups=6, each=8, dimension=32, noise=0.02)
    counts = np.array([20, 20, 20, 1, 1, 1])
    data = controls.clusters(counts, np.ones(6, int), chosen, 3, np.random.default_rng(5))
    lost = controls.losses(world(small_setting, fresh=8), NEIGHBOUR, data, data.groups_train >= 3)
    nearest = cdist(data.x_test, data.x_train[:60]).argmin(1)
    wrong = data.y_train[nearest] != data.y_test
    assert lost.removed == 3 and wrong[3:].any() and not wrong[:3].any()
    assert (lost.memorized == wrong).all()
    assert lost.random.sum() < lost.memorized.sum()


def test_without_memorized_examples_a_loss_is_not_identified_and_no_zero(small_setting):
    data = controls.orthogonal(section(), np.random.default_rng(0))
    row = controls.losses(world(small_setting), NEIGHBOUR, data, np.zeros(data.n, dtype=bool)).on(slice(None))
    assert row["removed"] == 0 and np.isnan(row["loss"]) and np.isnan(row["loss_random"])


def test_random_labels_know_nothing_of_the_pictures_and_the_tests_keep_their_own(small_setting, digits, monkeypatch):
    seen = []
    original = controls.trained

    def remember(given, learner, data):
        seen.append(data)
        return original(given, learner, data)

    monkeypatch.setattr(controls, "trained", remember)
    rows = controls.random_labels(world(small_setting, trials=10, random_labels={"n": 400, "epochs": 1, "labelings": 2}))
    random, true = seen
    assert (random.x_train == true.x_train).all() and (true.y_test == digits.y_test).all()
    assert (random.y_test == digits.y_test).all()
    assert np.mean(random.y_train == true.y_train) == pytest.approx(0.1, abs=0.05)
    assert rows[CONTROL]["expected"] == pytest.approx(rows[CONTROL]["in_accuracy"] - 0.1)
    assert np.isnan(rows[COUNTERPART].get("expected", np.nan)) and rows[COUNTERPART]["n_test"] == 797


def test_random_labels_of_digits_have_pairs_and_cost_nothing_where_true_labels_cost_tests(small_setting, digits):
    """The rule that copies its neighbour's label: large influences either way, and no loss on average over labels."""
    given, draw = world(small_setting, fresh=10), np.random.default_rng(6)
    true = replace(digits, x_train=digits.x_train[:300], y_train=digits.y_train[:300])
    everything = np.ones(true.n, dtype=bool)
    drawn = [true.relabelled(draw.integers(10, size=true.n), "random") for _ in range(8)]
    free = [controls.losses(given, NEIGHBOUR, data, everything).on(slice(None))["loss"] for data in drawn]
    cost = controls.losses(given, NEIGHBOUR, true, everything).on(slice(None))["loss"]
    assert abs(np.mean(free)) < 4 * np.std(free, ddof=1) / np.sqrt(8)
    assert cost > 0.005 and cost > np.mean(free)
    row = controls.measure(controls.trained(given, NEIGHBOUR, drawn[0]), RULE)
    assert row["pairs"] > 50


@pytest.fixture
def stage(planted, folder, small_setting):
    return controls.run(section(setting="small"), small_setting(learner={"batch_size": 10}), RULE)


def test_every_experiment_is_done_in_every_world_with_random_numbers_of_its_own(stage):
    table = tables.load("controls", "controls")
    assert len(table) == len(controls.EXPERIMENTS) * 2 * 2
    assert set(table.groupby(["control", "role"]).world.nunique()) == {2}
    of_networks = table[table.control == "random_labels"]
    assert of_networks.groupby("role").memorization.nunique().min() == 2
    numbers = [controls._numbers(section(), place) for place in range(3)]
    assert numbers[0].stop == numbers[1].start and numbers[1].stop == numbers[2].start and len(numbers[0]) == 63


def test_the_summary_holds_means_over_worlds_with_their_errors(stage):
    table = tables.load("controls", "controls")
    rows = table[(table.control == "nearest_neighbour") & (table.role == COUNTERPART)]
    found = stage["nearest_neighbour"][COUNTERPART]
    assert found["memorization"]["value"] == pytest.approx(rows.memorization.mean())
    assert found["memorization"]["std_error"] == pytest.approx(rows.memorization.std() / 2**0.5)
    assert found["beyond"]["value"] == pytest.approx((rows.memorization - rows.expected).mean())
    assert found["n"] == 48 and stage["worlds"] == 2


def test_every_pointer_of_the_ledger_into_the_controls_has_a_number(stage, folder):
    pointers = {pointer for claim in claims.load(ROOT / "claims.yaml").claims for pointer in claim.pointers()}
    ours = [pointer for pointer in pointers if pointer.startswith("tables/controls/")]
    assert ours
    for pointer in ours:
        assert np.isfinite(claims.quantity(str(folder), pointer).value).all()


def test_figures_show_every_case_with_what_was_expected(stage):
    table = tables.load("controls", "controls")
    both = figures.memorized_and_pairs(table), figures.worth_of_memorized(table)
    for figure in both:
        assert charts.raster(charts.specification(figure)).startswith(b"\x89PNG")
    shown = both[0].table.set_index(["case", "measure"])
    assert len(shown) == len(figures.CASES) * len(figures.MEASURES)
    assert shown.loc[("1-NN, clusters of several", "memorization"), "expected"] == pytest.approx(0, abs=0.01)
    assert shown.loc[("1-NN, clusters of one", "pairs"), "expected"] > 0
    assert np.isnan(shown.loc[("digits, true labels", "memorization"), "expected"])
    assert shown.loc[("digits, rows as they are", "memorization"), "value"] == pytest.approx(5 / 40, abs=0.001)
    assert set(both[1].table["case"]) <= {"random inputs and labels", "… tested on near copies", *figures.CASES.values()}
    assert set(both[1].table.removed) == {"memorized", "at random"}


def test_more_classes_than_clusters_are_refused():
    with pytest.raises(ValueError, match="classes is 7; there are only 6 clusters"):
        section(classes=7)


def test_a_table_of_two_worlds_has_bars_of_two_standard_errors():
    columns = {"memorization": [0.1, 0.3], "share": [0.1, 0.3], "pairs": [1, 3], "mirrored": [0, 0]}
    rows = pd.DataFrame(columns | {"control": "permuted_rows", "role": CONTROL, "expected": 0.0, "expected_pairs": 0.0})
    shown = figures.means(rows, {"share": "share"}).iloc[0]
    assert (shown.value, shown.std_error) == pytest.approx((0.2, 0.1))
    assert (shown.low, shown.high) == pytest.approx((0.0, 0.4))
