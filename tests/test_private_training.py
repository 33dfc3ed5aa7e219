"""Private training: clipped sums against autograd, noise and sampling against their law, measurements against plants."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from study import data as datasets
from study import params
from study.subsets import trial_seeds
from study.theory import private_memorization as measuring
from study.theory.accountant import Mechanism, noise_for, profile
from study.theory.private_training import Networks, PrivateMlp, initial, inputs

SIZES = (6, 5, 4, 3)


@pytest.fixture
def networks() -> Networks:
    """Three networks with biases other than zero."""
    made = Networks([initial(SIZES, seed) for seed in trial_seeds(0, range(3))])
    made.weights += 0.1 * torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(0))
    return made


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(3, 7, 6, generator=draw), torch.randint(3, (3, 7), generator=draw)
    return x, y, torch.tensor([[1.0, 0, 2, 1, 1, 0, 3]]).expand(3, 7)


def learner(**changes) -> PrivateMlp:
    fields = {"widths": (8,), "steps": 30, "rate": 0.2, "learning_rate": 2.0, "clip": 0.5, "models_at_once": 4}
    return PrivateMlp(**fields | changes)


def loss(weights, shapes, x, y):
    """Cross-entropy of one example, written as one would for a single network."""
    start = 0
    for depth, (rows, columns) in enumerate(shapes):
        layer = weights[start : start + rows * columns].view(rows, columns)
        start += rows * columns
        x = x @ layer[:-1] + layer[-1]
        x = x.relu() if depth < len(shapes) - 1 else x
    return torch.nn.functional.cross_entropy(x, y)


@pytest.mark.parametrize("length", [0.3, 2.0, np.inf])
def test_the_clipped_sum_is_that_of_the_gradients_of_single_examples(networks, batch, length):
    x, y, times = batch
    single = torch.func.vmap(torch.func.grad(loss), in_dims=(None, None, 0, 0))
    for k in range(3):
        gradients = single(networks.weights[k], networks.shapes, x[k], y[k])
        factors = (length / gradients.norm(dim=1)).clamp(max=1) * times[k]
        expected = (gradients * factors[:, None]).sum(0)
        torch.testing.assert_close(networks.gradient(x, y, times, length)[k], expected, rtol=1e-4, atol=1e-5)


def test_no_copy_of_an_example_moves_the_sum_by_more_than_the_clipping_length(networks, batch):
    x, y, times = batch
    for place in range(7):
        more = times.clone()
        more[:, place] += 1
        moved = (networks.gradient(x, y, more, 0.3) - networks.gradient(x, y, times, 0.3)).norm(dim=1)
        assert (moved <= 0.3 + 1e-5).all()


def test_each_copy_takes_part_with_the_sampling_rate_and_absent_examples_never():
    copies = np.array([[0, 1, 3] + [1] * 50])
    chosen, times = learner(steps=4000)._batches(copies, trial_seeds(0, [0]))
    drawn = np.zeros((4000, 53))
    np.put_along_axis(drawn, chosen[:, 0].numpy(), times[:, 0].numpy(), axis=1)
    means = drawn.mean(0)
    assert means[0] == 0
    assert means[1:] == pytest.approx(0.2 * copies[0, 1:], abs=0.04)
    assert drawn[:, 2].var() == pytest.approx(3 * 0.2 * 0.8, abs=0.05)
    assert np.corrcoef(drawn[:, 1], drawn[:, 2])[0, 1] == pytest.approx(0, abs=0.06)


def test_noise_has_the_variance_that_the_accountant_assumes():
    """On a set without an example the weights are noise alone: steps * (learning rate * noise * clip / (rate * n))^2."""
    private, count = learner(widths=(60,), learning_rate=1.0), 5
    x, y, seeds = torch.rand(count, 20), np.zeros(count, dtype=np.int64), trial_seeds(0, range(2))
    starts = Networks([initial((20, 60, 3), seed) for seed in seeds]).weights
    trained = private.fit(x, y, np.zeros((2, count), dtype=int), seeds, 1.5, True, 3).weights - starts
    expected = np.sqrt(30) * 1.5 * 0.5 / (0.2 * count)
    assert trained.std(dim=1).numpy() == pytest.approx([expected, expected], rel=0.05)
    assert abs(np.corrcoef(trained.numpy())[0, 1]) < 0.1


def test_without_noise_the_network_learns_and_a_network_does_not_depend_on_its_company(digits):
    copies = np.ones((5, digits.n), dtype=np.int64)
    seeds, private = trial_seeds(0, range(5)), learner(steps=60, rate=0.1, learning_rate=4.0)
    _, test = private.fit_predict(digits, copies, seeds, 0.0)
    assert (test == digits.y_test).mean() > 0.6
    _, alone = private.fit_predict(digits, copies[:1], seeds[3:4], 0.0)
    assert (alone[0] == test[3]).mean() > 0.99


def test_noise_without_clipping_is_refused(digits):
    with pytest.raises(ValueError, match="nothing is clipped"):
        learner().fit_predict(digits, np.ones((1, digits.n), dtype=np.int64), trial_seeds(0, [0]), 1.0, clipped=False)


def test_a_network_that_diverged_is_refused(networks):
    networks.weights[1, 0] = torch.nan
    with pytest.raises(RuntimeError, match="diverged"):
        networks.predict(torch.rand(2, 6))


def test_inputs_have_length_one_and_nothing_stays_nothing():
    x = inputs(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    assert x.numpy() == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))


# what is measured


def planted(probability_in, probability_out, networks=400, seed=0):
    """Coins, and answers that are right with a given probability with and without each example."""
    rng = np.random.default_rng(seed)
    present = rng.random((networks, len(probability_in))) < 0.5
    right = rng.random(present.shape) < np.where(present, probability_in, probability_out)
    return present, right


def test_planted_memorization_is_found_with_an_honest_error():
    inside, outside = np.array([0.9, 0.5, 0.3, 1.0]), np.array([0.2, 0.5, 0.1, 0.0])
    truth = (inside - outside).mean()
    found = [
        measuring.averaged(present, ~present, right)
        for present, right in (planted(inside, outside, 200, k) for k in range(200))
    ]
    values, errors = (np.array([mean[key] for mean in found]) for key in ("value", "std_error"))
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / np.sqrt(200))
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    examples = measuring.per_example(*planted(inside, outside))
    assert (np.abs(examples.mem - (inside - outside)) < 4 * examples.std_error).all()


def test_errors_of_an_average_know_that_examples_share_their_networks():
    """Answers that are right for all examples of a network or for none: as many examples as one likes tell no more."""
    rng = np.random.default_rng(0)
    present = rng.random((200, 50)) < 0.5
    right = np.repeat(rng.random((200, 1)) < 0.5, 50, axis=1)
    independent = rng.random((200, 50)) < 0.5
    shared, alone = (
        measuring.averaged(present[:, :1].repeat(50, 1), ~present[:, :1].repeat(50, 1), each)
        for each in (right, independent)
    )
    assert shared["std_error"] > 4 * alone["std_error"]


def test_what_was_never_in_or_never_out_is_not_identified():
    present, right = np.array([[True, True], [True, False]]), np.ones((2, 2), dtype=bool)
    assert measuring.per_example(present, right).mem.isna().tolist() == [True, False]
    assert np.isnan(measuring.averaged(present[:, :1], ~present[:, :1], right[:, :1])["value"])


def test_the_largest_estimate_is_luck_and_a_second_half_does_not_share_it():
    present, right = planted(np.full(300, 0.5), np.full(300, 0.5), 100)
    chosen = measuring.selected(present, right)
    assert chosen["largest"] > 0.2
    assert abs(chosen["selected"]) < 3 * chosen["selected_se"]


def test_simultaneous_limits_are_exceeded_by_all_true_values_in_nearly_all_worlds():
    failures = 0
    for seed in range(100):
        frame = measuring.per_example(*planted(np.full(60, 0.7), np.full(60, 0.4), 100, seed))
        failures += (measuring.lower_limit(frame.mem, frame.n_in, frame.n_out, 60, 0.1) > 0.3).any()
    assert failures <= 10
    assert measuring.lower_limit(1.0, 50, 50, 60, 0.1) > 0.5, "and yet they tell something"


def test_coins_leave_the_head_alone_and_toss_each_of_the_tail_fairly(digits):
    tail = np.array([3, 8, 500])
    copies = measuring.with_coins(digits, tail, trial_seeds(0, range(600)), (2, 5))
    assert (np.delete(copies, tail, axis=1) == 1).all()
    assert set(np.unique(copies[:, tail])) == {0, 2, 5}
    assert (copies[:, tail] > 0).mean(0) == pytest.approx([0.5] * 3, abs=0.08)
    assert (copies[:, tail] == 5).mean() == pytest.approx(0.25, abs=0.05)
    assert abs(np.corrcoef(copies[:, 3] > 0, copies[:, 8] > 0)[0, 1]) < 0.15


@pytest.fixture(scope="module")
def section():
    """The study's section with a linear network and few, short runs."""
    network = learner(widths=(), steps=40, rate=0.1, clip=1.0)
    chosen = {"network": network, "worst_runs": 400, "delta": 1e-5, "seed": 0, "copies_epsilon": 1.0}
    return SimpleNamespace(**chosen)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_an_example_built_to_be_remembered_is_remembered_as_theory_says_and_no_more_than_is_allowed(section, epsilon):
    noise = noise_for(epsilon, 1e-5, 0.1, 40)
    mechanism = Mechanism(0.1, noise, 40)
    threshold, theory = measuring.attack(mechanism)
    found = measuring.remembered(mechanism, threshold, noise, section)
    assert found["value"] == pytest.approx(theory, abs=4 * found["std_error"])
    assert theory <= profile(mechanism).total_variation


