"""The PDF of the book, printed for real: numbered, complete, the same bytes each time, or an error naming what is lost."""

import re
from datetime import UTC, datetime

import pytest
import toy_study
from bs4 import BeautifulSoup
from pypdf import PdfReader

from study import supplement
from study.supplement import Edition, SupplementFailed

EDITION = Edition("A small study", "1.2.0", datetime(2030, 1, 2, 3, 4, tzinfo=UTC))


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "book"
    toy_study.site(folder)
    return folder


@pytest.fixture(scope="module")
def pdf(book):
    return supplement.build(book, EDITION, book.parent / "out" / "book.pdf")


@pytest.fixture(scope="module")
def texts(pdf):
    return [page.extract_text() for page in PdfReader(pdf).pages]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def joined(book) -> BeautifulSoup:
    html = book / "_build" / "html"
    pages = [html / f"{name}.html" for name in supplement.contents(book / "_toc.yml")]
    return BeautifulSoup(supplement.document(pages, html, book / "print.css", EDITION), "html.parser")


def test_pages_come_in_reading_order_without_the_executed_stages(book):
    assert supplement.contents(book / "_toc.yml") == ["index", "chapters/01_sample", "references"]


def test_figures_and_tables_are_numbered_and_titled(texts):
    whole = " ".join(" ".join(texts).split())
    assert "Figure 1. What the chart shows." in whole
    assert "Table 1. The results" in whole
    assert "With 1 figures and 1 tables" in whole


def test_no_character_of_a_long_line_of_code_is_lost(texts):
    assert squeezed(toy_study.CODE) in squeezed("".join(texts))


def test_every_column_of_a_wide_table_is_on_the_page(texts):
    page = squeezed(next(text for text in texts if "Table 1." in text))
    assert [k for k in range(14) if f"column_{k}" not in page or f"{k}.123456" not in page] == []


def test_the_contents_name_the_page_on_which_a_heading_stands(texts):
    lines = re.findall(r"^(.*\S)(?<! of)\s+(\d+)$", texts[1], re.MULTILINE)
    told = {heading: int(number) for heading, number in lines}
    assert told.keys() >= {"The front", "1. A sample", "1.1. The results", "References"}
    assert [heading for heading, number in told.items() if heading not in texts[number - 1]] == []


def test_every_page_has_its_number_and_the_version(texts):
    for number, text in enumerate(texts, 1):
        assert f"{number} of {len(texts)}" in text and "Version 1.2.0" in text


def test_formulas_are_typeset_and_what_answers_to_a_mouse_is_a_note(texts):
    whole = " ".join(texts)
    assert "\\(" not in whole and "\\sum" not in whole
    assert "Move the slider" not in whole and "an explorer of single examples stands here" in whole
    assert "Download" not in whole and "Point at the chart" not in whole
    assert "Drawn by chapter_sample" in whole


def test_links_between_pages_lead_to_places_within_the_file(book, pdf):
    document = joined(book)
    targets = {node["id"] for node in document.find_all(id=True)}
    links = [link["href"] for link in document.find_all("a")]
    assert "#references--id1" in links and "#chapters-01-sample--results" in links
    assert [link for link in links if link.removeprefix("#") not in targets] == []
    assert "the run" in document.get_text() and not [link for link in links if "train" in link]
    assert supplement.page_numbers(pdf).keys() >= {"references--id1", "chapters-01-sample--results"}


def test_the_file_names_its_title_has_an_outline_and_is_tagged(pdf):
    reader = PdfReader(pdf)
    assert reader.metadata.title == "A small study"
    assert reader.metadata.creation_date == EDITION.made
    assert "The front" in [entry.title for entry in reader.outline if not isinstance(entry, list)]
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]


def test_the_same_book_gives_the_same_bytes(book, pdf, tmp_path):
    assert supplement.build(book, EDITION, tmp_path / "again.pdf").read_bytes() == pdf.read_bytes()


def test_how_many_nodes_the_browser_made_before_the_book_leaves_no_trace(pdf):
    written = pdf.read_bytes()
    later = supplement.TAG_NAME.sub(lambda name: b"(node%08d)" % (int(name[1]) + 1), written)
    assert later != written and len(set(supplement.TAG_NAME.findall(written))) >= 14
    assert supplement.renumbered(later) == written


def faulty(book, folder, text: str):
    """A book of one page that holds `text`, with the style and the scripts of `book`."""
    static = folder / "book" / "_build" / "html" / "_static"
    static.mkdir(parents=True)
    for name in ("print.css", "_build/html/_static/mathjax.js", "_build/html/_static/pygments.css"):
        (folder / "book" / name).symlink_to(book / name)
    toy_study.write(folder / "book" / "_toc.yml", "format: jb-book\nroot: index\n")
    toy_study.page(static.parent / "index.html", f"<h1 id='top'>A page</h1>{text}")
    return folder / "book"


