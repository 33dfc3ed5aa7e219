"""Learners against what they must be: autograd, brute force, and the promise that company changes nothing."""

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study import subsets
from study.data import Data
from study.learners import FrozenFeatures, NearestNeighbour, nearest_neighbour
from study.learners.mlp import Networks, schedule
from study.learners.subsets_of_one_size import member_indices
from study.subsets import TrialSeed

# mlp: the gradient


@pytest.fixture
def double():
    """Every new tensor in double precision, so that a wrong term cannot hide behind rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def plain(networks: Networks, k: int) -> torch.nn.Sequential:
    """Network ``k`` as an ordinary module."""
    modules = []
    for layer in networks.layers:
        linear = torch.nn.Linear(*layer.weight.shape[1:])
        linear.weight.data, linear.bias.data = layer.weight[k].T.clone(), layer.bias[k, 0].clone()
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def random_networks(widths: tuple[int, ...], k: int = 3, d: int = 6, classes: int = 4, batch: int = 5) -> Networks:
    draw = torch.Generator().manual_seed(1)
    sizes = (d, *widths, classes)
    networks = Networks([torch.randn(k, a, b, generator=draw) for a, b in pairwise(sizes)], batch)
    for layer in networks.layers:
        layer.bias += torch.randn(layer.bias.shape, generator=draw)
    return networks


@pytest.mark.parametrize("widths", [(), (7,), (7, 5)])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.9, 0.1)])
def test_a_step_is_that_of_autograd_and_sgd(double, widths, momentum, decay):
    """Biases are not decayed; torch's momentum equals ours while the learning rate is constant."""
    networks, draw = random_networks(widths), torch.Generator().manual_seed(2)
    modules = [plain(networks, k) for k in range(3)]
    optimizers = [
        torch.optim.SGD(
            [
                {"params": [p for p in module.parameters() if p.ndim == 2], "weight_decay": decay},
                {"params": [p for p in module.parameters() if p.ndim == 1]},
            ],
            lr=0.05,
            momentum=momentum,
        )
        for module in modules
    ]
    for _ in range(4):
        x, y = torch.randn(3, 5, 6, generator=draw), torch.randint(0, 4, (3, 5), generator=draw)
        networks.step(x, y, 0.05, momentum, decay)
        for k, (module, optimizer) in enumerate(zip(modules, optimizers)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x[k]), y[k]).backward()
            optimizer.step()
    for k, module in enumerate(modules):
        for layer, linear in zip(networks.layers, [m for m in module if isinstance(m, torch.nn.Linear)]):
            torch.testing.assert_close(layer.weight[k].T, linear.weight.data, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(layer.bias[k, 0], linear.bias.data, rtol=1e-12, atol=1e-12)


def reference(learner, data: Data, members: np.ndarray, seed: TrialSeed) -> list[tuple[np.ndarray, np.ndarray]]:
    """One network trained by autograd, one step at a time, as the head of `study.learners.mlp` describes it."""
    x, y = torch.from_numpy(data.x_train.reshape(data.n, -1)), torch.from_numpy(data.y_train)
    subset, draw = np.flatnonzero(members), seed.generator("initialisation")
    shuffle = seed.generator("order")
    order = np.concatenate([subset[shuffle.permutation(len(subset))] for _ in range(learner.epochs)])
    sizes = (x.shape[1], *learner.widths, len(data.classes))
    weights = [draw.standard_normal((a, b), dtype=np.float32) * np.float32((2 / a) ** 0.5) for a, b in pairwise(sizes)]
    parameters = [torch.tensor(w, requires_grad=True) for w in weights]
    parameters += [torch.zeros(b, requires_grad=True) for b in sizes[1:]]
    velocity = [torch.zeros_like(p) for p in parameters]
    steps, depth = len(order) // learner.batch_size, len(weights)
    for step in range(steps):
        batch = order[step * learner.batch_size : (step + 1) * learner.batch_size]
        out = x[batch]
        for layer in range(depth):
            out = out @ parameters[layer] + parameters[depth + layer]
            out = out if layer == depth - 1 else out.relu()
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(out, y[batch]), parameters)
        done = (step + 0.5) / steps
        rise = done / learner.warm_up if learner.warm_up else np.inf
        rate = learner.learning_rate * min(rise, (1 - done) / (1 - learner.warm_up))
        for i, gradient in enumerate(gradients):
            decay = learner.weight_decay * parameters[i].data if i < depth else 0
            velocity[i] = learner.momentum * velocity[i] - rate * (gradient + decay)
            parameters[i].data += velocity[i]
    return [(parameters[i].detach().numpy(), parameters[depth + i].detach().numpy()) for i in range(depth)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"widths": (), "epochs": 3, "warm_up": 0.0}, {"widths": (9, 6), "batch_size": 16, "momentum": 0.9, "warm_up": 0.4}],
    ids=["one hidden layer", "linear", "two hidden layers"],
)
def test_a_whole_training_is_that_of_a_plain_loop(small, digits, changes):
    """Initial weights, batches, schedule, momentum and decay, in single precision."""
    learner, masks, seeds = small(**changes), subsets.members(4, range(3), 1000, 0.7), subsets.trial_seeds(4, range(3))
    networks = learner.fit(digits, masks, seeds)
    for k in range(3):
        for layer, (weight, bias) in zip(networks.layers, reference(learner, digits, masks[k], seeds[k])):
            np.testing.assert_allclose(layer.weight[k, : len(weight), : len(bias)], weight, atol=2e-5)
            np.testing.assert_allclose(layer.bias[k, 0, : len(bias)], bias, atol=2e-5)


