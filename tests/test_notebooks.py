"""Execution of text notebooks: the same inputs give the same bytes, and mistakes are refused by name."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest

from study import notebooks

SAMPLE = Path(__file__).with_name("sample_chapter.md")
HEAD = "---\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n"


def text(folder: Path, *cells: str, parameters: str = "") -> Path:
    """A text notebook of the given code cells."""
    tagged = [f"```{{code-cell}} ipython3\n:tags: [parameters]\n\n{parameters}\n```"] if parameters else []
    body = "\n\n".join([*tagged, *(f"```{{code-cell}} ipython3\n{cell}\n```" for cell in cells)])
    path = folder / "notebooks" / "chapters" / "07_written.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}# Written for a test\n\n{body}\n")
    return path


def outputs(path: Path) -> list[dict]:
    return [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """The sample chapter run three times: twice alike, once with another parameter."""
    folder = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, values in (("first", {}), ("again", {"threshold": 0.25}), ("other", {"threshold": 0.5})):
            notebooks.execute(SAMPLE, Path(f"{name}/chapter.ipynb"), values, Path(f"{name}/figures"))
    return folder


def test_the_same_inputs_give_the_same_bytes(executed):
    names = sorted(path.relative_to(executed / "first") for path in (executed / "first").rglob("*") if path.is_file())
    assert {name.suffix for name in names} == {".ipynb", ".png", ".svg", ".csv"}
    for name in names:
        assert (executed / "first" / name).read_bytes() == (executed / "again" / name).read_bytes(), name


def test_another_parameter_changes_what_the_chapter_says(executed):
    shares = [
        next(
            output.data["application/papermill.record/text/plain"]
            for output in outputs(path)
            if "scrapbook" in output.get("metadata", {})
        )
        for path in (executed / "first/chapter.ipynb", executed / "other/chapter.ipynb")
    ]
    assert float(shares[0]) > float(shares[1]) > 0


def test_a_notebook_tells_nothing_of_when_and_where_it_ran(executed):
    text = (executed / "first/chapter.ipynb").read_text()
    for trace in (str(executed), sys.prefix, "start_time", "duration", "input_path"):
        assert trace not in text
    assert text.count("something that must not stay") == 1, "the cell that says it, and nothing that was said"
    assert "seven <object object at 0x…>" in text
    assert nbformat.reads(text, 4).metadata.language_info == {"name": "python", "pygments_lexer": "ipython3"}


def test_cells_are_named_by_their_place(executed):
    cells = nbformat.read(executed / "first/chapter.ipynb", 4).cells
    assert [cell.id for cell in cells] == [f"cell-{index:03d}" for index in range(len(cells))]


def test_figures_are_linked_as_seen_from_the_page_and_name_the_command_that_redraws_them(executed):
    shown = next(
        output.data["text/html"]
        for output in outputs(executed / "other/chapter.ipynb")
        if "text/html" in output.get("data", {})
    )
    assert 'href="figures/histogram.csv"' in shown
    assert "dvc exp run" in shown and "chapters.sample_chapter.threshold=0.5" in shown


def test_an_unknown_parameter_is_refused_with_the_valid_names(tmp_path):
    with pytest.raises(ValueError, match="no parameter treshold; it has: threshold, bins, label, smooth"):
        notebooks.execute(SAMPLE, tmp_path / "out.ipynb", {"treshold": 0.3})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"), [("bins", 2.5), ("bins", True), ("label", 7), ("smooth", 1), ("threshold", "0.3")]
)
def test_a_parameter_of_another_type_is_refused(tmp_path, name, value):
    with pytest.raises(TypeError, match=f"parameter {name} is .* not {type(value).__name__}"):
        notebooks.execute(SAMPLE, tmp_path / "out.ipynb", {name: value})


def test_parameters_carry_name_type_default_and_comment():
    found = notebooks.parameters_of(SAMPLE)
    assert [(item.name, item.type, item.default) for item in found.values()] == [
        ("threshold", float, 0.25),
        ("bins", int, 12),
        ("label", str, "seven"),
        ("smooth", bool, False),
    ]
    assert found["bins"].help == "bars of the histogram"


@pytest.mark.parametrize("line", ["rates = [1, 2]", "rate = 1 / 2", "import os", "rate: float", "a = b = 1 + 1"])
def test_a_parameter_without_a_plain_default_is_refused(tmp_path, line):
    with pytest.raises(ValueError, match=r"plain default|is not `name = value`"):
        notebooks.parameters_of(text(tmp_path, "1", parameters=line))


def test_the_parameters_cell_and_params_yaml_are_compared_name_by_name_and_type_by_type():
    section = {"threshold": 0.25, "bins": 12, "label": "seven", "smooth": False}
    assert notebooks.mismatches(SAMPLE, section) == []
    wrong = {"threshold": 0.3, "bins": 12.0, "label": "seven", "extra": 1}
    told = "\n".join(notebooks.mismatches(SAMPLE, wrong))
    for difference in (
        "threshold is 0.25 in the cell and 0.3",
        "bins is 12 in the cell and 12.0",
        "smooth is missing",
        "extra of params.yaml is missing",
    ):
        assert difference in told


def test_a_failing_cell_is_named_and_the_old_result_stays(tmp_path):
    source, out = text(tmp_path, "fine = 1", "1 / 0", parameters="rate = 1"), tmp_path / "out.ipynb"
    out.write_text("what an earlier run left")
    message = r"07_written.md: code cell 3 of 3 failed: ZeroDivisionError"
    with pytest.raises(notebooks.NotebookFailed, match=message) as failure:
        notebooks.execute(source, out, {"rate": 2})
    assert "1 / 0" in str(failure.value) and "\x1b" not in str(failure.value)
    assert out.read_text() == "what an earlier run left"
    assert outputs(tmp_path / "out.failed.ipynb")[0].ename == "ZeroDivisionError"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notebooks", "out.failed.ipynb", "out.ipynb"]


def test_a_kernel_that_dies_is_a_failure_and_leaves_no_result(tmp_path):
    source = text(tmp_path, "import os", "os._exit(3)")
    with pytest.raises(notebooks.NotebookFailed, match="code cell 2 of 2 failed: Kernel died"):
        notebooks.execute(source, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_the_kernel_is_this_interpreter_on_one_thread_in_this_folder(tmp_path, monkeypatch):
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["false"], "display_name": "someone's", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.chdir(tmp_path)
    source = text(
        tmp_path,
        "import os, sys\nfrom pathlib import Path\n"
        "Path('seen').write_text(sys.executable + ' ' + os.environ['OMP_NUM_THREADS'])",
    )
    notebooks.execute(source, tmp_path / "out.ipynb")
    assert (tmp_path / "seen").read_text() == f"{sys.executable} 1"


def test_a_glued_number_stays_a_number_whatever_its_type(tmp_path):
    source = text(tmp_path, "import numpy as np\nfrom myst_nb import glue\nglue('share', np.float64(0.125), display=False)")
    notebooks.execute(source, tmp_path / "out.ipynb")
    assert float(outputs(tmp_path / "out.ipynb")[0].data["application/papermill.record/text/plain"]) == 0.125


def test_names_drawn_at_random_do_not_reach_the_notebook(tmp_path):
    source = text(
        tmp_path,
        "import uuid\nfrom IPython.display import HTML\nname = uuid.uuid4()\n"
        'HTML(f\'<a id="{name}"></a><a href="#{name}"></a><a id="{uuid.uuid4()}"></a>\')',
    )
    notebooks.execute(source, tmp_path / "out.ipynb")
    assert outputs(tmp_path / "out.ipynb")[0].data["text/html"] == (
        '<a id="T_00000"></a><a href="#T_00000"></a><a id="T_00001"></a>'
    )


def test_a_record_says_what_ran_when_on_what_and_with_what(tmp_path):
    with notebooks.recorded("train", "digits", "f00d", tmp_path):
        pass
    record = json.loads((tmp_path / "train@digits.json").read_text())
    assert (record["stage"], record["item"], record["fingerprint"]) == ("train", "digits", "f00d")
    assert 0 <= record["seconds"] < 60
    age = datetime.now(UTC) - datetime.fromisoformat(record["started_utc"]).replace(tzinfo=UTC)
    assert -2 < age.total_seconds() < 60
    assert record["hardware"]["cores"] <= os.cpu_count() and record["hardware"]["memory_gib"] > 0.1
    assert {"torch", "numpy"} <= record["versions"].keys()


def test_a_run_that_fails_leaves_no_record_not_even_an_old_one(tmp_path):
    notebooks.write_record("fitting", "", "f00d", datetime.now(UTC), 1.0, tmp_path)
    assert (tmp_path / "fitting.json").exists()
    with pytest.raises(ZeroDivisionError), notebooks.recorded("fitting", folder=tmp_path):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []
