"""Folders of pictures: decoded once in a provable order, mapped from the disk, never sent; damage is refused by name."""

import errno
import os
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pictures
import pytest
from PIL import Image

from study import data, image_folder
from study.data import Data, DataError
from study.image_folder import Stored


@pytest.fixture
def folder_of_pictures(tmp_path) -> Path:
    return pictures.write(tmp_path)


def load(folder: Path) -> Data:
    return data.load("imagenet-32", folder.parent)


def test_pictures_are_squares_in_the_order_of_sorted_names(folder_of_pictures):
    made = load(folder_of_pictures)
    assert made.x_train.shape == (24, 32, 32, 3) and made.x_test.shape == (9, 32, 32, 3)
    assert made.x_train.dtype == np.uint8 and made.name == "imagenet-32"
    assert made.classes == ("n01_red", "n02_green", "n03_blue")
    assert made.y_train.tolist() == [0] * 8 + [1] * 8 + [2] * 8 and made.y_test.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    for x, y in ((made.x_train, made.y_train), (made.x_test, made.y_test)):
        assert (x.mean((1, 2)).argmax(1) == y).all(), "the colour tells the class"


def test_a_wide_and_a_tall_picture_show_their_centre(tmp_path):
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 16:44] = 255  # four more to each side, for scaling looks beyond the edge
    for name, pixels in (("wide", stripes), ("tall", stripes.swapaxes(0, 1))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        shown = image_folder.square(str(tmp_path / f"{name}.png"), 10)
        assert shown.shape == (10, 10, 3) and (shown == 255).all(), name


def test_grey_and_transparent_pictures_become_red_green_and_blue(tmp_path):
    for mode in ("L", "RGBA", "CMYK"):
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode}.tif")
        assert image_folder.square(str(tmp_path / f"{mode}.tif"), 4).shape == (4, 4, 3), mode


def test_the_resolution_is_part_of_the_identity(folder_of_pictures):
    small, large = (data.load(f"imagenet-{pixels}", folder_of_pictures.parent) for pixels in (32, 64))
    assert small.x_train.shape[1:] == (32, 32, 3) and large.x_train.shape[1:] == (64, 64, 3)
    assert small.order_hash != large.order_hash


def test_the_stored_arrays_are_mapped_read_only_and_hold_what_was_decoded(folder_of_pictures):
    made = load(folder_of_pictures)
    for split, x in (("train", made.x_train), ("val", made.x_test)):
        files = sorted((folder_of_pictures / split).glob("*/*.png"))
        assert isinstance(x, np.memmap) and not x.flags.writeable
        assert np.array_equal(x, [image_folder.square(str(file), 32) for file in files])


def test_pictures_are_decoded_once(folder_of_pictures, monkeypatch):
    first = load(folder_of_pictures)
    monkeypatch.setattr(image_folder, "square", lambda *arguments, **options: pytest.fail("decoded again"))
    again = load(folder_of_pictures)
    assert again.order_hash == first.order_hash and np.array_equal(again.x_train, first.x_train)


def swap(a: Path, b: Path) -> None:
    aside = a.with_suffix(".aside")
    a.rename(aside), b.rename(a), aside.rename(b)


def repaint(a: Path, b: Path) -> None:
    pictures.picture((1, 2, 3), 5).save(a)


