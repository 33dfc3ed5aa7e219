"""The ledger of claims: what was published, what this study measured, and a verdict that nobody types.

`claims.yaml` states each claim with its source, the published value in the paper's own unit, the rule that judges
it and the control that would fail if the effect were absent. Where `measured` points into a file under `tables/`,
`judge` reads value and standard error and computes one of four verdicts:

* *reproduced*: the rule holds, the control holds, and the run may be compared with the paper (`same_scale: true`);
* *direction reproduced*: rule and control hold on other data or at another size (`same_scale: false`), or only the
  claim's `weaker` rule holds;
* *not reproduced*: the rule or the control fails; the reason says which, and by what numbers;
* *not tested*: no `measured`. A file or pointer that is named but missing is an error, never this verdict.

Numbers under `tables/` are fractions (0.0254), as are the thresholds inside rules; published values keep the
paper's unit (2.54 points) and are converted when they are compared. Judging the whole ledger takes under a second.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    StringConstraints,
    model_validator,
)

from study import tables

VERDICTS = ("reproduced", "direction reproduced", "not reproduced", "not tested")
CHAPTERS = Literal[
    "motivation", "definitions", "estimators", "case studies", "theory", "layer localization", "consistency scores",
    "self-supervised vision", "vision-language models", "noisy labels", "language models", "logic gate networks",
    "generative models", "information measures", "privacy",
]  # fmt: skip
FACTORS = {"percent": 0.01, "points": 0.01}
TOLERANCES = {"percent": "points"}
COLUMNS = ["Claim", "Published", "Measured", "Verdict"]
BEGIN, END = "<!-- scorecard: begin -->", "<!-- scorecard: end -->"

INTRODUCTION = """\
Each claim below was published elsewhere; none of the verdicts was typed. A rule, fixed in `claims.yaml`, compares
what was measured here with what was published, and a control says what would have failed if the effect were absent.
*Reproduced* needs a run that may be held against the published number itself; on other data or at another size the
best verdict is *direction reproduced*. A failed rule or a failed control makes it *not reproduced*, with the reason.
After ± stands our standard error in the measured column, the authors' own uncertainty in the published one."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Kebab = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Pointer = Annotated[str, StringConstraints(pattern=r"^tables/[^#]+\.json#(/[^/]+)+$")]
Reference = Pointer | Literal["published"] | FiniteFloat


