"""One network at a time: against autograd, against plain SGD; nothing but its seed decides a network."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from study import subsets
from study.data import Data
from study.learners.large_mlp import LargeMlp, Network, _minibatches
from study.learners.mlp import schedule

TINY = {
    "widths": (24, 16),
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 0.3,
    "momentum": 0.5,
    "warm_up": 0.2,
    "weight_decay": 0.001,
    "skip_below": 0.0,
    "precision": "float32",
    "models_at_once": 3,
}


def tiny(**changes) -> LargeMlp:
    return LargeMlp(**TINY | changes)


def trained(learner: LargeMlp, data: Data, rows=range(3), seed: int = 0, ratio: float = 0.7):
    masks = subsets.members(seed, rows, data.n, ratio)
    return learner.fit_predict(data, masks, subsets.trial_seeds(seed, rows))


def parameters(learner: LargeMlp, data: Data, rows=range(3), seed: int = 0) -> list[torch.Tensor]:
    masks = subsets.members(seed, rows, data.n, 0.7)
    return [network.parameters for network in learner.fit(data, masks, subsets.trial_seeds(seed, rows)).networks]


def leaves(network: Network) -> list[torch.Tensor]:
    """Weights, then biases, of a float32 network, as leaves of autograd."""
    return [part.clone().requires_grad_() for part in (*network._weights, *network._biases)]


def output(weights_and_biases: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    depth = len(weights_and_biases) // 2
    for layer, (weight, bias) in enumerate(zip(weights_and_biases[:depth], weights_and_biases[depth:])):
        x = x @ weight + bias
        x = x if layer == depth - 1 else x.relu()
    return x


@pytest.mark.parametrize("widths", [(), (7,), (33, 5), (8, 8, 8)])
def test_a_gradient_is_that_of_autograd(widths):
    draw = torch.Generator().manual_seed(1)
    sizes = (16, *widths, 4)
    network = Network([torch.randn(a, b, generator=draw) for a, b in pairwise(sizes)], 4, 6, torch.float32)
    network.parameters += 0.1 * torch.randn(network.parameters.shape, generator=draw) * (network.parameters != 0)
    network.cast()
    x, y = torch.randn(6, 16, generator=draw), torch.randint(0, 4, (6,), generator=draw)
    losses, wanted = network.gradients(x, y), leaves(network)
    expected = torch.nn.functional.cross_entropy(output(wanted, x)[:, :4], y, reduction="none")
    torch.testing.assert_close(losses, expected)
    expected = torch.autograd.grad(expected.mean(), wanted)
    torch.testing.assert_close(network.parameters.grad, torch.cat([part.flatten() for part in expected]))


def reference(learner: LargeMlp, data: Data, members: np.ndarray, seed: subsets.TrialSeed) -> tuple[torch.Tensor, list[int]]:
    """The head of `study.learners.large_mlp`, one step at a time, by autograd; and the examples seen by each epoch."""
    x, y = learner.inputs(data)[0], torch.from_numpy(data.y_train)
    subset, order = np.flatnonzero(members), seed.generator("order")
    draw = seed.generator("initialisation").standard_normal
    sizes = (x.shape[1], *learner.widths, len(data.classes))
    weights = [draw((a, b), dtype=np.float32) * np.float32((2 / a) ** 0.5) for a, b in pairwise(sizes)]
    weights[-1] = weights[-1] / 2
    network = Network([torch.from_numpy(w) for w in weights], len(data.classes), learner.batch_size, torch.float32)
    theta, last, seen = leaves(network), {int(i): np.inf for i in subset}, []
    velocity = [torch.zeros_like(part) for part in theta]
    for epoch in range(learner.epochs):
        left = order.permutation([i for i in subset if last[i] >= learner.skip_below])
        steps = int(np.ceil(len(left) / learner.batch_size))
        for k, batch in enumerate(np.resize(left, (steps, learner.batch_size))):
            rate = learner.learning_rate * schedule((epoch + (k + 0.5) / steps) / learner.epochs, learner.warm_up)
            losses = torch.nn.functional.cross_entropy(output(theta, x[batch])[:, :10], y[batch], reduction="none")
            last |= {int(i): float(loss) for i, loss in zip(batch, losses.detach())}
            for part, speed, gradient in zip(theta, velocity, torch.autograd.grad(losses.mean(), theta)):
                gradient = gradient + learner.weight_decay * part.data
                speed.mul_(learner.momentum).add_(gradient)
                part.data -= rate * (gradient + learner.momentum * speed if learner.momentum else speed)
        seen.append(len(left))
    return torch.cat([part.data.flatten() for part in theta]), seen


@pytest.mark.parametrize(
    "changes",
    [{}, {"widths": (), "momentum": 0.0, "warm_up": 0.0}, {"skip_below": 0.2, "epochs": 4, "weight_decay": 0.0}],
    ids=["plain", "linear, no momentum", "skipping"],
)
def test_a_whole_training_is_that_of_a_plain_loop(digits, changes):
    learner, masks = tiny(**changes), subsets.members(4, range(2), digits.n, 0.7)
    for row, found in enumerate(parameters(learner, digits, rows=range(2), seed=4)):
        wanted, seen = reference(learner, digits, masks[row], subsets.trial_seeds(4, [row])[0])
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)
        assert (seen[-1] < 600) == bool(learner.skip_below), "the case tests what its name says"


def test_an_epoch_is_cut_into_minibatches_of_one_size_and_completed_from_its_start():
    batches = _minibatches(np.arange(10), 4)
    assert batches.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]
    assert _minibatches(np.arange(2), 4).tolist() == [[0, 1, 0, 1]]
    assert len(_minibatches(np.arange(0), 4)) == 0


def test_training_ends_early_where_everything_is_learned(digits):
    """After a first epoch with nothing above the bound, nothing is left to do."""
    learner = tiny(skip_below=100.0)
    assert torch.equal(parameters(learner, digits)[0], parameters(learner.model_copy(update={"epochs": 2}), digits)[0])
    once, longer = (parameters(tiny(skip_below=bound, epochs=5), digits)[0] for bound in (100.0, 0.0))
    assert not torch.equal(once, longer)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_learn_the_digits(digits, precision):
    learner = tiny(widths=(64,), epochs=12, momentum=0.9, skip_below=0.02, precision=precision, weight_decay=0.0)
    masks = subsets.members(0, range(3), digits.n, 0.7)
    train, test = learner.fit_predict(digits, masks, subsets.trial_seeds(0, range(3)))
    assert (train == digits.y_train)[masks].mean() > 0.99
    assert (test == digits.y_test).mean() > 0.93


def test_both_precisions_agree_on_most_examples(digits):
    ours, other = (trained(tiny(epochs=6, precision=precision), digits)[1] for precision in ("float32", "bfloat16"))
    assert 0.97 < (ours == other).mean() < 1


OTHER = {
    "widths": (8, 8),
    "epochs": 3,
    "batch_size": 25,
    "learning_rate": 0.1,
    "momentum": 0.8,
    "warm_up": 0.5,
    "weight_decay": 0.05,
    "skip_below": 2.0,
    "precision": "bfloat16",
}


def test_the_list_of_other_values_is_complete():
    assert OTHER.keys() == LargeMlp.model_fields.keys() - {"name", "models_at_once"}


@pytest.mark.parametrize("key", OTHER)
def test_every_hyper_parameter_changes_the_networks(digits, key):
    pairs = zip(parameters(tiny(), digits), parameters(tiny(**{key: OTHER[key]}), digits))
    assert all(ours.shape != other.shape or not torch.equal(ours, other) for ours, other in pairs)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_company_and_threads_change_no_bit(digits, precision):
    learner, rows = tiny(widths=(33, 17), batch_size=50, precision=precision), range(4)
    together = parameters(learner, digits, rows)
    torch.set_num_threads(2)
    for row in rows:
        assert torch.equal(parameters(learner, digits, [row])[0], together[row])
    assert torch.get_num_threads() == 2, "the caller's number of threads is restored"


def test_seed_and_subset_change_a_network(digits):
    (ours,), (other,) = parameters(tiny(), digits, [0]), parameters(tiny(), digits, [0], seed=1)
    assert not torch.equal(ours, other)
    masks = np.repeat(subsets.members(0, [0], digits.n, 0.7), 2, axis=0)
    first, second = tiny().fit(digits, masks, subsets.trial_seeds(0, [0, 1])).networks
    assert not torch.equal(first.parameters, second.parameters), "initialisation and order differ on one subset"


def test_what_does_not_vary_is_left_out_and_the_rest_is_centred(digits):
    x_train, x_test = tiny().inputs(digits)
    flat = digits.x_train.reshape(digits.n, -1)
    varies = np.flatnonzero(flat.std(0))
    assert len(varies) < 64 and x_train.shape[1] == 64, "three of 64 pixels are blank; rows are padded to whole vectors"
    np.testing.assert_allclose(x_train[:, : len(varies)], flat[:, varies] - flat[:, varies].mean(0), atol=1e-6)
    assert not x_train[:, len(varies) :].any() and not x_test[:, len(varies) :].any()
    np.testing.assert_allclose(
        x_test[:, : len(varies)], digits.x_test.reshape(digits.n_test, -1)[:, varies] - flat[:, varies].mean(0), atol=1e-6
    )


def test_features_lead_to_the_predictions(digits):
    masks, seeds = subsets.members(0, [0], digits.n, 0.7), subsets.trial_seeds(0, [0])
    networks = tiny(widths=(24, 20)).fit(digits, masks, seeds)
    (network,), x = networks.networks, tiny().inputs(digits)[1]
    (features,) = networks.features(x)
    assert features.shape == (digits.n_test, 20) and features.dtype == torch.float32 and (features >= 0).all()
    logits = features @ network._weights[-1][:20, :10] + network._biases[-1][:10]
    assert torch.equal(logits.argmax(1), network.predict(x))


def test_a_network_that_diverged_predicts_minus_one_and_its_neighbours_do_not(digits, monkeypatch):
    masks, seeds = subsets.members(0, range(3), digits.n, 0.7), subsets.trial_seeds(0, range(3))
    trained_networks = LargeMlp._trained

    def poisoned(self, *arguments):
        for row, network in enumerate(trained_networks(self, *arguments)):
            network.parameters[5] = torch.nan if row == 1 else network.parameters[5]
            yield network

    monkeypatch.setattr(LargeMlp, "_trained", poisoned)
    for labels in tiny().fit_predict(digits, masks, seeds):
        assert (labels[1] == -1).all() and (labels[[0, 2]] >= 0).all()
    monkeypatch.undo()
    train, test = trained(tiny(learning_rate=1e30), digits)
    assert (train == -1).all() and (test == -1).all()


def test_a_subset_smaller_than_a_minibatch_is_refused(digits):
    with pytest.raises(ValueError, match="batch_size is 800 but a subset has only 700"):
        trained(tiny(batch_size=800), digits)


@pytest.mark.parametrize(
    ("key", "value"), [("precision", "float16"), ("skip_below", -0.1), ("momentum", 1.0), ("warm_up", 1.0), ("epochs", 0)]
)
def test_a_bad_hyper_parameter_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=key):
        tiny(**{key: value})
