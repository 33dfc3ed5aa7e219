"""Chapters and stages are text (jupytext MyST); this module runs them and leaves a notebook.

`execute` reads the text, checks the parameters, runs every cell through papermill in a fresh kernel of this
very interpreter (one thread, no history, no start-up files of the user) and writes a notebook that depends on
nothing but its inputs: two runs in one environment give the same bytes, so the pipeline can tell a change from
a repetition. What does differ between runs (when, how long, on which machine) goes into a record beside it.

papermill alone reads no `.md` and lets a misspelt parameter pass with a warning; here it is an error.
"""

from __future__ import annotations

import ast
import importlib.metadata
import io
import json
import os
import platform
import re
import shlex
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jupytext
import nbformat
import papermill
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from study.warm import SURROUNDINGS

Scalar = bool | int | float | str

# The packages whose version can change a number or a picture.
RECORDED = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "pyarrow",
    "xarray",
    "zarr",
    "dask",
    "altair",
    "vl-convert-python",
    "jupyter-book",
)

# pandas decides this by where it is imported, which may be before the kernel (`warm`) or in it.
DISPLAY = "import pandas; pandas.set_option('display.max_columns', 20)"

# Identities that libraries draw at random for their HTML: a UUID (xarray) or a short number (pandas' Styler).
RANDOM_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\bT_[0-9a-f]{5}(?=[_\" ])")


class NotebookFailed(RuntimeError):
    """A cell raised, or the kernel died; the message names source and cell and ends with the traceback."""


@dataclass(frozen=True)
class Parameter:
    """One line of the cell tagged `parameters`: its name, its default (which sets the type) and its comment."""

    name: str
    default: Scalar
    help: str

    @property
    def type(self) -> type:
        return type(self.default)


def parameters_of(source: Path) -> dict[str, Parameter]:
    """The parameters a chapter or stage declares, in their order; empty if no cell is tagged `parameters`.

    Raises ValueError if a line of that cell is not `name = <number, text or truth value>`.
    """
    tagged = [cell for cell in jupytext.read(source).cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) > 1:
        raise ValueError(f"{source}: {len(tagged)} cells are tagged 'parameters', one is allowed")
    return _declared(source, tagged[0].source) if tagged else {}


def mismatches(source: Path, section: Mapping[str, Scalar]) -> list[str]:
    """How a parameters cell differs from its section of `params.yaml`, a sentence each; empty if they agree."""
    cell = {name: parameter.default for name, parameter in parameters_of(source).items()}
    found = [f"{source}: {name} is missing from params.yaml" for name in cell.keys() - section.keys()]
    found += [f"{source}: {name} of params.yaml is missing from the cell" for name in section.keys() - cell.keys()]
    found += [
        f"{source}: {name} is {cell[name]!r} in the cell and {section[name]!r} in params.yaml"
        for name in cell.keys() & section.keys()
        if (cell[name], type(cell[name])) != (section[name], type(section[name]))
    ]
    return sorted(found)


def execute(source: Path, out: Path, parameters: Mapping[str, Scalar] | None = None, figures: Path | None = None) -> None:
    """Runs the text notebook `source` with `parameters` over its defaults; writes the executed copy to `out`.

    The kernel works in the current folder, which is the repository root. Figures shown by the notebook go to
    `figures`, by default to `$STUDY_FIGURES`.
    Raises ValueError for a parameter that is not declared and TypeError for one of another type; NotebookFailed
    if a cell fails: then `out` is untouched and the run is kept beside it as `<out stem>.failed.ipynb`.
    """
    source, out = Path(source), Path(out)
    declared = parameters_of(source)
    values = {name: parameter.default for name, parameter in declared.items()}
    values |= _checked(source, declared, parameters or {})
    changed = {name: value for name, value in values.items() if value != declared[name].default}
    failed = out.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="study-") as scratch:
        notebook, reason = _run(source, changed, _environment(source, out, figures, values), Path(scratch))
    write_text(failed if reason else out, _serialized(notebook))
    if reason:
        raise NotebookFailed(f"{source}: {reason}\n(the run is kept in {failed})")


