"""`dvc repro`, with stages that need nothing of each other side by side.

DVC runs one stage at a time, and leaves it to its user to start several of its processes. A chapter keeps one core busy,
so on two cores two at a time take half as long. Stages that train use all cores already and go one by one. All are forks
of one process that has everything imported (`warm`): starting interpreters took two thirds of a chapter's time.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from study import warm

LAST = {"claims", "site"}
ALONE = ("--wait-for-lock", "repro", "--single-item")
DVC = (sys.executable, "-m", "study.warm", "dvc")


def reproduce(folder: Path = Path(), at_once: int = 2) -> None:
    """What `dvc repro` does in ``folder``: what is no chapter as DVC does it, then the chapters, ``at_once`` at a time.

    Raises ``subprocess.CalledProcessError`` if a stage fails; DVC has then told why.
    """
    waiting = stale(folder)
    if waiting <= {"site"}:  # which DVC runs always: nothing else to compare again
        subprocess.run([*DVC, "repro", "--single-item", "site"], cwd=folder, check=True)
        return
    with warm.process(os.environ) as environment:
        _reproduce(folder, waiting, at_once, environment)


def _reproduce(folder: Path, waiting: set[str], at_once: int, environment: Mapping[str, str]) -> None:
    done = None
    while (others := {name for name in waiting - LAST if not chapter(name)}) and others != done:
        subprocess.run([*DVC, "repro", *sorted(others)], cwd=folder, env=environment, check=True)
        waiting, done = stale(folder), others  # what they wrote may be new to others still
    side_by_side(folder, filter(chapter, waiting), at_once, environment)
    subprocess.run([*DVC, "repro"], cwd=folder, env=environment, check=True)


def chapter(name: str) -> bool:
    """Whether a stage runs a chapter."""
    return name.startswith("chapter_")


def stale(folder: Path) -> set[str]:
    """The stages that `dvc repro` would run now, as far as that can be told before others have written anything new."""
    return set(json.loads(_told(folder, "status", "--json")))


def needs(folder: Path) -> dict[str, set[str]]:
    """For each stage of `dvc.yaml` those whose output it reads."""
    found: dict[str, set[str]] = {}
    for line in _told(folder, "dag", "--dot").splitlines():
        names = re.findall(r'"([^"]+)"', line)  # "a"; or "a" -> "b"; where b reads what a wrote
        if names:
            found.setdefault(names[-1], set()).update(names[:-1])
    return found


def side_by_side(folder: Path, stages: Iterable[str], at_once: int, environment: Mapping[str, str] | None = None) -> None:
    """Run ``stages``, each after those among them that it needs, ``at_once`` at a time; what one prints stays together.

    ``environment`` stands in for that of this process. Raises ``subprocess.CalledProcessError`` if a stage fails, after
    those that were running then.
    """
    stages = set(stages)
    order = TopologicalSorter({name: of & stages for name, of in needs(folder).items() if name in stages})
    order.prepare()
    running = {}
    with ThreadPoolExecutor(at_once) as pool:
        while order.is_active():
            for name in order.get_ready():
                running[pool.submit(_told, folder, *ALONE, name, environment=environment)] = name
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                print(_result(done, pool), end="", flush=True)
                order.done(running.pop(done))


def _result(done: Future[str], pool: ThreadPoolExecutor) -> str:
    try:
        return done.result()
    except subprocess.CalledProcessError:
        pool.shutdown(cancel_futures=True)
        raise


def _told(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What DVC prints; where it fails, that goes to standard error."""
    done = subprocess.run([*DVC, *arguments], cwd=folder, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr, flush=True)
    done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    try:
        reproduce()
    except subprocess.CalledProcessError as failed:
        sys.exit(failed.returncode)
