"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log, nothing in a chapter.

A stage runs inside a notebook whose output must not depend on speed, so progress goes to the file that
``$STUDY_PROGRESS`` names, which the command that started the stage follows; without it, to standard error.
"""

import os
import sys
import time
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """``with Progress("train", total=4000, unit="models") as p: p.advance(50)``; prints at most every few seconds."""

    def __init__(self, label: str, total: int, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done, self.start = 0, time.monotonic()
        self.printed = self.start  # a rate over the first moments would be none

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        if self.done:
            self._print()

    def advance(self, amount: int) -> None:
        self.done += amount
        if time.monotonic() - self.printed > SECONDS_BETWEEN_LINES:
            self._print()

    def line(self) -> str:
        """What is printed: done, total, rate per minute, minutes left."""
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        left = (self.total - self.done) / rate / 60 if rate else float("nan")
        share = f"{self.done:,} of {self.total:,} {self.unit}"
        return f"{self.label}: {share}, {rate * 60:,.0f} a minute, {left:.1f} min left"

    def _print(self) -> None:
        self.printed = time.monotonic()
        with _stream() as stream:
            print(self.line(), file=stream, flush=True)


@contextmanager
def _stream():
    if path := os.environ.get("STUDY_PROGRESS"):
        with open(path, "a") as stream:
            yield stream
    else:
        yield sys.stderr
