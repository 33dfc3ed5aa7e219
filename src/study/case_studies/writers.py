"""Where in scikit-learn's file of digits a picture stands.

The file holds what 13 people wrote, by its description, and does not say who wrote what. Pictures that stand close
together in it look more alike than others of their class, as they would if it had been filled writer by writer.
"""

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from study.data import Data


def positions(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Position in the file of each training and each test picture, int ``(n,)`` and ``(n_test,)``.

    Raises ``ValueError`` for pictures that are not in the file.
    """
    places = {picture.tobytes(): place for place, picture in enumerate(load_digits().images.astype(np.float32) / 16)}
    try:
        train, test = (np.array([places[picture.tobytes()] for picture in x]) for x in (data.x_train, data.x_test))
    except KeyError:
        raise ValueError(f"data set {data.name!r} is not made of scikit-learn's digits") from None
    return train, test


def gaps(chosen: pd.DataFrame, data: Data) -> tuple[np.ndarray, list[np.ndarray]]:
    """How far apart in the file the two pictures of each pair stand, int ``(pairs,)``.

    Also, for each pair, how far its training picture stands from every test picture of its class: what a test picture
    chosen at random would give.
    """
    train, test = positions(data)
    classmates = [np.abs(train[i] - test[data.y_test == data.y_train[i]]) for i in chosen.train]
    return np.abs(train[chosen.train] - test[chosen.test]), classmates


def nearest_test(data: Data) -> pd.DataFrame:
    """For each test picture the training picture of its class that is nearest in pixels: columns train and test."""
    train, test = (x.reshape(len(x), -1) for x in (data.x_train, data.x_test))
    squared = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    squared[data.y_test[:, None] != data.y_train] = np.inf
    return pd.DataFrame({"train": squared.argmin(1), "test": np.arange(data.n_test)})
