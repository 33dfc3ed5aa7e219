"""Figures of the book: one theme, one record, one way to show them.

A figure is an Altair chart together with the table it was drawn from, a caption and a text for those who cannot
see it. `show(figure)` as the last line of a cell puts the interactive chart on the page and, when a notebook is
being executed, writes `<name>.png`, `<name>.svg` and `<name>.csv` for download. The same figure always gives the
same bytes.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import vl_convert
from PIL import Image

MAX_ROWS = 5_000
WIDTH, HEIGHT = 620, 340

# Okabe and Ito (2008), without yellow, which is invisible on white, and with grey for "everything else".
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY, BLACK = "#E69F00", "#56B4E9", "#707070", "#000000"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, BLACK)

# The converter carries Liberation Sans inside itself, so pictures do not depend on the fonts of the machine.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
# The attributes of a drawing that hold places and sizes.
PLACED = ("d", "transform", "x", "x1", "x2", "y", "y1", "y2", "cx", "cy", "r", "width", "height")
VEGALITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


@alt.theme.register("study", enable=False)
def theme() -> alt.theme.ThemeConfig:
    """The look of every chart: white ground, colours that colour-blind readers can tell apart, legible axes."""
    lines, text, faint = "#555555", "#222222", "#e6e6e6"
    titles = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    return {
        "config": {
            "background": "white",
            "font": FONT,
            "view": {"continuousWidth": WIDTH, "continuousHeight": HEIGHT, "step": 24, "stroke": None},
            "axis": {
                **titles,
                "titlePadding": 8,
                "labelFlush": False,
                "labelSeparation": 6,
                "gridColor": faint,
                "domainColor": lines,
                "tickColor": lines,
                "labelColor": text,
                "titleColor": text,
            },
            "header": titles,
            "legend": {**titles, "labelLimit": 260, "titleLimit": 260},
            "title": {"fontSize": 14, "fontWeight": "normal", "anchor": "start", "offset": 10},
            "range": {
                "category": list(PALETTE),
                "heatmap": {"scheme": "viridis"},
                "ramp": {"scheme": "viridis"},
                "diverging": {"scheme": "blueorange"},
            },
            "mark": {"color": BLUE},
            "line": {"strokeWidth": 2},
            "point": {"size": 40, "filled": True},
            "rule": {"color": GREY},
            "errorbar": {"color": GREY},
        }
    }


@dataclass(frozen=True)
class Figure:
    """A chart with all that a reader needs besides it.

    `table` has one row a mark, or the rows the marks were counted from: it is the CSV offered for download.
    `caption` may contain formulas as \\( ... \\), and ends with what the figure rests on, see `resting_on`.
    Raises ValueError if the name is no file name, the caption or the alt text is empty, or the table exceeds
    5,000 rows.
    """

    name: str
    chart: alt.TopLevelMixin
    table: pd.DataFrame
    caption: str
    alt: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"figure name {self.name!r}: use lower-case letters, digits and underscores")
        for field in ("caption", "alt"):
            if not getattr(self, field).strip():
                raise ValueError(f"figure {self.name!r} has an empty {field}")
        if len(self.table) > MAX_ROWS:
            raise ValueError(
                f"figure {self.name!r}: its table has {len(self.table):,} rows, at most {MAX_ROWS:,} "
                "are shown; draw a summary or a stated sample"
            )

    def resting_on(self, basis: str) -> Figure:
        """The figure with ``basis`` as the end of its caption: examples, trials, repeats, and what its bars or bands are."""
        return replace(self, caption=f"{self.caption} {basis}")


def show(figure: Figure) -> None:
    """Displays the figure in the running notebook; writes its PNG, SVG and CSV into the folder `$STUDY_FIGURES`.

    Without that variable (a notebook opened by hand) nothing is written and no download is offered.
    """
    from IPython.display import display

    spec = specification(figure)
    png = raster(spec)
    folder = os.environ.get("STUDY_FIGURES")
    links = os.environ.get("STUDY_FIGURE_LINKS", folder)
    if folder:
        save(figure, spec, png, Path(folder))
    display(
        {
            "text/html": markup(figure, spec, png, links, os.environ.get("STUDY_RERUN", "")),
            "image/png": base64.b64encode(png).decode("ascii"),
            "text/plain": figure.alt,
        },
        raw=True,
    )


def specification(figure: Figure) -> dict:
    """The Vega-Lite specification under the book's theme, the same however many charts were made before it."""
    with alt.theme.enable("study"):
        spec = figure.chart.to_dict()
    spec.pop("$schema", None)
    return {**spec, "datasets": dict(sorted(spec.get("datasets", {}).items()))}


