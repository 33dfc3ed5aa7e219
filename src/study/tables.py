"""Tables between the stages: ``tables/<folder>/<name>.parquet`` for frames, ``.json`` for summaries.

Files are written whole or not at all, and hold nothing that depends on when or where they were made.
"""

import json
import math
import os
from pathlib import Path

import pandas as pd

ROOT = Path("tables")


def save(folder: str, name: str, content: pd.DataFrame | dict) -> Path:
    """Write a frame or a summary atomically and return its path. A NaN in a summary becomes null."""
    is_frame = isinstance(content, pd.DataFrame)
    path = ROOT / folder / f"{name}.{'parquet' if is_frame else 'json'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    if is_frame:
        content.to_parquet(part, index=False)
    else:
        part.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")
    os.replace(part, path)
    return path


def load(folder: str, name: str) -> pd.DataFrame | dict:
    """Read what `save` wrote. Raises ``FileNotFoundError`` that says which stage is to be run."""
    stem = ROOT / folder / name
    if (path := stem.with_suffix(".parquet")).is_file():
        return pd.read_parquet(path)
    if (path := stem.with_suffix(".json")).is_file():
        return json.loads(path.read_text())
    raise FileNotFoundError(f"neither {stem}.parquet nor {stem}.json exists; `dvc repro` makes them")


def _plain(value):
    """numpy scalars and arrays as JSON numbers and lists."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return _plain(value)
    return None if isinstance(value, float) and math.isnan(value) else value
