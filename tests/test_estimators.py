"""Estimators against counting by hand: exact, streamed in blocks, and silent about what the trials cannot tell."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from study import estimators
from study.estimators import count_together, count_true, estimate, lemma_bound, standard_error


def random_arrays(t: int = 120, n: int = 30, n_test: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Masks, correctness that depends on them, and labels of three classes (class 2 has no test)."""
    draw = np.random.default_rng(seed)
    members = draw.random((t, n)) < 0.7
    train = (draw.random((t, n)) < 0.4) | (members & (draw.random((t, n)) < 0.8))
    test = (draw.random((t, n_test)) < 0.3) | (members[:, :n_test] & (draw.random((t, n_test)) < 0.7))
    labels = np.arange(n) % 3, np.arange(n_test) % 2
    return dict(
        zip(("members", "train_correct", "test_correct", "train_labels", "test_labels"), (members, train, test, *labels))
    )


def by_hand(members: np.ndarray, correct: np.ndarray, i: int, z: int) -> float:
    """Pr[z right | i in] - Pr[z right | i out], one trial after the other; NaN if one side has no trial."""
    inside = [bool(right) for member, right in zip(members[:, i], correct[:, z]) if member]
    outside = [bool(right) for member, right in zip(members[:, i], correct[:, z]) if not member]
    return sum(inside) / len(inside) - sum(outside) / len(outside) if inside and outside else float("nan")


@st.composite
def small_arrays(draw):
    t, n, n_test = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return [draw(arrays(bool, (t, width))) for width in (n, n, n_test)]


@settings(max_examples=80, deadline=None)
@given(small_arrays())
def test_memorization_and_influence_are_what_counting_by_hand_gives(matrices):
    members, train, test = matrices
    found = estimate(members, train, test)
    n, n_test = members.shape[1], test.shape[1]
    mem = [by_hand(members, train, i, i) for i in range(n)]
    infl = [[by_hand(members, test, i, z) for z in range(n_test)] for i in range(n)]
    np.testing.assert_allclose(found.memorization.mem, mem, atol=1e-12)
    np.testing.assert_allclose(found.influence()[0], infl, atol=1e-12)


def test_memorization_is_the_influence_of_an_example_on_itself():
    a = random_arrays()
    found = estimate(a["members"], a["train_correct"], a["train_correct"])
    infl, error = found.influence()
    assert np.array_equal(np.diagonal(infl), found.memorization.mem)
    assert np.array_equal(np.diagonal(error), found.memorization.std_error)


def test_the_table_has_the_promised_columns():
    a = random_arrays()
    frame = estimate(**a).memorization
    assert list(frame) == ["index", "label", "mem", "std_error", "n_in", "n_out", "in_accuracy", "out_accuracy"]
    assert frame.label.tolist() == a["train_labels"].tolist() and frame["index"].tolist() == list(range(30))
    assert (frame.n_in + frame.n_out == 120).all() and frame.n_in.tolist() == a["members"].sum(0).tolist()
    assert np.array_equal(frame.mem, frame.in_accuracy - frame.out_accuracy)
    assert "label" not in estimate(a["members"], a["train_correct"]).memorization


def test_an_example_never_held_out_has_no_memorization_rather_than_all_of_it():
    """Dividing by max(count, 1e-10) makes the accuracy outside 0, and memorization the accuracy inside: 1.00."""
    members, correct = np.ones((10, 3), dtype=bool), np.ones((10, 3), dtype=bool)
    members[:4, 1] = False
    frame = estimate(members, correct).memorization
    assert frame.mem.isna().tolist() == [True, False, True] and frame.mem[1] == 0
    assert frame.std_error.isna().tolist() == [True, False, True]
    assert frame.out_accuracy.isna().tolist() == [True, False, True] and frame.in_accuracy.tolist() == [1, 1, 1]
    assert frame.n_out.tolist() == [0, 4, 0]


def test_an_example_never_trained_on_has_no_memorization_and_no_influence():
    members, correct = np.zeros((10, 2), dtype=bool), np.ones((10, 2), dtype=bool)
    members[:4, 1] = True
    found = estimate(members, correct, correct)
    assert found.memorization.mem.isna().tolist() == [True, False]
    infl, error = found.influence()
    assert np.isnan(infl[0]).all() and np.isnan(error[0]).all() and not np.isnan(infl[1]).any()
    assert found.pairs(0, 0, same_class=False).train.tolist() == [1, 1]