class LedgerError(ValueError):
    """The ledger cannot be judged: a file, a pointer or a shape is not what a claim says it is."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(Frozen):
    """Where a claim was made: a key of `book/references.bib` and the place in that work."""

    key: Text
    where: Text


class Number(Frozen):
    """One published value in the paper's unit; `uncertainty` is the paper's own plus-minus."""

    value: int | FiniteFloat
    uncertainty: NonNegativeFloat = 0.0
    unit: str = ""
    about: bool = False


class Series(Frozen):
    """Published values along one axis (`over` names it)."""

    values: tuple[int | FiniteFloat, ...] = Field(min_length=2)
    over: Text
    unit: str = ""


class Direction(Frozen):
    """A claim without a number; `unit` only says how our own value is written."""

    direction: Text
    unit: str = ""


class Within(Frozen):
    """|measured - against| is at most `tolerance` plus k standard errors of the difference.

    Noise alone must not pass: beyond `resolution`, a standard error is too large for the comparison to mean anything.
    """

    kind: Literal["within"]
    against: Reference = "published"
    tolerance: NonNegativeFloat = 0.0
    k: NonNegativeFloat = 2.0
    resolution: PositiveFloat | None = None


class Ratio(Frozen):
    """measured / against lies in [low, high] up to k standard errors, which may span half the interval at most."""

    kind: Literal["ratio"]
    against: Reference = "published"
    low: NonNegativeFloat
    high: PositiveFloat
    k: NonNegativeFloat = 2.0


class Compare(Frozen):
    """Beyond `against` by more than k standard errors (greater, less), or not beyond by more (at_most, at_least).

    As in `Within`, a standard error above `resolution` fails: the lenient pair would otherwise pass on noise alone.
    """

    kind: Literal["greater", "less", "at_least", "at_most"]
    against: Reference = 0.0
    k: NonNegativeFloat = 2.0
    resolution: PositiveFloat | None = None


class Ordering(Frozen):
    """No step goes the wrong way by more than k standard errors, and the ends differ by more than k of them."""

    kind: Literal["increasing", "decreasing"]
    k: NonNegativeFloat = 2.0


Rule = Annotated[Within | Ratio | Compare | Ordering, Field(discriminator="kind")]


class Control(Frozen):
    """What would fail if the effect were absent, in words and, where `measured` is given, as a check."""

    statement: Text
    unit: str = ""
    measured: Pointer | None = None
    rule: Rule | None = None

    @model_validator(mode="after")
    def _check_is_whole(self):
        if (self.measured is None) != (self.rule is None):
            raise ValueError("a checked control needs both `measured` and `rule`")
        if getattr(self.rule, "against", None) == "published":
            raise ValueError("a control has no published value: give its rule an `against`")
        return self


class Claim(Frozen):
    """One sentence that somebody published, and how it is judged here."""

    id: Kebab
    system: Kebab
    chapter: CHAPTERS
    source: tuple[Source, ...] = Field(min_length=1)
    statement: Text
    published: Number | Series | Direction
    rule: Rule
    weaker: Rule | None = None
    measured: Pointer | None = None
    same_scale: bool = False
    scale: Text
    control: Control

    @model_validator(mode="after")
    def _published_value_is_there(self):
        wanted = [rule for rule in (self.rule, self.weaker) if getattr(rule, "against", None) == "published"]
        if wanted and isinstance(self.published, Direction):
            raise ValueError(f"claim {self.id}: a rule compares with a published value, but only a direction is given")
        return self

    def pointers(self) -> list[str]:
        """Every pointer that judging this claim reads, controls included."""
        rules = [self.rule, self.weaker, self.control.rule] if self.measured else []
        references = [getattr(rule, "against", None) for rule in rules]
        found = [self.measured, self.control.measured if self.measured else None, *references]
        return [pointer for pointer in found if isinstance(pointer, str) and "#" in pointer]


class Ledger(Frozen):
    """All claims, and the title of each system they come from, in the order of the scorecard."""

    systems: dict[Kebab, Text]
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _ids_and_systems_match(self):
        ids = [claim.id for claim in self.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"claim ids must be unique; twice or more: {', '.join(twice)}")
        unknown = sorted({claim.system for claim in self.claims} - set(self.systems))
        if unknown:
            raise ValueError(f"unknown systems: {', '.join(unknown)}; known: {', '.join(self.systems)}")
        return self


class Quantity(NamedTuple):
    """Measured or published values and their standard errors, both (k,); a scalar has k = 1."""

    value: np.ndarray
    std_error: np.ndarray


def load(path: str | Path = "claims.yaml") -> Ledger:
    """Read and validate the ledger; raises pydantic's ValidationError naming the field that is wrong."""
    return Ledger.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))


# Reading --------------------------------------------------------------------------------------------------


def resolve(document, pointer: str):
    """The node of `document` at a JSON pointer (RFC 6901); raises LookupError naming the step that is missing."""
    node = document
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(key) if isinstance(node, list) else key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise LookupError(f"no '{key}'; there is {_names(node)}") from None
    return node


def _names(node) -> str:
    if isinstance(node, dict):
        return ", ".join(map(str, node)) or "nothing"
    return f"a list of {len(node)}" if isinstance(node, list) else f"the value {node!r}"


