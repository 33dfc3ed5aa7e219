"""Rows of a membership mask as indices, for learners that train several models in step."""

import numpy as np


def member_indices(members: np.ndarray) -> np.ndarray:
    """The members of each row of ``members (k, n)`` bool, in ascending order, int64 ``(k, m)``.

    Raises ``ValueError`` unless every row has the same, positive number of members.
    """
    sizes = np.unique(members.sum(1))
    if len(sizes) != 1 or sizes[0] == 0:
        raise ValueError(f"models trained together need subsets of one positive size, got sizes {sizes.tolist()}")
    return np.nonzero(members)[1].reshape(len(members), sizes[0])
