"""Stage `own_data`: the way of a reader with data and a network of their own, walked from its beginning to its end.

In an empty folder the stage makes what such a reader has: a file of arrays (some of scikit-learn's digits, trained by a
network that a module beside it defines) and a folder of pictures (drawn shapes, trained by the study's convolutional
network), writes the settings into a copy of ``params.yaml``, and runs the two commands, to train and to estimate, as a
reader would.

The truth is planted: a few training examples have a wrong label, which no model can guess, so that they must come out as
memorized; some of these digits have a near copy with the same wrong label among the tests, so that the two must come out
as a pair. The control is the same with the right labels, in this process, by the functions that the commands call. Last
the stage makes mistakes, and keeps what the study says to each.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from study import data as datasets
from study import estimation, pairs, subsets, trials
from study.data import DataError
from study.params import OwnData, Params, Setting

MODULE = "my_networks.py"
NETWORKS = """from torch import nn


def perceptron(inputs, hidden, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
"""
SHAPES = ("circle", "square", "triangle")
CONTROL = "-right"  # ends the name of the data with the right labels, and of their setting
STAGES = ("train", "estimate")


@dataclass(frozen=True)
class Planted:
    """Which training examples of a data set got a wrong label, and which test is the near copy of which of them."""

    wrong: np.ndarray
    twins: dict[int, int]


def run(study: Params) -> dict[str, pd.DataFrame | dict]:
    """All tables of the stage by name: `memorization`, `pairs`, `summary`, `files`, `mistakes`."""
    section = study.own_data
    with _workspace() as folder:
        planted = make(folder / "data", section)
        settings = with_controls(section.settings)
        files = _write_files(folder, settings)
        commands = {name: walk(folder, name) for name in section.settings}
        for name in settings.keys() - section.settings.keys():
            _repeat(folder, name, settings[name], study)
        frames = {name: _read(folder, name, study, planted) for name in settings}
        memorization, selected = (pd.concat(parts, ignore_index=True) for parts in zip(*frames.values()))
        return {
            "memorization": memorization,
            "pairs": selected,
            "summary": {name: summarise(folder, name, *frame, study) for name, frame in frames.items()},
            "files": files | {"commands": commands},
            "mistakes": mistakes(folder, section.settings),
        }


@contextmanager
def _workspace() -> Iterator[Path]:
    """An empty folder with what a reader's copy of the repository has and the commands need."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage in STAGES:
            source = Path("notebooks/stages") / f"{stage}.md"
            (folder / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / source)
        shutil.copyfile("params.yaml", folder / "params.yaml")
        yield folder


def with_controls(settings: dict[str, Setting]) -> dict[str, Setting]:
    """Each setting, and the same on the data with the right labels."""
    controls = {
        name + CONTROL: setting.model_copy(update={"data": _right(setting.data)}) for name, setting in settings.items()
    }
    return settings | controls


def _right(name: str) -> str:
    return name.replace(".npz", f"{CONTROL}.npz").replace("@", f"{CONTROL}@")


# what a reader has


def make(root: Path, section: OwnData) -> dict[str, Planted]:
    """Write the data of every setting, and of every control, under ``root``; what was planted, by name of the setting.

    A setting whose data end in ``.npz`` gets digits, the others get shapes.
    """
    planted = {}
    for name, setting in section.settings.items():
        write = write_digits if setting.data.endswith(".npz") else write_shapes
        planted[name] = write(root, setting.data, section, wrong=True)
        planted[name + CONTROL] = write(root, _right(setting.data), section, wrong=False)
    return planted


def write_digits(root: Path, name: str, section: OwnData, wrong: bool) -> Planted:
    """A file of digits with some labels raised by one if ``wrong``; the last tests are near copies of some of these."""
    rng, digits = np.random.default_rng(section.seed), datasets.load("digits")
    x_train, y_train = _first_of_each(digits.x_train, digits.y_train, section.classes, section.per_class)
    x_test, y_test = _first_of_each(digits.x_test, digits.y_test, section.classes, section.test_per_class)
    chosen = rng.permutation(len(y_train))[: section.mislabelled]
    y_train[chosen] = (y_train[chosen] + wrong) % section.classes
    copies = x_train[chosen[: section.twins]]
    copies = np.clip(copies + section.noise * rng.standard_normal(copies.shape), 0, 1).astype(np.float32)
    twins = {int(train): len(y_test) + place for place, train in enumerate(chosen[: section.twins])}
    x_test, y_test = np.concatenate([x_test, copies]), np.concatenate([y_test, y_train[chosen[: section.twins]]])
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / name, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return Planted(chosen, twins)


def _first_of_each(x: np.ndarray, y: np.ndarray, classes: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.concatenate([np.flatnonzero(y == label)[:number] for label in range(classes)])
    return x[chosen], y[chosen]


def write_shapes(root: Path, name: str, section: OwnData, wrong: bool) -> Planted:
    """A folder of drawn shapes, of which some training pictures lie in the folder of the next class if ``wrong``."""
    rng, folder = np.random.default_rng(section.seed), root / name.rpartition("@")[0]
    chosen = rng.permutation(len(SHAPES) * section.pictures_per_class)[: section.mislabelled]
    places = []
    for split, number in (("train", section.pictures_per_class), ("val", section.test_pictures_per_class)):
        for k in range(len(SHAPES) * number):
            moved = wrong and split == "train" and k in chosen
            shown = k // number
            filed = (shown + moved) % len(SHAPES)
            path = folder / split / SHAPES[filed] / f"{SHAPES[shown]}_{k:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape(SHAPES[shown], rng).save(path)
            places += [(split, SHAPES[filed], path.name, k)]
    order = [k for split, *_, k in sorted(places) if split == "train"]  # the canonical order: by class, then by name
    return Planted(np.flatnonzero(np.isin(order, chosen)), {})


def shape(kind: str, rng: np.random.Generator, side: int = 32) -> Image.Image:
    """One picture of a light shape on a dark ground; place, size and colours are drawn."""
    dark, light = (tuple(int(part) for part in rng.integers(*ends, 3)) for ends in ((0, 60), (190, 256)))
    picture = Image.new("RGB", (side, side), dark)
    draw, radius = ImageDraw.Draw(picture), rng.uniform(0.38, 0.44) * side
    x, y = side / 2 + rng.uniform(-0.05, 0.05, 2) * side
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        draw.ellipse(box, fill=light)
    elif kind == "square":
        draw.rectangle(box, fill=light)
    else:
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (x, box[1])], fill=light)
    return picture