def quantity(root: str | Path, pointer: str) -> Quantity:
    """Value and standard error at `tables/file.json#/pointer` under `root`.

    A plain number has standard error 0, null is NaN (not identified), {"value", "std_error"} is taken as it is, and
    a list of any of these becomes arrays (k,). Raises LedgerError naming file and pointer when there is no number.
    """
    name, _, place = pointer.partition("#")
    try:
        node = resolve(json.loads((Path(root) / name).read_text(encoding="utf-8")), place)
        pairs = [_pair(item) for item in (node if isinstance(node, list) else [node])]
    except FileNotFoundError:
        raise LedgerError(f"{name} is missing; make it with `dvc repro`") from None
    except (LookupError, TypeError, ValueError) as error:
        raise LedgerError(f"{name}#{place}: {error}") from None
    return Quantity(*np.array(pairs, dtype=float).reshape(-1, 2).T)


def _pair(node) -> tuple[float, float]:
    if node is None:
        return np.nan, np.nan
    if isinstance(node, dict) and {"value", "std_error"} <= node.keys():
        return tuple(np.nan if node[key] is None else float(node[key]) for key in ("value", "std_error"))
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise TypeError(f"expected a number or {{value, std_error}}, found {_names(node)}")
    return float(node), 0.0


def published_quantity(published: Number | Series) -> Quantity:
    """Published values in the unit of the tables (fractions), with the paper's uncertainty as standard error."""
    factor = FACTORS.get(published.unit, 1.0)
    if isinstance(published, Number):
        return Quantity(np.array([published.value * factor]), np.array([published.uncertainty * factor]))
    values = np.array(published.values, dtype=float) * factor
    return Quantity(values, np.zeros_like(values))


# Rules ----------------------------------------------------------------------------------------------------


def holds(rule: Rule, measured: Quantity, reference: Quantity | None = None) -> bool:
    """Whether the rule holds; of several values all must obey it. NaN (not identified) never passes.

    Errors of the two sides are added in quadrature, as if independent: for paired runs point to the difference instead.
    Raises LedgerError when the numbers of values do not match or an ordering has fewer than two.
    """
    if isinstance(rule, Ordering):
        return _ordered(rule, measured)
    if len(reference.value) not in (1, len(measured.value)):
        raise LedgerError(f"{len(measured.value)} measured values against {len(reference.value)}")
    test = {"within": _within, "ratio": _in_ratio}.get(rule.kind, _compared)
    return bool(len(measured.value)) and bool(np.all(test(rule, measured, reference)))


def _ordered(rule: Ordering, measured: Quantity) -> bool:
    if len(measured.value) < 2:
        raise LedgerError(f"an ordering needs two values or more, found {len(measured.value)}")
    value = measured.value if rule.kind == "increasing" else -measured.value
    slack = rule.k * np.hypot(measured.std_error[1:], measured.std_error[:-1])
    ends = rule.k * np.hypot(measured.std_error[0], measured.std_error[-1])
    return bool(np.all(np.diff(value) >= -slack) and value[-1] - value[0] > ends)


def _within(rule: Within, measured: Quantity, reference: Quantity) -> np.ndarray:
    error = np.hypot(measured.std_error, reference.std_error)
    near = np.abs(measured.value - reference.value) <= rule.tolerance + rule.k * error
    return near & _sharp(rule, error)


def _sharp(rule: Within | Compare, error: np.ndarray) -> np.ndarray:
    return error <= (np.inf if rule.resolution is None else rule.resolution)


def _in_ratio(rule: Ratio, measured: Quantity, reference: Quantity) -> np.ndarray:
    below = np.where(reference.value == 0, np.nan, reference.value)
    ratio = measured.value / below
    slack = rule.k * np.hypot(measured.std_error, ratio * reference.std_error) / np.abs(below)
    return (slack <= (rule.high - rule.low) / 2) & (ratio >= rule.low - slack) & (ratio <= rule.high + slack)


