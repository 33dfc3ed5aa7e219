"""The audit: honest rows are met bit by bit, and a single altered bit is found and named."""

import numpy as np
import pytest

from study import audit, predictions, trials
from study.learners import Mlp
from study.predictions import PredictionError


@pytest.fixture(scope="module")
def setting(small_setting):
    return small_setting(trials=7)


@pytest.fixture(scope="module")
def honest(setting, tmp_path_factory) -> bytes:
    """The prediction file of seven trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("audit"))
        return trials.train("toy", setting, workers=0).read_bytes()


@pytest.fixture
def path(folder, honest):
    path = predictions.path_of("toy")
    path.parent.mkdir()
    path.write_bytes(honest)
    return path


def forge(path, setting, digits, *flips: tuple[str, int, int]) -> None:
    """Write the file anew, valid in itself, with some bits of ``(split, trial, example)`` flipped."""
    file = predictions.load(path)
    rows = {split: file[f"{split}_correct"].values.copy() for split in ("train", "test")}
    for split, trial, example in flips:
        rows[split][trial, example] ^= True
    predictions.write(path, setting, digits, file.trial.values, rows["train"], rows["test"], file.diverged.values)


def test_honest_rows_agree_on_every_bit(path, setting):
    report = audit.audit("toy", setting, [6, 0, 3])
    assert report.trial.tolist() == [6, 0, 3] and report.agreement.tolist() == [100, 100, 100]
    assert report.train_differs.tolist() == report.test_differs.tolist() == [[], [], []]


def test_a_flipped_bit_is_found_and_named(path, setting, digits):
    forge(path, setting, digits, ("train", 4, 123), ("test", 2, 5), ("test", 2, 796))
    report = audit.audit("toy", setting, [2, 3, 4]).set_index("trial")
    assert report.train_differs.to_dict() == {2: [], 3: [], 4: [123]}
    assert report.test_differs.to_dict() == {2: [5, 796], 3: [], 4: []}
    assert report.agreement.tolist() == [pytest.approx(100 * (1 - k / 1797)) for k in (2, 0, 1)]


def test_a_row_of_another_trial_is_found(path, setting, digits):
    file = predictions.load(path)
    mixed = file.train_correct.values[[1, 0, 2, 3, 4, 5, 6]], file.test_correct.values[[1, 0, 2, 3, 4, 5, 6]]
    predictions.write(path, setting, digits, range(7), *mixed, file.diverged.values)
    assert (audit.audit("toy", setting, [0, 1]).agreement < 99).all()
    assert audit.audit("toy", setting, [2]).agreement.tolist() == [100]


def test_rows_are_found_by_their_trial_number(path, setting, digits):
    file = predictions.load(path).isel(trial=[5, 2])
    rows = (file[name].values for name in ("trial", "train_correct", "test_correct", "diverged"))
    predictions.write(path, setting, digits, *rows)
    assert audit.audit("toy", setting, [2, 5]).agreement.tolist() == [100, 100]


def test_trials_that_diverge_again_are_left_out(folder, small_setting):
    """They predict nothing: there is nothing to agree on, and no trial whose row could be the control."""
    hopeless = small_setting(trials=2, learner={"learning_rate": 1e30})
    trials.train("toy", hopeless, workers=0)
    report = audit.audit("toy", hopeless, [0, 1])
    assert report.diverged.tolist() == ["both", "both"]
    assert report.agreement.isna().all() and report.another_trial.isna().all()
    verdict = audit.summary(report, 99.9).splitlines()[-1]
    assert verdict == "0 of 0 trials agree in every bit; 2 diverged as published and are left out"


def published(path, setting, data, diverged: list[int]) -> None:
    """Write the file anew with some trials marked as diverged."""
    file = predictions.load(path)
    marks = np.isin(file.trial.values, diverged)
    rows = (file[split].values & ~marks[:, None] for split in ("train_correct", "test_correct"))
    predictions.write(path, setting, data, file.trial.values, *rows, marks)


def test_a_trial_that_diverged_only_where_it_was_published_does_not_agree(path, setting, digits):
    published(path, setting, digits, [3])
    report = audit.audit("toy", setting, [1, 3])
    assert report.diverged.tolist() == ["", "published"] and report.agreement.tolist() == [100, 0]
    assert report.train_differs[1] == report.test_differs[1] == [], "no prediction of it is counted as wrong"
    assert "1 of 2 trials agree in every bit; 1 in less than 99.9 per cent" in audit.summary(report, 99.9)


def test_a_trial_that_diverges_only_here_does_not_agree(path, setting, monkeypatch):
    fit_predict = Mlp.fit_predict

    def spoilt(*job):
        labels = fit_predict(*job)
        for split in labels:
            split[1] = -1
        return labels

    monkeypatch.setattr(Mlp, "fit_predict", spoilt)
    report = audit.audit("toy", setting, [2, 4, 5])
    assert report.diverged.tolist() == ["", "again", ""] and report.agreement.tolist() == [100, 0, 100]
    assert report.another_trial.isna().tolist() == [False, True, False]


def test_the_control_is_a_trial_that_did_not_diverge(path, setting, digits):
    published(path, setting, digits, [3, 4])
    file = predictions.load(path)
    rows = np.hstack([file.train_correct.values, file.test_correct.values])
    control = audit.audit("toy", setting, [2]).another_trial
    assert control.tolist() == pytest.approx([100 * (rows[2] == rows[5]).mean()])


def test_a_trial_that_the_file_does_not_hold_is_refused(path, setting):
    with pytest.raises(ValueError, match="toy has no trial 7; it holds 7, from 0 to 6"):
        audit.audit("toy", setting, [0, 7])


def test_a_file_of_other_parameters_is_refused(path, small_setting):
    with pytest.raises(PredictionError, match="revision was 1, is 2"):
        audit.audit("toy", small_setting(trials=7, revision=2), [0])


def test_the_audit_trains_and_does_not_copy(path, setting, monkeypatch):
    """Rows that were never trained cannot agree."""
    monkeypatch.setattr(type(setting.learner), "fit_predict", lambda self, data, members, seeds: (
        np.zeros((len(seeds), data.n), np.int16), np.zeros((len(seeds), data.n_test), np.int16)
    ))  # fmt: skip
    assert (audit.audit("toy", setting, [0, 1]).agreement < 90).all()


def test_another_trial_is_the_control(path, setting, digits):
    """What two honest models share by themselves, here counted by hand."""
    file = predictions.load(path)
    rows = np.hstack([file.train_correct.values, file.test_correct.values])
    report = audit.audit("toy", setting, [2, 6])
    assert report.another_trial.tolist() == pytest.approx([100 * (rows[a] == rows[b]).mean() for a, b in ((2, 3), (6, 0))])
    assert (report.another_trial < 99).all()


def test_a_file_of_a_single_trial_has_no_control(folder, small_setting):
    trials.train("toy", small_setting(trials=1), workers=0)
    report = audit.audit("toy", small_setting(trials=1), [0])
    assert report.another_trial.isna().all()
    assert audit.summary(report, 99.9).endswith("\n1 of 1 trials agree in every bit")


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_rows_are_met_whatever_company_they_were_trained_in(path, small_setting, monkeypatch, at_once):
    """They were trained by threes; the audit trains as many together as its own setting says, and never more."""
    fit_predict, together = Mlp.fit_predict, []
    monkeypatch.setattr(Mlp, "fit_predict", lambda self, *job: together.append(len(job[-1])) or fit_predict(self, *job))
    report = audit.audit("toy", small_setting(trials=7, learner={"models_at_once": at_once}), [6, 0, 3, 4, 1])
    assert report.trial.tolist() == [6, 0, 3, 4, 1] and (report.agreement == 100).all()
    assert sum(together) == 5 and max(together) <= at_once


def test_the_verdict_tells_every_bit_from_nearly_every_bit(path, setting, digits):
    forge(path, setting, digits, ("train", 4, 123), *(("test", 2, example) for example in range(50)))
    text = audit.summary(audit.audit("toy", setting, [1, 2, 4]), 99.9)
    verdict = text.splitlines()[-1]
    assert verdict.startswith(
        "1 of 3 trials agree in every bit; 1 in at least 99.9 per cent, but not in every bit; 1 in less than 99.9 per cent; "
        "rows of different trials agree in "
    )
    assert "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 40 more" in text and "[123]" in text