def test_a_single_trial_identifies_nothing():
    found = estimate([[1, 0]], [[1, 1]], [[1]])
    assert found.memorization.mem.isna().all() and np.isnan(found.influence()[0]).all()


# standard errors and bounds


def test_the_standard_error_is_that_of_agresti_and_caffo():
    """One success and one failure added to each sample: 8/12 and 3/7 for 7 of 10 and 2 of 5."""
    expected = (8 / 12 * 4 / 12 / 12 + 3 / 7 * 4 / 7 / 7) ** 0.5
    assert standard_error(7, 10, 2, 5) == pytest.approx(expected, rel=1e-15)


def test_the_standard_error_stays_positive_where_all_models_agree():
    errors = standard_error(np.array([10, 0, 10]), 10, np.array([5, 0, 0]), 5)
    assert (errors > 0.1).all()


def test_the_standard_errors_of_the_tables_are_those_of_the_counts():
    a = random_arrays()
    found = estimate(**a)
    members, test = a["members"].astype(int), a["test_correct"].astype(int)
    n_in = members.sum(0)[:, None]
    together = members.T @ test
    expected = standard_error(together, n_in, test.sum(0) - together, 120 - n_in)
    np.testing.assert_allclose(found.influence()[1], expected, rtol=1e-14)


@pytest.mark.parametrize(("t", "ceiling"), [(4000, 0.0345), (2000, 0.0488), (1000, 0.0690), (600, 0.0891)])
def test_the_bound_of_lemma_2_1_has_its_known_values_at_seven_tenths(t, ceiling):
    assert round(lemma_bound(t, 0.7) ** 0.5, 4) == ceiling
    assert lemma_bound(t, 0.3) == pytest.approx(lemma_bound(t, 0.7)), "p is the smaller of the ratio and its complement"


def test_the_bound_of_lemma_2_1_covers_few_trials_too():
    """With next to no trial the last term, the chance that one side is empty, keeps the bound at no less than a half."""
    assert lemma_bound(10, 0.5) == pytest.approx(1 / 5 + 1 / 5 + np.exp(-5 / 16) / 2)


def test_the_binomial_bound_is_the_variance_of_two_fair_coins():
    assert estimators.binomial_bound(1000, 0.7) == pytest.approx(0.25 / 700 + 0.25 / 300)


# counting


@pytest.mark.parametrize(("t", "p", "q"), [(1, 1, 1), (1000, 3, 5), (2001, 17, 16), (130, 1, 33), (127, 64, 1)])
def test_counts_are_exact_whatever_the_shape(t, p, q):
    draw = np.random.default_rng(t)
    a, b = draw.random((t, p)) < 0.95, draw.random((t, q)) < 0.95
    found = count_together(a, b)
    assert found.dtype == np.int32 and np.array_equal(found, a.astype(np.int64).T @ b.astype(np.int64))


def test_counts_beyond_eight_bits_do_not_wrap():
    ones = np.ones((5000, 2), dtype=bool)
    assert count_together(ones, ones).tolist() == [[5000, 5000], [5000, 5000]]


def test_counts_do_not_depend_on_the_layout_in_memory():
    draw = np.random.default_rng(0)
    a, b = draw.random((50, 40)) < 0.5, draw.random((50, 30)) < 0.5
    expected = count_together(a, b)
    assert np.array_equal(count_together(np.asfortranarray(a), np.asfortranarray(b)), expected)
    assert np.array_equal(count_together(a[:, ::2], b[:, ::3]), expected[::2, ::3])
    assert np.array_equal(count_together(a[::-1], b[::-1]), expected)


@pytest.mark.parametrize("t", [0, 1, 254, 255, 256, 511, 1000])
def test_columns_are_counted_exactly_beyond_what_a_byte_holds(t):
    draw = np.random.default_rng(t)
    a, b = np.ones((t, 7), dtype=bool), draw.random((t, 7)) < 0.9
    assert count_true(a).tolist() == [t] * 7
    assert np.array_equal(count_true(b), b.sum(0)) and np.array_equal(count_true(a, b), b.sum(0))
    assert np.array_equal(count_true(b[::2, 1:6:2], b[::-1][::2, 2::2]), (b[::2, 1:6:2] & b[::-1][::2, 2::2]).sum(0))


