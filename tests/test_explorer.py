"""What the explorer shows is chosen as it says, packed without loss, and can be used in a browser, by keyboard too."""

import io
import json
from dataclasses import replace

import browser as look
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from study import data, explorer, pictures
from study.image_folder import DataError
from study.pictures import Pictures

N = 1000


@pytest.fixture
def memorization():
    mem = np.concatenate([np.zeros(900), np.linspace(0, 1, 98), [np.nan, -0.01]])
    columns = {"index": np.arange(N), "label": np.arange(N) % 10, "mem": mem, "std_error": 0.01}
    return pd.DataFrame(columns | {"n_in": 70, "n_out": 30, "in_accuracy": 1.0, "out_accuracy": 1 - mem})


@pytest.fixture
def pairs():
    rows = [(950, test, 0.1 * test) for test in range(1, 10)] + [(3, 5, 0.2)]
    table = pd.DataFrame(rows, columns=["train", "test", "infl"]).assign(std_error=0.02, mem=0.5, same_class=True)
    return pd.concat([table, table.tail(1).assign(train=950, test=500, infl=0.95, same_class=False)])


@pytest.fixture
def tour(memorization, pairs, digits):
    examples = explorer.choose(memorization, 100, 0)
    seen = Pictures(digits.classes, digits.y_train, digits.x_train, digits.x_test)
    return explorer.Tour("toy", "Toy <data>", N, 100, examples, explorer.strongest(pairs, examples), seen)


def content(folder) -> dict:
    text = (folder / "toy.mjs").read_text()
    return json.loads(text.removeprefix("window.studyExplorer(").removesuffix(");\n"))


def test_sparse_bins_are_shown_whole_and_full_ones_by_a_sample(memorization):
    chosen = explorer.choose(memorization, 100, 0)
    assert len(chosen) == 100 and chosen.mem.is_monotonic_increasing and chosen["index"].is_unique
    rare = memorization[(memorization.mem >= 0.05)]
    assert set(rare["index"]) <= set(chosen["index"]), "what lies above the crowded bin is shown whole"
    assert not chosen.mem.isna().any()
    assert not explorer.choose(memorization, 100, 1).equals(chosen)
    assert len(explorer.choose(memorization, 5000, 0)) == N - 1


def test_the_strongest_tests_of_the_own_class_are_kept(tour, pairs):
    kept = tour.influences[tour.influences.train == 950]
    assert kept.test.tolist() == list(range(9, 1, -1)) and explorer.TESTS_OF_ONE == 8
    assert 500 not in tour.tests, "a pair of two classes is left out"


def test_what_is_packed_is_what_was_estimated(tour, tmp_path):
    explorer.write(tour, tmp_path)
    found = content(tmp_path)
    place = found["train"].index(950)
    row = tour.examples[tour.examples["index"] == 950].iloc[0]
    assert found["mem"][place] == pytest.approx(row.mem, abs=1e-4) and found["label"][place] == 0
    assert [found["tests"][test] for test, _, _ in found["influences"][place]] == list(range(9, 1, -1))
    assert found["influences"][place][0][1:] == [0.9, 0.02]
    assert {len(found[key]) for key in ("train", "label", "mem", "std_error", "n_in", "n_out", "influences")} == {100}


def test_a_picture_lies_in_the_sheet_where_its_number_says(tour, tmp_path, digits):
    explorer.write(tour, tmp_path)
    sheet = np.asarray(Image.open(tmp_path / "toy-train.webp").convert("L"))
    for place in (0, 49, 50, 99):
        row, column = divmod(place, explorer.ACROSS)
        cut = sheet[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        x = digits.x_train[tour.examples["index"][place]]
        assert np.array_equal(cut, 255 - np.rint(x * 255).astype(np.uint8))


def test_colour_pictures_are_packed_with_hardly_a_loss():
    shades = np.linspace(0, 255, 32)
    down, across = np.meshgrid(shades, shades, indexing="ij")
    x = np.stack([np.stack([down, across, 255 - down], -1), np.stack([across, down, across], -1)]).astype(np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(explorer.sheet(x))))
    assert sheet.shape == (32, 32 * explorer.ACROSS, 3)
    for place in (0, 1):
        cut = sheet[:, 32 * place : 32 * place + 32]
        assert np.abs(cut.astype(int) - x[place]).mean() < 5
    assert (sheet[:, 96:] > 250).all(), "the rest of the row is empty"


def test_without_raw_data_there_are_places_and_the_reason(tour, tmp_path, monkeypatch, digits):
    def missing(_):
        raise DataError("no such folder; set STUDY_DATA")

    monkeypatch.setattr(pictures.datasets, "load", missing)
    seen = pictures.load("mnist", digits.y_train)
    assert seen.missing == "no such folder; set STUDY_DATA" and seen.train is None and seen.classes[3] == "3"
    explorer.write(replace(tour, pictures=seen), tmp_path)
    assert content(tmp_path)["pixels"] is None and [path.name for path in tmp_path.iterdir()] == ["toy.mjs"]


def test_pictures_are_those_of_the_data(digits):
    seen = pictures.load("digits", np.zeros(3, int))
    assert seen.missing == "" and np.array_equal(seen.labels, data.load("digits").y_train)


def page_with(tour, folder):
    explorer.write(tour, folder)
    script = (look.Path(__file__).parents[1] / "book/_static/explorer.js").read_text()
    (folder / "page.html").write_text(f"<meta charset=utf-8>{explorer.markup([tour], '.')}<script>{script}</script>")
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize("size", [look.DESKTOP, look.PHONE], ids=["desktop", "phone"])
def test_the_explorer_is_used_by_keyboard_alone(tour, tmp_path, size):
    with look.chromium() as chromium, look.opened(chromium, size) as (page, complaints):
        page.goto(page_with(tour, tmp_path))
        page.wait_for_selector("[data-ready=toy]")
        assert page.locator("option").first.text_content() == "Toy <data>"
        page.focus("[name=mem]")
        page.keyboard.press("End")
        assert page.locator(".value").text_content() == "1.00"
        labels = page.locator(".grid button").evaluate_all("buttons => buttons.map(b => b.getAttribute('aria-label'))")
        assert len(labels) == 36 and labels[-1].endswith("memorization 1.00")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator(".detail dd").first.text_content() == labels[0].split(",")[0].split()[-1]
        assert page.locator(".grid button[aria-pressed=true]").count() == 1
        assert complaints == []


def test_the_class_filter_and_the_influences_follow_the_choice(tour, tmp_path):
    with look.chromium() as chromium, look.opened(chromium, look.DESKTOP) as (page, complaints):
        page.goto(page_with(tour, tmp_path))
        page.wait_for_selector("[data-ready=toy]")
        page.select_option("[name=class]", "0")
        page.wait_for_selector(".grid button")
        labels = page.locator(".grid button").evaluate_all("buttons => buttons.map(b => b.getAttribute('aria-label'))")
        assert all("class 0," in label for label in labels)
        page.locator(".grid button[aria-label^='training example 950,']").click()
        assert page.locator(".detail .tests li").count() == explorer.TESTS_OF_ONE
        assert page.locator(".detail .tests li").first.text_content() == "0.90 ± 0.02"
        assert complaints == []


def test_a_missing_file_is_told_on_the_page(tour, tmp_path):
    address = page_with(tour, tmp_path)
    (tmp_path / "toy.mjs").unlink()
    with look.chromium() as chromium, look.opened(chromium, look.DESKTOP) as (page, _):
        page.goto(address)
        page.get_by_text("The explorer cannot open: toy.mjs is missing.").wait_for(timeout=5000)
