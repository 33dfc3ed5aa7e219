"""The whole book as one PDF for print: the site's own pages, joined, numbered and printed by Chromium.

`build` takes the HTML of the site, so that the two cannot differ, and changes what paper cannot show: charts become
their drawings, what answers to a mouse becomes a note, figures and tables are numbered through the whole document, links
between pages become links within it, and a title page and a table of contents with page numbers go in front. The
executed stage notebooks are left out, and the title page says so.

Nothing may be lost on the way: a chart without drawing, a formula that was not typeset, or anything wider than the
paper is an error that names it. The drawings leave as much room for their labels as these need in Liberation Sans; where
Chromium has not got that font, it would cut them off, so the charts go in as pictures, and the title page says so.
"""

from __future__ import annotations

import html as markup
import logging
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urldefrag

import vl_convert
import yaml
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, ByteStringObject

from study.notebooks import write_text

INTERACTIVE = {
    ".study-explorer": "On the site an explorer of single examples stands here.",
    ".study-calculator": "On the site a calculator with sliders stands here.",
}
ONLY_ON_SCREEN = (
    "script, button, source, .headerlink, .toctree-wrapper, .study-figure details, .study-downloads, "
    ".study-figure figcaption > p:not(:first-child, .study-origin)"
)
PAPER = {"format": "A4", "margin": {"top": "22mm", "bottom": "20mm", "left": "20mm", "right": "20mm"}}
PRINTED_WIDTH = 642  # CSS pixels between the margins: 170 of A4's 210 millimetres at 96 pixels an inch
SMALLEST_TABLE = 0.55  # of its size, which is 8.5 points; below that nobody reads it
DOTS_A_PIXEL = 2  # 225 dots an inch at the size of print.css
PATIENCE = 600_000  # milliseconds until a page that does not load is given up; a busy machine takes a minute
TAG_NAME = re.compile(rb"\(node(\d{8})\)")  # of a cell of a table in the tags of a PDF
BLANK = "000"  # stands for a page number that is not known yet


class SupplementFailed(ValueError):
    """The PDF could not be made whole; the message names what would be lost."""


@dataclass(frozen=True)
class Edition:
    """What the title page and the file's metadata say: `version` and `made`, the time of the commit it was made from."""

    title: str
    version: str
    made: datetime


def build(book: Path, edition: Edition, out: Path) -> Path:
    """Prints the book's site (`book/_build/html`) into `out` and returns it.

    Raises SupplementFailed if there is no site or no Chromium, or if something would be lost on paper.
    """
    site = book / "_build" / "html"
    pages = [site / f"{name}.html" for name in contents(book / "_toc.yml")]
    if missing := [str(page) for page in pages if not page.is_file()]:
        raise SupplementFailed(f"the site is not built, or not completely: no {', '.join(missing)}; run `make book`")
    with tempfile.TemporaryDirectory() as folder:
        joined, raw = Path(folder) / "book.html", Path(folder) / "raw.pdf"
        with chromium() as page:
            pictures = None if page.evaluate(HAS_FONT) else Path(folder)
            write_text(joined, document(pages, site, book / "print.css", edition, pictures))
            printed(page, joined, edition, raw)
        _finished(raw, edition, out)
    return out


def contents(toc: Path) -> list[str]:
    """The pages of a table of contents in reading order, without those it finds by a pattern (the executed stages)."""

    def walk(node) -> Iterator[str]:
        if isinstance(node, list):
            for part in node:
                yield from walk(part)
        elif isinstance(node, dict):
            yield from (str(node[key]) for key in ("root", "file") if key in node)
            for key in ("parts", "chapters", "sections"):
                yield from walk(node.get(key))

    return list(walk(yaml.safe_load(toc.read_text())))


# ----------------------------------------------------------------------------------------------------------------------
# From the pages of the site to one document


def document(pages: list[Path], site: Path, style: Path, edition: Edition, pictures: Path | None = None) -> str:
    """One HTML document of all pages, with title page and a table of contents whose page numbers are still blank.

    If `pictures` is a folder, the charts' drawings are made into pictures there.
    """
    names = {page.resolve(): page.relative_to(site).with_suffix("").as_posix() for page in pages}
    articles = [article(page, site, names) for page in pages]
    joined = BeautifulSoup("".join(str(one) for one in articles), "html.parser")
    number_figures(joined)
    number_tables(joined)
    if pictures:
        draw_pictures(joined, pictures)
    return "\n".join(
        [
            '<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">',
            f"<title>{markup.escape(edition.title)}</title>",
            f'<link rel="stylesheet" href="{(site / "_static/pygments.css").resolve().as_uri()}">',
            f"<style>{style.read_text()}</style>",
            _formulas(pages, site),
            f"</head><body>{_title_page(joined, edition, bool(pictures))}{_contents_page(joined)}",
            f"<main>{joined}</main></body></html>",
        ]
    )


