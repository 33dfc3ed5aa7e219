"""A real browser over a folder of HTML: what a reader sees, hears and reaches by keyboard, checked page by page.

Every check takes an open page or the folder, and returns the faults it found as sentences; none means sound. Each page is
opened once and then shown at three widths, in light and in dark.
"""

import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import html5lib
from axe_playwright_python.base import AXE_SCRIPT
from captions import faults_of_captions
from html5lib.constants import E as PARSE_ERRORS
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

DESKTOP = {"width": 1440, "height": 900}
TABLET = {"width": 768, "height": 1024}
PHONE = {"width": 375, "height": 800}
VIEWS = tuple((size, scheme) for size in (DESKTOP, TABLET, PHONE) for scheme in ("light", "dark"))
LOCAL = ("file:", "data:", "blob:")

MOST_BYTES, MOST_BYTES_AT_FIRST = 30_000_000, 1_500_000  # of the whole site; of the first page with all it loads
# All rules of axe are put to each page once, on a desk in light. What scrolls differs from one width to the next, and
# colours from one scheme to the other; to compare them takes axe ten seconds on the scorecard, so dark is looked at once.
SCROLLING, COLOURS = ("scrollable-region-focusable",), ("color-contrast",)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium without a window. Raises FileNotFoundError where there is none: no test is passed over."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise FileNotFoundError(
            "the site is tested in Chromium and none is on the PATH; on Debian: apt-get install chromium"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, size: dict[str, int], scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """A fresh page and the list into which all it complains about goes: errors, failed and outside requests."""
    context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on("console", lambda line: complaints.append(f"console: {line.text}") if line.type == "error" else None)
    page.on("requestfailed", lambda request: complaints.append(f"failed request: {request.url}"))
    page.on(
        "request",
        lambda request: complaints.append(f"outside request: {request.url}") if not request.url.startswith(LOCAL) else None,
    )
    yield page, complaints
    context.close()


def pages(folder: Path) -> list[Path]:
    """All pages of a site, in order; the fragments that the theme leaves among its own files are none."""
    return sorted(path for path in folder.rglob("*.html") if "_static" not in path.relative_to(folder).parts)