@pytest.mark.parametrize("warm_up", [0.0, 0.15, 0.5])
def test_the_learning_rate_rises_linearly_and_falls_linearly(warm_up):
    assert schedule(warm_up, warm_up) == pytest.approx(1)
    assert schedule(1.0, warm_up) == pytest.approx(0)
    assert schedule((1 + warm_up) / 2, warm_up) == pytest.approx(0.5)
    assert schedule(warm_up / 2, warm_up) == pytest.approx(0.5 if warm_up else 1)
    steps = np.arange(0.005, 1, 0.01)
    assert np.mean([schedule(done, warm_up) for done in steps]) == pytest.approx(0.5, abs=1e-3)


def test_networks_learn_the_digits(small, digits):
    learner = small(widths=(32,), epochs=8, batch_size=16, learning_rate=0.1, momentum=0.9)
    masks = subsets.members(0, range(4), 1000, 0.7)
    train, test = learner.fit_predict(digits, masks, subsets.trial_seeds(0, range(4)))
    assert (train == digits.y_train)[masks].mean() > 0.97
    assert (test == digits.y_test).mean() > 0.92


# mlp: its parameters


def trained(learner, data: Data, rows=range(3), seed: int = 0, ratio: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    masks = subsets.members(seed, rows, data.n, ratio)
    return learner.fit_predict(data, masks, subsets.trial_seeds(seed, rows))


OTHER = {
    "widths": (8, 8),
    "epochs": 2,
    "batch_size": 25,
    "learning_rate": 0.1,
    "momentum": 0.4,
    "warm_up": 0.3,
    "weight_decay": 0.05,
}


def test_the_list_of_other_values_is_complete(small):
    assert OTHER.keys() == type(small()).model_fields.keys() - {"name", "models_at_once"}


@pytest.mark.parametrize("key", OTHER)
def test_every_hyper_parameter_changes_predictions(small, digits, key):
    for ours, other in zip(trained(small(), digits), trained(small(**{key: OTHER[key]}), digits)):
        assert (ours != other).any(1).all(), "on every trial and in both splits"


@pytest.mark.parametrize("changes", [{"seed": 1}, {"ratio": 0.6}])
def test_seed_and_ratio_change_predictions(small, digits, changes):
    for ours, other in zip(trained(small(), digits), trained(small(), digits, **changes)):
        assert (ours != other).any(1).all()


def test_the_seed_alone_changes_a_network_on_the_same_subset(small, digits):
    """Initialisation and order differ between trials also where the subset does not."""
    masks = np.repeat(subsets.members(0, [0], 1000, 0.7), 2, axis=0)
    train, test = small().fit_predict(digits, masks, subsets.trial_seeds(0, [0, 1]))
    assert (train[0] != train[1]).any() and (test[0] != test[1]).any()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"widths": (), "batch_size": 7},
        {"widths": (33, 17), "batch_size": 13},
        {"widths": (16,), "batch_size": 50, "epochs": 2},
    ],
    ids=["even", "odd batch", "odd widths", "wide"],
)
def test_company_changes_no_bit_of_a_network(small, digits, changes):
    """Matrix products may round by where a matrix lies in memory, hence by its place among the models trained at once."""
    learner, rows = small(**changes), range(12)
    masks, seeds = subsets.members(0, rows, 1000, 0.7), subsets.trial_seeds(0, rows)
    x_test = learner.inputs(digits)[1]

    def bits(chosen: list[int]) -> list[np.ndarray]:
        networks = learner.fit(digits, masks[chosen], [seeds[row] for row in chosen])
        logits = networks._evaluate(x_test)[-1].numpy()
        return [logits, *(part.numpy() for layer in networks.layers for part in (layer.weight, layer.bias))]

    together = bits(list(rows))
    for chosen in ([0], [1], [11], [1, 2], [3, 4, 5], [6, 2, 9, 1, 0, 8, 7]):
        for alone, beside in zip(bits(chosen), together):
            assert np.array_equal(alone, beside[chosen]), chosen


