"""API pages: docstrings are shown as they were written, and every module has its place."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from study import docstrings

ROOT = Path(__file__).parents[1]
PACKAGES = ("case_studies", "charts", "learners", "localization", "theory")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (["text:", "", "    a = b", "    c", "", "more"], ["text:", "", "::", "", "    a = b", "    c", "", "more"]),
        (["text:", "", "    a", "", "    b"], ["text:", "", "::", "", "    a", "", "    b"]),
        (["text::", "", "    a"], ["text::", "", "    a"]),
        (["* item", "", "  of two paragraphs"], ["* item", "", "  of two paragraphs"]),
        (["text", "", "  * an indented list"], ["text", "", "  * an indented list"]),
        ([">>> 1 + 1", "2", "", "text"], [">>> 1 + 1", "2", "", "text"]),
        (["one line", "  goes on"], ["one line", "  goes on"]),
        (["where |v| < 1 and ``a | b`` holds"], [r"where \|v\| < 1 and ``a | b`` holds"]),
        (["text:", "", "    |v|", "", "|v|"], ["text:", "", "::", "", "    |v|", "", r"\|v\|"]),
        ([], []),
    ],
)
def test_an_indented_paragraph_is_shown_as_it_stands_and_lists_and_bars_are_left_alone(written, shown):
    docstrings.as_meant(written)
    assert written == shown


class Pair(NamedTuple):
    """Two numbers."""

    first: int

    @property
    def doubled(self) -> int:
        """Twice the first."""
        return 2 * self.first


def test_what_python_says_of_the_fields_of_a_tuple_is_left_out_and_what_people_say_is_not():
    asked = {}
    docstrings.setup(SimpleNamespace(connect=asked.__setitem__))
    skipped = asked["autodoc-skip-member"]
    assert skipped(None, "class", "first", Pair.first, False, {}) is True
    assert skipped(None, "class", "doubled", Pair.doubled, False, {}) is None  # Sphinx decides


def test_every_module_of_the_packages_is_on_a_page_of_the_book_and_every_page_in_its_contents():
    pages = {path.stem: path.read_text() for path in (ROOT / "book/api").glob("*.md")}
    shown = re.findall(r"automodule:: ([\w.]+)", "\n".join(pages.values()))
    assert len(shown) == len(set(shown)), "a module stands on two pages"
    files = [path for package in PACKAGES for path in (ROOT / "src/study" / package).glob("*.py") if path.stem != "__init__"]
    missing = {f"study.{path.parent.name}.{path.stem}" for path in files} - set(shown)
    assert not missing, f"add to the page of its package in book/api: {', '.join(sorted(missing))}"
    contents = (ROOT / "book/_toc.yml").read_text()
    assert all(f"file: api/{stem}\n" in contents for stem in pages)


def test_every_module_on_a_page_exists_and_says_what_it_is():
    pages = "\n".join(path.read_text() for path in (ROOT / "book/api").glob("*.md"))
    for name in re.findall(r"automodule:: ([\w.]+)", pages):
        stem = ROOT / "src" / Path(*name.split("."))
        source = next(file for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file())
        assert source.read_text().startswith('"""'), name
