"""The numbers that most readers come for, of every setting whose estimates the pipeline makes, in one table and one CSV.

`front.md` shows the table, `_static/main_numbers.csv` has the same numbers in full, one row a setting and quantity. Counts
stand beside what chance alone gives: the mean count after the rows of the models' results were permuted against the subsets.
"""

import html
from collections.abc import Mapping

import pandas as pd

from study import claims, finish, runs, tables
from study.quantities import known

CSV = "_static/main_numbers.csv"
STAGE = "estimate@"
MEASURED = ("test_accuracy", "mean_memorization")
COLUMNS = ["setting", "data", "n", "t", "quantity", "threshold", "value", "std_error", "by_chance"]
HEAD = ("setting", "test accuracy", "memorized", "pairs", "found again")


def summaries(expected: Mapping[str, runs.Run]) -> dict[str, dict]:
    """The summary of each run of `estimate` by its setting. Raises FileNotFoundError that names a missing one."""
    settings = [name.removeprefix(STAGE) for name in expected if name.startswith(STAGE)]
    return {setting: tables.load(setting, "summary") for setting in settings}


def markdown(found: Mapping[str, dict]) -> str:
    """The table with its explanation; each setting leads to its row on the status page."""
    rows = ["| " + " | ".join(HEAD) + " |", "|:--|" + "--:|" * (len(HEAD) - 1)]
    rows += ["| " + " | ".join(_cells(setting, summary)) + " |" for setting, summary in found.items()]
    return "\n".join(rows) + f"\n\n{_explained(found)}"


def _cells(setting: str, summary: dict) -> list[str]:
    memorized, pairs = summary["memorized"], summary["pairs"]
    anchor = finish.anchor(STAGE + setting)
    return [
        f'<a href="status.html#{anchor}">{html.escape(setting)}</a><br>n = {summary["n"]:,}<br>t = {summary["trials"]:,}',
        claims.show(*known(summary["test_accuracy"]), "percent").replace(" ± ", "<br>± "),
        f"{memorized['count']:,} ({memorized['share']:.1%})<br>chance {pairs['null_memorized']:,.1f}",
        f"{pairs['count']:,}<br>chance {pairs['null_count']:,.1f}",
        _share(summary["reliability"]["survivors"]),
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _explained(found: Mapping[str, dict]) -> str:
    thresholds = {(held["pairs"]["mem_threshold"], held["pairs"]["infl_threshold"]) for held in found.values()}
    told = " or ".join(f"{mem:g} and {infl:g}" for mem, infl in sorted(thresholds))
    return (
        "*n* training examples, *t* models, ± one standard error. *Memorized* are examples, and *pairs* are training and "
        f"test examples of one class, whose memorization and influence reach {told}. *Chance*: the same count with each "
        "model's results given to another model's subset. *Found again*: of the pairs chosen by one half of the models, the "
        f'share that passes with the other half. <a href="{CSV}" download>The same and more as CSV</a>. How the counts '
        "move with thresholds, number of models and learner is in the chapters on estimators and case studies."
    )


def frame(found: Mapping[str, dict]) -> pd.DataFrame:
    """One row a setting and quantity, with the `COLUMNS`; NaN where a quantity has no threshold, error or counterpart."""
    rows = [row for setting, summary in found.items() for row in _rows(setting, summary)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(setting: str, summary: dict) -> list[dict]:
    of = {"setting": setting, "data": summary["data"], "n": summary["n"], "t": summary["trials"]}
    memorized, pairs = summary["memorized"], summary["pairs"]
    measured = [{**of, "quantity": name, **dict(zip(("value", "std_error"), known(summary[name])))} for name in MEASURED]
    counted = [
        ("memorized", memorized["threshold"], memorized["count"], pairs["null_memorized"]),
        ("pairs", pairs["infl_threshold"], pairs["count"], pairs["null_count"]),
        ("pairs_mirrored", -pairs["infl_threshold"], pairs["mirrored_count"], None),
        ("tests_in_a_pair", pairs["infl_threshold"], pairs["unique_tests"], None),
        ("pairs_found_again", pairs["infl_threshold"], summary["reliability"]["survivors"], None),
    ]
    return measured + [
        {**of, "quantity": name, "threshold": threshold, "value": value, "by_chance": chance}
        for name, threshold, value, chance in counted
    ]
