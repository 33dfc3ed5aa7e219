"""What learners have in common, where it was planted: the same examples, some of them, none, and shared luck."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from study import estimators, params, predictions, subsets
from study.case_studies import consistency as c

N, N_TEST, CLASSES = 200, 40, 4
LABELS, TEST_LABELS = np.arange(N) % CLASSES, np.arange(N_TEST) % CLASSES
RULES = {
    "settings": {"digits": ("a", "b")},
    "mem_thresholds": (0.25, 0.5),
    "infl_thresholds": (0.15, 0.3),
    "replicates": 3,
    "shuffles": 2,
    "seed": 0,
}


SELECTION = params.Estimate(
    mem_threshold=0.25,
    infl_threshold=0.15,
    mem_floor=0.1,
    infl_floor=0.05,
    pairs_kept=1000,
    reliability_splits=1,
    null_permutations=1,
    settling_trials=(4,),
    settling_repeats=1,
    seed=0,
)


def rules(**changes) -> params.Consistency:
    return params.Consistency(**RULES | changes)


def planted(memorized, pairs=(), name="a", seed=0, t=80, key="a", noise=0.0, luck=0) -> c.Learner:
    """A learner that is right on what it was trained on, and elsewhere unless the example is among ``memorized``.

    Tests in ``pairs`` (train, test) are right only with their training example; ``noise`` flips results at random.
    """
    members, rng = subsets.members(seed, range(t), N, 0.7), np.random.default_rng(luck)
    correct, right = np.ones((t, N), dtype=bool), np.ones((t, N_TEST), dtype=bool)
    correct[:, memorized] = members[:, memorized]
    for train, test in pairs:
        right[:, test] = members[:, train]
    correct, right = correct ^ (rng.random(correct.shape) < noise), right ^ (rng.random(right.shape) < noise)
    estimates = estimators.estimate(members, correct, right, LABELS, TEST_LABELS)
    return c.Learner(name, estimates, np.arange(t), key, seed)


def curves_of(learners, **changes) -> pd.DataFrame:
    return c.of_data_set("digits", learners, rules(**changes), SELECTION)["curves"]


def row(curves, first, second, measure="memorization", threshold=0.25) -> pd.Series:
    at = curves[(curves["first"] == first) & (curves.second == second) & (curves.measure == measure)]
    return at[at.threshold == threshold].iloc[0]


def test_similarity_is_what_counting_by_hand_gives():
    a, b = np.array([0.9, 0.6, 0.3, 0.0, np.nan]), np.array([0.7, 0.2, 0.4, 0.0, 1.0])
    found = c.similarity(a, b, [0.3, 0.5, 0.95])
    assert found.jaccard.tolist()[:2] == [2 / 3, 1 / 2]
    assert found.difference.tolist()[:2] == pytest.approx([(0.2 + 0.4 + 0.1) / 3, (0.2 + 0.4) / 2])
    assert found["first"].tolist() == [3, 2, 0] and found.second.tolist() == [2, 1, 0]
    assert np.isnan(found.jaccard[2]) and np.isnan(found.difference[2])


def test_an_item_that_is_not_eligible_for_one_side_is_selected_by_the_other_alone():
    a = b = np.array([0.9, 0.9])
    found = c.similarity(a, b, [0.5], np.array([True, False]), np.array([True, True]))
    assert found.loc[0, ["jaccard", "difference", "first", "second"]].tolist() == [0.5, 0.0, 1.0, 2.0]


def test_learners_that_memorize_the_same_agree_and_learners_that_share_half_agree_in_a_third():
    same, half, none = (np.arange(start, start + 20) for start in (0, 10, 40))
    learners = [planted(same), planted(same, name="b", luck=1), planted(half, name="h"), planted(none, name="n")]
    curves = curves_of(learners, settings={"digits": ("a", "b", "h", "n")})
    assert row(curves, "a", "b").jaccard == 1
    assert row(curves, "a", "h").jaccard == pytest.approx(1 / 3)
    assert row(curves, "a", "n").jaccard == 0
    assert row(curves, "a", "n").difference == pytest.approx(1)
    assert row(curves, "a", "a").jaccard == 1


def test_the_same_pairs_are_found_and_other_pairs_are_not_mistaken_for_them():
    memorized, pairs = np.arange(8), [(i, i) for i in range(8)]
    moved = [(i, i + CLASSES) for i in range(8)]
    learners = [planted(memorized, pairs), planted(memorized, pairs, "b", seed=1), planted(memorized, moved, "m", seed=2)]
    curves = curves_of(learners)
    assert row(curves, "a", "b", "influence", 0.3).jaccard == 1
    assert row(curves, "a", "b", "influence", 0.3).size_first == 8
    assert row(curves, "a", "m", "influence", 0.3).jaccard == 0
    assert row(curves, "a", "m", "influence", 0.3).difference > 0.8


def lucky(name, t=60) -> c.Learner:
    """A learner without memorization whose results follow from the subset alone, by coin tosses that it determines."""
    members = subsets.members(0, range(t), N, 0.7)
    coins = np.random.default_rng(7)
    results = coins.random((t, N)) < 0.5, coins.random((t, N_TEST)) < 0.5
    estimates = estimators.estimate(members, *results, LABELS, TEST_LABELS)
    return c.Learner(name, estimates, np.arange(t), name, 0)


def test_luck_that_two_learners_share_through_their_subsets_is_not_counted_as_agreement():
    tables = c.of_data_set("digits", [lucky("a"), lucky("b")], rules(), SELECTION)
    found = row(tables["curves"], "a", "b")
    assert found.jaccard_shared == 1
    assert found.jaccard < 0.3
    correlation = tables["agreement"].set_index(["first", "second"]).pearson["a", "b"]
    assert abs(correlation) < 0.3


def test_settings_of_two_seeds_share_no_subset():
    curves = curves_of([planted(np.arange(9)), planted(np.arange(9), name="b", seed=1)])
    assert np.isnan(row(curves, "a", "b").jaccard_shared)
    assert row(curves, "a", "b").kind == "repeat"
    other = curves_of([planted(np.arange(9)), planted(np.arange(9), name="b", key="b")])
    assert row(other, "a", "b").kind == "network" and row(other, "a", "b").jaccard_shared == 1


def test_a_learner_that_is_no_network_is_counted_apart():
    net, rule = planted(np.arange(9)), replace(planted(np.arange(9), name="b", key="b"), network=False)
    assert [c.kind_of(net, net), c.kind_of(net, rule), c.kind_of(rule, rule)] == ["itself", "other", "itself"]
    assert c.kind_of(net, planted(np.arange(9), name="d", key="d")) == "network"


def test_shuffled_scores_stay_in_their_class_and_agree_by_chance_only():
    learner = planted(np.arange(40), [(i, i) for i in range(12)])
    scores = c.scores_of(learner.estimates, np.arange(80), 0.25, 0.15)
    dealt = scores.shuffled(np.random.default_rng(0))
    assert (LABELS[dealt.train_of] == LABELS).all() and (dealt.train_of != np.arange(N)).any()
    assert np.array_equal(np.sort(dealt.mem), np.sort(scores.mem))
    assert len(dealt.pairs) == len(scores.pairs) >= 12
    assert (dealt.influence(dealt.pairs) >= 0.15).all()
    assert (LABELS[dealt.pairs >> 32] == TEST_LABELS[dealt.pairs & c.LOW]).all()
    curves = curves_of([learner, planted(np.arange(40), name="b")])
    assert row(curves, "a", "b").jaccard_shuffled == pytest.approx(8 / 72, abs=0.06)  # 10 of 50 in each class


def test_noise_lowers_similarity_and_the_ceiling_tells_by_how_much():
    def noisy(name, luck):
        return planted(np.arange(40), name=name, noise=0.35, luck=luck)

    curves = curves_of([noisy("a", 1), noisy("b", 2)])
    ceiling, between = row(curves, "a", "a"), row(curves, "a", "b")
    assert between.jaccard < 0.9
    assert between.jaccard == pytest.approx(ceiling.jaccard, abs=4 * np.hypot(ceiling.jaccard_se, between.jaccard_se))


def test_the_stated_error_is_the_scatter_over_fresh_trials():
    """Similarity of fresh trials with fixed scores: its spread over worlds, and the mean of what halves report."""
    fixed, asked, found, stated = np.linspace(1, 0, N), rules(replicates=12), [], []
    for k in range(30):
        learner = planted(np.arange(60), noise=0.3, luck=k, seed=k, t=40)
        chosen = c.samples(40, asked)[0]
        mems = [estimators.part(learner.estimates, rows).memorization.mem.to_numpy() for rows in chosen]
        values = np.array([c.similarity(fixed, mem, [0.5]).to_numpy()[0] for mem in mems])
        found.append(values[0, 0])
        stated.append(c.spread(values)[0])
    assert np.mean(stated) == pytest.approx(np.std(found, ddof=1), rel=0.35)


def test_samples_are_halves_of_the_halves_and_the_two_never_meet():
    first, second = c.samples(20, rules())
    assert np.array_equal(first[0], np.arange(20)) and np.array_equal(second[0], np.arange(20, 40))
    assert len(first) == len(second) == 4
    for a, b in zip(first[1:], second[1:]):
        assert len(a) == 10 and np.array_equal(a + 20, b) and np.isin(a, first[0]).all()
    with pytest.raises(ValueError, match="half of the smallest common number of trials is 3; at least 4"):
        c.samples(3, rules())


def test_correlation_is_corrected_for_the_noise_of_both_learners():
    def noisy(name, luck):
        return planted(np.arange(60), name=name, noise=0.3, luck=luck, key=name)

    agreement = c.of_data_set("digits", [noisy("a", 1), noisy("b", 2)], rules(), SELECTION)["agreement"]
    between = agreement[agreement["first"] != agreement.second].iloc[0]
    assert between.pearson < 0.95
    assert between.corrected == pytest.approx(1, abs=4 * between.corrected_se + 0.02)


def test_every_number_of_the_section_changes_the_tables():
    learners = [planted(np.arange(30), noise=0.3, luck=k, name=name) for k, name in enumerate("ab")]
    plain = curves_of(learners)
    changes = {"mem_thresholds": (0.2, 0.5), "infl_thresholds": (0.1, 0.3), "replicates": 4, "shuffles": 1, "seed": 1}
    for key, value in changes.items():
        assert not curves_of(learners, **{key: value}).equals(plain), key


def write(folder, setting, digits, trials, diverged=()):
    rng = np.random.default_rng(setting.seed)
    results = (rng.random((trials, size)) < 0.9 for size in (digits.n, digits.n_test))
    predictions.write(folder, setting, digits, range(trials), *results, np.isin(np.arange(trials), diverged))


def test_longer_files_are_cut_to_their_first_trials_and_a_diverged_one_is_left_out_by_its_number(
    folder, digits, small_setting
):
    settings = {"short": small_setting(trials=20, seed=1), "long": small_setting(trials=30)}
    write(predictions.path_of("short"), settings["short"], digits, 20)
    write(predictions.path_of("long"), settings["long"], digits, 30, diverged=[5])
    short, long = c.first_trials(settings, digits)
    assert short.trial.tolist() == list(range(20))
    assert long.trial.tolist() == [k for k in range(20) if k != 5]
    file = predictions.load(predictions.path_of("long"))
    assert np.array_equal(long.estimates.train_correct, file.train_correct.values[long.trial])
    assert np.array_equal(long.estimates.members, subsets.members(0, long.trial, digits.n, 0.7))
    assert short.key == long.key
    assert len(long.rows(c.samples(10, rules())[0][0])) == 9


def study_with(trained: dict, **changes) -> params.Params:
    return params.Params.model_construct(settings=trained, consistency=rules(**changes), estimate=SELECTION)


def test_the_stage_compares_what_it_reads_and_its_summary_is_json(folder, digits, small_setting):
    settings = {"a": small_setting(trials=20), "b": small_setting(trials=30, seed=1), "l": small_setting(data="longtail")}
    for name in "ab":
        write(predictions.path_of(name), settings[name], digits, settings[name].trials)
    tables = c.run(study_with(settings, mem_thresholds=(0.05, 0.25), infl_thresholds=(0.15,)))
    assert tables["learners"].h.tolist() == [10, 10] and tables["learners"].trials.tolist() == [20, 20]
    summary = tables["summary"]["digits"]["memorization"]
    assert set(tables["curves"].kind) == {"itself", "repeat"}
    assert np.isnan(summary["other"]["value"]) and 0 <= summary["repeat"]["value"] <= 1
    json.dumps(tables["summary"], default=float)
    with pytest.raises(ValueError, match=r"lists settings of different data: a \(digits\), l \(longtail\)"):
        c.run(study_with(settings, settings={"digits": ("a", "l")}))
    with pytest.raises(ValueError, match="unknown setting 'x'"):
        c.run(study_with(settings, settings={"digits": ("a", "x")}))


def test_a_setting_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"settings\.digits names a setting twice: a, a"):
        rules(settings={"digits": ("a", "a")})
