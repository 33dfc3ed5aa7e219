"""Where the time of a run of the pipeline went: the records that its stages left, longest first."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from study.notebooks import run_name

LISTED = 12


def told(since: float, records: Path = Path("records"), now: float | None = None) -> str:
    """What ran since a time, in seconds of the epoch: a line for each of the longest runs, one for all others.

    What no run accounts for is DVC's: it compares hashes. Where runs overlapped,
    their sum may exceed the whole, and nothing is left to account for.
    """
    found = sorted(_since(since, records), reverse=True)
    whole, ran = (now or time.time()) - since, sum(seconds for seconds, _ in found)
    lines = [f"{duration(seconds):>12}  {name}" for seconds, name in found[:LISTED]]
    if others := found[LISTED:]:
        lines.append(f"{duration(sum(seconds for seconds, _ in others)):>12}  {len(others)} shorter runs")
    if whole > ran:
        lines.append(f"{duration(whole - ran):>12}  fetching, comparing and starting")
    return "\n".join([*lines, f"{duration(whole):>12}  in all"])


def _since(since: float, records: Path) -> list[tuple[float, str]]:
    start = datetime.fromtimestamp(int(since), UTC).strftime("%Y-%m-%d %H:%M:%S")
    read = [json.loads(path.read_text()) for path in records.glob("*.json")]
    return [(one["seconds"], run_name(one["stage"], one["item"])) for one in read if one["started_utc"] >= start]


def duration(seconds: float) -> str:
    """Seconds as a reader says them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


if __name__ == "__main__":
    print(told(float(sys.argv[1])))
