"""The site as a reader meets it: every page in a real browser, from the file system, with the network off.

`STUDY_SITE=<folder of HTML>` checks a site that is already there; otherwise a small book is made with the real
configuration, styles and scripts around one executed sample chapter.
"""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import browser as look
import nbformat
import pandas as pd
import pytest
from PIL import Image

from study import notebooks, site

ROOT = Path(__file__).parents[1]
CONTENTS = """format: jb-book
root: index
parts:
  - caption: The study
    numbered: true
    chapters:
      - file: chapters/01_sample
  - caption: The ledger
    chapters:
      - file: scorecard
      - file: status
        sections:
          - glob: records/*
      - file: references
"""
REFERENCE = (
    "@inproceedings{feldman2020, author = {Feldman, Vitaly}, title = {A Tale about a Tail}, year = {2020},\n"
    "  booktitle = {Proceedings}}\n"
)


def small_book(folder: Path) -> Path:
    """A book with the real book's configuration and static files, without its chapters."""
    book = folder / "book"
    (book / "chapters").mkdir(parents=True)
    for name in ("_config.yml", "index.md", "references.md"):
        shutil.copyfile(ROOT / "book" / name, book / name)
    shutil.copytree(ROOT / "book" / "_static", book / "_static", ignore=shutil.ignore_patterns("figures"))
    (book / "_toc.yml").write_text(CONTENTS)
    (book / "references.bib").write_text(REFERENCE)
    return book