def test_memorization_needs_a_small_part_of_the_memory_of_its_arrays():
    members = np.random.default_rng(0).random((4000, 1000)) < 0.7
    found = estimate(members, members)
    tracemalloc.start()
    try:
        found.memorization  # noqa: B018
        assert tracemalloc.get_traced_memory()[1] < members.nbytes / 4
    finally:
        tracemalloc.stop()


# influence on chosen indices, and pairs


def test_influence_of_chosen_examples_is_a_part_of_the_whole():
    found = estimate(**random_arrays())
    whole = found.influence()
    for part, all_ in zip(found.influence(train=[4, 2], test=7), whole):
        assert np.array_equal(part, all_[[4, 2]][:, [7]])


def dense_pairs(a: dict, mem_threshold: float, infl_threshold: float, same_class: bool) -> pd.DataFrame:
    """Pairs from the whole matrix."""
    found = estimate(**a)
    (infl, error), mem = found.influence(), found.memorization.mem.to_numpy()
    rows = [
        (i, z, infl[i, z], error[i, z], mem[i], a["train_labels"][i] == a["test_labels"][z])
        for i in range(len(mem))
        for z in range(infl.shape[1])
        if mem[i] >= mem_threshold and abs(infl[i, z]) >= infl_threshold
        if not same_class or a["train_labels"][i] == a["test_labels"][z]
    ]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return pd.DataFrame(rows, columns=["train", "test", "infl", "std_error", "mem", "same_class"])


@pytest.mark.parametrize("same_class", [True, False])
@pytest.mark.parametrize("block", [4, 300, 10**6])
@pytest.mark.parametrize(("mem", "infl"), [(0, 0), (0.3, 0.1), (0.45, 0.2)])
def test_streamed_pairs_equal_those_of_the_dense_matrix(monkeypatch, same_class, block, mem, infl):
    monkeypatch.setattr(estimators, "BLOCK_BYTES", block)
    a = random_arrays()
    expected = dense_pairs(a, mem, infl, same_class)
    assert 0 < len(expected)
    pd.testing.assert_frame_equal(estimate(**a).pairs(mem, infl, same_class), expected)


def test_pairs_hold_both_signs_and_the_strongest_first():
    pairs = estimate(**random_arrays()).pairs(0, 0.05, same_class=False)
    assert pairs.infl.is_monotonic_decreasing and (pairs.infl > 0).any() and (pairs.infl < 0).any()


def test_pairs_of_one_class_are_those_pairs_of_all_classes_that_agree():
    found = estimate(**random_arrays())
    every, same = found.pairs(0.2, 0.1, same_class=False), found.pairs(0.2, 0.1)
    assert 0 < len(same) < len(every) and same.same_class.all() and not every.same_class.all()
    pd.testing.assert_frame_equal(same, every[every.same_class].reset_index(drop=True))


def test_without_labels_nobody_knows_whether_classes_agree():
    a = random_arrays()
    found = estimate(a["members"], a["train_correct"], a["test_correct"])
    assert found.pairs(0.2, 0.1, same_class=False).same_class.isna().all()
    with pytest.raises(ValueError, match="need train_labels and test_labels; pass them to estimate"):
        found.pairs(0.2, 0.1)


@pytest.mark.parametrize("same_class", [True, False])
def test_no_pair_is_a_table_of_no_rows_with_the_same_columns(same_class):
    found = estimate(**random_arrays())
    none, some = found.pairs(1, 1, same_class), found.pairs(0.2, 0.1, same_class)
    assert len(none) == 0 and list(none) == list(some)
    assert none.dtypes.to_dict() == some.dtypes.to_dict()