def _compared(rule: Compare, measured: Quantity, reference: Quantity) -> np.ndarray:
    gap = measured.value - reference.value
    error = np.hypot(measured.std_error, reference.std_error)
    slack = rule.k * error
    outcome = {"greater": gap > slack, "less": gap < -slack, "at_least": gap >= -slack, "at_most": gap <= slack}
    return outcome[rule.kind] & _sharp(rule, error)


# Verdicts -------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """A rule applied: what was measured, whether the rule held, and both as a reader sees them."""

    measured: Quantity
    passed: bool
    shown: str
    wanted: str


def judge(ledger: Ledger, root: str | Path = ".") -> pd.DataFrame:
    """One row a claim, in the ledger's order, with verdict and reason; files are looked up under `root`.

    Raises LedgerError when a file or pointer that a claim relies on is missing.
    """
    _require_files(ledger, Path(root))
    return pd.DataFrame([_row(ledger, claim, root) for claim in ledger.claims])


def _require_files(ledger: Ledger, root: Path) -> None:
    users = {}
    for claim in ledger.claims:
        for pointer in claim.pointers():
            users.setdefault(pointer.partition("#")[0], []).append(claim.id)
    missing = [f"{name} (for {', '.join(dict.fromkeys(ids))})" for name, ids in users.items() if not (root / name).is_file()]
    if missing:
        raise LedgerError(f"missing: {'; '.join(missing)}. Make them with `dvc repro`, then judge again.")


def _row(ledger: Ledger, claim: Claim, root: str | Path) -> dict:
    try:
        main, control, verdict, reason = _verdict(claim, root)
    except LedgerError as error:
        raise LedgerError(f"claim {claim.id}: {error}") from None
    single = main is not None and len(main.measured.value) == 1
    return {
        "id": claim.id,
        "system": claim.system,
        "title": ledger.systems[claim.system],
        "chapter": claim.chapter,
        "statement": claim.statement,
        "published": show_published(claim.published),
        "measured": main.shown if main else "",
        "value": float(main.measured.value[0]) if single else np.nan,
        "std_error": float(main.measured.std_error[0]) if single else np.nan,
        "rule": main.wanted if main else describe(claim.rule, None, claim.published.unit),
        "verdict": verdict,
        "reason": reason,
        "scale": claim.scale,
        "same_scale": claim.same_scale,
        "control": claim.control.statement,
        "control_result": f"{control.shown}; must be {control.wanted}" if control else "",
        "source": "; ".join(f"{{cite:t}}`{source.key}`, {source.where}" for source in claim.source),
    }


def _verdict(claim: Claim, root: str | Path) -> tuple[Check | None, Check | None, str, str]:
    if claim.measured is None:
        return None, None, "not tested", ""
    main, control = _check(claim.rule, claim, root), _check_control(claim, root)
    if control and not control.passed:
        reason = f"the control failed: {control.shown}, which must be {control.wanted}"
        return main, control, "not reproduced", reason
    if main.passed:
        return main, control, "reproduced" if claim.same_scale else "direction reproduced", ""
    if claim.weaker and (weaker := _check(claim.weaker, claim, root)).passed:
        return main, control, "direction reproduced", f"not {main.wanted}, but {weaker.wanted}"
    return main, control, "not reproduced", f"{main.shown}, which must be {main.wanted}"


def _check(rule: Rule, claim: Claim, root: str | Path) -> Check:
    reference = _reference(rule, claim, root)
    return _applied(rule, claim.measured, reference, claim.published.unit, root)


def _check_control(claim: Claim, root: str | Path) -> Check | None:
    control = claim.control
    if control.measured is None:
        return None
    return _applied(control.rule, control.measured, _reference(control.rule, claim, root), control.unit, root)


def _applied(rule: Rule, pointer: str, reference: Quantity | None, unit: str, root: str | Path) -> Check:
    measured = quantity(root, pointer)
    try:
        passed = holds(rule, measured, reference)
    except LedgerError as error:
        raise LedgerError(f"{pointer}: {error}") from None
    return Check(measured, passed, _shown(measured, unit), describe(rule, reference, unit))


