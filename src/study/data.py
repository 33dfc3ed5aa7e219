"""The data sets: arrays in one canonical order, with a hash that proves it.

`digits` and `longtail` are made on the spot; `mnist` and `cifar100` come through torchvision from the folder that
``$STUDY_DATA`` names (default ``data/``), where they are downloaded if missing. Every raw file is checked by md5, for a
shuffled or truncated file gives estimates that look right and mean nothing. ``imagenet-<pixels>`` is read from a folder of
pictures, ``$STUDY_DATA/imagenet/{train,val}/<class>/<picture>``, which is never downloaded, for its terms must be agreed to
in person; the resolution is part of the name because another resolution is another data set.

Your own data are named by their place under ``$STUDY_DATA``, or by an absolute path: ``birds.npz`` is a file of arrays
(`array_file`), ``birds@64`` a folder ``birds/{train,val}/<class>/<picture>``, read as squares of 64 pixels.
"""

import hashlib
import os
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from study import array_file, image_folder
from study.image_folder import DataError, Stored

RAW_MD5 = {
    "mnist": {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "cifar100": {
        "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    },
}

IMAGENET_PIXELS = (32, 64, 224)
LEAST_OF_A_CLASS = 2  # in one's own data; a model without the only example of a class has never heard of the class


@dataclass(frozen=True)
class Data:
    """One data set in canonical order.

    ``x_train (n, ...)`` and ``x_test (n_test, ...)`` are uint8 pictures or finite float32 features; ``y_train (n,)`` and
    ``y_test (n_test,)`` int64 labels into ``classes``. ``groups_train`` and ``groups_test`` number the sub-populations
    where they are known. Pictures may be `Stored`, mapped from the disk. Raises ``ValueError`` for arrays that do not fit
    together or a class without a training example.
    """

    name: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    groups_train: np.ndarray | None = field(default=None, repr=False)
    groups_test: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        for split in ("train", "test"):
            _check_split(self, split)
        empty = [self.classes[c] for c in np.flatnonzero(np.bincount(self.y_train, minlength=len(self.classes)) == 0)]
        if empty:
            raise ValueError(f"data set {self.name!r} has no training example of class {', '.join(empty)}")

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.y_train)

    @property
    def n_test(self) -> int:
        """Number of test examples."""
        return len(self.y_test)

    @cached_property
    def order_hash(self) -> str:
        """Hash of every picture and label in order; two data sets with the same hash are the same data in the same order.

        Of a `Stored` array the digest taken when it was written stands for its bytes.
        """
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(_bytes(array))
        return digest.hexdigest()

    def relabelled(self, y_train: np.ndarray, name: str) -> "Data":
        """The same pictures with other training labels."""
        return replace(self, y_train=y_train, name=name)


def _bytes(array: np.ndarray):
    stored = isinstance(array, Stored) and array.digest
    return array.digest.encode() if stored else np.ascontiguousarray(array).data


def _check_split(data: Data, split: str) -> None:
    x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
    where = f"{split} split of data set {data.name!r}"
    if x.dtype not in (np.uint8, np.float32) or y.dtype != np.int64:
        raise ValueError(f"{where}: x is {x.dtype} (uint8 or float32 needed), y is {y.dtype} (int64 needed)")
    if len(x) != len(y) or not len(y):
        raise ValueError(f"{where}: {len(x)} inputs and {len(y)} labels; equal, positive numbers are needed")
    if x.dtype == np.float32 and not np.isfinite(x).all():
        raise ValueError(f"{where}: {np.count_nonzero(~np.isfinite(x))} input values are not finite")
    if y.min() < 0 or y.max() >= len(data.classes):
        raise ValueError(f"{where}: labels run from {y.min()} to {y.max()}, but there are {len(data.classes)} classes")


def unit_floats(x: np.ndarray) -> np.ndarray:
    """Inputs as float32: pictures scaled from bytes to [0, 1], features as they are."""
    return x if x.dtype == np.float32 else x.astype(np.float32) / np.float32(255)


def load(name: str, root: Path | None = None) -> Data:
    """The data set ``name``, one of `DATASETS` or one's own; raw files are sought in ``root``, default ``$STUDY_DATA`` or
    ``data/``.

    Raises ``ValueError`` for an unknown name, `DataError` where raw files are missing, damaged or not fit for the study.
    """
    return maker(name)(Path(root or os.environ.get("STUDY_DATA", "data")))


def maker(name: str) -> Callable[[Path], Data]:
    """What makes the data set ``name`` from the folder of raw files; nothing is read yet.

    Raises ``ValueError`` that lists the valid names for one that is neither in `DATASETS` nor of the form of one's own.
    """
    folder, _, pixels = name.rpartition("@")
    if name in DATASETS:
        return DATASETS[name]
    if name.endswith(".npz"):
        return partial(own_arrays, file=name)
    if folder and pixels.isdecimal() and int(pixels):
        return partial(own_pictures, folder=folder, pixels=int(pixels))
    raise ValueError(
        f"unknown data set {name!r}; valid data sets: {', '.join(DATASETS)}; or your own, <file>.npz or <folder>@<pixels>"
    )


def digits(root: Path) -> Data:
    """scikit-learn's 1,797 digits of 8 × 8 pixels: 1,000 to train, 797 to test, stratified by class, split seed 0."""
    from sklearn.datasets import load_digits  # three quarters of a second, which every other run is spared
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32).reshape(-1, 8, 8), y.astype(np.int64)
    train, test = map(np.sort, train_test_split(np.arange(len(y)), train_size=1000, stratify=y, random_state=0))
    return Data("digits", x[train], y[train], x[test], y[test], tuple(map(str, range(10))))


def longtail(root: Path) -> Data:
    """A mixture with known singletons: 10 classes of 60 sub-populations each, sizes by Zipf's law, points in R^64.

    A sub-population is a random centre of norm 1 with Gaussian noise of standard deviation 0.05 a coordinate; its label
    is its class. Train and test (1,000 points each) draw from the same frequencies, so that many sub-populations occur
    exactly once in training: these are the examples that only memorization can serve.
    """
    draw = np.random.default_rng(np.random.SeedSequence(2019))
    n_classes, per_class, n, d = 10, 60, 1000, 64
    centres = draw.standard_normal((n_classes * per_class, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    frequency = np.tile(1 / np.arange(1, per_class + 1), n_classes)
    groups = draw.choice(len(frequency), size=2 * n, p=frequency / frequency.sum())
    x = (centres[groups] + 0.05 * draw.standard_normal((2 * n, d))).astype(np.float32)
    y = (groups // per_class).astype(np.int64)
    names = tuple(map(str, range(n_classes)))
    return Data("longtail", x[:n], y[:n], x[n:], y[n:], names, groups[:n], groups[n:])


def mnist(root: Path) -> Data:
    """MNIST in the official order, 28 × 28 bytes."""
    from torchvision.datasets import MNIST

    train, test = _through_torchvision("mnist", MNIST, root)
    arrays = (part.numpy() for split in (train, test) for part in (split.data, split.targets))
    return Data("mnist", *arrays, tuple(map(str, range(10))))


def cifar100(root: Path) -> Data:
    """CIFAR-100 in the official order, 32 × 32 × 3 bytes, the 100 fine labels."""
    from torchvision.datasets import CIFAR100

    train, test = _through_torchvision("cifar100", CIFAR100, root)
    arrays = (part for split in (train, test) for part in (split.data, np.array(split.targets, dtype=np.int64)))
    return Data("cifar100", *arrays, tuple(train.classes))


def imagenet(root: Path, pixels: int) -> Data:
    """ImageNet, or any other pictures in its layout, as squares of ``pixels`` a side; the test split is ``val``.

    Decoded once, about 7 ms of a core a picture at 224 pixels, and mapped from the disk ever after (`image_folder`).
    """
    return Data(f"imagenet-{pixels}", *image_folder.read(root / "imagenet", pixels))


def own_arrays(root: Path, file: str) -> Data:
    """Arrays of one's own, from the file ``root / file``; errors as in `array_file.read` and `own_pictures`."""
    return _enough_of_each_class(Data(file, *array_file.read(root / file)))


def own_pictures(root: Path, folder: str, pixels: int) -> Data:
    """Pictures of one's own in the layout of ImageNet, as squares of ``pixels`` a side; the test split is ``val``.

    Raises `DataError` as `image_folder.read` does, and for a class with fewer than `LEAST_OF_A_CLASS` training examples.
    """
    return _enough_of_each_class(Data(f"{folder}@{pixels}", *image_folder.read(root / folder, pixels)))


def _enough_of_each_class(data: Data) -> Data:
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    if few := [f"{data.classes[c]} has {counts[c]}" for c in np.flatnonzero(counts < LEAST_OF_A_CLASS)]:
        raise DataError(
            f"data set {data.name!r} has too few training examples of {len(few)} class(es): {', '.join(few[:5])}; at least "
            f"{LEAST_OF_A_CLASS} of each are needed. Add examples, or leave the class out of both splits"
        )
    return data


def _through_torchvision(name: str, dataset, root: Path):
    missing = [file for file in RAW_MD5[name] if not (root / file).is_file()]
    if missing:
        _download(name, dataset, root, missing[0])
    for file, md5 in RAW_MD5[name].items():
        check_md5(root / file, md5)
    return tuple(dataset(root, train=train, download=False) for train in (True, False))


def _download(name: str, dataset, root: Path, missing: str) -> None:
    try:
        dataset(root, train=True, download=True)
    except (RuntimeError, OSError, urllib.error.URLError) as error:
        raise DataError(
            f"{root / missing} is missing and {name} could not be downloaded ({error}). Connect to a network and run "
            f"again, or set STUDY_DATA to a folder that holds {', '.join(RAW_MD5[name])}"
        ) from error


def check_md5(path: Path, expected: str) -> None:
    """Raise `DataError` unless the file at ``path`` has the md5 ``expected``."""
    try:
        found = hashlib.md5(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run again to fetch it anew") from error
    if found != expected:
        raise DataError(
            f"{path} has md5 {found}, expected {expected}: it is truncated or altered. Delete it and run again to fetch "
            "it anew"
        )


DATASETS = {"digits": digits, "longtail": longtail, "mnist": mnist, "cifar100": cifar100}
DATASETS |= {f"imagenet-{pixels}": partial(imagenet, pixels=pixels) for pixels in IMAGENET_PIXELS}
