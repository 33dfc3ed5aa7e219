"""Data cards: what a reader must know of each published file before using it, as a page of the book.

What can be read from the files is (`inventory`): shapes, dtypes, number of trials, sizes, hashes, fingerprints. What no
file says of itself (origin, terms, known faults) stands in `book/cards.yaml`. The licence is that of `CITATION.cff`; where
it names none, the page says so.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import yaml

from study import inventory
from study.closed import Closed
from study.inventory import File, PredictionFile, TableFile

LOAD = {
    ".zip": 'import xarray as xr, zarr\nstore = zarr.storage.ZipStore("{path}", mode="r")\n'
    "content = xr.open_zarr(store, consolidated=False)",
    ".parquet": 'import pandas as pd\ncontent = pd.read_parquet("{path}")\ncontent.describe()',
    ".json": 'import json, pathlib\ntext = pathlib.Path("{path}").read_text()\ncontent = json.loads(text)',
}
MEANINGS = {
    "train_correct": "whether the model of a trial gets a training example right, be it in its subset or not",
    "test_correct": "whether it gets a test example right",
    "trial": "number of the trial, from which its subset and initial weights follow",
    "diverged": "whether the training diverged; estimates leave such trials out",
    "subset_checksum": "checksum of the subset, which `study.subsets` draws again from seed and trial",
    "train_label": "label of a training example, in the data set's order",
    "test_label": "label of a test example",
}
INTRODUCTION = """\
# Data cards

The files behind this book: {predictions} prediction files and {tables} tables, {size} in all. They lie in the folders
`predictions/` and `tables/` of the repository once the pipeline has run, and in the data archive of a release. This page is
made from the files; `manifest.json` of a release says the same to a machine. Paths in the examples are relative to the
folder that holds both. No file needs pickle to be read."""


class Source(Closed):
    """A data set as its makers give it out."""

    origin: str
    terms: str
    faults: str


class Words(Closed):
    """`book/cards.yaml`: what no file says of itself, by data set, run, stage/table and column."""

    sources: dict[str, Source]
    faults: dict[str, tuple[str, ...]]
    columns: dict[str, str]
    tables: dict[str, str]


def words(path: Path = Path("book/cards.yaml")) -> Words:
    """Raises ValueError with the key at fault, FileNotFoundError if there is no such file."""
    return Words.model_validate(yaml.safe_load(path.read_text()))


def cards_page(root: Path = Path(".")) -> str:
    """The page as MyST markdown. Raises InventoryError if a file is missing or is not the one the pipeline made."""
    said, files = words(root / "book" / "cards.yaml"), inventory.published(root)
    predictions = [file for file in files if isinstance(file, PredictionFile)]
    tables = sorted((file for file in files if isinstance(file, TableFile)), key=lambda file: (file.stage, file.path))
    size = kilobytes(sum(file.bytes for file in files))
    trials = {file.run.partition("@")[2]: file.trials for file in predictions}
    stages = [
        _stage_card(root, stage, list(group), said, trials) for stage, group in groupby(tables, lambda file: file.stage)
    ]
    parts = [
        INTRODUCTION.format(predictions=len(predictions), tables=len(tables), size=size),
        _terms(root, predictions, said),
        _predictions_card(predictions, said),
        _tables_head(tables, said),
        *stages,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def undescribed(files: Iterable[File], said: Words) -> list[str]:
    """Tables without a sentence in `book/cards.yaml`, as `stage/table`."""
    return sorted({_key(file) for file in files if isinstance(file, TableFile)} - said.tables.keys())


def load_snippet(path: Path) -> str:
    """Three lines of Python that leave the file's content in `content`."""
    return LOAD[path.suffix].format(path=path.as_posix())


def licence(root: Path) -> str:
    """The licence that `CITATION.cff` names, or that none is named."""
    named = yaml.safe_load((root / "CITATION.cff").read_text()).get("license")
    if named is None:
        return "none has been chosen yet (`license` in `CITATION.cff` is where it will stand), so all rights are reserved"
    return named if isinstance(named, str) else " or ".join(named)


def kilobytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{max(size / 1e3, 0.1):,.1f} kB"


def _key(file: File) -> str:
    return f"{file.stage}/{file.path.stem}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _terms(root: Path, predictions: list[PredictionFile], said: Words) -> str:
    used = sorted({file.setting["data"] for file in predictions})
    rows = (_source_row(name, said.sources.get(name)) for name in used)
    return "\n\n".join(
        [
            f"## Licence and sources\n\nLicence of these files: {licence(root)}. They hold labels and results, no pictures; "
            "the data sets behind them have makers and terms of their own.",
            *([_table(["data set", "origin", "terms", "known faults"], rows)] if used else []),
        ]
    )


