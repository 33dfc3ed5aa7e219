"""What every caption owes its reader: on how many examples and how many trials a figure rests, and what its bars are.

`faults_of_captions` reads a page of a built site, where all numbers stand. `drafts` reads the source of a chapter, which
takes no table: every number that will be computed is a 7 there.
"""

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jupytext

CHARTS = Path(__file__).parents[1] / "src" / "study" / "charts"
FIGURE = re.compile(r'<figure class="study-figure" id="(?:figure-)?([^"]+)"[^>]*>(.*?)</figure>', re.DOTALL)
CAPTION = re.compile(r"<figcaption><p[^>]*>(.*?)</p>", re.DOTALL)
SPECIFICATION = re.compile(r'class="study-spec">(.*?)</script>', re.DOTALL)

# A number with the noun that it counts, at most three words apart: "1,000 long-tailed training examples".
COUNTED = r"\b\d[\d,]*(?: [^\s.,;:]+){0,3} (?:%s)\b"
EXAMPLES = re.compile(
    rf"\b[nN] = \d|single record|[nN]o data|{COUNTED % 'examples?|digits?|pictures?|points?|pairs?|influences?|tests?'}"
)
TRIALS = re.compile(
    r"\bt = \d|\b[Oo]ne (?:draw|network|direction|sample|choice)\b|"
    + COUNTED % "trials?|models?|networks?|heads?|repeats?|runs?|draws?|samples?|subsets?|worlds?|halvings?|minima|choices?"
)
NO_CHANCE = re.compile(
    r"\bexact\b|nothing is trained|no network was trained|computed, not measured|not run\b", re.IGNORECASE
)
BARS = re.compile(r"\b(?:bars?|bands?|intervals?|range|shaded|standard errors?)\b", re.IGNORECASE)


def faults_of_captions(path: Path) -> list[str]:
    """What the captions of a page leave untold, a sentence each."""
    if "records" in path.parts:  # the run of a stage: all its parameters stand above its figures
        return []
    return [fault for name, caption, spec in figures(path.read_text("utf-8")) for fault in untold(name, caption, spec)]


def figures(page: str) -> Iterator[tuple[str, str, dict]]:
    """Name, caption and Vega-Lite specification of each figure of a page; no specification where only a picture is left."""
    for name, content in FIGURE.findall(page):
        caption, spec = CAPTION.search(content), SPECIFICATION.search(content)
        text = html.unescape(re.sub(r"<[^>]+>", "", caption[1])) if caption else ""
        yield name, text, json.loads(spec[1]) if spec else {}


def untold(name: str, caption: str, spec: dict) -> list[str]:
    """What one caption leaves untold: the number of examples or of trials, unless chance plays no part; its bars."""
    faults = []
    if not NO_CHANCE.search(caption):
        faults += [f"{name}: the caption does not say on how many examples it rests"] * (not EXAMPLES.search(caption))
        faults += [f"{name}: the caption does not say on how many trials or repeats it rests"] * (not TRIALS.search(caption))
    if spans(spec) and not BARS.search(caption):
        faults.append(f"{name}: the caption does not say what its bars or bands are")
    return faults


def spans(node) -> bool:
    """Whether any layer of a specification draws error bars or a band: a rule or an area between two columns."""
    if isinstance(node, list):
        return any(spans(part) for part in node)
    if not isinstance(node, dict):
        return False
    mark = node.get("mark", {})
    kind = mark.get("type") if isinstance(mark, dict) else mark
    held = node.get("encoding", {})
    between = any(axis in held and "field" in held[axis] for axis in ("x2", "y2"))
    return (kind in ("rule", "area") and between) or any(spans(part) for key, part in node.items() if key != "datasets")


def drafts(chapter: Path) -> Iterator[tuple[str, str]]:
    """Each ``show(...)`` of a chapter's source with every caption that it can get, written with a 7 for every number."""
    cells = [cell.source for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    page = ast.parse("\n".join(cells))
    for call in ast.walk(page):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "show":
            yield from ((ast.unparse(call), caption) for caption in _captions(call.args[0], page))


def _captions(figure: ast.expr, page: ast.Module) -> list[str]:
    """The captions of an expression that makes a figure: a call of a chart, completed or not, or the name of one."""
    if isinstance(figure, ast.Name):
        return [caption for made in _assigned(figure.id, page) for caption in _captions(made, page)]
    if figure.func.attr == "resting_on":
        return [f"{caption} {_words(figure.args[0], [page])}" for caption in _captions(figure.func.value, page)]
    module = ast.parse((CHARTS / f"{_module(figure.func.value.id, page)}.py").read_text("utf-8"))
    chart = _function(figure.func.attr, module)
    given = [
        ast.Assign([ast.Name(argument.arg)], ast.Constant(_words(value, [page])))
        for argument, value in zip(chart.args.args, figure.args)
    ]
    made = [node for node in ast.walk(chart) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Figure"]
    return [_words(call.args[3], [chart, ast.Module(given), module]) for call in made]


def _module(alias: str, page: ast.Module) -> str:
    imports = (node for node in ast.walk(page) if isinstance(node, ast.ImportFrom) and node.module == "study.charts")
    return next(name.name for node in imports for name in node.names if alias in (name.asname, name.name))


def _function(name: str, module: ast.AST) -> ast.FunctionDef | None:
    return next((node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _assigned(name: str, scope: ast.AST) -> list[ast.expr]:
    found = (node for node in ast.walk(scope) if isinstance(node, ast.Assign))
    names = ((node, {getattr(part, "id", "") for target in node.targets for part in ast.walk(target)}) for node in found)
    return [node.value for node, held in names if name in held]


def _words(node: ast.AST | None, scopes: list[ast.AST]) -> str:
    """The words of an expression that makes a text; names and the module's own functions are followed, all else is empty."""

    def all_of(*nodes: ast.AST | None) -> str:
        return "".join(_words(part, scopes) for part in nodes)

    match node:
        case ast.Constant(value=str(text)):
            return text.replace("{}", "7")
        case ast.FormattedValue(value=value, format_spec=spec):
            return "7" if spec else all_of(value) or "7"
        case ast.JoinedStr(values=parts) | ast.Dict(values=parts) | ast.Tuple(elts=parts):
            return all_of(*parts)
        case ast.BinOp(left=left, right=right) | ast.IfExp(body=left, orelse=right):
            return all_of(left, right)
        case ast.GeneratorExp(elt=part) | ast.DictComp(value=part) | ast.Subscript(value=part):
            return all_of(part)
        case ast.Call(func=ast.Attribute(value=text, attr="format")):
            return all_of(text)
        case ast.Call(func=ast.Attribute(attr="join"), args=[parts]):
            return all_of(parts)
        case ast.Call(func=ast.Name(id=name)):
            inner = _function(name, scopes[-1])
            returned = [part.value for part in ast.walk(inner) if isinstance(part, ast.Return)] if inner else []
            return "".join(_words(part, [inner, scopes[-1]]) for part in returned)
        case ast.Name(id=name):
            held = next((found for scope in scopes if (found := _assigned(name, scope))), [])
            return all_of(*(value for value in held if name not in {getattr(part, "id", "") for part in ast.walk(value)}))
    return ""
