"""How much faster two workers train than one, over a local cluster: `workers.py [SETTING] [BLOCKS]`.

The two clusters take turns, so that whatever else slows the machine slows both; each is made anew, warmed by two blocks a
worker, and gone before the other comes, for even an idle one has its share of a core. What is timed is all that a run does
while it trains: blocks out, bits back, in order of completion. The ratio of the best rounds is printed.

Ten blocks a worker of `digits-mlp`, the default, take about two minutes. A model takes a worker 13 ms there, so that handing
out blocks and taking bits back counts; `workers.py mnist-mlp 1` takes ten.
"""

import os
import sys
import time

from study import data as datasets
from study import params, subsets, trials

ROUNDS = 4


def rate(client, setting, data, models: int) -> float:
    """Models a minute of the workers of ``client``."""
    members = subsets.members(setting.seed, range(models), data.n, setting.ratio)
    seeds = subsets.trial_seeds(setting.seed, range(models))
    start = time.perf_counter()
    trials.predict(setting.learner, data, members, seeds, client)
    return 60 * models / (time.perf_counter() - start)


def main(name: str = "digits-mlp", blocks: str = "10") -> None:
    setting = params.load().setting(name)
    data, block = datasets.load(setting.data), setting.learner.models_at_once
    rates = {1: [], 2: []}
    for _ in range(ROUNDS):
        for number, found in rates.items():
            with trials.cluster(number) as client:
                rate(client, setting, data, 2 * number * block)
                found.append(rate(client, setting, data, int(blocks) * number * block))
    for number, found in rates.items():
        print(f"{number} worker(s): {max(found):,.0f} models a minute at best, {min(found):,.0f} at worst")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    print(f"ratio of two workers to one: {max(rates[2]) / max(rates[1]):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