def visit(page: Page, path: Path) -> None:
    """Opens a page from the file system, waits for its formulas and brings every chart into view until it is drawn.

    A chart that is not drawn in time is left as it is: `faults_of_charts` tells.
    """
    page.goto(path.as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise")
    _see_all_charts(page)


def resize(page: Page, size: dict[str, int], scheme: str) -> None:
    """Shows the open page at another size and in another colour scheme, and waits until its charts fit again."""
    page.emulate_media(color_scheme=scheme)
    if page.viewport_size != size:
        page.set_viewport_size(size)
        page.wait_for_timeout(300)  # the page waits nearly as long, to draw once for all steps of a resize
        _see_all_charts(page)


def _see_all_charts(page: Page) -> None:
    for figure in page.locator(".study-figure:has(.study-spec)").all():
        with suppress(TimeoutError):
            figure.scroll_into_view_if_needed()
            figure.locator("xpath=self::*[@data-drawn='true']").wait_for(state="attached", timeout=30_000)


def faults_of_charts(page: Page) -> list[str]:
    """Figures without marks, caption, downloads or a name for those who cannot see them, or wider than their card."""
    return page.evaluate("""() => [...document.querySelectorAll(".study-figure")].flatMap((figure) => {
        const card = figure.querySelector(".study-chart"), faults = [];
        const still = figure.querySelector(".study-spec") ? null : card.querySelector("img");
        const marks = still?.naturalWidth ?? card.querySelectorAll("svg [class*='role-mark'] > *").length;
        if (!marks) faults.push(`${figure.id}: no marks drawn`);
        const offered = [...figure.querySelectorAll("a[download]")].map((link) => link.textContent).join(" ");
        const record = location.pathname.includes("/records/");  // the run of a stage, whose figures are no files
        if (offered !== "PNG SVG CSV" && !record) faults.push(`${figure.id}: "${offered}" for download`);
        if (!figure.querySelector("figcaption > p")?.textContent.trim()) faults.push(`${figure.id}: no caption`);
        if (!card.getAttribute("aria-label")) faults.push(`${figure.id}: no alternative text`);
        if (card.scrollWidth > card.clientWidth + 1) faults.push(`${figure.id}: wider than its card`);
        if (getComputedStyle(card).backgroundColor !== "rgb(255, 255, 255)") faults.push(`${figure.id}: not on white`);
        return faults;
    })""")


def faults_of_formulas(page: Page) -> list[str]:
    """Formulas that were left as TeX, or that TeX could not read."""
    return page.evaluate("""() => [
        ...[...document.querySelectorAll(".math")].filter((formula) => !formula.querySelector("mjx-container")
            && !formula.closest("mjx-container")).map((formula) => `not typeset: ${formula.textContent}`),
        ...[...document.querySelectorAll("[data-mml-node='merror']")].map((error) => `TeX: ${error.textContent}`),
    ]""")


def faults_of_width(page: Page) -> list[str]:
    """A page that must be scrolled sideways, or that cuts something off which cannot be scrolled to."""
    return page.evaluate("""() => {
        const room = window.innerWidth, width = document.documentElement.scrollWidth;
        const scrolls = (node) => node && node !== document.body
            && (["auto", "scroll"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
        const cut = [...document.querySelectorAll("main a, main p, main h1, main h2, main td, main pre, main img, main svg")]
            .filter((node) => node.getBoundingClientRect().right > room + 1 && !scrolls(node.parentElement)
                && getComputedStyle(node).visibility !== "hidden")
            .map((node) => `cut off at the right: <${node.tagName.toLowerCase()}> ${node.textContent.slice(0, 60)}`);
        return width > room ? [`${width} pixels wide on a screen of ${room}`, ...cut] : cut;
    }""")


def faults_of_structure(page: Page) -> list[str]:
    """What the standard forbids and a parser lets pass: doubled names, obsolete attributes, controls within controls."""
    return page.evaluate("""() => {
        const seen = new Set(), doubled = new Set();
        for (const { id } of document.querySelectorAll("[id]:not(svg [id])")) (seen.has(id) ? doubled : seen).add(id);
        const found = (selector, fault) =>
            [...document.querySelectorAll(selector)].map((node) => `${fault}: ${node.outerHTML.slice(0, 80)}`);
        const headings = [...document.querySelectorAll(".bd-article :is(h1, h2, h3, h4, h5, h6)")];
        const levels = headings.map((node) => Number(node.tagName[1]));
        const skips = levels.filter((level, place) => place && level > levels[place - 1] + 1);
        return [
            ...[...doubled].map((id) => `the name ${id} stands twice`),
            ...found("body style:not(.study-chart style, mjx-container style)", "style in the body"),
            ...found(":is(table, tr, td, th):is([border], [align], [valign], [halign], [bgcolor])", "obsolete attribute"),
            ...found("font, center, big, tt", "obsolete element"),
            ...found("a a, a button, button a, button button, label label", "a control within a control"),
            ...found("label:has(:is(input, select, output) ~ :is(input, select, output))", "a label of two controls"),
            ...found("img:not([alt])", "a picture without words"),
            ...found("[tabindex]:not([tabindex='0'], [tabindex='-1'])", "a forced order of tabs"),
            ...(levels.length && levels.filter((level) => level === 1).length !== 1 ? ["not one main heading"] : []),
            ...skips.map((level) => `a heading of level ${level} skips one`),
        ];
    }""")


def faults_of_access(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe finds serious or critical, by all of its rules or the named ones."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(AXE_SCRIPT)
    # What fades in or out has, half-way, no colour that anybody is to read; and the thousands of marks of a drawing, which
    # its alternative text stands for, would cost axe a minute.
    violations = page.evaluate(
        """async (rules) => {
            document.getAnimations().forEach((fading) => fading.finish());
            const drawings = [...document.querySelectorAll(".study-chart svg, mjx-container > svg")].map((drawing) => {
                const { width, height } = drawing.getBoundingClientRect(), place = document.createElement("span");
                place.style.cssText = `display: inline-block; width: ${width}px; height: ${height}px`;
                drawing.replaceWith(place);
                return [place, drawing];
            });
            const options = { preload: false, resultTypes: ["violations"], ...(rules.length ? { runOnly: rules } : {}) };
            const { violations } = await axe.run(document, options);
            drawings.forEach(([place, drawing]) => place.replaceWith(drawing));
            return violations.flatMap(({ id, impact, nodes }) => nodes.map((node) =>
                ({ id, impact, target: node.target.join(" "), why: node.any[0]?.message ?? "" })));
        }""",
        list(rules),
    )
    severe = [found for found in violations if found["impact"] in ("serious", "critical")]
    return [f"{found['impact']} for access, {found['id']}: {found['target']} {found['why']}" for found in severe]


def faults_of_keyboard(page: Page, most: int = 40) -> list[str]:
    """Walks through the page by the tab key, `most` steps at most: each stop must be on the page and show that it is one."""
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); }")
    faults, stops = [], 0
    for _ in range(most):
        page.keyboard.press("Tab")
        stop = page.evaluate("""() => {
            const node = document.activeElement;
            const marked = [node, ...node.children, ...(node.labels ?? [])].some((part) => {
                const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(part);
                const { width, height, left, right } = part.getBoundingClientRect();
                const drawn = (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none";
                return drawn && width > 0 && height > 0 && right > 0 && left < innerWidth;
            });
            return { body: node === document.body, name: node.outerHTML.slice(0, 90), marked };
        }""")
        if stop["body"]:
            break
        stops += 1
        if not stop["marked"]:
            faults.append(f"the keyboard's place cannot be seen: {stop['name']}")
    return faults if stops else ["nothing can be reached by keyboard"]


