"""Progress: how much is done and how long it will take, seldom, and where a notebook does not keep it."""

import pytest

from study import progress
from study.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is told: ``clock[0] += 3``."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_tells_what_is_done_how_fast_and_how_long_it_will_take(clock):
    bar = Progress("train digits-mlp", total=4000, unit="models")
    bar.done, clock[0] = 1000, 1030.0
    assert bar.line() == "train digits-mlp: 1,000 of 4,000 models, 2,000 a minute, 1.5 min left"


def test_nothing_done_is_no_division_by_zero(clock):
    assert Progress("train", total=10, unit="models").line() == "train: 0 of 10 models, 0 a minute, nan min left"


def test_lines_are_seconds_apart_and_the_last_is_always_there(clock, capsys):
    with Progress("train", total=100, unit="models") as bar:
        for _ in range(20):
            clock[0] += 1
            bar.advance(5)
    out, err = capsys.readouterr()
    counts = [line.split()[1] for line in err.splitlines()]
    assert counts == ["30", "60", "90", "100"] and out == ""


def test_work_that_never_began_says_nothing(clock, capsys):
    with Progress("train", total=0, unit="models"):
        pass
    assert capsys.readouterr() == ("", "")


def test_in_a_stage_the_lines_go_to_the_file_that_is_followed(clock, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_PROGRESS", str(tmp_path / "progress"))
    (tmp_path / "progress").write_text("before\n")
    with Progress("removal", total=2, unit="models") as bar:
        clock[0] += 60
        bar.advance(2)
    last = "removal: 2 of 2 models, 2 a minute, 0.0 min left\n"
    assert (tmp_path / "progress").read_text() == "before\n" + 2 * last
    assert capsys.readouterr() == ("", "")
