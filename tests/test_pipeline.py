"""The whole pipeline, small: every stage and every chapter by `dvc repro` in a copy of the repository, then its site.

The numbers are a toy's (a few dozen models where the study has thousands) and mean nothing; that everything runs, that it
runs again only where something changed, and that the same inputs give the same bytes, is what is tested.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import browser as look
import jupytext
import nbformat
import pytest
import yaml

from study import data, notebooks, params, pipeline, warm

ROOT = Path(__file__).parents[1]
TRIALS = 100
RELATIVES = {
    "ratios": [0.3, 0.7],
    "trials": 20,
    "shuffled_trials": 10,
    "lengths": [1, 4],
    "networks": 2,
    "directions": 1,
    "bootstrap": 20,
}
TOY = {
    "estimate": {"reliability_splits": 2, "null_permutations": 2},
    "leave_one_out": {"examples": 4, "models": 6, "subset_models": 6, "bootstrap": 20, "permutations": 5},
    "removal.digits-mlp": {"thresholds": [0.7, 0.25], "random_shares": [0.1, 0.3], "repeats": 4},
    "removal.mnist-mlp": {"thresholds": [0.7, 0.25], "random_shares": [0.1, 0.3], "repeats": 4},
    "fitting": {"corruption": [0.0, 1.0], "repeats": 2, "shorter": [2, 8]},
    "long_tail": {"n": 100, "n_large": 200, "draws": 40, "prior_draws": 40, "example_points": 1500, "example_draws": 5},
    "localization": {"networks": 3, "representations": 2, "heads": 20, "bootstrap": 20},
    "frozen_layers.digits-mlp": {"representations": 1, "heads": 20},
    "frozen_layers.mnist-mlp-deep": {"representations": 1, "heads": 20},
    "relatives.digits-mlp": RELATIVES,
    "relatives.mnist-mlp": RELATIVES,
    "chapters.case_studies": {"cifar_shown": 3},
    "consistency": {"replicates": 3, "shuffles": 1},
    "published": {"source": "made_up", "controls": 2, "groups": 10, "permutations": 3},
    "published_removal": {"source": "made_up", "random": [300], "repeats": 2},
    "capacity": {
        "points": [16, 64],
        "pictures": ["digits"],
        "pictures_fitted": 100,
        "bits": [8, 24, 52],
        "control_points": 36,
        "widths": [4, 8],
        "drawn": 3,
        "trained_points": 36,
        "steps": 100,
        "repeats": 2,
        "residual_points": 100,
        "residual_dimension": 12,
        "blocks": 2,
        "near_points": 6,
        "near_dimension": 8,
        "near_width": 5,
        "minima": 2,
        "epochs": [1, 5],
    },
    "memorizers": {"repeats": 2, "corner_dimensions": [3, 4, 5, 6]},
    "memorizers.sweep": {"dimensions": [5, 10], "cluster_points": 60, "board_points": 200, "tests": 100, "repeats": 2},
    "memorizers.growth": {"sizes": [16, 32, 64], "tests": 50, "repeats": 2},
    "memorizers.cells": {"sizes": [16, 64], "tests": 100, "worlds": 3},
    "memorizers.cells.network": {"epochs": 5},
    "privacy": {
        "models": {"digits": 8, "longtail": 8},
        "epsilons": [8.0, 1.0],
        "copies": [1, 4],
        "copies_models": 8,
        "response_runs": 200,
        "worst_runs": 40,
    },
    "privacy.network": {"steps": 20},
    "objection.digits-mlp": {
        "trainings": [{"epochs": 15, "weight_decay": 0.0}, {"epochs": 4, "weight_decay": 0.001}],
        "own_trials": 40,
        "repeats": 3,
        "draws": 3,
        "excluded": [0.1, 0.5],
        "restored_repeats": 4,
        "folds": 1,
    },
    "objection.mnist-mlp": {
        "trainings": [{"epochs": 4, "weight_decay": 0.0}, {"epochs": 6, "weight_decay": 0.001}],
        "own_trials": 20,
        "repeats": 3,
        "draws": 3,
        "excluded": [0.1, 0.5],
        "restored_repeats": 4,
    },
    "objection.longtail-mlp": {
        "trainings": [{"epochs": 20, "weight_decay": 0.0}, {"epochs": 4, "weight_decay": 0.001}],
        "repeats": 3,
        "draws": 3,
        "excluded": [0.1, 0.5],
        "restored_repeats": 4,
    },
    "tails.growth": {"sizes": [1000, 2000], "fixed_points": 100, "draws": 3},
    "tails.measured": {"data": ["digits"], "sides": [4, 6], "repeats": 2, "longest": 4},
    "tails.mixtures": {"points": 60, "n": 60, "noises": [0.0, 0.1, 2.0], "worlds": 3, "prior_draws": 50, "fresh": 2},
    "subpopulations": {
        "settings": {
            name: {"repeats": 1, "examples": 300, "tests": 200} for name in ("longtail-mlp", "digits-mlp", "mnist-mlp")
        },
        "clusters": [4, 16],
        "permutations": 20,
    },
    "controls": {"worlds": 2, "trials": 40, "fresh": 3},
    "controls.random_inputs": {"n": 60, "epochs": 5},
    "controls.random_labels": {"n": 100, "epochs": 4, "labelings": 2},
    "controls.nearest_neighbour": {"groups": 10, "each": 8},
    "controls.sub_populations": {"groups": 10, "each": 8, "tail": 60, "epochs": 4},
    "own_data": {
        "per_class": 8,
        "test_per_class": 4,
        "pictures_per_class": 7,
        "test_pictures_per_class": 3,
        "mislabelled": 3,
        "twins": 2,
    },
    "own_data.settings.own-arrays": {"trials": 12},
    "own_data.settings.own-pictures": {"trials": 8},
    "own_data.settings.own-arrays.learner": {"epochs": 2, "batch_size": 14},
    "own_data.settings.own-pictures.learner": {"epochs": 2, "batch_size": 7},
    "random_pictures": {
        "data": {"mnist": "digits", "cifar100": "digits"},
        "pictures": 200,
        "tests": 100,
        "corruption": [0.0, 0.5, 1.0],
        "epochs": 8,
        "repeats": 2,
        "regularized_epochs": 2,
        "regularized_repeats": 2,
        "shift": 1,
        "built": [50, 200],
        "placed": [30, 100],
    },
    "random_pictures.convolutional": {
        "architecture": {"name": "compact", "stride": 2, "widths": [8, 16], "blocks": [0, 0]},
    },
    "scaling": {
        "timed": ["digits-mlp"],
        "timed_batch": 2,
        "repeats": 1,
        "accuracies": [0.5, 1.0],
        "file_trials": 50,
        "simulated_classes": [1, 2, 4],
    },
}


def environment() -> dict[str, str]:
    """The shell of a reader: this interpreter first on the path, no settings of their own, and no workers.

    A few dozen models train sooner than worker processes start; those have their tests in `test_trials.py`.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STUDY_")}
    return kept | {"STUDY_WORKERS": "0", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(folder: Path, *command: str, surroundings: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=surroundings or environment(), text=True, capture_output=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def stages_run(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def change(folder: Path, edit) -> None:
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    edit(tree)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def make_small(tree: dict) -> None:
    for setting in tree["settings"].values():
        setting["trials"] = TRIALS
        if setting["data"] in data.RAW_MD5:  # the digits stand in for what would have to be downloaded
            setting["data"] = "digits"
            for learner in (setting["learner"], setting["learner"].get("representation", {})):
                if "architecture" in learner:  # made for pictures of more pixels
                    learner |= {"architecture": {"name": "compact", "stride": 2, "widths": [8, 16], "blocks": [0, 0]}}
                    learner |= {"epochs": 2, "batch_size": 64}
    for place, values in TOY.items():
        section = tree
        for key in place.split("."):
            section = section[key]
        assert values.keys() <= section.keys(), f"params.yaml has no {values.keys() - section.keys()}"
        section |= values
    tree["fitting"]["network"]["epochs"] = 20
    for pictures in tree["memorizers"]["pictures"].values():
        pictures |= {"data": "digits", "per_class": 20, "test_per_class": 20}
        pictures["network"]["epochs"] = 10


def copy_of_repository(folder: Path) -> Path:
    """The files that a clone would have: those git knows, and new ones it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith("published/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "published").mkdir(exist_ok=True)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A copy of the repository with small numbers, after `dvc repro`."""
    folder = copy_of_repository(tmp_path_factory.mktemp("study"))
    change(folder, make_small)
    with warm.process(environment()) as forking:
        pipeline.side_by_side(folder, pipeline.needs(folder).keys() - {"site"}, 2, forking)
    run(folder, "dvc", "repro")
    return folder


def bytes_of(folder: Path, *patterns: str) -> dict[str, str]:
    files = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
    assert files, patterns
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_every_run_leaves_its_record_and_every_chapter_its_page(toy):
    stages = [name for name in yaml.safe_load((toy / "dvc.lock").read_text())["stages"] if name not in ("claims", "site")]
    ran = [name for name in stages if not name.startswith("chapter_")]
    assert len(ran) >= 13
    for name in ran:
        assert (toy / "records" / f"{name}.ipynb").is_file(), name
        assert json.loads((toy / "records" / f"{name}.json").read_text())["seconds"] > 0
    for source in (ROOT / "notebooks/chapters").glob("*.md"):
        assert (toy / "book/_build/html/chapters" / f"{source.stem}.html").is_file(), source


def test_the_toy_site_opens_in_a_browser_without_a_fault(toy):
    extremes = ((look.DESKTOP, "light"), (look.PHONE, "dark"))  # all views are for the real site: `python tests/browser.py`
    assert look.faults_of_site(toy / "book/_build/html", extremes) == []


def test_a_second_repro_runs_nothing_and_leaves_the_site_as_it_is(toy):
    page = toy / "book/_build/html/index.html"
    before = page.stat().st_mtime_ns
    told = run(toy, "dvc", "repro")
    assert stages_run(told) == {"site"} and "is up to date" in told
    assert page.stat().st_mtime_ns == before


def test_one_changed_number_runs_what_depends_on_it_and_nothing_else(toy):
    before = yaml.safe_load((toy / "params.yaml").read_text())

    def more_trials(tree):
        tree["settings"]["digits-nearest-neighbour"]["trials"] = TRIALS + 5

    change(toy, more_trials)
    ran = stages_run(run(toy, sys.executable, "-m", "study", "repro"))
    (toy / "params.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    readers = {"chapter_estimators", "chapter_case_studies", "consistency", "scaling", "chapter_scaling"}
    assert ran == {"train@digits-nearest-neighbour", "estimate@digits-nearest-neighbour", *readers, "site"}


def test_the_same_inputs_give_the_same_bytes(toy):
    """The first time they were made by forks of a warm process, here each by an interpreter of its own."""
    made = ("predictions/longtail-mlp.zarr.zip", "tables/longtail-mlp/*", "records/*longtail-mlp.ipynb")
    chapter = ("book/chapters/02_definitions.ipynb", "book/_static/figures/definitions/*")
    before = bytes_of(toy, *made, *chapter)
    (toy / "predictions/longtail-mlp.zarr.zip").unlink()
    shutil.rmtree(toy / ".dvc/cache")
    run(toy, "dvc", "repro", "--force", "--single-item", "train@longtail-mlp")
    run(toy, "dvc", "repro", "--force", "--single-item", "estimate@longtail-mlp")
    run(toy, "dvc", "repro", "--force", "--single-item", "chapter_definitions")
    assert bytes_of(toy, *made, *chapter) == before


# For each chapter one parameter that its page must show: the chapter is run again with this value.
OTHER_NUMBERS = {
    "motivation": "pictures=6",
    "random_pictures": "demo_points=30",
    "definitions": "trials=500",
    "estimators": "sigma=0.3",
    "explorer": "shown=200",
    "relatives": "mem_threshold=0.5",
    "objection": "refuted_at=0.2",
    "case_studies": "infl_threshold=0.3",
    "theory": "counts_shown=5",
    "layer_localization": "mem_threshold=0.5",
    "scaling": "accelerators=16",
    "consistency": "mem_threshold=0.5",
    "published": "strong_from=0.3",
    "privacy": "shown=longtail",
    "memorizers": "toy_points=25",
    "capacity": "demo_points=64",
    "tails": "shown_side=4",
    "own_data": "mem_threshold=0.5",
}


def shown(page: Path) -> list[str]:
    """All that the cells of an executed notebook print and draw, but for the numbers they were given."""
    cells = [cell for cell in nbformat.read(page, 4).cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if not {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", ()))]
    return [json.dumps(cell.outputs, sort_keys=True) for cell in cells]


@pytest.fixture(scope="module")
def previews(toy) -> dict[str, Path]:
    """Every chapter run again with another number, two at a time; the book must be as it was."""
    before = bytes_of(toy, "book/chapters/*", "book/_static/figures/**/*")

    def preview(name: str) -> Path:
        command = (sys.executable, "-m", "study", "chapter", name, "--set", OTHER_NUMBERS[name])
        return toy / re.search(r"wrote (\S+)", run(toy, *command, surroundings=forking))[1]

    with warm.process(environment()) as forking, ThreadPoolExecutor(2) as pool:
        made = dict(zip(OTHER_NUMBERS, pool.map(preview, OTHER_NUMBERS), strict=True))
    assert bytes_of(toy, "book/chapters/*", "book/_static/figures/**/*") == before
    return made


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks/chapters").glob("*.md")), ids=lambda path: path.stem)
def test_a_chapter_runs_again_with_another_number_and_shows_it(toy, previews, source):
    page = previews[re.sub(r"^\d+_", "", source.stem)]
    assert page == toy / ".preview" / f"{source.stem}.ipynb"
    assert shown(page) != shown(toy / "book/chapters" / page.name)


def test_a_chapter_refuses_a_number_that_it_does_not_have(toy):
    command = (sys.executable, "-m", "study", "chapter", "theory", "--set", "count_shown=5")
    done = subprocess.run(command, cwd=toy, env=environment(), text=True, capture_output=True)
    assert done.returncode != 0 and "count_shown" in done.stderr and "counts_shown" in done.stderr


@pytest.mark.parametrize("source", sorted((ROOT / "notebooks/chapters").glob("*.md")), ids=lambda path: path.stem)
def test_the_parameters_cell_of_a_chapter_agrees_with_params_yaml(source):
    section = params.load(ROOT / "params.yaml").chapter(re.sub(r"^\d+_", "", source.stem))
    assert notebooks.mismatches(source, section) == []


def test_every_chapter_has_parameters_a_stage_and_a_place_in_the_book():
    chapters = {re.sub(r"^\d+_", "", path.stem): path.stem for path in (ROOT / "notebooks/chapters").glob("*.md")}
    assert chapters.keys() == params.load(ROOT / "params.yaml").chapters.keys()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    contents = (ROOT / "book/_toc.yml").read_text()
    for name, stem in chapters.items():
        assert f"notebooks/chapters/{stem}.md" in stages[f"chapter_{name}"]["deps"]
        assert f"chapters/{stem}\n" in contents


# What trains, stores and draws numbers: declared by a setting's `revision`, not by the files that stages depend on.
BASE = {"array_file", "closed", "data", "image_folder", "learners", "params", "predictions", "progress", "subsets"}
BASE |= {"tables", "trials"}


def source_of(name: str) -> Path | None:
    """The file of a module `study.x.y`, if there is one."""
    path = ROOT / "src" / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imports(text: str) -> set[Path]:
    """The files of the study's modules that a piece of Python imports, those of `BASE` left out."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    wanted = {name for name in names if name.startswith("study.") and name.split(".")[1] not in BASE}
    return set(filter(None, map(source_of, wanted)))


def needed(text: str, charts: bool) -> set[Path]:
    """All files that a piece of Python imports, directly or through others; without ``charts`` not through figures."""
    found, waiting = set(), imports(text)
    while waiting:
        file = waiting.pop()
        if charts or "charts" not in file.parts:
            found.add(file)
            waiting |= imports(file.read_text()) - found
    return found


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.md"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stage_depends_on_every_module_that_its_notebook_uses(notebook):
    name = notebook.stem if notebook.parent.name == "stages" else "chapter_" + re.sub(r"^\d+_", "", notebook.stem)
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    cells = [cell.source for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
    # A figure in the record of a stage is for the eye: restyling it trains nothing again.
    modules = {str(file.relative_to(ROOT)) for file in needed("\n".join(cells), charts=notebook.parent.name == "chapters")}
    missing = {file for file in modules if not any(file == dep or file.startswith(f"{dep}/") for dep in stage["deps"])}
    assert missing == set(), f"dvc.yaml: stage {name} lacks dependencies"
