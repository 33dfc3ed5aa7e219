"""Selecting high-influence pairs at the size of MNIST, against the two matrix products of the usual numpy script.

10,000 tests × 60,000 training examples × 2,000 trials, made up: 4 % of the examples are memorized (the share on our
digits), labels of ten classes. The numpy way holds the dense influence matrix in float32 and selects afterwards. Ours is
timed twice: as the study uses it (tests of the example's class, examples with mem >= 0.25), and with both restrictions
lifted, so that it visits every pair like its rival. Extra memory is the growth of the process's peak while selecting.
Takes about two minutes and 6 GiB for the numpy way.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

N, N_TEST, TRIALS, CLASSES = 60_000, 10_000, 2_000, 10
MEM, INFL, PLANTED = 0.25, 0.15, 50


def made_up() -> tuple[np.ndarray, ...]:
    """members (t, n), train_correct (t, n), test_correct (t, n_test), labels of both splits.

    Made trial by trial: a peak of memory from making them would hide what selecting takes.
    """
    rng = np.random.default_rng(0)
    memorized = rng.random(N) < 0.04
    held_out = np.where(memorized, 0.3, 0.99).astype(np.float32)
    members, train_correct = (np.empty((TRIALS, N), dtype=bool) for _ in range(2))
    test_correct = np.empty((TRIALS, N_TEST), dtype=bool)
    for inside, train, test in zip(members, train_correct, test_correct):
        inside[:] = rng.random(N, dtype=np.float32) < 0.7
        train[:] = inside | (rng.random(N, dtype=np.float32) < held_out)
        test[:] = rng.random(N_TEST, dtype=np.float32) < 0.98
    for test, train in enumerate(np.flatnonzero(memorized)[:PLANTED]):  # tests that only one example serves
        column = test * CLASSES + train % CLASSES
        test_correct[:, column] &= members[:, train] | (rng.random(TRIALS) < 0.5)
    return members, train_correct, test_correct, np.arange(N) % CLASSES, np.arange(N_TEST) % CLASSES


def numpy_way(members, train_correct, test_correct, train_labels, test_labels) -> int:
    """Influence as a difference of two dense products, then the selection."""
    inside, outside = members.astype(np.float32), (~members).astype(np.float32)
    right = test_correct.astype(np.float32).T
    infl = right @ (inside / inside.sum(0)) - right @ (outside / outside.sum(0))
    mem = (inside * train_correct).sum(0) / inside.sum(0) - (outside * train_correct).sum(0) / outside.sum(0)
    chosen = (infl >= INFL) & (mem >= MEM) & (test_labels[:, None] == train_labels)
    return int(chosen.sum())


def ours(*arrays) -> int:
    from study.estimators import estimate

    return int((estimate(*arrays).pairs(MEM, INFL).infl > 0).sum())


def ours_unrestricted(*arrays) -> int:
    from study.estimators import estimate

    return int((estimate(*arrays).pairs(-1.0, INFL, same_class=False).infl > 0).sum())


def measure(function) -> tuple[float, float, int]:
    """Seconds, extra peak memory in GiB and the number of pairs found, in a process of its own."""
    import study.estimators  # noqa: F401  so that loading torch counts neither as time nor as memory

    arrays = made_up()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = function(*arrays)
    seconds = time.perf_counter() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20, found


def main() -> None:
    context, results = multiprocessing.get_context("spawn"), {}
    for function in (ours, ours_unrestricted, numpy_way):
        with ProcessPoolExecutor(1, mp_context=context) as pool:  # a fresh process: the peak of memory only rises
            results[function.__name__] = pool.submit(measure, function).result()
    for name, (seconds, memory, found) in results.items():
        print(f"{name}: {seconds:.1f} s, {memory:.2f} GiB of extra memory, {found} pairs")
    assert results["ours"][2] == results["numpy_way"][2] > 0, "the two ways disagree"
    slow = results["numpy_way"][0]
    print(f"ratio, as the study selects: {slow / results['ours'][0]:.1f}")
    print(f"ratio, every pair visited: {slow / results['ours_unrestricted'][0]:.1f}")


if __name__ == "__main__":
    main()
