"""Released files, what is counted in them, and the transfer check against planted influence."""

import hashlib
import json
import urllib.error
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from study import claims, estimators, params, predictions, subsets
from study.case_studies import published, released
from study.data import DataError

ROOT = Path(__file__).parents[1]
N, N_TEST = 400, 100
LABELS, TEST_LABELS = np.arange(N) % 4, np.arange(N_TEST) % 4
SELECTION = params.Estimate.model_construct(mem_threshold=0.25, infl_threshold=0.15)
RULES = {
    "source": "made_up",
    "settings": (),
    "bands": (0.15, 0.3, 0.6, 1.0),
    "controls": 5,
    "groups": 30,
    "permutations": 10,
    "seed": 0,
}


def rules(**changes) -> params.Published:
    return params.Published(**RULES | changes)


def released_as(content: bytes, name="list.csv") -> released.Released:
    return released.Released(name, "https://example.org/list.csv", hashlib.sha256(content).hexdigest())


def put(folder: Path, content: bytes, name="list.csv") -> Path:
    path = folder / "reference" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def offline(monkeypatch):
    def refuse(url, dst, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_a_missing_file_without_a_network_is_an_error_that_says_what_to_put_where(folder, monkeypatch):
    offline(monkeypatch)
    with pytest.raises(DataError) as failure:
        released.path_of(released_as(b"x"), folder)
    for part in ("reference/list.csv is missing", "no network", "https://example.org/list.csv", "STUDY_DATA"):
        assert part in str(failure.value)


def test_a_missing_file_is_fetched_and_a_file_that_is_there_is_not(folder, monkeypatch):
    fetched = []

    def write(url, dst, hash_prefix, progress):
        fetched.append((url, hash_prefix))
        Path(dst).write_bytes(b"x")

    monkeypatch.setattr(torch.hub, "download_url_to_file", write)
    monkeypatch.setenv("STUDY_DATA", str(folder))
    file = released_as(b"x")
    assert released.path_of(file).read_bytes() == b"x"
    assert released.path_of(file) == folder / "reference/list.csv"
    assert fetched == [(file.url, file.sha256)]


def test_an_altered_file_is_refused_with_both_hashes(folder):
    put(folder, b"altered")
    with pytest.raises(DataError, match="expected") as failure:
        released.path_of(released_as(b"x"), folder)
    assert hashlib.sha256(b"altered").hexdigest() in str(failure.value)
    assert released_as(b"x").sha256 in str(failure.value)


def test_lists_are_read_by_the_names_that_the_study_uses(folder, monkeypatch):
    listed = b"TestID,TrainID,Distance,Judgment\n7,3,0.0,0\n9,4,0.2,1\n2,8,0.3,2\n"
    put(folder, listed)
    monkeypatch.setattr(released, "DUPLICATES", released_as(listed))
    found = released.duplicates(folder)
    assert found.to_dict("list") == {"test": [7, 9, 2], "train": [3, 4, 8], "kind": ["exact", "near", "very similar"]}
    path = put(folder, b"", "pairs.npz")
    np.savez(path, tr_idx=[3, 5], tt_idx=[7, 1], infl=[0.2, 0.9], mem=[0.3, 1.0])
    monkeypatch.setitem(released.PAIRS, "CIFAR-100", released_as(path.read_bytes(), "pairs.npz"))
    assert released.pairs("CIFAR-100", folder).to_dict("list") == {
        "train": [3, 5], "test": [7, 1], "infl": [0.2, 0.9], "mem": [0.3, 1.0]
    }  # fmt: skip


def test_the_published_bars_hold_every_training_example_and_agree_with_the_ledger():
    for name, bars in published.MEMORIZATION.items():
        assert sum(bars.counts) == published.SIZES[name][0]
    ledger = {claim.id: claim.published for claim in claims.load(ROOT / "claims.yaml").claims}
    assert published.MEMORIZATION["CIFAR-100"].counts == ledger["memorization-histogram-u-shaped"].values
    low, high = published.share_from(pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "count": [1, 3]}), 0.3)
    assert (low, high) == (0.75, 1.0)
    assert published.share_from(pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "count": [1, 3]}), 0.5) == (0.75, 0.75)


def some_pairs() -> pd.DataFrame:
    columns = {"train": [1, 2, 3, 1, 5], "test": [10, 10, 11, 12, 13]}
    return pd.DataFrame(columns | {"infl": [0.16, 0.2, 0.35, 0.9, 1.0], "mem": [0.3, 0.5, 0.7, 0.3, 1.0]})


