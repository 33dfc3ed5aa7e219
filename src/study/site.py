"""The book as a folder of plain files: Jupyter Book's pages, and two scripts it would else ask a server for.

`build` writes the computed pages (scorecard, status), lets Jupyter Book render with every warning an error, and
puts the chart library and MathJax beside the pages. The result opens from the file system and loads nothing from
elsewhere.
"""

from __future__ import annotations

import html
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import nbformat
import vl_convert
import yaml

from study import cards, claims, finish, main_numbers, provenance, runs, tables
from study.charts import VEGALITE, drawing
from study.notebooks import run_name, write_text
from study.times import duration

# SVG output with all TeX extensions in one file: the variant that needs neither fonts nor further scripts, which
# some browsers refuse to load from a parent folder of the file system.
MATHJAX = "static/mathjax/tex-svg-full.js"


# The figure of the first page: the page it is from, its name, and its second drawing for narrow screens.
FRONT_CHAPTER, FRONT_FIGURE = "chapters/04_case_studies", "removal-curve"
FRONT_NARROW, NARROW_WIDTH, LETTERS = "_static/front_narrow.svg", 240, 32


INTRODUCTION = """What was run to make this book: {found} of {names} runs have left a record, and took {time} together.
*Here* means on the machine that built these pages; *published* runs took long and come with the repository. A number under
*machine* stands for a processor and the versions of all that can change a result; they are listed below. The *fingerprint*
covers the parameters: two runs with the same one were asked for the same. *Reads* leads to the runs whose results a run
starts from, down to the training of the models. `dvc repro --force --single-item <run>` makes a run again from what it
reads, `git diff dvc.lock` then tells whether anything came out differently, and `python -m study audit <setting> --trials 0`
trains single models again."""
HEADER = (
    "| run | started (UTC) | time | where | machine | fingerprint | reads |",
    "|---|---|---:|---|---|---|---|",
)


class SiteFailed(RuntimeError):
    """Jupyter Book could not build the book, or built it with warnings."""


def build(book: Path = Path("book"), records: Path = Path("records"), published: Path = Path("published/records")) -> Path:
    """Writes the computed pages, renders the book, finishes its HTML and returns the folder of it.

    `records` holds the run records and executed stage notebooks of this machine, `published` the records of what
    was run elsewhere. `$STUDY_REPOSITORY`, if set, is the address that the repository button leads to.
    Raises SiteFailed if anything in the book gives a warning.
    """
    found, expected = read_records(records, published), runs.load()
    chapters = chapter_pages(book)
    write_text(book / "scorecard.md", scorecard_page(expected, chapters))
    write_text(book / "front.md", front_page(book))
    linked = {path.stem: f"records/{path.name}" for path in executed_runs(records)} | {
        run: f"{page}.ipynb" for page, run in chapters.items()
    }
    write_text(book / "status.md", status_markdown(expected, found, linked))
    write_text(book / "cards.md", cards.cards_page())
    copy_executed(records, book / "records")
    rendered = render(book, os.environ.get("STUDY_REPOSITORY"))
    write_narrow_front(book, rendered)
    numbers = main_numbers.frame(main_numbers.summaries(expected))
    write_text(rendered / main_numbers.CSV, numbers.to_csv(index=False, lineterminator="\n"))
    finish.finish(rendered, origins(chapters, found))
    return rendered


def chapter_pages(book: Path) -> dict[str, str]:
    """The executed chapters: the run that made each, by its page as a path in the book without suffix."""
    found = sorted((book / "chapters").glob("*.ipynb"))
    return {f"chapters/{path.stem}": "chapter_" + re.sub(r"^\d+_", "", path.stem) for path in found}


