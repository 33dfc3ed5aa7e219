"""`convnet` against plain torch loops and planted pictures, and the promise that company changes nothing."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from study import subsets
from study.data import Data
from study.learners import ConvNet, convnet
from study.learners.mlp import schedule
from study.params import Setting

TINY = {
    "architecture": {"name": "compact", "stride": 1, "widths": (4, 8), "blocks": (0, 1)},
    "epochs": 2,
    "batch_size": 10,
    "learning_rate": 0.1,
    "orthogonal_rate": 0.0,
    "momentum": 0.8,
    "warm_up": 0.2,
    "weight_decay": 0.001,
    "label_smoothing": 0.1,
    "flip": False,
    "crop": 0,
    "augmented": 1.0,
    "precision": "float32",
    "device": "cpu",
    "models_at_once": 1,
}


def tiny(**changes) -> ConvNet:
    """A network of two stages and 1,100 weights."""
    return ConvNet(**TINY | changes)


def planted(n: int = 60, n_test: int = 40, pixels: int = 8, seed: int = 0) -> Data:
    """Coloured noise with a bright square whose corner is the label: upper left, upper right, lower left, lower right."""
    draw, half = np.random.default_rng(seed), pixels // 2
    x = draw.integers(0, 100, (n + n_test, pixels, pixels, 3), dtype=np.uint8)
    y = np.arange(n + n_test) % 4
    for picture, label in zip(x, y):
        picture[label // 2 * half :, label % 2 * half :][:half, :half] += 120
    return Data("planted", x[:n], y[:n], x[n:], y[n:], ("ul", "ur", "ll", "lr"))


@pytest.fixture(scope="module")
def squares() -> Data:
    return planted()


def trained(learner: ConvNet, data: Data, trials=range(2), seed: int = 0) -> convnet.ConvNets:
    return learner.fit(data, subsets.members(seed, trials, data.n, 0.7), subsets.trial_seeds(seed, trials))


def weights(network) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.module.state_dict().values()])


def same(learner: ConvNet, other: ConvNet, data: Data) -> bool:
    return torch.equal(*(weights(trained(each, data, [0]).networks[0]) for each in (learner, other)))


# training


def test_a_whole_training_is_that_of_a_plain_loop(squares):
    """Initial weights, scaling, batches, schedule, momentum, decay and label smoothing, on torch's own layers."""
    learner, masks, (seed,) = tiny(), subsets.members(3, [5], squares.n, 0.7), subsets.trial_seeds(3, [5])
    subset = np.flatnonzero(masks[0])
    draw, shuffle = seed.generator("initialisation"), seed.generator("order")

    def normal(*shape, gain=2):
        return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32) * (gain / np.prod(shape[1:])) ** 0.5).float()

    first, second, inner = (nn.Conv2d(a, b, 3, s, 1, bias=False) for a, b, s in ((3, 4, 1), (4, 8, 2), (8, 8, 1)))
    norms, head = [nn.BatchNorm2d(width) for width in (4, 8, 8)], nn.Linear(8, 4)
    for part, shape in ((first, (4, 3, 3, 3)), (second, (8, 4, 3, 3)), (inner, (8, 8, 3, 3))):
        part.weight.data = normal(*shape)
    head.weight.data, head.bias.data = normal(4, 8, gain=1), torch.zeros(4)
    layers = [first, second, inner, *norms, head]
    decayed = [part.weight for part in (first, second, inner, head)]
    rest = [*(p for norm in norms for p in norm.parameters()), head.bias]
    groups = [{"params": decayed, "weight_decay": 0.001}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.8, nesterov=True)
    x = torch.from_numpy(squares.x_train).float()
    x = ((x - x[subset].mean((0, 1, 2))) / x[subset].std((0, 1, 2))).permute(0, 3, 1, 2)
    order = np.concatenate([subset[shuffle.permutation(len(subset))] for _ in range(2)])
    steps = len(order) // 10
    for step in range(steps):
        rows = order[step * 10 : step * 10 + 10]
        z = norms[1](second(norms[0](first(x[rows])).relu())).relu()
        z = z + norms[2](inner(z)).relu()
        loss = nn.functional.cross_entropy(
            head(z.mean((2, 3))), torch.from_numpy(squares.y_train[rows]), label_smoothing=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * schedule((step + 0.5) / steps, 0.2)
        optimizer.step()
    network = learner.fit(squares, masks, [seed]).networks[0]
    ours = [p for part in network.module.modules() for p in part.parameters(recurse=False)]
    theirs = [first.weight, *norms[0].parameters(), second.weight, *norms[1].parameters()]
    theirs += [inner.weight, *norms[2].parameters(), *head.parameters()]
    assert steps == 8 and len(ours) == len(theirs) and len(layers) == 7
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_an_orthogonal_step_follows_the_polar_factor_of_the_gradient_on_a_sphere():
    draw = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 6, 3, 3, generator=draw).to(memory_format=torch.channels_last))
    before = weight.detach() * 8**0.5 / weight.detach().norm()
    weight.data.copy_(before)
    gradient = torch.randn(8, 6, 3, 3, generator=draw)
    steps = convnet.Orthogonal([weight], momentum=0.9)
    weight.grad = gradient.clone(memory_format=torch.channels_last)
    steps.step(0.1)
    u, _, vh = torch.linalg.svd(gradient.reshape(8, 54), full_matrices=False)
    moved = (before - weight.detach()).reshape(8, 54)
    assert weight.detach().norm().item() == pytest.approx(8**0.5, rel=1e-5)
    assert weight.grad is None
    tangential = (u @ vh) - (u @ vh * before.reshape(8, 54)).sum() / 8 * before.reshape(8, 54)
    assert torch.cosine_similarity(moved.flatten(), tangential.flatten(), dim=0) > 0.97
    assert 0.07 < moved.norm() / tangential.norm() < 0.13


