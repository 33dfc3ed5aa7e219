"""Lean charts: fewer bytes, the same numbers to six digits, the same picture to the pixel."""

import io
import json

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from study import charts, finish, lean

ROWS = [{"examples": 1, "share": 0.12345678901, "name": "a<b"}, {"examples": 60_000, "share": None, "name": "ä"}]


def packed(spec: dict) -> str:
    return f'<script type="application/json" class="study-spec">{json.dumps(spec)}</script>'


def unpacked(page: str) -> dict:
    return json.loads(lean.SPECIFICATION.search(page)[2])


def test_columns_are_named_once_and_numbers_have_six_digits():
    lean_page = lean.specifications(packed({"mark": "point", "datasets": {"d": ROWS}}))
    held = {"fields": ["examples", "share", "name"], "rows": [[1, 0.123457, "a<b"], [60_000, None, "ä"]]}
    assert unpacked(lean_page) == {"mark": "point", "datasets": {"d": held}}
    assert "a<b" not in lean_page  # in a page it would begin a tag


@pytest.mark.parametrize("rows", [[{"a": 1}, {"b": 2}], [1, 2], "a,b\n1,2"])
def test_data_that_have_no_common_columns_stay_as_they_are(rows):
    assert unpacked(lean.specifications(packed({"datasets": {"d": rows}})))["datasets"] == {"d": rows}


def test_a_specification_without_data_sets_says_the_same():
    assert unpacked(lean.specifications(packed({"mark": "line"}))) == {"mark": "line"}


@pytest.fixture(scope="module")
def scatter() -> str:
    """Overlapping half-transparent marks of two colours with bars, over a grid of boxes: all that `drawing` shares."""
    rng = np.random.default_rng(0)
    points = pd.DataFrame({"x": rng.random(200), "y": rng.random(200), "kind": ["a", "b"] * 100})
    grid = pd.DataFrame({"x": np.repeat(np.arange(10), 10) / 10, "y": np.tile(np.arange(10), 10) / 10})
    cells = alt.Chart(grid).mark_rect(opacity=0.3).encode(x="x:O", y="y:O")
    marks = alt.Chart(points).mark_point(opacity=0.5).encode(x="x", y="y", color="kind")
    bars = alt.Chart(points.head(30)).mark_errorbar().encode(x="x", y=alt.Y("y"), yError="x")
    figure = charts.Figure("scatter", alt.hconcat(marks + bars, cells), points, "A caption.", "Some points.")
    return charts.drawing(charts.specification(figure), figure.alt)


def pixels(svg: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(vl_convert.svg_to_png(svg, scale=2))).convert("RGB"), dtype=int)


def test_a_drawing_is_much_smaller_and_the_same_picture(scatter):
    shared = lean.drawing(scatter)
    assert shared.count("<use ") >= 300 and "#mark1-" in shared and "#mark2-" in shared
    assert len(shared) < 0.65 * len(scatter)
    assert shared.count("<title>Some points.</title>") == 1
    assert np.abs(pixels(shared) - pixels(scatter)).max() <= 2  # a rounding of half-transparent edges
    assert np.abs(pixels(scatter) - 255).max() > 100


def test_what_is_drawn_seldom_is_left_where_it_stands():
    mark = '<path transform="translate(1,2)" d="M0,0h1" fill="red"/>'
    svg = f"<svg><title>x</title>{mark * (lean.OFTEN - 1)}</svg>"
    assert lean.drawing(svg) == svg
    assert lean.drawing(svg.replace(mark, mark * 2, 1)).count("<use ") == lean.OFTEN


def test_the_finished_site_has_lean_pages_and_drawings(tmp_path, scatter):
    static = tmp_path / "_static"
    for name in ("scripts", "styles", "figures"):
        (static / name).mkdir(parents=True)
    (static / "scripts" / "fontawesome.js").write_text('x={"moon":[384,512,[],"f186","M1"]}')
    (static / "styles" / "pydata-sphinx-theme.css").write_text("@font-face { src: url(../vendor/webfonts/a.woff2) }")
    (static / "figures" / "scatter.svg").write_text(scatter)
    (tmp_path / "index.html").write_text(f"<html><head></head><body>{packed({'datasets': {'d': ROWS}})}</body></html>")
    finish.finish(tmp_path, {})
    assert "<use " in (static / "figures" / "scatter.svg").read_text()
    assert unpacked((tmp_path / "index.html").read_text())["datasets"]["d"]["fields"] == ["examples", "share", "name"]
