"""Charts that weigh less on the site and look the same: their numbers on the page, and their drawings beside it.

A chart's specification tells the name of each column at every row and numbers to sixteen digits; its drawing tells the
shape and the colours of each mark at every mark. Said once they are half as large: on the whole book 4.2 MB of
specifications become 2.1 MB and 5.9 MB of drawings 3.4 MB (November 2026). `study.js` unpacks the specifications; browsers
and drawing programs know drawings like these.
"""

import json
import re
from collections import Counter

SPECIFICATION = re.compile(r'(class="study-spec">)(.*?)(</script>)', re.DOTALL)
# A mark at a place, with what it is there; and a box, which begins with its place.
PLACED = re.compile(r'<(path|line) transform="translate\((-?[\d.]+),(-?[\d.]+)\)"((?: [a-z0-9-]+="[^"]*")*)/>')
BOX = re.compile(r'<(path) d="M(-?[\d.]+),(-?[\d.]+)([hv][hv\d.-]+Z"(?: [a-z0-9-]+="[^"]*")*)/>')
DIGITS = 6  # of a number on the page; a chart of a thousand pixels shows three, and the CSV beside it has them all
OFTEN = 4  # a shape that occurs less often stays where it is


def specifications(page: str) -> str:
    """A page whose charts carry their rows as `{"fields": [names], "rows": [[values]]}`, numbers with six digits."""
    return SPECIFICATION.sub(lambda found: found[1] + specification(found[2]) + found[3], page)


def specification(packed: str) -> str:
    """A Vega-Lite specification, as text, whose data sets name their columns once."""
    spec = json.loads(packed)
    if "datasets" in spec:
        spec["datasets"] = {name: _columns(rows) for name, rows in spec["datasets"].items()}
    return json.dumps(spec, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _columns(rows: object) -> object:
    """Rows under one head; whatever is not a list of rows with the same columns, as it is."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        return rows
    fields = list(rows[0]) if rows else []
    return {"fields": fields, "rows": [[_short(row[field]) for field in fields] for row in rows]}


def _short(value: object) -> object:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def drawing(svg: str) -> str:
    """An SVG in which shapes that occur often are told once, in front, and stand wherever they stood by reference."""
    for number, pattern in enumerate((PLACED, BOX), 1):
        svg = _shared(svg, pattern, f"mark{number}-")
    return svg


def _shared(svg: str, pattern: re.Pattern, prefix: str) -> str:
    counts = Counter((found[1], found[4]) for found in pattern.finditer(svg))
    names = {shape: f"{prefix}{number}" for number, shape in enumerate(counts, 1) if counts[shape] >= OFTEN}

    def placed(found: re.Match) -> str:
        name = names.get((found[1], found[4]))
        return f'<use xlink:href="#{name}" x="{found[2]}" y="{found[3]}"/>' if name else found[0]

    told = "".join(_definition(name, *shape, pattern) for shape, name in names.items())
    head, start, drawn = svg.partition("</title>")
    return f"{head}{start}<defs>{told}</defs>{pattern.sub(placed, drawn)}" if told and start else svg


def _definition(name: str, kind: str, shape: str, pattern: re.Pattern) -> str:
    return f'<{kind} id="{name}"{shape}/>' if pattern is PLACED else f'<{kind} id="{name}" d="M0,0{shape}/>'