def faults_of_markup(path: Path) -> list[str]:
    """Where the page departs from the grammar of HTML."""
    parser = html5lib.HTMLParser()
    parser.parse(path.read_text(encoding="utf-8"))
    return [f"line {line}: {PARSE_ERRORS[code] % names}" for (line, _), code, names in parser.errors]


def faults_of_views(browser: Browser, path: Path, views=VIEWS) -> list[str]:
    """All that is wrong with one page: opened once, then shown at every width in light and in dark, or in `views`."""
    told = [f"{path.name}: {fault}" for fault in (*faults_of_markup(path), *faults_of_captions(path))]
    with opened(browser, DESKTOP, "light") as (page, complaints):
        visit(page, path)
        whole = [*faults_of_structure(page), *faults_of_formulas(page), *faults_of_access(page)]
        told += [f"{path.name}: {fault}" for fault in whole]
        for size, scheme in views:
            resize(page, size, scheme)
            rules = SCROLLING + COLOURS * ((size, scheme) == (PHONE, "dark"))
            found = [*faults_of_width(page), *faults_of_charts(page), *faults_of_access(page, rules)]
            found += faults_of_keyboard(page) if scheme == "light" else []
            told += [f"{path.name} ({size['width']} px, {scheme}): {fault}" for fault in found]
        told += [f"{path.name}: {fault}" for fault in complaints]
    return told


def faults_of_pages(paths: list[Path], views=VIEWS) -> list[str]:
    """All that is wrong with some pages, in a browser of their own."""
    with chromium() as browser:
        return [fault for path in paths for fault in faults_of_views(browser, path, views)]


def faults_of_site(folder: Path, views=VIEWS) -> list[str]:
    """All that is wrong with any page in any of `views`, with the links between pages, and with the weight of the whole.

    A browser a core; each process has pages of all sizes.
    """
    many, paths = os.cpu_count() or 1, sorted(pages(folder), key=lambda path: -path.stat().st_size)
    with ProcessPoolExecutor(many, multiprocessing.get_context("spawn")) as pool:
        seen = pool.map(partial(faults_of_pages, views=views), (paths[start::many] for start in range(many)))
        told = [fault for faults in seen for fault in faults]
    with chromium() as browser:
        return told + faults_of_whole(browser, folder)


