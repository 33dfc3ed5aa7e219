"""Where the time went: only runs since the start, the longest first, nothing lost in the sum."""

import json
from datetime import UTC, datetime

import pytest

from study import times

START = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


def leave(folder, name: str, seconds: float, started: str) -> None:
    stage, _, item = name.partition("@")
    record = {"stage": stage, "item": item, "seconds": seconds, "started_utc": started}
    (folder / f"{name}.json").write_text(json.dumps(record))


def test_runs_since_the_start_are_told_longest_first_with_what_is_left(tmp_path):
    leave(tmp_path, "fitting", 20.0, "2030-01-02 03:04:05")
    leave(tmp_path, "train@digits", 70.0, "2030-01-02 03:05:00")
    leave(tmp_path, "tails", 500.0, "2030-01-02 03:04:04")
    lines = [" ".join(line.split()) for line in times.told(START, tmp_path, START + 100).splitlines()]
    assert lines == ["1 min 10 s train@digits", "20 s fitting", "10 s fetching, comparing and starting", "1 min 40 s in all"]


def test_shorter_runs_are_summed(tmp_path):
    for number in range(times.LISTED + 3):
        leave(tmp_path, f"run_{number}", float(number + 1), "2030-01-02 03:04:05")
    told = times.told(START, tmp_path, START + 130)
    assert "6.0 s  3 shorter runs" in told and "run_2\n" not in told and "run_3\n" in told


def test_runs_side_by_side_leave_nothing_to_account_for(tmp_path):
    leave(tmp_path, "fitting", 60.0, "2030-01-02 03:04:05")
    leave(tmp_path, "tails", 70.0, "2030-01-02 03:04:06")
    lines = [" ".join(line.split()) for line in times.told(START, tmp_path, START + 75).splitlines()]
    assert lines == ["1 min 10 s tails", "1 min 00 s fitting", "1 min 15 s in all"]


@pytest.mark.parametrize(("seconds", "said"), [(0.42, "0.4 s"), (9.6, "10 s"), (59.7, "1 min 00 s"), (7384, "2 h 03 min")])
def test_durations_are_said_as_a_reader_would(seconds, said):
    assert times.duration(seconds) == said
