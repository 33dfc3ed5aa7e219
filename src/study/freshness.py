"""Whether the site is still what its sources make of it.

DVC runs the stage `site` each time, because its page of runs shows times that are no output of any stage. Rendering takes
longer than all the rest of a run in which nothing changed, so the stage itself compares: a digest over all that a site is
made from, and over the site, is left beside it and must come out the same.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from study.notebooks import write_text

SOURCES = ("book", "records", "published/records", "tables", "predictions", "src/study", "dvc.yaml", "pyproject.toml")
MADE = ("book/_build", "book/records", "book/scorecard.md", "book/front.md", "book/status.md", "book/cards.md")
NO_SOURCE = ("records/site.json", "records/claims.json", "__pycache__")  # tell only when the last run was
STAMP = Path("book/_build/stamp")


def fresh(html: Path, root: Path = Path(".")) -> bool:
    """Whether `html` is the site that `leave_stamp` was told of, and nothing that it is made from has changed since."""
    stamp = root / STAMP
    return stamp.is_file() and (root / html).is_dir() and stamp.read_text() == _state(html, root)


def leave_stamp(html: Path, root: Path = Path(".")) -> None:
    """Notes that `html` is the site of the sources as they are now."""
    write_text(root / STAMP, _state(html, root))


def _state(html: Path, root: Path) -> str:
    left_out = MADE + NO_SOURCE
    sources = [path for source in SOURCES for path in _files(root / source, root) if not _within(path, left_out)]
    packages = sorted(f"{found.name} {found.version}" for found in importlib.metadata.distributions())
    told = [sys.version, os.environ.get("STUDY_REPOSITORY", ""), *packages]
    return _digest([*sources, *_files(root / html, root)], root, told)


def _files(path: Path, root: Path) -> list[Path]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sorted(file.relative_to(root) for file in files)


def _within(path: Path, places: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(place) or place in path.parts for place in places)


def _digest(files: Iterable[Path], root: Path, told: list[str]) -> str:
    whole = hashlib.sha256("\0".join(told).encode())
    for file in files:
        whole.update(f"\0{file}\0".encode())
        whole.update(hashlib.sha256((root / file).read_bytes()).digest())
    return whole.hexdigest()
