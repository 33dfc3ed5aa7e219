"""Sizes of clusters against memorization: planted clusters, planted memorization, and the nulls."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from study import data as datasets
from study import params, tables
from study.case_studies import subpopulations as sp
from study.subsets import TrialSeed

RULES = {
    "settings": {"longtail-mlp": {"repeats": 1, "examples": 400, "tests": 300}},
    "linkages": ["average", "ward"],
    "clusters": [2, 8],
    "main_linkage": "average",
    "main_clusters": 8,
    "bands": 3,
    "permutations": 30,
    "seed": 0,
}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rules(**changed) -> SimpleNamespace:
    return SimpleNamespace(**RULES | changed)


def cloud(sizes: list[int], label: int = 0, seed: int = 0) -> sp.Cloud:
    """Tight clusters of given sizes, far apart; all points are scored."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    x = 100 * np.eye(len(sizes))[group] + generator(seed).standard_normal((len(group), len(sizes)))
    return sp.Cloud(x, np.full(len(group), label), np.arange(len(group)))


# --- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", RULES["linkages"])
def test_planted_clusters_have_their_planted_sizes(method):
    sizes = [30, 10, 5, 1]
    found = sp.sizes_of(iter([("features", cloud(sizes))]), 46, rules(clusters=[4], linkages=[method]))
    np.testing.assert_allclose(found["features", "within", method, 4].others * 45, np.repeat(sizes, sizes) - 1)


def test_sizes_are_averaged_over_the_clouds_that_hold_an_example():
    one, two = cloud([6, 2]), cloud([4, 4])
    two = two._replace(example=np.where(np.arange(8) < 4, np.arange(8), -1))
    found = sp.sizes_of(iter([("features", one), ("features", two)]), 8, rules(clusters=[2]))
    others = found["features", "within", "average", 2].others * 7
    np.testing.assert_allclose(others, [4, 4, 4, 4, 5, 5, 1, 1])


def test_clusters_within_classes_do_not_see_other_classes_and_blind_ones_do():
    near = np.concatenate([np.zeros((9, 1)), np.full((9, 1), 50.0)]) + np.arange(18)[:, None] / 100
    label = np.array([0] * 8 + [1] + [1] * 9)
    made = sp.Cloud(near, label, np.arange(18))
    found = sp.sizes_of(iter([("features", made)]), 18, rules(clusters=[2], linkages=["average"]))
    within, blind = (found["features", scope, "average", 2] for scope in sp.SCOPES)
    assert within.others[8] == 0  # alone within its class,
    assert sp.KINDS[blind.kind[8].argmax()] == "foreign"  # but among eight of the other class


def test_kinds_are_alone_foreign_small_or_ordinary():
    cluster = np.array([1, 2, 2, 2, 3, 3, *[4] * 14])
    label = np.array([0, 0, 1, 1, 0, 0, *[1] * 14])
    found = sp.sizes(cluster, label, 4)
    kinds = [sp.KINDS[row.argmax()] for row in found[:, 1:]]
    assert kinds[:6] == ["alone", "foreign", "ordinary", "ordinary", "small", "small"]
    assert set(kinds[6:]) == {"ordinary"}
    assert (found[:, 1:].sum(axis=1) == 1).all()
    np.testing.assert_allclose(found[:, 0] * 19, np.bincount(cluster)[cluster] - 1)


def test_shuffling_keeps_every_feature_of_a_class_and_breaks_what_belongs_together():
    made = cloud([20, 20])
    label = np.arange(40) % 2
    mixed = sp.shuffled(made.x, label, generator())
    for each in (0, 1):
        np.testing.assert_array_equal(np.sort(mixed[label == each], axis=0), np.sort(made.x[label == each], axis=0))
    assert abs(np.corrcoef(made.x.T)[0, 1]) > 0.9 > 0.6 > abs(np.corrcoef(mixed.T)[0, 1])


# --- sizes and memorization --------------------------------------------------------------------------------


def test_the_area_is_that_of_the_library_and_its_error_the_spread_of_repetitions():
    draw = generator(1)
    areas, errors = [], []
    for _ in range(300):
        chosen = np.arange(120) < 20
        size = np.round(draw.standard_normal(120) - chosen, 1)
        found = sp.auroc(size, chosen)
        areas.append(found["value"])
        errors.append(found["std_error"])
    assert areas[-1] == pytest.approx(roc_auc_score(chosen, -size))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.15)


def test_too_few_examples_of_a_kind_have_no_area():
    assert np.isnan(sp.auroc(np.arange(5.0), np.arange(5) < 1)["value"])


def test_marks_are_dealt_within_classes_only():
    label, memorized = np.repeat([0, 1], [50, 30]), np.arange(80) < 10
    deals = sp.dealt(memorized, label, 40, TrialSeed(0, 0))
    assert (deals[:, :50].sum(axis=1) == 10).all() and not deals[:, 50:].any()
    assert len(np.unique(deals, axis=0)) > 30


def test_the_null_area_counts_ranks_as_the_area_does():
    size, label = generator().integers(5, size=60).astype(float), np.zeros(60, int)
    deals = sp.dealt(np.arange(60) < 9, label, 20, TrialSeed(0, 0))
    expected = [sp.auroc(size, deal)["value"] for deal in deals]
    np.testing.assert_allclose(sp._dealt_auroc(size, deals), expected)