def test_counts_are_those_of_the_talks_table_and_breaches_of_the_rule_are_seen():
    found = published.counts(some_pairs(), "CIFAR-100", SELECTION)
    assert [found[key] for key in ("pairs", "tests", "single_influencer_tests", "training_examples")] == [5, 4, 3, 4]
    assert (found["max_influencers"], found["weak"], found["quantile_0.5"], found["against_the_rule"]) == (2, 0.6, 0.35, 0)
    assert found["share_of_tests"] == 4 / 10_000
    broken = pd.concat([some_pairs(), some_pairs()[:1], some_pairs()[:1].assign(train=9, infl=0.1)])
    assert published.counts(broken, "CIFAR-100", SELECTION)["against_the_rule"] == 2


def test_histograms_count_every_pair_and_every_influencer_once():
    found = published.histograms(some_pairs()).groupby("quantity")["count"].sum()
    assert found.to_dict() == {"influence": 5, "memorization": 4}


def test_duplicates_are_counted_by_band_beside_what_a_random_influencer_would_give():
    listed = pd.DataFrame({"test": [13, 12, 10, 99], "train": [5, 1, 77, 98], "kind": ["exact", "near", "near", "exact"]})
    pairs = published.with_kind(some_pairs(), listed)
    assert pairs.kind.tolist() == ["", "", "", "near", "exact"]
    table = published.duplicates_by_band(pairs, listed, (0.15, 0.3, 0.5, 1.0)).set_index("low")
    assert table.pairs.tolist() == [2, 1, 2] and table.listed.tolist() == [0, 0, 2]
    assert table.loc[0.5, ["exact", "near", "very_similar"]].tolist() == [1, 1, 0]
    assert table.null.tolist() == [1 / 500, 0, 1 / 500]
    assert (table.share_low <= table.share).all() and (table.share <= table.share_high).all()
    assert table.share_high[0.15] == pytest.approx(0.6576, abs=1e-4)  # Wilson: z^2 / (2 + z^2)


def pairs_of_one_class(count: int, trains: int, rng: np.random.Generator) -> pd.DataFrame:
    """``count`` pairs with ``trains`` different training examples, influence from 0.15 to 0.95."""
    train = rng.choice(N, trains, replace=False)[np.arange(count) % trains]
    test = np.array([rng.choice(np.flatnonzero(TEST_LABELS == LABELS[i])) for i in train])
    frame = pd.DataFrame({"train": train, "test": test}).drop_duplicates()
    return frame.assign(infl=np.linspace(0.15, 0.95, len(frame)), mem=0.9, kind="", test_listed=False)


def simulated(pairs: pd.DataFrame, strength: float, seed: int, shock: float = 0.0, t: int = 60) -> estimators.Estimates:
    """Tests right with probability 0.3, plus ``strength`` times their influence if the partner was trained on.

    With probability ``shock`` a trial gets every test right, whatever it was trained on.
    """
    members, rng = subsets.members(seed, range(t), N, 0.7), np.random.default_rng(seed)
    chance = np.full((t, N_TEST), 0.3)
    for train, test, infl in pairs[["train", "test", "infl"]].itertuples(index=False):
        chance[:, test] += strength * infl * members[:, train]
    right = (rng.random(chance.shape) < chance) | (rng.random(t) < shock)[:, None]
    return estimators.estimate(members, np.ones_like(members), right, LABELS, TEST_LABELS)


def one_influencer_each(seed: int) -> pd.DataFrame:
    return pairs_of_one_class(80, 80, np.random.default_rng(seed)).drop_duplicates("test")


def test_planted_influence_is_found_by_band_and_random_pairs_have_none():
    pairs = one_influencer_each(0)
    table = published.transfer(simulated(pairs, 0.6, 1, t=200), pairs, rules())
    bands = table[table.group == "band"]
    assert bands.pairs.sum() == table.pairs.iloc[0] == len(pairs)
    assert (abs(bands.ours - 0.6 * bands.published) < 4 * bands.ours_se).all()
    assert (bands.ours_se < 0.08).all()
    assert (bands.control.abs() < 4 * bands.control_se + 0.01).all()
    assert table.difference.iloc[0] == pytest.approx(table.ours.iloc[0] - table.control.iloc[0])


def test_without_influence_the_check_finds_nothing_and_its_error_is_that_of_permuted_rows():
    pairs = one_influencer_each(0)
    table = published.transfer(simulated(pairs, 0.0, 1), pairs, rules(permutations=40))
    whole = table.iloc[0]
    assert abs(whole.ours) < 4 * whole.ours_se
    assert abs(whole.null) < whole.null_std
    assert whole.null_std == pytest.approx(whole.ours_se, rel=0.5)