def _reference(rule: Rule, claim: Claim, root: str | Path) -> Quantity | None:
    if isinstance(rule, Ordering):
        return None
    if rule.against == "published":
        return published_quantity(claim.published)
    if isinstance(rule.against, str):
        return quantity(root, rule.against)
    return Quantity(np.array([rule.against]), np.zeros(1))


# Words ----------------------------------------------------------------------------------------------------


def show_published(published: Number | Series | Direction) -> str:
    """A published value as the paper prints it, or the direction in words."""
    if isinstance(published, Direction):
        return published.direction
    suffix = _suffix(published.unit)
    if isinstance(published, Series):
        return ", ".join(f"{value:,}" for value in published.values) + f"{suffix} ({published.over})"
    places = max(len(str(number).partition(".")[2]) for number in (published.value, published.uncertainty or 0))
    spread = f" ± {published.uncertainty:.{places}f}" if published.uncertainty else ""
    return f"{'≈ ' if published.about else ''}{published.value:,.{places}f}{spread}{suffix}"


def show(value: float, std_error: float, unit: str = "") -> str:
    """A measured fraction in the claim's unit, to two significant digits of its standard error, if it has one.

    What is left when equal numbers are averaged, a few units of the last place, is no standard error.
    """
    return _number(value, std_error, 1 / FACTORS.get(unit, 1.0)) + _suffix(unit)


def _number(value: float, std_error: float, factor: float) -> str:
    if not np.isfinite(value):
        return "not identified"
    if np.isclose(std_error, 0, rtol=0, atol=1e-12 * abs(value)):
        return f"{value * factor:,.5g}"
    if not np.isfinite(std_error):
        return f"{value * factor:,.4g} ± unknown"
    places = max(0, 1 - int(np.floor(np.log10(std_error * factor))))
    return f"{value * factor:,.{places}f} ± {std_error * factor:.{places}f}"


def _shown(measured: Quantity, unit: str) -> str:
    factor = 1 / FACTORS.get(unit, 1.0)
    return ", ".join(_number(*pair, factor) for pair in zip(*measured, strict=True)) + _suffix(unit)


def _suffix(unit: str) -> str:
    return {"percent": "\N{NO-BREAK SPACE}%", "": ""}.get(unit, f" {unit}")


def describe(rule: Rule, reference: Quantity | None, unit: str = "") -> str:
    """A rule in words, to follow "must be"; thresholds appear in the unit, `reference` (k,) as far as it is known."""
    beyond, slack = (f"{word} {rule.k:g} standard errors" if rule.k else "" for word in (" by", ", give or take"))
    if isinstance(rule, Ordering):
        return f"{rule.kind}{slack}"
    against = _against(rule, reference, unit)
    if isinstance(rule, Ratio):
        return f"{rule.low:g} to {rule.high:g} times {against}"
    limit = f", known to {_difference(rule.resolution, unit)} or better" if rule.resolution else ""
    if isinstance(rule, Within):
        tolerance = f"{_difference(rule.tolerance, unit)} plus " if rule.tolerance else ""
        return f"within {tolerance}{rule.k:g} standard errors of {against}{limit}"
    words = {"greater": f"above {against}{beyond}", "less": f"below {against}{beyond}"}
    words |= {"at_least": f"at least {against}{slack}", "at_most": f"at most {against}{slack}"}
    return words[rule.kind] + limit


def _difference(threshold: float, unit: str) -> str:
    return show(threshold, 0.0, TOLERANCES.get(unit, unit))


def _against(rule: Within | Ratio | Compare, reference: Quantity | None, unit: str) -> str:
    if rule.against == "published":
        return "the published value"
    if isinstance(rule.against, str):
        name = rule.against.partition("#/")[2]
        return f"{_shown(reference, unit)} ({name})" if reference else name
    return show(rule.against, 0.0, unit)