@pytest.mark.parametrize("pixels", [5, 6, 7, 8])
def test_gradients_in_bfloat16_are_those_of_float32_down_to_the_fewest_pixels_allowed(pixels):
    """Every weight must meet a pixel: gradients of those that meet only padding are not to be had from oneDNN."""
    data = planted(pixels=pixels)
    architecture = TINY["architecture"] | {"stride": 2, "widths": (16, 32, 64), "blocks": (0, 0, 1)}
    learner, found = tiny(architecture=architecture, precision="bfloat16"), []
    network = trained(learner, data, [0]).networks[0]
    for network.precision in ("float32", "bfloat16"):
        network.module.zero_grad()
        network.scores(torch.from_numpy(data.x_train)).logsumexp(1).sum().backward()
        found.append([p.grad.flatten() for p in network.module.parameters()])
    for exact, rounded in zip(*found):
        assert (exact - rounded).norm() < 0.1 * exact.norm() + 1e-3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("orthogonal_rate", [0.0, 0.1])
def test_planted_corners_are_learned(squares, precision, orthogonal_rate):
    learner = tiny(epochs=12, precision=precision, orthogonal_rate=orthogonal_rate, label_smoothing=0.0)
    masks, seeds = subsets.members(0, range(2), squares.n, 0.7), subsets.trial_seeds(0, range(2))
    train, test = learner.fit_predict(squares, masks, seeds)
    assert train.dtype == test.dtype == np.int16
    assert (train == squares.y_train)[masks].mean() == 1
    assert (test == squares.y_test).mean() > 0.95


def test_random_labels_are_memorized_in_the_subset_and_nowhere_else(squares):
    noisy = squares.relabelled(np.random.default_rng(1).permutation(squares.y_train), "noise")
    learner = tiny(epochs=40, architecture=TINY["architecture"] | {"widths": (16, 32)}, label_smoothing=0.0)
    masks, seeds = subsets.members(0, range(2), noisy.n, 0.7), subsets.trial_seeds(0, range(2))
    correct = learner.fit_predict(noisy, masks, seeds)[0] == noisy.y_train
    assert correct[masks].mean() > 0.95
    assert correct[~masks].mean() < 0.6


