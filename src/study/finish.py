"""The last step of the site: pages that are light, that obey the HTML standard, and that say where each figure came from.

Jupyter Book's theme brings two thousand icons to show a dozen, source maps, translations and fonts that nothing uses, and
puts the formula writer on every page; pandas and xarray write markup that the standard gave up. On the whole book this
takes 50 MB to 26 MB, and the first page with all it loads from 4.9 MB to 0.9 MB (measured in November 2026).
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from study import lean
from study.notebooks import write_text

ICON = re.compile(r'(?:"([a-z0-9-]+)"|([a-z0-9]+)):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?')
FORMULA_SCRIPTS = re.compile(
    r"\s*<script>window\.MathJax = .*?</script>\s*<script[^>]*mathjax\.js[^>]*></script>", re.DOTALL
)
DOWNLOADS = re.compile(r'<p class="study-downloads">.*?</p>', re.DOTALL)


class FinishFailed(RuntimeError):
    """A part of the theme is not what this module knows; the message names it."""


def finish(folder: Path, origins: Mapping[str, str]) -> None:
    """Mends every page of the site in place and takes away what no page uses.

    `origins` tells for pages, by their path in the folder, what made their figures (HTML; see `origin`).
    Raises FinishFailed if the theme's icons are not where they were.
    """
    for path in pages(folder):
        name = path.relative_to(folder).as_posix()
        write_text(path, mended(path.read_text(encoding="utf-8"), origins.get(name, "")))
    for path in (folder / "_sources").rglob("*.ipynb"):
        write_text(path, slimmed(path.read_text(encoding="utf-8")))
    for path in (folder / "_static").rglob("*.svg"):
        write_text(path, lean.drawing(path.read_text(encoding="utf-8")))
    clear(folder / "_static", icons_of(folder))


def pages(folder: Path) -> list[Path]:
    """The pages of a site, in order, without the fragments that the theme leaves among its own files."""
    return sorted(path for path in folder.rglob("*.html") if "_static" not in path.relative_to(folder).parts)


def mended(page: str, origin: str = "") -> str:
    """A page that obeys the standard, names its switches, loads the formula writer only for formulas, tells origins."""
    head, separator, body = page.partition("<body")
    styles, body = _without_styles(body)
    for step in (_without_obsolete, _with_names, lean.specifications):
        body = step(body)
    body = DOWNLOADS.sub(lambda match: match[0] + origin, body)
    head = head.replace("</head>", f"{styles}</head>")
    return (head if _has_formulas(body) else FORMULA_SCRIPTS.sub("", head)) + separator + body


def origin(run: str, fingerprint: str, root: str) -> str:
    """What stands beside a figure's downloads: the run that drew it, with its row of the status page, and its parameters."""
    return (
        f'<p class="study-origin">Drawn by <a href="{root}status.html#{anchor(run)}">{html.escape(run)}</a>, '
        f"fingerprint <code>{html.escape(fingerprint[:8])}</code></p>"
    )


def anchor(run: str) -> str:
    """The name of a run's row on the status page."""
    return "run-" + re.sub(r"[^a-z0-9]+", "-", run.lower())


def slimmed(notebook: str) -> str:
    """A notebook for download: a figure is the words that describe it until its own code draws it again.

    Figures stand on the pages, in three formats beside them, and would be a sixth of the site if notebooks had them too.
    """
    content = json.loads(notebook)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"] = {"text/plain": output["data"].get("text/plain", "a figure")}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def icons_of(folder: Path) -> set[str]:
    """The names of icons that any page or script of the site mentions."""
    scripts = [path for path in (folder / "_static").rglob("*.js") if path.name != "fontawesome.js"]
    texts = (path.read_text(encoding="utf-8") for path in [*pages(folder), *scripts])
    return {name for text in texts for name in re.findall(r"\bfa-([a-z0-9-]+)", text)}


def clear(static: Path, icons: set[str]) -> None:
    """Takes source maps, translations, fonts, unused icons and template fragments out of the folder of static files."""
    for path in [*static.rglob("*.map"), *static.glob("*macros.html")]:
        path.unlink()
    for name in ("locales", "vendor"):
        shutil.rmtree(static / name, ignore_errors=True)
    _rewrite(static / "scripts" / "fontawesome.js", lambda script: lean_icons(script, icons))
    _rewrite(static / "styles" / "pydata-sphinx-theme.css", lean_style)


def lean_icons(script: str, used: set[str]) -> str:
    """The icon script with the drawings of the used icons alone, by name or by former name."""

    def kept(entry: re.Match) -> str:
        names = {entry[1] or entry[2], *re.findall(r'"([a-z0-9-]+)"', entry[3])}
        return entry[0] if names & used else ""

    return ICON.sub(kept, script)


def lean_style(style: str) -> str:
    """The theme's style sheet without the fonts and the letters of icons, which its script draws."""
    style = re.sub(r"@font-face\s*\{[^{}]*webfonts[^{}]*\}", "", style)
    return re.sub(r"(?:\.fa-[a-z0-9-]+:{1,2}before,?)+\{[^{}]*\}", "", style)


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    after = re.sub(r"/[*/]# sourceMappingURL=\S+?(?:\s*\*/|$)", "", change(before), flags=re.MULTILINE)
    if len(after) > 0.95 * len(before):
        raise FinishFailed(f"{path} holds no icons to leave out: the theme has changed, and study.finish must follow it")
    write_text(path, after)


def _without_styles(body: str) -> tuple[str, str]:
    """The style elements that outputs brought, once each, for the head; and the body without them."""
    pattern = re.compile(r"<style\b[^>]*>(.*?)</style>\s*", re.DOTALL)
    # pandas repeats three rules at every table: study.css has them once.
    found = dict.fromkeys(match[1] for match in pattern.finditer(body) if ".dataframe tbody tr th" not in match[1])
    return "".join(f"<style>{rules}</style>\n" for rules in found), pattern.sub("", body)


def _without_obsolete(body: str) -> str:
    """Attributes that the standard no longer has; what unfolds is no part of a paragraph; a heading has words."""
    body = body.replace(' autocorrect="off"', "")
    body = re.sub(r"<p>(<details>.*?</details>)</p>", r"\1", body, flags=re.DOTALL)
    attributes = re.compile(r' (?:border|valign|halign|align)="[^"]*"')
    body = re.sub(r"<(?:table|thead|tbody|tr|th|td)\b[^>]*>", lambda tag: attributes.sub("", tag[0]), body)
    return re.sub(r"<th\b([^>]*)>\s*</th>", r"<td\1></td>", body)


def _with_names(body: str) -> str:
    """Says to those who cannot see it what an arrow opens, what the side bar is, and that references are a list."""
    body = re.sub(
        r'(<a class="[^"]*reference internal[^"]*" href="[^"]*">)([^<]*)(</a><details[^>]*><summary)>',
        r'\1\2\3 aria-label="Pages of \2">',
        body,
    )
    side_bar = '<div id="pst-primary-sidebar"'
    body = body.replace(side_bar, f'{side_bar} role="complementary" aria-label="Contents of the book"')
    return body.replace('role="doc-biblioentry"', 'role="listitem"')


def _has_formulas(body: str) -> bool:
    words = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL)
    return re.search(r'class="(?:[^"]* )?math[ "]|\\[(\[]', words) is not None