def _formulas(pages: list[Path], site: Path) -> str:
    """MathJax as the pages themselves set it up."""
    scripts = (script for page in pages for script in _soup(page).find_all("script"))
    setup = next((str(script) for script in scripts if "window.MathJax" in (script.string or "")), "")
    return f'{setup}<script src="{(site / "_static/mathjax.js").resolve().as_uri()}"></script>'


def _soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(), "html.parser")


def article(page: Path, site: Path, names: dict[Path, str]) -> Tag:
    """The text of one page as a part of the document; `names` are the pages that links may lead to."""
    found = _soup(page).select_one("article.bd-article")
    if found is None:
        raise SupplementFailed(f"{page} has no <article class=bd-article>: the theme of the site has changed")
    name = names[page.resolve()]
    _still_figures(found, page)
    _for_paper(found)
    for node in found.find_all(id=True):
        node["id"] = _anchor(name, node["id"])
    for link in found.find_all("a", href=True):
        _redirect(link, page, names)
    for image in found.find_all("img"):
        _embed_path(image, page)
    found.name, found["id"], found["class"] = "article", _anchor(name), ["page"]
    return found


def _still_figures(article: Tag, page: Path) -> None:
    """Charts keep their drawing and the first paragraph of their caption."""
    for figure in article.select("figure.study-figure"):
        drawing, caption = figure.select_one(".study-chart img"), figure.select_one("figcaption > p")
        if drawing is None or caption is None:
            raise SupplementFailed(f"{page}: figure {figure.get('id')} has no drawing or no caption; run its chapter again")
        chart = figure.select_one(".study-chart")
        drawing["alt"] = chart.get("aria-label", "")
        chart.replace_with(drawing.extract())


def _for_paper(article: Tag) -> None:
    for node in article.select(ONLY_ON_SCREEN):
        node.decompose()
    for selector, note in INTERACTIVE.items():
        for node in article.select(selector):
            note_tag = BeautifulSoup(f'<p class="left-out">{note}</p>', "html.parser")
            node.replace_with(note_tag)
    for node in article.find_all("details"):
        node["open"] = ""


def _anchor(name: str, fragment: str = "") -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", f"{name}--{fragment}" if fragment else name)


def _redirect(link: Tag, page: Path, names: dict[Path, str]) -> None:
    """A link to a page of the document leads into it; one to a file beside the pages loses its address, not its text."""
    address, fragment = urldefrag(link["href"])
    if re.match(r"[a-z]+:", address):
        return
    target = (page.parent / unquote(address)).resolve() if address else page.resolve()
    if target in names:
        link["href"] = f"#{_anchor(names[target], fragment)}"
    else:
        link.unwrap()


def _embed_path(image: Tag, page: Path) -> None:
    if image["src"].startswith("data:"):
        return
    file = Path(posixpath.normpath(page.parent.resolve() / unquote(image["src"])))
    if not file.is_file():
        raise SupplementFailed(f"{page} shows {image['src']}, which does not exist; build the site again")
    image["src"] = file.as_uri()
    image.attrs.pop("loading", None)  # what is loaded only when it comes into view is missing on paper


def number_figures(document: BeautifulSoup) -> None:
    """Each figure's caption begins with `Figure k.`, counted through the document; the site's own numbers go."""
    for number, figure in enumerate(document.find_all("figure"), 1):
        caption = figure.find("figcaption")
        if caption is None:
            raise SupplementFailed(f"a figure has no caption: {figure.get('id') or str(figure)[:80]}")
        for own in caption.select(".caption-number"):
            own.decompose()
        (caption.find("p") or caption).insert(0, _label("Figure", number))


