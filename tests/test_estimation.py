"""Stage `estimate` on a prediction file with planted rows: what the tables say, and what moves them."""

import json

import numpy as np
import pandas as pd
import pytest

from study import estimation, estimators, predictions, subsets, tables
from study.params import Estimate
from study.predictions import PredictionError

T, LOST = 300, [3, 77]  # trials, and those of them that diverged
MEMORIZED = np.arange(0, 1000, 20)  # right with probability 0.1 outside the subset, and always inside
RULES = Estimate(
    mem_threshold=0.25,
    infl_threshold=0.15,
    mem_floor=0.02,
    infl_floor=0.05,
    pairs_kept=10_000,
    reliability_splits=2,
    null_permutations=2,
    settling_trials=(40, 150, 1000),
    settling_repeats=2,
    seed=1,
)
SETTLING = [
    "trials", "repeat", "mean_std_error", "pairs", "null_pairs", "half", "memorization_pearson", "memorization_spearman",
    "memorization_rmse", "half_pairs", "pairs_jaccard", "mirrored_jaccard",
]  # fmt: skip


def planted(digits) -> tuple[np.ndarray, ...]:
    """Masks and correctness. Each memorized example helps the first test of its class, by 0.6 through the first of them."""
    draw, members = np.random.default_rng(0), subsets.members(0, range(T), digits.n, 0.7)
    outside = np.full(digits.n, 0.98)
    outside[MEMORIZED] = 0.1
    train = draw.random(members.shape) < np.where(members, 1.0, outside)
    test = draw.random((T, digits.n_test)) < 0.97
    for c in range(10):
        helper = MEMORIZED[digits.y_train[MEMORIZED] == c][0]
        test[:, np.flatnonzero(digits.y_test == c)[0]] = draw.random(T) < 0.3 + 0.6 * members[:, helper]
    train[LOST], test[LOST] = False, False
    return members, train, test


@pytest.fixture(scope="module")
def setting(small_setting):
    return small_setting(trials=T)


