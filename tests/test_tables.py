"""Tables: written whole or not at all, the same bytes for the same content, and null where a number is not known."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from study import tables

FRAME = pd.DataFrame({"index": [0, 1], "mem": [0.5, np.nan], "label": ["a", "b"]})


def test_a_frame_comes_back_as_it_was(folder):
    path = tables.save("toy", "memorization", FRAME)
    assert path.as_posix() == "tables/toy/memorization.parquet"
    pd.testing.assert_frame_equal(tables.load("toy", "memorization"), FRAME)


def test_the_row_names_of_a_frame_are_not_kept(folder):
    tables.save("toy", "cut", FRAME[FRAME.mem.isna()])
    assert tables.load("toy", "cut").index.tolist() == [0]


def test_a_summary_comes_back_as_plain_numbers(folder):
    content = {
        "count": np.int64(3),
        "share": np.float32(0.5),
        "found": np.bool_(True),
        "list": (np.float64(1), 2, [np.arange(3)]),
        "by class": {0: np.array([[1.5, 2.5]])},
        "none": None,
        "name": "digits",
    }
    path = tables.save("toy", "summary", content)
    assert path.as_posix() == "tables/toy/summary.json"
    assert tables.load("toy", "summary") == {
        "count": 3,
        "share": 0.5,
        "found": True,
        "list": [1, 2, [[0, 1, 2]]],
        "by class": {"0": [[1.5, 2.5]]},
        "none": None,
        "name": "digits",
    }
    assert type(tables.load("toy", "summary")["count"]) is int


def test_what_is_not_a_number_becomes_null(folder):
    nowhere = {"value": float("nan"), "std_error": np.float64("nan"), "all": np.array([np.nan, 1])}
    path = tables.save("toy", "summary", {"mem": nowhere})
    assert "NaN" not in path.read_text()
    assert tables.load("toy", "summary")["mem"] == {"value": None, "std_error": None, "all": [None, 1]}


def test_the_order_of_a_summary_is_kept_and_it_ends_with_a_line_break(folder):
    text = tables.save("toy", "summary", {"z": 1, "a": 2}).read_text()
    assert list(json.loads(text)) == ["z", "a"] and text.endswith("}\n")


@pytest.mark.parametrize("content", [FRAME, {"a": 1.25}], ids=["frame", "summary"])
def test_the_same_content_is_the_same_bytes(folder, content):
    before = tables.save("toy", "t", content).read_bytes()
    os.utime("tables/toy", (0, 0))
    assert tables.save("toy", "t", content.copy()).read_bytes() == before


@pytest.mark.parametrize("content", [FRAME, {"a": 1}], ids=["frame", "summary"])
def test_a_failure_while_writing_leaves_the_old_table_alone(folder, monkeypatch, content):
    path = tables.save("toy", "t", content)
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(tables.os, "replace", fail)
        tables.save("toy", "t", FRAME.head(1) if content is FRAME else {"a": 2})
    assert path.read_bytes() == before


def test_a_reader_never_sees_half_a_table(folder, monkeypatch):
    """At the moment before the rename the new table is complete under another name, in the same folder."""
    path, seen = tables.save("toy", "t", {"a": 1}), []
    replace = os.replace
    monkeypatch.setattr(
        tables.os, "replace", lambda part, to: (seen.append((part.parent, part.read_text(), to)), replace(part, to))
    )
    tables.save("toy", "t", {"a": 2})
    assert seen == [(path.parent, path.read_text(), path)] and tables.load("toy", "t") == {"a": 2}
    assert os.listdir(path.parent) == [path.name]


def test_a_number_without_bounds_is_refused(folder):
    with pytest.raises(ValueError, match="not JSON compliant"):
        tables.save("toy", "t", {"ratio": float("inf")})
    with pytest.raises(FileNotFoundError):
        tables.load("toy", "t")


def test_a_missing_table_is_refused_with_the_command_that_makes_it(folder):
    with pytest.raises(FileNotFoundError, match=r"toy/pairs.parquet nor .*toy/pairs.json exists; `dvc repro` makes them"):
        tables.load("toy", "pairs")
