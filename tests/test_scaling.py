"""What the study costs: counts that can be done by hand, lines through planted powers, a page that says what it is told."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from torchvision.models import ResNet50_Weights

from study import estimators, notebooks, params, scaling, subsets, tables, trials
from study.learners import FrozenFeatures, Mlp, NearestNeighbour
from study.learners.convnet import Compact, ResNet50
from study.params import Scaling

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "notebooks/chapters/07_scaling.md"


@pytest.fixture(scope="module")
def study() -> params.Params:
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def rules(study) -> Scaling:
    """ImageNet with ten classes of twenty pictures."""
    small = {"n": 200, "n_test": 40, "classes": 10, "timed": ("toy",), "timed_batch": 4, "repeats": 1, "file_trials": 100}
    return study.scaling.model_copy(update=small | {"accuracies": (0.5, 0.9, 1.0), "simulated_classes": (2, 4, 8)})


@pytest.fixture(scope="module")
def costed(study):
    """The study's setting with a small network and small pictures."""
    small = {"architecture": Compact(stride=4, widths=(8, 16), blocks=(0, 1)), "epochs": 3, "precision": "float32"}
    learner = study.setting("imagenet-resnet50").learner.model_copy(update=small | {"device": "cpu"})
    return study.setting("imagenet-resnet50").model_copy(update={"data": "imagenet-32", "learner": learner, "trials": 60})


def test_the_settings_that_are_costed_and_timed_exist_and_need_no_download(study):
    assert study.scaling.setting in study.settings
    assert {study.setting(name).data for name in study.scaling.timed} <= {"digits", "longtail"}


# operations and times


def test_operations_of_a_perceptron_are_those_of_its_matrices(small):
    """64 inputs, 16 hidden units and 16 outputs (8 and 10, rounded up to whole vectors): two operations a weight."""
    cost = scaling.operations(small(widths=(8,)), "digits", 10)
    below, above = 2 * 64 * 16, 2 * 16 * 16
    assert cost.predicted == below + above
    assert cost.trained == 3 * above + 2 * below, "forward, and backward but for the gradient at the inputs"


def test_operations_of_a_head_leave_out_its_representation(small):
    frozen = FrozenFeatures(representation=small(widths=(16,)), representation_seed=0, head=small(widths=()))
    cost = scaling.operations(frozen, "digits", 10)
    assert (cost.predicted, cost.trained, cost.fixed) == (2 * 16 * 16, 4 * 16 * 16, 0)


def test_operations_by_shapes_are_those_of_a_real_training(costed):
    trained, predicted = scaling.picture_operations(costed.learner.architecture, 32, 4)
    cost = scaling.operations(costed.learner.model_copy(update={"batch_size": 6}), "imagenet-32", 4)
    assert (cost.trained, cost.predicted) == (trained, predicted)


def test_operations_of_resnet_50_are_those_that_torchvision_documents():
    trained, predicted = scaling.picture_operations(ResNet50(), 224, 1000)
    documented = ResNet50_Weights.DEFAULT.meta["_ops"] * 1e9  # multiplications, each with an addition
    assert predicted == pytest.approx(2 * documented, rel=1e-3)
    assert 2.9 < trained / predicted < 3


def test_seconds_are_solved_from_runs_that_differ_in_one_thing(small, monkeypatch):
    """A learner that sleeps no time at all but tells what it would have taken."""
    spent = {"now": 0.0}

    def fit_predict(self, data, members, seeds):
        m = int(members[0].sum())
        spent["now"] += 5.0 + 0.5 * m * self.epochs + 0.25 * (data.n + data.n_test)
        return np.zeros(members.shape, np.int16), np.zeros((1, data.n_test), np.int16)

    monkeypatch.setattr(Mlp, "fit_predict", fit_predict)
    monkeypatch.setattr(scaling.time, "process_time", lambda: spent["now"])
    monkeypatch.setattr(scaling.torch.cuda, "is_available", lambda: False)
    cost = scaling.seconds(small(), "digits", 10, repeats=2)
    assert (cost.fixed, cost.trained, cost.predicted) == pytest.approx((5, 0.5, 0.25))
    assert cost.of_model(m=700, epochs=15, labelled=1797) == pytest.approx(5 + 0.5 * 700 * 15 + 0.25 * 1797)


