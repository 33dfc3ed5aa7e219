"""How time and memory of the estimation grow with n, n_test and t, and how far they are from what the machine can do.

Two parts, each in a process of its own with one thread, on made-up predictions with planted pairs:

* `stage`: all that stage `estimate` computes from a prediction file, with the rules of ``params.yaml``: memorization, pairs,
  permuted masks, split halves, the error and the settling by numbers of trials;
* `every pair`: influence of every training example on every test, of whatever class, reduced to the pairs above a
  threshold. This is the whole matrix, so its floor is 2 n n_test t operations at the rate of the int8 matrix product.

From a base each of n, n_test and t is doubled in turn, twice; the ratios tell the growth. `--full` adds MNIST's and
CIFAR-100's sizes with 4,000 trials, and CIFAR-100 with 48; the whole takes about four minutes of a core then, nearly half
of it to make up the predictions. `--save` writes ``tables/scaling/estimation_growth.parquet``.

Seconds are the processor's, which other jobs on the machine disturb less than those of the clock (also in the table).
Peak memory is that of the process; the libraries alone take 0.7 GiB of it.

On a core of an AMD EPYC whose int8 products reach 440 GOPS: at 60,000 × 10,000 × 4,000 every pair takes 16 s, 1.5 times
the floor, and the stage 19 s; at 50,000 × 10,000 × 4,000 with CIFAR-100's classes the stage takes 48 s, at 48 trials 21 s.
No peak exceeds 1.6 GiB, and less than 0.3 GiB of that come on top of the libraries and the arrays.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import typer

TESTS_A_PAIR = 50  # every so many tests, one depends on a single training example
STRENGTH = 0.5  # its influence
MIB = 2**20


@dataclass(frozen=True)
class Size:
    """Made-up predictions: ``like`` mnist (10 classes, nearly all always right) or cifar100 (100 classes, mostly unsure)."""

    like: str
    n: int
    n_test: int
    trials: int


BASE = Size("mnist", 15_000, 2_500, 1_000)
DOUBLED = [replace(BASE, **{key: getattr(BASE, key) * k}) for key in ("n", "n_test", "trials") for k in (2, 4)]
FULL = [Size("mnist", 60_000, 10_000, 4_000), Size("cifar100", 50_000, 10_000, 4_000), Size("cifar100", 50_000, 10_000, 48)]


class Predictions(NamedTuple):
    """What `study.estimators.estimate` takes, in its order."""

    members: np.ndarray
    train_correct: np.ndarray
    test_correct: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray


def made_up(size: Size, seed: int = 0) -> Predictions:
    """Predictions of ``size``, made trial by trial so that no more than the result is ever in memory."""
    rng, classes = np.random.default_rng(seed), {"mnist": 10, "cifar100": 100}[size.like]
    outside, tests = _probabilities(size, rng)
    made = Predictions(
        np.zeros((size.trials, size.n), dtype=bool),
        np.empty((size.trials, size.n), dtype=bool),
        np.empty((size.trials, size.n_test), dtype=bool),
        np.arange(size.n) % classes,
        np.arange(size.n_test) % classes,
    )
    for members, train, test in zip(*made[:3]):
        members[rng.permutation(size.n)[: round(0.7 * size.n)]] = True
        train[:] = members | (rng.random(size.n, dtype=np.float32) < outside)
        test[:] = rng.random(size.n_test, dtype=np.float32) < tests
    _plant(made, outside, rng)
    return made


def _probabilities(size: Size, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Of being right about an example that was held out, and about a test."""
    if size.like == "mnist":
        hard = rng.random(size.n) < 0.03, rng.random(size.n_test) < 0.04
        return tuple(np.where(mask, rng.random(len(mask)), 0.999).astype(np.float32) for mask in hard)
    return tuple(rng.beta(0.6, 0.6, length).astype(np.float32) for length in (size.n, size.n_test))


