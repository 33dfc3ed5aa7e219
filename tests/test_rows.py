"""Rows: bits that read like truth values, blocks that are whole or not there, and files that agree or are not joined."""

import numpy as np
import pytest

from study import rows
from study.predictions import PredictionError
from study.rows import Bits

N, N_TEST = 21, 9  # neither fills its last byte


@pytest.fixture
def block() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "trials": np.array([4, 5, 9]),
        "train_correct": draw.random((3, N)) < 0.5,
        "test_correct": draw.random((3, N_TEST)) < 0.5,
        "diverged": np.array([False, True, False]),
    }


@pytest.mark.parametrize(("first", "end"), [(0, 21), (0, 8), (8, 16), (8, 30), (16, 21)])
def test_columns_of_bits_are_those_of_the_truth_values(block, first, end):
    whole = block["train_correct"]
    bits = Bits(np.packbits(whole, axis=1), N)
    columns = bits[:, first:end]
    assert bits.shape == whole.shape and columns.dtype == bool
    assert np.array_equal(columns, whole[:, first:end])


def test_a_saved_block_is_read_as_it_was(block, tmp_path):
    rows.keep(tmp_path, block)
    assert [path.name for path in tmp_path.iterdir()] == ["00000004-3.npz"]
    found = rows.of_scratch(tmp_path)
    assert list(found) == [4, 5, 9]
    for k, row in enumerate(found.values()):
        assert np.array_equal(np.unpackbits(row.train_correct, count=N), block["train_correct"][k])
        assert np.array_equal(np.unpackbits(row.test_correct, count=N_TEST), block["test_correct"][k])
        assert row.diverged == block["diverged"][k]


def test_a_saved_block_holds_what_any_version_of_the_study_reads(block, tmp_path):
    """Its layout outlives a change of code, for a run may be weeks old when it is taken up."""
    rows.keep(tmp_path, block)
    with np.load(tmp_path / "00000004-3.npz", allow_pickle=False) as saved:
        assert {name: saved[name].dtype.name for name in saved.files} == {
            "trials": "int64", "train_correct": "uint8", "test_correct": "uint8", "diverged": "bool",
            "train_correct_width": "int64", "test_correct_width": "int64",
        }  # fmt: skip
        assert np.array_equal(np.unpackbits(saved["train_correct"], axis=1, count=N), block["train_correct"])
        assert (int(saved["train_correct_width"]), int(saved["test_correct_width"])) == (N, N_TEST)


def test_files_that_agree_are_joined(block, tmp_path):
    ours, theirs = rows.of_block(block), rows.of_block(block | {"trials": np.array([7, 8, 6])})
    assert list(rows.join(ours, theirs, tmp_path)) == [4, 5, 9, 7, 8, 6]
    assert list(rows.join(ours, rows.of_block(block), tmp_path)) == [4, 5, 9]


@pytest.mark.parametrize(
    ("name", "place", "count"), [("train_correct", (1, [0, 20]), 2), ("test_correct", (1, 8), 1), ("diverged", 1, 1)]
)
def test_files_that_differ_in_a_bit_are_not_joined(block, tmp_path, name, place, count):
    ours = rows.of_block(block)
    block[name] = block[name].copy()
    block[name][place] ^= True
    refused = f"part.zip is not merged: its trial 5 differs in {count} examples from the row that is there"
    with pytest.raises(PredictionError, match=refused):
        rows.join(ours, rows.of_block(block), tmp_path / "part.zip")