def test_none_of_is_the_share_of_subsets():
    assert sp.none_of(0, 9, 5) == pytest.approx(1)
    assert sp.none_of(1, 10, 7) == pytest.approx(0.3)
    assert sp.none_of(2, 10, 7) == pytest.approx(3 * 2 / 90)
    assert sp.none_of(4, 10, 7) == 0


def test_the_law_is_met_by_a_learner_that_knows_each_group_it_saw():
    data = datasets.load("longtail")
    n, m = data.n, 700
    draw, right_in, right_out = generator(3), np.zeros(n), np.zeros(n)
    times_in = np.zeros(n)
    for _ in range(400):
        inside = np.zeros(n, dtype=bool)
        inside[draw.permutation(n)[:m]] = True
        known = np.isin(data.groups_train, data.groups_train[inside])
        guess = draw.integers(10, size=n) == data.y_train
        right = known | guess
        times_in += inside
        right_in += right * inside
        right_out += right * ~inside
    mem = right_in / times_in - right_out / (400 - times_in)
    table = sp.law(data, mem, np.arange(n), m)
    assert table.examples.sum() == n and table["count"].is_monotonic_increasing
    close = table[table["count"] <= 3]
    assert ((close.mem - close.predicted).abs() < 4 * close.mem_se + 0.002).all()
    assert sp.law(datasets.load("digits"), np.zeros(1000), np.arange(1000), 700).empty


# --- the stage ---------------------------------------------------------------------------------------------


def study(**changed) -> SimpleNamespace:
    whole = params.load()
    section = params.Subpopulations(**RULES | changed)
    return SimpleNamespace(subpopulations=section, setting=whole.setting, estimate=whole.estimate)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Memorization is one for the only members of a true sub-population, and zero for all others."""
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    groups = datasets.load("longtail").groups_train
    mem = (np.bincount(groups)[groups] == 1).astype(float)
    tables.save("longtail-mlp", "memorization", pd.DataFrame({"mem": mem}))
    return mem


def test_planted_memorization_of_singletons_is_found_by_fine_clusters_and_not_by_shuffled_ones(planted):
    found = sp.run(study(settings={"longtail-mlp": {"repeats": 1, "examples": 1000, "tests": 1000}}, clusters=[8, 32]))
    area = found["agreement"].set_index(["scope", "linkage", "clusters", "space"]).auroc
    assert area["within", "known", 0, "truth"] == 1
    assert area["within", "average", 32, "features"] > 0.85
    rows = found["agreement"].query("space == 'shuffled'")
    assert (rows.auroc - 0.5).abs().max() < 0.1
    assert ((rows.null_low < 0.5) & (rows.null_high > 0.5)).all()
    assert found["law"].mem.iloc[0] == 1
    summary = found["summary"]["longtail-mlp"]
    assert summary["within"]["features"]["value"] == area["within", "average", 8, "features"]
    assert summary["smallest"]["value"] > summary["largest"]["value"]


def test_a_network_places_only_examples_it_did_not_see_and_each_of_them_once(planted):
    setting, data = study().setting("longtail-mlp"), datasets.load("longtail")
    scored, tests = np.arange(0, 1000, 2), np.arange(50)
    made = list(sp.clouds(setting, data, scored, tests, 2, 0))
    for space, times in (("features", 2), ("seen", 2), ("pixels", 2)):
        held = [each.example[each.example >= 0] for name, each in made if name == space]
        assert len(held) == 4 and (np.bincount(np.concatenate(held)) == times).all()
    features, seen = (next(each for name, each in made if name == space) for space in ("features", "seen"))
    assert not set(features.example[features.example >= 0]) & set(seen.example[seen.example >= 0])


def test_odd_numbers_are_halved_into_sets_of_equal_size():
    halves = np.array([[True, True, True, False, False], [False, False, False, True, True]])
    assert sp._of_equal_size(halves).tolist() == [[True, True, False, False, False], halves[1].tolist()]


CHANGED = {
    "settings": {"longtail-mlp": {"repeats": 2, "examples": 400, "tests": 300}},
    "linkages": ["average"],
    "clusters": [4, 8],
    "main_linkage": "ward",
    "main_clusters": 2,
    "bands": 4,
    "permutations": 40,
    "seed": 1,
}


@pytest.mark.parametrize("name", RULES)
def test_every_parameter_changes_something(name, planted):
    assert set(RULES) == set(CHANGED) == set(params.Subpopulations.model_fields)
    before, after = (sp.run(study(**changed)) for changed in ({}, {name: CHANGED[name]}))
    assert before["summary"] != after["summary"] or any(not before[k].equals(after[k]) for k in before if k != "summary")


def test_the_same_seed_gives_the_same_tables(planted):
    one, two = (sp.run(study()) for _ in range(2))
    for name in ("agreement", "bands", "kinds", "law"):
        pd.testing.assert_frame_equal(one[name], two[name], check_exact=True)


def test_a_main_choice_that_is_not_computed_is_refused():
    with pytest.raises(ValueError, match="main_clusters 5; they must be among average, ward and 2, 8"):
        params.Subpopulations(**RULES | {"main_clusters": 5})


def test_a_learner_without_hidden_layers_is_refused():
    with pytest.raises(ValueError, match="a multilayer perceptron is needed"):
        sp.of_setting("digits-nearest-neighbour", study())
