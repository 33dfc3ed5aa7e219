"""The prediction file ``predictions/<setting>.zarr.zip``: which examples each trial got right.

Variables: ``train_correct (trial, train)`` and ``test_correct (trial, test)`` bool, ``trial``, ``diverged (trial)`` bool,
``subset_checksum (trial)`` int64, ``train_label``, ``test_label``; attributes: ``fingerprint``, ``setting`` (JSON) and
``order_hash``. Subset masks are not stored: they are recomputed from the seed and compared with the checksums.

Two choices differ from the obvious. Within a chunk one example's bits over all trials lie together, for most examples are
always right and such columns compress to almost nothing. And the file holds nothing about when, where or how fast it was
made (that is in the run's record), so that an interrupted and resumed run gives the same bytes as an unbroken one.
"""

import json
import os
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
from study.params import Setting

EXAMPLES_A_CHUNK = 4096
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip archive can hold


class PredictionError(Exception):
    """A prediction file that is damaged or belongs to something else; the message names the file and the remedy."""


def path_of(setting_name: str) -> Path:
    return Path("predictions") / f"{setting_name}.zarr.zip"


def write(path: Path, setting: Setting, data: Data, trials, train_correct, test_correct, diverged) -> None:
    """Assemble a prediction file: a temporary name, a flush to disk, a rename.

    ``trials (t,)``, ``train_correct (t, n)``, ``test_correct (t, n_test)`` and ``diverged (t,)`` have matching rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = subsets.members(setting.seed, trials, data.n, setting.ratio)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        store = zarr.create_group(LocalStore(Path(folder) / "zarr"), zarr_format=3)
        store.attrs.update(_attributes(setting, data))
        _array(store, "train_correct", train_correct, ("trial", "train"))
        _array(store, "test_correct", test_correct, ("trial", "test"))
        _array(store, "trial", np.asarray(trials, dtype=np.int64), ("trial",))
        _array(store, "diverged", np.asarray(diverged, dtype=bool), ("trial",))
        _array(store, "subset_checksum", subsets.checksums(masks), ("trial",))
        _array(store, "train_label", data.y_train, ("train",))
        _array(store, "test_label", data.y_test, ("test",))
        _zip(Path(folder) / "zarr", Path(folder) / "file", path)


def _attributes(setting: Setting, data: Data) -> dict:
    described = setting.model_dump_json(exclude={"trials"})
    return {"fingerprint": setting.fingerprint(data), "setting": described, "order_hash": data.order_hash}


def _array(store: zarr.Group, name: str, values: np.ndarray, axes: tuple[str, ...]) -> None:
    wide = values.ndim == 2
    store.create_array(
        name,
        data=np.ascontiguousarray(values),
        chunks=(len(values), EXAMPLES_A_CHUNK) if wide else values.shape,
        filters=[TransposeCodec(order=(1, 0))] if wide else None,
        compressors=[ZstdCodec(level=12)],
        dimension_names=axes,
    )


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
            return xr.open_zarr(store, consolidated=False, chunks=None).load()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise PredictionError(f"{path} is damaged ({error}); delete it and run `dvc pull` or `dvc repro`") from error


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"checksum of {damaged} is wrong")


def verify(dataset: xr.Dataset, setting: Setting, data: Data) -> np.ndarray:
    """Check that a prediction file belongs to ``setting`` on ``data``; return the masks, bool ``(trial, train)``.

    Raises `PredictionError` if the data order, the fingerprint or a subset checksum differs.
    """
    if dataset.attrs["order_hash"] != data.order_hash:
        raise PredictionError(
            f"predictions were made on data with order hash {dataset.attrs['order_hash']}, but data set {data.name!r} has "
            f"{data.order_hash}; the data, or their order, changed"
        )
    if dataset.attrs["fingerprint"] != setting.fingerprint(data):
        raise PredictionError(f"predictions were made with other parameters: {_difference(dataset, setting)}")
    masks = subsets.members(setting.seed, dataset.trial.values, data.n, setting.ratio)
    wrong = np.flatnonzero(subsets.checksums(masks) != dataset.subset_checksum.values)
    if len(wrong):
        raise PredictionError(
            f"subset checksums of {len(wrong)} trials differ, the first is {dataset.trial.values[wrong[0]]}"
        )
    return masks


def _difference(dataset: xr.Dataset, setting: Setting) -> str:
    ours, theirs = json.loads(setting.model_dump_json(exclude={"trials"})), json.loads(dataset.attrs["setting"])
    changed = [key for key in ours if ours[key] != theirs.get(key)]
    return "; ".join(f"{key} was {theirs.get(key)}, is {ours[key]}" for key in changed) or "the fingerprint differs"
