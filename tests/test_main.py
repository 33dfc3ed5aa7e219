"""The verbs: what is misspelt is refused in one line that names what is valid, with exit code 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from study import notebooks, params, predictions, progress, trials
from study import verbs as command
from study.progress import Progress

ROOT = Path(__file__).parents[1]
CELL = """---
kernelspec:
  name: python3
  display_name: Python 3
---

```{{code-cell}} ipython3
:tags: [parameters]

{}
```
"""


@pytest.fixture
def study(folder, small_setting) -> Path:
    """A study in small: the parameters of the true one with a setting `toy`, two stages and a chapter."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    toy = small_setting(trials=4).model_dump(mode="json")
    tree["settings"]["toy"] = toy
    tree["chapters"] = {"motivation": {"threshold": 0.25}, "theory": {}}
    write(folder / "params.yaml", yaml.safe_dump(tree))
    write(folder / "notebooks/stages/train.md", CELL.format('setting = "toy"  # an entry of `settings`'))
    write(folder / "notebooks/stages/removal.md", CELL.format(""))
    write(folder / "notebooks/chapters/01_motivation.md", CELL.format("threshold = 0.25  # of memorization"))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def run(monkeypatch, capsys):
    """``run("audit", "toy", "--trials", "0")`` gives exit code, output and error output of `python -m study audit ...`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["study", *arguments])
        with pytest.raises(SystemExit) as ended:
            command.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def executed(monkeypatch) -> list:
    """What the verbs ask `notebooks.execute` to do, instead of doing it."""
    calls = []
    monkeypatch.setattr(notebooks, "execute", lambda *arguments: calls.append(arguments))
    return calls


REFUSED = [
    (["stage", "trian", "toy"], "unknown stage 'trian'; valid: removal, train"),
    (["stage", "train", "digits"], "unknown setting 'digits'; valid settings: "),
    (["stage", "train"], "digits-nearest-neighbour"),
    (["stage", "removal", "toy"], "no parameter setting"),
    (["chapter", "motivations"], "unknown chapter 'motivations'; valid: motivation"),
    (["chapter", "motivation", "--set", "treshold=0.1"], "no parameter treshold; it has: threshold"),
    (["chapter", "motivation", "--set", "threshold=high"], "threshold"),
    (["chapter", "motivation", "--set", "threshold"], "--set 'threshold' is not of the form name=value"),
    (["chapter", "motivation", "--set", "threshold=[1"], "expected"),
    (["audit", "digits", "--trials", "0"], "unknown setting 'digits'; valid settings: "),
    (["audit", "toy", "--trials", "0"], "predictions/toy.zarr.zip does not exist; `dvc pull` fetches it"),
    (["bench", "models"], "unknown benchmark 'models'; valid: "),
    (
        ["train", "toy", "--trials", "2-4", "--out", "part.zarr.zip"],
        "--trials '2-4' is not of the form first:end with first",
    ),
    (
        ["train", "toy", "--trials", "4:4", "--out", "part.zarr.zip"],
        "--trials '4:4' is not of the form first:end with first",
    ),
    (["merge", "digits", "part.zarr.zip"], "unknown setting 'digits'; valid settings: "),
    (["merge", "toy", "part.zarr.zip"], "part.zarr.zip does not exist; `dvc pull` fetches it"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_is_misspelt_is_refused_with_what_is_valid(study, run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and message in err and "Traceback" not in err
    assert not (study / "records").exists() and not (study / "book").exists(), "nothing was run"


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("ratio", 1, "settings.toy.ratio: Input should be less than 1; found 1"),
        ("trials", 0, "settings.toy.trials: Input should be greater than 0; found 0"),
        ("data", "mnits", "unknown data set 'mnits'; valid data sets: digits, longtail, mnist, cifar100"),
        ("ratios", 0.7, "valid keys: data, learner, ratio, seed, trials, revision"),
    ],
)
def test_wrong_parameters_are_refused_by_every_verb(study, run, where, value, message):
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["settings"]["toy"][where] = value
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for arguments in (["stage", "train", "toy"], ["chapter", "motivation"], ["audit", "toy"]):
        code, _, err = run(*arguments)
        assert code == 2 and message in err, arguments


def test_parameters_that_are_no_yaml_are_refused_in_one_line(study, run):
    Path("params.yaml").write_text("settings: [unclosed")
    code, _, err = run("audit", "toy")
    assert code == 2 and err.startswith("error: ")


def test_outside_the_repository_the_missing_file_is_named(folder, run):
    code, _, err = run("audit", "toy")
    assert code == 2 and "params.yaml" in err


def test_an_unknown_verb_is_refused(folder, run):
    code, _, err = run("trian")
    assert code == 2 and "trian" in err


def test_the_module_runs_as_a_program():
    """The one test through a process of its own: exit code and error output reach the shell."""
    ended = subprocess.run([sys.executable, "-m", "study", "stage", "trian"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: unknown stage 'trian'; valid: ") and "train" in ended.stderr


def test_a_mistake_of_ours_shows_its_traceback(study, run, monkeypatch):
    """Only what a user can mend is one line."""
    monkeypatch.setattr(params, "load", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["study", "audit", "toy"])
    with pytest.raises(ZeroDivisionError):
        command.main()


# what is run


def test_a_stage_runs_its_notebook_for_the_setting_and_leaves_its_record(study, run, executed, small_setting, digits):
    assert run("stage", "train", "toy")[:2] == (0, "wrote records/train@toy.ipynb\n")
    assert executed == [(Path("notebooks/stages/train.md"), Path("records/train@toy.ipynb"), {"setting": "toy"})]
    record = json.loads(Path("records/train@toy.json").read_text())
    assert (record["stage"], record["item"]) == ("train", "toy")
    assert record["fingerprint"] == small_setting().fingerprint(digits)


def test_a_stage_without_settings_runs_once(study, run, executed):
    assert run("stage", "removal")[:2] == (0, "wrote records/removal.ipynb\n")
    assert executed == [(Path("notebooks/stages/removal.md"), Path("records/removal.ipynb"), {})]


def test_a_chapter_runs_with_the_numbers_of_params_yaml(study, run, executed):
    assert run("chapter", "motivation")[0] == 0
    source, out, values, figures = executed[0]
    assert values == {"threshold": 0.25} and source == Path("notebooks/chapters/01_motivation.md")
    assert (out, figures) == (Path("book/chapters/01_motivation.ipynb"), Path("book/_static/figures/motivation"))
    assert Path("records/chapter_motivation.json").is_file()


def test_a_chapter_with_other_numbers_is_a_preview_and_leaves_the_book_alone(study, run, executed):
    assert run("chapter", "motivation", "--set", "threshold=0.1", "--set", "label=a=b")[0] == 0
    _, out, values, figures = executed[0]
    assert values == {"threshold": 0.1, "label": "a=b"}
    assert (out, figures) == (Path(".preview/01_motivation.ipynb"), Path(".preview/figures/motivation"))
    assert not Path("records").exists() and not Path("book").exists()


def test_progress_of_a_stage_is_shown_while_it_runs(study, run, monkeypatch):
    def execute(*arguments):
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
        with Progress("train toy", total=4, unit="models") as bar:
            bar.advance(2)
            bar.advance(2)

    monkeypatch.setattr(notebooks, "execute", execute)
    _, out, err = run("stage", "train", "toy")
    assert "train toy: 2 of 4 models" in err and "train toy: 4 of 4 models" in err and "models" not in out
    assert "STUDY_PROGRESS" not in os.environ


def test_a_stage_that_fails_ends_with_code_two_and_leaves_no_record(study, run, monkeypatch):
    def fail(*arguments):
        raise notebooks.NotebookFailed("cell 2 of train.md: ZeroDivisionError")

    monkeypatch.setattr(notebooks, "execute", fail)
    code, _, err = run("stage", "train", "toy")
    assert code == 2 and err == "error: cell 2 of train.md: ZeroDivisionError\n"
    assert not Path("records/train@toy.json").exists() and "STUDY_PROGRESS" not in os.environ


# the audit


@pytest.fixture
def trained(study, small_setting, digits) -> Path:
    """The prediction file of `toy`; trial 1 has two flipped bits, trial 2 has one."""
    path = trials.train("toy", small_setting(trials=4), workers=0)
    file = predictions.load(path)
    train = file.train_correct.values.copy()
    train[1, [10, 20]] ^= True
    train[2, 30] ^= True
    predictions.write(path, small_setting(trials=4), digits, range(4), train, file.test_correct.values, file.diverged.values)
    return path


def test_the_audit_of_honest_rows_ends_with_code_zero(trained, run):
    code, out, _ = run("audit", "toy", "--trials", "0", "3")
    assert code == 0 and [line.split()[:2] for line in out.splitlines()[1:-1]] == [["0", "100.0"], ["3", "100.0"]]
    assert out.splitlines()[-1].startswith("2 of 2 trials agree in every bit; rows of different trials agree in ")


def test_the_audit_of_forged_rows_ends_with_code_one_and_names_the_bits(trained, run):
    code, out, err = run("audit", "toy", "--trials", "0", "1", "3")
    assert code == 1 and "[10, 20]" in out and err == ""


def test_the_audit_shows_a_single_bit_and_fails_for_it_where_all_must_agree(trained, run):
    """One bit of 1,797 may be another processor's rounding: 99.94 per cent, above the default threshold of 99.9."""
    code, out, _ = run("audit", "toy", "--trials", "2")
    assert code == 0 and "[30]" in out and "0 of 1 trials agree in every bit; 1 in at least 99.9 per cent, but not" in out
    assert run("audit", "toy", "--trials", "2", "--threshold", "100")[0] == 1


