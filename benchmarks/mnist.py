"""How many MNIST models an hour, against the reference algorithm in JAX with the whole machine to itself.

The reference is the learner of the public demonstration of Feldman and Zhang (2020): the same network, 512-256, float32,
SGD with momentum 0.9 and learning rate 0.1, batches of 128, 10 epochs; one jitted function trains a network, one predicts
all 70,000 examples, and XLA has every core. Ours is the learner of setting `mnist-mlp`, one process a core. Both are timed
after a first model, which compiles, and both report what accuracy their models reach. Needs MNIST and the dependency
group `bench` (``pip install --group bench``). Takes about two minutes on two cores.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context

import jax
import jax.numpy as jnp
import numpy as np
import torch

from study import data as datasets
from study import params, subsets

REFERENCE_MODELS = 5
LEARNING_RATE, MOMENTUM, BATCH, EPOCHS = 0.1, 0.9, 128, 10


def initial(key: jax.Array, sizes: tuple[int, ...]) -> list[tuple[jax.Array, jax.Array]]:
    keys = jax.random.split(key, len(sizes) - 1)
    return [(jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a), jnp.zeros(b)) for k, (a, b) in zip(keys, pairwise(sizes))]


def logits(layers, x: jax.Array) -> jax.Array:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def loss(layers, x: jax.Array, y: jax.Array) -> jax.Array:
    return -jax.nn.log_softmax(logits(layers, x))[jnp.arange(len(y)), y].mean()


@partial(jax.jit, donate_argnums=0)
def epoch(state, x: jax.Array, y: jax.Array, batches: jax.Array):
    """One pass over ``batches (steps, batch)`` of indices into ``x`` and ``y``."""

    def step(state, batch):
        layers, speed = state
        gradient = jax.grad(loss)(layers, x[batch], y[batch])
        speed = jax.tree.map(lambda v, g: MOMENTUM * v + g, speed, gradient)
        return (jax.tree.map(lambda w, v: w - LEARNING_RATE * v, layers, speed), speed), None

    return jax.lax.scan(step, state, batches)[0]


@jax.jit
def predict(layers, x: jax.Array) -> jax.Array:
    return logits(layers, x).argmax(1)


def reference_model(x, y, x_test, members: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Train one model on the marked examples; predict both splits."""
    draw, chosen = np.random.default_rng(seed), np.flatnonzero(members)
    layers = initial(jax.random.key(seed), (x.shape[1], 512, 256, 10))
    state = layers, jax.tree.map(jnp.zeros_like, layers)
    for _ in range(EPOCHS):
        order = draw.permutation(chosen)[: len(chosen) // BATCH * BATCH]
        state = epoch(state, x, y, jnp.asarray(order.reshape(-1, BATCH)))
    return np.asarray(predict(state[0], x)), np.asarray(predict(state[0], x_test))


def reference(data, members: np.ndarray) -> tuple[float, np.ndarray]:
    """Seconds a model with every core, and each model's accuracy in its subset and on the test split."""
    x, x_test = (jnp.asarray(split.reshape(len(split), -1) / np.float32(255)) for split in (data.x_train, data.x_test))
    y = jnp.asarray(data.y_train)
    reference_model(x, y, x_test, members[0], 0)
    start = time.perf_counter()
    labels = [reference_model(x, y, x_test, row, seed) for seed, row in enumerate(members)]
    seconds = (time.perf_counter() - start) / len(members)
    return seconds, accuracies(data, members, *map(np.stack, zip(*labels)))


def accuracies(data, members: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """``(models, 2)``: the share of right labels in the subset and on the test split."""
    inside = [(labels == data.y_train)[row].mean() for labels, row in zip(train, members)]
    return np.column_stack([inside, (test == data.y_test).mean(1)])


def work(setting_name: str, trials: range) -> tuple[float, np.ndarray]:
    """One process: seconds for a block of trials after a first model, and its accuracies."""
    torch.set_num_threads(1)
    setting = params.load().setting(setting_name)
    data = datasets.load(setting.data)
    members = subsets.members(setting.seed, trials, data.n, setting.ratio)
    seeds = subsets.trial_seeds(setting.seed, trials)
    setting.learner.fit_predict(data, members[:1], seeds[:1])
    start = time.perf_counter()
    train, test = setting.learner.fit_predict(data, members, seeds)
    return time.perf_counter() - start, accuracies(data, members, train, test)


def ours(setting_name: str, workers: int) -> tuple[float, np.ndarray]:
    """Seconds a model with every core, each training one block of the setting, and the accuracies of the models."""
    models = params.load().setting(setting_name).learner.models_at_once
    blocks = [range(start, start + models) for start in range(0, models * workers, models)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(work, [setting_name] * workers, blocks))
    return max(seconds for seconds, _ in done) / (models * workers), np.concatenate([found for _, found in done])


def bfloat16_rate() -> float:
    """Floating-point operations a second of one core in the learner's largest product, 256 × 717 × 512."""
    torch.set_num_threads(1)
    a, b = torch.randn(256, 720).bfloat16(), torch.randn(720, 512).bfloat16()
    times = []
    for _ in range(200):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return 2 * 256 * 720 * 512 / float(np.median(times))


def main() -> None:
    cores, data = os.cpu_count(), datasets.load("mnist")
    rate = bfloat16_rate()
    sides = {
        "reference in JAX, float32": reference(data, subsets.members(0, range(REFERENCE_MODELS), data.n, 0.7)),
        "setting mnist-mlp": ours("mnist-mlp", cores),
    }
    for name, (seconds, found) in sides.items():
        inside, test = found.mean(0)
        print(f"{name}: {seconds:.2f} s a model with {cores} cores, {3600 / seconds:,.0f} an hour")
        print(f"  accuracy in the subset {inside:.2%}, on the test split {test:.2%}, {len(found)} models")
    theirs, own = (seconds for seconds, _ in sides.values())
    print(f"ratio: {theirs / own:.1f}")
    print(f"a core alone reaches {rate / 1e9:.0f} GFLOP/s in bfloat16 products")


if __name__ == "__main__":
    main()
