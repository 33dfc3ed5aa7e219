"""What the study publishes: its prediction files and tables, described by what is in them.

The list is that of the pipeline: every output of `dvc.lock` under `predictions/` and `tables/`, so that a file which some
earlier version left behind is none of them. Each must be there and be the one that the pipeline made. Only metadata is
read; the whole inventory takes about a second.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml
import zarr
from zarr.storage import ZipStore

from study import runs
from study.notebooks import run_name

FOLDERS = ("predictions", "tables")


class InventoryError(ValueError):
    """A published file is missing or is not the one that the pipeline made; the message names the remedy."""


@dataclass(frozen=True)
class File:
    """A published file: where it is, its size, its hash, the run that made it and that run's fingerprint ('' if none)."""

    path: Path
    bytes: int
    sha256: str
    run: str
    fingerprint: str

    @property
    def stage(self) -> str:
        return self.run.split("@")[0]


@dataclass(frozen=True)
class PredictionFile(File):
    """`variables` maps each name to (dimensions, shape, dtype); `setting` holds the parameters that made the rows.

    `trials` is the number of rows, `numbers` the first and last trial, `diverged` how many of them did.
    """

    setting: dict
    order_hash: str
    variables: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]]
    trials: int
    numbers: tuple[int, int]
    diverged: int


@dataclass(frozen=True)
class TableFile(File):
    """A frame with `rows` and `columns` (name to dtype), or a summary: rows None, columns its top-level entries."""

    rows: int | None
    columns: dict[str, str]


def published(root: Path = Path(".")) -> list[PredictionFile | TableFile]:
    """All published files below `root`, prediction files first, each in the order of its path.

    Raises InventoryError if one of them is missing or differs from `dvc.lock`.
    """
    prints, files = fingerprints(root), {}
    for run, out in outputs(root):
        for path in _members(root, out):
            files[path] = _described(root, path, run, prints.get(run, ""))
    return [files[path] for path in sorted(files)]


def outputs(root: Path) -> Iterator[tuple[str, dict]]:
    """Each run of the pipeline with each of its outputs among the published folders, as `dvc.lock` has it.

    Entries of runs that `dvc.yaml` no longer has are passed over: DVC keeps them.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        raise InventoryError(f"{lock} does not exist: the pipeline has not run here; run `make book`")
    declared = runs.load(root / "dvc.yaml")
    for name, made in yaml.safe_load(lock.read_text())["stages"].items():
        if name in declared:
            yield from ((name, out) for out in made.get("outs", []) if Path(out["path"]).parts[0] in FOLDERS)


def fingerprints(root: Path) -> dict[str, str]:
    """The fingerprint of each run that has a record; one made on this machine stands before the published one."""
    found = {}
    for folder in (root / "published" / "records", root / "records"):
        for path in sorted(folder.glob("*.json")):
            record = json.loads(path.read_text())
            found[run_name(record["stage"], record["item"])] = record["fingerprint"]
    return found


def _members(root: Path, out: dict) -> list[Path]:
    """The files of one output. A single file is held against the lock; a folder has no hash of its own to compare."""
    path = root / out["path"]
    if not path.exists():
        raise InventoryError(f"{out['path']} is missing; `dvc pull` fetches what is published, `dvc repro` makes the rest")
    if path.is_dir():
        return [member.relative_to(root) for member in path.rglob("*") if member.is_file()]
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != out["md5"]:
        raise InventoryError(f"{out['path']} is not the file that dvc.lock names; `dvc repro` makes it anew")
    return [path.relative_to(root)]


def _described(root: Path, path: Path, run: str, fingerprint: str) -> PredictionFile | TableFile:
    content = (root / path).read_bytes()
    facts = {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "run": run}
    if path.suffix == ".zip":
        return PredictionFile(**facts, **_predictions(root / path))
    return TableFile(**facts, fingerprint=fingerprint, **(_frame if path.suffix == ".parquet" else _summary)(root / path))


def _predictions(path: Path) -> dict:
    with ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        numbers, diverged = np.asarray(group["trial"]), np.asarray(group["diverged"])
        return {
            "fingerprint": group.attrs["fingerprint"],
            "setting": json.loads(group.attrs["setting"]),
            "order_hash": group.attrs["order_hash"],
            "variables": {name: _variable(array) for name, array in sorted(group.arrays())},
            "trials": len(numbers),
            "numbers": (int(numbers.min()), int(numbers.max())),
            "diverged": int(diverged.sum()),
        }


def _variable(array: zarr.Array) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    return tuple(array.metadata.dimension_names), tuple(array.shape), str(array.dtype)


def _frame(path: Path) -> dict:
    file = pq.ParquetFile(path)
    types = {field.name: str(field.type).removeprefix("large_") for field in file.schema_arrow}
    return {"rows": file.metadata.num_rows, "columns": types}


def _summary(path: Path) -> dict:
    content = json.loads(path.read_text())
    return {"rows": None, "columns": {name: type(value).__name__ for name, value in content.items()}}
