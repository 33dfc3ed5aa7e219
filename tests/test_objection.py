"""The objection to removal, on learners with a closed form and on planted results: each part finds what was put there."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from study import data as datasets
from study import params, tables
from study.case_studies import leakage, objection, refits, restoration
from study.case_studies.refits import EVERYTHING, INFLUENCERS, OWN, Arms, Study, control
from study.case_studies.restoration import LIKE, LOST, REPAIRED, STRANGERS
from study.learners import NearestNeighbour, nearest_neighbour
from study.params import Objection, Training

PARAMS = params.Path("params.yaml").resolve()
RULE = params.load(PARAMS).estimate
NEIGHBOUR = NearestNeighbour(models_at_once=50)


def section(**changes) -> Objection:
    few = {"own_trials": 20, "repeats": 3, "restored_repeats": 12, "folds": 1, "draws": 10}
    return params.load(PARAMS).objection["digits-mlp"].model_copy(update=few | changes)


def setting(name: str, learner=NEIGHBOUR):
    return params.load(PARAMS).setting(name).model_copy(update={"learner": learner})


@pytest.fixture(scope="module")
def mixture():
    """The made-up long tail with the exact memorization and pairs of the nearest-neighbour rule."""
    data = datasets.load("longtail")
    mem, infl = (exact(data, 700) for exact in (nearest_neighbour.memorization, nearest_neighbour.influence))
    train, test = np.nonzero((infl >= 0.15) & (mem[:, None] >= 0.25) & (data.y_train[:, None] == data.y_test))
    pairs = pd.DataFrame({"train": train, "test": test, "infl": infl[train, test], "mem": mem[train], "same_class": True})
    return Study(section(restored="members"), setting("longtail-mlp"), RULE, data, mem, pairs)


@pytest.fixture(scope="module")
def restored(mixture):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoration, "POOLS", 2)  # the rule's time grows with the square of the examples
        return restoration.restore(replace(mixture, section=section(restored="members", restored_repeats=4)))


def few_digits(digits, chosen: dict[str, list]) -> Study:
    """Digits whose high-influence pairs are ``chosen``, without any estimate behind them."""
    return Study(section(), setting("digits-mlp"), RULE, digits, np.zeros(digits.n), pd.DataFrame(chosen))


def arms(correct: dict[str, np.ndarray], removed: dict[str, int] | None = None) -> Arms:
    """Arms with planted results, ``correct[arm] (repeats, n_test)``."""
    sizes = {arm: (removed or {}).get(arm, 0) for arm in correct}
    masks = {arm: np.tile(np.arange(1000) < sizes[arm], (len(right), 1)) for arm, right in correct.items()}
    return Arms(masks, correct, np.ones(len(correct[EVERYTHING])))


# Selections and their controls


def test_the_control_of_a_selection_has_as_many_of_each_class_and_differs_between_models(digits):
    mask = np.arange(digits.n) % 7 == 0
    drawn = refits.shuffled(mask, digits.y_train, 5, seed=3)
    for row in drawn:
        assert np.bincount(digits.y_train[row], minlength=10).tolist() == np.bincount(digits.y_train[mask]).tolist()
    assert len(np.unique(drawn, axis=0)) == 5 and not (drawn == mask).all(1).any()
    assert (refits.shuffled(mask, digits.y_train, 2, seed=3) == drawn[:2]).all()


def test_models_of_one_number_have_one_seed_in_every_arm():
    seen = {}

    class Recorder(NearestNeighbour):
        def fit_predict(self, data, members, seeds):
            seen[int(members[0].sum())] = seeds
            return super().fit_predict(data, members, seeds)

    data = datasets.load("longtail")
    removed = refits.with_controls({"first two": np.arange(1000) < 2}, data.y_train, 3, seed=4)
    result = refits.retrain(Recorder(models_at_once=10), data, removed, seed=4)
    assert seen[1000] == seen[998][:3] == seen[998][3:] and len(set(seen[1000])) == 3
    assert result.count("first two") == result.count(control("first two")) == 2
    assert (result.fitted == 1).all(), "a nearest neighbour is always right about what it was trained on"


def test_excess_is_what_a_selection_costs_beyond_its_control():
    right = {EVERYTHING: 0, INFLUENCERS: 60, control(INFLUENCERS): 10}
    planted = arms({arm: np.tile(np.arange(100) >= wrong, (4, 1)) for arm, wrong in right.items()})
    assert planted.drop(INFLUENCERS) == pytest.approx(0.6)
    assert planted.excess(INFLUENCERS) == pytest.approx(0.5)
    assert planted.excess(INFLUENCERS, np.arange(100) < 20) == pytest.approx(0.5)
    assert np.isnan(planted.excess(INFLUENCERS, np.zeros(100, bool))).all()


# Other trainings


def test_what_remains_of_the_loss_is_the_ratio_of_two_trainings(digits, small):
    study = few_digits(digits, {"train": [0], "test": [0]})
    study = replace(study, setting=setting("digits-mlp", small(epochs=15, weight_decay=0.0)))
    wrong = {"4 epochs": 100, "15 epochs": 80, "60 epochs": 60, "60 epochs, weight decay 0.001": 20, "nearest neighbour": 40}
    trained = {}
    for name, count in wrong.items():
        results = {arm: np.ones((4, digits.n_test), bool) for arm in (EVERYTHING, INFLUENCERS, control(INFLUENCERS))}
        results[INFLUENCERS] = np.tile(np.arange(digits.n_test) >= count, (4, 1))
        trained[name] = arms(results, {INFLUENCERS: 30})
    table, numbers = objection.compare_trainings(study, trained)
    assert numbers["own_training"] == "15 epochs" and list(numbers) == ["learners", "own_training", "influencers"]
    assert numbers["influencers"]["remaining"] == {"value": pytest.approx(0.25), "std_error": pytest.approx(0)}
    each = [found["value"] for found in numbers["influencers"]["remaining_each"]]
    assert each == pytest.approx([1.25, 1, 0.75, 0.25, 0.5])
    everywhere = table[table.tests == "all"].set_index("learner")
    assert everywhere.excess.to_dict() == pytest.approx({name: count / digits.n_test for name, count in wrong.items()})
    assert (everywhere.removed == 30).all() and (everywhere.control_drop == 0).all()


def test_each_learner_is_the_settings_own_but_for_its_training(digits, small):
    study = few_digits(digits, {"train": [], "test": []})
    study = replace(study, setting=setting("digits-mlp", small(epochs=15, weight_decay=0.0)))
    found = objection.learners(study)
    longest = found.pop("60 epochs, weight decay 0.001")
    assert longest == small(epochs=60, weight_decay=0.001)
    assert found["15 epochs"] == study.setting.learner
    assert isinstance(found["nearest neighbour"], NearestNeighbour)
    assert objection.name_of(Training(epochs=1, weight_decay=0.0)) == "1 epoch"


def test_a_longer_training_may_see_every_example_in_every_epoch(digits):
    large = params.load(PARAMS).setting("mnist-mlp").learner
    own = Training.of(large)
    whole = Training(epochs=9, weight_decay=0.0, skip_below=0.0)
    study = replace(few_digits(digits, {"train": [], "test": []}), section=section(trainings=(own, whole)))
    found = objection.learners(replace(study, setting=setting("digits-mlp", large)))
    assert found[objection.name_of(own)] == large and large.skip_below > 0
    assert found["9 epochs of all examples"] == large.model_copy(update={"epochs": 9, "skip_below": 0.0})


def test_a_training_selects_what_it_memorizes_itself(mixture):
    exact = objection.own_memorization(mixture, NEIGHBOUR)
    assert exact == pytest.approx(mixture.mem)
    longer = replace(mixture, section=mixture.section.model_copy(update={"own_trials": 300, "nearest_neighbour": True}))
    estimated = refits.fresh_estimates(longer, NEIGHBOUR, mixture.data).memorization
    assert ((estimated.mem - exact).abs() < 4.5 * estimated.std_error).mean() > 0.99


# Near duplicates


def test_the_nearest_of_its_class_is_found_among_those_that_are_asked_for(digits):
    among = np.arange(digits.n) % 3 == 0
    distance = cdist(digits.x_test.reshape(-1, 64), digits.x_train.reshape(-1, 64))
    distance[:, ~among] = np.inf
    distance[digits.y_test[:, None] != digits.y_train] = np.inf
    assert leakage.nearest_of_class(digits, among) == pytest.approx(distance.min(1), abs=1e-3)
    assert np.isinf(leakage.nearest_of_class(digits, among & (digits.y_train != 4))[digits.y_test == 4]).all()


def planted_leak(digits, lost: np.ndarray) -> tuple[Study, Arms]:
    """Removing examples 0 to 19 costs exactly the tests ``lost``."""
    results = {arm: np.ones((4, digits.n_test), bool) for arm in (EVERYTHING, control(INFLUENCERS))}
    results[INFLUENCERS] = np.tile(~lost, (4, 1))
    return few_digits(digits, {"train": np.arange(20), "test": np.flatnonzero(lost)[:20]}), arms(results, {INFLUENCERS: 20})


def test_a_loss_that_is_all_leakage_vanishes_with_the_tests_near_what_was_removed(digits):
    distance = leakage.nearest_of_class(digits, np.arange(digits.n) < 20)
    study, planted = planted_leak(digits, distance <= np.sort(distance)[39])
    table, _ = leakage.exclusions(study, planted)
    table = table.set_index(["share", "excluded"]).sort_index()
    assert table.excess[0.0, leakage.NEAR_REMOVED] == pytest.approx(40 / digits.n_test)
    assert table.excess[0.05, leakage.NEAR_REMOVED] == pytest.approx(0), "0.05 of the tests are exactly these 40"
    assert table.excess[0.02, leakage.NEAR_REMOVED] == pytest.approx(24 / (digits.n_test - 16))
    assert table.excess[0.2, leakage.AT_RANDOM] > 0.02, "as many at random leave most of the loss"
    assert (table.tests[0.2] == digits.n_test - round(0.2 * digits.n_test)).all()


def test_a_loss_far_from_any_training_example_survives_every_cleaning(digits):
    distance = leakage.nearest_of_class(digits, np.ones(digits.n, bool))
    study, planted = planted_leak(digits, distance >= np.sort(distance)[-40])
    table, numbers = leakage.exclusions(study, planted)
    near = table[table.excluded == leakage.NEAR_ANY].set_index("share")
    assert near.excess[0.5] == pytest.approx(40 / near.tests[0.5])
    assert numbers["near_any"]["excluded"] == pytest.approx(0.1 * digits.n_test, abs=4), "a tenth, and ties"
    assert numbers["near_any"]["remaining"]["value"] == numbers["near_removed"]["remaining"]["value"] == pytest.approx(1)


# Splits by place


def test_a_split_by_place_takes_a_run_of_the_file_and_covers_it_with_the_folds(digits):
    whole = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 64)
    order = np.argsort(np.concatenate(leakage.positions(digits)))
    seen = np.zeros(len(whole), bool)
    for fold in range(3):
        split = leakage.split_by_place(digits, fold, 3)
        assert (split.n, split.n_test) == (digits.n, digits.n_test)
        test = np.sort(leakage.positions(split)[1])
        steps = np.diff(np.concatenate([test, [test[0] + len(whole)]]))
        assert (steps > 1).sum() == 1, "one gap, where the training pictures stand"
        seen[test] = True
        assert split.x_test.reshape(-1, 64).sum() == pytest.approx(whole[order[test]].sum(), rel=1e-5)
    assert seen.all()


def test_random_splits_differ_and_hold_every_digit_once(digits):
    splits = [leakage.split_at_random(digits, fold, seed=1) for fold in (0, 1)]
    for split in splits:
        assert sorted(np.concatenate(leakage.positions(split)).tolist()) == list(range(1797))
    assert splits[0].order_hash != splits[1].order_hash


def test_each_split_is_estimated_and_measured_for_itself(digits, small):
    study = replace(few_digits(digits, {"train": [], "test": []}), setting=setting("digits-mlp", small(epochs=2)))
    table, numbers = leakage.compare_splits(study)
    assert table.split.tolist() == ["at random", "by place"] and table.fold.tolist() == [0, 0]
    assert table.test_accuracy.between(0.3, 1).all()
    assert numbers["by_place"]["own_excess"]["value"] == pytest.approx(table.own_excess[1])
    nothing = replace(study, section=section(folds=0))
    assert leakage.compare_splits(nothing)[1] == {}


# Sub-populations


def test_the_centres_are_those_of_the_data(mixture):
    rest = mixture.data.x_train - restoration.centres()[mixture.data.groups_train]
    assert abs(rest.mean()) < 1e-3 and rest.std() == pytest.approx(0.05, rel=0.01)
    fresh = restoration.fresh(np.arange(600), np.random.default_rng(0)) - restoration.centres()
    assert fresh.std() == pytest.approx(0.05, rel=0.02)


def test_strangers_come_from_other_sub_populations_of_the_class_by_frequency():
    removed = np.repeat([3, 65, 599], 3000)
    drawn = restoration.other_groups(removed, np.random.default_rng(1))
    assert (drawn // 60 == removed // 60).all() and not np.isin(drawn, removed).any()
    first = np.bincount(drawn[:3000], minlength=600)
    assert first[0] / first[1] == pytest.approx(2, rel=0.2)


def test_a_sub_population_is_lost_with_its_last_example_and_one_of_it_can_be_spared(mixture):
    data = mixture.data
    removed = np.isin(data.groups_train, [np.bincount(data.groups_train).argmax()])
    lost = restoration.lost_groups(data, removed)
    assert lost.tolist() == [np.bincount(data.groups_train).argmax()]
    spared = [restoration.one_of_each(data, lost, np.random.default_rng(k)) for k in range(8)]
    assert all(mask.sum() == 1 and removed[mask].all() for mask in spared)
    assert len({int(mask.argmax()) for mask in spared}) > 1
    first = np.flatnonzero(removed)[0]
    assert not len(restoration.lost_groups(data, np.arange(data.n) == first)), "the others of it are still there"


def test_pools_hold_members_of_what_was_removed_and_strangers_to_it(mixture):
    removed = mixture.influencer
    extended, added = restoration.with_pools(mixture.data, removed, seed=1)
    for row in added[LIKE]:
        assert extended.groups_train[mixture.data.n :][row].tolist() == mixture.data.groups_train[removed].tolist()
    for row in added[STRANGERS]:
        groups = extended.groups_train[mixture.data.n :][row]
        assert (groups // 60 == mixture.data.groups_train[removed] // 60).all()
        assert not np.isin(groups, mixture.data.groups_train[removed]).any()
    assert (np.concatenate([added[LIKE], added[STRANGERS]]).sum(0) == 1).all()


def test_a_learner_that_knows_only_neighbours_recovers_with_members_and_not_with_strangers(restored):
    _, numbers = restored
    assert numbers["influencers"]["affected"]["drop"]["value"] > 0.5
    assert numbers["like"]["affected"]["recovered"]["value"] > 0.95
    assert abs(numbers["strangers"]["affected"]["recovered"]["value"]) < 0.1
    assert numbers["like_over_strangers"]["value"] > 0.5
    assert numbers["influencers"]["all"]["remaining"]["value"] == pytest.approx(1)


def test_sparing_one_of_each_sub_population_takes_the_effect_away_where_the_theory_is_true(restored, mixture):
    table, numbers = restored
    assert abs(numbers["repaired"]["all"]["remaining"]["value"]) < 0.25
    assert numbers["lost"]["lost"]["excess"]["value"] > 0.5
    removed = table.drop_duplicates("arm").set_index("arm").removed
    lost = restoration.lost_groups(mixture.data, mixture.influencer)
    assert removed[REPAIRED] == removed[INFLUENCERS] - len(lost) == removed[control(REPAIRED)]
    assert removed[LOST] == np.isin(mixture.data.groups_train, lost).sum()
    added = table.drop_duplicates("arm").set_index("arm").added
    assert added[LIKE] == added[STRANGERS] == removed[INFLUENCERS] and added[REPAIRED] == 0


def test_look_alikes_come_from_tests_that_do_not_count_for_their_model(digits):
    study = few_digits(digits, {"train": [5, 17, 400], "test": [1, 2, 3]})
    found = restoration.look_alikes(study)
    for arm in (LIKE, STRANGERS):
        added = ~found.removed[arm][:, digits.n :]
        assert not (added & found.measured).any()
        assert (np.sort(digits.y_test[added.nonzero()[1]].reshape(12, 3)) == np.sort(digits.y_train[[5, 17, 400]])).all()
        assert (found.removed[arm][:, : digits.n] == study.influencer).all()
    assert not (~found.removed[LIKE] & ~found.removed[STRANGERS])[:, digits.n :].any()
    assert found.removed[EVERYTHING][:, digits.n :].all() and not found.removed[EVERYTHING][:, : digits.n].any()
    assert (found.measured.sum(1) == digits.n_test - digits.n_test // 2).all()


def test_a_look_alike_is_the_most_similar_that_its_model_may_have(digits):
    found = restoration.look_alikes(few_digits(digits, {"train": [5], "test": [1]}))
    distance = np.linalg.norm((digits.x_test - digits.x_train[5]).reshape(-1, 64), axis=1)
    distance[digits.y_test != digits.y_train[5]] = np.inf
    for row, measured in zip(~found.removed[LIKE][:, digits.n :], found.measured):
        assert distance[row].tolist() == [distance[~measured].min()]


def test_where_nothing_is_to_be_restored_nothing_is_trained(digits):
    study = replace(few_digits(digits, {"train": [], "test": []}), section=section(restored="none"))
    table, numbers = restoration.restore(study)
    assert table.empty and numbers == {}


# The whole


def test_the_stage_saves_every_part(folder, digits, small):
    mem = pd.DataFrame({"mem": np.linspace(0, 1, digits.n)})
    pairs = pd.DataFrame({"train": [900, 901, 990], "test": [1, 2, 3], "infl": 0.5, "mem": 0.9, "same_class": True})
    for name, table in {"memorization": mem, "pairs": pairs}.items():
        tables.save("toy", name, table)
    short = (Training(epochs=2, weight_decay=0.0), Training(epochs=1, weight_decay=0.001))
    summary = objection.run("toy", section(trainings=short), setting("digits-mlp", small()), RULE)
    assert summary["influencers"] == summary["affected"] == summary["pairs"] == 3
    assert [each["learner"] for each in summary["trainings"]["learners"]][:2] == ["2 epochs", "1 epoch, weight decay 0.001"]
    assert summary["trainings"]["own_training"] == "1 epoch, weight decay 0.001"
    saved = {path.stem for path in (folder / "tables/objection/toy").iterdir()}
    assert saved == {"trainings", "exclusions", "restored", "splits", "summary"}
    kinds = tables.load("objection/toy", "trainings").kind.unique()
    assert set(kinds) == {INFLUENCERS, OWN}


@pytest.mark.parametrize(
    ("name", "changes", "learner", "message"),
    [
        ("digits-mlp", {"trainings": (Training(epochs=9, weight_decay=0.0),)}, None, "lacks the setting's own training"),
        (
            "digits-mlp",
            {"trainings": (Training(epochs=9, weight_decay=0.0, skip_below=0.0),)},
            None,
            "has skip_below .9 epochs of all examples., which only large_mlp has",
        ),
        ("digits-mlp", {"restored": "members"}, None, "sub-populations of 'digits' are not known"),
        ("digits-mlp", {}, NEIGHBOUR, "has learner 'nearest_neighbour'; a multilayer perceptron is needed"),
    ],
)
def test_what_a_setting_does_not_have_is_refused(name, changes, learner, message):
    own = params.load(PARAMS).setting(name)
    with pytest.raises(ValueError, match=message):
        objection.check(name, section(**changes), setting(name, learner or own.learner))


def test_splits_without_estimates_are_refused():
    fields = section().model_dump() | {"own_trials": 0}
    with pytest.raises(ValueError, match="without own_trials nothing can be estimated on other splits"):
        Objection.model_validate(fields)