def rerun_command(source: Path, values: Mapping[str, Scalar]) -> str:
    """The command that runs a chapter again, with each parameter spelt out so that one can be changed."""
    chapter = re.sub(r"^\d+_", "", source.stem)
    settings = (f"chapters.{chapter}.{name}={json.dumps(value)}" for name, value in values.items())
    return " \\\n  ".join(["dvc exp run", *(f"-S {shlex.quote(setting)}" for setting in settings)])


@contextmanager
def recorded(stage: str, item: str = "", fingerprint: str = "", folder: Path = Path("records")) -> Iterator[None]:
    """Times the block and, if it ends well, writes the run's record; a run that fails leaves none."""
    started, clock = datetime.now(UTC), time.perf_counter()
    (folder / f"{run_name(stage, item)}.json").unlink(missing_ok=True)
    yield
    write_record(stage, item, fingerprint, started, time.perf_counter() - clock, folder)


def write_record(
    stage: str, item: str, fingerprint: str, started: datetime, seconds: float, folder: Path = Path("records")
) -> Path:
    """Writes `<run name>.json`: what ran when, for how many seconds, on what machine, with which versions."""
    record = {
        "stage": stage,
        "item": item,
        "fingerprint": fingerprint,
        "started_utc": started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": round(seconds, 2),
        "hardware": hardware(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in RECORDED},
    }
    path = folder / f"{run_name(stage, item)}.json"
    write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def run_name(stage: str, item: str = "") -> str:
    """A run's name as the pipeline spells it: `train@digits-mlp`, or `fitting` for a stage that runs once."""
    return f"{stage}@{item}" if item else stage


def hardware() -> dict[str, str | int | float]:
    """Processor, cores that this process may use, memory in GiB, and the graphics processor if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _processor(), "cores": cores, "memory_gib": round(memory, 1)} | _accelerator()


def _accelerator() -> dict[str, str]:
    """The name of the first GPU that the driver lists; asking torch would take seconds wherever there is none."""
    listed = Path("/proc/driver/nvidia/gpus").glob("*/information")
    names = [
        line.partition(":")[2].strip()
        for file in listed
        for line in file.read_text().splitlines()
        if line.startswith("Model")
    ]
    return {"gpu": names[0]} if names else {}


def write_text(path: Path, text: str) -> None:
    """Writes a file, and its folder if need be, in one step: nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _declared(source: Path, code: str) -> dict[str, Parameter]:
    comments = _comments(code)
    found = {}
    for line in ast.parse(code).body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        if not isinstance(target, ast.Name) or getattr(line, "value", None) is None:
            raise ValueError(f"{source}: line {line.lineno} of the parameters cell is not `name = value`")
        default = _literal(source, target.id, line.value)
        found[target.id] = Parameter(target.id, default, comments.get(line.lineno, ""))
    return found


