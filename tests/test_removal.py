"""What is removed, what that costs, and that the cost is the one a learner with a closed form must pay."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from study import claims, data, params, tables
from study.case_studies import removal
from study.case_studies.removal import EVERYTHING, INFLUENCERS, OTHERS, SOME_INFLUENCERS, Arm, Results
from study.learners import NearestNeighbour, nearest_neighbour
from study.params import Removal, Setting

SECTION = Removal(thresholds=(0.9, 0.5), random_shares=(0.1, 0.9), repeats=3, seed=5)
LEARNER = NearestNeighbour(models_at_once=50)
SETTING = Setting(data="longtail", learner=LEARNER, ratio=0.7, seed=0, trials=1, revision=1)


@pytest.fixture(scope="module")
def world():
    """The long-tailed mixture with the exact memorization and influence of the nearest-neighbour rule."""
    mixture = data.load("longtail")
    mem, infl = (exact(mixture, 700) for exact in (nearest_neighbour.memorization, nearest_neighbour.influence))
    train, test = np.nonzero((np.abs(infl) >= 0.05) & (mem[:, None] >= 0.1))
    pairs = pd.DataFrame({"train": train, "test": test, "infl": infl[train, test], "std_error": 0.0, "mem": mem[train]})
    pairs["same_class"] = mixture.y_train[train] == mixture.y_test[test]
    return SimpleNamespace(data=mixture, mem=mem, pairs=pairs)


@pytest.fixture
def stage(world, tmp_path, monkeypatch):
    """The stage run on that world, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    tables.save("planted", "memorization", pd.DataFrame({"mem": world.mem}))
    tables.save("planted", "pairs", world.pairs)
    return removal.run("planted", SECTION, SETTING, params.load(STUDY).estimate)


STUDY = params.Path("params.yaml").resolve()


def without(mixture, removed: np.ndarray) -> np.ndarray:
    """Which tests one nearest neighbour gets right after removal, bool ``(n_test,)``, computed in another way."""
    distance = cdist(mixture.x_test, mixture.x_train)
    distance[:, removed] = np.inf
    return mixture.y_train[distance.argmin(1)] == mixture.y_test


def planted(correct: dict[Arm, np.ndarray], affected: np.ndarray, sizes: dict[Arm, int]) -> Results:
    removed = {arm: np.tile(np.arange(1000) < sizes[arm], (len(correct[arm]), 1)) for arm in correct}
    return Results(correct, removed, affected)


def right(wrong: int, repeats: int = 4, tests: int = 1000) -> np.ndarray:
    return np.tile(np.arange(tests) >= wrong, (repeats, 1))


def test_drops_equal_what_the_nearest_neighbour_rule_must_lose(stage, world):
    chosen = world.pairs[world.pairs.same_class & (world.pairs.mem >= 0.25) & (world.pairs.infl >= 0.15)]
    influencers = np.isin(np.arange(1000), chosen.train)
    before, after = without(world.data, np.zeros(1000, dtype=bool)), without(world.data, influencers)
    affected = np.isin(np.arange(1000), chosen.test)
    assert stage["influencers"]["count"] == influencers.sum() > 20
    assert stage["influencers"]["drop"] == pytest.approx({"value": before.mean() - after.mean(), "std_error": 0})
    expected = before[affected].mean() - after[affected].mean()
    assert stage["influencers"]["affected_drop"]["value"] == pytest.approx(expected)
    for row in tables.load("planted", "removal_curve").dropna().itertuples():
        assert row.accuracy == pytest.approx(without(world.data, world.mem >= row.threshold).mean())
        assert row.removed == (world.mem >= row.threshold).sum()
        assert row.remaining == pytest.approx(1 - row.removed / 1000)


def test_influencers_are_the_planted_rare_groups_and_their_loss_stays_there(stage, world):
    chosen = world.pairs[world.pairs.same_class & (world.pairs.mem >= 0.25) & (world.pairs.infl >= 0.15)]
    sizes = np.bincount(world.data.groups_train, minlength=600)
    rare = sizes[world.data.groups_train[chosen.train]]
    assert np.mean(rare <= 2) > 0.9
    assert np.mean(world.data.groups_train[chosen.train] == world.data.groups_test[chosen.test]) > 0.9
    assert stage["influencers"]["affected_drop"]["value"] > 0.5
    assert abs(stage["influencers"]["elsewhere_drop"]["value"]) < 0.01
    assert stage["influencers"]["explained_share"]["value"] == pytest.approx(1, abs=0.1)


def test_the_parts_of_a_drop_add_up(stage):
    found = stage["influencers"]
    elsewhere = found["elsewhere_drop"]["value"] * (1 - found["affected_tests"] / stage["n_test"])
    assert found["explained_drop"]["value"] + elsewhere == pytest.approx(found["drop"]["value"])


def test_every_pointer_of_the_ledger_into_removal_has_a_number(stage):
    ledger = claims.load(STUDY.with_name("claims.yaml"))
    wanted = [pointer for claim in ledger.claims for pointer in claim.pointers() if "/removal.json#" in pointer]
    assert wanted
    for pointer in wanted:
        place = pointer.split("#")[1]
        assert np.isfinite(claims.quantity(".", f"tables/planted/removal.json#{place}").value).all()


