"""Parts of a long stage, kept until its tables are saved: a run that was interrupted does not compute them again."""

import hashlib
import shutil
from collections.abc import Callable

import numpy as np

from study import scratch, trials


class Parts:
    """Named groups of arrays in ``.scratch/<stage>-<digest>/``, where the digest is that of all that they depend on.

    >>> Parts("relatives", "ratio 0.5").folder == Parts("relatives", "ratio 0.7").folder
    False
    """

    def __init__(self, stage: str, *depends: str | bytes):
        digest = hashlib.blake2b(digest_size=8)
        for each in depends:
            digest.update(each.encode() if isinstance(each, str) else each)
            digest.update(b"\0")
        self.folder = trials.SCRATCH / f"{stage}-{digest.hexdigest()}"

    def keep(self, part: str, names: tuple[str, ...], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays ``names`` of a part: those that an earlier run has kept, or what ``make`` returns, which is kept.

        Raises `study.workers.TrainingError` if the disk does not take them.
        """
        path = self.folder / f"{part}.npz"
        found = scratch.load(path, names)
        if found is None:
            found = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch.save(path, **found)
        return found

    def forget(self) -> None:
        """Remove all parts: their stage has saved what it makes of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
