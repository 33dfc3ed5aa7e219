"""``params.yaml``: what is wrong is refused with what would be right, and a fingerprint knows all that matters."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from study import data, params
from study.learners import FrozenFeatures, Mlp
from study.params import Setting

STUDY = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture(scope="module")
def study() -> params.Params:
    return params.load(STUDY)


def load_with(folder: Path, where: str, value) -> params.Params:
    """The study's parameters with one value replaced, put in (``where`` = dotted path), or taken out (value ``None``)."""
    tree = json.loads(json.dumps(yaml.safe_load(STUDY.read_text())))  # without the sharing of YAML's anchors
    *path, last = where.split(".")
    branch = tree
    for key in path:
        branch = branch[key]
    if value is None:
        del branch[last]
    else:
        branch[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return params.load(folder / "params.yaml")


def test_the_parameters_of_the_study_are_valid(study):
    assert study.settings["digits-mlp"].trials == 4000
    assert study.settings["digits-mlp"].learner.widths == (64, 64)
    assert study.setting("digits-mlp") is study.settings["digits-mlp"]


def test_every_learner_of_the_study_has_a_setting(study):
    learners = {"mlp", "large_mlp", "nearest_neighbour", "frozen_features", "convnet"}
    assert {setting.learner.name for setting in study.settings.values()} >= learners, "own_network has one in own_data"


def test_every_setting_that_a_stage_names_exists(study):
    named = [study.leave_one_out.setting, *study.removal, study.localization.full, study.localization.linear]
    assert set(named) <= study.settings.keys()


@pytest.mark.parametrize(
    ("where", "valid"),
    [
        ("estmate", ["settings", "estimate", "leave_one_out", "removal", "fitting", "chapters"]),
        ("settings.digits-mlp.ratios", ["data", "learner", "ratio", "seed", "trials", "revision"]),
        ("settings.digits-mlp.learner.width", ["widths", "epochs", "batch_size", "momentum", "warm_up"]),
        ("settings.digits-nearest-neighbour.learner.neighbours", ["name", "models_at_once"]),
        ("settings.digits-frozen-features.learner.heads", ["representation", "representation_seed", "head"]),
        ("settings.digits-frozen-features.learner.head.depth", ["widths", "learning_rate"]),
        ("estimate.threshold", ["mem_threshold", "infl_threshold", "mem_floor", "null_permutations"]),
        ("leave_one_out.model", ["setting", "examples", "models", "subset_models"]),
        ("removal.digits-mlp.repeat", ["thresholds", "random_shares", "repeats"]),
        ("long_tail.draw", ["labels", "draws", "seed"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_valid_names(tmp_path, where, valid):
    with pytest.raises(ValueError, match="is not valid") as caught:
        load_with(tmp_path, where, 3)
    for part in (where.split(".")[-1], *valid):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "where",
    ["settings.digits-mlp.seed", "settings.digits-mlp.learner.momentum", "estimate.infl_floor", "removal", "chapters"],
)
def test_a_missing_key_is_refused_by_name(tmp_path, where):
    with pytest.raises(ValueError, match=f"{where.split('.')[-1]}: Field required"):
        load_with(tmp_path, where, None)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("settings:\n  a: 1\n  b: 2\n  a: 3\n", "a", "2 and 4"),
        ("seed: 1\nother: {x: 1}\n'seed': 1\nseed: 2\n", "seed", "1 and 3 and 4"),
        ("list: [{x: 1, y: 2, x: 3}]\n", "x", "1 and 1"),
        ("a: &a\n  x: 1\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "y", "5 and 6"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text, key, lines):
    """YAML itself takes the later without a word, and a number that someone reads in the file is not the one that counts."""
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        params.load(tmp_path / "params.yaml")
    expected = f"params.yaml is not valid:\n  key '{key}' stands in line {lines} of one table; keep one"
    assert str(caught.value).endswith(expected) and str(tmp_path) in str(caught.value)


def test_a_key_of_the_study_that_is_written_again_is_refused(tmp_path):
    text = STUDY.read_text()
    (tmp_path / "params.yaml").write_text(text.replace("    trials: 4000\n", "    trials: 4000\n    ratio: 0.5\n", 1))
    with pytest.raises(ValueError, match=r"key 'ratio' stands in line \d+ and \d+ of one table"):
        params.load(tmp_path / "params.yaml")


def test_to_override_a_key_of_another_table_is_no_second_key(study):
    """``<<`` takes over a table; here one whose own keys override another's, which YAML's reader has joined by then."""
    learner = study.settings["longtail-mlp"].learner
    assert (learner.widths, learner.epochs, learner.batch_size) == (
        (128, 64),
        20,
        study.settings["digits-mlp"].learner.batch_size,
    )
    chain = "a: &a {x: 1}\nb: &b\n  <<: *a\n  x: 2\nc:\n  <<: *b\n  x: 3\n"
    assert yaml.load(chain, Loader=params._Loader) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


def test_an_unknown_data_set_is_refused_with_the_valid_names(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'mnits'; valid data sets: digits, longtail, mnist, cifar100"):
        load_with(tmp_path, "settings.digits-mlp.data", "mnits")


def test_an_unknown_learner_is_refused_with_the_valid_names(tmp_path):
    with pytest.raises(ValueError, match=r"'mpl'.*'mlp', 'large_mlp', 'nearest_neighbour', 'frozen_features', 'convnet'"):
        load_with(tmp_path, "settings.digits-mlp.learner.name", "mpl")


def test_an_unknown_setting_is_refused_with_the_valid_names(study):
    with pytest.raises(ValueError, match="unknown setting 'digits'; valid settings: digits-mlp, digits-nearest-neighbour"):
        study.setting("digits")


def test_an_unknown_chapter_is_refused_with_the_valid_names(study):
    with pytest.raises(ValueError, match="unknown chapter 'motivations'; valid chapters: motivation, definitions"):
        study.chapter("motivations")


MLP = "settings.digits-mlp"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *[(f"{MLP}.ratio", value) for value in (0, 1, -0.1, 1.5, float("nan"), "most")],
        *[(f"{MLP}.trials", value) for value in (0, -1, 2.5)],
        *[(f"{MLP}.seed", value) for value in (-1, 0.5)],
        (f"{MLP}.revision", 0),
        *[(f"{MLP}.learner.widths", value) for value in ([0], [8, -1], [2.5], 64)],
        *[(f"{MLP}.learner.{key}", 0) for key in ("epochs", "batch_size", "learning_rate", "models_at_once")],
        *[(f"{MLP}.learner.{key}", -0.1) for key in ("momentum", "warm_up", "weight_decay", "learning_rate")],
        *[(f"{MLP}.learner.{key}", 1) for key in ("momentum", "warm_up")],
        ("settings.digits-nearest-neighbour.learner.models_at_once", 0),
        ("settings.digits-frozen-features.learner.representation_seed", -1),
        ("settings.digits-frozen-features.learner.head.widths", [8]),
        ("settings.digits-frozen-features.learner.representation.widths", []),
        ("estimate.mem_threshold", 1.1),
        ("estimate.infl_threshold", -0.1),
        ("estimate.null_permutations", 0),
        ("leave_one_out.examples", 1),
        ("removal.digits-mlp.random_shares", [0.5, 1]),
        ("fitting.corruption", [1.2]),
        ("long_tail.labels", 0),
        ("chapters.motivation", {"list": [1, 2]}),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_place_and_what_was_found(tmp_path, where, value):
    with pytest.raises(ValueError, match="is not valid") as caught:
        load_with(tmp_path, where, value)
    fault = str(caught.value).splitlines()[1]
    assert fault.strip().startswith(".".join(where.split(".")[:2])), fault
    assert "; found " in fault


def test_every_fault_is_reported_at_once(tmp_path):
    tree = yaml.safe_load(STUDY.read_text())
    tree["settings"]["digits-mlp"]["ratio"] = 2
    tree["long_tail"]["draws"] = 0
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=r"(?s)settings\.digits-mlp\.ratio.*found 2\n.*long_tail\.draws.*found 0"):
        params.load(tmp_path / "params.yaml")


def test_parameters_are_frozen(study):
    with pytest.raises(ValidationError, match="frozen"):
        study.settings["digits-mlp"].trials = 5
    with pytest.raises(ValidationError, match="frozen"):
        study.settings["digits-mlp"].learner.epochs = 5


# fingerprints

OTHER_MLP = {
    "widths": (8, 8),
    "epochs": 2,
    "batch_size": 25,
    "learning_rate": 0.1,
    "momentum": 0.4,
    "warm_up": 0.3,
    "weight_decay": 0.002,
}
OTHER_SETTING = {"data": "longtail", "ratio": 0.6, "seed": 1, "revision": 2}


def test_the_lists_of_other_values_are_complete():
    """A new hyper-parameter must be given another value here (or be declared not to matter)."""
    assert OTHER_MLP.keys() == Mlp.model_fields.keys() - {"name", "models_at_once"}
    assert OTHER_SETTING.keys() == Setting.model_fields.keys() - {"learner", "trials"}
    assert FrozenFeatures.model_fields.keys() == {"name", "representation", "representation_seed", "head"}


@pytest.mark.parametrize("key", OTHER_SETTING)
def test_every_field_of_a_setting_changes_its_fingerprint(small_setting, digits, key):
    other = small_setting(**{key: OTHER_SETTING[key]})
    assert other.fingerprint(digits) != small_setting().fingerprint(digits)


@pytest.mark.parametrize("key", OTHER_MLP)
def test_every_hyper_parameter_changes_the_fingerprint(small_setting, digits, key):
    other = small_setting(learner={key: OTHER_MLP[key]})
    assert other.fingerprint(digits) != small_setting().fingerprint(digits)


def test_the_order_of_the_data_changes_the_fingerprint(small_setting, digits):
    swapped = digits.relabelled(digits.y_train[::-1].copy(), "digits")
    assert small_setting().fingerprint(swapped) != small_setting().fingerprint(digits)


def frozen(small, **changes) -> FrozenFeatures:
    fields = {"representation": small(), "representation_seed": 0, "head": small(widths=())}
    return FrozenFeatures(**fields | changes)


@pytest.mark.parametrize("part", ["representation", "head"])
@pytest.mark.parametrize("key", sorted(OTHER_MLP.keys() - {"widths"}))
def test_every_hyper_parameter_of_a_nested_learner_changes_the_fingerprint(small, small_setting, digits, part, key):
    base = frozen(small)
    other = frozen(small, **{part: getattr(base, part).model_copy(update={key: OTHER_MLP[key]})})
    ours = [small_setting().model_copy(update={"learner": learner}).fingerprint(digits) for learner in (base, other)]
    assert ours[0] != ours[1]


def test_the_seed_and_the_width_of_a_representation_change_the_fingerprint(small, small_setting, digits):
    variants = frozen(small), frozen(small, representation_seed=1), frozen(small, representation=small(widths=(9,)))
    found = {small_setting().model_copy(update={"learner": each}).fingerprint(digits) for each in variants}
    assert len(found) == 3


def test_two_learners_never_share_a_fingerprint(study, digits):
    found = {setting.model_copy(update={"data": "digits"}).fingerprint(digits) for setting in study.settings.values()}
    assert len(found) == len(study.settings)


def test_what_changes_no_prediction_changes_no_fingerprint(small, small_setting, digits):
    base = small_setting().fingerprint(digits)
    assert small_setting(trials=99).fingerprint(digits) == base
    assert small_setting(learner={"models_at_once": 7}).fingerprint(digits) == base
    quick = frozen(small, head=small(widths=(), models_at_once=7), representation=small(models_at_once=7))
    nested = [small_setting().model_copy(update={"learner": each}).fingerprint(digits) for each in (frozen(small), quick)]
    assert nested[0] == nested[1]


def test_equal_numbers_have_equal_fingerprints_however_they_are_written(small_setting, digits):
    """YAML reads ``weight_decay: 0`` as a whole number and ``0.0`` as a fraction."""
    written = [small_setting(learner={"weight_decay": zero}).fingerprint(digits) for zero in (0, 0.0)]
    assert written[0] == written[1]


def test_a_run_is_identified_by_the_parameters_it_was_made_with(study, tmp_path):
    assert load_with(tmp_path, "removal.digits-mlp.seed", 99).fingerprint("removal") != study.fingerprint("removal")
    assert load_with(tmp_path, "removal.digits-mlp.seed", 99).fingerprint("fitting") == study.fingerprint("fitting")
    with_one = load_with(tmp_path, "chapters.motivation", {"x": 1})
    assert with_one.fingerprint("chapters", "motivation") != study.fingerprint("chapters", "motivation")
    assert with_one.fingerprint("chapters", "definitions") == study.fingerprint("chapters", "definitions")


def test_the_data_sets_of_the_settings_are_known(study):
    assert all(callable(data.maker(setting.data)) for setting in study.settings.values())
