"""The prediction file ``predictions/<setting>.zarr.zip``: which examples each trial got right.

Variables: ``train_correct (trial, train)`` and ``test_correct (trial, test)`` bool, ``trial``, ``diverged (trial)`` bool,
``subset_checksum (trial)`` int64, ``train_label``, ``test_label``; attributes: ``fingerprint``, ``setting`` (JSON) and
``order_hash``. Subset masks are not stored: they are recomputed from the seed and compared with the checksums.

Two choices differ from the obvious. Within a chunk one example's bits over all trials lie together, for most examples are
always right and such columns compress to almost nothing. And the file holds nothing about when, where or how fast it was
made (that is in the run's record), so that an interrupted and resumed run gives the same bytes as an unbroken one.
"""

import glob
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, ZipStore

from study import subsets
from study.data import Data
from study.params import Setting, telling

EXAMPLES_A_CHUNK = 4096
TRIALS_A_SLICE = 100  # masks made at once where only their checksums are wanted
ATTRIBUTES = ("fingerprint", "setting", "order_hash")
VARIABLES = {
    "train_correct": ("trial", "train"),
    "test_correct": ("trial", "test"),
    "trial": ("trial",),
    "diverged": ("trial",),
    "subset_checksum": ("trial",),
    "train_label": ("train",),
    "test_label": ("test",),
}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


class PredictionError(Exception):
    """A prediction file that is damaged, belongs to something else or cannot be written; the message names the remedy."""


def path_of(setting_name: str) -> Path:
    return Path("predictions") / f"{setting_name}.zarr.zip"


