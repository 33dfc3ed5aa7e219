"""Parts of a stage: what is kept is not made again, and nothing is kept beyond its stage or for other inputs."""

import numpy as np

from study.case_studies.parts import Parts


def test_a_part_is_made_once_and_again_only_for_other_inputs_or_after_it_was_forgotten(folder):
    made = []

    def make():
        made.append(len(made))
        return {"a": np.arange(3), "b": np.array(made[-1])}

    for _ in range(2):
        found = Parts("stage", "inputs", b"more").keep("60 epochs, weight decay 0.001", ("a", "b"), make)
        assert found["a"].tolist() == [0, 1, 2] and found["b"] == 0
    Parts("stage", "other inputs", b"more").keep("60 epochs, weight decay 0.001", ("a", "b"), make)
    assert made == [0, 1]
    Parts("stage", "inputs", b"more").forget()
    assert Parts("stage", "inputs", b"more").keep("60 epochs, weight decay 0.001", ("a", "b"), make)["b"] == 2
    assert len(list((folder / ".scratch").iterdir())) == 2


def test_a_part_that_was_damaged_is_made_again(folder):
    parts = Parts("stage", "inputs")
    parts.keep("one", ("a",), lambda: {"a": np.zeros(2)})
    (parts.folder / "one.npz").write_bytes(b"PK torn")
    assert parts.keep("one", ("a",), lambda: {"a": np.ones(2)})["a"].tolist() == [1, 1]


def test_neighbouring_inputs_are_not_mistaken_for_each_other():
    assert Parts("stage", "ab", "c").folder != Parts("stage", "a", "bc").folder