def _comments(code: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _literal(source: Path, name: str, value: ast.expr) -> Scalar:
    try:
        literal = ast.literal_eval(value)
    except ValueError:
        literal = None
    if not isinstance(literal, Scalar):
        raise ValueError(f"{source}: parameter {name} has no plain default (a number, a text or a truth value)")
    return literal


def _checked(source: Path, declared: Mapping[str, Parameter], given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise ValueError(f"{source} has no parameter {', '.join(unknown)}; it has: {', '.join(declared) or 'none'}")
    return {name: _converted(source, declared[name], value) for name, value in given.items()}


def _converted(source: Path, parameter: Parameter, value: Scalar) -> Scalar:
    if parameter.type is float and type(value) is int:
        return float(value)
    if type(value) is not parameter.type:
        raise TypeError(
            f"{source}: parameter {parameter.name} is {parameter.type.__name__} "
            f"(default {parameter.default!r}), not {type(value).__name__} {value!r}"
        )
    return value


def _environment(source: Path, out: Path, figures: Path | None, values: Mapping[str, Scalar]) -> dict[str, str]:
    """What the kernel finds in its environment, among it the folder of its figures, seen from here and from the page."""
    figures = figures or os.environ.get("STUDY_FIGURES")
    if not figures:
        return SURROUNDINGS
    links = Path(os.path.relpath(figures, out.parent)).as_posix()
    return SURROUNDINGS | {
        "STUDY_FIGURES": str(figures),
        "STUDY_FIGURE_LINKS": links,
        "STUDY_RERUN": rerun_command(source, values),
    }


def _run(
    source: Path, changed: Mapping[str, Scalar], environment: dict[str, str], scratch: Path
) -> tuple[NotebookNode, str]:
    """Runs the cells; returns the notebook as far as it came and, if it did not come to its end, why."""
    before, after = scratch / "source.ipynb", scratch / "executed.ipynb"
    nbformat.write(jupytext.read(source), before)
    reason = ""
    try:
        papermill.execute_notebook(
            before,
            after,
            parameters=dict(changed),
            progress_bar=False,
            stderr_file=sys.stderr,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel(environment, scratch),
        )
    except papermill.PapermillExecutionError as error:
        reason = _account(nbformat.read(after, 4), f"{error.ename}: {error.evalue}", error.traceback)
    except RuntimeError as error:  # the kernel died: killed for memory, or os._exit
        reason = _account(nbformat.read(after, 4), str(error), [])
    return nbformat.read(after, 4), reason


def _kernel(environment: dict[str, str], scratch: Path) -> type[AsyncKernelManager]:
    """A kernel of the running interpreter, whatever kernels the user has installed or named python3."""
    command = [
        sys.executable,
        "-m",
        "study.warm",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
        "--HistoryManager.enabled=False",
        "--IPKernelApp.log_level=50",
        f"--IPKernelApp.exec_lines={DISPLAY}",
    ]
    spec = KernelSpec(
        argv=command,
        env={**environment, "IPYTHONDIR": str(scratch / "ipython")},
        language="python",
        display_name="Python 3",
        metadata={"supported_encryption": "curve"},
    )

    class ThisInterpreter(AsyncKernelManager):
        kernel_spec = property(lambda self: spec)

        def __init__(self, **options):
            super().__init__(transport_encryption="auto" if zmq.has("curve") else "disabled", **options)

    return ThisInterpreter


def _account(notebook: NotebookNode, headline: str, traceback: list[str]) -> str:
    """Which cell failed (counted among the code cells of the source), its code, the traceback without colours."""
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    started = [number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time")]
    number = max(started, default=1)
    lines = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", line) for line in traceback)
    code = "\n".join(f"    {line}" for line in cells[number - 1].source.splitlines())
    return f"code cell {number} of {len(cells)} failed: {headline}\n{code}\n{lines}"


def _serialized(notebook: NotebookNode) -> str:
    """The notebook as text, without times, identities, paths, versions and what was said on stderr."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }
    names: dict[str, str] = {}
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = [_settled(output, names) for output in _joined(cell.outputs)]
    return nbformat.writes(notebook) + "\n"


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without stderr and with neighbouring pieces of stdout as one: where it breaks depends on timing."""
    kept: list[NotebookNode] = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and output.name == "stderr":
            continue
        if stream and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _settled(output: NotebookNode, names: dict[str, str]) -> NotebookNode:
    """Takes folders, memory addresses and random names out of all text of an output, glued values included."""
    if output.output_type == "stream":
        output.text = _plain(output.text, names)
    for kind, content in output.get("data", {}).items():
        if "text/" in kind and isinstance(content, str):
            output.data[kind] = _plain(content, names)
    return output


def _plain(text: str, names: dict[str, str]) -> str:
    here = str(Path.cwd())
    text = text.replace(f"{here}/", "").replace(here, ".")
    text = re.sub(r"\bat 0x[0-9a-f]{6,}", "at 0x…", text)
    text = re.sub(r"\bnp\.(?:float|int|bool|uint)\d*\(([^()]*)\)", r"\1", text)  # a number prints as a number
    return RANDOM_NAME.sub(lambda match: names.setdefault(match[0], f"T_{len(names):05d}"), text)


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    text = described.read_text() if described.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()