# trained settings


@pytest.fixture
def trained(study, rules, small_setting, folder):
    """A study of two settings, of which one has predictions: of 20 small networks."""
    toy = small_setting(trials=20)
    trials.train("toy", toy, workers=0)
    return study.model_copy(update={"settings": {"toy": toy, "later": small_setting(seed=1)}, "scaling": rules})


def record(folder: Path, fingerprint: str, **hardware) -> None:
    made = {"fingerprint": fingerprint, "seconds": 8.0, "hardware": {"cpu": "a core", "cores": 4} | hardware}
    notebooks.write_text(folder / "train@toy.json", json.dumps(made))


def test_a_setting_without_predictions_has_no_row(trained):
    frame = scaling.learners(trained)
    assert frame.setting.tolist() == ["toy"] and frame.columns.tolist() == scaling.LEARNERS
    row = frame.iloc[0]
    assert (row.trials, row.n, row.n_test, row.m, row.epochs) == (20, 1000, 797, 700, 1)
    assert row.seconds > 0 and row.entropy <= row.bits
    below, above = 2 * 64 * 16, 2 * 16 * 16
    assert row.operations == 700 * (3 * above + 2 * below) + 1797 * (below + above)
    assert np.isnan(row.recorded_seconds)


def test_a_learner_without_epochs_is_sized_but_its_operations_are_not_counted(trained, small_setting):
    neighbours = small_setting(trials=6).model_copy(update={"learner": NearestNeighbour(models_at_once=6)})
    trials.train("neighbours", neighbours, workers=0)
    row = scaling.learners(trained.model_copy(update={"settings": {"neighbours": neighbours}})).iloc[0]
    assert row.bits > 0 and np.isnan(row.operations) and np.isnan(row.seconds)


def test_the_record_of_other_predictions_does_not_count(trained, digits):
    fingerprint = trained.setting("toy").fingerprint(digits)
    record(Path("records"), "another")
    assert scaling.recorded("toy", fingerprint) == {}
    record(Path("published/records"), fingerprint, gpu="a card")
    assert scaling.recorded("toy", fingerprint)["recorded_gpu"] == "a card"
    record(Path("records"), fingerprint)
    found = scaling.recorded("toy", fingerprint)
    assert found == {"recorded_seconds": 8.0, "recorded_cores": 4, "recorded_cpu": "a core", "recorded_gpu": None}


def test_speeds_of_accelerators_are_told_where_they_were_measured():
    learners = pd.DataFrame({"setting": ["a", "b"], "operations": [2e12, 1e12], "trials": [100, 5]})
    learners = learners.assign(recorded_seconds=[10.0, 3.0], recorded_gpu=["a card", None])
    pictures = pd.DataFrame({"pixels": [32, 224], "trained_operations": [1e9, 2e10], "trained_seconds": [np.nan, 0.001]})
    told = [scaling.measured_speeds(learners, pictures, {"gpu": gpu}, "imagenet") for gpu in (None, "another")]
    assert told == [["a on a card: 20 TFLOP/s"], ["a on a card: 20 TFLOP/s", "imagenet on another: 20 TFLOP/s"]]


# storage


def test_no_file_is_smaller_than_the_entropy_of_its_predictions(costed, rules):
    frame = scaling.compression(costed, rules).set_index("accuracy")
    assert frame.entropy.tolist() == pytest.approx([1, 0.469, 0], abs=1e-3)
    assert (frame.bits > frame.entropy).all() and frame.bits.is_monotonic_decreasing
    assert frame.bits[1.0] < 0.1 and frame.bits[0.5] < 1.5


def test_the_size_of_the_file_is_that_of_all_its_bits(rules):
    assert scaling.predictions_bytes(0.5, 16, rules) == 0.5 * 16 * 240 / 8


# estimation


