"""Docstrings as pages: what Sphinx must be told about this package's before it can show them (`book/_config.yml`).

They are plain prose. A paragraph that is indented below a line of text is meant to be seen as it stands, a formula, a
signature or a small table, where reStructuredText would take it for a quotation and run its lines together; and a bar is
an absolute value, where it would look for a substitution.
"""

import re

LIST = re.compile(r"\s*([*+-]|\d+[.)]|>>>)\s")
CODE = re.compile(r"(``.+?``|`[^`]+`)")


def setup(app) -> dict:
    """What Sphinx calls when the module stands among its extensions."""
    app.connect("autodoc-process-docstring", lambda app, what, name, obj, options, lines: as_meant(lines))
    app.connect("autodoc-skip-member", lambda app, what, name, obj, skip, options: says_nothing(obj) or None)
    return {"parallel_read_safe": True}


def says_nothing(member: object) -> bool:
    """Whether Python wrote the docstring of a named tuple's field, which tells its place in the tuple and no more."""
    return (getattr(member, "__doc__", None) or "").startswith("Alias for field number ")


def as_meant(lines: list[str]) -> None:
    """Mark, in place, each indented paragraph as literal text, unless it is part of a list; elsewhere bars stay bars."""
    marked, literal = [], False
    for before, line in zip(["", *lines], lines):
        starts = line.startswith(" ") and not before.strip() and not LIST.match(line) and not _belongs(marked)
        literal = starts or (literal and (line.startswith(" ") or not line))
        marked += ["::", ""] if starts else []
        marked.append(line if literal else _with_bars(line))
    lines[:] = marked


def _belongs(marked: list[str]) -> bool:
    """Whether an indented paragraph here goes on with an indented one, with a list, or with what is literal already."""
    previous = next((line for line in reversed(marked) if line.strip()), "")
    return previous.startswith(" ") or previous.endswith("::") or bool(LIST.match(previous))


def _with_bars(line: str) -> str:
    parts = CODE.split(line)  # code stands at the odd places
    return "".join(part if place % 2 else part.replace("|", r"\|") for place, part in enumerate(parts))
