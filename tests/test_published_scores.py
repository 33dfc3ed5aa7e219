"""Agreement with published C-scores is found where it was planted, whatever the noise, and is absent where it was not."""

import numpy as np
import pandas as pd
import pytest

from study import estimators, subsets
from study.case_studies import published_scores, released
from study.data import DataError

N, LABELS = 2000, np.arange(2000) % 10
HARDNESS = np.random.default_rng(0).random(N)  # chance that a network that did not see the example gets it wrong
SCORES = pd.DataFrame({"label": LABELS, "score": 1 - HARDNESS})


def simulated(t: int, hardness=HARDNESS) -> estimators.Estimates:
    """Trials that fit their subset, and get held-out examples wrong as ``hardness`` says."""
    rng, members = np.random.default_rng(1), subsets.members(0, range(t), N, 0.7)
    right = members | (rng.random(members.shape) > hardness)
    return estimators.estimate(members, right, train_labels=LABELS)


def row(t: int, score: str, **changes) -> pd.Series:
    return published_scores.agreement(simulated(t, **changes), SCORES, 0).set_index("score").loc[score]


def test_held_out_accuracy_rises_with_the_c_score_and_memorization_falls():
    held_out, memorization = row(400, "held_out"), row(400, "memorization")
    assert held_out.spearman > 0.97 and memorization.spearman < -0.97
    assert held_out.std_error < 0.01
    assert abs(held_out.null) < 0.1, "dealt to other examples of their class, scores say nothing"


def test_few_trials_lower_the_correlation_and_the_correction_undoes_it():
    few = row(20, "memorization")
    assert -0.9 < few.spearman < -0.7
    assert few.reliability < 0.8
    assert few.corrected == pytest.approx(-1, abs=0.03)


def test_other_examples_being_hard_is_no_agreement():
    other = row(400, "held_out", hardness=np.random.default_rng(5).random(N))
    assert abs(other.spearman) < 4 * other.std_error < 0.15


def test_examples_that_were_never_held_out_take_no_part():
    assert row(6, "memorization").examples < N


@pytest.mark.parametrize(
    ("scores", "message"),
    [(SCORES.assign(label=(LABELS + 1) % 10), "2000 examples of another class"), (SCORES[:-1], "1999 examples")],
)
def test_scores_in_another_order_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        published_scores.agreement(simulated(4), scores, 0)


def test_influencers_count_once_however_many_pairs_they_have():
    train = np.arange(0, N, 20)
    pairs = pd.DataFrame({"train": np.repeat(train, 2), "test": np.arange(2 * len(train)), "mem": HARDNESS[train].repeat(2)})
    found = published_scores.of_influencers(pairs, SCORES, 0)
    assert found["examples"] == len(train)
    assert found["spearman"]["value"] == pytest.approx(-1)
    assert found["all"] == pytest.approx(SCORES.score.mean())


def test_the_released_scores_are_read_in_their_order(folder, monkeypatch):
    (folder / "reference").mkdir()
    path = folder / "reference" / released.C_SCORES.name
    np.savez(path, labels=LABELS, scores=SCORES.score)
    monkeypatch.setattr(released, "path_of", lambda file, root: path)
    pd.testing.assert_frame_equal(released.c_scores(folder), SCORES)
