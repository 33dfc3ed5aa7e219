"""How much faster two workers train than one: the digit models of setting `digits-mlp` over a local cluster.

Both clusters stand beside each other, warmed by a block a worker, and take turns, so that whatever else slows the machine
slows both. What is timed is all that a run does while it trains: blocks out, bits back, in order of completion. The ratio of
the best rounds is printed; two free cores give 1.8 or more. Takes about two minutes.
"""

import os
import time

from study import data as datasets
from study import params, subsets, trials

ROUNDS, BLOCKS_A_WORKER = 4, 10


def rate(client, setting, data, models: int) -> float:
    """Models a minute of the workers of ``client``."""
    members = subsets.members(setting.seed, range(models), data.n, setting.ratio)
    seeds = subsets.trial_seeds(setting.seed, range(models))
    start = time.perf_counter()
    trials.predict(setting.learner, data, members, seeds, client)
    return 60 * models / (time.perf_counter() - start)


def main() -> None:
    setting = params.load().setting("digits-mlp")
    data, block = datasets.load(setting.data), setting.learner.models_at_once
    rates = {1: [], 2: []}
    with trials.cluster(1) as one, trials.cluster(2) as two:
        clusters = {1: one, 2: two}
        for number, client in clusters.items():
            rate(client, setting, data, 2 * number * block)
        for _ in range(ROUNDS):
            for number, client in clusters.items():
                rates[number].append(rate(client, setting, data, BLOCKS_A_WORKER * number * block))
    for number, found in rates.items():
        print(f"{number} worker(s): {max(found):,.0f} models a minute at best, {min(found):,.0f} at worst")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    print(f"ratio of two workers to one: {max(rates[2]) / max(rates[1]):.2f}")


if __name__ == "__main__":
    main()