def draw_pictures(document: BeautifulSoup, folder: Path) -> None:
    """Makes every drawing a picture, by the converter that drew it, which has its font inside itself."""
    for number, image in enumerate(document.select("figure img[src$='.svg']"), 1):
        drawing = Path(unquote(image["src"].removeprefix("file://"))).read_text()
        picture = folder / f"figure-{number}.png"
        picture.write_bytes(vl_convert.svg_to_png(drawing, scale=DOTS_A_PIXEL))
        image["src"] = picture.resolve().as_uri()
        image["width"] = str(round(float(re.search(r'width="([0-9.]+)', drawing)[1])))
        image.attrs.pop("height", None)


def number_tables(document: BeautifulSoup) -> None:
    """Each table gets `Table k.` above it, and for a caption its own or the heading that it stands under."""
    for number, table in enumerate(document.find_all("table"), 1):
        caption = table.find("caption")
        if caption is None:
            caption = document.new_tag("caption")
            caption.string = _heading_above(table)
            table.insert(0, caption)
        caption.insert(0, _label("Table", number))
        table["class"] = [*table.get("class", []), "numbered"]


def _heading_above(node: Tag) -> str:
    heading = node.find_previous(["h1", "h2", "h3", "h4"])
    return _unnumbered(heading) if heading else ""


def _unnumbered(heading: Tag) -> str:
    number = heading.select_one(".section-number")
    return heading.get_text().removeprefix(number.get_text() if number else "").strip()


def _label(kind: str, number: int) -> Tag:
    return BeautifulSoup(f'<b class="number">{kind} {number}. </b>', "html.parser").b


def _title_page(document: BeautifulSoup, edition: Edition, pictures: bool) -> str:
    charts = "pictures (the font of the drawings, Liberation Sans, was not there)" if pictures else "drawings"
    figures, listed = len(document.find_all("figure")), len(document.find_all("table"))
    stand_ins = len(document.select(".left-out"))
    return (
        f'<header class="title"><h1>{markup.escape(edition.title)}</h1>'
        f"<p>Version {markup.escape(edition.version)}, {edition.made:%-d %B %Y}</p>"
        f"<p>With {figures} figures and {listed} tables, printed from the pages of the site of the same version. Charts "
        f"stand here as {charts}; {stand_ins} parts that answer to the reader are replaced by a note. Left out are the "
        "executed notebooks of the pipeline's stages and the downloads under the figures, which the site has. A table "
        "without a caption of its own carries the heading it stands under.</p></header>"
    )


def _contents_page(document: BeautifulSoup) -> str:
    lines = []
    for heading in document.select("article.page h1, article.page h2"):
        target = heading.find_parent(id=True)
        lines.append(
            f'<li class="{heading.name}"><a href="#{target["id"]}"><span class="text">{markup.escape(heading.get_text())}'
            f'</span><span class="leader"></span><span class="page-number">{BLANK}</span></a></li>'
        )
    return f'<nav class="contents"><h1>Contents</h1><ol>{"".join(lines)}</ol></nav>'


# ----------------------------------------------------------------------------------------------------------------------
# From the document to paper


