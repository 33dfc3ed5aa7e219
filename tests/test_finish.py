"""The last step of the site: what it mends, what it leaves out, and what it must leave alone."""

import json

import pytest

from study import finish

PAGE = """<!DOCTYPE html><html><head><title>x</title>
    <script>window.MathJax = {"svg": {}}</script>
    <script defer="defer" src="../_static/mathjax.js"></script>
</head><body>{body}</body></html>"""


def page(body: str) -> str:
    return PAGE.replace("{body}", body)


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ("<p>No formula.</p>", False),
        ('<p class="mathjax_process">A caption without one.</p>', False),
        ('<span class="math notranslate">\\(x\\)</span>', True),
        ('<p class="mathjax_process">At \\(t\\) trials.</p>', True),
        ('<script type="application/json">{"label": "\\\\(x\\\\)"}</script>', False),
    ],
)
def test_the_formula_writer_comes_only_with_formulas(body, needed):
    assert ("mathjax.js" in finish.mended(page(body))) == needed


def test_styles_that_outputs_brought_stand_once_in_the_head_and_those_of_pandas_nowhere():
    brought = "<div><style>.xr-wrap { color: red }</style></div>" * 2
    pandas = "<div><style scoped>\n.dataframe tbody tr th { vertical-align: top }</style></div>"
    head, body = finish.mended(page(brought + pandas)).split("<body")
    assert head.count("<style>.xr-wrap { color: red }</style>") == 1
    assert "dataframe" not in head and "style" not in body


def test_obsolete_attributes_go_and_a_heading_without_words_is_a_cell():
    table = (
        '<table border="1" class="dataframe"><tr style="text-align: right;"><th></th><th valign="top">a</th></tr></table>'
    )
    assert '<table class="dataframe"><tr style="text-align: right;"><td></td><th>a</th></tr></table>' in finish.mended(
        page(table)
    )


def test_the_arrow_beside_a_chapter_is_named_after_it():
    link = '<a class="reference internal" href="4.html">4. Case studies</a><details><summary><i></i></summary></details>'
    assert '<summary aria-label="Pages of 4. Case studies">' in finish.mended(page(link))


def test_under_each_figure_stands_the_run_that_drew_it():
    figures = '<figcaption><p class="study-downloads">Download: PNG</p></figcaption>' * 2
    told = finish.mended(page(figures), finish.origin("chapter_theory", "0123456789abcdef", "../"))
    assert told.count('href="../status.html#run-chapter-theory"') == told.count("<code>01234567</code>") == 2
    assert "status.html" not in finish.mended(page(figures))


def test_a_downloaded_notebook_keeps_text_and_tables_and_describes_its_figures():
    chart = {"data": {"image/png": "AAAA", "text/html": "<figure>", "text/plain": "A line."}}
    table = {"data": {"text/html": "<table>", "text/plain": "a"}}
    cells = [{"cell_type": "markdown", "source": "ℓ"}, {"cell_type": "code", "outputs": [chart, table], "source": "show()"}]
    slim = finish.slimmed(json.dumps({"cells": cells, "nbformat": 4}))
    kept = json.loads(slim)
    assert kept["cells"][1]["outputs"] == [{"data": {"text/plain": "A line."}}, table]
    assert kept["cells"][0] == cells[0] and "ℓ" in slim


def test_what_unfolds_stands_in_no_paragraph():
    told = finish.mended(page("<td><p><details><summary>2</summary><a>x</a></details></p></td><p>other</p>"))
    assert "<td><details><summary>2</summary><a>x</a></details></td><p>other</p>" in told


ICONS = (
    'a={"moon":[384,512,[127769,9214],"f186","M1"],sun:[512,512,[],"f185","M2"],'
    '"sliders":[512,512,["filter"],"f1de",["M3","M4"]]};b=1'
)


def test_icons_are_kept_by_name_or_former_name():
    assert finish.lean_icons(ICONS, {"sun"}) == 'a={sun:[512,512,[],"f185","M2"],};b=1'
    assert '"sliders"' in finish.lean_icons(ICONS, {"filter"}) and "M3" not in finish.lean_icons(ICONS, {"moon"})


def test_the_style_sheet_loses_fonts_and_letters_of_icons_and_nothing_else():
    style = (
        "a{b:c}@font-face{font-family:F;src:url(../webfonts/f.woff2)}.fa-sun:before,.fa-day:before{content:'x'}.fa-lg{d:e}"
    )
    assert finish.lean_style(style) == "a{b:c}.fa-lg{d:e}"


def site(folder, script: str):
    for name, text in {
        "index.html": page('<i class="fa-solid fa-moon"></i>'),
        "_static/scripts/fontawesome.js": script,
        "_static/styles/pydata-sphinx-theme.css": "@font-face{src:url(webfonts/f)}a{b:c}\n/*# sourceMappingURL=x.css.map*/",
        "_static/styles/x.css.map": "{}",
        "_static/locales/de/x.mo": "",
        "_static/vendor/f.woff2": "",
        "_static/webpack-macros.html": "{{ }}",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_what_no_page_uses_is_taken_away(tmp_path):
    site(tmp_path, ICONS)
    finish.finish(tmp_path, {})
    left = sorted(path.relative_to(tmp_path / "_static").as_posix() for path in (tmp_path / "_static").rglob("*.*"))
    assert left == ["scripts/fontawesome.js", "styles/pydata-sphinx-theme.css"]
    assert (tmp_path / "_static/styles/pydata-sphinx-theme.css").read_text().strip() == "a{b:c}"
    assert "M1" in (tmp_path / "_static/scripts/fontawesome.js").read_text()


def test_a_theme_that_holds_its_icons_otherwise_is_an_error(tmp_path):
    site(tmp_path, "icons = load()")
    with pytest.raises(finish.FinishFailed, match=r"fontawesome\.js holds no icons"):
        finish.finish(tmp_path, {})
