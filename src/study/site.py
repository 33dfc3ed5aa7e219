"""The book as a folder of plain files: Jupyter Book's pages, and two scripts it would else ask a server for.

`build` writes the computed pages (scorecard, status), lets Jupyter Book render with every warning an error, and
puts the chart library and MathJax beside the pages. The result opens from the file system and loads nothing from
elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import vl_convert
import yaml

from study import claims, tables
from study.charts import VEGALITE
from study.notebooks import run_name, write_text

# SVG output with all TeX extensions in one file: the variant that needs neither fonts nor further scripts, which
# some browsers refuse to load from a parent folder of the file system.
MATHJAX = "static/mathjax/tex-svg-full.js"


FRONT_FIGURE = "_static/figures/case_studies/removal_curve.svg"
FRONT_MARKUP = f"""```{{figure}} {FRONT_FIGURE}
:alt: Test accuracy falls further after removing memorized examples than after removing as many random ones

Test accuracy of fresh networks after removing the most memorized training examples, or as many random ones. Bands: one
standard deviation over networks. Below: share of the training set that remains ({{doc}}`chapters/04_case_studies`).
```"""


class SiteFailed(RuntimeError):
    """Jupyter Book could not build the book, or built it with warnings."""


def build(book: Path = Path("book"), records: Path = Path("records"), published: Path = Path("published/records")) -> Path:
    """Writes the computed pages, renders the book and returns the folder of its HTML.

    `records` holds the run records and executed stage notebooks of this machine, `published` the records of what
    was run elsewhere. `$STUDY_REPOSITORY`, if set, is the address that the repository button leads to.
    Raises SiteFailed if anything in the book gives a warning.
    """
    write_text(book / "scorecard.md", scorecard_page())
    write_text(book / "front.md", front_page(book))
    write_text(book / "status.md", status_markdown(expected_runs(Path("dvc.lock")), records, published))
    copy_executed(records, book / "records")
    return render(book, os.environ.get("STUDY_REPOSITORY"))


def scorecard_page() -> str:
    """The scorecard of `claims.yaml`, judged on the tables of the current folder."""
    scorecard = claims.scorecard_markdown(claims.judge(claims.load()))
    return scorecard if scorecard.startswith("# ") else f"# Scorecard\n\n{scorecard}"


def front_page(book: Path) -> str:
    """What the front page says of the results: the answer in three sentences, one figure, the scorecard's head."""
    summary, removal = tables.load("digits-mlp", "summary"), tables.load("digits-mlp", "removal")
    influencers = removal["influencers"]
    elsewhere = {**influencers["elsewhere_drop"], "value": -influencers["elsewhere_drop"]["value"]}
    answer = (
        f"Of {summary['n']:,} handwritten digits, small networks memorize {summary['memorized']['count']}: being trained on "
        f"one of these raises the chance to get it right by {summary['memorized']['threshold']} or more. Training without "
        f"the {influencers['count']} that influence test examples costs {_points(influencers['drop'])} of test accuracy, "
        f"while as many random digits cost {_points(influencers['random_drop'])}. The tests they influence bear the loss: "
        f"there accuracy falls by {_points(influencers['affected_drop'])}, elsewhere it changes by {_points(elsewhere)}."
    )
    head = claims.readme_head(claims.judge(claims.load()))
    figure = [FRONT_MARKUP] if (book / FRONT_FIGURE).is_file() else []
    return "\n\n".join([answer, *figure, head]) + "\n"


def _points(quantity: dict) -> str:
    return claims.show(quantity["value"], quantity["std_error"], "points")


def render(book: Path, repository: str | None = None) -> Path:
    """Runs Jupyter Book over the folder, from scratch, and adds the scripts; returns the folder of the HTML."""
    html = book / "_build" / "html"
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
    add_scripts(html / "_static")
    return html


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


def expected_runs(lock: Path) -> list[str]:
    """The names of all runs (`stage` or `stage@item`) in the pipeline's lock file, save the making of the site."""
    names = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    return [name for name in names if name != "site"]


def status_markdown(expected: list[str], records: Path, published: Path) -> str:
    """The status page: what ran when, for how long, on what, with which versions; a run without record says so."""
    found = {**_read(published, "published"), **_read(records, "here")}
    names = [*expected, *sorted(found.keys() - set(expected))]
    environments = _environments(found)
    pages = {path.stem: f"[{path.stem}](records/{path.name})" for path in executed_runs(records)}
    rows = [_row(pages.get(name, name), found.get(name), environments) for name in names]
    return "\n".join(
        [
            "# Status",
            "",
            "What was run to make this book. *Here* means on the machine that built these pages; *published* runs took "
            "long and come with the repository.",
            "",
            "| run | started (UTC) | time | where | environment | fingerprint |",
            "|---|---|---:|---|---|---|",
            *rows,
            "",
            "## Environments",
            "",
            *_descriptions(environments),
        ]
    )


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


def _row(name: str, record: dict | None, environments: dict[str, int]) -> str:
    if record is None:
        return f"| {name} | no record | | | | |"
    fingerprint = f"`{record['fingerprint'][:8]}`" if record["fingerprint"] else ""
    return (
        f"| {name} | {record['started_utc']} | {duration(record['seconds'])} | {record['where']} "
        f"| {environments[_environment(record)]} | {fingerprint} |"
    )


def _descriptions(environments: dict[str, int]) -> list[str]:
    if not environments:
        return ["No run has left a record."]
    return [_description(number, *json.loads(environment)) for environment, number in environments.items()]


def _description(number: int, hardware: dict, python: str, versions: dict[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{number}. {hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']:.0f} GiB of memory; "
        f"Python {python}; {listed}."
    )


def duration(seconds: float) -> str:
    """Seconds as a reader says them: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


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