def origins(chapters: dict[str, str], found: dict[str, dict]) -> dict[str, str]:
    """What stands under the figures of each page; nothing for a chapter without a record."""
    known = {page: (run, found[run]["fingerprint"]) for page, run in chapters.items() if run in found}
    told = {f"{page}.html": finish.origin(*made, "../") for page, made in known.items()}
    first = {"index.html": finish.origin(*known[FRONT_CHAPTER], "")} if FRONT_CHAPTER in known else {}
    return told | first


def scorecard_page(expected: dict[str, runs.Run], chapters: dict[str, str]) -> str:
    """The scorecard of `claims.yaml`, judged on the tables of the current folder, and where each number is from."""
    ledger, pages = claims.load(), {run: page for page, run in chapters.items()}
    scorecard = claims.scorecard_markdown(provenance.with_origins(claims.judge(ledger), ledger, expected, pages))
    return scorecard if scorecard.startswith("# ") else f"# Scorecard\n\n{scorecard}"


def front_page(book: Path) -> str:
    """What the front page says of the results: the answer in three sentences, one figure, numbers, claims."""
    summary, removal = tables.load("digits-mlp", "summary"), tables.load("digits-mlp", "removal")
    head = claims.readme_head(claims.judge(claims.load()))
    figure = front_figure(book)
    shown = [front_markup(figure)] if figure else []
    numbers = main_numbers.markdown(main_numbers.summaries(runs.load()))
    parts = [answer(summary, removal["influencers"]), *shown, "## The main numbers", numbers, "## What was tested", head]
    return "\n\n".join(parts) + "\n"


def answer(summary: dict, influencers: dict) -> str:
    """The three sentences: what is memorized, what it is worth, and to whom."""
    elsewhere = {**influencers["elsewhere_drop"], "value": -influencers["elsewhere_drop"]["value"]}
    sign = "+" if elsewhere["value"] > 0 else ""
    sentences = (
        f"**What?** Of {summary['n']:,} handwritten digits, small networks memorize {summary['memorized']['count']}: having "
        f"been trained on one of these raises the chance to get it right by {summary['memorized']['threshold']} or more.",
        f"**What for?** Networks that never see the {influencers['count']} of them that influence a test example lose "
        f"{_points(influencers['drop'])} of test accuracy, those that miss as many random digits "
        f"{_points(influencers['random_drop'])}.",
        f"**For whom?** On the test examples that they influence accuracy falls by "
        f"{_points(influencers['affected_drop'])}, on all others it changes by {sign}{_points(elsewhere)}.",
    )
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))


def front_figure(book: Path) -> str:
    """The markup of the first page's figure as its chapter shows it; empty as long as that was not run."""
    path = book / f"{FRONT_CHAPTER}.ipynb"
    if not path.is_file():
        return ""
    shown = (output.get("data", {}).get("text/html", "") for cell in _code(path) for output in cell.outputs)
    return next((text for text in shown if f'id="figure-{FRONT_FIGURE}"' in text), "")


