"""The nearest-neighbour rule from the nearest few alone agrees with the learner that ranks everything."""

import numpy as np
import pytest

from study import data as datasets
from study import subsets
from study.case_studies import neighbours
from study.learners import NearestNeighbour, nearest_neighbour


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_nearest_are_the_first_of_the_full_ranking(digits, split, monkeypatch):
    whole = nearest_neighbour.neighbours(digits, split)
    whole = whole[:, 1:] if split == "train" else whole  # less the example itself
    monkeypatch.setattr(neighbours, "ROWS", 300)
    found = neighbours.nearest(digits, split)
    assert found.shape == (len(whole), neighbours.KEPT)
    assert np.array_equal(found[:, :40], whole[:, :40]), "of those at the same distance the lower index comes first"


def test_answers_are_those_of_the_learner(digits):
    members = subsets.members(3, range(5), digits.n, 0.7)
    answers = neighbours.labels(neighbours.nearest(digits, "test"), members, digits.y_train)
    assert np.array_equal(answers, NearestNeighbour(models_at_once=5).fit_predict(digits, members, [None] * 5)[1])


def test_memorization_is_that_of_the_closed_form():
    longtail = datasets.load("longtail")
    exact = nearest_neighbour.memorization(longtail, 700)
    assert neighbours.memorization(longtail, 700) == pytest.approx(exact, abs=1e-9)
    assert exact.max() > 0.9


def test_too_few_neighbours_are_refused(digits):
    with pytest.raises(ValueError, match="a subset of 50 out of 1,000 lacks the nearest 50 examples too often"):
        neighbours.memorization(digits, 50)
    ranked = neighbours.nearest(digits, "test")
    members = ~np.isin(np.arange(digits.n), ranked[7])[None]
    with pytest.raises(ValueError, match="a subset lacks all 50 nearest examples of some example"):
        neighbours.labels(ranked, members, digits.y_train)
