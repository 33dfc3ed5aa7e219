"""The explorer: examples of a data set by memorization, with their errors and the tests they influence, for a browser.

Python chooses what is shown and packs it: `<name>.mjs`, a script that hands the numbers to the page (pages opened from a
file system may load scripts, but no data), and two pictures that hold all training and all test pictures in rows, from
which the page cuts. `book/_static/explorer.js` does the rest in the browser.
"""

import html
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from study.pictures import Pictures

BINS = 20  # of memorization: as many examples are drawn from each as far as there are
TESTS_OF_ONE = 8  # influenced tests of one example that are shown, the strongest
ACROSS = 50  # pictures in a row of the packed ones
DIGITS = 4  # decimal places of what is shown


@dataclass(frozen=True)
class Tour:
    """What the explorer shows of one setting.

    ``examples``: rows of the memorization table, in ascending order of it; ``tests``: numbers of the test examples that
    occur; ``influences``: columns train, test, infl, std_error. ``no_influences`` says why an example has none.
    """

    name: str
    title: str
    n: int
    trials: int
    examples: pd.DataFrame
    influences: pd.DataFrame
    pictures: Pictures
    no_influences: str = "No test example of its class is influenced enough to be kept."

    @property
    def tests(self) -> list[int]:
        return sorted(set(self.influences.test.tolist()))


def choose(memorization: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most ``most`` examples with an estimate, spread over the range: each of `BINS` bins gives as many as it can.

    What sparse bins leave over goes to the fuller ones. Within a bin the choice is random. Sorted by memorization.
    """
    known = memorization[memorization.mem.notna()]
    order = known.sample(frac=1, random_state=seed)
    bins = np.clip((order.mem * BINS).astype(int), 0, BINS - 1)
    turn = order.groupby(bins).cumcount()
    return order.iloc[np.argsort(turn, kind="stable")[:most]].sort_values(["mem", "index"], ignore_index=True)


def strongest(pairs: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """The `TESTS_OF_ONE` tests of their own class that each of the examples influences most, of those in ``pairs``."""
    mine = pairs[pairs.same_class & pairs.train.isin(examples["index"])]
    best = mine.sort_values(["infl", "test"], ascending=[False, True]).groupby("train").head(TESTS_OF_ONE)
    return best[["train", "test", "infl", "std_error"]].sort_values(["train", "infl"], ascending=[True, False])


def write(tour: Tour, folder: Path) -> None:
    """Write ``<name>.mjs``, and with pictures ``<name>-train.webp`` and ``<name>-test.webp``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = f"window.studyExplorer({json.dumps(packed(tour), separators=(',', ':'))});\n"
    _put(folder / f"{tour.name}.mjs", content.encode())
    if tour.pictures.train is not None:
        _put(folder / f"{tour.name}-train.webp", sheet(tour.pictures.train[tour.examples["index"]]))
        _put(folder / f"{tour.name}-test.webp", sheet(tour.pictures.test[tour.tests]))


def _put(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


def packed(tour: Tour) -> dict:
    """The numbers as lists of equal length, examples in their order; a test is named by its place among `Tour.tests`."""
    examples, places = tour.examples, {test: place for place, test in enumerate(tour.tests)}
    of = {int(train): rows for train, rows in tour.influences.groupby("train")}
    return {
        "name": tour.name,
        "classes": list(tour.pictures.classes),
        "train": examples["index"].tolist(),
        "label": examples.label.tolist(),
        **{key: examples[key].round(DIGITS).tolist() for key in ("mem", "std_error", "in_accuracy", "out_accuracy")},
        **{key: examples[key].tolist() for key in ("n_in", "n_out")},
        "tests": tour.tests,
        "influences": [_packed_influences(of.get(int(train)), places) for train in examples["index"]],
        "no_influences": tour.no_influences,
        "across": ACROSS,
        "pixels": None if tour.pictures.train is None else list(tour.pictures.train.shape[1:3]),
    }


def _packed_influences(rows: pd.DataFrame | None, places: dict[int, int]) -> list[list[float]]:
    if rows is None:
        return []
    return [[places[row.test], round(row.infl, DIGITS), round(row.std_error, DIGITS)] for row in rows.itertuples()]


def sheet(pictures: np.ndarray) -> bytes:
    """Pictures ``(k, h, w)`` (ink on white) or ``(k, h, w, 3)`` in rows of `ACROSS`, as one WebP; uint8 or in [0, 1].

    Grey ones without loss. Colour photographs as PNG would be most of the site; at this quality the eye sees no difference.
    """
    x = pictures if pictures.dtype == np.uint8 else np.rint(pictures * 255).astype(np.uint8)
    x = 255 - x if x.ndim == 3 else x
    rows = max(-(-len(x) // ACROSS), 1)
    full = np.full((rows * ACROSS, *x.shape[1:]), 255, dtype=np.uint8)
    full[: len(x)] = x
    grid = full.reshape(rows, ACROSS, *x.shape[1:]).swapaxes(1, 2)
    buffer = io.BytesIO()
    Image.fromarray(grid.reshape(rows * x.shape[1], ACROSS * x.shape[2], *x.shape[3:])).save(
        buffer, "WEBP", lossless=x.ndim == 3, quality=90, method=6
    )
    return buffer.getvalue()


def markup(tours: list[Tour], folder: str) -> str:
    """The place on the page where the explorer opens; ``folder`` is where the page finds what `write` has written."""
    options = "".join(f'<option value="{html.escape(tour.name)}">{html.escape(tour.title)}</option>' for tour in tours)
    return (
        f'<div class="study-explorer" data-folder="{html.escape(folder)}">\n'
        f'<p class="controls"><label>Data <select name="data">{options}</select></label>\n'
        '<label>Class <select name="class"><option value="">all</option></select></label></p>\n'
        '<p class="controls"><label class="slider">Memorization near <span class="value">0.50</span>\n'
        '<input type="range" name="mem" min="0" max="1" step="0.01" value="0.5"></label></p>\n'
        '<p class="told" role="status"></p>\n<ul class="grid"></ul>\n<section class="detail" aria-live="polite"></section>\n'
        "<noscript><p>The explorer needs scripts; the tables below show the same examples.</p></noscript>\n</div>"
    )


def show(tours: list[Tour]) -> None:
    """Display the explorer in the running notebook; writes its files into the folder ``$STUDY_FIGURES``, if there is one."""
    from IPython.display import HTML, display

    folder = os.environ.get("STUDY_FIGURES")
    for tour in tours if folder else []:
        write(tour, Path(folder))
    display(HTML(markup(tours, os.environ.get("STUDY_FIGURE_LINKS", folder or ""))))