def test_the_number_of_threads_changes_no_bit_of_a_network(small, digits):
    masks, seeds = subsets.members(0, range(4), 1000, 0.7), subsets.trial_seeds(0, range(4))
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        weights.append(small().fit(digits, masks, seeds).layers[0].weight)
    assert torch.equal(*weights)


# every learner


def frozen(small, **changes) -> FrozenFeatures:
    head = small(widths=(), batch_size=16)
    return FrozenFeatures(**{"representation": small(), "representation_seed": 5, "head": head} | changes)


@pytest.fixture(params=["mlp", "nearest_neighbour", "frozen_features"])
def learner(request, small):
    made = {"mlp": small(), "nearest_neighbour": NearestNeighbour(models_at_once=3), "frozen_features": frozen(small)}
    return made[request.param]


def test_labels_have_one_row_a_model_and_one_column_an_example(learner, digits):
    train, test = trained(learner, digits)
    assert train.shape == (3, 1000) and test.shape == (3, 797)
    assert train.dtype == test.dtype == np.int16
    assert set(np.unique(train)) | set(np.unique(test)) <= set(range(10))


def test_which_models_share_a_call_changes_no_prediction(learner, digits):
    together = trained(learner, digits, range(7))
    for rows in ([0], [1], [5, 2], [6, 3, 1]):
        for alone, beside in zip(trained(learner, digits, rows), together):
            assert np.array_equal(alone, beside[rows])


def test_a_model_sees_its_own_subset_and_nothing_else(small, digits):
    """Labels and pictures of the examples outside may be anything."""
    mask = subsets.members(0, [0], 1000, 0.7)
    nonsense = np.where(mask[0], digits.y_train, (digits.y_train + 1) % 10)
    x = np.where(mask[0][:, None, None], digits.x_train, 9).astype(np.float32)
    other = Data("other", x, nonsense, digits.x_test, digits.y_test, digits.classes)
    for each in (small(), NearestNeighbour(models_at_once=1)):
        ours, others = (each.fit_predict(made, mask, [TrialSeed(0, 0)]) for made in (digits, other))
        assert np.array_equal(ours[1], others[1])
        assert np.array_equal(ours[0][mask], others[0][mask])


def test_predictions_stand_in_canonical_order(learner, digits):
    """A shuffled evaluation would be right for one in ten."""
    train, test = trained(learner, digits)
    assert (train == digits.y_train).mean() > 0.2 and (test == digits.y_test).mean() > 0.2


