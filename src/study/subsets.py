"""Which examples trial k sees, and every other draw of trial k: pure functions of (seed, trial).

Each trial owns independent streams of random numbers, spawned from ``SeedSequence(seed, spawn_key=(stream, trial))``.
Nothing else in the study draws a random number for training, so a trial is the same whatever runs beside it, in whatever
order and on however many workers.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

STREAMS = {"subset": 0, "initialisation": 1, "order": 2, "augmentation": 3, "analysis": 4}


@dataclass(frozen=True)
class TrialSeed:
    """The randomness of one trial of one experiment.

    ``seed`` names the experiment, ``trial`` the model in it; both are non-negative integers.
    """

    seed: int
    trial: int

    def generator(self, stream: str) -> np.random.Generator:
        """A fresh generator for one stream; the same arguments give the same numbers.

        Raises ``ValueError`` for a stream that is not in `STREAMS`.
        """
        if stream not in STREAMS:
            raise ValueError(f"unknown stream {stream!r}; valid streams: {', '.join(STREAMS)}")
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(STREAMS[stream], self.trial)))


def trial_seeds(seed: int, trials) -> list[TrialSeed]:
    """One `TrialSeed` for each trial number in ``trials``."""
    return [TrialSeed(int(seed), int(trial)) for trial in trials]


def subset_size(n: int, ratio: float) -> int:
    """m, the number of examples in a subset of ``n`` at subset ratio ``ratio``.

    Raises ``ValueError`` unless at least one example is left in and one left out.
    """
    if not 0 < ratio < 1:
        raise ValueError(f"subset ratio is {ratio}; it must lie strictly between 0 and 1")
    m = round(n * ratio)
    if not 0 < m < n:
        raise ValueError(f"subset ratio {ratio} of {n} examples keeps {m}; at least one must be in and one out")
    return m


def members(seed: int, trials, n: int, ratio: float) -> np.ndarray:
    """Random subsets of equal size, drawn uniformly without replacement (talk, Algorithm 1, line 1).

    Returns bool ``(len(trials), n)``: row k marks the ``round(n * ratio)`` examples that trial ``trials[k]`` is trained on.
    """
    m = subset_size(n, ratio)
    masks = np.zeros((len(trials), n), dtype=bool)
    for row, trial in zip(masks, trial_seeds(seed, trials)):
        row[trial.generator("subset").permutation(n)[:m]] = True
    return masks


def checksums(masks: np.ndarray) -> np.ndarray:
    """A 63-bit digest of each row of ``masks (k, n)``, int64 ``(k,)``.

    The prediction file stores it in place of the masks, which are recomputed and compared.
    """
    packed = np.packbits(masks, axis=1)
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in packed)
    return np.array([int.from_bytes(digest, "little") >> 1 for digest in digests], dtype=np.int64)
