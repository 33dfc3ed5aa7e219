"""Removal of the released influencers: planted ones hurt the planted tests alone, and no network is trained twice."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from study import claims, params, scratch, trials
from study.case_studies import published, published_removal, released
from study.case_studies.published_removal import EVERYTHING, INFLUENCERS, Models, random_arm
from study.case_studies.refits import Arms
from study.charts import published as charts
from study.data import Data, DataError
from study.learners import NearestNeighbour
from study.params import PublishedRemoval, Setting
from study.subsets import TrialSeed

ROOT = Path(__file__).parents[1]
SECTION = PublishedRemoval(source="made_up", setting="planted", random=(150,), repeats=4, seed=3)
SETTING = Setting(data="digits", learner=NearestNeighbour(models_at_once=10), ratio=0.7, seed=0, trials=1, revision=1)
GROUPS, SINGLETONS, PER_GROUP = 20, 12, 14


def world() -> tuple[Data, pd.DataFrame]:
    """Far-apart groups on a line, some with one training example; a pair is a singleton with a test beside it.

    The label of a group's neighbour differs, so that one nearest neighbour loses the tests of a singleton with it and no
    others.
    """
    sizes = np.array([PER_GROUP] * GROUPS + [1] * SINGLETONS)
    spots = np.random.default_rng(0).permutation(len(sizes))
    group = np.repeat(np.arange(len(sizes)), sizes)
    group_test = np.repeat(np.arange(len(sizes)), 3)
    x, x_test = ((10.0 * spots[g] + np.arange(len(g)) / len(g))[:, None].astype(np.float32) for g in (group, group_test))
    y, y_test = spots[group] % 2, spots[group_test] % 2
    data = Data("planted", x, y.astype(np.int64), x_test, y_test.astype(np.int64), ("even", "odd"))
    train, test = np.flatnonzero(group >= GROUPS), np.flatnonzero(group_test >= GROUPS)[::3]
    return data, pd.DataFrame({"train": train, "test": test, "infl": 1.0, "mem": 1.0})


class Counted(NearestNeighbour):
    """The nearest-neighbour rule, which tells how many models it has been asked for, and stops after a number of them."""

    asked: ClassVar[list[int]] = []
    most: ClassVar[int] = 10**6  # neither is a field, so neither changes what a file is called

    def fit_predict(self, data, members, seeds):
        if len(self.asked) + len(members) > self.most:
            raise KeyboardInterrupt
        Counted.asked.extend(seed.trial for seed in seeds)
        return super().fit_predict(data, members, seeds)


@pytest.fixture
def counted(monkeypatch) -> Setting:
    """A setting of the counting rule, whose count begins at nought."""
    monkeypatch.setattr(Counted, "asked", [])
    return SETTING.model_copy(update={"learner": Counted(models_at_once=1)})


def planted_models(section=SECTION) -> tuple[Models, pd.DataFrame, np.ndarray]:
    data, pairs = world()
    removed = published_removal.arms(section, pairs, data.n)
    models = published_removal.retrain(SETTING, data, removed, section.seed)
    return models, pairs, np.isin(np.arange(data.n_test), pairs.test)


def test_planted_influencers_cost_the_planted_tests_and_nothing_else(folder):
    models, pairs, affected = planted_models()
    both = affected | np.roll(affected, 1) | np.roll(affected, 2)  # all three tests of a singleton
    summary = published_removal.summarise(models, pairs, both)
    found = summary["influencers"]
    assert summary["accuracy"] == {"value": 1.0, "std_error": 0.0} == summary["fitted"]
    assert found["count"] == SINGLETONS and both.sum() == 3 * SINGLETONS
    assert found["elsewhere_drop"]["value"] == 0 and found["affected_drop"]["value"] > 0.5
    assert found["explained_share"]["value"] == pytest.approx(1)
    assert found["memorized"]["value"] == pytest.approx(found["affected_drop"]["value"])
    assert found["excess"]["low"] > 0 and found["affected_excess"]["low"] > 0
    assert summary["larger"][0]["count"] == 150 and summary["larger"][0]["exchange"]["value"] > 1
    assert found["published_memorization"] == 1.0


def test_arms_leave_out_what_they_should_with_nested_random_sets_of_their_own():
    data, pairs = world()
    removed = published_removal.arms(SECTION, pairs, data.n)
    small, large = removed[random_arm(SINGLETONS)], removed[random_arm(150)]
    assert list(removed) == [EVERYTHING, INFLUENCERS, random_arm(SINGLETONS), random_arm(150)]
    assert not removed[EVERYTHING].any() and (np.flatnonzero(removed[INFLUENCERS][2]) == pairs.train).all()
    assert (small.sum(1) == SINGLETONS).all() and (large.sum(1) == 150).all()
    assert not (small & ~large).any()
    assert len({row.tobytes() for row in large}) == SECTION.repeats


def test_a_random_set_that_leaves_nothing_is_refused():
    data, pairs = world()
    section = SECTION.model_copy(update={"random": (data.n,)})
    with pytest.raises(ValueError, match=rf"published_removal\.random asks to remove {data.n} of {data.n}"):
        published_removal.arms(section, pairs, data.n)


def test_what_was_stopped_goes_on_and_nothing_is_trained_twice(folder, counted, monkeypatch):
    data, pairs = world()
    removed = published_removal.arms(SECTION, pairs, data.n)
    whole = published_removal.retrain(SETTING, data, removed, SECTION.seed)
    for file in trials.SCRATCH.glob("*.npz"):
        file.unlink()
    monkeypatch.setattr(Counted, "most", 6)
    with pytest.raises(KeyboardInterrupt):
        published_removal.retrain(counted, data, removed, SECTION.seed)
    assert Counted.asked == [0, 0, 0, 0, 1, 1] and len(list(trials.SCRATCH.glob("*.npz"))) == 4
    monkeypatch.setattr(Counted, "most", 100)
    again = published_removal.retrain(counted, data, removed, SECTION.seed)
    assert Counted.asked == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    published_removal.retrain(counted, data, removed, SECTION.seed)
    assert len(Counted.asked) == 16
    for arm in removed:
        assert (again.arms.correct[arm] == whole.arms.correct[arm]).all()
        assert (again.learned[arm] == whole.learned[arm]).all()


def test_further_repeats_and_sizes_train_only_what_is_new(folder, counted):
    data, pairs = world()
    for changes, trained in (({"repeats": 2}, 8), ({"repeats": 3}, 12), ({"repeats": 3, "random": (100, 150)}, 15)):
        removed = published_removal.arms(SECTION.model_copy(update=changes), pairs, data.n)
        published_removal.retrain(counted, data, removed, SECTION.seed)
        assert len(Counted.asked) == trained


def test_a_kept_file_is_named_after_all_that_changes_its_model(folder):
    data, _ = world()
    none, one = np.zeros(data.n, dtype=bool), np.arange(data.n) == 0
    other = SETTING.model_copy(update={"revision": 2})
    asked = [(SETTING, none, 0, 0), (SETTING, one, 0, 0), (SETTING, none, 1, 0), (SETTING, none, 0, 1), (other, none, 0, 0)]
    names = [published_removal.kept_as(setting, data, mask, TrialSeed(seed, trial)) for setting, mask, seed, trial in asked]
    assert len(set(names)) == len(names)


def test_a_damaged_file_is_trained_again(folder):
    data, pairs = world()
    removed = published_removal.arms(SECTION, pairs, data.n)
    whole = published_removal.retrain(SETTING, data, removed, SECTION.seed)
    file = published_removal.kept_as(SETTING, data, removed[INFLUENCERS][1], TrialSeed(SECTION.seed, 1))
    file.write_bytes(file.read_bytes()[:40])
    again = published_removal.retrain(SETTING, data, removed, SECTION.seed)
    assert (again.arms.correct[INFLUENCERS] == whole.arms.correct[INFLUENCERS]).all()
    assert scratch.load(file, published_removal.KEPT) is not None


def study_with(setting, **changes):
    section = SECTION.model_copy(update={"setting": "small"} | changes)
    return params.Params.model_construct(settings={"small": setting}, published_removal=section)


def test_the_stage_runs_on_made_up_pairs_and_its_figure_shows_every_arm(folder, small_setting):
    results = published_removal.run(study_with(small_setting(), random=(300,), repeats=2))
    summary, losses, models = (results[name] for name in ("summary", "losses", "models"))
    pairs = published.made_up(SECTION.seed)[0]["CIFAR-100"]
    assert summary["source"] == "made_up" and summary["pairs"] == len(pairs)
    assert summary["influencers"]["count"] == pairs.train.nunique()
    assert summary["affected_tests"] == pairs.test.nunique()
    assert len(models) == 4 * 2 and len(losses) == 4 * 3
    figure = charts.removal(losses, models, summary["paper"])
    assert figure.table.kind.value_counts().to_dict() == {"network": 3 * 2 * 3, "mean": 3 * 3, "paper": 2}
    assert "2 networks of ours" in figure.caption


def test_a_setting_on_other_data_is_refused(small_setting):
    with pytest.raises(ValueError, match="whose data are 'digits'; pairs that are released count the examples of cifar100"):
        published_removal.run(study_with(small_setting(), source="released"))
    with pytest.raises(ValueError, match="whose data are 'longtail'; pairs that are made_up count the examples of digits"):
        published_removal.run(study_with(small_setting(data="longtail")))


def test_pairs_that_count_in_another_order_are_refused(small_setting, monkeypatch):
    wrong = published.made_up(0)[0]["CIFAR-100"].assign(train=0)
    monkeypatch.setattr(published, "made_up", lambda seed: ({"CIFAR-100": wrong},))
    with pytest.raises(DataError, match="pairs of two classes"):
        published_removal.run(study_with(small_setting()))


def test_released_pairs_are_those_of_cifar100(monkeypatch, small_setting):
    monkeypatch.setattr(released, "pairs", lambda name: {"CIFAR-100": "the list"}[name])
    section, setting = (
        SECTION.model_copy(update={"source": "released"}),
        small_setting().model_copy(update={"data": "cifar100"}),
    )
    assert published_removal.released_pairs(section, setting) == "the list"


def made(correct: dict[str, np.ndarray]) -> tuple[Arms, np.ndarray]:
    """Arms of three networks and ten tests, of which two are in a pair; 5 of 100 training examples are removed."""
    removed = {arm: np.tile(np.arange(100) < (0 if arm == EVERYTHING else 5), (3, 1)) for arm in correct}
    return Arms(removed, correct, np.ones(3)), np.arange(10) < 2


def test_losses_are_paired_and_split_between_the_tests():
    whole, without = np.ones((3, 10), dtype=bool), np.ones((3, 10), dtype=bool)
    whole[0, 9], without[0, 9], without[:, 0], without[1, 1] = False, False, False, False
    rows = published_removal.losses(*made({EVERYTHING: whole, INFLUENCERS: without})).set_index(["arm", "tests"])
    found = rows.loc[INFLUENCERS]
    assert found["drop"].to_dict() == pytest.approx({"all": 4 / 30, "affected": 4 / 6, "elsewhere": 0})
    assert found.drop_std_error["elsewhere"] == 0 and found["count"].to_dict() == {"all": 10, "affected": 2, "elsewhere": 8}
    assert found.each["all"] == pytest.approx(4 / 3 / 5)
    assert np.isnan(rows.loc[EVERYTHING].each).all()


def test_the_interval_is_that_of_students_test():
    values = np.array([0.01, 0.03, 0.02, 0.06])
    found = published_removal.interval(values)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))


def test_the_papers_numbers_are_those_of_the_ledger():
    ledger = {claim.id: claim.published for claim in claims.load(ROOT / "claims.yaml").claims}
    quoted = {"drop": "removing-influencers-costs-accuracy", "affected_drop": "affected-tests-lose-most"}
    for name, claim in quoted.items():
        assert published_removal.PAPER[name] == pytest.approx((ledger[claim].value / 100, ledger[claim].uncertainty / 100))
    paper = {name: value for name, (value, _) in published_removal.PAPER.items()}
    assert paper["before"] - paper["after"] == pytest.approx(paper["drop"])
    assert paper["affected_before"] - paper["affected_after"] == pytest.approx(paper["affected_drop"])


@pytest.mark.parametrize("changes", [{"random": ()}, {"repeats": 1}, {"source": "guessed"}])
def test_the_section_refuses_what_it_cannot_mean(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        PublishedRemoval(**SECTION.model_dump() | changes)
