"""`from study import estimate`: planted truths in tidy tables, and every mistake named with its remedy."""

import subprocess
import sys

import numpy as np
import pytest

import study
from study import estimate, estimators, subsets

T, N, TESTS = 400, 40, 12
LABELS, TEST_LABELS = np.arange(N) % 2, np.arange(TESTS) % 2


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Example 0 is right only in its own subset, and test 0 wherever example 0 is in; all else is right at random."""
    members, draw = subsets.members(0, range(T), N, 0.7), np.random.default_rng(1)
    train, test = draw.random((T, N)) < 0.9, draw.random((T, TESTS)) < 0.9
    train[:, 0], test[:, 0] = members[:, 0], members[:, 0]
    return members, train, test


def test_a_planted_memorized_example_and_its_pair_are_found_and_nothing_else(planted):
    tables = estimate(*planted, LABELS, TEST_LABELS)
    frame = tables.memorization
    assert frame.mem[0] == 1 and frame.mem[1:].abs().max() < 0.25
    assert tables.pairs[["train", "test", "infl", "mem"]].values.tolist() == [[0, 0, 1, 1]]
    assert frame.n_in[0] == planted[0][:, 0].sum() and (frame.n_in + frame.n_out == T).all()
    assert tables.estimates.influence_at([0], [0])[0].tolist() == [1]


def test_under_permuted_masks_nothing_is_found(planted):
    members, train, test = planted
    tables = estimate(np.random.default_rng(2).permutation(members), train, test)
    assert tables.memorization.mem.abs().max() < 0.25 and tables.pairs.empty


def test_the_tables_are_those_of_the_estimators(planted):
    ours, theirs = estimate(*planted, LABELS, TEST_LABELS, 0.0, 0.05), estimators.estimate(*planted, LABELS, TEST_LABELS)
    assert ours.memorization.equals(theirs.memorization)
    assert ours.pairs.equals(theirs.pairs(0.0, 0.05)) and len(ours.pairs) > 10


def test_columns_are_tidy_and_labels_stand_beside_the_scores(planted):
    tables = estimate(*planted, LABELS, TEST_LABELS)
    assert list(tables.memorization) == [
        "index",
        "label",
        "mem",
        "std_error",
        "n_in",
        "n_out",
        "in_accuracy",
        "out_accuracy",
    ]
    assert list(tables.pairs) == ["train", "test", "infl", "std_error", "mem", "same_class"]
    assert tables.memorization.label.tolist() == LABELS.tolist() and tables.pairs.same_class.all()


def test_without_tests_there_are_no_pairs_and_without_labels_no_classes(planted):
    members, train, test = planted
    assert estimate(members, train).pairs is None
    assert "label" not in estimate(members, train).memorization
    assert estimate(members, train, test).pairs.same_class.isna().all()


def test_pairs_of_other_classes_are_left_out_where_labels_are_known(planted):
    assert estimate(*planted, LABELS, 1 - TEST_LABELS).pairs.empty
    assert len(estimate(*planted).pairs) == 1


def test_no_more_pairs_are_kept_than_asked_for_and_the_table_says_so(planted):
    tables = estimate(*planted, mem_threshold=0.0, infl_threshold=0.0, at_most=5)
    assert len(tables.pairs) <= 5 and 0 < tables.pairs.attrs["infl_floor"] <= tables.pairs.infl.abs().min()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, list])
def test_zeros_and_ones_of_any_type_count_as_truth_values(planted, kind):
    given = [array.tolist() if kind is list else array.astype(kind) for array in planted]
    assert estimate(*given).memorization.equals(estimate(*planted).memorization)


@pytest.mark.parametrize("kind", [int, float])
def test_an_integer_matrix_of_the_caller_is_not_changed(planted, kind):
    given = [array.astype(kind) for array in planted]
    kept = [array.copy() for array in given]
    estimate(*given)
    assert all(np.array_equal(a, b) and a.dtype == kind for a, b in zip(given, kept))


def changed(array: np.ndarray, value) -> np.ndarray:
    array = array.astype(float)
    array[2, 3] = value
    return array


FAULTS = {
    "members is flat": (lambda m, r, e: (m.ravel(), r, e), r"members has shape \(16000,\); a matrix is needed"),
    "no trials": (lambda m, r, e: (m[:0], r[:0], e), r"members has shape \(0, 40\); a matrix is needed"),
    "transposed": (
        lambda m, r, e: (m.T, r, e),
        r"\(40, 400\) and train_correct \(400, 40\): they are each other's transposes",
    ),
    "other examples": (lambda m, r, e: (m[:, 1:], r, e), r"\(400, 39\) and train_correct \(400, 40\); both need one row"),
    "other models": (lambda m, r, e: (m, r, e[1:]), "test_correct has 399 rows, but members has 400"),
    "text": (lambda m, r, e: (m, r.astype(str), e), "train_correct holds <U5 values; a boolean matrix"),
    "objects": (lambda m, r, e: (m.astype(object), r, e), "members holds object values; a boolean matrix"),
    "NaN": (lambda m, r, e: (m, changed(r, np.nan), e), "train_correct has 1 NaN, the first in row 2, column 3; leave out"),
    "indices": (
        lambda m, r, e: (changed(m, 31), r, e),
        r"members holds 31, where only 0 and 1 .* mask\[k, rows\[k\]\] = True",
    ),
    "probabilities": (lambda m, r, e: (m, changed(r, 0.25), e), "train_correct holds 0.25, .* predictions == labels"),
    "predictions": (lambda m, r, e: (m, r, changed(e, -1)), "test_correct holds -1, .* pass predictions == labels"),
    "one model": (lambda m, r, e: (m[:1], r[:1], e[:1]), "members has 1 row; .* at least 2 are needed"),
    "nobody left out": (lambda m, r, e: (m | True, r, e), "no example is in some of the 400 subsets and out of others"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_matrix_is_refused_with_what_was_found_and_the_remedy(planted, fault):
    spoil, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        estimate(*spoil(*planted))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_labels": LABELS[:-1], "test_labels": TEST_LABELS}, r"train_labels has shape \(39,\); needed is \(40,\)"),
        ({"train_labels": LABELS, "test_labels": LABELS}, r"test_labels has shape \(40,\); needed is \(12,\)"),
        ({"train_labels": LABELS}, "test_labels is missing; .* or pass neither"),
        ({"test_labels": TEST_LABELS}, "train_labels is missing; .* or pass neither"),
        ({"mem_threshold": 25}, "mem_threshold is 25; it must lie between 0 and 1"),
        ({"infl_threshold": float("nan")}, "infl_threshold is nan; it must lie between 0 and 1"),
    ],
)
def test_wrong_labels_and_thresholds_are_refused(planted, given, message):
    with pytest.raises(ValueError, match=message):
        estimate(*planted, **given)


def test_labels_of_tests_without_tests_are_refused(planted):
    with pytest.raises(ValueError, match="needed is none, for there is no test_correct"):
        estimate(*planted[:2], train_labels=LABELS, test_labels=TEST_LABELS)


def test_the_package_alone_imports_neither_torch_nor_numpy():
    code = "import sys, study; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules); print(study.estimate.__module__)"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert done.stdout.strip() == "study.library", done.stderr


def test_a_name_that_the_package_does_not_have_is_an_error():
    with pytest.raises(AttributeError, match="module 'study' has no attribute 'estmate'"):
        study.estmate  # noqa: B018
