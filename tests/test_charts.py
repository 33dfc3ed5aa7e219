"""Figures: what they demand of their author, and that the same figure is always the same bytes."""

import base64
import html
import io
import json
import re

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from PIL import Image

from study import charts

TABLE = pd.DataFrame({"fraction": [0.0, 0.1, 0.2], "accuracy": [97.0, 96.5, 95.0]})


def line() -> alt.Chart:
    return alt.Chart(TABLE).mark_line().encode(x="fraction:Q", y="accuracy:Q").interactive()


def figure(**changes) -> charts.Figure:
    fields = {"name": "removal", "chart": line(), "table": TABLE, "caption": "Falls.", "alt": "A falling line."}
    return charts.Figure(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption": " "}, "empty caption"),
        ({"alt": ""}, "empty alt"),
        ({"name": "Two words"}, "figure name"),
        ({"name": "../up"}, "figure name"),
        ({"table": pd.DataFrame({"x": range(5_001)})}, "5,001 rows, at most 5,000"),
    ],
)
def test_a_figure_without_words_or_with_too_many_rows_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        figure(**changes)


def test_a_table_of_five_thousand_rows_is_allowed():
    assert len(figure(table=pd.DataFrame({"x": range(5_000)})).table) == charts.MAX_ROWS


def linked() -> alt.HConcatChart:
    brush = alt.selection_interval()
    return line() | alt.Chart(TABLE).mark_point().encode(x="fraction:Q", y="accuracy:Q").add_params(brush)


def test_the_specification_does_not_depend_on_charts_made_before():
    first = charts.specification(figure(chart=linked()))
    for _ in range(3):
        linked().to_dict()
    assert json.dumps(charts.specification(figure(chart=linked()))) == json.dumps(first)


def test_pictures_and_table_have_the_same_bytes_each_time(tmp_path):
    for folder in ("first", "second"):
        made = figure()
        spec = charts.specification(made)
        charts.save(made, spec, charts.raster(spec), tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == ["removal.csv", "removal.png", "removal.svg"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_table_can_be_read_back_from_the_csv(tmp_path):
    made = figure()
    charts.save(made, charts.specification(made), b"", tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "removal.csv"), TABLE)


def test_a_still_picture_stands_on_white_at_twice_the_size_of_the_screen():
    image = Image.open(io.BytesIO(charts.raster(charts.specification(figure()))))
    assert image.size[0] > 2 * charts.WIDTH and image.size[1] > 2 * charts.HEIGHT
    assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


def test_the_interactive_chart_and_the_still_one_come_from_the_same_release():
    assert charts.VEGALITE in vl_convert.get_vegalite_versions()
    assert f"v{charts.VEGALITE}." in alt.SCHEMA_VERSION


def test_neighbouring_colours_differ_in_lightness_or_on_the_blue_yellow_axis():
    """Red-green blindness leaves lightness and blue against yellow; each pair of colours needs one of the two."""
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in charts.PALETTE])
    red, green, blue = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).T
    lightness = np.cbrt(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    yellow = np.cbrt(0.2126 * red + 0.7152 * green + 0.0722 * blue) - np.cbrt(blue)
    seen = np.stack([lightness, yellow], axis=1)
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + np.eye(len(seen))
    assert apart.min() > 0.05


def test_the_page_gets_chart_words_downloads_and_command():
    made = figure(caption="a < b & c", alt='the "tail"')
    spec = charts.specification(made)
    page = charts.markup(made, spec, charts.raster(spec), "../_static/figures/x", "dvc exp run \\\n  -S 'a=\"b\"'")
    assert "a &lt; b &amp; c" in page and 'aria-label="the &quot;tail&quot;"' in page
    for kind in ("png", "svg", "csv"):
        assert f'href="../_static/figures/x/removal.{kind}" download' in page
    assert "-S &#x27;a=&quot;b&quot;&#x27;" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_the_preview_command_sets_one_value_of_the_chapter_as_it_is_typed():
    command = "dvc exp run \\\n  -S 'chapters.x.label=\"a b\"' \\\n  -S chapters.x.t=0.3"
    page = html.unescape(charts.markup(figure(), {}, b"", None, command))
    assert """python -m study chapter x --set 'label="a b"'""" in page
    assert "python -m study chapter" not in charts.markup(figure(), {}, b"", None, "dvc exp run")


def test_a_drawing_says_what_it_shows_and_keeps_its_places_to_a_hundredth():
    told = charts.drawing(charts.specification(figure()), 'the "tail" < 1')
    assert "<title>the &quot;tail&quot; &lt; 1</title>" in told and "aria-" not in told
    places = re.findall(r'<path d="([^"]+)"', told)
    assert max(len(number) for place in places for number in re.findall(r"\.(\d+)", place)) <= 2


@pytest.mark.parametrize(
    ("attribute", "rounded"),
    [
        (' d="M1.23456,-0.0051L2.5,3.14159"', ' d="M1.23,-0.01L2.5,3.14"'),
        (' transform="translate(10.99999,2)"', ' transform="translate(11,2)"'),
        (' transform="scale(0.00123)"', ' transform="scale(0.00123)"'),
        (' d="M1.5e-14,2"', ' d="M1.5e-14,2"'),
    ],
)
def test_places_are_rounded_and_factors_are_not(attribute, rounded):
    assert re.sub(r".+", charts._rounded, attribute) == rounded


def test_data_cannot_end_the_script_that_holds_them():
    table = pd.DataFrame({"label": ["</script><b>"], "count": [1]})
    made = figure(chart=alt.Chart(table).mark_bar().encode(x="label:N", y="count:Q"), table=table)
    page = charts.markup(made, charts.specification(made), b"", None, "")
    held = re.search(r'class="study-spec">(.*?)</script>', page, re.DOTALL)[1]
    assert next(iter(json.loads(held)["datasets"].values()))[0]["label"] == "</script><b>"


def test_without_a_folder_nothing_is_written_and_nothing_offered(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    monkeypatch.delenv("STUDY_FIGURES", raising=False)
    monkeypatch.chdir(tmp_path)
    charts.show(figure())
    assert not list(tmp_path.iterdir())
    assert "download" not in shown[0]["text/html"] and shown[0]["text/plain"] == "A falling line."
    assert base64.b64decode(shown[0]["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(8, 8), (5, 7, 3)])
def test_a_picture_keeps_its_pixels(shape):
    pixels = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    address = charts.picture(pixels, zoom=3)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,")))))
    assert image.shape == (shape[0] * 3, shape[1] * 3, *shape[2:])
    np.testing.assert_allclose(image[1::3, 1::3] / 255, pixels, atol=0.5 / 255 + 1e-12)
