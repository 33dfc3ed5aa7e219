"""Arrays that a run keeps until its prediction file is written: each file is complete or not there at all."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np

from study.workers import TrainingError


def save(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays under a temporary name, flush, rename. Raises `TrainingError` if the disk does not take them."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with open(part, "wb") as handle:
            handle.write(_serialized(arrays))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise TrainingError(f"{path} could not be written ({error}). Make room on that disk, and run again") from error


def _serialized(arrays: dict[str, np.ndarray]) -> memoryview:
    buffer = io.BytesIO()  # a zip archive that fails to reach the disk would fail once more when it is closed
    np.savez(buffer, **arrays)
    return buffer.getbuffer()


def load(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    """The named arrays of a file; ``None`` if it is not there or if the disk has damaged it, which deletes it."""
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as saved:
            return {name: saved[name] for name in names}
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError):
        path.unlink(missing_ok=True)
        return None