def raster(spec: dict) -> bytes:
    """The chart as PNG at twice its size on screen, in 256 colours: the converter leaves it ten times as large."""
    drawn = vl_convert.vegalite_to_png(spec, vl_version=VEGALITE, scale=2, allowed_base_urls=[])
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    return _png(image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def drawing(spec: dict, title: str) -> str:
    """The chart as SVG that carries its alternative text as a title; less than half of what the converter writes.

    The converter tells the data again in words at every mark, and places marks to a trillionth of a pixel; a
    hundredth is finer than any screen.
    """
    svg = _renumbered(vl_convert.vegalite_to_svg(spec, vl_version=VEGALITE, allowed_base_urls=[]))
    svg = re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", svg)
    svg = re.sub(rf' (?:{"|".join(PLACED)})="[^"]*"', _rounded, svg)
    return re.sub(r"^<svg[^>]*>", lambda head: f"{head[0]}<title>{html.escape(title)}</title>", svg)


def save(figure: Figure, spec: dict, png: bytes, folder: Path) -> None:
    """Writes `<name>.png`, `<name>.svg` and `<name>.csv` into the folder, each in one step."""
    svg = drawing(spec, figure.alt)
    table = figure.table.to_csv(index=False, lineterminator="\n")
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".png", png), (".svg", svg.encode()), (".csv", table.encode())):
        part = folder / f".{figure.name}{suffix}.part"
        part.write_bytes(content)
        os.replace(part, folder / f"{figure.name}{suffix}")


def markup(figure: Figure, spec: dict, png: bytes, links: str | None, rerun: str) -> str:
    """The HTML of a figure: chart, caption, downloads and the command that draws it from other numbers.

    `links` is the folder of its files as seen from the page. Until the script `study.js` has drawn the chart,
    and where scripts do not run, its still picture stands in its place.
    """
    caption, alternative = html.escape(figure.caption), html.escape(figure.alt, quote=True)
    payload = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="study-figure" id="figure-{figure.name.replace("_", "-")}">\n'
        f'<div class="study-chart" role="img" aria-label="{alternative}">{_still(figure, png, links)}</div>\n'
        f'<script type="application/json" class="study-spec">{payload}</script>\n'
        f'<figcaption><p class="mathjax_process">{caption}</p>{_downloads(figure, links)}{_rerun(rerun)}'
        "</figcaption>\n</figure>"
    )


def picture(pixels: np.ndarray, zoom: int = 1) -> str:
    """A grey (h, w) or coloured (h, w, 3) picture with values in [0, 1] as a `data:` address for `mark_image`.

    0 is black; give `1 - pixels` for dark ink on white. `zoom` repeats each pixel: small pictures stay crisp.
    """
    grid = np.rint(np.clip(np.asarray(pixels, dtype=float), 0, 1) * 255).astype(np.uint8)
    grid = grid.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return "data:image/png;base64," + base64.b64encode(_png(Image.fromarray(grid))).decode("ascii")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _rounded(attribute: re.Match) -> str:
    if "scale" in attribute[0] or "matrix" in attribute[0]:  # factors, of which a hundredth may be all there is
        return attribute[0]
    return re.sub(r"\d+\.\d{3,}(?!\d*e)", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])


def _renumbered(svg: str) -> str:
    """The converter numbers clips and gradients through the whole process; here they count from 1 in each drawing."""
    seen: dict[str, str] = {}

    def renamed(match: re.Match) -> str:
        return match[1] + seen.setdefault(match[2], f"part{len(seen) + 1}") + match[3]

    return re.sub(r'(id="|url\(#)((?:clip|gradient_)\d+)("|\))', renamed, svg)


def _still(figure: Figure, png: bytes, links: str | None) -> str:
    if not links:
        return ""
    width, height = (side // 2 for side in Image.open(io.BytesIO(png)).size)
    return f'<img src="{links}/{figure.name}.svg" alt="" width="{width}" height="{height}" loading="lazy">'


def _downloads(figure: Figure, links: str | None) -> str:
    if not links:
        return ""
    anchors = (f'<a href="{links}/{figure.name}.{kind}" download>{kind.upper()}</a>' for kind in ("png", "svg", "csv"))
    return f'<p class="study-downloads">Download: {" · ".join(anchors)}</p>'


def _rerun(command: str) -> str:
    if not command:
        return ""
    preview = _preview(command)
    quick = f"<p>or, for a preview of this page alone in <code>.preview/</code>:</p><pre>{preview}</pre>" if preview else ""
    return (
        "<details><summary>Draw it from other numbers</summary>"
        "<p>Change a value and run, from the root of the repository:</p>"
        f"<pre>{html.escape(command)}</pre>{quick}</details>"
    )


def _preview(command: str) -> str:
    """The command that runs the chapter by itself with the first of its parameters; empty if it has none."""
    for setting in shlex.split(command.replace("\\\n", " ")):
        if found := re.fullmatch(r"chapters\.(\w+)\.(\w+=.*)", setting, re.DOTALL):
            return html.escape(f"python -m study chapter {found[1]} --set {shlex.quote(found[2])}")
    return ""