def _code(path: Path) -> Iterable[nbformat.NotebookNode]:
    return (cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


def front_markup(figure: str) -> str:
    """The figure with still pictures, one for wide and one for narrow screens: the chart library would double the page."""
    still = re.sub(r'\s*<script type="application/json".*?</script>', "", figure, flags=re.DOTALL)
    still = still.replace('href="../', 'href="').replace('src="../', 'src="').replace(' loading="lazy"', "")
    narrow = f'<picture><source media="(max-width: 576px)" srcset="{FRONT_NARROW}">'
    still = re.sub(r"<img[^>]*>", lambda image: f"{narrow}{image[0]}</picture>", still)
    chapter = f'<p><a href="{FRONT_CHAPTER}.html">The same figure to point at, and the chapter it is from.</a></p>'
    return re.sub(r"\n\s*\n", "\n", still.replace("<details>", f"{chapter}<details>", 1))


def write_narrow_front(book: Path, rendered: Path) -> None:
    """Draws the first page's figure once more at the width of a telephone."""
    held = re.search(r'class="study-spec">(.*?)</script>', front_figure(book), re.DOTALL)
    if held:
        spec = json.loads(held[1])
        spec = narrowed(spec, NARROW_WIDTH / spec["config"]["view"]["continuousWidth"])
        write_text(rendered / FRONT_NARROW, drawing(spec, "The figure of the first page for narrow screens"))


def narrowed(view: dict, ratio: float) -> dict:
    """A copy of a Vega-Lite specification whose views are `ratio` times as wide, with long titles in several lines."""
    copy = {**view}
    if isinstance(copy.get("width"), int | float):
        copy["width"] = round(copy["width"] * ratio)
    for key in ("layer", "concat", "hconcat", "vconcat"):
        if key in copy:
            copy[key] = [narrowed(part, ratio) for part in copy[key]]
    if isinstance(title := copy.get("encoding", {}).get("x", {}).get("title"), str):
        copy["encoding"] = copy["encoding"] | {"x": copy["encoding"]["x"] | {"title": textwrap.wrap(title, LETTERS)}}
    if "config" in copy:
        sizes = copy["config"]["view"]
        copy["config"] = copy["config"] | {"view": sizes | {"continuousWidth": round(sizes["continuousWidth"] * ratio)}}
    return copy


def _points(quantity: dict) -> str:
    return claims.show(quantity["value"], quantity["std_error"], "points").replace(" ± ", "\u00a0±\u00a0")


def render(book: Path, repository: str | None = None) -> Path:
    """Runs Jupyter Book over the folder, from scratch, and adds the scripts; returns the folder of the HTML."""
    rendered = book / "_build" / "html"
    shutil.rmtree(book / "_build", ignore_errors=True)
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(book),
        "--all",
        "-q",
        "--warningiserror",
        "--nitpick",
        "--keep-going",
        "--config",
        str(_configuration(book, repository)),
    ]
    outcome = subprocess.run(command, text=True, capture_output=True)
    if outcome.returncode:
        raise SiteFailed(f"{' '.join(command)}\n{outcome.stdout[-4000:]}\n{outcome.stderr[-8000:]}")
    add_scripts(rendered / "_static")
    return rendered


def add_scripts(folder: Path) -> None:
    """Puts the chart library (Vega, Vega-Lite, vega-embed) and MathJax into the folder, one file each."""
    # The bundle declares hundreds of short names; in a function of its own none of them meets a name of the theme.
    bundle = vl_convert.javascript_bundle(vl_version=VEGALITE)
    write_text(folder / "vega.js", f"(() => {{{bundle}\n}})();\n")
    packaged = [file for file in importlib.metadata.files("sphinx-mathjax-offline") if str(file).endswith(MATHJAX)]
    if not packaged:
        raise SiteFailed(f"the package sphinx-mathjax-offline has no {MATHJAX}")
    shutil.copyfile(packaged[0].locate(), folder / "mathjax.js")