def test_influence_may_come_from_other_trials_than_the_selection_by_memorization():
    """The mem column stays that of the selection; what was memorized there is looked up elsewhere."""
    here, there = estimate(**random_arrays(seed=0)), estimate(**random_arrays(seed=1))
    mixed = here.pairs(0.45, 0.2, influence_of=there)
    mem = here.memorization.mem
    infl, error = there.influence()
    assert len(mixed) and (mem[mixed.train].to_numpy() == mixed.mem).all() and (mixed.mem >= 0.45).all()
    assert (infl[mixed.train, mixed.test] == mixed.infl).all() and (error[mixed.train, mixed.test] == mixed.std_error).all()


@pytest.mark.parametrize(("same_class", "visited"), [(True, 2 * 10 * 10), (False, 30 * 20)])
def test_no_block_of_counts_is_larger_than_allowed(monkeypatch, same_class, visited):
    """The dense matrix is never held, and of ten classes only the tenth is looked at that can be chosen."""
    monkeypatch.setattr(estimators, "BLOCK_BYTES", 800)
    sizes = []

    def counted(a, b):
        sizes.append(a.shape[1] * b.shape[1])
        return count_together(a, b)

    monkeypatch.setattr(estimators, "count_together", counted)
    estimate(**random_arrays()).pairs(-1, 0, same_class)
    assert 4 * max(sizes) <= 800 and sum(sizes) == visited


def test_no_pair_is_lost_where_an_example_was_left_out_once_in_thousands_of_trials():
    """Terms that cancel are then thousands of times as large as the influence, and single precision loses it."""
    draw, t = np.random.default_rng(0), 4001
    members = np.ones((t, 8), dtype=bool)
    members[:8][np.eye(8, dtype=bool)] = False
    found = estimate(members, members, draw.random((t, 30)) < np.linspace(0.05, 0.95, 30))
    infl = np.abs(found.influence()[0])
    assert infl.min() < 0.06 and infl.max() > 0.9
    for threshold in infl.ravel():
        assert len(found.pairs(0.5, threshold, same_class=False)) == (infl >= threshold).sum()


@pytest.mark.parametrize("same_class", [True, False])
def test_blocks_hold_the_pairs_of_the_table(monkeypatch, same_class):
    monkeypatch.setattr(estimators, "BLOCK_BYTES", 160)
    found = estimate(**random_arrays())
    blocks = list(found.pair_blocks(0.3, 0.1, same_class))
    assert len(blocks) > 4
    columns = dict(zip(("train", "test", "infl", "std_error"), map(np.concatenate, zip(*blocks))))
    frame = pd.DataFrame(columns).sort_values(["infl", "train", "test"], ascending=[False, True, True], ignore_index=True)
    pd.testing.assert_frame_equal(frame, found.pairs(0.3, 0.1, same_class)[list(frame)])


@pytest.mark.parametrize("block", [4, 800, 10**6])
@pytest.mark.parametrize("at_most", [1, 7, 40])
def test_a_table_that_is_too_long_keeps_its_strongest_pairs_and_says_from_where_on(monkeypatch, block, at_most):
    monkeypatch.setattr(estimators, "BLOCK_BYTES", block)
    found = estimate(**random_arrays())
    whole, kept = found.pairs(0, 0.01, same_class=False), found.pairs(0, 0.01, same_class=False, at_most=at_most)
    floor = kept.attrs["infl_floor"]
    assert len(kept) <= at_most < len(whole) and (kept.infl < 0).any() == (at_most > 7)
    pd.testing.assert_frame_equal(kept, whole[whole.infl.abs() >= floor].reset_index(drop=True), check_like=True)
    dropped = whole.infl.abs()[whole.infl.abs() < floor]
    assert np.nextafter(dropped.max(), 1) == floor, "no floor lower than this would do"


def test_a_table_that_is_not_too_long_is_left_alone():
    found = estimate(**random_arrays())
    whole = found.pairs(0.3, 0.1)
    pd.testing.assert_frame_equal(found.pairs(0.3, 0.1, at_most=len(whole)), whole)
    assert found.pairs(0.3, 0.1, at_most=len(whole)).attrs == {}


