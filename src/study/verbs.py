"""Verbs: `python -m study stage | chapter | repro | train | merge | audit | bench | claims | site | release`, each short."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import yaml
from yaml import YAMLError

from study import notebooks

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
STAGES, CHAPTERS = Path("notebooks/stages"), Path("notebooks/chapters")


@app.command()
def stage(name: str, item: Annotated[str, typer.Argument(help="the setting, for stages that run once for each")] = ""):
    """Run one stage of the pipeline through its notebook; the executed copy is kept in records/."""
    from study import data, params

    source = _known(name, {path.stem: path for path in STAGES.glob("*.md")}, "stage")
    study = params.load()
    if not item and "setting" in notebooks.parameters_of(source):
        raise ValueError(f"stage {name} runs once for each setting; name one: {', '.join(study.settings)}")
    values = {"setting": item} if item else {}
    setting = study.setting(item) if item else None
    fingerprint = setting.fingerprint(data.load(setting.data)) if setting else study.fingerprint(name)
    out = Path("records") / f"{notebooks.run_name(name, item)}.ipynb"
    with _progress_shown(), notebooks.recorded(name, item, fingerprint):
        notebooks.execute(source, out, values)
    typer.echo(f"wrote {out}")


@app.command()
def chapter(
    name: str,
    set_: Annotated[list[str] | None, typer.Option("--set", help="name=value; makes a preview outside the pipeline")] = None,
):
    """Execute one chapter with its parameters from params.yaml; with --set, a preview with others in .preview/."""
    from study import params

    source = _known(name, {re.sub(r"^\d+_", "", path.stem): path for path in CHAPTERS.glob("*.md")}, "chapter")
    study = params.load()
    values = study.chapter(name) | dict(_assignment(text) for text in set_ or ())
    out = Path(".preview" if set_ else "book/chapters") / f"{source.stem}.ipynb"
    figures = Path(".preview/figures" if set_ else "book/_static/figures") / name
    with notebooks.recorded(
        f"chapter_{name}", "", study.fingerprint("chapters", name), Path(".preview" if set_ else "records")
    ):
        notebooks.execute(source, out, values, figures)
    typer.echo(f"wrote {out}")


@app.command()
def audit(
    setting: str,
    more: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    trials: Annotated[list[int] | None, typer.Option(help="trial numbers to train again, e.g. --trials 0 17 1999")] = None,
    threshold: Annotated[float, typer.Option(help="least agreement in per cent, 100 for every bit", min=0, max=100)] = 99.9,
):
    """Train single trials again and compare each with its row of the prediction file; exit code 1 below the threshold."""
    from study import audit, params

    report = audit.audit(setting, params.load().setting(setting), [*(trials or []), *(more or [])] or [0])
    typer.echo(audit.summary(report, threshold))
    if (report.agreement < threshold).any():
        raise typer.Exit(1)


@app.command()
def train(
    setting: str,
    trials: Annotated[str, typer.Option(help="first:end, without the end, e.g. --trials 1000:2000")],
    out: Annotated[Path, typer.Option(help="the prediction file to write; if it is there, its rows are kept")],
):
    """Train a range of trials on this machine into a file of its own, which `merge` adds to the prediction file."""
    from study import params
    from study.trials import train_range

    train_range(setting, params.load().setting(setting), _range(trials), out)
    typer.echo(f"wrote {out}")


@app.command()
def merge(setting: str, files: Annotated[list[Path], typer.Argument(help="prediction files of this setting")]):
    """Add rows that other machines trained to the setting's prediction file, after checking that they belong to it."""
    from study import params
    from study.trials import merge as run

    chosen = params.load().setting(setting)
    path, held = run(setting, chosen, files)
    typer.echo(f"wrote {path}: {len(held):,} trials, from {held[0]} to {held[-1]}")
    if held[-1] >= chosen.trials:
        typer.echo(
            f"settings.{setting}.trials in params.yaml is {chosen.trials}: raise it to {held[-1] + 1}, or the next run of "
            "stage train cuts the file to that number"
        )


