"""The site is built again whenever anything that it is made from has changed, and only then."""

from pathlib import Path

import pytest

from study import freshness

HTML = Path("book/_build/html")
FILES = {
    "book/index.md": "# A book",
    "book/chapters/01.ipynb": "{}",
    "book/status.md": "made",
    "book/_build/html/index.html": "<p>a page</p>",
    "records/train.json": "{}",
    "records/site.json": "{}",
    "published/records/train.json": "{}",
    "tables/claims/claims.parquet": "table",
    "src/study/site.py": "code",
    "src/study/__pycache__/site.pyc": "code",
    "dvc.yaml": "stages: {}",
}


@pytest.fixture
def built(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert not freshness.fresh(HTML, tmp_path)
    freshness.leave_stamp(HTML, tmp_path)
    return tmp_path


def test_a_site_of_unchanged_sources_is_fresh(built):
    (built / "book/index.md").write_text(FILES["book/index.md"])
    assert freshness.fresh(HTML, built)


@pytest.mark.parametrize(
    "name", sorted(FILES.keys() - {"book/status.md", "records/site.json", "src/study/__pycache__/site.pyc"})
)
@pytest.mark.parametrize("change", [lambda file: file.write_text("other"), lambda file: file.unlink()])
def test_any_changed_or_missing_file_makes_it_stale(built, name, change):
    change(built / name)
    assert not freshness.fresh(HTML, built)


def test_a_new_file_makes_it_stale(built):
    (built / "book/chapters/02.ipynb").write_text("{}")
    assert not freshness.fresh(HTML, built)


@pytest.mark.parametrize("name", ["book/status.md", "records/site.json", "src/study/__pycache__/site.pyc"])
def test_what_the_build_itself_leaves_does_not(built, name):
    (built / name).write_text("other")
    assert freshness.fresh(HTML, built)


def test_another_repository_address_makes_it_stale(built, monkeypatch):
    monkeypatch.setenv("STUDY_REPOSITORY", "https://example.org/study")
    assert not freshness.fresh(HTML, built)


def test_another_version_of_a_package_makes_it_stale(built, monkeypatch):
    monkeypatch.setattr(freshness.importlib.metadata, "distributions", lambda: [])
    assert not freshness.fresh(HTML, built)
