"""A data set of one's own in one file: an ``.npz`` with the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

`read` refuses whatever would train without complaint and mean nothing: labels with a gap, inputs that are not finite,
channels in the wrong place. Nothing is converted but the width of whole numbers, so what is trained on is what was saved.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from study.image_folder import DataError

NAMES = ("x_train", "y_train", "x_test", "y_test")
RULE = "classes are numbered 0, 1, 2, ... without a gap"
LARGEST_LABEL = np.iinfo(np.int16).max  # of what a learner predicts
CHANNELS = (1, 2, 3, 4)  # what a picture's last axis usually holds: grey or colours, with or without transparency


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Both splits and the names of the classes, which are their numbers: ``x_train, y_train, x_test, y_test, classes``.

    ``x_train (n, ...)`` and ``x_test (n_test, ...)`` are uint8 pictures or finite float32 features, alike but for their
    number; pictures have shape ``(height, width)`` or ``(height, width, channels)``. ``y_train (n,)`` and
    ``y_test (n_test,)`` are whole numbers of any width, returned as int64: the classes 0, 1, 2, ... without a gap. Other
    arrays in the file are not looked at. Raises `DataError` that names the array, what was found in it, and the remedy.
    """
    found = _loaded(path)
    for split in ("train", "test"):
        _check_inputs(f"x_{split} of {path}", found[f"x_{split}"])
        _check_labels(f"y_{split} of {path}", found[f"y_{split}"], len(found[f"x_{split}"]))
    _check_alike(path, found["x_train"], found["x_test"])
    y_train, y_test = (found[name].astype(np.int64) for name in ("y_train", "y_test"))
    classes = _checked_classes(path, y_train, y_test)
    return found["x_train"], y_train, found["x_test"], y_test, tuple(map(str, range(classes)))


def _loaded(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; put the file there, or set STUDY_DATA to the folder that holds it, or name it by an "
            "absolute path"
        )
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
            if missing := [name for name in NAMES if name not in file]:
                raise DataError(f"{path} lacks {', '.join(missing)}; it has {', '.join(file) or 'no array'}. {_saved()}")
            return {name: file[name] for name in NAMES}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as plain arrays ({error}). {_saved()}") from error


def _saved() -> str:
    return f"Save numeric arrays with numpy.savez_compressed(path, {', '.join(f'{name}=...' for name in NAMES)})"


def _check_inputs(what: str, x: np.ndarray) -> None:
    if x.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{what} is {x.dtype}; save pictures of bytes as uint8 and all else as float32, with .astype(numpy.float32)"
        )
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(f"{what} has shape {x.shape}; one row an example is needed, and at least one of them")
    if x.ndim == 4 and x.shape[1] in CHANNELS and x.shape[3] not in CHANNELS:
        raise DataError(
            f"{what} has shape {x.shape}, which looks like channels before height and width; save them last, with "
            ".transpose(0, 2, 3, 1)"
        )
    if x.dtype == np.float32 and not np.isfinite(x).all():
        odd = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(1))
        raise DataError(
            f"{what} has NaN or infinite values in {len(odd)} example(s), the first is {odd[0]}; leave these examples out, "
            "or put numbers in their place"
        )


def _check_labels(what: str, y: np.ndarray, examples: int) -> None:
    if not np.issubdtype(y.dtype, np.integer):
        raise DataError(f"{what} is {y.dtype}; whole numbers are needed, one class number an example. {_numbered()}")
    if y.shape != (examples,):
        raise DataError(f"{what} has shape {y.shape}, but its inputs are {examples} examples; shape ({examples},) is needed")


def _numbered() -> str:
    return "numpy.unique(labels, return_inverse=True)[1] numbers the classes of any labels"


def _check_alike(path: Path, x_train: np.ndarray, x_test: np.ndarray) -> None:
    ours, theirs = ((x.dtype, x.shape[1:]) for x in (x_train, x_test))
    if ours != theirs:
        raise DataError(
            f"{path}: an example of x_train is {ours[0]} {ours[1]}, of x_test {theirs[0]} {theirs[1]}; save both alike"
        )


def _checked_classes(path: Path, y_train: np.ndarray, y_test: np.ndarray) -> int:
    """The number of classes. Raises `DataError` unless they are 0, 1, 2, ... and training knows them all."""
    known = np.unique(y_train)
    if known[0] < 0:
        raise DataError(f"y_train of {path} has the label {known[0]}; {RULE}. {_numbered()}")
    if known[-1] > LARGEST_LABEL:
        raise DataError(
            f"y_train of {path} has the label {known[-1]}; the largest possible is {LARGEST_LABEL}. {_numbered()}"
        )
    if missing := np.setdiff1d(np.arange(known[-1]), known).tolist():
        raise DataError(
            f"y_train of {path}: labels go up to {known[-1]}, but {_few(missing)} does not occur; {RULE}. {_numbered()}"
        )
    if strange := sorted(set(y_test.tolist()) - set(known.tolist())):
        raise DataError(
            f"y_test of {path}: label {_few(strange)} does not occur in y_train; leave these test examples out, or add "
            "training examples of the class"
        )
    return len(known)


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (" ..." if len(numbers) > 5 else "")
