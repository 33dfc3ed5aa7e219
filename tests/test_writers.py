"""Places in scikit-learn's file are those of the very pictures."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from study import data
from study.case_studies import writers


def test_every_picture_stands_at_its_place_and_no_place_is_taken_twice(digits):
    train, test = writers.positions(digits)
    file = load_digits()
    assert (file.images[train] / 16 == digits.x_train).all()
    assert (file.target[test] == digits.y_test).all()
    assert sorted([*train, *test]) == list(range(1797))


def test_other_data_than_digits_are_refused():
    with pytest.raises(ValueError, match="'longtail' is not made of scikit-learn's digits"):
        writers.positions(data.load("longtail"))


def test_gaps_are_distances_in_the_file_also_to_the_classmates(digits):
    train, test = writers.positions(digits)
    found, mates = writers.gaps(pd.DataFrame({"train": [5, 9], "test": [3, 700]}), digits)
    assert found.tolist() == [abs(train[5] - test[3]), abs(train[9] - test[700])]
    assert len(mates[0]) == (digits.y_test == digits.y_train[5]).sum()


def test_nearest_training_picture_is_of_the_class_and_none_is_nearer(digits):
    nearest = writers.nearest_test(digits)
    assert (digits.y_train[nearest.train] == digits.y_test).all()
    for test in (0, 400, 796):
        distance = np.linalg.norm((digits.x_train - digits.x_test[test]).reshape(1000, -1), axis=1)
        distance[digits.y_train != digits.y_test[test]] = np.inf
        assert distance[nearest.train[test]] == pytest.approx(distance.min(), abs=1e-5)
