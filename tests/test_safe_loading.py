"""Nothing that the study publishes or reads back is a pickle: to open somebody's file must never run somebody's code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOADERS = {
    ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("joblib", "load"), ("dill", "load"),
    ("shelve", "open"), ("cloudpickle", "load"), ("cloudpickle", "loads"), ("torch", "load"), ("pd", "read_pickle"),
}  # fmt: skip


def faults(code: str) -> list[str]:
    """Calls that unpickle or may: a known loader, or numpy's `load` without a plain `allow_pickle=False`."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [found for call in calls for found in _faults(call)]


def _faults(call: ast.Call) -> list[str]:
    named = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
    name = (call.func.value.id, call.func.attr) if named else ()
    settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in LOADERS and settings.get("weights_only") != "True":
        return [ast.unparse(call)]
    # numpy refuses pickles by itself since 1.16.3: only to allow them is a fault.
    return [ast.unparse(call)] if settings.get("allow_pickle", "False") != "False" else []


@pytest.mark.parametrize(
    "call",
    ["pickle.loads(text)", "torch.load(path)", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=trusted)"],
)
def test_the_search_sees_what_it_is_there_for(call):
    assert faults(call) == [call]


@pytest.mark.parametrize(
    "call", ["np.load(path)", "np.load(path, allow_pickle=False)", "torch.load(path, weights_only=True)"]
)
def test_the_search_lets_safe_loading_pass(call):
    assert faults(call) == []


def test_no_module_and_no_notebook_of_the_study_unpickles():
    for path in (ROOT / "src").rglob("*.py"):
        assert faults(path.read_text(encoding="utf-8")) == [], path
    for path in (ROOT / "notebooks").rglob("*.md"):
        cells = path.read_text(encoding="utf-8").split("```{code-cell}")[1:]
        code = ["\n".join(line for line in cell.split("```")[0].splitlines()[1:] if line[:1] != ":") for cell in cells]
        assert [found for cell in code for found in faults(cell)] == [], path


def test_reading_tables_and_arrays_asks_for_no_class(tmp_path):
    """The interpreter itself reports each class that a pickle asks for; reading tables and arrays must ask for none."""
    (tmp_path / "watch.py").write_text(WATCHED)
    outcome = subprocess.run([sys.executable, "watch.py"], cwd=tmp_path, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == ["read:0", "control:1"]


WATCHED = """
import pickle, sys
from fractions import Fraction
import numpy as np
import pandas as pd
from study import tables

tables.save("a", "frame", pd.DataFrame({"x": [1.0, 2.0], "name": ["b", "c"]}))
tables.save("a", "summary", {"x": 1})
np.savez("scores.npz", scores=np.arange(3))
asked = []
sys.addaudithook(lambda event, arguments: asked.append(arguments) if event == "pickle.find_class" else None)
tables.load("a", "frame"), tables.load("a", "summary"), np.load("scores.npz")["scores"]
print(f"read:{len(asked)}")
asked.clear()
pickle.loads(pickle.dumps(Fraction(1, 2)))
print(f"control:{len(asked)}")
"""
