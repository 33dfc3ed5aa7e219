"""The runs of the pipeline: the names that DVC gives them, and who reads from whom."""

from pathlib import Path

import pytest

from study import runs

ROOT = Path(__file__).parents[1]
PIPELINE = """
stages:
  train:
    matrix:
      setting: [small, large]
    cmd: train ${item.setting}
    outs:
      - predictions/${item.setting}.zip: {persist: true}
  compare:
    cmd: compare
    deps: [predictions/large.zip, src/compare.py]
    outs: [tables/compare]
  chapter:
    cmd: chapter
    deps: [tables/compare/summary.json, notebooks/chapter.md]
"""


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return runs.load(tmp_path / "dvc.yaml")


def test_a_stage_with_a_matrix_is_one_run_for_each_item(pipeline):
    assert list(pipeline) == ["train@small", "train@large", "compare", "chapter"]
    assert pipeline["train@large"].outs == ("predictions/large.zip",)


def test_a_run_reads_from_those_that_make_its_files_or_the_folders_they_lie_in(pipeline):
    assert runs.sources(pipeline["compare"], pipeline) == ["train@large"]
    assert runs.sources(pipeline["chapter"], pipeline) == ["compare"]
    assert runs.sources(pipeline["train@small"], pipeline) == []


def test_in_the_study_all_that_is_read_is_made_and_each_estimate_goes_back_to_training():
    found = runs.load(ROOT / "dvc.yaml")
    assert not [path for run in found.values() for path in (*run.deps, *run.outs) if "${" in path]
    made = [out for run in found.values() for out in run.outs]
    for run in found.values():
        read = [dep for dep in run.deps if dep.startswith(("tables/", "predictions/"))]
        assert [dep for dep in read if not any(runs.meet(dep, out) for out in made)] == [], run.name
    assert runs.sources(found["estimate@digits-mlp"], found) == ["train@digits-mlp"]
