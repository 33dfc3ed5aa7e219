"""The runs of the pipeline as `dvc.yaml` declares them: their names, and which run makes what another reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml


@dataclass(frozen=True)
class Run:
    """One run of a stage, with the paths it reads and those it makes."""

    name: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def load(path: Path = Path("dvc.yaml")) -> dict[str, Run]:
    """All runs by name (`stage`, or `stage@item` for a stage with a matrix), in the order of the file.

    Raises FileNotFoundError if there is no such file.
    """
    stages = yaml.safe_load(path.read_text())["stages"]
    return {run.name: run for name, stage in stages.items() for run in _runs(name, stage)}


def sources(run: Run, runs: dict[str, Run]) -> list[str]:
    """The names of the runs that make what this one reads, in the order of the pipeline."""
    return [name for name, other in runs.items() if any(meet(dep, out) for dep in run.deps for out in other.outs)]


def _runs(name: str, stage: dict) -> Iterator[Run]:
    matrix = stage.get("matrix", {})
    for chosen in itertools.product(*matrix.values()):
        item = dict(zip(matrix, chosen))
        full = f"{name}@{'-'.join(map(str, chosen))}" if item else name
        yield Run(full, _paths(stage.get("deps", []), item), _paths(stage.get("outs", []), item))


def _paths(listed: list[str | dict], item: dict[str, str]) -> tuple[str, ...]:
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in listed]
    for key, value in item.items():
        paths = [path.replace(f"${{item.{key}}}", str(value)) for path in paths]
    return tuple(paths)


def meet(dep: str, out: str) -> bool:
    """Whether one path is the other or lies inside it."""
    first, second = PurePosixPath(dep), PurePosixPath(out)
    return first.is_relative_to(second) or second.is_relative_to(first)