def test_of_pairs_equally_strong_all_are_kept_or_none():
    """Fifty examples in the same trials have the same influence on a test."""
    members = np.repeat(np.arange(40) < 20, 50).reshape(40, 50)
    tests = np.stack([np.arange(40) < 20, np.arange(40) < 15], axis=1)
    found = estimate(members, members, tests)
    assert len(found.pairs(0, 0.1, same_class=False)) == 100
    strongest = found.pairs(0, 0.1, same_class=False, at_most=70)
    assert strongest.test.tolist() == [0] * 50 and strongest.attrs["infl_floor"] > 0.75
    none = found.pairs(0, 0.1, same_class=False, at_most=30)
    assert none.empty and none.dtypes.to_dict() == strongest.dtypes.to_dict() and none.attrs["infl_floor"] > 1


def test_no_more_pairs_are_held_than_twice_those_kept_and_a_block(monkeypatch):
    monkeypatch.setattr(estimators, "BLOCK_BYTES", 400)
    held, cut = [], estimators._cut
    monkeypatch.setattr(
        estimators, "_cut", lambda blocks, *rest: held.append(sum(len(b[0]) for b in blocks)) or cut(blocks, *rest)
    )
    estimate(**random_arrays()).pairs(-1, 0, same_class=False, at_most=30)
    assert len(held) > 5 and max(held) <= 2 * 30 + 100


def test_a_pair_exactly_on_both_thresholds_is_one():
    """One quarter and three quarters are exact in binary; a test that rounds on the way would lose the pair."""
    members = np.repeat([True, False], 400)[:, None]
    correct = np.concatenate([np.arange(400) < 300, np.arange(400) < 200])[:, None]
    found = estimate(members, correct, correct, [0], [0])
    assert found.pairs(0.25, 0.25).infl.tolist() == [0.25]
    assert found.pairs(0.25, np.nextafter(0.25, 1)).empty and found.pairs(np.nextafter(0.25, 1), 0.25).empty
    mirrored = estimate(members, correct, ~correct, [0], [0])
    assert mirrored.pairs(0.25, 0.25).infl.tolist() == [-0.25]


def test_influence_on_single_pairs_is_a_part_of_the_whole():
    found = estimate(**random_arrays())
    whole = found.influence()
    train, test = [4, 2, 4, 29], [7, 7, 0, 19]
    for part, all_ in zip(found.influence_at(train, test), whole):
        assert np.array_equal(part, all_[train, test])
    assert [part.shape for part in found.influence_at([], [])] == [(0,), (0,)]


def test_influence_on_single_pairs_does_not_depend_on_the_size_of_blocks(monkeypatch):
    found, train, test = estimate(**random_arrays()), np.arange(30).repeat(20), np.tile(np.arange(20), 30)
    whole = found.influence_at(train, test)
    monkeypatch.setattr(estimators, "BLOCK_BYTES", 120 * 7)
    for part, all_ in zip(found.influence_at(train, test), whole):
        assert np.array_equal(part, all_)