# what a reader writes, and runs


def _write_files(folder: Path, settings: dict[str, Setting]) -> dict[str, str]:
    """The module with the network, and the settings in ``params.yaml``; their texts, and what the data look like."""
    (folder / MODULE).write_text(NETWORKS)
    texts = {name: yaml_of(name, setting) for name, setting in settings.items()}
    written = (folder / "params.yaml").read_text()
    if "\nsettings:\n" not in f"\n{written}":
        raise ValueError("params.yaml has no line `settings:` below which a setting could be written")
    head, _, rest = f"\n{written}".partition("\nsettings:\n")
    (folder / "params.yaml").write_text(f"{head}\nsettings:\n{''.join(texts.values())}{rest}".lstrip("\n"))
    return {
        MODULE: NETWORKS,
        "settings": texts,
        "data": {name: _described(folder / "data", s.data) for name, s in settings.items()},
    }


def yaml_of(name: str, setting: Setting) -> str:
    """A setting as it stands in ``params.yaml``, below the line `settings:`."""
    fields = {name: setting.model_dump(mode="json")}
    lines = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100).splitlines()
    return "".join(f"  {line}\n" for line in lines)


def _described(root: Path, name: str) -> list[str]:
    """One line for each array of a file, or for each folder of pictures."""
    if name.endswith(".npz"):
        with np.load(root / name) as file:
            return [f"{array}  {file[array].dtype}  {file[array].shape}" for array in file]
    folder = root / name.rpartition("@")[0]
    counts = [
        (kind, len(list(kind.glob("*.png")))) for split in ("train", "val") for kind in sorted((folder / split).iterdir())
    ]
    return [f"{kind.relative_to(root)}/  {count} pictures" for kind, count in counts]


