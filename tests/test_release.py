"""A release holds what it says: archives of equal bytes, hashes that fit, a version nobody typed twice; or it is refused."""

import hashlib
import json
import os
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import toy_study
import yaml

from study import inventory, release, supplement
from study.release import ReleaseError


@pytest.fixture
def study(folder, digits, small_setting, monkeypatch):
    """A small study in a repository, tagged; the PDF is test_supplement's, here a file that tells what it was made of."""
    root = folder / "study"
    toy_study.site(root / "book")
    toy_study.results(root, digits, {"digits-small": small_setting(trials=6)})
    toy_study.repository(root, "v1.2.0", "a-tag-that-is-no-version")

    def printed(book: Path, edition: supplement.Edition, out: Path) -> Path:
        out.write_text(f"{edition.title} {edition.version} {edition.made:%Y-%m-%d}")
        return out

    monkeypatch.setattr(supplement, "build", printed)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_release_holds_site_data_book_citation_manifest_and_checksums(study):
    folder = release.build(study)
    assert folder == study / "release" / "1.2.0"
    assert sorted(contents(folder)) == [
        "CITATION.cff",
        "SHA256SUMS",
        "manifest.json",
        "small-study-1.2.0-data.zip",
        "small-study-1.2.0-site.zip",
        "small-study-1.2.0.pdf",
    ]
    assert (folder / "small-study-1.2.0.pdf").read_text() == "A small study 1.2.0 2030-01-02"


def test_the_same_study_gives_the_same_bytes_whenever_and_with_whatever_dates_it_is_packed(study):
    first = contents(release.build(study))
    for path in study.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (0, 0))
            path.chmod(0o600)
    toy_study.git(study, "config", "core.fileMode", "false")
    assert contents(release.build(study)) == first


def test_the_archives_unpack_to_the_files_themselves(study):
    folder = release.build(study)
    with zipfile.ZipFile(folder / "small-study-1.2.0-data.zip") as packed:
        names = packed.namelist()
        held = {name.partition("/")[2]: packed.read(name) for name in names}
    assert held == {str(file.path): (study / file.path).read_bytes() for file in inventory.published(study)}
    assert names == sorted(names) and {name.partition("/")[0] for name in names} == {"small-study-1.2.0-data"}
    html = study / "book" / "_build" / "html"
    with zipfile.ZipFile(folder / "small-study-1.2.0-site.zip") as packed:
        pages = {name.partition("/")[2] for name in packed.namelist()}
    assert pages == {path.relative_to(html).as_posix() for path in html.rglob("*") if path.is_file()}


def test_the_checksums_are_those_of_every_other_file(study):
    folder = release.build(study)
    told = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert told == {
        name: hashlib.sha256(held).hexdigest() for name, held in contents(folder).items() if name != "SHA256SUMS"
    }


def test_the_manifest_tells_fingerprint_shape_dtype_size_and_hash(study, small_setting, digits):
    told = json.loads((release.build(study) / "manifest.json").read_text())
    predictions = told["predictions"]["predictions/digits-small.zarr.zip"]
    assert predictions["fingerprint"] == small_setting(trials=6).fingerprint(digits)
    assert predictions["variables"]["train_correct"] == {
        "dimensions": ["trial", "train"],
        "shape": [6, 1000],
        "dtype": "bool",
    }
    frame = told["tables"]["tables/digits-small/memorization.parquet"]
    assert frame["shape"] == [5, 2] and frame["columns"] == {"index": "int64", "mem": "double"}
    for path, entry in [*told["predictions"].items(), *told["tables"].items()]:
        held = (study / path).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(held), hashlib.sha256(held).hexdigest())
    assert (
        told["committed_utc"] == "2030-01-02 03:04:05"
        and told["changed_since_commit"] is told["results_differ_from_commit"] is False
    )


def test_the_citation_names_version_commit_and_date(study):
    folder = release.build(study)
    told, own = (yaml.safe_load((place / "CITATION.cff").read_text()) for place in (folder, study))
    assert re.fullmatch("[0-9a-f]{40}", told["commit"])
    assert (told["version"], told["date-released"]) == ("1.2.0", "2030-01-02")
    assert {key: told[key] for key in own if key != "version"} == {key: own[key] for key in own if key != "version"}


def test_a_commit_without_a_tag_is_part_of_the_version(study):
    toy_study.git(study, "tag", "--delete", "v1.2.0")
    version = release.version_of(study)
    assert version.text == f"1.2.0+g{version.commit[:7]}"
    assert version.committed == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_tag_of_another_version_is_refused(study):
    toy_study.git(study, "tag", "--delete", "v1.2.0")
    toy_study.git(study, "tag", "v1.3.0")
    with pytest.raises(ReleaseError, match=r"tag v1\.3\.0, but pyproject\.toml says version 1\.2\.0"):
        release.build(study)


def test_changed_files_are_refused_or_told(study):
    (study / "notebooks/stages/fitting.md").write_text("changed")
    with pytest.raises(ReleaseError, match=r"1 files differ.*'notebooks/stages/fitting\.md'.*--allow-dirty"):
        release.build(study)
    folder = release.build(study, allow_dirty=True)
    assert re.fullmatch(r"1\.2\.0\+g[0-9a-f]{7}\.dirty", folder.name)
    assert json.loads((folder / "manifest.json").read_text())["changed_since_commit"] is True


def test_results_that_came_out_differently_here_are_told_but_not_refused(study):
    (study / "dvc.lock").write_text((study / "dvc.lock").read_text() + "\n")
    told = json.loads((release.build(study) / "manifest.json").read_text())
    assert (told["version"], told["results_differ_from_commit"]) == ("1.2.0", True)


def test_a_site_that_is_not_built_is_refused_with_the_remedy(study):
    (study / "book/_build/html/index.html").unlink()
    with pytest.raises(ReleaseError, match=r"the site is not built; run `make book`"):
        release.build(study)


def test_missing_predictions_are_refused_with_the_remedy(study):
    (study / "predictions/digits-small.zarr.zip").unlink()
    with pytest.raises(ValueError, match=r"predictions/digits-small\.zarr\.zip is missing; `dvc pull`"):
        release.build(study)


def test_a_pipeline_that_made_nothing_is_refused(study):
    (study / "dvc.lock").write_text("stages: {}\n")
    with pytest.raises(ReleaseError, match="no prediction files or tables"):
        release.build(study, allow_dirty=True)


def test_a_table_that_no_card_describes_is_refused(study):
    text = (study / "book/cards.yaml").read_text()
    (study / "book/cards.yaml").write_text(text.replace("  fitting/summary:", "  fitting/other:"))
    with pytest.raises(ReleaseError, match=r"book/cards\.yaml: fitting/summary"):
        release.build(study, allow_dirty=True)


def test_a_folder_that_is_no_repository_is_refused(folder):
    toy_study.write(folder / "pyproject.toml", '[project]\nname = "small-study"\nversion = "1.2.0"\n')
    with pytest.raises(ReleaseError, match="a release is made in a clone of the repository"):
        release.version_of(folder)


def test_a_release_that_fails_leaves_the_one_before_as_it_was(study, monkeypatch):
    before = contents(release.build(study))

    def out_of_paper(*_):
        raise supplement.SupplementFailed("out of paper")

    monkeypatch.setattr(supplement, "build", out_of_paper)
    with pytest.raises(supplement.SupplementFailed):
        release.build(study)
    assert contents(study / "release" / "1.2.0") == before
