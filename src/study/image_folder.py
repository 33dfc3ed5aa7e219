"""A folder of pictures as arrays that stay on the disk, for data sets that no memory holds.

`read` takes ``folder/{train,val}/<class>/<picture>`` in the order of `torchvision.datasets.ImageFolder` (sorted class
folders, sorted file names), scales the shorter side of each picture, cuts out its centre, and writes the bytes once into
``folder/decoded-<pixels>/``; from then on they are mapped into memory. At 224 pixels ImageNet's 1.28 million pictures
are 193 GB, so an array here is never copied to another process: it is pickled as its path and the hash of its
bytes, and the receiver opens the same file.

The arrays are decoded anew if the name, size or time of any picture changed. Different versions of a JPEG library may
differ in single bytes of a decoded picture, hence in the order hash: machines that train one setting share the decoded
folder, or hold copies of it.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock

from study.progress import Progress

SPLITS = ("train", "val")
BLOCK = 256  # pictures decoded before they are written: 39 MB at 224 pixels


class DataError(Exception):
    """Raw data that cannot be used; the message names the file and the remedy."""


class Stored(np.memmap):
    """A memory-mapped array with the ``digest`` of its bytes. Parts and results of it have none and are plain values."""

    digest: str | None

    def __array_finalize__(self, source):
        super().__array_finalize__(source)
        self.digest = None

    def __reduce__(self):
        return (stored, (Path(self.filename), self.digest)) if self.digest else np.asarray(self).__reduce__()


def stored(path: Path, digest: str) -> Stored:
    """The array in the file ``path``, which `read` has written with this ``digest``; also what unpickling calls.

    Raises `DataError` if the file is missing or damaged, or was written again with other pictures.
    """
    if not path.is_file():
        raise DataError(
            f"{path} does not exist on this machine: a memory-mapped data set is not sent to workers. Let every worker "
            "see the folder under the same path (a shared disk, or a copy)"
        )
    if (found := _contents(path.parent).get(path.stem)) != digest:
        raise DataError(f"{path} has digest {found}, expected {digest}: the folder was written anew; start the run again")
    try:
        # Read only. A private copy, which torch would take without a warning, counts in full as memory promised to this
        # process, and the system refuses to promise more than it has.
        array = np.load(path, mmap_mode="r").view(Stored)
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); delete {path.parent} and run again") from error
    array.digest = digest
    return array


def read(folder: Path, pixels: int) -> tuple[Stored, np.ndarray, Stored, np.ndarray, tuple[str, ...]]:
    """Pictures and labels of both splits, and the classes: ``x_train, y_train, x_val, y_val, classes``.

    Pictures are uint8 ``(n, pixels, pixels, 3)``, labels int64 ``(n,)``. Raises `DataError` if a split is missing, has
    other classes than the other, or holds a picture that cannot be decoded.
    """
    folder = folder.absolute()
    train, val = (_listed(folder, split) for split in SPLITS)
    if odd := sorted(set(train.classes) ^ set(val.classes)):
        raise DataError(f"{folder}: class {', '.join(odd[:5])} is in only one of train and val; both need the same classes")
    decoded, listing = folder / f"decoded-{pixels}", _fingerprint(train, val)
    if _contents(decoded).get("listing") != listing:
        _decode(decoded, {"train": train, "val": val}, pixels, listing)
    digests = _contents(decoded)
    x_train, x_val = (stored(decoded / f"{split}.npy", digests[split]) for split in SPLITS)
    labels = (np.array(split.targets, dtype=np.int64) for split in (train, val))
    return x_train, next(labels), x_val, next(labels), tuple(train.classes)


def _listed(folder: Path, split: str):
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(folder / split)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{folder / split} cannot be read ({error}). Pictures are expected as {folder}/train/<class>/<picture> and "
            f"{folder}/val/<class>/<picture>, with the same class folders in both: put them there, or set STUDY_DATA to "
            f"the folder that holds {folder.name}/"
        ) from error


def _fingerprint(*splits) -> str:
    """Identifies the picture files by name, size and time of change."""
    digest = hashlib.blake2b(digest_size=16)
    for split in splits:
        for path, _ in split.samples:
            status = os.stat(path)
            digest.update(f"{os.path.relpath(path, split.root)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _contents(decoded: Path) -> dict:
    try:
        return json.loads((decoded / "contents.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _decode(decoded: Path, splits: dict, pixels: int, listing: str) -> None:
    """Make the folder ``decoded``, unless another process that held the lock has made it."""
    try:
        with FileLock(decoded.with_name(f".{decoded.name}.lock")):
            if _contents(decoded).get("listing") != listing:
                _write_folder(decoded, splits, pixels, listing)
    except OSError as error:
        gigabytes = sum(len(split.samples) for split in splits.values()) * 3 * pixels**2 / 1e9
        raise DataError(
            f"{decoded} cannot be written ({error}); it needs {gigabytes:.3g} GB in a folder that this user may write"
        ) from error


def _write_folder(decoded: Path, splits: dict, pixels: int, listing: str) -> None:
    """Write under another name, and rename what is whole; what a killed process left behind is removed first."""
    part = decoded.with_name(f"{decoded.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        digests = {name: _write(part / f"{name}.npy", split, pixels) for name, split in splits.items()}
        (part / "contents.json").write_text(json.dumps({"listing": listing} | digests, indent=1) + "\n")
        shutil.rmtree(decoded, ignore_errors=True)
        os.replace(part, decoded)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(path: Path, split, pixels: int) -> str:
    """Decode the pictures of a split into one file of numpy's format; return the digest of their bytes.

    Written block by block and not through a memory map, because a full disk then raises instead of killing the process.
    """
    files, digest = [file for file, _ in split.samples], hashlib.blake2b(digest_size=16)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), pixels, pixels, 3)}
    progress = Progress(f"decode {path.parent.stem}/{path.stem}", total=len(files), unit="pictures")
    with open(path, "wb") as handle, ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        np.lib.format.write_array_header_1_0(handle, header)
        for start in range(0, len(files), BLOCK):
            block = np.stack(list(pool.map(partial(square, pixels=pixels), files[start : start + BLOCK])))
            handle.write(block.data)
            digest.update(block.data)
            progress.advance(len(block))
        handle.flush()
        os.fsync(handle.fileno())
    return digest.hexdigest()


def square(file: str, pixels: int) -> np.ndarray:
    """The centre of one picture, its shorter side scaled to ``pixels``: uint8 ``(pixels, pixels, 3)``.

    Raises `DataError` that names a file which cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (pixels, pixels)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be decoded ({error}); replace it by an intact copy, or remove it") from error