@app.command()
def bench(name: Annotated[str, typer.Argument(help="a script of benchmarks/, default all")] = ""):
    """Run the benchmarks; each prints a ratio."""
    scripts = {path.stem: path for path in Path("benchmarks").glob("*.py")}
    for script in [_known(name, scripts, "benchmark")] if name else sorted(scripts.values()):
        subprocess.run([sys.executable, script], check=True)


@app.command()
def claims(readme: Annotated[bool, typer.Option("--readme", help="also renew the scorecard's head in README.md")] = False):
    """Judge every claim of claims.yaml by the tables; write tables/claims and print the scorecard's head."""
    from study import claims

    with notebooks.recorded("claims"):
        frame = claims.run(readme="README.md" if readme else None)
    typer.echo(claims.readme_head(frame))


@app.command()
def repro(at_once: Annotated[int, typer.Option(help="chapters at a time", min=1)] = 2):
    """What `dvc repro` does, with several chapters at a time."""
    from study import pipeline

    try:
        pipeline.reproduce(at_once=at_once)
    except subprocess.CalledProcessError as failed:
        raise typer.Exit(failed.returncode) from None


@app.command()
def site():
    """Build the site from the executed chapters into book/_build/html, unless it is there and nothing has changed."""
    from study import freshness

    html = Path("book/_build/html")
    if freshness.fresh(html):
        typer.echo(f"{html} is up to date")
        return
    from study import site

    with notebooks.recorded("site"):
        site.build()
    freshness.leave_stamp(html)
    typer.echo(f"wrote {html}")


@app.command()
def times(since: Annotated[float, typer.Argument(help="seconds of the epoch, as `date +%s` prints them")]):
    """Print which runs of the pipeline took how long since a time."""
    from study import times

    typer.echo(times.told(since))


@app.command()
def release(
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="even if files differ from the commit; the version tells")
    ] = False,
):
    """Make release/<version>: site, data, PDF, citation, manifest and checksums of what the pipeline has made."""
    from study import release

    typer.echo(f"wrote {release.build(allow_dirty=allow_dirty)}")


def _known(name: str, valid: dict[str, Path], kind: str) -> Path:
    if name not in valid:
        raise ValueError(f"unknown {kind} {name!r}; valid: {', '.join(sorted(valid))}")
    return valid[name]


def _assignment(text: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"--set {text!r} is not of the form name=value")
    return name, yaml.safe_load(value)


def _range(text: str) -> range:
    first, separator, end = text.partition(":")
    if not (separator and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ValueError(f"--trials {text!r} is not of the form first:end with first < end, e.g. 1000:2000")
    return range(int(first), int(end))


@contextmanager
def _progress_shown():
    """Show what the stage's kernel writes to the file that $STUDY_PROGRESS names, as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        path, ended = Path(folder) / "progress", threading.Event()
        path.touch()
        os.environ["STUDY_PROGRESS"] = str(path)
        follower = threading.Thread(target=_follow, args=(path, ended))
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()
            del os.environ["STUDY_PROGRESS"]


def _follow(path: Path, ended: threading.Event) -> None:
    with path.open() as lines:
        while True:
            last = ended.is_set()
            for line in lines:
                print(line, end="", file=sys.stderr, flush=True)
            if last:
                return
            time.sleep(0.3)


def main() -> None:
    """Errors that a user can mend end with one line and exit code 2; anything else shows its traceback."""
    try:
        app(prog_name="python -m study")
    except Exception as error:
        if not isinstance(error, _mendable()):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


def _mendable() -> tuple[type[Exception], ...]:
    """The errors that a user can mend. What defines them imports torch, which takes seconds that not every verb needs."""
    from study.data import DataError
    from study.predictions import PredictionError
    from study.workers import TrainingError

    about_files = (FileNotFoundError, YAMLError, DataError, PredictionError)
    return (ValueError, TypeError, *about_files, TrainingError, notebooks.NotebookFailed)


if __name__ == "__main__":
    main()
