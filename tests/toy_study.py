"""A study in small, for what is made after the book: a repository, prediction files, tables, and a site of three pages."""

import hashlib
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from study import predictions, tables
from study.data import Data
from study.params import Setting

ROOT = Path(__file__).parents[1]
CODE = "answer = measured(" + ", ".join(f"argument_number_{k}={k}" for k in range(20)) + ")"
SETUP = 'window.MathJax = {"options": {"processHtmlClass": "math"}, "svg": {"fontCache": "global"}}'
CONTENTS = """format: jb-book
root: index
parts:
  - caption: The study
    chapters:
      - file: chapters/01_sample
        sections:
          - glob: records/*
  - caption: The ledger
    chapters:
      - file: references
"""
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="120"><rect width="300" height="120" fill="#0072B2"/>'
    '<text x="20" y="60" font-family="Liberation Sans" font-size="20">an axis title</text></svg>'
)
FIGURE = (
    '<figure class="study-figure" id="figure-line"><div class="study-chart" role="img" aria-label="A blue field.">'
    '<img src="../_static/figures/sample/line.svg" alt="" width="300" height="120" loading="lazy"></div>'
    '<script type="application/json" class="study-spec">{"mark": "line"}</script>'
    '<figcaption><p>What the chart shows.</p><p class="study-downloads">Download: <a href="../x.csv">CSV</a></p>'
    '<p class="study-origin">Drawn by <a href="../status.html#run">chapter_sample</a></p><p>Point at the chart.</p>'
    "</figcaption></figure>"
)
CHAPTER = f"""<section id="sample">
<h1><span class="section-number">1. </span>A sample<a class="headerlink" href="#sample">#</a></h1>
<p>As <a href="../references.html#id1">Feldman 2020</a> says, and <a href="../records/train.html">the run</a> shows,
<span class="math">\\(x^2 \\ge 0\\)</span>.</p>
<div class="math">\\[\\sum_i x_i^2\\]</div>
<div class="highlight"><pre>{CODE}</pre></div>
<section id="results">
<h2><span class="section-number">1.1. </span>The results<a class="headerlink" href="#results">#</a></h2>
{FIGURE}
<table class="dataframe"><tr>{"".join(f"<th>column_{k}</th>" for k in range(14))}</tr>
<tr>{"".join(f"<td>{k}.123456</td>" for k in range(14))}</tr></table>
<div class="study-explorer"><p>Move the slider</p></div></section></section>"""
REFERENCES = (
    '<section id="references"><h1>References</h1><div id="id1"><p>Feldman. A tale about a tail. 2020.</p></div></section>'
)
INDEX = (
    '<section id="front"><h1>The front</h1><p>What is asked. '
    'See <a href="chapters/01_sample.html#results">there</a>.</p></section>'
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def page(path: Path, text: str) -> Path:
    """A page of a site as the theme makes it: scripts in the head, the text in an article."""
    return write(
        path, f'<html><head><script>{SETUP}</script></head><body><article class="bd-article">{text}</article></body></html>'
    )


def site(book: Path) -> Path:
    """A book with its configuration, its print style and a built site of three pages; returns the folder of its HTML."""
    html = book / "_build" / "html"
    write(book / "_config.yml", "title: A small study\n")
    write(book / "_toc.yml", CONTENTS)
    shutil.copyfile(ROOT / "book" / "print.css", book / "print.css")
    page(html / "index.html", INDEX)
    page(html / "chapters" / "01_sample.html", CHAPTER)
    page(html / "references.html", REFERENCES)
    write(html / "_static" / "figures" / "sample" / "line.svg", SVG)
    write(html / "_static" / "pygments.css", "")
    packaged = importlib.metadata.files("sphinx-mathjax-offline")
    script = next(file for file in packaged if str(file).endswith("tex-svg-full.js"))
    shutil.copyfile(script.locate(), html / "_static" / "mathjax.js")
    return html


def results(root: Path, data: Data, settings: dict[str, Setting]) -> None:
    """Prediction files of chance answers, tables, and the pipeline's files that name them."""
    rng = np.random.default_rng(0)
    for name, setting in settings.items():
        correct = (rng.random((setting.trials, width)) < 0.9 for width in (data.n, data.n_test))
        path = root / predictions.path_of(name)
        predictions.write(path, setting, data, np.arange(setting.trials), *correct, np.zeros(setting.trials, bool))
        memorization = pd.DataFrame({"index": np.arange(5), "mem": [0.1, 0.2, 0.3, 0.4, np.nan]})
        memorization.to_parquet(table(root, f"{name}/memorization.parquet"))
        table(root, f"{name}/summary.json").write_text('{"n": 1000, "mean": {"value": 0.1, "std_error": 0.01}}')
    table(root, "fitting/summary.json").write_text('{"repeats": 3}')
    write(
        root / "notebooks/stages/fitting.md",
        "---\nkernelspec: {}\n---\n\n# Fit labels\n\nFits true and random labels.\n\nMore.\n",
    )
    shutil.copyfile(ROOT / "book" / "cards.yaml", root / "book" / "cards.yaml")
    shutil.copyfile(ROOT / "CITATION.cff", root / "CITATION.cff")
    pipeline(root, list(settings))


def table(root: Path, name: str) -> Path:
    path = root / tables.ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def pipeline(root: Path, names: list[str]) -> None:
    """`dvc.yaml` and `dvc.lock` for what `results` wrote, as they are after a run."""
    matrix, made = {"setting": names}, "tables/${item.setting}/"
    stages = {
        "train": {"matrix": matrix, "outs": ["predictions/${item.setting}.zarr.zip"]},
        "estimate": {"matrix": matrix, "outs": [f"{made}memorization.parquet", {f"{made}summary.json": {"persist": True}}]},
        "fitting": {"outs": ["tables/fitting"]},
    }
    write(root / "dvc.yaml", yaml.safe_dump({"stages": stages}))
    lock = {f"train@{name}": {"outs": [locked(root, f"predictions/{name}.zarr.zip")]} for name in names}
    for name in names:
        files = [f"tables/{name}/memorization.parquet", f"tables/{name}/summary.json"]
        lock[f"estimate@{name}"] = {"outs": [locked(root, file) for file in files]}
    lock["fitting"] = {"outs": [{"path": "tables/fitting", "md5": "0.dir"}]}
    write(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False))


def locked(root: Path, path: str) -> dict:
    return {"path": path, "md5": hashlib.md5((root / path).read_bytes(), usedforsecurity=False).hexdigest()}


def repository(root: Path, *tags: str) -> None:
    """Everything in `root` but what a repository never holds, committed on a fixed day; each tag on that commit."""
    write(root / "pyproject.toml", '[project]\nname = "small-study"\nversion = "1.2.0"\n')
    write(root / ".gitignore", "/release/\n/book/_build/\n/predictions/\n/tables/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "All of it", "--date", "2030-01-02T03:04:05Z")
    for tag in tags:
        git(root, "tag", tag)


def git(root: Path, *arguments: str) -> None:
    who = {f"GIT_{role}_{field}": "a test" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    quiet = {
        "GIT_COMMITTER_DATE": "2030-01-02T03:04:05Z",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    path = {"PATH": "/usr/bin:/bin:/usr/local/bin"}
    subprocess.run(["git", "-C", str(root), *arguments], check=True, env=who | quiet | path)
