"""How many digit models a minute, against a plain loop that trains one model after the other with torch.nn and torch.optim.

Both sides run the learner of setting `digits-mlp` (same network, schedule, minibatches and number of steps) on subsets of
the same size, in this process, with one thread; the loop is also given two threads, in case it can use them. The batched
side is what one worker does; the workers of a cluster multiply it. Takes about half a minute.
"""

import time
from itertools import pairwise

import numpy as np
import torch

from study import data as datasets
from study import params, subsets
from study.learners.mlp import schedule

LOOP_MODELS, BATCHED_MODELS = 12, 400


def train_alone(learner, x: torch.Tensor, y: torch.Tensor, chosen: np.ndarray, seed: int) -> torch.nn.Module:
    """One network, as any tutorial writes it."""
    torch.manual_seed(seed)
    sizes = (x.shape[1], *learner.widths, 10)
    layers = [module for a, b in pairwise(sizes) for module in (torch.nn.Linear(a, b), torch.nn.ReLU())][:-1]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=learner.learning_rate, momentum=learner.momentum)
    steps = learner.epochs * len(chosen) // learner.batch_size
    loss_of = torch.nn.CrossEntropyLoss()
    order = torch.cat([torch.from_numpy(chosen)[torch.randperm(len(chosen))] for _ in range(learner.epochs)])
    for step in range(steps):
        batch = order[step * learner.batch_size : (step + 1) * learner.batch_size]
        for group in optimizer.param_groups:
            group["lr"] = learner.learning_rate * schedule((step + 0.5) / steps, learner.warm_up)
        optimizer.zero_grad()
        loss_of(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model


def loop_rate(learner, data, members: np.ndarray, threads: int) -> tuple[float, float]:
    """Models a minute of the plain loop, and its mean test accuracy."""
    torch.set_num_threads(threads)
    (x, x_test), y = learner.inputs(data), torch.from_numpy(data.y_train)
    start, right = time.perf_counter(), []
    for seed, mask in enumerate(members[:LOOP_MODELS]):
        model = train_alone(learner, x, y, np.flatnonzero(mask), seed)
        with torch.no_grad():
            model(x)
            right.append((model(x_test).argmax(1).numpy() == data.y_test).mean())
    return 60 * LOOP_MODELS / (time.perf_counter() - start), float(np.mean(right))


def batched_rate(learner, data, members: np.ndarray) -> tuple[float, float]:
    """Models a minute of one worker, and the mean test accuracy."""
    torch.set_num_threads(1)
    start, right = time.perf_counter(), []
    for first in range(0, BATCHED_MODELS, learner.models_at_once):
        trials = range(first, min(first + learner.models_at_once, BATCHED_MODELS))
        _, test = learner.fit_predict(data, members[trials], subsets.trial_seeds(0, trials))
        right.append((test == data.y_test).mean())
    return 60 * BATCHED_MODELS / (time.perf_counter() - start), float(np.mean(right))


def main() -> None:
    setting = params.load().setting("digits-mlp")
    data = datasets.load(setting.data)
    members = subsets.members(0, range(BATCHED_MODELS), data.n, setting.ratio)
    loops = {threads: loop_rate(setting.learner, data, members, threads) for threads in (1, 2)}
    ours, accuracy = batched_rate(setting.learner, data, members)
    for threads, (rate, loop_accuracy) in loops.items():
        print(f"plain loop, {threads} thread(s): {rate:,.0f} models a minute, test accuracy {loop_accuracy:.3f}")
    print(f"batched, one worker, 1 thread: {ours:,.0f} models a minute, test accuracy {accuracy:.3f}")
    print(f"ratio of one worker to the better loop: {ours / max(rate for rate, _ in loops.values()):.1f}")


if __name__ == "__main__":
    main()