def test_tables_of_groups_and_tests_agree_with_the_summary(stage):
    groups, tests = tables.load("planted", "removal_influencers"), tables.load("planted", "removal_tests")
    row = groups[(groups.arm == "influencers") & (groups.tests == "affected")].iloc[0]
    assert row["count"] == tests.affected.sum() == stage["influencers"]["affected_tests"]
    assert row["drop"] == pytest.approx(tests["drop"][tests.affected].mean())
    assert stage["influencers"]["drop"]["value"] == pytest.approx(tests["drop"].mean())


def test_each_arm_removes_what_its_name_says():
    mem = np.linspace(0, 1, 200)
    chosen = pd.DataFrame({"train": [199, 199, 150], "test": [0, 1, 2]})
    removed = removal.arms(SECTION, mem, chosen, 0.25)
    assert removed[Arm("memorized", 0.9)].sum(1).tolist() == [20] * 3
    assert (removed[INFLUENCERS] == np.isin(np.arange(200), [150, 199])).all()
    assert (removed[OTHERS] & (mem < 0.25)).sum() == 0
    assert not (removed[OTHERS] & removed[INFLUENCERS]).any()
    assert removed[OTHERS].sum(1).tolist() == removed[SOME_INFLUENCERS].sum(1).tolist() == [2] * 3
    assert not removed[EVERYTHING].any()
    for arm, mask in removed.items():
        assert Arm("random", mask[0].sum()) in removed
        assert arm.kind != "random" or (mask.sum(1) == arm.amount).all()


def test_random_sets_differ_between_models_are_nested_and_do_not_depend_on_other_arms():
    mem, chosen = np.linspace(0, 1, 200), pd.DataFrame({"train": [199], "test": [0]})
    removed = removal.arms(SECTION, mem, chosen, 0.25)
    small, large = removed[Arm("random", 20)], removed[Arm("random", 180)]
    assert not (small & ~large).any()
    assert len(np.unique(small, axis=0)) == 3
    fewer = SECTION.model_copy(update={"thresholds": (0.9,), "random_shares": ()})
    assert (removal.arms(fewer, mem, chosen, 0.25)[Arm("random", 20)] == small).all()


def test_an_example_that_cannot_be_identified_is_never_removed_as_memorized():
    mem = np.array([np.nan, 1.0] * 100)
    removed = removal.arms(SECTION, mem, pd.DataFrame({"train": [], "test": []}), 0.25)
    assert not removed[Arm("memorized", 0.5)][:, ::2].any()
    assert not removed[OTHERS][:, ::2].any()


def test_model_r_has_the_same_seed_in_every_arm_and_other_seeds_than_model_s():
    calls = {}

    class Recorder(NearestNeighbour):
        def fit_predict(self, data, members, seeds):
            calls[members[0].sum()] = members, seeds
            return super().fit_predict(data, members, seeds)

    setting, mixture = SETTING.model_copy(update={"learner": Recorder(models_at_once=10)}), data.load("longtail")
    removed = {EVERYTHING: np.zeros((2, 1000), bool), Arm("random", 1): np.eye(2, 1000, dtype=bool)}
    correct = removal.retrain(setting, mixture, removed, seed=5)
    assert calls.keys() == {1000, 999} and (calls[999][0] == ~removed[Arm("random", 1)]).all()
    assert calls[1000][1] == calls[999][1] and calls[999][1][0] != calls[999][1][1]
    for arm, mask in removed.items():
        assert (correct[arm] == [without(mixture, row) for row in mask]).all()


def test_equivalent_random_set_is_the_one_that_costs_as_much():
    correct = {Arm("random", size): right(size // 10) for size in (0, 100, 500)}
    results = planted(correct | {INFLUENCERS: right(37)}, np.arange(1000) < 37, {
        **{arm: int(arm.amount) for arm in correct}, INFLUENCERS: 20})  # fmt: skip
    assert removal.equivalent(results, results.drop(INFLUENCERS))["value"] == pytest.approx(370)
    assert np.isnan(removal.equivalent(results, np.full(4, 0.2))["value"])


def test_without_pairs_nothing_is_affected_and_that_is_not_a_zero(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables.save("planted", "memorization", pd.DataFrame({"mem": world.mem}))
    tables.save("planted", "pairs", world.pairs[:0])
    removal.run("planted", SECTION, SETTING, params.load(STUDY).estimate)
    found = tables.load("planted", "removal")
    assert found["influencers"]["count"] == 0
    assert found["influencers"]["drop"]["value"] == 0
    assert found["influencers"]["affected_drop"]["value"] is None
    assert found["pairs"]["distance"]["value"] is None


def test_halves_of_equal_random_sets_do_not_differ():
    correct = {Arm("random", size): right(size) for size in (0, 20)} | {Arm("memorized", 0.5): right(50)}
    results = planted(correct, np.zeros(1000, bool), {arm: 20 if arm != EVERYTHING else 0 for arm in correct})
    found = removal._curve_summary(results, SECTION.model_copy(update={"thresholds": (0.5,)}))
    assert found["random_against_random"]["value"] == 0
    assert found["difference"] == [{"value": pytest.approx(0.03), "std_error": 0}]
