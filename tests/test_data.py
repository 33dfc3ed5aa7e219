"""Data sets: the canonical order is proved by hashes, and raw files that cannot be trusted are refused by name."""

import hashlib
import os
import pickle
import struct
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR100, MNIST, cifar, mnist

from study import data
from study.data import Data, DataError


def toy(**changes) -> Data:
    """Four training and two test points of two classes, with any field replaced."""
    x, y = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 0, 1])
    fields = {"name": "toy", "x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2], "classes": ("cat", "dog")}
    return Data(**fields | changes)


# digits


def test_digits_are_a_thousand_to_train_and_797_to_test(digits):
    assert digits.x_train.shape == (1000, 8, 8) and digits.x_test.shape == (797, 8, 8)
    assert (digits.n, digits.n_test) == (1000, 797)
    assert digits.classes == tuple("0123456789")
    assert digits.x_train.dtype == np.float32 and digits.y_train.dtype == np.int64
    assert digits.x_train.min() == 0 and digits.x_train.max() == 1


def test_digits_have_the_order_that_the_published_rows_were_trained_on(digits):
    assert digits.order_hash == "255e834db63d7443b47985bca0684e54"
    assert digits.y_train[:10].tolist() == [2, 3, 5, 6, 7, 8, 9, 3, 4, 5] and digits.y_test[:10].tolist() == [
        0,
        1,
        4,
        0,
        1,
        2,
        7,
        1,
        4,
        5,
    ]


def test_each_digit_of_scikit_learn_is_in_exactly_one_split(digits):
    everything = np.column_stack([load_digits().data / 16, load_digits().target])
    ours = [np.column_stack([x.reshape(len(x), -1), y]) for x, y in _splits(digits)]
    assert sorted(map(tuple, np.concatenate(ours))) == sorted(map(tuple, everything))


def test_both_splits_of_digits_hold_the_classes_in_equal_shares(digits):
    for _, labels in _splits(digits):
        shares = np.bincount(labels) / len(labels)
        assert np.abs(shares - np.bincount(load_digits().target) / 1797).max() < 1 / len(labels)


def _splits(made: Data):
    return (made.x_train, made.y_train), (made.x_test, made.y_test)


# the long-tailed mixture


@pytest.fixture(scope="module")
def longtail() -> Data:
    return data.load("longtail")


def test_the_singletons_of_the_long_tail_are_known(longtail):
    size = np.bincount(longtail.groups_train, minlength=600)
    assert (size == 1).sum() == 166 and (size == 0).sum() == 256
    assert (size[longtail.groups_test] == 1).sum() == 151, "tests that only one training example can serve"
    assert longtail.groups_train[:5].tolist() == [540, 106, 121, 156, 422]


def test_a_group_of_the_long_tail_belongs_to_one_class(longtail):
    for labels, groups in ((longtail.y_train, longtail.groups_train), (longtail.y_test, longtail.groups_test)):
        assert np.array_equal(labels, groups // 60)
        assert len(labels) == 1000


def test_the_groups_of_the_long_tail_are_where_the_points_are(longtail):
    """Two points of a group are about 0.05 * sqrt(128) = 0.57 apart, of two groups about sqrt(2): 1 separates them."""
    x, groups = longtail.x_train[:400], longtail.groups_train[:400]
    near = np.linalg.norm(x[:, None] - x[None], axis=2) < 1
    assert (near == (groups[:, None] == groups[None])).mean() > 0.999


def test_frequent_groups_of_the_long_tail_are_frequent_in_both_splits(longtail):
    rank = np.minimum(longtail.groups_train % 60, 10), np.minimum(longtail.groups_test % 60, 10)
    train, test = (np.bincount(part, minlength=11) / 1000 for part in rank)
    expected = 1 / np.arange(1, 61) / (1 / np.arange(1, 61)).sum()
    expected = np.append(expected[:10], expected[10:].sum())
    for observed in (train, test):
        assert np.abs(observed - expected).max() < 5 * np.sqrt(0.25 / 1000)


@pytest.mark.parametrize("name", ["digits", "longtail"])
def test_a_data_set_is_the_same_each_time(name):
    assert data.load(name).order_hash == data.load(name).order_hash


# what every data set promises


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_order_hash_notices_two_swapped_examples(split):
    swapped = {
        f"{axis}_{split}": getattr(toy(), f"{axis}_{split}")[[1, 0, *range(2, 4 if split == "train" else 2)]]
        for axis in "xy"
    }
    assert toy(**swapped).order_hash != toy().order_hash


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
def test_the_order_hash_notices_one_changed_value(name):
    changed = getattr(toy(), name).copy()
    changed.flat[0] = 1 - changed.flat[0]
    assert toy(**{name: changed}).order_hash != toy().order_hash


def test_the_order_hash_notices_shape_and_type():
    assert toy(x_train=toy().x_train.reshape(4, 1, 2)).order_hash != toy().order_hash
    assert toy(x_train=toy().x_train.astype(np.uint8)).order_hash != toy().order_hash


def test_the_order_hash_is_of_the_values_and_not_of_the_memory_they_lie_in():
    assert toy(x_train=np.asfortranarray(toy().x_train), name="renamed").order_hash == toy().order_hash


def test_an_empty_class_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'toy' has no training example of class fox, owl$"):
        toy(classes=("cat", "dog", "fox", "owl"))


def test_relabelling_a_class_away_is_refused():
    with pytest.raises(ValueError, match="'cats' has no training example of class dog"):
        toy().relabelled(np.zeros(4, dtype=np.int64), "cats")


def test_relabelling_keeps_the_pictures():
    other = toy().relabelled(np.array([1, 0, 1, 0]), "flipped")
    assert other.name == "flipped" and other.y_train.tolist() == [1, 0, 1, 0]
    assert other.x_train is not None and np.array_equal(other.x_train, toy().x_train)
    assert other.order_hash != toy().order_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((4, 2))}, "train split of data set 'toy': x is float64"),
        ({"y_test": np.zeros(2, dtype=np.int32)}, "test split of data set 'toy': .* y is int32"),
        ({"y_train": np.array([0, 1, 0])}, "4 inputs and 3 labels"),
        ({"x_test": np.empty((0, 2), np.float32), "y_test": np.empty(0, np.int64)}, "0 inputs and 0 labels"),
        ({"x_train": np.array([[0, 1], [np.nan, 1], [0, np.inf], [0, 0]], np.float32)}, "2 input values are not finite"),
        ({"y_train": np.array([0, 1, 2, 1])}, "labels run from 0 to 2, but there are 2 classes"),
        ({"y_test": np.array([0, -1])}, "labels run from -1 to 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        toy(**changes)


def test_bytes_become_floats_between_zero_and_one_and_features_stay():
    scaled = data.unit_floats(np.array([0, 51, 255], dtype=np.uint8))
    assert scaled.dtype == np.float32 and scaled.tolist() == [0, np.float32(51) / np.float32(255), 1]
    features = np.array([-3.5, 9], dtype=np.float32)
    assert data.unit_floats(features) is features


def test_an_unknown_data_set_is_refused_with_the_valid_names():
    with pytest.raises(ValueError, match="unknown data set 'mnits'; valid data sets: digits, longtail, mnist, cifar100"):
        data.load("mnits")


# raw files of MNIST and CIFAR-100


def write_mnist(root: Path, n: int = 30) -> None:
    """Four idx files of random pictures; the labels begin as those of MNIST do."""
    draw, begin = np.random.default_rng(0), {"train": [5, 0, 4, 1, 9], "t10k": [7, 2, 1, 0, 4]}
    for split, first in begin.items():
        labels = np.concatenate([first, np.arange(n - 5) % 10]).astype(np.uint8)
        pictures = draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        for kind, magic, array in (("images-idx3", 2051, pictures), ("labels-idx1", 2049, labels)):
            path = root / f"MNIST/raw/{split}-{kind}-ubyte"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes())


