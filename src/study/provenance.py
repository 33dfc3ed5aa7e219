"""Where each number of the scorecard comes from: its table and place in it, the run that made that, and the chapter.

Whoever doubts a verdict goes from the scorecard to the row of the run on the status page, from there to the executed
notebook, the parameters' fingerprint and what the run read, down to the training of the models.
"""

import html
from collections.abc import Mapping

import pandas as pd

from study import finish, runs
from study.claims import Claim, Ledger


def with_origins(
    frame: pd.DataFrame, ledger: Ledger, made: Mapping[str, runs.Run], pages: Mapping[str, str]
) -> pd.DataFrame:
    """The judged claims (`claims.judge`) with the origin of the measured number below the rule, where there is a number.

    `made` are the runs of the pipeline, `pages` the pages of chapters by their runs. Raises ValueError if no run makes the
    table that a claim reads.
    """
    origins = {claim.id: origin(claim, made, pages) for claim in ledger.claims if claim.measured}
    rules = [f"{row.rule}\n\n    {origins[row.id]}" if row.id in origins else row.rule for row in frame.itertuples()]
    return frame.assign(rule=rules)


def origin(claim: Claim, made: Mapping[str, runs.Run], pages: Mapping[str, str]) -> str:
    """Table and place, run and chapter of the number that one claim is judged by."""
    file, _, place = claim.measured.partition("#")
    run = next((name for name, each in made.items() if any(runs.meet(file, out) for out in each.outs)), None)
    if run is None:
        raise ValueError(f"claim {claim.id}: no run in dvc.yaml makes {file}; correct the pointer in claims.yaml")
    told = f'*From:* {_code(file)} {_code(place)}, run <a href="status.html#{finish.anchor(run)}">{html.escape(run)}</a>'
    chapter = _chapter(claim, file, made)
    name = html.escape(chapter.removeprefix("chapter_").replace("_", " "))
    return told + (f', chapter <a href="{pages[chapter]}.html">{name}</a>' if chapter in pages else "")


def _chapter(claim: Claim, file: str, made: Mapping[str, runs.Run]) -> str:
    """The only chapter that reads the table, or else the one that the claim names."""
    readers = [
        name for name, run in made.items() if name.startswith("chapter_") and any(runs.meet(file, dep) for dep in run.deps)
    ]
    return readers[0] if len(readers) == 1 else "chapter_" + claim.chapter.replace(" ", "_")


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"