# what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": np.ones(5, dtype=bool)}, r"members has shape \(5,\); a matrix with trials as rows is needed"),
        ({"members": np.ones((0, 30), dtype=bool)}, r"members has shape \(0, 30\)"),
        ({"train_correct": np.full((120, 30), 0.5)}, "train_correct holds float64 values other than 0 and 1"),
        ({"test_correct": np.full((120, 20), np.nan)}, "test_correct holds float64 values other than 0 and 1"),
        ({"train_correct": np.ones((30, 120), dtype=bool)}, r"members is \(120, 30\) but train_correct is \(30, 120\)"),
        ({"test_correct": np.ones((119, 20), dtype=bool)}, "test_correct has 119 trials, members has 120"),
        ({"train_labels": np.zeros(29)}, r"train_labels has shape \(29,\); one label for each column"),
        ({"test_labels": np.zeros(30)}, r"test_labels has shape \(30,\); one label for each column"),
        ({"test_correct": None}, r"test_labels has shape \(20,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        estimate(**random_arrays() | changes)


def test_zeros_and_ones_of_any_type_are_taken():
    a = random_arrays()
    expected = estimate(**a).memorization
    for kind in (np.int64, np.float32, np.uint8, list):
        matrices = {
            k: a[k].astype(int).tolist() if kind is list else a[k].astype(kind) for k in ("members", "train_correct")
        }
        pd.testing.assert_frame_equal(estimate(**matrices, train_labels=a["train_labels"]).memorization, expected)


def test_influence_without_tests_is_refused():
    found = estimate(random_arrays()["members"], random_arrays()["train_correct"])
    for ask in (found.influence, lambda: found.pairs(0, 0, same_class=False)):
        with pytest.raises(ValueError, match="influence needs test_correct"):
            ask()


# parts of the trials


@given(t=st.integers(2, 41), seed=st.integers(0, 99))
def test_two_halves_share_no_trial_and_are_equally_large(t, seed):
    first, second = estimators.halves(t, np.random.default_rng(seed))
    assert len(first) == len(second) == t // 2
    assert len({*first, *second}) == t // 2 * 2 and {*first, *second} <= set(range(t))
    assert (np.diff(first) > 0).all() and (np.diff(second) > 0).all()


def test_one_trial_cannot_be_halved():
    with pytest.raises(ValueError, match="1 trial has no halves"):
        estimators.halves(1, np.random.default_rng(0))


def test_halves_are_drawn_at_random():
    rng = np.random.default_rng(0)
    assert not np.array_equal(estimators.halves(40, rng)[0], estimators.halves(40, rng)[0])


def test_a_part_is_the_estimate_from_its_rows():
    a, rows = random_arrays(), np.array([3, 5, 8, 13, 21, 34])
    matrices = {key: a[key][rows] if key in ("members", "train_correct", "test_correct") else a[key] for key in a}
    ours, expected = estimators.part(estimate(**a), rows), estimate(**matrices)
    pd.testing.assert_frame_equal(ours.memorization, expected.memorization)
    pd.testing.assert_frame_equal(ours.pairs(0, 0.1), expected.pairs(0, 0.1))


def test_a_part_of_a_part_takes_its_rows_from_the_part_and_copies_none_until_asked():
    found, rows = estimate(**random_arrays()), np.arange(119, 0, -3)
    inner, null = (
        estimators.part(estimators.part(found, rows), np.array([5, 1, 20])),
        estimators.permuted(found, np.random.default_rng(0)),
    )
    assert np.array_equal(inner.members, found.members[rows[[5, 1, 20]]])
    assert np.array_equal(inner.test_correct, found.test_correct[rows[[5, 1, 20]]])
    for some in (inner, null):
        assert some.masks.matrix is found.masks.matrix and some.test_results.matrix is found.test_results.matrix


def test_permuting_keeps_every_margin_and_breaks_the_links():
    found = estimate(**random_arrays())
    null = estimators.permuted(found, np.random.default_rng(0))
    assert sorted(map(bytes, null.members)) == sorted(map(bytes, found.members))
    assert np.array_equal(null.train_correct, found.train_correct)
    assert found.memorization.mem.mean() > 0.3 > 0.1 > abs(null.memorization.mem.mean())


def test_the_error_is_measured_between_groups_of_trials():
    """Two groups: the variance is half the squared difference."""
    found = estimate(**random_arrays())
    a, b = (estimators.part(found, np.arange(start, start + 50)).memorization.mem for start in (0, 50))
    assert estimators.mean_squared_error(found, 50) == pytest.approx(np.mean((a - b) ** 2) / 2)


def test_the_measured_error_is_the_true_one():
    """Fair coins: variance 0.25/n_in + 0.25/n_out, to a few per cent over 400 examples and 20 groups."""
    draw = np.random.default_rng(0)
    found = estimate(draw.random((2000, 400)) < 0.7, draw.random((2000, 400)) < 0.5)
    truth = np.mean([1 / 4 / k + 1 / 4 / (100 - k) for k in draw.binomial(100, 0.7, 10_000)])
    assert estimators.mean_squared_error(found, 100) == pytest.approx(truth, rel=0.05)
    assert truth < lemma_bound(100, 0.7)


def test_the_measured_error_does_not_depend_on_the_size_of_blocks(monkeypatch):
    found = estimate(**random_arrays())
    whole = estimators.mean_squared_error(found, 10)
    monkeypatch.setattr(estimators, "BLOCK_BYTES", 8 * 12 * 7)
    assert estimators.mean_squared_error(found, 10) == whole


def test_the_error_needs_two_groups():
    with pytest.raises(ValueError, match="120 trials hold 1 groups of 61; at least two are needed"):
        estimators.mean_squared_error(estimate(**random_arrays()), 61)