def write(path: Path, setting: Setting, data: Data, trials, train_correct, test_correct, diverged) -> None:
    """Assemble a prediction file: a temporary name, a flush to disk, a rename.

    ``trials (t,)``, ``train_correct (t, n)``, ``test_correct (t, n_test)`` and ``diverged (t,)`` have matching rows. Of the
    two large ones only ``shape`` and columns ``[:, first:end]`` are asked for, a chunk at a time. Raises `PredictionError`
    if the disk does not take it; then all is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_hidden(path)) as folder:
            _fill(Path(folder) / "zarr", setting, data, trials, train_correct, test_correct, diverged)
            _zip(Path(folder) / "zarr", Path(folder) / "file", path)
    except OSError as error:
        raise PredictionError(
            f"{path} could not be written ({error}); what stood there is untouched. Make room in {path.parent.resolve()}, "
            "or make it writable, and run again"
        ) from error


def _hidden(path: Path) -> str:
    return f".{path.name}."


def sweep(path: Path) -> None:
    """Remove what a process left behind that was killed while it wrote ``path``; no other may be writing it.

    A file of a longer name, which another process may be writing, has a dot where the random part of ours has none.
    """
    for folder in path.parent.glob(f"{glob.escape(_hidden(path))}*/"):
        if "." not in folder.name.removeprefix(_hidden(path)):
            shutil.rmtree(folder)


def _fill(folder: Path, setting: Setting, data: Data, trials, train_correct, test_correct, diverged) -> None:
    store = zarr.create_group(LocalStore(folder), zarr_format=3)
    store.attrs.update(_attributes(setting, data))
    _wide_array(store, "train_correct", train_correct)
    _wide_array(store, "test_correct", test_correct)
    _array(store, "trial", np.asarray(trials, dtype=np.int64))
    _array(store, "diverged", np.asarray(diverged, dtype=bool))
    _array(store, "subset_checksum", _checksums(setting, data, trials))
    _array(store, "train_label", data.y_train)
    _array(store, "test_label", data.y_test)


def _attributes(setting: Setting, data: Data) -> dict:
    described = setting.model_dump_json(exclude={"trials"})
    return {"fingerprint": setting.fingerprint(data), "setting": described, "order_hash": data.order_hash}


def _array(store: zarr.Group, name: str, values: np.ndarray) -> None:
    options = {"chunks": values.shape, "compressors": [ZstdCodec(level=12)], "dimension_names": VARIABLES[name]}
    store.create_array(name, data=np.ascontiguousarray(values), **options)


def _wide_array(store: zarr.Group, name: str, values) -> None:
    """Truth values ``(t, width)``, a chunk of columns after the other, so that no more than one is in memory."""
    trials, width = values.shape
    array = store.create_array(
        name,
        shape=(trials, width),
        dtype=bool,
        chunks=(trials, EXAMPLES_A_CHUNK),
        filters=[TransposeCodec(order=(1, 0))],
        compressors=[ZstdCodec(level=12)],
        dimension_names=VARIABLES[name],
    )
    for first in range(0, width, EXAMPLES_A_CHUNK):
        array[:, first : first + EXAMPLES_A_CHUNK] = values[:, first : first + EXAMPLES_A_CHUNK]


def _checksums(setting: Setting, data: Data, trials) -> np.ndarray:
    slices = (trials[start : start + TRIALS_A_SLICE] for start in range(0, len(trials), TRIALS_A_SLICE))
    masks = (subsets.members(setting.seed, chosen, data.n, setting.ratio) for chosen in slices)
    return np.concatenate([subsets.checksums(some) for some in masks])


def _zip(folder: Path, part: Path, path: Path) -> None:
    """Pack a folder with sorted names and fixed dates, so that equal contents are equal bytes."""
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(file.relative_to(folder).as_posix(), date_time=EPOCH)
            archive.writestr(info, file.read_bytes())
    with open(part, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(part, path)


def load(path: Path) -> xr.Dataset:
    """The whole file in memory. Raises `PredictionError` if it is missing, truncated or edited."""
    if not path.is_file():
        raise PredictionError(f"{path} does not exist; `dvc pull` fetches it where it is published, `dvc repro` trains it")
    try:
        _check_archive(path)
        with ZipStore(path, mode="r") as store:
            dataset = xr.open_zarr(store, consolidated=False, chunks=None).load()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise PredictionError(
            f"{path} is damaged ({error}); delete it and run `dvc pull` or `dvc repro`, or copy it again from its machine"
        ) from error
    _check_is_ours(dataset, str(path))
    dataset.encoding["source"] = str(path)
    return dataset


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")


def verify(dataset: xr.Dataset, setting: Setting, data: Data) -> np.ndarray:
    """Check that a prediction file belongs to ``setting`` on ``data``; return the masks, bool ``(trial, train)``.

    Raises `PredictionError` if the data order, the fingerprint or a subset checksum differs, or something is missing.
    """
    _check_origin(dataset, setting, data)
    masks = subsets.members(setting.seed, dataset.trial.values, data.n, setting.ratio)
    _check_subsets(dataset, subsets.checksums(masks))
    return masks


def check(dataset: xr.Dataset, setting: Setting, data: Data) -> None:
    """The checks of `verify` without holding the masks of all trials."""
    _check_origin(dataset, setting, data)
    _check_subsets(dataset, _checksums(setting, data, dataset.trial.values))


def _check_is_ours(dataset: xr.Dataset, source: str) -> None:
    missing = [name for name in ATTRIBUTES if name not in dataset.attrs]
    missing += [name for name, axes in VARIABLES.items() if name not in dataset or dataset[name].dims != axes]
    if missing:
        raise PredictionError(
            f"{source} is no prediction file of this study: it lacks {', '.join(missing)}. Delete it or name another file"
        )


def _source(dataset: xr.Dataset) -> str:
    return dataset.encoding.get("source", "the data set")


def _check_origin(dataset: xr.Dataset, setting: Setting, data: Data) -> None:
    source = _source(dataset)
    _check_is_ours(dataset, source)
    if dataset.attrs["order_hash"] != data.order_hash:
        raise PredictionError(
            f"{source}: predictions were made on data with order hash {dataset.attrs['order_hash']}, but data set "
            f"{data.name!r} has {data.order_hash}; the data, or their order, changed. Bring the data back, or delete the "
            "file to train all trials anew"
        )
    if dataset.attrs["fingerprint"] != setting.fingerprint(data):
        difference = other_parameters(dataset, setting) or "the fingerprint differs"
        raise PredictionError(
            f"{source}: predictions were made with other parameters: {difference}. Name a file of this setting, or give the "
            "setting the parameters of the file"
        )
    if (dataset.sizes["train"], dataset.sizes["test"]) != (data.n, data.n_test):
        raise PredictionError(
            f"{source} holds {dataset.sizes['train']} training and {dataset.sizes['test']} test examples, but data set "
            f"{data.name!r} has {data.n} and {data.n_test}; the file is damaged, delete it"
        )


def _check_subsets(dataset: xr.Dataset, checksums: np.ndarray) -> None:
    """Each trial stands in the file once, with its own subset."""
    trials, wrong = dataset.trial.values, np.flatnonzero(checksums != dataset.subset_checksum.values)
    remedy = "The file was altered; delete it, and fetch or train it again"
    if len(wrong):
        first = trials[wrong[0]]
        raise PredictionError(
            f"{_source(dataset)}: subset checksums of {len(wrong)} trials differ, the first is {first}. {remedy}"
        )
    numbers, times = np.unique(trials, return_counts=True)
    if (times > 1).any():
        raise PredictionError(f"{_source(dataset)} holds trial {numbers[times > 1][0]} more than once. {remedy}")


def other_parameters(dataset: xr.Dataset, setting: Setting) -> str:
    """What differs between the parameters of a prediction file and those of ``setting``; empty if nothing that counts."""
    ours = telling(json.loads(setting.model_dump_json(exclude={"trials"})))
    theirs = telling(json.loads(dataset.attrs["setting"]))
    changed = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key} was {theirs.get(key)}, is {ours.get(key)}" for key in changed)
