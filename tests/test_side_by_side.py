"""Stages side by side, in a project of four small ones: order, what is left alone, and a stage that fails."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from study import pipeline

STAGES = """\
stages:
  chapter_two:
    cmd: cat one.txt > two.txt && echo two >> order.txt
    deps: [one.txt]
    outs: [two.txt]
  seed:
    cmd: echo 1 > seed.txt
    outs: [seed.txt]
  chapter_one:
    cmd: cat seed.txt > one.txt && echo one >> order.txt
    deps: [seed.txt]
    outs: [one.txt]
  site:
    cmd: cat one.txt two.txt > site.txt && echo site >> order.txt
    deps: [one.txt, two.txt]
    outs: [site.txt]
"""


@pytest.fixture
def project(folder, monkeypatch) -> Path:
    monkeypatch.setattr(pipeline.warm, "process", nullcontext)  # nothing here imports anything
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run([*pipeline.DVC, "init", "--no-scm", "--quiet"], check=True)
    Path("dvc.yaml").write_text(STAGES)
    return folder


def order(folder: Path) -> list[str]:
    file = folder / "order.txt"
    return file.read_text().split() if file.exists() else []


def test_the_stages_and_what_they_need_are_those_of_the_project(project):
    assert pipeline.needs(project) == {
        "seed": set(),
        "chapter_one": {"seed"},
        "chapter_two": {"chapter_one"},
        "site": {"chapter_one", "chapter_two"},
    }


def test_everything_runs_once_and_after_what_it_needs(project):
    pipeline.side_by_side(project, pipeline.needs(project), 2)
    assert order(project) == ["one", "two", "site"]
    assert (project / "site.txt").read_text() == "1\n1\n"
    assert pipeline.stale(project) == set()
    pipeline.reproduce(project)
    assert order(project) == ["one", "two", "site"]


def test_only_what_has_changed_runs_again(project):
    pipeline.reproduce(project)
    Path("dvc.yaml").write_text(STAGES.replace("cat one.txt > two.txt", "wc -l < one.txt > two.txt"))
    assert pipeline.stale(project) == {"chapter_two"}
    (project / "order.txt").unlink()
    pipeline.reproduce(project)
    assert order(project) == ["two"]  # which wrote what it had written before


def test_only_chapters_run_side_by_side(project, monkeypatch):
    shared = []
    monkeypatch.setattr(pipeline, "side_by_side", lambda folder, stages, *_: shared.extend(stages))
    pipeline.reproduce(project)
    assert sorted(shared) == ["chapter_one", "chapter_two"]
    assert order(project) == ["one", "two", "site"]  # which DVC did in the end


def test_a_stage_that_fails_ends_the_run_and_tells_why(project, capfd):
    Path("dvc.yaml").write_text(STAGES.replace("cat one.txt > two.txt", "echo no ink >&2; false"))
    with pytest.raises(subprocess.CalledProcessError):
        pipeline.side_by_side(project, pipeline.needs(project), 2)
    assert order(project) == ["one"]
    assert "no ink" in capfd.readouterr().err
    assert "chapter_two" in pipeline.stale(project)