def write_cifar100(root: Path, n: int = 100) -> None:
    """The three pickles, with every class once; the labels begin as those of CIFAR-100 do."""
    folder, draw = root / "cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, first in (("train", [19, 29, 0, 11, 1]), ("test", [49, 33, 72, 51, 71])):
        labels = first + [c for c in range(n) if c not in first]
        pictures = draw.integers(0, 256, (n, 3072), dtype=np.uint8)
        (folder / split).write_bytes(pickle.dumps({"data": pictures, "fine_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"kind {c}" for c in range(100)]}))


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def accept(monkeypatch, name: str, root: Path) -> None:
    """Let the files in ``root`` be the true ones, for us and for torchvision."""
    sums = {file: md5_of(root / file) for file in data.RAW_MD5[name]}
    monkeypatch.setitem(data.RAW_MD5, name, sums)
    if name == "cifar100":
        for attribute, file in (("train_list", "train"), ("test_list", "test")):
            monkeypatch.setattr(CIFAR100, attribute, [[file, sums[f"cifar-100-python/{file}"]]])
        meta = {"filename": "meta", "key": "fine_label_names", "md5": sums["cifar-100-python/meta"]}
        monkeypatch.setattr(CIFAR100, "meta", meta)


@pytest.fixture(params=["mnist", "cifar100"])
def raw(request, tmp_path, monkeypatch) -> tuple[str, Path]:
    """A data set's name and a folder with small synthetic files of its format."""
    {"mnist": write_mnist, "cifar100": write_cifar100}[request.param](tmp_path)
    accept(monkeypatch, request.param, tmp_path)
    return request.param, tmp_path


FIRST = {"mnist": ([5, 0, 4, 1, 9], [7, 2, 1, 0, 4]), "cifar100": ([19, 29, 0, 11, 1], [49, 33, 72, 51, 71])}
PICTURE = {"mnist": (28, 28), "cifar100": (32, 32, 3)}


def check(made: Data) -> None:
    """What holds for the true files as well as for the synthetic ones."""
    assert made.x_train.dtype == np.uint8 and made.x_train.shape == (made.n, *PICTURE[made.name])
    assert made.x_test.dtype == np.uint8 and made.x_test.shape == (made.n_test, *PICTURE[made.name])
    assert (made.y_train[:5].tolist(), made.y_test[:5].tolist()) == FIRST[made.name]


def test_raw_files_are_read_in_the_official_order(raw):
    name, root = raw
    check(data.load(name, root))


def test_pictures_are_read_as_they_lie_in_the_file(raw):
    name, root = raw
    made = data.load(name, root)
    if name == "mnist":
        stored = (root / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()[16:]
        expected = np.frombuffer(stored, np.uint8).reshape(-1, 28, 28)
    else:
        stored = pickle.loads((root / "cifar-100-python/test").read_bytes())["data"]
        expected = stored.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(made.x_test, expected)


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_the_files_of_study_data_are_found(name, tmp_path, monkeypatch):
    """The true files where the machine has them, else synthetic ones: never neither."""
    root = Path(os.environ.get("STUDY_DATA", tmp_path))
    if not all((root / file).is_file() for file in data.RAW_MD5[name]):
        {"mnist": write_mnist, "cifar100": write_cifar100}[name](tmp_path)
        accept(monkeypatch, name, tmp_path)
        root = tmp_path
    monkeypatch.setenv("STUDY_DATA", str(root))
    made = data.load(name)
    check(made)
    true = {"mnist": (60_000, 10_000), "cifar100": (50_000, 10_000)}
    synthetic = {"mnist": (30, 30), "cifar100": (100, 100)}
    assert (made.n, made.n_test) == (synthetic if root == tmp_path else true)[name]


def test_a_truncated_file_is_refused_by_name_with_the_remedy(raw):
    name, root = raw
    victim = root / list(data.RAW_MD5[name])[1]
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is truncated or altered. Delete it and run again") as caught:
        data.load(name, root)
    assert str(victim) in str(caught.value) and md5_of(victim) in str(caught.value)


def test_a_file_with_one_wrong_byte_is_refused(raw):
    name, root = raw
    victim = root / next(iter(data.RAW_MD5[name]))
    altered = bytearray(victim.read_bytes())
    altered[-1] ^= 1
    victim.write_bytes(altered)
    with pytest.raises(DataError, match=f"{victim.name} has md5"):
        data.load(name, root)


FAILURES = [
    urllib.error.URLError("Name or service not known"),
    RuntimeError("File not found or corrupted."),  # what torchvision says of an archive with a wrong md5
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=["no network", "wrong archive", "disk full"])
def test_a_failed_download_names_the_missing_file_and_the_remedy(raw, failure, monkeypatch):
    name, root = raw
    missing = root / list(data.RAW_MD5[name])[1]
    missing.unlink()

    def fail(*arguments, **options):
        raise failure

    for module in (mnist, cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)
    with pytest.raises(DataError, match=f"{name} could not be downloaded") as caught:
        data.load(name, root)
    for part in (str(missing), "Connect to a network", "STUDY_DATA", *data.RAW_MD5[name]):
        assert part in str(caught.value)


def test_missing_files_are_downloaded(raw, tmp_path, monkeypatch):
    """The archive that a server would send holds the synthetic files."""
    name, root = raw
    elsewhere = tmp_path / "server"
    for file in data.RAW_MD5[name]:
        (elsewhere / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).rename(elsewhere / file)

    def deliver(url, *arguments, filename=None, **options):
        for file in data.RAW_MD5[name]:
            if name == "cifar100" or (filename or url).startswith(Path(file).name):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_bytes((elsewhere / file).read_bytes())

    monkeypatch.setattr(mnist if name == "mnist" else cifar, "download_and_extract_archive", deliver)
    check(data.load(name, root))


def test_an_unreadable_file_is_refused_by_name(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"train cannot be read .* delete it and run again"):
        data.check_md5(tmp_path / "train", "0" * 32)


def test_the_md5_sums_are_those_that_torchvision_knows():
    """MNIST's are of the archives there, so only those of CIFAR-100 can be compared."""
    known = dict(CIFAR100.train_list + CIFAR100.test_list) | {"meta": CIFAR100.meta["md5"]}
    assert {Path(file).name: md5 for file, md5 in data.RAW_MD5["cifar100"].items()} == known
    archives = {name.removesuffix(".gz") for name, _ in MNIST.resources}
    assert {Path(file).name for file in data.RAW_MD5["mnist"]} == archives