def test_simulated_classes_have_the_size_of_the_true_ones_and_memorize_what_was_planted(costed, rules):
    arrays = scaling.simulated(4, costed.model_copy(update={"trials": 2000}), rules)
    assert np.bincount(arrays["train_labels"]).tolist() == [20] * 4
    assert np.bincount(arrays["test_labels"]).tolist() == [4] * 4
    assert (np.diff(arrays["train_labels"]) >= 0).all(), "class after class, as a folder is read"
    mem = estimators.estimate(**arrays).memorization.mem
    assert mem.between(-0.01, 0.1).sum() + mem.between(0.6, 0.8).sum() == 80
    assert mem.between(0.6, 0.8).mean() == pytest.approx(rules.memorized, abs=0.2)


def test_every_part_of_the_estimation_is_timed_at_every_size(costed, rules):
    frame = scaling.estimation(costed, rules, 0.25, 0.15)
    assert frame.groupby("part").n.apply(list).to_dict() == {part: [40, 80, 160] for part in scaling.PARTS}
    assert (frame.seconds > 0).all() and (frame.n_test == frame.n / 5).all()


def test_a_planted_power_is_found_and_an_exact_one_has_no_error():
    n = np.array([100, 200, 400, 800])
    found = scaling.power_law(n, 3e-6 * n**1.5, at=12_800)
    assert found["slope"] == pytest.approx(1.5) and found["slope_error"] < 1e-9
    assert found["low"] == pytest.approx(found["seconds"]) == pytest.approx(3e-6 * 12_800**1.5)


def test_nineteen_in_twenty_intervals_hold_the_next_measurement():
    draw, n, hits = np.random.default_rng(0), np.array([1, 2, 4, 8, 16]), 0
    for _ in range(1000):
        noisy = n * np.exp(0.1 * draw.standard_normal(5))
        found = scaling.power_law(n, noisy, at=1000)
        hits += found["low"] < 1000 * np.exp(0.1 * draw.standard_normal()) < found["high"]
    assert 920 < hits < 980


def test_two_sizes_are_refused():
    with pytest.raises(ValueError, match="2 sizes cannot tell how well a line fits; at least three"):
        scaling.power_law(np.array([1, 2]), np.array([1, 2]), 10)


def times(scale: float = 1.0) -> pd.DataFrame:
    """Seconds that follow the powers which the algorithm promises."""
    rows = [(part, n, scale * 1e-4 * n**power) for part, power in scaling.PARTS.items() for n in (1000, 2000, 4000)]
    return pd.DataFrame(rows, columns=["part", "n", "seconds"]).assign(n_test=100)


def test_where_times_follow_the_powers_both_extrapolations_agree(rules):
    far = scaling.extrapolated(times(), rules.model_copy(update={"n": 64_000})).set_index("part")
    assert far.slope.to_dict() == pytest.approx(scaling.PARTS)
    assert far.seconds.to_dict() == pytest.approx(far.by_power.to_dict())
    assert far.seconds["all pairs"] == pytest.approx(1e-4 * 64_000**2)


# the full study


PICTURES = pd.DataFrame({"pixels": [32, 224], "trained_operations": [3e9, 3e10], "predicted_operations": [1e9, 1e10]})
PICTURES = PICTURES.assign(trained_seconds=[np.nan, 2.0], predicted_seconds=[np.nan, 0.5])


def test_the_cost_of_training_is_its_sum(costed, rules):
    """60 trials of 3 epochs over 140 pictures, and 240 labels each."""
    frame = scaling.training(PICTURES, costed, rules, sustained=1e12).set_index("pixels")
    operations = 60 * (140 * 3 * 3e10 + 240 * 1e10)
    assert frame.operations[224] == pytest.approx(operations)
    assert frame.accelerator_hours[224] == pytest.approx(operations / 1e12 / 3600)
    assert frame.core_hours[224] == pytest.approx(60 * (140 * 3 * 2.0 + 240 * 0.5) / 3600)
    assert frame.picture_rate.tolist() == pytest.approx([1e12 / 3e9, 1e12 / 3e10])
    assert np.isnan(frame.core_hours[32])


