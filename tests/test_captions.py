"""Captions: what is demanded of them, on sentences that tell and on such that leave something out."""

from pathlib import Path

import altair as alt
import captions
import pandas as pd
import pytest

from study import charts

CHAPTERS = sorted((Path(__file__).parents[1] / "notebooks" / "chapters").glob("*.md"))
TOLD = "1,000 digits, 4,000 trials; bars reach two standard errors."
TABLE = pd.DataFrame({"x": [1, 2], "y": [0.5, 0.6], "low": [0.4, 0.5], "high": [0.6, 0.7]})
BASE = alt.Chart(TABLE).encode(x="x:Q")
POINTS = BASE.mark_point().encode(y="y:Q")


def figure(chart: alt.TopLevelMixin = POINTS, caption: str = TOLD) -> charts.Figure:
    return charts.Figure("halves", chart, TABLE, caption, "Two dots.")


def page(made: charts.Figure) -> str:
    spec = charts.specification(made)
    return "<p>Before.</p>" + charts.markup(made, spec, charts.raster(spec), None, "") + "<p>After 7 trials on 9 digits.</p>"


def faults(caption: str, spec: dict | None = None) -> str:
    return "; ".join(captions.untold("halves", caption, spec or {}))


@pytest.mark.parametrize(
    "caption",
    [
        TOLD,
        "Two halves. n = 60,000 digits, t = 4,000 trials.",
        "Means over 10 repeats with n = 700 training digits.",
        "The tail of the digits: 60 tail examples, 100 networks a training.",
        "Wrong signs among 256 points: mean of 3 repeats.",
        "A network through 36 points; one draw.",
        "Pieces of a line. No data are fitted; 20 random networks a width.",
        "Randomised response on a single record (20,000 simulated runs a side).",
        "Six points. Nothing here is random: the influences are exact.",
        "One draw of each; nothing is trained.",
        "Cited, not run here: the published histogram.",
        "Hours of training; computed, not measured.",
    ],
)
def test_a_caption_that_tells_what_it_rests_on_has_no_fault(caption):
    assert not faults(caption)


@pytest.mark.parametrize(
    ("caption", "missing"),
    [
        ("One point a training example.", ("examples", "trials")),
        ("Each of 1,000 digits once.", ("trials",)),
        ("Memorization from t = 4,000 trials.", ("examples",)),
        ("Errors of memorization from t trials. Dashed: 0.25.", ("examples", "trials")),
        ("Share of n examples found. The threshold is 0.25; networks are small.", ("examples", "trials")),
        ("Almost exactly the same, from 4,000 trials.", ("examples",)),
    ],
)
def test_a_caption_without_examples_or_trials_is_told_so(caption, missing):
    found = faults(caption)
    for what in ("examples", "trials"):
        assert (f"on how many {what}" in found) == (what in missing)


@pytest.mark.parametrize(
    "spans",
    [
        BASE.mark_rule().encode(y="low:Q", y2="high:Q"),
        BASE.mark_area(opacity=0.2).encode(y="low:Q", y2="high:Q"),
        alt.Chart(TABLE).mark_rule().encode(y="x:Q", x="low:Q", x2="high:Q"),
    ],
)
def test_bars_and_bands_must_be_explained_wherever_they_stand_in_a_chart(spans):
    silent = "1,000 digits, 4,000 trials."
    for chart in (spans, spans + POINTS, POINTS | (POINTS + spans), (POINTS + spans).facet("x:N")):
        spec = charts.specification(figure(chart))
        assert "what its bars or bands are" in faults(silent, spec)
        assert not faults(TOLD, spec)


@pytest.mark.parametrize(
    "chart",
    [
        POINTS,
        BASE.mark_bar().encode(y="low:Q", x2="high:Q"),  # a histogram
        POINTS + BASE.mark_rule(strokeDash=[4, 4]).encode(y="y:Q"),  # a threshold
        BASE.mark_bar().encode(y="y:Q", y2=alt.datum(0)),
    ],
)
def test_histograms_and_thresholds_are_no_error_bars(chart):
    assert not captions.spans(charts.specification(figure(chart)))


def test_captions_are_read_from_a_page_as_it_is_written():
    made = figure(POINTS + BASE.mark_rule().encode(y="low:Q", y2="high:Q"), "Errors < 0.1, n = 9 & t = 7.")
    (found,) = captions.figures(page(made))
    assert found == ("halves", "Errors < 0.1, n = 9 & t = 7.", charts.specification(made))


def test_faults_of_a_page_name_the_figure_and_records_of_runs_are_left_alone(tmp_path):
    silent = page(figure(caption="One point a training example."))
    for path in (tmp_path / "chapters" / "a.html", tmp_path / "records" / "a.html"):
        path.parent.mkdir()
        path.write_text(silent)
    found = captions.faults_of_captions(tmp_path / "chapters" / "a.html")
    assert len(found) == 2 and all(fault.startswith("halves: ") for fault in found)
    assert captions.faults_of_captions(tmp_path / "records" / "a.html") == []


def test_a_figure_keeps_all_but_its_caption_when_it_is_said_what_it_rests_on():
    told = figure(caption="Two halves.").resting_on("1,000 digits, 4,000 trials.")
    assert told.caption == "Two halves. 1,000 digits, 4,000 trials."
    assert (told.name, told.alt) == ("halves", "Two dots.") and told.table.equals(TABLE)


def test_the_source_of_a_chapter_shows_which_captions_will_tell(tmp_path):
    head = CHAPTERS[0].read_text().split("```")[0]
    chapter = tmp_path / "chapter.md"
    chapter.write_text(f"""{head}```{{code-cell}} ipython3
from study.charts import estimators as figures
from study.charts import random_pictures, show

run = f"n = {{n:,}} digits, t = {{t:,}} trials"
made = figures.split_half(first, second)
show(made)
show(made.resting_on(f"{{run}}."))
show(made.resting_on(f"{{run.name}}."))
show(figures.split_half(first, second).resting_on("Digits: n = {{}}.".format(count)))
show(random_pictures.test_accuracy(runs))
```
""")
    told = {call: faults(caption) for call, caption in captions.drafts(chapter)}
    assert [bool(fault) for fault in told.values()] == [True, False, True, True, False]
    assert "trials" in told["show(made)"] and "examples" in told["show(made)"]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_every_figure_of_a_chapter_is_captioned_with_examples_and_trials(chapter):
    untold = [
        f"{call}: {fault}" for call, caption in captions.drafts(chapter) for fault in faults(caption).split("; ") if fault
    ]
    assert not untold
