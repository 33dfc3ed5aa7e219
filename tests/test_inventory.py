"""What is published is what the pipeline made: nothing missing, nothing stale, nothing left over from before."""

import hashlib
import json

import pytest
import toy_study
import yaml

from study import inventory
from study.inventory import InventoryError, PredictionFile


@pytest.fixture
def study(folder, digits, small_setting):
    toy_study.write(folder / "book" / "_config.yml", "title: A small study\n")
    toy_study.results(folder, digits, {"digits-small": small_setting(trials=6)})
    return folder


def by_name(root):
    return {str(file.path): file for file in inventory.published(root)}


def test_a_prediction_file_tells_its_trials_shapes_and_parameters(study, small_setting, digits):
    file = by_name(study)["predictions/digits-small.zarr.zip"]
    assert isinstance(file, PredictionFile)
    assert (file.trials, file.numbers, file.diverged) == (6, (0, 5), 0)
    assert file.variables["train_correct"] == (("trial", "train"), (6, 1000), "bool")
    assert file.variables["subset_checksum"] == (("trial",), (6,), "int64")
    assert file.fingerprint == small_setting(trials=6).fingerprint(digits)
    assert file.order_hash == digits.order_hash and file.setting["ratio"] == 0.7


def test_a_table_tells_rows_columns_and_who_made_it(study):
    record = {"stage": "estimate", "item": "digits-small", "fingerprint": "f00d"}
    toy_study.write(study / "published/records/estimate@digits-small.json", json.dumps(record))
    files = by_name(study)
    frame, summary = files["tables/digits-small/memorization.parquet"], files["tables/fitting/summary.json"]
    assert (frame.rows, frame.columns) == (5, {"index": "int64", "mem": "double"})
    assert (frame.run, frame.stage, frame.fingerprint) == ("estimate@digits-small", "estimate", "f00d")
    assert (summary.rows, summary.columns, summary.run, summary.fingerprint) == (None, {"repeats": "int"}, "fitting", "")


def test_sizes_and_hashes_are_those_of_the_bytes(study):
    for path, file in by_name(study).items():
        content = (study / path).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_record_of_this_machine_stands_before_the_published_one(study):
    for place, print_ in (("published/records", "old"), ("records", "new")):
        toy_study.write(study / place / "fitting.json", json.dumps({"stage": "fitting", "item": "", "fingerprint": print_}))
    assert inventory.fingerprints(study) == {"fitting": "new"}


def test_a_missing_file_is_named_with_the_remedy(study):
    (study / "tables/digits-small/summary.json").unlink()
    with pytest.raises(InventoryError, match=r"tables/digits-small/summary.json is missing; `dvc pull`"):
        inventory.published(study)


def test_a_file_that_the_pipeline_did_not_make_is_refused(study):
    (study / "tables/digits-small/summary.json").write_text('{"n": 1001}')
    with pytest.raises(InventoryError, match=r"is not the file that dvc\.lock names"):
        inventory.published(study)


def test_files_left_behind_by_an_earlier_version_are_not_published(study):
    toy_study.table(study, "gone/summary.json").write_text("{}")
    lock = yaml.safe_load((study / "dvc.lock").read_text())
    lock["stages"]["gone"] = {"outs": [{"path": "tables/gone", "md5": "0.dir"}]}
    lock["stages"]["estimate"] = {"outs": [{"path": "tables/digits-small/summary.json", "md5": "of an earlier version"}]}
    (study / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    assert "tables/gone/summary.json" not in by_name(study)
    assert by_name(study)["tables/digits-small/summary.json"].run == "estimate@digits-small"


def test_without_a_run_of_the_pipeline_there_is_nothing_to_list(folder):
    with pytest.raises(InventoryError, match="the pipeline has not run here"):
        inventory.published(folder)