def test_all_that_would_be_lost_on_paper_is_named_at_once_and_nothing_is_printed(book, tmp_path):
    text = (
        '<div class="math">\\[\\nocommand{x}\\]</div><div class="math">\\[\\frac{1}\\]</div>'
        '<span class="math">no delimiters</span>'
        f"<table><tr>{'<td>unbreakable</td>' * 60}</tr></table>"
        '<p style="width: 900px">a paragraph too wide</p><p><img src="data:image/png;base64,AAAA"></p>'
    )
    with pytest.raises(SupplementFailed) as failed:
        supplement.build(faulty(book, tmp_path, text), EDITION, tmp_path / "out.pdf")
    told = str(failed.value)
    assert told.count("TeX not understood") == 2
    assert "wider than the paper: <table>" in told and "wider than the paper: <p> a paragraph too wide" in told
    assert "formula not typeset: <span> no delimiters" in told and "picture not loaded: data:image" in told
    assert not (tmp_path / "out.pdf").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<figure class="study-figure" id="bare"><figcaption><p>A chart.</p></figcaption></figure>', "bare has no drawing"),
        ('<figure id="mute"><img src="data:image/png;base64,AAAA"></figure>', "a figure has no caption: index--mute"),
        ('<p><img src="gone.png"></p>', r"gone\.png, which does not exist"),
    ],
)
def test_a_page_that_lacks_something_is_an_error_that_names_it(book, tmp_path, text, fault):
    small = faulty(book, tmp_path, text)
    html = small / "_build" / "html"
    with pytest.raises(SupplementFailed, match=fault):
        supplement.document([html / "index.html"], html, small / "print.css", EDITION)


def test_drawings_become_pictures_where_their_font_is_missing(book, tmp_path):
    document = joined(book)
    supplement.draw_pictures(document, tmp_path)
    image = document.select_one("figure img")
    assert image["src"] == (tmp_path / "figure-1.png").as_uri() and image["width"] == "300"
    assert (tmp_path / "figure-1.png").read_bytes().startswith(b"\x89PNG")


def test_a_site_that_is_not_built_is_named(tmp_path):
    toy_study.write(tmp_path / "book" / "_toc.yml", toy_study.CONTENTS)
    with pytest.raises(SupplementFailed, match=r"01_sample\.html.*run `make book`"):
        supplement.build(tmp_path / "book", EDITION, tmp_path / "out.pdf")


def test_a_missing_browser_is_named_with_the_remedy(book, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupplementFailed, match="apt-get install chromium"):
        supplement.build(book, EDITION, tmp_path / "out.pdf")


def test_a_cell_of_code_is_not_torn_over_two_pages(book, tmp_path):
    code = "\n".join(f"line_{number}" for number in range(12))
    text = f'<div style="height: 850px"></div><div class="cell_input"><pre>{code}</pre></div><p>Its output.</p>'
    small = faulty(book, tmp_path, text)
    printed = supplement.build(small, EDITION, tmp_path / "out.pdf")
    held = [len(re.findall(r"line_\d", page.extract_text())) for page in PdfReader(printed).pages]
    assert sorted(held)[-2:] == [0, 12]


def test_columns_have_the_widths_that_the_page_gives_them_and_names_of_runs_stay_in_one_line(book):
    wide = (
        '<table id="wide"><colgroup><col style="width: 38%"><col style="width: 62%"></colgroup>'
        f"<tr><td>a</td><td><code>{'tables/' * 20}</code></td></tr>"
    )
    runs = "<td>estimate@a long-name of-a-run</td><td>" + "what it reads, " * 40 + "</td>"
    page_of = f'<style>{(book / "print.css").read_text()}</style>{wide}</table><article id="status"><table><tr>{runs}</tr>'
    with supplement.chromium() as page:
        page.set_content(page_of)
        width = "(cell) => cell.getBoundingClientRect().width"
        first = page.eval_on_selector("#wide td", width)
        assert first == pytest.approx(0.38 * page.eval_on_selector("#wide", width), abs=2)
        assert page.eval_on_selector("#wide", width) > 0.9 * supplement.PRINTED_WIDTH
        lines = "(cell) => { const text = new Range(); text.selectNodeContents(cell); return text.getClientRects().length }"
        assert page.eval_on_selector("#status td", lines) == 1 and page.eval_on_selector("#status td:last-child", lines) > 3