def copy_executed(records: Path, pages: Path) -> None:
    """Makes the executed stage notebooks pages of the book; pages of runs that are gone go too."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for path in executed_runs(records):
        notebook = nbformat.read(path, 4)
        title = notebook.cells[0]
        # One text serves several runs: the run's name in its title tells them apart in the table of contents.
        title.source = re.sub(r"^# .*", rf"\g<0> ({path.stem})", title.source)
        write_text(pages / path.name, nbformat.writes(notebook) + "\n")


def executed_runs(records: Path) -> list[Path]:
    """The executed stage notebooks, without those that are kept because they failed."""
    return [path for path in sorted(records.glob("*.ipynb")) if not path.name.endswith(".failed.ipynb")]


def status_markdown(expected: dict[str, runs.Run], found: dict[str, dict], linked: dict[str, str]) -> str:
    """The status page: what ran when, for how long, on what, with which versions; a run without record says so.

    `expected` are the runs of the pipeline, `found` the records by run, `linked` the page of a run where it has one.
    """
    environments = _environments(found)
    names = [name for name in [*expected, *sorted(found.keys() - expected.keys())] if name != "site"]
    rows = {name: _row(name, found.get(name), environments, linked, _reads(name, expected)) for name in names}
    chapters = [row for name, row in rows.items() if name.startswith("chapter_")]
    stages = [row for name, row in rows.items() if not name.startswith("chapter_")]
    parts = [
        "# Status",
        INTRODUCTION.format(found=len(found.keys() & set(names)), time=_total(found), names=len(names)),
        *("## Chapters", "\n".join([*HEADER, *chapters]), "## Stages", "\n".join([*HEADER, *stages])),
        *("## Machines", "\n".join(_descriptions(environments))),
    ]
    return "\n\n".join(parts) + "\n"


def read_records(records: Path, published: Path) -> dict[str, dict]:
    """The newest word on each run: its record of this machine or else the published one."""
    return {**_read(published, "published"), **_read(records, "here")}


def _total(found: dict[str, dict]) -> str:
    return duration(sum(record["seconds"] for record in found.values()))


def _reads(name: str, expected: dict[str, runs.Run]) -> str:
    """Links to the rows of the runs whose results a run reads; more than two unfold, else they would fill the table."""
    sources = runs.sources(expected[name], expected) if name in expected else []
    listed = ", ".join(f'<a href="#{finish.anchor(source)}">{html.escape(source)}</a>' for source in sources)
    return f"<details><summary>{len(sources)} runs</summary>{listed}</details>" if len(sources) > 2 else listed


def _read(folder: Path, where: str) -> dict[str, dict]:
    records = (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))
    return {run_name(record["stage"], record["item"]): {**record, "where": where} for record in records}


def _environment(record: dict) -> str:
    return json.dumps([record["hardware"], record["python"], record["versions"]], sort_keys=True)


def _environments(found: dict[str, dict]) -> dict[str, int]:
    """Each distinct environment of the records with its number, in order of first use."""
    ordered = sorted(found.values(), key=lambda record: record["started_utc"])
    distinct = dict.fromkeys(_environment(record) for record in ordered)
    return {environment: number for number, environment in enumerate(distinct, 1)}


def _row(name: str, record: dict | None, environments: dict[str, int], linked: dict[str, str], reads: str) -> str:
    title = f"[{name}]({linked[name]})" if name in linked else name
    first = f'| <span id="{finish.anchor(name)}"></span>{title} '
    if record is None:
        return f"{first}| no record | | | | | {reads} |"
    fingerprint = f"`{record['fingerprint'][:8]}`" if record["fingerprint"] else ""
    return (
        f"{first}| {record['started_utc'][:-3]} | {duration(record['seconds'])} | {record['where']} "
        f"| {environments[_environment(record)]} | {fingerprint} | {reads} |"
    )


def _descriptions(environments: dict[str, int]) -> list[str]:
    if not environments:
        return ["No run has left a record."]
    return [_description(number, *json.loads(environment)) for environment, number in environments.items()]


def _description(number: int, hardware: dict, python: str, versions: dict[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    accelerator = f"{hardware['gpu']}, " if "gpu" in hardware else ""
    return (
        f"{number}. {hardware['cpu']}, {hardware['cores']} cores, {accelerator}{hardware['memory_gib']:.0f} GiB of memory; "
        f"Python {python}; {listed}."
    )


def _configuration(book: Path, repository: str | None) -> Path:
    """The book's own configuration, or a copy of it that adds the repository button."""
    own = book / "_config.yml"
    if not repository:
        return own
    settings = yaml.safe_load(own.read_text())
    settings["repository"] = {"url": repository}
    settings["html"]["use_repository_button"] = True
    merged = book / "_build" / "_config.yml"
    merged.parent.mkdir(parents=True, exist_ok=True)
    write_text(merged, yaml.safe_dump(settings))
    return merged