@pytest.mark.parametrize("size", [0, 5])
def test_subsets_of_different_sizes_or_of_none_are_refused(small, digits, size):
    masks = np.zeros((2, 1000), dtype=bool)
    masks[0, :size] = True
    with pytest.raises(ValueError, match="subsets of one positive size, got sizes"):
        small().fit_predict(digits, masks, subsets.trial_seeds(0, range(2)))


def test_members_are_listed_in_ascending_order():
    masks = np.array([[0, 1, 1, 0], [1, 0, 0, 1]], dtype=bool)
    assert member_indices(masks).tolist() == [[1, 2], [0, 3]]


def test_a_subset_smaller_than_a_minibatch_is_refused(small, digits):
    masks = np.zeros((1, 1000), dtype=bool)
    masks[0, :49] = True
    with pytest.raises(ValueError, match="batch_size is 50 but a subset has only 49 examples"):
        small().fit_predict(digits, masks, [TrialSeed(0, 0)])


def test_an_empty_subset_is_refused_by_the_nearest_neighbour(digits):
    with pytest.raises(ValueError, match="at least one example in each subset"):
        NearestNeighbour(models_at_once=1).fit_predict(digits, np.zeros((1, 1000), dtype=bool), [TrialSeed(0, 0)])


def test_a_diverged_network_labels_everything_minus_one(small, digits):
    train, test = trained(small(learning_rate=1e30), digits)
    assert (train == -1).all() and (test == -1).all()


def test_a_diverged_network_takes_no_other_with_it():
    networks = random_networks((7,), k=3)
    before = networks.predict(torch.randn(9, 6, generator=torch.Generator().manual_seed(3)))
    networks.layers[0].weight[1, 2, 3] = torch.nan
    after = networks.predict(torch.randn(9, 6, generator=torch.Generator().manual_seed(3)))
    assert (after[1] == -1).all()
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and (after[[0, 2]] >= 0).all()


# frozen features


def test_frozen_features_are_the_last_hidden_layer_of_a_network_that_saw_everything(small, digits):
    learner = frozen(small)
    features = learner.features(digits)
    assert features.x_train.shape == (1000, 8) and features.x_test.shape == (797, 8)
    (weight, bias), _ = reference(learner.representation, digits, np.ones(1000, dtype=bool), TrialSeed(5, 0))
    expected = np.maximum(digits.x_test.reshape(797, -1) @ weight + bias, 0)
    np.testing.assert_allclose(features.x_test, expected, atol=1e-3)
    assert np.array_equal(features.y_train, digits.y_train) and np.array_equal(features.y_test, digits.y_test)


def test_frozen_features_train_only_the_head_on_the_subset(small, digits):
    learner = frozen(small)
    for ours, heads in zip(trained(learner, digits), trained(learner.head, learner.features(digits))):
        assert np.array_equal(ours, heads)