def walk(folder: Path, name: str) -> list[str]:
    """Train and estimate one setting by the commands of the study, in ``folder``; the commands."""
    commands = [f"python -m study stage {stage} {name}" for stage in STAGES]
    for command in commands:
        _run(command, folder)
    return commands


def _run(command: str, folder: Path) -> None:
    environment = os.environ | {"STUDY_DATA": "data", "STUDY_WORKERS": "0"}
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], cwd=folder, env=environment, text=True, capture_output=True
    )
    if done.returncode:
        raise RuntimeError(f"`{command}` failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def _repeat(folder: Path, name: str, setting: Setting, study: Params) -> None:
    """What the two commands do, in this process, which spares the start of four others."""
    with _inside(folder):
        trials.train(name, setting, workers=0)
        estimation.run(name, setting, study.estimate)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in ``folder``, with its data and its module."""
    before = os.environ.get("STUDY_DATA")
    with contextlib.chdir(folder):
        os.environ["STUDY_DATA"] = "data"
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop(Path(MODULE).stem, None)
            os.environ.pop("STUDY_DATA")
            os.environ |= {"STUDY_DATA": before} if before else {}


# what came out


def _read(folder: Path, name: str, study: Params, planted: dict[str, Planted]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Memorization and selected pairs of a setting, each row marked whether it was planted."""
    truth, rules = planted[name], study.estimate
    frame, found = (pd.read_parquet(folder / "tables" / name / f"{table}.parquet") for table in ("memorization", "pairs"))
    found = pairs.select(found, rules.mem_threshold, rules.infl_threshold, rules)
    matched = [truth.twins.get(train) == test for train, test in zip(found.train, found.test)]
    frame = frame.assign(planted=np.isin(frame["index"], truth.wrong))
    frame.insert(0, "setting", name)
    found = found.assign(planted=np.array(matched, dtype=bool))
    found.insert(0, "setting", name)
    return frame, found


def summarise(folder: Path, name: str, frame: pd.DataFrame, found: pd.DataFrame, study: Params) -> dict:
    """How many of the planted examples and pairs came out, and how many others did."""
    stored = yaml.safe_load((folder / "tables" / name / "summary.json").read_text())
    above, planted = frame.mem >= study.estimate.mem_threshold, frame.planted
    return {
        **{key: stored[key] for key in ("n", "n_test", "trials", "in_accuracy", "out_accuracy", "test_accuracy")},
        "planted": int(planted.sum()),
        "planted_found": int((above & planted).sum()),
        "others": int((~planted).sum()),
        "others_found": int((above & ~planted).sum()),
        "planted_mean": frame.mem[planted].mean(),
        "others_mean": frame.mem[~planted].mean(),
        "mean_std_error": frame.std_error.mean(),
        "pairs": len(found),
        "pairs_planted_found": int(found.planted.sum()),
        "null_pairs": stored["pairs"]["null_count"],
    }


# what can go wrong


def mistakes(folder: Path, settings: dict[str, Setting]) -> pd.DataFrame:
    """What the study says to each of `spoilt_arrays`, `spoilt_pictures` and `spoilt_networks`: columns mistake, message.

    Raises ``RuntimeError`` for a mistake that passes without a word.
    """
    rows = []
    with _inside(folder):
        arrays, pictures = (_first(settings, npz=npz) for npz in (True, False))
        # one after the other: each attempt is made before the next one spoils the files again
        for what, attempt in chain(spoilt_arrays(arrays), spoilt_pictures(pictures), spoilt_networks(arrays)):
            rows.append({"mistake": what, "message": _said(what, attempt, folder)})
    return pd.DataFrame(rows)


def _first(settings: dict[str, Setting], npz: bool) -> Setting:
    return next(setting for setting in settings.values() if setting.data.endswith(".npz") == npz)


def _said(what: str, attempt: Callable[[], object], folder: Path) -> str:
    try:
        attempt()
    except (ValueError, DataError) as error:
        return str(error).replace(f"{folder}/", "")
    raise RuntimeError(f"no error for this mistake: {what}")


Attempts = Iterator[tuple[str, Callable[[], object]]]


def spoilt_arrays(setting: Setting) -> Attempts:
    """Attempts to load the arrays of a setting with one fault each."""
    with np.load(Path("data") / setting.data) as file:
        good = dict(file)
    x, y = good["x_train"], good["y_train"]
    with_nan = x.copy()
    with_nan[3, 0, 0] = np.nan
    lonely = np.concatenate([y[y != y.max()], y[y == y.max()][:1]])
    changes = {
        "classes numbered from 1": {"y_train": y + 1, "y_test": good["y_test"] + 1},
        "a number that no class has": {"y_train": np.where(y == y.max(), y + 1, y)},
        "labels that are fractions": {"y_train": y.astype(float)},
        "inputs in double precision": {"x_train": x.astype(float)},
        "a missing value": {"x_train": with_nan},
        "channels first": {"x_train": np.zeros((len(x), 3, 8, 8), np.uint8)},
        "tests of another size": {"x_test": good["x_test"][:, :7]},
        "fewer labels than inputs": {"y_train": y[:-1]},
        "one example of a class": {"x_train": x[: len(lonely)], "y_train": lonely},
        "an array that is not there": {"x_test": None},
    }
    for what, changed in changes.items():
        yield what, partial(_load_arrays, {name: array for name, array in (good | changed).items() if array is not None})


def _load_arrays(arrays: dict[str, np.ndarray]) -> None:
    np.savez(Path("data/spoilt.npz"), **arrays)
    datasets.load("spoilt.npz")


def spoilt_pictures(setting: Setting) -> Attempts:
    """Attempts to load the folder of a setting with one fault each."""
    source, pixels = setting.data.split("@")
    yield "a folder that is not there", partial(datasets.load, f"nowhere@{pixels}")
    for what, spoil in (("a class without tests", _forget_a_class), ("a damaged picture", _damage_a_picture)):
        shutil.rmtree("data/spoilt", ignore_errors=True)
        shutil.copytree(Path("data") / source, "data/spoilt", ignore=shutil.ignore_patterns("decoded*", ".decoded*"))
        spoil(Path("data/spoilt"))
        yield what, partial(datasets.load, f"spoilt@{pixels}")


def _forget_a_class(folder: Path) -> None:
    shutil.rmtree(folder / "val" / SHAPES[0])


def _damage_a_picture(folder: Path) -> None:
    first = min((folder / "train" / SHAPES[0]).iterdir())
    first.write_bytes(first.read_bytes()[:60])


def spoilt_networks(setting: Setting) -> Attempts:
    """Attempts to train one model of a setting with one fault of its network each."""
    arguments, module = setting.learner.arguments, Path(MODULE).stem
    changes = {
        "a module that is not there": {"factory": "my_network:perceptron"},
        "a function that is not there": {"factory": f"{module}:perceptrons"},
        "an argument that the function does not take": {"arguments": arguments | {"depth": 2}},
        "a function that makes no network": {"factory": "builtins:dict"},
        "a wrong number of outputs": {"arguments": arguments | {"classes": arguments["classes"] - 1}},
        "a wrong number of inputs": {"arguments": arguments | {"inputs": arguments["inputs"] + 1}},
        "a minibatch larger than a subset": {"batch_size": 10**6},
    }
    data = datasets.load(setting.data)
    members, seeds = subsets.members(0, [0], data.n, setting.ratio), subsets.trial_seeds(0, [0])
    for what, changed in changes.items():
        learner = setting.learner.model_copy(update=changed)
        yield what, partial(learner.fit_predict, data, members, seeds)