def built(folder: Path) -> Path:
    """The small book with the sample chapter, one run with a record and one without, built by `site.build`."""
    book, chapter = small_book(folder), "chapters/01_sample.ipynb"
    source = Path(shutil.copyfile(Path(__file__).with_name("sample_chapter.md"), folder / "01_sample.md"))
    with notebooks.recorded("train", "digits", "f00df00df00df00d", folder / "records"):
        notebooks.execute(source, book / chapter, {"threshold": 0.3}, book / "_static" / "figures" / "sample")
    shutil.copyfile(book / chapter, folder / "records" / "train@digits.ipynb")
    (folder / "dvc.lock").write_text("stages: {train@digits: {}, estimate@digits: {}, site: {}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(site, "front_page", lambda book: "The front page states results.\n")
        patch.setattr(site, "scorecard_page", lambda: "# Scorecard\n\nNothing has been claimed {cite:p}`feldman2020`.\n")
        return folder / site.build()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    given = os.environ.get("STUDY_SITE")
    return Path(given).resolve() if given else built(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def browser():
    with look.chromium() as opened:
        yield opened


def test_every_page_draws_its_charts_and_formulas_without_a_complaint(browser, folder):
    assert len(look.pages(folder)) >= 5
    assert look.faults_of_site(browser, folder) == []


def test_a_chapter_has_charts_and_formulas_to_draw(browser, folder):
    with look.opened(browser, look.DESKTOP) as (page, _):
        look.visit(page, sorted((folder / "chapters").glob("*.html"))[0])
        assert page.locator(".study-figure svg").count() >= 1
        assert page.locator("mjx-container").count() >= 1


def test_downloads_are_a_picture_a_drawing_and_a_table(folder):
    offered = [path.parent / link for path in look.pages(folder) for link in look.links(path) if "_static/figures" in link]
    assert {path.suffix for path in offered} == {".png", ".svg", ".csv"}
    for path in offered:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 100
        elif path.suffix == ".csv":
            assert 1 <= len(pd.read_csv(path)) <= 5_000
        else:
            assert path.read_text().startswith("<svg")


def test_the_search_field_finds_a_chapter_by_a_word_of_its_text(browser, folder):
    found = look.search(browser, folder, "memorization")
    assert any("/chapters/" in address or "index.html" in address for address in found)
    assert look.search(browser, folder, "zyzzogeton") == []


def test_the_switch_reaches_a_light_and_a_dark_page(browser, folder):
    colours = look.theme_colours(browser, folder / "index.html")
    assert colours["light"] == "rgb(255, 255, 255)"
    assert sum(int(part) for part in colours["dark"][4:-1].split(",")) < 150


def test_every_page_leads_home(folder):
    for path in look.pages(folder):
        targets = {(path.parent / link.split("#")[0]).resolve() for link in look.links(path)}
        assert folder / "index.html" in targets or path == folder / "index.html", path.name


def test_no_page_names_a_script_or_a_style_of_another_server(folder):
    outside = [link for path in look.pages(folder) for link in look.links(path) if link.startswith(("http", "//"))]
    assert [link for link in outside if link.endswith((".js", ".css"))] == []


def test_the_status_page_tells_runs_with_a_record_from_runs_without(tmp_path):
    began = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    notebooks.write_record("train", "digits", "f00df00df00df00d", began, 125.0, tmp_path)
    page = site.status_markdown(["train@digits", "estimate@digits"], tmp_path, tmp_path / "none")
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| ")}
    assert "2030-01-02 03:04:00 | 2 min 05 s | here | 1 | `f00df00d`" in rows["train@digits"]
    assert "no record" in rows["estimate@digits"]
    assert "torch" in page and "GiB" in page


def test_the_executed_stages_are_pages_told_apart_by_their_run_and_failed_ones_are_not(tmp_path):
    text = (
        '{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# Train"}], "metadata": {}, '
        '"nbformat": 4, "nbformat_minor": 5}'
    )
    for name in ("train@a.ipynb", "train@b.ipynb", "train@c.failed.ipynb"):
        notebooks.write_text(tmp_path / "records" / name, text)
    notebooks.write_text(tmp_path / "pages" / "train@gone.ipynb", text)
    site.copy_executed(tmp_path / "records", tmp_path / "pages")
    made = {path.name: nbformat.read(path, 4).cells[0].source for path in (tmp_path / "pages").iterdir()}
    assert made == {"train@a.ipynb": "# Train (train@a)", "train@b.ipynb": "# Train (train@b)"}
    page = site.status_markdown(["train@a", "train@c"], tmp_path / "records", tmp_path / "none")
    assert "[train@a](records/train@a.ipynb)" in page and "| train@c |" in page


def test_a_run_of_this_machine_stands_before_the_published_one(tmp_path):
    for where, fingerprint in (("here", "aaaa"), ("published", "bbbb")):
        notebooks.write_record("train", "digits", fingerprint, datetime.now(UTC), 1.0, tmp_path / where)
    notebooks.write_record("train", "cifar", "cccc", datetime.now(UTC), 1.0, tmp_path / "published")
    page = site.status_markdown(["train@digits"], tmp_path / "here", tmp_path / "published")
    assert "`aaaa`" in page and "bbbb" not in page
    assert "| published | 1 | `cccc` |" in page


@pytest.mark.parametrize(("seconds", "said"), [(0.42, "0.4 s"), (9.6, "10 s"), (59.7, "1 min 00 s"), (7384, "2 h 03 min")])
def test_durations_are_said_as_a_reader_would(seconds, said):
    assert site.duration(seconds) == said


def test_a_warning_anywhere_in_the_book_stops_the_build(tmp_path):
    book = small_book(tmp_path)
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (book / "index.md").write_text("# A book\n\nSee [a chapter](chapters/never_written.md).\n")
    with pytest.raises(site.SiteFailed, match="never_written"):
        site.render(book)


def test_the_repository_button_appears_only_when_an_address_is_given(folder, tmp_path):
    book, address = small_book(tmp_path), "https://github.com/example/study"
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (book / "index.md").write_text("# A book\n\nOf one page.\n")
    assert address in look.links(site.render(book, address) / "index.html")
    assert not [link for link in look.links(folder / "index.html") if link.startswith("http")]


def test_the_checks_see_what_they_are_there_for(browser, tmp_path):
    (tmp_path / "bad.html").write_text(
        '<a href="gone.html">gone</a><div style="width: 900px">wide</div><span class="math">\\(x\\)</span>'
        '<figure class="study-figure" id="empty" data-drawn="true"><div class="study-chart"><svg></svg></div></figure>'
        '<img src="https://example.org/picture.png"><script>console.error("complaint"); undefinedName()</script>'
    )
    faults = look.faults_of_page(browser, tmp_path / "bad.html", look.PHONE, "light")
    told = "\n".join([*faults, *look.broken_links(tmp_path)])
    for fault in (
        "gone.html leads nowhere",
        "pixels wide on a screen of 375",
        "not typeset",
        "empty: no marks drawn",
        "empty: no alternative text",
        "outside request: https://example.org",
        "console: complaint",
        "script error",
    ):
        assert fault in told