def test_an_accelerator_twice_as_fast_takes_half_the_hours(costed, rules):
    slow, fast = (scaling.training(PICTURES, costed, rules, speed).accelerator_hours for speed in (1e12, 2e12))
    assert slow.tolist() == pytest.approx((2 * fast).tolist())


def test_the_stage_measures_all_of_it(trained, costed):
    study = trained.model_copy(update={"settings": trained.settings | {"imagenet-resnet50": costed}})
    summary = scaling.run(study)
    assert summary["machine"]["cores"] >= 1 and tables.load("scaling", "summary") == summary
    rows = {name: len(tables.load("scaling", name)) for name in ("learners", "resolutions", "compression", "estimation")}
    assert rows == {"learners": 1, "resolutions": 3, "compression": 3, "estimation": 12}
    timed = tables.load("scaling", "resolutions").set_index("pixels").trained_seconds
    assert timed.notna().to_dict() == {32: True, 64: False, 224: False}


# the chapter


@pytest.fixture
def measured(study, folder) -> Path:
    """Tables as the stage writes them, with round numbers, in a folder with the study's parameters."""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    row = {"setting": "digits-mlp", "trials": 4000, "n": 1000, "n_test": 797, "m": 700, "epochs": 15, "test_accuracy": 0.97}
    row |= {"file_bytes": 1e5, "bits": 0.125, "entropy": 0.05, "operations": 5e8, "seconds": 0.01}
    row |= {"recorded_seconds": 40.0, "recorded_cores": 2, "recorded_cpu": "a core", "recorded_gpu": None}
    compression = pd.DataFrame({"accuracy": [0.5, 1.0], "entropy": [1.0, 0.0], "bits": [1.25, 0.0]})
    frames = {
        "learners": pd.DataFrame([row]),
        "resolutions": PICTURES,
        "compression": compression,
        "estimation": times(1e-6),
    }
    summary = {"machine": {"cpu": "a core", "cores": 2, "memory_gib": 8.0, "gpu": None}, "threads": 1}
    for name, content in (frames | {"summary": summary}).items():
        tables.save("scaling", name, content)
    return folder


def glued(path: Path) -> dict[str, str]:
    """The values that the text of an executed chapter quotes."""
    outputs = (output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", ()))
    pairs = ((o.metadata["scrapbook"]["name"], o.data) for o in outputs if "scrapbook" in o.get("metadata", {}))
    return {name: next(value for kind, value in data.items() if kind.endswith("text/plain")) for name, data in pairs}


def test_the_chapter_computes_what_it_says_from_the_tables(measured, study):
    notebooks.execute(CHAPTER, Path("chapter.ipynb"), {"sustained_tflops": 30.0, "accelerators": 10}, Path("figures"))
    said, setting, rules = glued(Path("chapter.ipynb")), study.setting("imagenet-resnet50"), study.scaling
    m = subsets.subset_size(rules.n, setting.ratio)
    hours = setting.trials * (m * setting.learner.epochs * 3e10 + (rules.n + rules.n_test) * 1e10) / 30e12 / 3600
    assert float(said["hours"]) == pytest.approx(hours) and float(said["days"]) == pytest.approx(hours / 240)
    assert float(said["least_share"]) == pytest.approx(0.5), "4,000 models of 0.01 s on 2 cores, recorded as 40 s"
    assert float(said["worst_mb"]) == pytest.approx(1.25 / 8e6 * setting.trials * (rules.n + rules.n_test))
    assert float(said["rate"]) == pytest.approx(1000) and "untested" in said["gpus"]
    text = CHAPTER.read_text()
    quoted = {part.split("`")[1].split(":")[0] for part in text.split("{glue:text}")[1:]}
    assert quoted <= said.keys(), "every number that is quoted is glued"
    drawn = {path.name for path in Path("figures").glob("*.svg")}
    assert drawn == {"rates.svg", "hours.svg", "bits.svg", "estimation_time.svg"}


def test_the_parameters_of_the_chapter_are_those_of_params_yaml(study):
    assert notebooks.mismatches(CHAPTER, study.chapter("scaling")) == []
