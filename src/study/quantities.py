"""Measured numbers as they stand in ``tables/*.json``: ``{"value": x, "std_error": s}``, NaN where not identified."""

import numpy as np
import pandas as pd

UNKNOWN = {"value": float("nan"), "std_error": float("nan")}


def known(quantity: dict) -> tuple[float, float]:
    """Value and standard error of a quantity read from a table, null as NaN."""
    return tuple(float("nan") if quantity[key] is None else quantity[key] for key in ("value", "std_error"))


def mean(values: np.ndarray) -> dict[str, float]:
    """Mean of independent ``values (k,)`` with its standard error, which is NaN for fewer than two."""
    if len(values) == 0:
        return dict(UNKNOWN)
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return {"value": float(np.mean(values)), "std_error": float(error)}


def clustered_mean(values: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Mean of ``values (k,)`` of which those with the same entry in ``clusters (k,)`` are not independent.

    The standard error treats the clusters' sums of residuals as independent; NaN for fewer than two clusters.
    """
    if len(values) == 0:
        return dict(UNKNOWN)
    sums = pd.Series(values - np.mean(values)).groupby(np.asarray(clusters)).sum()
    correction = len(sums) / (len(sums) - 1) if len(sums) > 1 else float("nan")
    return {"value": float(np.mean(values)), "std_error": float(np.sqrt(correction * (sums**2).sum()) / len(values))}


def difference(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    """a - b for independent quantities."""
    return {"value": a["value"] - b["value"], "std_error": float(np.hypot(a["std_error"], b["std_error"]))}


def ratio(part: np.ndarray, whole: np.ndarray) -> dict[str, float]:
    """Ratio of the means of ``part (k,)`` and ``whole (k,)``, measured together; error to first order (delta method)."""
    if len(whole) == 0 or np.mean(whole) == 0:
        return dict(UNKNOWN)
    value = float(np.mean(part) / np.mean(whole))
    return {"value": value, "std_error": mean(part - value * whole)["std_error"] / abs(float(np.mean(whole)))}


def correlation(a: np.ndarray, b: np.ndarray, samples: int, rng: np.random.Generator) -> dict[str, float]:
    """Pearson correlation of ``a (k,)`` and ``b (k,)`` with a bootstrap standard error over the k examples."""
    rows = rng.integers(len(a), size=(samples, len(a)))
    return {"value": _pearson(a[None], b[None])[0], "std_error": float(_pearson(a[rows], b[rows]).std(ddof=1))}


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a constant sample has no correlation: NaN
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