@pytest.mark.parametrize("changes", [{"representation_seed": 6}, {"representation": {"epochs": 2}}, {"head": {"epochs": 2}}])
def test_every_part_of_frozen_features_changes_predictions(small, digits, changes):
    base = frozen(small)
    update = {
        key: getattr(base, key).model_copy(update=value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    for ours, other in zip(trained(base, digits), trained(base.model_copy(update=update), digits)):
        assert (ours != other).any()


def test_features_of_one_data_set_are_never_given_to_another(small, digits):
    learner = frozen(small)
    flipped = digits.relabelled(9 - digits.y_train, "flipped")
    assert not np.array_equal(learner.features(digits).x_train, learner.features(flipped).x_train)
    assert learner.features(digits) is learner.features(digits), "and trained once"


def test_a_deep_head_or_a_linear_representation_is_refused(small):
    for changes in ({"head": small()}, {"representation": small(widths=())}):
        with pytest.raises(ValueError, match=r"the head must be linear .* and the representation needs a hidden layer"):
            frozen(small, **changes)


# nearest neighbour: closed forms against all subsets


def grid_data(points: list[int], labels: list[int], tests: list[int], test_labels: list[int]) -> Data:
    """Points on a line at whole numbers, so that distances tie and are exact."""
    x, z = (np.array(p, dtype=np.float32)[:, None] for p in (points, tests))
    return Data("grid", x, np.array(labels), z, np.array(test_labels), ("a", "b"))


def by_hand(data: Data, subset: tuple[int, ...]) -> tuple[list[bool], list[bool]]:
    """Correctness of the nearest member: lower index first among equals, an example itself before its duplicates."""
    nearest = [i if i in subset else _closest(data, x, subset) for i, x in enumerate(data.x_train)]
    train = [bool(data.y_train[j] == y) for j, y in zip(nearest, data.y_train)]
    closest = [_closest(data, x, subset) for x in data.x_test]
    return train, [bool(data.y_train[j] == y) for j, y in zip(closest, data.y_test)]


def _closest(data: Data, x: np.ndarray, subset: tuple[int, ...]) -> int:
    return min(subset, key=lambda j: (abs(float(x[0] - data.x_train[j, 0])), j))


def expectation(data: Data, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Memorization and influence by their definition: means over all subsets of size m with i, less those without."""
    subsets_of_m = list(combinations(range(data.n), m))
    results = [by_hand(data, subset) for subset in subsets_of_m]
    mem, infl = np.empty(data.n), np.empty((data.n, data.n_test))
    for i in range(data.n):
        sides = ([r for s, r in zip(subsets_of_m, results) if (i in s) == inside] for inside in (True, False))
        (train_in, test_in), (train_out, test_out) = (zip(*side) for side in sides)
        mem[i] = Fraction(sum(r[i] for r in train_in), len(train_in)) - Fraction(
            sum(r[i] for r in train_out), len(train_out)
        )
        infl[i] = np.mean(test_in, axis=0) - np.mean(test_out, axis=0)
    return mem, infl


tiny = st.integers(2, 7).flatmap(
    lambda n: st.builds(
        lambda points, labels, tests, test_labels: grid_data(points, [0, 1, *labels], tests, test_labels),
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2),
        st.lists(st.integers(-1, 6), min_size=3, max_size=3),
        st.lists(st.integers(0, 1), min_size=3, max_size=3),
    )
)


@settings(max_examples=40, deadline=None)
@given(data=tiny, share=st.floats(0, 1))
def test_the_closed_form_equals_the_enumeration_of_all_subsets(data, share):
    m = 1 + round(share * (data.n - 2))
    mem, infl = expectation(data, m)
    np.testing.assert_allclose(nearest_neighbour.memorization(data, m), mem, atol=1e-12)
    np.testing.assert_allclose(nearest_neighbour.influence(data, m), infl, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(data=tiny, share=st.floats(0, 1))
def test_the_learner_answers_as_by_hand(data, share):
    chosen = list(combinations(range(data.n), 1 + round(share * (data.n - 2))))
    masks = np.array([[i in subset for i in range(data.n)] for subset in chosen])
    labels = NearestNeighbour(models_at_once=1).fit_predict(data, masks, [])
    for k, subset in enumerate(chosen):
        train, test = by_hand(data, subset)
        assert (labels[0][k] == data.y_train).tolist() == train
        assert (labels[1][k] == data.y_test).tolist() == test


def test_a_lone_example_of_another_class_is_memorized_wholly():
    """Four points of class a far from one of class b, all in one row: what the words mean, in numbers."""
    data = grid_data([0, 1, 2, 3, 9], [0, 0, 0, 0, 1], [9, 0], [1, 0])
    assert nearest_neighbour.memorization(data, 3).tolist() == pytest.approx([0, 0, 0, 0, 1])
    assert nearest_neighbour.influence(data, 3)[4].tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (6, 1), (6, 4), (6, 6)])
def test_the_first_hit_is_found_somewhere(n, m):
    assert nearest_neighbour.first_hit(n, m).sum() == pytest.approx(1)
    assert nearest_neighbour.first_hit(n, 0).tolist() == [0] * n
