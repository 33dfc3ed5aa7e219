"""Data cards: read from the files, complete, and every example of loading runs."""

from pathlib import Path

import numpy as np
import pytest
import toy_study
import yaml

from study import cards, inventory

ROOT = Path(__file__).parents[1]


@pytest.fixture
def study(folder, digits, small_setting):
    toy_study.write(folder / "book" / "_config.yml", "title: A small study\n")
    settings = {"digits-small": small_setting(trials=6), "digits-other": small_setting(trials=4, seed=1)}
    toy_study.results(folder, digits, settings)
    return folder


def test_every_file_has_a_place_on_the_page(study):
    page = cards.cards_page(study)
    assert [str(file.path) for file in inventory.published(study) if f"`{file.path}`" not in page] == []


def test_a_prediction_card_tells_t_shape_dtype_fingerprint_and_hash(study):
    page, file = cards.cards_page(study), inventory.published(study)[1]
    card = page.partition("### digits-small")[2]
    assert "*t:* 6 trials, from number 0 to 5; 0 of them diverged" in card
    assert "| `train_correct` | 6 × 1,000 | bool |" in card and "| `test_label` | 797 | int64 |" in card
    assert file.sha256 in card and file.fingerprint in card and "random 70%" in card


def test_a_table_card_tells_rows_columns_and_the_trials_it_rests_on(study):
    page = cards.cards_page(study)
    assert "| `tables/digits-other/memorization.parquet` | 5 | 4 |" in page
    assert "Holds `index` int64, `mem` double." in page
    assert "Fits true and random labels." in page and "More." not in page


@pytest.mark.parametrize("kind", [".zip", ".parquet", ".json"])
def test_the_three_lines_that_load_a_file_load_it(study, kind):
    path = next(file.path for file in inventory.published(study) if file.path.suffix == kind)
    snippet, names = cards.load_snippet(path), {}
    assert len(snippet.splitlines()) == 3 and snippet in cards.cards_page(study)
    exec(snippet, names)
    content = names["content"]
    if kind == ".zip":
        assert content.train_correct.shape == (4, 1000) and content.train_correct.dtype == bool
        assert 0.85 < float(content.train_correct.mean()) < 0.95
        names["store"].close()
    elif kind == ".parquet":
        assert list(content.columns) == ["index", "mem"] and np.isnan(content.mem[4])
    else:
        assert content["n"] == 1000


def test_every_example_on_the_page_is_one_that_was_tried(study):
    blocks = cards.cards_page(study).split("```python\n")[1:]
    shown = {block.partition("\n```")[0] for block in blocks}
    assert shown <= {cards.load_snippet(file.path) for file in inventory.published(study)} and len(shown) == 4


def test_no_snippet_of_ours_reads_a_pickle():
    assert not [text for text in cards.LOAD.values() if "pickle" in text or "torch" in text or "allow" in text]


def test_the_licence_is_that_of_the_citation_file(study):
    assert "none has been chosen yet" in cards.cards_page(study)
    citation = yaml.safe_load((study / "CITATION.cff").read_text()) | {"license": ["MIT", "CC-BY-4.0"]}
    (study / "CITATION.cff").write_text(yaml.safe_dump(citation))
    assert "Licence of these files: MIT or CC-BY-4.0." in cards.cards_page(study)


def test_the_data_of_a_reader_are_told_from_those_of_the_study(study):
    text = (study / "book/cards.yaml").read_text()
    toy_study.write(study / "book/cards.yaml", text.replace("  digits:\n", "  other_digits:\n", 1))
    assert "| `digits` | data of your own |" in cards.cards_page(study)


def test_a_misspelt_key_of_the_words_is_refused(study):
    toy_study.write(study / "book/cards.yaml", "sorces: {}\n")
    with pytest.raises(ValueError, match="sorces"):
        cards.words(study / "book/cards.yaml")


def test_a_table_without_a_sentence_is_named(study):
    said, files = cards.words(study / "book/cards.yaml"), inventory.published(study)
    assert cards.undescribed(files, said) == []
    without = said.model_copy(
        update={"tables": {key: text for key, text in said.tables.items() if key != "fitting/summary"}}
    )
    assert cards.undescribed(files, without) == ["fitting/summary"]


def test_every_stage_and_every_table_that_the_pipeline_names_has_its_sentence():
    said, missing = cards.words(ROOT / "book" / "cards.yaml").tables, []
    for stage, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        named = [Path(next(iter(out)) if isinstance(out, dict) else out) for out in entry.get("outs", [])]
        for path in (path for path in named if path.parts[0] == "tables"):
            known = (
                f"{stage}/{path.stem}" in said
                if path.suffix in (".parquet", ".json")
                else any(key.startswith(f"{stage}/") for key in said)
            )
            missing += [] if known else [f"{stage}: {path}"]
    assert missing == []