CHANGES = {
    "two pictures swapped": swap,
    "one picture painted over": repaint,
    "one picture gone": lambda a, b: a.unlink(),
    "one picture more": lambda a, b: shutil.copy(a, a.with_name("n01_zzz.png")),
    "one picture of another class": lambda a, b: a.rename(a.parents[1] / "n02_green/n02_zzz.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_folder_is_decoded_again_and_has_another_order_hash(folder_of_pictures, change):
    before = load(folder_of_pictures).order_hash
    a, b = sorted((folder_of_pictures / "train/n01_red").iterdir())[:2]
    change(a, b)
    assert load(folder_of_pictures).order_hash != before


def test_a_picture_with_a_new_date_and_the_same_content_keeps_the_order_hash(folder_of_pictures):
    before = load(folder_of_pictures).order_hash
    os.utime(next((folder_of_pictures / "val/n01_red").iterdir()), (1, 1))
    assert load(folder_of_pictures).order_hash == before


def test_the_order_hash_of_relabelled_pictures_is_another(folder_of_pictures):
    made = load(folder_of_pictures)
    assert made.relabelled(made.y_train[::-1].copy(), "reversed").order_hash != made.order_hash


# on the way to a worker


def test_a_data_set_is_pickled_as_paths_and_opened_again(folder_of_pictures):
    made = load(folder_of_pictures)
    shipped = pickle.dumps(made, protocol=5)
    assert len(shipped) < made.x_test.nbytes / 5
    arrived = pickle.loads(shipped)
    assert isinstance(arrived.x_train, Stored) and arrived.order_hash == made.order_hash
    assert np.array_equal(arrived.x_train, made.x_train) and np.array_equal(arrived.y_train, made.y_train)


def test_the_path_that_is_pickled_does_not_depend_on_the_folder_of_the_run(folder_of_pictures, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shipped = pickle.dumps(data.load("imagenet-32", Path(".")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(shipped).n == 24


def test_parts_and_results_are_pickled_by_value(folder_of_pictures):
    x = load(folder_of_pictures).x_train
    for made in (x[:3], x[[5, 1]], x[2], x + np.uint8(1), x.reshape(24, -1)):
        arrived = pickle.loads(pickle.dumps(made, protocol=5))
        assert np.array_equal(arrived, made) and not getattr(arrived, "digest", None)


def test_the_order_hash_of_a_part_is_of_its_values(folder_of_pictures):
    made = load(folder_of_pictures)
    mapped, copied = (
        Data("part", x, made.y_train[::2], made.x_test, made.y_test, made.classes)
        for x in (made.x_train[::2], np.array(made.x_train[::2]))
    )
    assert mapped.order_hash == copied.order_hash != made.order_hash


def test_a_worker_that_does_not_see_the_folder_says_so(folder_of_pictures):
    shipped = pickle.dumps(load(folder_of_pictures))
    shutil.rmtree(folder_of_pictures / "decoded-32")
    with pytest.raises(DataError, match=r"decoded-32/train.npy does not exist on this machine.*shared disk"):
        pickle.loads(shipped)


def test_a_folder_written_anew_under_a_running_study_is_refused(folder_of_pictures):
    shipped = pickle.dumps(load(folder_of_pictures))
    repaint(folder_of_pictures / "train/n01_red/n01_red_000.png", None)
    load(folder_of_pictures)
    with pytest.raises(
        DataError, match=r"train.npy has digest \w+, expected \w+: the folder was written anew; start the run"
    ):
        pickle.loads(shipped)


def test_a_truncated_array_is_refused_by_name(folder_of_pictures):
    load(folder_of_pictures)
    file = folder_of_pictures / "decoded-32/val.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"val.npy is damaged .*; delete .*decoded-32 and run again"):
        load(folder_of_pictures)
    shutil.rmtree(file.parent)
    assert load(folder_of_pictures).n_test == 9


# faults


def test_a_missing_folder_is_refused_with_the_layout_and_the_remedy(tmp_path):
    with pytest.raises(DataError, match="imagenet/train cannot be read") as caught:
        data.load("imagenet-224", tmp_path)
    for part in (f"{tmp_path}/imagenet/val/<class>/<picture>", "STUDY_DATA", "same class folders"):
        assert part in str(caught.value)


def test_validation_pictures_that_are_not_sorted_into_classes_are_refused(folder_of_pictures):
    shutil.rmtree(folder_of_pictures / "val")
    (folder_of_pictures / "val").mkdir()
    pictures.picture((1, 2, 3), 0).save(folder_of_pictures / "val/ILSVRC_00000001.png")
    with pytest.raises(DataError, match=r"imagenet/val cannot be read .*find any class folder"):
        load(folder_of_pictures)


def test_a_class_of_one_split_only_is_refused_by_name(folder_of_pictures):
    shutil.rmtree(folder_of_pictures / "val/n02_green")
    with pytest.raises(DataError, match="class n02_green is in only one of train and val"):
        load(folder_of_pictures)


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"<html>not found</html>"}[how])


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
@pytest.mark.parametrize("kind", ["png", "JPEG"])
def test_a_damaged_picture_is_refused_by_name_and_nothing_half_written_is_used(folder_of_pictures, how, kind):
    victim = folder_of_pictures / f"train/n03_blue/n03_blue_zzz.{kind}"
    pictures.picture((0, 0, 200), 1).save(victim)
    damage(victim, how)
    with pytest.raises(DataError, match=f"n03_blue_zzz.{kind} cannot be decoded .*; replace it"):
        load(folder_of_pictures)
    assert list(folder_of_pictures.glob("decoded-32*")) == []
    victim.unlink()
    assert load(folder_of_pictures).n == 24


def test_a_full_disk_is_reported_with_the_space_that_is_needed(folder_of_pictures, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"decoded-32 cannot be written .*No space left.*needs 0.000101 GB"):
        load(folder_of_pictures)
    monkeypatch.undo()
    assert load(folder_of_pictures).n == 24


def test_what_a_killed_process_left_half_written_is_neither_used_nor_kept(folder_of_pictures):
    part = folder_of_pictures / "decoded-32.part"
    part.mkdir()
    (part / "train.npy").write_bytes(b"half a file")
    assert load(folder_of_pictures).n == 24
    assert not part.exists()


def test_two_processes_decode_a_folder_once(folder_of_pictures, monkeypatch):
    """Both find nothing; the second waits for the first and then uses what it wrote."""
    written, write, both = [], image_folder._write, threading.Barrier(2)
    fingerprint = image_folder._fingerprint

    def meet(*splits):
        found = fingerprint(*splits)
        both.wait(timeout=10)
        return found

    monkeypatch.setattr(image_folder, "_fingerprint", meet)
    monkeypatch.setattr(image_folder, "_write", lambda path, *rest: written.append(path.name) or write(path, *rest))
    threads = [threading.Thread(target=load, args=(folder_of_pictures,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == ["train.npy", "val.npy"]