# Pages ----------------------------------------------------------------------------------------------------


def counts(frame: pd.DataFrame) -> dict[str, int]:
    """Number of claims by verdict, in the order of VERDICTS, zeros included."""
    found = frame["verdict"].value_counts()
    return {verdict: int(found.get(verdict, 0)) for verdict in VERDICTS}


def scorecard_markdown(frame: pd.DataFrame) -> str:
    """The scorecard as a MyST page: counts by verdict, then one table a system, its tested claims first."""
    parts = ["# Scorecard", INTRODUCTION, _counts_table(frame)]
    for title, rows in frame.groupby("title", sort=False):
        tested_first = rows.sort_values("verdict", key=lambda verdict: verdict == "not tested", kind="stable")
        parts += [f"## {title}", _table(tested_first)]
    return "\n\n".join(parts) + "\n"


def readme_head(frame: pd.DataFrame) -> str:
    """The scorecard's head for the README: counts by verdict, and each claim that was not reproduced, by name."""
    systems = frame["title"].nunique()
    lines = [f"{len(frame)} published claims from {systems} lines of work, judged by computed rules:", ""]
    failed = frame[frame["verdict"] == "not reproduced"]
    listed = [f"- *Not reproduced:* {row.statement} ({row.reason})" for row in failed.itertuples()]
    return "\n".join([*lines, _counts_table(frame), *(["", *listed] if listed else [])])


def _counts_table(frame: pd.DataFrame) -> str:
    found = counts(frame)
    return "\n".join(["| Verdict | Claims |", "|:--|--:|", *(f"| {name} | {count} |" for name, count in found.items())])


def _table(rows: pd.DataFrame) -> str:
    lines = ["```{list-table}", ":header-rows: 1", ":widths: 38 16 20 26", ""]
    for cells in [COLUMNS, *([_claim(row), row.published, *_outcome(row)] for row in rows.itertuples())]:
        lines += [f"{'*' if first else ' '} - {cell}" for first, cell in zip([True] + [False] * 3, cells, strict=True)]
    return "\n".join([*lines, "```"])


def _claim(row) -> str:
    return _paragraphs(f'<span id="claim-{row.id}"></span>{row.statement} ({row.source})', f"*Scale:* {row.scale}")


def _outcome(row) -> tuple[str, str]:
    """The cells on measurement and verdict of one claim."""
    control = f"*Control:* {row.control}"
    if row.verdict == "not tested":
        return "–", _paragraphs(f"{row.verdict} (subject: {row.chapter})", control)
    reason = f": {row.reason}" if row.reason else ""
    measured = _paragraphs(row.measured, f"*Rule:* {row.rule}")
    result = f" *Measured:* {row.control_result}" if row.control_result else ""
    return measured, _paragraphs(f"**{row.verdict}**{reason}", control + result)


def _paragraphs(*texts: str) -> str:
    return "\n\n    ".join(texts)


def update_readme(path: str | Path, block: str) -> None:
    """Replace what stands between the file's two scorecard markers, atomically; raises LedgerError without them."""
    path = Path(path)
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise LedgerError(f"{path} needs the lines '{BEGIN}' and '{END}', in this order, around the scorecard")
    _write(path, f"{before}{begin}\n\n{block.strip()}\n\n{end}{after}")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def run(ledger: str | Path = "claims.yaml", readme: str | Path | None = None) -> pd.DataFrame:
    """Judge the ledger in the working directory, save `tables/claims/scorecard.json`, and head the README if named."""
    frame = judge(load(ledger))
    records = json.loads(frame.to_json(orient="records"))
    tables.save("claims", "scorecard", {"counts": counts(frame), "claims": records})
    if readme is not None:
        update_readme(readme, readme_head(frame))
    return frame