def _plant(made: Predictions, outside: np.ndarray, rng: np.random.Generator) -> None:
    """Every 50th test depends on one memorized example of its class."""
    memorized = np.flatnonzero(outside < 0.5)
    for test in range(0, made.test_correct.shape[1], TESTS_A_PAIR):
        mates = memorized[made.train_labels[memorized] == made.test_labels[test]]
        probability = 0.3 + STRENGTH * made.members[:, mates[test // TESTS_A_PAIR % len(mates)]]
        made.test_correct[:, test] = rng.random(len(probability)) < probability


def measure(sizes: list[Size]) -> pd.DataFrame:
    """One row for each size and part, in the order given: its fields, then part, seconds (of the processor), wall_seconds,
    arrays_mib, start_mib and peak_mib (of the process before and after), operations (of int8 products), machine_gops.

    Raises ``BrokenProcessPool`` if a process is killed, as it is when memory does not suffice.
    """
    context, rows = multiprocessing.get_context("spawn"), []
    for size in sizes:
        for part in PARTS:
            with ProcessPoolExecutor(1, mp_context=context) as pool:  # a fresh process: the peak of memory only rises
                rows.append(asdict(size) | {"part": part} | pool.submit(_measured, size, part).result())
    return pd.DataFrame(rows)


def _measured(size: Size, part: str) -> dict:
    import torch

    from study import estimation, estimators

    torch.set_num_threads(1)
    estimates = estimators.estimate(*(made := made_up(size)))
    rate, operations, start_mib = machine_gops(), _counted(estimators), _peak_mib()
    wall, start = time.perf_counter(), time.process_time()
    PARTS[part](estimation, estimates)
    return {
        "seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - wall,
        "arrays_mib": sum(array.nbytes for array in made[:3]) / MIB,
        "start_mib": start_mib,
        "peak_mib": _peak_mib(),
        "operations": sum(operations),
        "machine_gops": rate,
    }


def _stage(estimation, estimates) -> None:
    from study import params

    study = params.load()
    setting = study.setting("digits-mlp")  # its ratio, and a name for the summary
    found = estimation.everything(estimates, setting, study.estimate)["summary"]["pairs"]
    _check(found["count"] - found["null_count"], estimates, 4 * found["count"] ** 0.5)


def _every_pair(estimation, estimates) -> None:
    found = estimates.pairs(-1.0, STRENGTH / 2, same_class=False, at_most=10 * estimates.shape[1])
    _check((found.infl > 0).sum() - (found.infl < 0).sum(), estimates, 4 * len(found) ** 0.5)


PARTS = {"stage": _stage, "every pair": _every_pair}


def _check(excess: float, estimates, tolerance: float) -> None:
    """What is found beyond chance are the planted pairs; a fast way to a wrong answer is no result."""
    planted = -(-estimates.shape[1] // TESTS_A_PAIR)
    if abs(excess - planted) > max(tolerance, 0.05 * planted):
        raise RuntimeError(f"{excess:.0f} pairs were found beyond chance, {planted} were planted")


def _counted(estimators) -> list[int]:
    """Operations of every product of counts from now on."""
    operations, product = [], estimators.count_together

    def counted(a, b):
        operations.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return product(a, b)

    estimators.count_together = counted
    return operations


def machine_gops(size: int = 2048, repeats: int = 5) -> float:
    """Billions of operations a second of one core in int8 products of square matrices, the best of several."""
    import torch

    a, b = (torch.ones((size, size), dtype=torch.int8) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        torch._int_mm(a, b)
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds) / 1e9


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(frame: pd.DataFrame) -> str:
    """The table to print: ratios are to the first row of the part, the floor is the time that the products alone take."""
    first = frame.groupby("part")[["seconds", "peak_mib"]].transform("first")
    floor = frame.operations / frame.machine_gops / 1e9
    shown = frame[["part", "like", "n", "n_test", "trials"]].assign(
        seconds=frame.seconds.map("{:.2f}".format),
        ratio=(frame.seconds / first.seconds).map("{:.1f}".format),
        peak_MiB=frame.peak_mib.map("{:,.0f}".format),
        extra_MiB=(frame.peak_mib - frame.start_mib).map("{:,.0f}".format),
        arrays_MiB=frame.arrays_mib.map("{:,.0f}".format),
        GOPS=(frame.operations / frame.seconds / 1e9).map("{:,.0f}".format),
        machine=frame.machine_gops.map("{:,.0f}".format),
        of_floor=(floor / frame.seconds).map("{:.0%}".format),
    )
    return shown.sort_values("part", kind="stable").to_string(index=False)


def main(full: bool = False, save: bool = False) -> None:
    frame = measure([BASE, *DOUBLED, *(FULL if full else [])])
    print(report(frame))
    if save:
        from study import tables

        print(tables.save("scaling", "estimation_growth", frame))


if __name__ == "__main__":
    typer.run(main)
