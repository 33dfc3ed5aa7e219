"""A real browser over a folder of HTML: what a reader sees, checked page by page.

Every check takes an open page and the folder, and returns the faults it found as sentences; none means sound.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 375, "height": 800}
LOCAL = ("file:", "data:", "blob:")


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
    with suppress(TimeoutError):
        for figure in page.locator(".study-figure").all():
            figure.scroll_into_view_if_needed()
            figure.locator("xpath=self::*[@data-drawn='true']").wait_for(state="attached", timeout=20_000)


def faults_of_charts(page: Page) -> list[str]:
    """Figures without marks, without a name for those who cannot see them, or wider than their card."""
    return page.evaluate("""() => [...document.querySelectorAll(".study-figure")].flatMap((figure) => {
        const card = figure.querySelector(".study-chart"), faults = [];
        const marks = card.querySelectorAll("svg [class*='role-mark'] > *").length;
        if (!marks) faults.push(`${figure.id}: no marks drawn`);
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


def faults_of_page(browser: Browser, path: Path, size: dict[str, int], scheme: str) -> list[str]:
    """All that is wrong with one page at one size in one colour scheme."""
    with opened(browser, size, scheme) as (page, complaints):
        visit(page, path)
        found = [*faults_of_charts(page), *faults_of_formulas(page), *faults_of_width(page), *complaints]
    return [f"{path.name} ({size['width']} px, {scheme}): {fault}" for fault in found]


def faults_of_site(browser: Browser, folder: Path) -> list[str]:
    """All that is wrong with any page on a desk in light and on a phone in dark colours, and all broken links."""
    views = ((DESKTOP, "light"), (PHONE, "dark"))
    seen = [faults_of_page(browser, path, size, scheme) for path in pages(folder) for size, scheme in views]
    return [fault for faults in seen for fault in faults] + broken_links(folder)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        wanted = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        self.found += [value for name, value in attributes if name == wanted and value]


def links(path: Path) -> list[str]:
    """Everything a page links to or loads, as written."""
    parser = _Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.found


def broken_links(folder: Path) -> list[str]:
    """Links of any page to local files that do not exist."""
    faults = []
    for path in pages(folder):
        for link in links(path):
            target = unquote(urldefrag(link).url.split("?")[0])
            if target and ":" not in target.split("/")[0] and not (path.parent / target).exists():
                faults.append(f"{path.name}: {link} leads nowhere")
    return faults


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
    with chromium() as browser:
        faults = faults_of_site(browser, Path(folder).resolve())
    print("\n".join(faults) or f"{folder}: no fault on {len(pages(Path(folder)))} pages")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
