"""The table of the first page: every setting, every number with its error or beside chance, the same in the CSV."""

import pandas as pd
import pytest

from study import main_numbers, runs, tables


def summary(count: int = 7) -> dict:
    return {
        "data": "digits",
        "n": 1000,
        "trials": 4000,
        "test_accuracy": {"value": 0.968, "std_error": 0.001},
        "mean_memorization": {"value": 0.0346, "std_error": 0.0002},
        "memorized": {"threshold": 0.25, "count": 43, "share": 0.043},
        "pairs": {
            "mem_threshold": 0.25,
            "infl_threshold": 0.15,
            "count": count,
            "unique_tests": 5,
            "mirrored_count": 2,
            "null_count": 0.3,
            "null_memorized": 1.5,
        },
        "reliability": {"survivors": None if count == 0 else 0.77},
    }


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_each_number_of_the_table_stands_with_its_error_or_beside_what_chance_gives():
    row = cells(main_numbers.markdown({"digits-mlp": summary()}).splitlines()[2])
    assert row[0] == '<a href="status.html#run-estimate-digits-mlp">digits-mlp</a><br>n = 1,000<br>t = 4,000'
    assert row[1:] == ["96.80<br>± 0.10\N{NO-BREAK SPACE}%", "43 (4.3%)<br>chance 1.5", "7<br>chance 0.3", "77%"]


def test_without_pairs_nothing_can_be_found_again():
    assert cells(main_numbers.markdown({"a": summary(0)}).splitlines()[2])[-1] == "–"


def test_the_csv_has_a_row_for_each_quantity_with_its_threshold():
    held = main_numbers.frame({"a": summary(), "b": summary(0)}).set_index(["setting", "quantity"])
    assert held.loc[("a", "memorized"), ["threshold", "value", "by_chance"]].tolist() == [0.25, 43, 1.5]
    assert held.loc[("a", "pairs"), ["threshold", "value", "by_chance"]].tolist() == [0.15, 7, 0.3]
    assert held.loc[("a", "test_accuracy"), ["value", "std_error"]].tolist() == [0.968, 0.001]
    assert pd.isna(held.loc[("b", "pairs_found_again"), "value"]) and held.loc["b", "t"].eq(4000).all()


def test_the_settings_are_those_whose_estimates_the_pipeline_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables.save("a", "summary", summary())
    expected = {name: runs.Run(name, (), ()) for name in ("train@a", "estimate@a", "train@b")}
    assert main_numbers.summaries(expected).keys() == {"a"}
    with pytest.raises(FileNotFoundError, match=r"tables/b/summary"):
        main_numbers.summaries(expected | {"estimate@b": runs.Run("estimate@b", (), ())})