@pytest.fixture(scope="module")
def source(digits, setting, tmp_path_factory):
    """A folder with the prediction file, and the tables made from it by `RULES`."""
    folder = tmp_path_factory.mktemp("estimation")
    _, train, test = planted(digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        diverged = np.isin(np.arange(T), LOST)
        predictions.write(predictions.path_of("toy"), setting, digits, range(T), train, test, diverged)
        estimation.run("toy", setting, RULES)
    return folder


@pytest.fixture
def here(source, monkeypatch):
    monkeypatch.chdir(source)
    return source


@pytest.fixture
def good(digits):
    """Estimates from the trials that did not diverge."""
    rows = np.delete(np.arange(T), LOST)
    members, train, test = (matrix[rows] for matrix in planted(digits))
    return estimators.estimate(members, train, test, digits.y_train, digits.y_test)


def test_diverged_trials_are_left_out_and_counted(here, good):
    summary = tables.load("toy", "summary")
    assert summary["diverged"] == 2 and summary["trials"] == T - 2
    pd.testing.assert_frame_equal(tables.load("toy", "memorization"), good.memorization)


def test_the_tables_hold_the_promised_columns(here):
    assert list(tables.load("toy", "memorization")) == [
        "index", "label", "mem", "std_error", "n_in", "n_out", "in_accuracy", "out_accuracy"
    ]  # fmt: skip
    assert list(tables.load("toy", "pairs")) == ["train", "test", "infl", "std_error", "mem", "same_class"]
    assert list(tables.load("toy", "error_by_trials")) == ["trials", "groups", "rmse", "lemma_bound", "binomial_bound"]
    assert list(tables.load("toy", "settling")) == SETTLING


def test_the_pairs_on_disk_reach_down_to_the_floors(here, good):
    pairs = tables.load("toy", "pairs")
    pd.testing.assert_frame_equal(pairs, good.pairs(RULES.mem_floor, RULES.infl_floor))
    assert pairs.infl.abs().min() >= 0.05 and (pairs.infl < 0).any() and (pairs.infl < 0.15).any()


def test_the_summary_tells_sizes_and_accuracies(here, good, digits):
    summary = tables.load("toy", "summary")
    assert {key: summary[key] for key in ("data", "n", "n_test", "ratio")} == {
        "data": "digits", "n": 1000, "n_test": 797, "ratio": 0.7
    }  # fmt: skip
    inside, outside = good.train_correct[good.members].mean(), good.train_correct[~good.members].mean()
    assert summary["in_accuracy"]["value"] == pytest.approx(inside, abs=1e-12)
    assert summary["out_accuracy"]["value"] == pytest.approx(outside, abs=1e-12)
    assert summary["test_accuracy"]["value"] == pytest.approx(good.test_correct.mean(), abs=1e-12)
    by_trial = good.test_correct.mean(1)
    assert summary["test_accuracy"]["std"] == pytest.approx(by_trial.std(ddof=1))
    assert summary["test_accuracy"]["std_error"] == pytest.approx(by_trial.std(ddof=1) / (T - 2) ** 0.5)


def test_mean_memorization_is_the_gap_within_its_standard_error(here):
    summary = tables.load("toy", "summary")
    gap = summary["in_accuracy"]["value"] - summary["out_accuracy"]["value"]
    found = summary["mean_memorization"]
    assert found["value"] == pytest.approx(gap, abs=found["std_error"])
    truth = 0.05 * 0.9 + 0.95 * 0.02
    assert abs(found["value"] - truth) < 4 * found["std_error"] < 0.005


def test_the_memorized_are_counted(here, good):
    summary, mem = tables.load("toy", "summary"), good.memorization.mem
    assert summary["identified"] == 1000
    assert summary["memorized"]["count"] == len(MEMORIZED) == (mem >= 0.25).sum()
    assert summary["memorized"]["share"] == 0.05
    assert summary["memorized"]["near_one"]["value"] == (mem >= 0.9).sum()
    assert summary["memorized"]["middle"]["value"] == ((mem >= 0.3) & (mem < 0.7)).sum() / 4


def test_the_planted_pairs_are_counted(here, digits):
    found, pairs = tables.load("toy", "summary")["pairs"], tables.load("toy", "pairs")
    strong = pairs[(pairs.mem >= 0.25) & (pairs.infl >= 0.15)]
    helpers = {MEMORIZED[digits.y_train[MEMORIZED] == c][0] for c in range(10)}
    assert helpers <= set(strong.train) and found["count"] == len(strong)
    assert found["unique_tests"] == strong.test.nunique() and found["unique_trains"] == strong.train.nunique()
    assert found["single_influencer_tests"] == (strong.groupby("test").size() == 1).sum()
    assert found["max_influencers"] == strong.groupby("test").size().max()
    assert found["share_of_tests"] == strong.test.nunique() / 797
    assert found["mirrored_count"] == ((pairs.mem >= 0.25) & (pairs.infl <= -0.15)).sum()
    assert found["weak"]["share"]["value"] == (strong.infl < 0.4).mean()


def test_permuted_rows_leave_no_pairs_and_no_memorization(here):
    summary = tables.load("toy", "summary")
    assert summary["pairs"]["null_permutations"] == 2
    assert summary["pairs"]["null_count"] <= 1 and summary["pairs"]["null_memorized"] == 0
    assert summary["pairs"]["null_mem_std"] < 0.05
    assert abs(summary["reliability"]["null_pearson"]) < 0.2 < 0.9 < summary["reliability"]["memorization_pearson"]


def test_influence_measured_where_it_was_selected_is_flattered(here):
    """The strongest of thousands by 150 trials is strong by luck too; the other half of the trials tells the truth."""
    found = tables.load("toy", "summary")["reliability"]
    assert found["pairs_count"] >= 10 and 0 < found["pairs_jaccard"] <= 1
    assert 0.4 < found["influence_measured_afresh"] < found["influence_where_selected"] - 0.005


def test_the_measured_error_stands_beside_the_bounds(here):
    bound, table = tables.load("toy", "summary")["bound"], tables.load("toy", "error_by_trials")
    assert bound["trials"] == (T - 2) // 2
    assert bound["mean_squared_error"]["value"] < bound["binomial"] < bound["lemma"]
    assert bound["lemma"] == estimators.lemma_bound(bound["trials"], 0.7)
    assert table.trials.tolist() == [25, 50, 100] and table.groups.tolist() == [11, 5, 2]
    assert (table.rmse < table.binomial_bound).all() and (table.binomial_bound < table.lemma_bound).all()
    assert table.rmse.is_monotonic_decreasing


def test_nearly_none_of_the_planted_pairs_is_a_false_discovery_and_most_survive(here):
    summary = tables.load("toy", "summary")
    found, again = summary["pairs"]["false_discovery"], summary["reliability"]
    assert found["value"] == summary["pairs"]["null_count"] / summary["pairs"]["count"] < 0.1
    assert again["survivors_mirrored"] < 0.2 < 0.3 < again["survivors"]
    assert again["mirrored_jaccard"] < 0.05 < 0.2 < again["pairs_jaccard"]


def test_the_table_of_pairs_is_whole_unless_it_says_otherwise(here, setting, tmp_path, monkeypatch):
    summary, table = tables.load("toy", "summary"), tables.load("toy", "pairs")
    assert summary["pairs"]["kept"] == {"count": len(table), "infl_floor": RULES.infl_floor} and table.attrs == {}
    (tmp_path / "predictions").symlink_to(here / "predictions")
    monkeypatch.chdir(tmp_path)
    estimation.run("toy", setting, RULES.model_copy(update={"pairs_kept": 12}))
    less, cut = tables.load("toy", "summary")["pairs"], tables.load("toy", "pairs")
    assert less["kept"] == {"count": len(cut), "infl_floor": cut.attrs["infl_floor"]} and len(cut) <= 12
    assert cut.infl.abs().min() >= cut.attrs["infl_floor"] > 0.1
    assert {key: less[key] for key in less if key != "kept"} == {k: v for k, v in summary["pairs"].items() if k != "kept"}


def test_reliability_settles_as_trials_grow(here):
    """Numbers of trials beyond those there are give way to all of them; the null tells how many pairs to believe."""
    table, summary = tables.load("toy", "settling"), tables.load("toy", "summary")
    assert table.trials.tolist() == [40, 40, 150, 150, T - 2, T - 2] and table.repeat.tolist() == [0, 1] * 3
    assert (table.half == table.trials // 2).all()
    mean = table.groupby("trials").mean()
    assert mean.memorization_pearson.is_monotonic_increasing and mean.pairs_jaccard.is_monotonic_increasing
    for falling in ("mean_std_error", "memorization_rmse", "null_pairs", "half_pairs"):
        assert mean[falling].is_monotonic_decreasing and mean[falling].iloc[0] > 1.5 * mean[falling].iloc[-1]
    assert (table.pairs[-2:] == summary["pairs"]["count"]).all()
    assert (table.mean_std_error[-2:] == summary["mean_std_error"]).all()


def test_settling_compares_halves_of_random_choices_that_share_no_trial(good, monkeypatch):
    taken, part = [], estimators.part
    monkeypatch.setattr(estimators, "part", lambda estimates, rows: taken.append(part(estimates, rows)) or taken[-1])
    table = estimation.settling(good, RULES.model_copy(update={"settling_trials": (41,), "settling_repeats": 2}))
    whole, first, second, again = (part.masks.order for part in taken[:4])
    assert len(first) == len(second) == table.half[0] == 20 and len(whole) == len(set(whole)) == 41
    assert not set(first) & set(second) and {*first, *second} < set(whole)
    assert set(again) != set(whole), "the next repeat has another choice"
    halves = pd.DataFrame({name: half.memorization.mem for name, half in zip("ab", taken[1:3])})
    assert table.memorization_pearson[0] == pytest.approx(halves.corr().loc["a", "b"])
    assert table.mean_std_error[0] == taken[0].memorization.std_error.mean()


def test_another_number_of_trials_changes_no_other_row_of_settling(good):
    few, more = (estimation.settling(good, RULES.model_copy(update={"settling_trials": t})) for t in ((60,), (30, 60)))
    pd.testing.assert_frame_equal(few, more[2:].reset_index(drop=True))


# few trials


@pytest.fixture(scope="module")
def noisy() -> estimators.Estimates:
    """48 trials, 400 examples and 100 tests of two classes: memorization to all degrees, and all tests but ten are coins."""
    draw, members = np.random.default_rng(3), subsets.members(4, range(48), 400, 0.7)
    train = draw.random(members.shape) < np.where(members, 1.0, draw.random(400))
    test = draw.random((48, 100)) < 0.5
    memorized = np.argsort((train & ~members).sum(0) / (~members).sum(0))[:10]
    labels, test_labels = np.arange(400) % 2, np.arange(100) % 2
    for z, i in enumerate(memorized):
        test[:, z], test_labels[z] = members[:, i] & (draw.random(48) < 0.95), labels[i]
    return estimators.estimate(members, train, test, labels, test_labels)


def test_with_48_trials_the_summary_says_that_most_pairs_are_chance(noisy, setting):
    found = estimation.everything(noisy, setting, RULES.model_copy(update={"null_permutations": 20}))["summary"]
    pairs, again = found["pairs"], found["reliability"]
    assert found["identified"] == 400 and found["trials"] == 48
    assert pairs["count"] > 1000 and pairs["mirrored_count"] > 1000
    assert abs(pairs["false_discovery"]["value"] - 1) < 0.1 and pairs["false_discovery"]["std_error"] < 0.1
    assert abs(again["survivors"] - again["survivors_mirrored"]) < 0.05, "measured again, noise falls to both sides"
    assert 0.05 < again["mirrored_jaccard"] < again["pairs_jaccard"] + 0.02 < 0.2, "in common by chance alone"
    assert again["influence_where_selected"] > 0.2 and abs(again["influence_measured_afresh"]) < 0.05


def test_with_48_trials_the_strongest_pairs_are_the_planted_ones_all_the_same(noisy, setting):
    kept = estimation.everything(noisy, setting, RULES.model_copy(update={"pairs_kept": 12}))["pairs"]
    assert set(range(10)) <= set(kept[kept.infl > 0].test)
    assert kept.attrs["infl_floor"] > RULES.infl_threshold


def test_with_48_trials_memorization_is_reliable_where_it_is_spread(noisy, setting):
    results = estimation.everything(noisy, setting, RULES)
    assert results["settling"].trials.tolist() == [40, 40, 48, 48] and not results["settling"].isna().any(axis=None)
    assert results["memorization"].std_error.between(0.05, 0.25).all() and (results["memorization"].n_out > 3).all()
    assert (
        results["summary"]["reliability"]["memorization_pearson"]
        > 0.6
        > 0.2
        > results["summary"]["reliability"]["null_pearson"]
    )
    assert results["error_by_trials"].empty, "two groups of 25 need 50 trials"


def test_a_single_trial_is_refused_for_it_has_no_halves(noisy, setting):
    with pytest.raises(ValueError, match="1 trial has no halves to compare; at least two are needed"):
        estimation.everything(estimators.part(noisy, np.arange(1)), setting, RULES)


@pytest.mark.parametrize("trials", [2, 3, 5])
def test_a_handful_of_trials_is_told_without_a_warning(noisy, setting, trials):
    few = estimators.part(noisy, np.arange(trials))
    results = estimation.everything(few, setting, RULES)
    assert results["settling"].trials.tolist() == [trials] * 2 and results["settling"].half.tolist() == [trials // 2] * 2
    share = few.members.mean(0)
    assert results["summary"]["identified"] == results["memorization"].mem.notna().sum() == ((share > 0) & (share < 1)).sum()


def test_every_measured_quantity_travels_with_its_standard_error(here):
    def quantities(branch):
        if isinstance(branch, dict):
            yield from [branch] if "value" in branch else []
            for value in branch.values():
                yield from quantities(value)

    found = list(quantities(json.loads((here / "tables/toy/summary.json").read_text())))
    assert len(found) >= 8 and all(quantity["std_error"] >= 0 for quantity in found)


def test_the_same_rows_give_the_same_bytes(here, setting):
    before = {path.name: path.read_bytes() for path in (here / "tables/toy").iterdir()}
    estimation.run("toy", setting, RULES)
    assert {path.name: path.read_bytes() for path in (here / "tables/toy").iterdir()} == before
    assert set(before) == {f"{name}.parquet" for name in ("memorization", "pairs", "error_by_trials", "settling")} | {
        "summary.json"
    }


OTHER = {
    "mem_threshold": 0.9,
    "infl_threshold": 0.3,
    "mem_floor": 0.2,
    "infl_floor": 0.1,
    "pairs_kept": 20,
    "reliability_splits": 3,
    "null_permutations": 3,
    "settling_trials": (40, 100),
    "settling_repeats": 3,
    "seed": 2,
}
PAIRS, SUMMARY, SETTLED = "pairs.parquet", "summary.json", "settling.parquet"
CHANGED = {
    "mem_threshold": {SUMMARY, SETTLED},
    "infl_threshold": {SUMMARY, SETTLED},
    "mem_floor": {PAIRS, SUMMARY},
    "infl_floor": {PAIRS, SUMMARY},
    "pairs_kept": {PAIRS, SUMMARY},
    "reliability_splits": {SUMMARY},
    "null_permutations": {SUMMARY},
    "settling_trials": {SETTLED},
    "settling_repeats": {SETTLED},
    "seed": {SUMMARY, SETTLED},
}


@pytest.mark.parametrize("key", OTHER)
def test_every_rule_changes_something(source, setting, tmp_path, monkeypatch, key):
    (tmp_path / "predictions").symlink_to(source / "predictions")
    monkeypatch.chdir(tmp_path)
    estimation.run("toy", setting, RULES.model_copy(update={key: OTHER[key]}))
    old, new = ({path.name: path.read_bytes() for path in (root / "tables/toy").iterdir()} for root in (source, tmp_path))
    changed = {name for name in old if old[name] != new[name]}
    assert changed == CHANGED[key]


def test_the_list_of_other_rules_is_complete():
    assert OTHER.keys() == CHANGED.keys() == Estimate.model_fields.keys()


def test_nothing_memorized_and_no_pair_is_told_without_a_warning(folder, setting, digits):
    """Every model right about everything: what has no value is null, and nothing is divided by zero."""
    rows = np.ones((T, 1000), dtype=bool), np.ones((T, 797), dtype=bool), np.zeros(T, dtype=bool)
    predictions.write(predictions.path_of("toy"), setting, digits, range(T), *rows)
    estimation.run("toy", setting, RULES)
    summary = tables.load("toy", "summary")
    assert summary["memorized"]["count"] == summary["pairs"]["count"] == summary["pairs"]["max_influencers"] == 0
    assert summary["pairs"]["weak"]["share"] == {"value": None, "std_error": None}
    assert summary["reliability"]["influence_measured_afresh"] is summary["reliability"]["survivors"] is None
    assert summary["pairs"]["false_discovery"] == {"value": None, "std_error": None}
    assert tables.load("toy", "settling").pairs_jaccard.isna().all()
    assert summary["mean_memorization"]["value"] == 0 and tables.load("toy", "pairs").empty


def test_few_trials_leave_some_examples_without_an_estimate(folder, small_setting, digits):
    """With 8 trials one example in seventeen was in all of them, and in four trials one in four."""
    few, (_, train, test) = small_setting(trials=8), planted(digits)
    predictions.write(predictions.path_of("toy"), few, digits, range(8), train[8:16], test[8:16], np.zeros(8, dtype=bool))
    estimation.run("toy", few, RULES)
    summary, frame = tables.load("toy", "summary"), tables.load("toy", "memorization")
    lost = (frame.n_out == 0) | (frame.n_in == 0)
    assert lost.any() and summary["identified"] == 1000 - lost.sum() and frame.mem.isna().equals(lost)
    assert tables.load("toy", "error_by_trials").empty


def test_a_file_of_another_setting_is_refused(here, small_setting):
    with pytest.raises(PredictionError, match="made with other parameters: seed was 0, is 1"):
        estimation.run("toy", small_setting(seed=1), RULES)


def test_a_missing_file_is_refused_with_the_remedy(folder, setting):
    with pytest.raises(PredictionError, match=r"toy.zarr.zip does not exist; `dvc pull` fetches it"):
        estimation.run("toy", setting, RULES)
