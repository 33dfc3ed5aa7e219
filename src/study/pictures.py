"""The pictures of a data set for those who look at them, or their places where the raw data cannot be had.

Estimates come from prediction files and need no pictures, so a page that shows examples must work without.
"""

from dataclasses import dataclass

import numpy as np

from study import data as datasets
from study.data import DataError


@dataclass(frozen=True)
class Pictures:
    """Class names, ``labels (n,)`` of the training split, and ``train (n, ...)``, ``test (n_test, ...)`` or ``None``.

    ``missing`` says why there are none; it is empty if there are.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    train: np.ndarray | None
    test: np.ndarray | None
    missing: str = ""


def load(dataset: str, labels: np.ndarray) -> Pictures:
    """The pictures of a data set; where they cannot be had, ``labels (n,)`` of a table and numbers in place of names."""
    try:
        data = datasets.load(dataset)
    except DataError as error:
        numbers = tuple(str(number) for number in range(int(labels.max()) + 1))
        return Pictures(numbers, np.asarray(labels), None, None, str(error))
    return Pictures(data.classes, data.y_train, data.x_train, data.x_test)