def test_the_audit_trains_just_the_trials_that_are_named(trained, run):
    for arguments in (["--trials", "3"], ["3"]):
        _, out, _ = run("audit", "toy", *arguments)
        assert [line.split()[0] for line in out.splitlines()[1:-1]] == ["3"], arguments
    assert [line.split()[0] for line in run("audit", "toy")[1].splitlines()[1:-1]] == ["0"], "the first, if none is named"


def test_the_audit_of_a_trial_that_does_not_exist_is_refused(trained, run):
    code, _, err = run("audit", "toy", "--trials", "4")
    assert code == 2 and "toy has no trial 4; it holds 4, from 0 to 3" in err


def test_the_audit_of_a_trial_that_diverged_where_it_was_published_says_so(trained, run, small_setting, digits):
    file = predictions.load(trained)
    correct = (file[split].values & [[True], [True], [True], [False]] for split in ("train_correct", "test_correct"))
    predictions.write(trained, small_setting(trials=4), digits, range(4), *correct, np.arange(4) == 3)
    code, out, _ = run("audit", "toy", "--trials", "0", "3")
    assert code == 1 and [line.split()[3] for line in out.splitlines()[2:3]] == ["published"]
    assert "1 of 2 trials agree in every bit; 1 in less than 99.9 per cent" in out