@contextmanager
def chromium() -> Iterator[Page]:
    """A page of the system's Chromium as wide as the paper, without network. Raises SupplementFailed if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        raise SupplementFailed("the PDF is printed by Chromium and none is on the PATH; on Debian: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        page = browser.new_context(viewport={"width": PRINTED_WIDTH, "height": 900}, offline=True).new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def printed(page: Page, joined: Path, edition: Edition, out: Path) -> None:
    """Prints twice: the first time tells on which page each heading stands, the second has it in the contents."""
    page.goto(joined.as_uri())
    page.emulate_media(media="print")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate("() => Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")
    page.evaluate(FIT_TABLES, [PRINTED_WIDTH, SMALLEST_TABLE])
    if found := faults(page):
        raise SupplementFailed("the PDF would not be whole:\n" + "\n".join(found))
    _print(page, edition, out)
    numbers = page_numbers(out)
    page.evaluate(FILL_CONTENTS, numbers)
    _print(page, edition, out)
    if page_numbers(out) != numbers:
        raise SupplementFailed("page numbers moved while they were filled in; make .page-number in print.css wider")


def _print(page: Page, edition: Edition, out: Path) -> None:
    style = "width: 100%; margin: 0 20mm; font: 8pt sans-serif; color: #555; display: flex; justify-content: space-between"
    head = f"<span>{markup.escape(edition.title)}</span><span>Version {markup.escape(edition.version)}</span>"
    foot = '<span></span><span><span class="pageNumber"></span> of <span class="totalPages"></span></span>'
    header, footer = (f'<div style="{style}">{content}</div>' for content in (head, foot))
    page.pdf(
        path=out,
        **PAPER,
        display_header_footer=True,
        header_template=header,
        footer_template=footer,
        print_background=True,
        outline=True,
        tagged=True,
    )


def page_numbers(pdf: Path) -> dict[str, int]:
    """The page, counted from 1, of every place in the file that a link leads to."""
    reader = _read(pdf)
    places = reader.named_destinations.items()
    return {name.removeprefix("/"): reader.get_destination_page_number(place) + 1 for name, place in places}


def _read(pdf: Path) -> PdfReader:
    # Chromium counts the objects of a tagged file too low in its trailer, which pypdf mends, but not without a word.
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    return PdfReader(pdf)


def _finished(raw: Path, edition: Edition, out: Path) -> None:
    """The file with its title, and with the time of the commit in place of the time of printing: same book, same bytes."""
    reader = _read(raw)
    writer = PdfWriter(clone_from=reader)
    writer.pdf_header = reader.pdf_header
    made = f"D:{edition.made:%Y%m%d%H%M%S}Z"
    writer.metadata = {
        "/Title": edition.title,
        "/Subject": f"Version {edition.version}",
        "/CreationDate": made,
        "/ModDate": made,
    }
    # Chromium draws the identity of a file at random; a fixed one does no harm, for the title page has the version.
    identity = ByteStringObject(edition.version.encode().ljust(16)[:16])
    writer._ID = ArrayObject([identity, identity])
    written = BytesIO()
    writer.write(written)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(renumbered(written.getvalue()))


def renumbered(pdf: bytes) -> bytes:
    """The file with its tagged cells named 0, 1, ... in their order. Chromium names a cell after the count of nodes it
    had made before, those of its own start included, and that varies; the names keep their length, so no offset moves."""
    names = sorted(set(TAG_NAME.findall(pdf)))
    ranks = {name: b"%08d" % rank for rank, name in enumerate(names)}
    return TAG_NAME.sub(lambda match: b"(node" + ranks[match[1]] + b")", pdf)


HAS_FONT = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const width = (font) => { canvas.font = `40px ${font}`; return canvas.measureText("mmiillWW").width; };
  return ["monospace", "serif"].every((other) => width(`"Liberation Sans", ${other}`) !== width(other));
}"""

FIT_TABLES = """([room, smallest]) => {
  for (const table of document.querySelectorAll("table")) {
    const ratio = room / table.scrollWidth;
    if (ratio < 1) table.style.zoom = Math.max(smallest, ratio * 0.995);
  }
}"""

FILL_CONTENTS = """(numbers) => {
  for (const link of document.querySelectorAll("nav.contents a"))
    link.querySelector(".page-number").textContent = numbers[decodeURIComponent(link.hash.slice(1))];
}"""


def faults(page: Page) -> list[str]:
    """What paper would not show: things wider than it, formulas left as TeX, pictures that did not load."""
    return page.evaluate(FAULTS, PRINTED_WIDTH)


FAULTS = """(room) => {
  const told = (kind, node) => `${kind}: <${node.tagName.toLowerCase()}> ${node.textContent.trim().slice(0, 80)}`;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const place = (node) => node.closest("article")?.id ?? "front";
  const wide = all("main p, main li, main pre, main table, main img, main h1, main h2, main h3, main mjx-container, nav a")
    .filter((node) => node.getBoundingClientRect().right > room + 2 || node.scrollWidth > node.clientWidth + 2
      && ["PRE", "TABLE"].includes(node.tagName))
    .map((node) => `${place(node)}: ${told("wider than the paper", node)}`);
  const raw = all("main .math").filter((node) => !node.querySelector("mjx-container") && !node.closest("mjx-container"))
    .map((node) => `${place(node)}: ${told("formula not typeset", node)}`);
  // MathJax reports bad syntax, and writes commands that it does not know in red.
  const unread = all("[data-mml-node='merror'], mjx-container [fill='red']")
    .map((node) => `${place(node)}: ${told("TeX not understood", node)}`);
  const blank = all("main img").filter((image) => !image.naturalWidth).map((image) => `picture not loaded: ${image.src}`);
  return [...wide, ...raw, ...unread, ...blank];
}"""
