"""Leave-one-out ground truth: against planted memorization, and against the closed form of the nearest neighbour."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study import data as datasets
from study import estimation, leave_one_out, tables, trials
from study.data import Data
from study.learners.nearest_neighbour import NearestNeighbour, memorization, neighbours
from study.params import LeaveOneOut, Setting
from study.progress import Progress
from study.subsets import trial_seeds

N, CLASSES = 40, 2


def tiny(root=None) -> Data:
    """Points on a line whose labels flip now and then, so that the nearest neighbour is sometimes of the other class."""
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(2 * N, 1)).astype(np.float32)
    y = ((x[:, 0] * 6).astype(np.int64) + (rng.uniform(size=2 * N) < 0.15)) % CLASSES
    return Data("tiny", x[:N], y[:N], x[N:], y[N:], ("even", "odd"))


@dataclass
class Planted:
    """Right with probability 0.95 on members and ``p_out[i]`` elsewhere; remembers what it was asked for."""

    p_out: np.ndarray
    models_at_once: int = 500
    asked: list = field(default_factory=list)

    def fit_predict(self, data, members, seeds):
        self.asked += list(zip(members.copy(), seeds))
        draws = np.array([seed.generator("initialisation").random(data.n) for seed in seeds])
        right = draws < np.where(members, 0.95, self.p_out)
        labels = np.where(right, data.y_train, 1 - data.y_train).astype(np.int16)
        return labels, np.zeros((len(seeds), data.n_test), np.int16)


def fresh(learner, seed=3) -> leave_one_out.FreshModels:
    return leave_one_out.FreshModels(learner, tiny(), seed, None, Progress("test", 1, "models"))


def planted() -> Planted:
    return Planted(np.linspace(0.05, 0.95, N))


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder of its own with the prediction file of a nearest-neighbour setting on the tiny data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(datasets.DATASETS, "tiny", tiny)
    setting = Setting(data="tiny", learner=NearestNeighbour(models_at_once=100), ratio=0.6, seed=0, trials=1000, revision=1)
    trials.train("tiny-nn", setting, workers=0)
    return setting


def section(**changes) -> LeaveOneOut:
    fields = dict(setting="tiny-nn", examples=12, models=20, subset_models=300, bootstrap=50, permutations=50, seed=7)
    return LeaveOneOut(**fields | changes)


def test_the_chosen_examples_are_the_nearest_to_an_equally_spaced_grid():
    mem = np.array([0.98, 0.52, 0.01, 0.49, np.nan, 0.0])
    assert leave_one_out.choose(mem, 3).tolist() == [5, 3, 0]


def test_of_equally_near_examples_the_first_is_chosen_and_none_twice():
    assert leave_one_out.choose(np.zeros(4), 4).tolist() == [0, 1, 2, 3]


@given(st.lists(st.floats(-1, 1), min_size=10, max_size=40), st.integers(2, 10))
def test_no_example_is_chosen_twice(mem, count):
    chosen = leave_one_out.choose(np.array(mem), count)
    assert len(set(chosen)) == count and set(chosen) <= set(range(len(mem)))


def test_too_few_identified_examples_are_refused():
    with pytest.raises(ValueError, match="3 examples are wanted but only 2"):
        leave_one_out.choose(np.array([0.1, np.nan, 0.4]), 3)


def test_the_half_that_chooses_shares_no_trial_with_the_half_that_estimates(workshop):
    whole = estimation.of_setting("tiny-nn", workshop)[0]
    first, second = leave_one_out.halves(whole)
    assert np.array_equal(np.concatenate([first.members, second.members]), whole.members)
    assert abs(first.trials - second.trials) <= 1


@pytest.mark.parametrize("holds", [True, False])
def test_forced_subsets_have_size_m_and_hold_or_miss_the_example(holds):
    members = leave_one_out.forced(trial_seeds(1, range(500)), N, 25, 11, holds)
    assert (members.sum(1) == 25).all() and (members[:, 11] == holds).all()


@pytest.mark.parametrize("holds", [True, False])
def test_forced_subsets_are_uniform_over_the_other_examples(holds):
    others = np.delete(leave_one_out.forced(trial_seeds(1, range(4000)), N, 25, 11, holds), 11, axis=1)
    p = (25 - holds) / (N - 1)
    assert np.abs(others.mean(0) - p).max() < 5 * np.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("ground", ["n", "m"])
def test_planted_memorization_is_recovered_within_its_standard_errors(ground):
    learner, chosen = planted(), np.arange(0, N, 3)
    models = fresh(learner)
    if ground == "n":
        frame, name = leave_one_out.at_n(models, chosen, 1000), "loo"
    else:
        frame, name = leave_one_out.at_m(models, chosen, 25, 1000), "direct"
    z = (frame[f"mem_{name}"] - (0.95 - learner.p_out[chosen])) / frame[f"mem_{name}_se"]
    assert z.abs().max() < 4 and 0.2 < (z**2).mean() < 3


def test_each_comparison_trains_on_exactly_the_examples_it_names():
    learner, chosen = planted(), np.array([4, 9])
    models = fresh(learner)
    leave_one_out.at_n(models, chosen, 10)
    masks = np.array([mask for mask, _ in learner.asked])
    assert masks[:10].all()
    assert all(np.flatnonzero(~mask).tolist() == [4] for mask in masks[10:20])
    assert all(np.flatnonzero(~mask).tolist() == [9] for mask in masks[20:])


def test_no_two_models_share_a_seed():
    learner = planted()
    models = fresh(learner)
    leave_one_out.at_m(models, np.array([4, 9]), 25, 10)
    leave_one_out.at_n(models, np.array([4, 9]), 10)
    seeds = [seed for _, seed in learner.asked]
    assert len(set(seeds)) == len(seeds) == 10 * (2 * 2 + 3)


def test_leaving_one_out_of_the_nearest_neighbour_is_certain_and_known(workshop):
    frame, _ = leave_one_out.run(section(), workshop)
    data = tiny()
    other = neighbours(data, "train")[:, 1]
    expected = (data.y_train[other] != data.y_train).astype(float)
    assert 0 < expected.mean() < 1
    assert frame.mem_loo.tolist() == expected[frame["index"]].tolist()


def test_direct_and_estimate_meet_the_closed_form_of_the_nearest_neighbour(workshop):
    frame, summary = leave_one_out.run(section(), workshop)
    exact = memorization(tiny(), summary["m"])[frame["index"]]
    assert exact.max() - exact.min() > 0.5
    for name in ("direct", "estimate"):
        z = (frame[f"mem_{name}"] - exact) / frame[f"mem_{name}_se"]
        assert z.abs().max() < 4


def test_the_summary_tells_agreement_from_the_permuted_null(workshop):
    _, summary = leave_one_out.run(section(), workshop)
    assert summary["pearson_direct"]["value"] > 0.9
    assert abs(summary["null_pearson"]["value"]) < 5 * summary["null_pearson"]["std_error"]
    assert abs(summary["null_pearson"]["value"]) < summary["pearson"]["value"] - 5 * summary["null_pearson"]["std_error"]


def test_what_is_returned_is_what_is_saved(workshop):
    frame, summary = leave_one_out.run(section(), workshop)
    pd.testing.assert_frame_equal(tables.load("tiny-nn", "ground_truth"), frame)
    saved = tables.load("tiny-nn", "leave_one_out")
    assert saved["pearson"]["value"] == summary["pearson"]["value"] and saved.keys() == summary.keys()


CHANGES = {"examples": 5, "models": 21, "subset_models": 290, "bootstrap": 40, "permutations": 40, "seed": 8}


def test_every_parameter_changes_the_result_and_the_same_parameters_give_the_same(workshop):
    frame, summary = leave_one_out.run(section(), workshop)
    again = leave_one_out.run(section(), workshop)
    assert frame.equals(again[0]) and summary == again[1]
    for name, value in CHANGES.items():
        other_frame, other = leave_one_out.run(section(**{name: value}), workshop)
        echo = {name: value} if name in summary else {}
        assert not frame.equals(other_frame) or summary | echo != other, name


def test_where_the_truth_does_not_vary_no_correlation_is_claimed(workshop):
    frame, _ = leave_one_out.run(section(), workshop)
    second = leave_one_out.halves(estimation.of_setting("tiny-nn", workshop)[0])[1]
    tables.save("x", "y", leave_one_out.summarise(frame.assign(mem_loo=0.25), second, section()))
    saved = tables.load("x", "y")
    assert saved["pearson"]["value"] is None and saved["null_pearson"]["value"] is None
    assert saved["pearson_direct"]["value"] > 0.9


def synthetic(shift: float) -> pd.DataFrame:
    rng, error = np.random.default_rng(1), np.linspace(0.01, 0.05, 400)
    truth = rng.uniform(size=400)
    values = {"a": truth + shift + rng.normal(0, error), "b": truth + rng.normal(0, error)}
    return pd.DataFrame({f"mem_{k}": v for k, v in values.items()} | {"mem_a_se": error, "mem_b_se": error})


def test_numbers_that_scatter_as_their_standard_errors_say_have_a_reduced_chi_square_of_one():
    result = leave_one_out.agreement(synthetic(0.0), "a", "b")
    chi, difference = result["reduced_chi_square"], result["mean_difference"]
    assert abs(chi["value"] - 1) < 4 * chi["std_error"]
    assert abs(difference["value"]) < 4 * difference["std_error"]
    assert abs(result["within_two"]["value"] - 0.954) < 4 * result["within_two"]["std_error"]


def test_a_difference_of_targets_is_found_and_its_size_told():
    result = leave_one_out.agreement(synthetic(0.1), "a", "b")
    assert result["mean_difference"]["value"] == pytest.approx(0.1, abs=4 * result["mean_difference"]["std_error"])
    assert result["reduced_chi_square"]["value"] > 1 + 10 * result["reduced_chi_square"]["std_error"]


def test_fresh_models_number_their_seeds_from_the_seed_of_the_section():
    models = fresh(planted(), seed=11)
    assert models.seeds(2) + models.seeds(1) == trial_seeds(11, itertools.islice(itertools.count(), 3))