def test_too_little_noise_breaks_the_bound(section):
    noise = noise_for(1.0, 1e-5, 0.1, 40)
    mechanism = Mechanism(0.1, noise, 40)
    found = measuring.remembered(mechanism, measuring.attack(mechanism)[0], noise / 20, section)
    assert found["value"] - 4 * found["std_error"] > profile(mechanism).total_variation


def test_bounds_of_duplicates_grow_with_copies_and_accounting_never_allows_more_than_the_group(section):
    noise = noise_for(1.0, 1e-5, 0.1, 40)
    rows = [measuring.allowed_copies(noise, copies, section) for copies in (1, 2, 4, 8)]
    assert all(row["total_variation"] <= row["group_bound"] for row in rows)
    assert np.all(np.diff([row["total_variation"] for row in rows]) > 0)
    assert measuring.allowed_copies(0.0, 4, section)["total_variation"] == 1


def test_the_tail_of_the_mixture_is_what_occurs_once():
    parts = measuring.split("longtail", SimpleNamespace(head_count=10))
    groups = parts.data.groups_train
    assert all((groups == groups[i]).sum() == 1 for i in parts.tail)
    once = set(groups[parts.tail])
    assert {int(g) for g in parts.data.groups_test[parts.tail_tests]} <= once
    assert not (parts.head_tests & parts.tail_tests).any()


def test_a_data_set_without_a_known_tail_is_refused(monkeypatch):
    data = replace(datasets.load("longtail"), groups_train=None, groups_test=None)
    monkeypatch.setattr(datasets, "load", lambda name: data)
    with pytest.raises(ValueError, match="no known tail; valid: digits, longtail"):
        measuring.split("other", SimpleNamespace(head_count=10))


def test_the_parameters_of_the_stage_are_held_to_their_order():
    study = params.load(Path(__file__).parents[1] / "params.yaml").privacy.model_dump()
    for changes, message in (
        ({"epsilons": (1.0, 2.0)}, "epsilons must descend"),
        ({"copies": (4, 2)}, "copies must ascend"),
        ({"models": {"longtail": 20}}, "copies_of is digits"),
        ({"plain_learning_rates": {"digits": 1.0}}, "plain_learning_rates has digits"),
    ):
        with pytest.raises(ValueError, match=message):
            params.Privacy.model_validate(study | changes)