# other machines


def test_a_range_trained_elsewhere_is_merged(study, run, small_setting, monkeypatch):
    monkeypatch.setenv("STUDY_WORKERS", "0")
    path = trials.train("toy", small_setting(trials=4), workers=0)
    code, out, _ = run("train", "toy", "--trials", "4:6", "--out", "elsewhere/part.zarr.zip")
    assert (code, out) == (0, "wrote elsewhere/part.zarr.zip\n")
    code, out, _ = run("merge", "toy", "elsewhere/part.zarr.zip")
    assert code == 0 and out.splitlines()[0] == "wrote predictions/toy.zarr.zip: 6 trials, from 0 to 5"
    assert "settings.toy.trials in params.yaml is 4: raise it to 6, or the next run of stage train cuts" in out
    merged = path.read_bytes()
    path.unlink()
    assert trials.train("toy", small_setting(trials=6), workers=0).read_bytes() == merged


def test_what_is_not_of_the_setting_is_not_merged(study, run, small_setting, monkeypatch):
    path = trials.train("toy", small_setting(trials=4), workers=0)
    before = path.read_bytes()
    trials.train_range("toy", small_setting(seed=1), range(4, 6), Path("part.zarr.zip"), workers=0)
    code, out, err = run("merge", "toy", "part.zarr.zip")
    assert code == 2 and out == "" and "seed was 1, is 0" in err and path.read_bytes() == before


def test_a_run_that_cannot_go_on_is_one_line(study, run, monkeypatch):
    monkeypatch.setenv("STUDY_SCHEDULER", "nowhere")
    code, _, err = run("train", "toy", "--trials", "0:2", "--out", "part.zarr.zip")
    assert code == 2 and err.startswith("error: STUDY_SCHEDULER is 'nowhere', but no Dask scheduler answers there")
    assert "0 of 2 trials are finished and kept" in err and not Path("part.zarr.zip").exists()