def test_errors_know_that_pairs_share_their_trials():
    """All pairs of one training example, in trials of which half get everything right: the mean is one difference."""
    pairs = pairs_of_one_class(60, 1, np.random.default_rng(0))
    found, stated, naive = [], [], []
    for seed in range(25):
        estimates = simulated(pairs, 0.0, seed, shock=0.5)
        whole = published.transfer(estimates, pairs, rules(permutations=2, controls=1)).iloc[0]
        infl, _ = estimates.influence_at(pairs.train, pairs.test)
        found, stated, naive = [*found, whole.ours], [*stated, whole.ours_se], [*naive, infl.std() / len(infl) ** 0.5]
    assert np.mean(stated) == pytest.approx(np.std(found), rel=0.35)
    assert np.mean(naive) < np.std(found) / 2


def test_random_pairs_keep_test_and_class_and_are_none_of_the_released():
    pairs = pairs_of_one_class(50, 30, np.random.default_rng(0))
    others = published.control_pairs(simulated(pairs, 0.0, 0, t=4), pairs, 3, np.random.default_rng(0))
    assert others.test.tolist() == pairs.test.repeat(3).tolist()
    assert (LABELS[others.train] == TEST_LABELS[others.test]).all()
    assert others.merge(pairs, on=["train", "test"]).empty


def test_data_in_another_order_are_refused():
    pairs = one_influencer_each(0)
    estimates = simulated(pairs, 0.0, 0, t=4)
    with pytest.raises(DataError, match=r"\d+ of \d+ pairs of two classes; the data are not in the order"):
        published.transfer(estimates, pairs.assign(train=(pairs.train + 1) % N), rules())
    with pytest.raises(DataError, match="an example beyond the last"):
        published.transfer(estimates, pairs.assign(train=N), rules())


def test_every_number_of_the_section_changes_the_check():
    pairs = one_influencer_each(0)
    estimates = simulated(pairs, 0.3, 0)
    plain = published.transfer(estimates, pairs, rules())
    changes = {"bands": (0.15, 0.5, 1.0), "controls": 6, "groups": 20, "permutations": 11, "seed": 1}
    for key, value in changes.items():
        assert not published.transfer(estimates, pairs, rules(**{key: value})).equals(plain), key


def study_with(trained: dict, **changes) -> params.Params:
    return params.Params.model_construct(settings=trained, published=rules(**changes), estimate=SELECTION)


def test_the_stage_runs_on_made_up_pairs_and_saves_counts_but_no_list(folder, digits, small_setting):
    setting = small_setting(trials=20)
    rng = np.random.default_rng(0)
    results = (rng.random((20, size)) < 0.9 for size in (digits.n, digits.n_test))
    predictions.write(predictions.path_of("a"), setting, digits, range(20), *results, np.zeros(20, dtype=bool))
    tables = published.run(study_with({"a": setting}, settings=("a",)))
    assert tables["summary"]["transfer"]["a"]["pairs"] == tables["summary"]["cifar100"]["pairs"] == 60
    assert tables["summary"]["duplicates"]["strong"]["value"] > tables["summary"]["duplicates"]["weak"]["value"]
    assert tables["c_scores"].score.tolist() == ["held_out", "memorization"]
    assert abs(tables["summary"]["c_scores"]["a"]["memorization"]["value"]) < 0.2, "made-up scores are random"
    json.dumps(tables["summary"], default=float)
    for frame in (table for table in tables.values() if isinstance(table, pd.DataFrame)):
        assert not {"train", "test"} & set(frame)
    without = published.run(study_with({}))
    assert without["transfer"].empty and list(without["transfer"]) == list(published.TRANSFER)
    assert without["summary"]["transfer"] == {}
    assert set(without["summary"]["c_scores"]) == {"released"}


def test_a_setting_on_other_data_is_refused(small_setting, monkeypatch):
    monkeypatch.setattr(published, "sources", lambda section: published.made_up(0))
    study = study_with({"a": small_setting()}, source="released", settings=("a",))
    with pytest.raises(ValueError, match=r"published\.settings of params.yaml lists a, whose data are 'digits'"):
        published.run(study)


def test_edges_of_bands_must_ascend():
    with pytest.raises(ValueError, match="edges of bands must ascend"):
        rules(bands=(0.3, 0.15))