@pytest.mark.parametrize("name", ["digits", "grey"])
def test_grey_pictures_and_real_numbers_serve_as_well(digits, squares, name):
    grey = Data("grey", squares.x_train[..., 0], squares.y_train, squares.x_test[..., 0], squares.y_test, squares.classes)
    data = {"digits": digits, "grey": grey}[name]
    networks = trained(tiny(epochs=12), data, [0])
    assert (networks.predict(tiny().inputs(data)[1])[0].numpy() == data.y_test).mean() > 0.8


def test_bfloat16_agrees_with_float32_up_to_its_rounding(squares):
    exact, rounded = (trained(tiny(precision=each), squares, [0]).networks[0] for each in ("float32", "bfloat16"))
    scores = [network.evaluate(squares.x_test) for network in (exact, rounded)]
    assert not torch.equal(*scores)
    torch.testing.assert_close(*scores, rtol=0.1, atol=0.1)
    assert all(value.dtype in (torch.float32, torch.int64) for value in rounded.module.state_dict().values())


# what a trial depends on


def test_company_and_the_worlds_state_change_nothing(squares):
    learner = tiny(flip=True, crop=1, orthogonal_rate=0.1, precision="bfloat16")
    masks, seeds = subsets.members(0, range(3), squares.n, 0.7), subsets.trial_seeds(0, range(3))
    together = learner.fit(squares, masks, seeds)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    alone = learner.fit(squares, masks[2:], seeds[2:])
    assert torch.equal(weights(together.networks[2]), weights(alone.networks[0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("stream", ["initialisation", "order", "augmentation"])
def test_each_stream_of_random_numbers_has_a_part_in_training(squares, stream):
    class Other(subsets.TrialSeed):
        def generator(self, name):
            return np.random.default_rng(99) if name == stream else super().generator(name)

    learner, mask = tiny(flip=True), subsets.members(0, [0], squares.n, 0.7)
    ours, other, again = (learner.fit(squares, mask, [cls(0, 0)]).networks[0] for cls in (subsets.TrialSeed, Other, Other))
    assert not torch.equal(weights(ours), weights(other))
    assert torch.equal(weights(other), weights(again))


def test_a_held_out_picture_has_no_part_in_a_network(squares):
    mask = subsets.members(0, [0], squares.n, 0.7)
    x = squares.x_train.copy()
    x[~mask[0]] = 255
    changed = Data("changed", x, squares.y_train, squares.x_test, squares.y_test, squares.classes)
    ours, theirs = (tiny().fit(data, mask, subsets.trial_seeds(0, [0])).networks[0] for data in (squares, changed))
    assert torch.equal(weights(ours), weights(theirs))


OTHER = {
    "architecture": TINY["architecture"] | {"blocks": (1, 1)},
    "epochs": 3,
    "batch_size": 12,
    "learning_rate": 0.2,
    "orthogonal_rate": 0.1,
    "momentum": 0.0,
    "warm_up": 0.5,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "flip": True,
    "crop": 1,
    "augmented": 0.5,
    "precision": "bfloat16",
}


def test_the_list_of_other_values_is_complete():
    assert OTHER.keys() == ConvNet.model_fields.keys() - {"name", "device", "models_at_once"}


@pytest.mark.parametrize("key", sorted(OTHER.keys() - {"architecture"}))
def test_every_hyper_parameter_changes_what_is_learned_and_the_fingerprint(squares, key):
    base = {"flip": True} if key == "augmented" else {}
    ours, other = tiny(**base), tiny(**base | {key: OTHER[key]})
    assert same(ours, ours, squares)
    assert not same(ours, other, squares)
    assert fingerprint(ours, squares) != fingerprint(other, squares)


@pytest.mark.parametrize("change", [{"stride": 2}, {"widths": (4, 9)}, {"blocks": (1, 1)}])
def test_every_part_of_the_architecture_changes_the_network_and_the_fingerprint(squares, change):
    other = tiny(architecture=TINY["architecture"] | change)
    scores = [trained(each, squares, [0]).networks[0].evaluate(squares.x_test) for each in (tiny(), other)]
    assert not torch.equal(*scores)
    assert fingerprint(other, squares) != fingerprint(tiny(), squares)


def test_device_and_models_at_once_leave_the_fingerprint_alone(squares):
    for change in ({"device": "auto"}, {"device": "cuda"}, {"models_at_once": 5}):
        assert fingerprint(tiny(**change), squares) == fingerprint(tiny(), squares)


def fingerprint(learner: ConvNet, data: Data) -> str:
    setting = {"data": "digits", "learner": learner.model_dump(), "ratio": 0.7, "seed": 0, "trials": 5, "revision": 1}
    return Setting.model_validate(setting).fingerprint(data)


# augmentation


def shown(learner: ConvNet, data: Data):
    """Every picture as it is shown, by epoch: examples ``(epochs, n)`` and pictures in the same order."""
    batches = list(learner._minibatches(data.x_train, np.arange(data.n), subsets.TrialSeed(0, 0)))
    rows, pictures = np.concatenate([rows for rows, _ in batches]), torch.cat([pictures for _, pictures in batches])
    return rows.reshape(learner.epochs, -1), pictures.numpy().reshape(learner.epochs, -1, *data.x_train.shape[1:])


def test_every_picture_is_shown_once_an_epoch_and_mirrored_every_other_time(squares):
    rows, pictures = shown(tiny(flip=True, epochs=4), squares)
    assert (np.sort(rows, axis=1) == np.arange(squares.n)).all()
    mirrored = np.empty((4, squares.n), dtype=bool)
    for epoch in range(4):
        original = squares.x_train[rows[epoch]]
        plain = (pictures[epoch] == original).all((1, 2, 3))
        turned = (pictures[epoch] == original[:, :, ::-1]).all((1, 2, 3))
        assert (plain ^ turned).all()
        mirrored[epoch, rows[epoch]] = turned
    assert (mirrored[0] == mirrored[2]).all() and (mirrored[1] == mirrored[3]).all() and (mirrored[0] != mirrored[1]).all()
    assert 0.25 < mirrored[0].mean() < 0.75


def test_augmentation_ends_when_it_is_told_to(squares):
    rows, pictures = shown(tiny(flip=True, crop=1, augmented=0.5, epochs=4), squares)
    changed = (pictures != squares.x_train[rows]).any((2, 3, 4))
    assert changed[:2].mean() > 0.5 and not changed[2:].any()


def test_without_augmentation_pictures_are_shown_as_they_are(squares):
    rows, pictures = shown(tiny(), squares)
    assert (pictures == squares.x_train[rows]).all()


def test_shifted_pictures_are_windows_of_the_picture_with_a_reflected_border():
    x = np.random.default_rng(0).integers(0, 255, (5, 6, 7, 2), dtype=np.uint8)
    corners = np.array([[0, 1, 2, 3, 4], [4, 2, 0, 2, 1]])
    surrounded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    expected = [big[top : top + 6, left : left + 7] for big, top, left in zip(surrounded, *corners)]
    assert (convnet.shifted(torch.from_numpy(x), corners, 2).numpy() == np.stack(expected)).all()


def test_crops_reach_every_shift(squares):
    drawn = []

    def note(pictures, corners, margin):
        drawn.append(corners)
        return pictures

    original, convnet.shifted = convnet.shifted, note
    try:
        shown(tiny(crop=1, epochs=4), squares)
    finally:
        convnet.shifted = original
    assert {tuple(corner) for corners in drawn for corner in corners.T} == {(a, b) for a in range(3) for b in range(3)}


# what comes out


def test_a_network_that_diverges_says_minus_one_everywhere(squares):
    masks, seeds = subsets.members(0, range(2), squares.n, 0.7), subsets.trial_seeds(0, range(2))
    labels = tiny(learning_rate=1e30).fit_predict(squares, masks, seeds)
    assert all((part == -1).all() for part in labels)
    networks = tiny().fit(squares, masks, seeds)
    networks.networks[1].loss += torch.inf
    found = networks.predict(squares.x_test)
    assert (found[0] >= 0).all() and (found[1] == -1).all()


def test_features_are_what_the_head_reads(squares):
    networks = trained(tiny(), squares)
    features = networks.features(squares.x_test)
    assert features.shape == (2, squares.n_test, 8) and features.dtype == torch.float32
    for k, network in enumerate(networks.networks):
        assert (network.module[2](features[k]).argmax(1) == networks.predict(squares.x_test)[k]).all()


def test_a_picture_is_labelled_alike_whatever_is_evaluated_with_it(squares):
    networks = trained(tiny(), squares, [0])
    whole = networks.features(squares.x_test)[0]
    torch.testing.assert_close(networks.features(squares.x_test[:3])[0], whole[:3])
    order = np.random.default_rng(0).permutation(squares.n_test)
    torch.testing.assert_close(networks.features(squares.x_test[order])[0], whole[order])


def test_resnet50_is_torchvisions_and_trains_on_small_pictures():
    from torchvision.models import resnet50

    small = planted(n=20, n_test=4, pixels=20)
    learner = tiny(architecture={"name": "resnet50"}, epochs=1, precision="bfloat16", learning_rate=0.01)
    networks = trained(learner, small, [0])
    body, head = networks.networks[0].module[1:]
    theirs = {name: value.shape for name, value in resnet50(weights=None, num_classes=4).state_dict().items()}
    ours = body.state_dict() | {f"fc.{name}": value for name, value in head.state_dict().items()}
    assert {name: value.shape for name, value in ours.items()} == theirs
    assert networks.features(small.x_test).shape == (1, small.n_test, 2048)
    assert set(networks.predict(small.x_test)[0].tolist()) <= set(range(4))


# what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"batch_size": 1}, "batch_size"),
        ({"precision": "float16"}, "'float32' or 'bfloat16'"),
        ({"device": "tpu"}, "'auto', 'cpu' or 'cuda'"),
        ({"widths": (8,)}, "unknown key widths; valid keys: name, architecture"),
        ({"architecture": {"name": "vgg"}}, "'compact', 'resnet50'"),
        (
            {"architecture": {"name": "compact", "stride": 1, "widths": (4, 8), "blocks": (1,)}},
            "widths has 2 stages but blocks",
        ),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_by_name(changes, message):
    with pytest.raises(ValidationError, match=message):
        tiny(**changes)


def test_what_cannot_be_trained_is_refused_with_a_remedy(squares, monkeypatch):
    with pytest.raises(ValueError, match="batch_size is 50 but a subset has only 42 examples"):
        trained(tiny(batch_size=50), squares)
    flat = Data("rows", *(x.reshape(len(x), -1) if x.ndim > 1 else x for x in arrays(squares)), squares.classes)
    with pytest.raises(ValueError, match=r"data set 'rows' have shape \(60, 192\); choose another learner"):
        trained(tiny(), flat)
    grey = Data("grey", squares.x_train[..., 0], squares.y_train, squares.x_test[..., 0], squares.y_test, squares.classes)
    with pytest.raises(ValueError, match="resnet50 needs pictures of 3 channels, got 1; choose compact"):
        trained(tiny(architecture={"name": "resnet50"}), grey)
    with pytest.raises(ValueError, match="8 × 8 pixels, but more than 16 a side are needed; choose compact"):
        trained(tiny(architecture={"name": "resnet50"}), squares)
    deep = {"name": "compact", "stride": 2, "widths": (4, 4, 4, 4), "blocks": (0, 0, 0, 0)}
    with pytest.raises(ValueError, match="more than 8 a side are needed; take a smaller stride or fewer widths"):
        trained(tiny(architecture=deep), squares)
    with pytest.raises(ValueError, match="8 × 8 pixels, but more than 8 a side are needed; take a smaller crop"):
        trained(tiny(crop=8), squares)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is cuda, but torch finds no GPU; choose auto or cpu"):
        trained(tiny(device="cuda"), squares)
    with pytest.raises(TypeError, match="no initialisation is known for a LayerNorm"):
        convnet.initialise(nn.LayerNorm(3), np.random.default_rng(0))


def arrays(data: Data) -> tuple[np.ndarray, ...]:
    return data.x_train, data.y_train, data.x_test, data.y_test
