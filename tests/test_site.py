"""The site as a reader meets it: every page in a real browser, from the file system, with the network off.

`STUDY_SITE=<folder of HTML>` checks a site that is already there; otherwise a small book is made with the real
configuration, styles and scripts around one executed sample chapter.
"""

import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import altair as alt
import browser as look
import nbformat
import pandas as pd
import pytest
from PIL import Image

from study import charts, notebooks, runs, site

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
PIPELINE = """
stages:
  train: {matrix: {setting: [digits]}, outs: ["predictions/${item.setting}.zarr.zip"]}
  estimate: {matrix: {setting: [digits]}, deps: ["predictions/${item.setting}.zarr.zip"], outs: [tables/digits]}
  chapter_sample: {deps: [tables/digits/memorization.parquet], outs: [book/chapters/01_sample.ipynb]}
  site: {deps: [book/chapters]}
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
    (book / "readers.md").write_text("## Where to go next\n\nTo the [status page](status.md).\n")
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
    notebooks.write_record("chapter_sample", "", "abcdef0123456789", datetime.now(UTC), 1.0, folder / "records")
    shutil.copyfile(book / chapter, folder / "records" / "train@digits.ipynb")
    (folder / "dvc.yaml").write_text(PIPELINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(site, "front_page", lambda book: "The front page states results.\n")
        patch.setattr(
            site,
            "scorecard_page",
            lambda expected, chapters: "# Scorecard\n\nNothing has been claimed {cite:p}`feldman2020`.\n",
        )
        patch.setattr(site.main_numbers, "summaries", lambda expected: {})
        patch.setattr(site.cards, "cards_page", lambda: "# Data cards\n\nNone.\n")
        return folder / site.build()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    given = os.environ.get("STUDY_SITE")
    return Path(given).resolve() if given else built(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def browser():
    with look.chromium() as opened:
        yield opened


def test_every_page_draws_its_charts_and_formulas_without_a_complaint(folder):
    assert len(look.pages(folder)) >= 5
    assert look.faults_of_site(folder) == []


def test_a_chapter_has_charts_and_formulas_to_draw(browser, folder):
    with look.opened(browser, look.DESKTOP) as (page, _):
        look.visit(page, sorted((folder / "chapters").glob("*.html"))[0])
        assert page.locator(".study-figure svg").count() >= 1
        assert page.locator("mjx-container").count() >= 1


def test_a_chart_that_is_fitted_to_a_phone_is_drawn_once(browser, folder):
    """Each trial of a width would draw all marks again: seconds for thousands of them, in which the page stands still."""
    keep_drawings = """
        window.drawings = [];
        const make = Document.prototype.createElementNS;
        Document.prototype.createElementNS = function (space, name, ...more) {
            const made = make.call(this, space, name, ...more);
            if (name === "svg") window.drawings.push(made);
            return made;
        };"""
    with look.opened(browser, look.PHONE) as (page, _):
        page.add_init_script(keep_drawings)
        look.visit(page, sorted((folder / "chapters").glob("*.html"))[0])
        drawn = page.evaluate("() => window.drawings.filter((svg) => svg.classList.contains('marks')).length")
        assert drawn == page.locator(".study-figure[data-drawn='true'] svg.marks").count() >= 1
        assert page.locator(".study-chart svg.marks").first.bounding_box()["width"] < look.PHONE["width"]


def test_the_heads_of_narrow_columns_do_not_run_into_one_another(browser, folder, tmp_path):
    heads = ["clusters within each class", "clusters blind to labels"]
    rows = pd.DataFrame(
        [(x, x, head, row) for x in range(3) for head in heads for row in "ab"], columns=["x", "y", "head", "row"]
    )
    chart = alt.Chart(rows).mark_line().encode(x="x:Q", y="y:Q").facet(column="head:N", row="row:N")
    spec = json.dumps(charts.specification(charts.Figure("grid", chart, rows, "Lines.", "Lines.")))
    figure = (
        '<figure class="study-figure" id="grid"><div class="study-chart"></div>'
        f'<script class="study-spec" type="application/json">{spec}</script></figure>'
    )
    static = (folder / "_static").as_uri()
    notebooks.write_text(
        tmp_path / "page.html",
        f'<!doctype html><link rel="stylesheet" href="{static}/study.css"><main style="width: 350px">'
        f'{figure}</main><script src="{static}/study.js"></script>',
    )
    with look.opened(browser, look.PHONE) as (page, complaints):
        page.goto((tmp_path / "page.html").as_uri())
        page.locator("#grid[data-drawn='true']").wait_for(state="attached")
        first, second = (page.locator(".role-column-header text").nth(place).bounding_box() for place in (0, 1))
        assert first["x"] + first["width"] < second["x"] and complaints == []


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


def test_under_each_figure_stands_its_run_with_the_way_to_its_row_of_the_status_page(folder):
    for path in sorted((folder / "chapters").glob("*.html")):
        figures = path.read_text().count('class="study-figure"')
        leads = [link for link in look.links(path) if link.startswith("../status.html#run-chapter-")]
        assert len(leads) == figures, path.name


def test_the_first_page_answers_in_three_sentences_from_the_tables():
    def quantity(value):
        return {"value": value, "std_error": 0.001}

    summary = {"n": 1000, "memorized": {"count": 43, "threshold": 0.25}}
    influencers = {"count": 23, "drop": quantity(0.015), "random_drop": quantity(0.001)}
    influencers |= {"affected_drop": quantity(0.38), "elsewhere_drop": quantity(-0.002)}
    told = site.answer(summary, influencers).splitlines()
    assert [line[:2] for line in told] == ["1.", "2.", "3."]
    assert "1,000" in told[0] and "43" in told[0] and "lose 1.50" in told[1]
    assert "falls by 38.0" in told[2] and "changes by +0.20" in told[2]


def test_the_first_page_shows_its_figure_still_with_a_drawing_for_narrow_screens(tmp_path):
    chart = alt.Chart(pd.DataFrame({"x": [0, 1], "y": [1, 2]})).mark_line().encode(x="x:Q", y="y:Q")
    figure = charts.Figure("removal_curve", alt.vconcat(chart, chart), pd.DataFrame({"x": [0]}), "Falls.", "A line.")
    spec = charts.specification(figure)
    shown = charts.markup(figure, spec, charts.raster(spec), "../_static/figures/a", "dvc exp run -S chapters.a.b=1")
    output = nbformat.v4.new_output("display_data", {"text/html": shown})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=[output])])
    notebooks.write_text(tmp_path / f"{site.FRONT_CHAPTER}.ipynb", nbformat.writes(book))
    page = site.front_markup(site.front_figure(tmp_path))
    assert "study-spec" not in page and "../" not in page and "\n\n" not in page
    assert f'srcset="{site.FRONT_NARROW}"><img src="_static/figures/a/removal_curve.svg"' in page
    site.write_narrow_front(tmp_path, tmp_path)
    wide, narrow = (int(re.search(r'width="(\d+)"', text)[1]) for text in (page, (tmp_path / site.FRONT_NARROW).read_text()))
    assert narrow < 0.6 * wide


def test_the_search_field_finds_a_chapter_by_a_word_of_its_text(browser, folder):
    found = look.search(browser, folder, "memorization")
    assert any("/chapters/" in address or "index.html" in address for address in found)
    assert look.search(browser, folder, "zyzzogeton") == []


def test_the_switch_reaches_a_light_and_a_dark_page(browser, folder):
    colours = look.theme_colours(browser, folder / "index.html")
    assert colours["light"] == "rgb(255, 255, 255)"
    assert sum(int(part) for part in colours["dark"][4:-1].split(",")) < 150


def test_the_verdict_is_in_sight_on_every_screen_and_a_run_is_a_line(browser):
    """Nobody should have to push a table sideways to read the verdict; words of code are not broken into letters."""
    heads, cells = (
        ("Claim", "Published", "Measured", "Verdict"),
        ("A claim of many words. " * 9, "0.70", "no_space" * 9, "reproduced"),
    )
    claims = "<table><colgroup>{}</colgroup><thead><tr>{}</tr></thead><tbody><tr>{}</tr></tbody></table>".format(
        "".join(f'<col style="width: {width}%">' for width in (38, 16, 20, 26)),
        "".join(f"<th>{head}</th>" for head in heads),
        "".join(f"<td><p>{cell}</p></td>" for cell in cells),
    )
    ran = f"<table><tr><td>train@digits</td><td>2030-01-02 03:04</td><td>{'word ' * 40}</td></tr></table>"
    files = f"<table><tr><td><code>train_correct</code></td><td>{'word ' * 40}</td></tr></table>"
    parts = f'<div id="scorecard">{claims}</div><div id="status">{ran}</div><div id="files">{files}</div>'
    with look.opened(browser, look.PHONE) as (page, _):
        page.set_content(f'<article class="bd-content bd-article">{parts}</article>')
        page.add_style_tag(path=ROOT / "book" / "_static" / "study.css")
        verdict = page.locator("#scorecard td").last.bounding_box()
        assert verdict["x"] + verdict["width"] <= look.PHONE["width"] and verdict["width"] > 200
        label = page.locator("#scorecard td").last.evaluate("(cell) => getComputedStyle(cell, '::before').content")
        assert label == '"Verdict"'
        lines = "(node) => { const text = new Range(); text.selectNodeContents(node); return text.getClientRects().length }"
        assert page.locator("#status td").nth(1).evaluate(lines) == 1
        assert page.locator("#files code").evaluate(lines) == 1
        page.set_viewport_size(look.TABLET)
        verdict = page.locator("#scorecard td").last.bounding_box()
        assert verdict["x"] + verdict["width"] <= look.TABLET["width"]
        assert page.locator("#scorecard td").first.bounding_box()["width"] > 250


def test_every_page_leads_home(folder):
    for path in look.pages(folder):
        targets = {(path.parent / link.split("#")[0]).resolve() for link in look.links(path)}
        assert folder / "index.html" in targets or path == folder / "index.html", path.name


def test_no_page_names_a_script_or_a_style_of_another_server(folder):
    outside = [link for path in look.pages(folder) for link in look.links(path) if link.startswith(("http", "//"))]
    assert [link for link in outside if link.endswith((".js", ".css"))] == []


def status(folder: Path, published: Path, linked: dict[str, str] | None = None) -> str:
    (folder / "dvc.yaml").write_text(PIPELINE)
    return site.status_markdown(runs.load(folder / "dvc.yaml"), site.read_records(folder, published), linked or {})


def test_the_status_page_tells_runs_with_a_record_from_runs_without(tmp_path):
    began = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    notebooks.write_record("train", "digits", "f00df00df00df00d", began, 125.0, tmp_path)
    page = status(tmp_path, tmp_path / "none")
    assert (
        '<span id="run-train-digits"></span>train@digits | 2030-01-02 03:04 | 2 min 05 s | here | 1 | `f00df00d` |' in page
    )
    assert "estimate@digits | no record" in page and "1 of 3 runs have left a record, and took 2 min 05 s" in page
    assert "torch" in page and "GiB" in page


def test_a_row_of_the_status_page_leads_to_what_the_run_read(tmp_path):
    chapters, stages = status(tmp_path, tmp_path).split("## Stages")
    assert '| <a href="#run-estimate-digits">estimate@digits</a> |' in chapters
    assert '| <a href="#run-train-digits">train@digits</a> |' in stages and 'id="run-train-digits"' in stages


def test_many_sources_of_a_run_unfold():
    made = {f"train@{name}": runs.Run(f"train@{name}", (), (f"{name}.zip",)) for name in "abc"}
    made["compare"] = runs.Run("compare", ("a.zip", "b.zip", "c.zip"), ())
    page = site.status_markdown(made, {}, {})
    assert page.count("<details><summary>3 runs</summary>") == 1


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
    assert [path.stem for path in site.executed_runs(tmp_path / "records")] == ["train@a", "train@b"]


def test_a_run_of_this_machine_stands_before_the_published_one(tmp_path):
    for where, fingerprint in (("here", "aaaa"), ("published", "bbbb")):
        notebooks.write_record("train", "digits", fingerprint, datetime.now(UTC), 1.0, tmp_path / where)
    notebooks.write_record("train", "cifar", "cccc", datetime.now(UTC), 1.0, tmp_path / "published")
    page = status(tmp_path / "here", tmp_path / "published", {"train@digits": "records/train@digits.ipynb"})
    assert "`aaaa`" in page and "bbbb" not in page and "[train@digits](records/train@digits.ipynb)" in page
    assert "| published | 1 | `cccc` |" in page


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
        '<a href="gone.html">gone</a><a href="#nowhere">here</a><div style="width: 900px">wide</div>'
        '<span class="math">\\(x\\)</span>'
        '<figure class="study-figure" id="empty" data-drawn="true"><div class="study-chart"><svg></svg></div></figure>'
        '<img src="https://example.org/picture.png"><script>console.error("complaint"); undefinedName()</script>'
        '<b id="same"></b><b id="same"></b><table border="1"><tr><td>1</td></tr></table>'
        "<style>button { outline: none }</style>"
        "<label>Two <input> <select></select></label><button></button><p style='color: #eee'>faint</p></i>"
    )
    told = "\n".join([*look.faults_of_views(browser, tmp_path / "bad.html"), *look.broken_links(tmp_path)])
    for fault in (
        "gone.html leads nowhere",
        "#nowhere leads nowhere",
        "pixels wide on a screen of 375",
        "not typeset",
        "empty: no marks drawn",
        "empty: no alternative text",
        "empty: no caption",
        "empty: the caption does not say on how many examples",
        'empty: "" for download',
        "outside request: https://example.org",
        "console: complaint",
        "script error",
        "the name same stands twice",
        "obsolete attribute",
        "style in the body",
        "a label of two controls",
        "a picture without words",
        "for access, button-name",
        "(375 px, dark): serious for access, color-contrast",
        "the keyboard's place cannot be seen: <button>",
        "Unexpected end tag (i)",
    ):
        assert fault in told, told


def test_a_page_without_a_stop_for_the_keyboard_is_a_fault(browser, tmp_path):
    (tmp_path / "still.html").write_text("<p>Nothing to press.</p>")
    with look.opened(browser, look.PHONE) as (page, _):
        page.goto((tmp_path / "still.html").as_uri())
        assert look.faults_of_keyboard(page) == ["nothing can be reached by keyboard"]


def test_too_many_bytes_are_a_fault(browser, tmp_path, monkeypatch):
    (tmp_path / "index.html").write_text('<!DOCTYPE html><title>x</title><script src="large.js"></script>')
    (tmp_path / "large.js").write_text("// " + "x" * 5_000)
    assert look.faults_of_whole(browser, tmp_path) == []
    monkeypatch.setattr(look, "MOST_BYTES", 6_000)
    monkeypatch.setattr(look, "MOST_BYTES_AT_FIRST", 5_000)
    (tmp_path / "large.csv").write_text("1\n" * 1_000)
    told = look.faults_of_whole(browser, tmp_path)
    assert len(told) == 2 and "the site has" in told[0] and "the first page loads" in told[1]