def faults_of_whole(browser: Browser, folder: Path) -> list[str]:
    """Broken links, and too many bytes: of the whole site, or of the first page with all that it loads."""
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    first = sum(loaded(browser, folder / "index.html").values())
    faults = broken_links(folder)
    if whole > MOST_BYTES:
        faults.append(f"the site has {whole:,} bytes, more than {MOST_BYTES:,}")
    if first > MOST_BYTES_AT_FIRST:
        faults.append(f"the first page loads {first:,} bytes, more than {MOST_BYTES_AT_FIRST:,}")
    return faults


def loaded(browser: Browser, path: Path) -> dict[Path, int]:
    """The files that a page loads while it is read from top to end, itself among them, with their bytes."""
    with opened(browser, DESKTOP) as (page, _):
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        visit(page, path)
        page.keyboard.press("End")
        page.wait_for_load_state("networkidle")
    files = {Path(unquote(urlparse(url).path)) for url in requests if url.startswith("file:")}
    return {file: file.stat().st_size for file in sorted(files) if file.is_file()}


LOADS = {"a": "href", "link": "href", "img": "src", "script": "src", "source": "srcset"}


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name == LOADS.get(tag) and value]
        self.names |= {value for name, value in attributes if name in ("id", "name") and value}


@cache
def _parsed(path: Path) -> _Links:
    parser = _Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def links(path: Path) -> list[str]:
    """Everything a page links to or loads, as written."""
    return _parsed(path).found


def broken_links(folder: Path) -> list[str]:
    """Links of any page to local files or to places in pages that do not exist, and such files named by style sheets."""
    faults = [
        f"{path.name}: {link} leads nowhere" for path in pages(folder) for link in links(path) if not _leads(path, link)
    ]
    for style in (folder / "_static").rglob("*.css"):
        named = re.findall(r"url\([\"']?([^)\"']+)[\"']?\)", style.read_text(encoding="utf-8"))
        faults += [f"{style.name}: {link} leads nowhere" for link in named if not _leads(style, link)]
    return faults


def _leads(path: Path, link: str) -> bool:
    address, place = urldefrag(link)
    if urlparse(address).scheme:
        return True
    target = path.parent / unquote(address.split("?")[0]) if address else path
    if not place or target.suffix != ".html" or not target.is_file():
        return target.exists()
    return unquote(place) in _parsed(target.resolve()).names


def search(browser: Browser, folder: Path, word: str) -> list[str]:
    """The addresses that the book's search field finds for a word, typed as a reader would."""
    with opened(browser, DESKTOP) as (page, complaints):
        page.goto((folder / "index.html").as_uri())
        page.keyboard.press("Control+k")
        page.keyboard.type(word)
        page.keyboard.press("Enter")
        page.wait_for_function("() => /finished|did not match/.test(document.querySelector('#search-results')?.innerText)")
        found = page.locator("#search-results li a").evaluate_all("anchors => anchors.map((anchor) => anchor.href)")
    assert not complaints, complaints
    return found


def theme_colours(browser: Browser, path: Path) -> dict[str, str]:
    """The colour of the page's ground under each theme that the switch reaches, from a light start."""
    with opened(browser, DESKTOP) as (page, complaints):
        page.goto(path.as_uri())
        seen = {}
        for _ in range(3):
            page.locator(".theme-switch-button:visible").first.click()
            theme = page.evaluate("() => document.documentElement.dataset.theme")
            seen[theme] = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert not complaints, complaints
    return seen


def main(folder: str) -> int:
    """Print all that is wrong with a site; `python tests/browser.py book/_build/html` exits 1 if anything is."""
    site = Path(folder).resolve()
    faults = faults_of_site(site)
    print("\n".join(faults) or f"{folder}: no fault on {len(pages(site))} pages")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