def _source_row(name: str, source: Source | None) -> list[str]:
    if source is None:
        return [f"`{name}`", "data of your own", "as you say", "as you know them"]
    return [f"`{name}`", source.origin, source.terms, source.faults]


def _predictions_card(files: list[PredictionFile], said: Words) -> str:
    if not files:
        return ""
    axes = {name: " × ".join(dimensions) for name, (dimensions, _, _) in files[0].variables.items()}
    meanings = ([f"`{name}`", axes[name], meaning] for name, meaning in MEANINGS.items())
    return "\n\n".join(
        [
            "## Prediction files\n\nWhich examples each trained model gets right; everything else is estimated from that. A "
            "zip with zarr arrays, the trial first, the example second.",
            _table(["variable", "axes", "meaning"], meanings),
            "Faults of all of them:\n\n" + _bullets(said.faults.get("predictions", ())),
            *(_prediction_card(file, said) for file in files),
        ]
    )


def _prediction_card(file: PredictionFile, said: Words) -> str:
    setting, (first, last) = file.setting, file.numbers
    name = file.run.partition("@")[2]
    n, n_test = file.variables["train_correct"][1][1], file.variables["test_correct"][1][1]
    facts = {
        "what": f"{file.trials:,} models of the learner `{setting['learner']['name']}`, each trained on a random "
        f"{setting['ratio']:.0%} of the {n:,} training examples of `{setting['data']}`, on all of these and on {n_test:,} "
        "test examples",
        "t": f"{file.trials:,} trials, from number {first} to {last}; {file.diverged} of them diverged",
        "file": f"`{file.path}`, {kilobytes(file.bytes)}",
        "SHA-256": f"`{file.sha256}`",
        "fingerprint": f"`{file.fingerprint}`, order of the data `{file.order_hash}`",
    }
    arrays = ([f"`{name}`", _shape(shape), dtype] for name, (_, shape, dtype) in file.variables.items())
    faults = said.faults.get(file.run, ())
    return "\n\n".join(
        [
            f"### {name}",
            _bullets(f"*{term}:* {value}" for term, value in facts.items()),
            _table(["variable", "shape", "dtype"], arrays),
            *([f"Known faults:\n\n{_bullets(faults)}"] if faults else []),
            _code(file.path),
        ]
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{side:,}" for side in shape)


def _code(path: Path) -> str:
    return f"```python\n{load_snippet(path)}\n```"


def _tables_head(files: list[TableFile], said: Words) -> str:
    if not files:
        return ""
    examples = {file.path.suffix: file.path for file in reversed(files)}
    meanings = ([" ".join(f"`{name.strip()}`" for name in names.split(",")), text] for names, text in said.columns.items())
    return "\n\n".join(
        [
            "## Tables\n\nWhat was estimated and measured, a stage of the pipeline after the other. Frames are Parquet, "
            "summaries JSON. *t* is the number of trials of the setting that a table rests on; where a stage trains models "
            "of its own, their number is in the table.",
            *(_code(examples[suffix]) for suffix in sorted(examples)),
            "Faults of all of them:\n\n" + _bullets(said.faults.get("tables", ())),
            _table(["column", "meaning"], meanings),
        ]
    )


def _stage_card(root: Path, stage: str, files: list[TableFile], said: Words, trials: dict[str, int]) -> str:
    rows = (
        [f"`{file.path}`", *_extent(file, trials), f"`{file.fingerprint[:8]}`" if file.fingerprint else ""] for file in files
    )
    described = {_key(file): file for file in reversed(files)}
    return "\n\n".join(
        [
            f"### {stage.replace('_', ' ').capitalize()}",
            *([about] if (about := introduction(root / "notebooks" / "stages" / f"{stage}.md")) else []),
            _table(["file", "rows", "t", "size", "fingerprint"], rows),
            _bullets(_columns_line(key, file, said) for key, file in sorted(described.items())),
        ]
    )


def _extent(file: TableFile, trials: dict[str, int]) -> list[str]:
    t = trials.get(file.run.partition("@")[2])
    return ["summary" if file.rows is None else f"{file.rows:,}", f"{t:,}" if t else "", kilobytes(file.bytes)]


def _columns_line(key: str, file: TableFile, said: Words) -> str:
    columns = ", ".join(f"`{name}` {kind}" for name, kind in file.columns.items())
    faults = " ".join(said.faults.get(key, ()))
    return " ".join(
        [
            f"**{file.path.stem}**:",
            said.tables.get(key, ""),
            f"Holds {columns}.",
            *([f"*Known faults:* {faults}"] if faults else []),
        ]
    )


def introduction(stage: Path) -> str:
    """The first paragraph of a stage's notebook; empty if the stage has none."""
    if not stage.is_file():
        return ""
    text = stage.read_text().partition("\n# ")[2]
    return text.split("\n\n")[1].strip()
