"""The long-tail theorem against closed forms, exhaustive enumeration and its own controls."""

import itertools
import json
import math
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study import charts, params
from study.charts import theory as figures
from study.theory import long_tail as lt

TOY = {
    "n": 60,
    "n_large": 80,
    "labels": 5,
    "control_ratio": 10,
    "head_points": 4,
    "tail_near": 0.3,
    "tail_far": 0.001,
    "flips": (0.25, 1.0),
    "draws": 40,
    "prior_draws": 40,
    "counts_reported": 4,
    "example_points": 2000,
    "example_draws": 5,
    "seed": 0,
}
CHANGED = {
    "n": 50,
    "n_large": 70,
    "labels": 4,
    "control_ratio": 9,
    "head_points": 5,
    "tail_near": 0.4,
    "tail_far": 0.002,
    "flips": (0.5, 1.0),
    "draws": 41,
    "prior_draws": 41,
    "counts_reported": 5,
    "example_points": 2500,
    "example_draws": 6,
    "seed": 1,
}
SMALL = [lt.Prior("zipf", 2), lt.Prior("zipf", 3), lt.Prior("gap", 3, 1, 0.1), lt.Prior("uniform", 3)]


@pytest.fixture(scope="module")
def stage():
    return lt.run(params.LongTail(**TOY | {"n": 200, "n_large": 300, "draws": 400, "prior_draws": 400}))


def generator(seed=0):
    return np.random.default_rng(seed)


def problem(prior, n=100, labels=10):
    return lt.Problem("test", "test", prior, n, labels)


def every_sample(points, n):
    """All counts (sample, point) of n draws from so many points, and how many sequences give each."""
    counts = np.array([c for c in itertools.product(range(n + 1), repeat=points) if sum(c) == n])
    ways = np.array([math.factorial(n) / math.prod(map(math.factorial, c)) for c in counts])
    return counts, ways


def joint(prior, n):
    """Worlds (world, point), counts (sample, point) and the probability of each pair (world, sample)."""
    worlds, (counts, ways) = lt.every_world(prior), every_sample(prior.points, n)
    return worlds, counts, ways * np.prod(worlds[:, None] ** counts, axis=2) / len(worlds)


def z(value, expected, error):
    return abs(value - expected) / error


# --- tau ---------------------------------------------------------------------------------------------------


def test_under_a_uniform_prior_tau_is_one_over_N_whatever_the_count():
    known = lt.tau(lt.marginal(lt.Prior("uniform", 40), 3, generator()), 100, [1, 2, 7, 50, 100])
    np.testing.assert_allclose(known.value, 1 / 40, rtol=1e-12)
    np.testing.assert_allclose(known.std_error, 0, atol=1e-15)


@pytest.mark.parametrize("prior", SMALL)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_tau_is_the_mean_frequency_of_points_seen_l_times_by_listing_every_world_and_sample(prior, n):
    worlds, counts, probability = joint(prior, n)
    for count in range(1, n + 1):
        seen = counts == count
        mass = np.einsum("ws,wp,sp->", probability, worlds, seen)
        expected = mass / np.einsum("ws,sp->", probability, seen)
        assert lt.tau(worlds, n, [count]).value[0] == pytest.approx(expected, rel=1e-12)


def test_under_flat_dirichlet_frequencies_tau_is_the_rule_of_succession():
    n, points, counts = 30, 20, np.array([1, 2, 5, 12])
    known = lt.tau(generator().dirichlet(np.ones(points), size=20_000), n, counts)
    assert (z(known.value, (counts + 1) / (n + points), known.std_error) < 4).all()
    assert (known.std_error < 0.01 * known.value).all()


def test_tau_survives_weights_that_underflow():
    n, count, alpha = 50_000, 40, ["0.01", "0.02"]
    with localcontext() as context:
        context.prec = 60
        weights = [Decimal(a) ** count * (1 - Decimal(a)) ** (n - count) for a in alpha]
        exact = sum(w * Decimal(a) for w, a in zip(weights, alpha, strict=True)) / sum(weights)
    naive = np.array(alpha, float) ** count * (1 - np.array(alpha, float)) ** (n - count)
    assert naive.sum() < 1e-250
    assert lt.tau(np.array([alpha], float), n, [count]).value[0] == pytest.approx(float(exact), rel=1e-12)


def test_leaving_out_negligible_weights_changes_nothing(monkeypatch):
    frequencies = lt.marginal(lt.Prior("zipf", 500), 50, generator())
    short = lt.tau(frequencies, 500, [1, 3, 30, 200])
    monkeypatch.setattr(lt, "DEPTH", 1e9)
    full = lt.tau(frequencies, 500, [1, 3, 30, 200])
    np.testing.assert_allclose(short.value, full.value, rtol=1e-11)
    np.testing.assert_allclose(short.std_error, full.std_error, rtol=1e-8)


def test_the_standard_error_of_tau_is_the_spread_of_repeated_estimates():
    prior, repeats = lt.Prior("zipf", 100), 200
    known = [lt.tau(lt.marginal(prior, 60, generator(seed)), 100, [1, 2]) for seed in range(repeats)]
    spread = np.std([k.value for k in known], axis=0, ddof=1)
    claimed = np.mean([k.std_error for k in known], axis=0)
    assert (abs(spread / claimed - 1) < 5 / math.sqrt(2 * repeats)).all()


def test_a_single_draw_has_no_standard_error():
    assert np.isnan(lt.tau(lt.marginal(lt.Prior("zipf", 9), 1, generator()), 9, [1, 2]).std_error).all()


@pytest.mark.parametrize("counts", [[0], [101], [], [1, -1]])
def test_counts_that_cannot_occur_are_refused(counts):
    with pytest.raises(ValueError, match=r"1\.\.100"):
        lt.tau(lt.marginal(lt.Prior("uniform", 4), 2, generator()), 100, counts)


# --- the theorem, exactly ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", SMALL)
def test_for_misfit_by_count_error_equals_the_bound_exactly_over_all_worlds_and_samples(prior):
    n, labels = 4, 3
    worlds, counts, probability = joint(prior, n)
    misfit = np.concatenate([[(labels - 1) / labels], generator(1).random(n)])
    error = np.einsum("ws,wp,sp->", probability, worlds, misfit[counts])
    opt = np.einsum("ws,wp,sp->", probability, worlds, counts == 0) * (labels - 1) / labels
    known = lt.tau(worlds, n, range(1, n + 1)).table()
    cost = np.einsum("ws,sp->", probability, np.where(counts > 0, known[counts] * misfit[counts], 0))
    assert cost > 0.05
    assert error == pytest.approx(opt + cost, abs=1e-12)


def test_the_other_counts_of_a_sample_tell_about_a_point_unless_there_are_only_two():
    three = lt.Prior("gap", 3, 1, 0.1)
    one_heavy, two_heavy = (lt.posterior_means(three, counts)[0] for counts in ([1, 0, 8], [1, 4, 4]))
    averaged = lt.tau(lt.every_world(three), 9, [1]).value[0]
    assert 1.5 * one_heavy < averaged < two_heavy / 1.5
    two = lt.Prior("zipf", 2)
    assert lt.posterior_means(two, [1, 3])[0] == pytest.approx(lt.tau(lt.every_world(two), 4, [1]).value[0])


@pytest.mark.parametrize("prior", SMALL)
def test_posterior_means_averaged_over_samples_give_tau(prior):
    n = 4
    worlds, counts, probability = joint(prior, n)
    means = np.array([lt.posterior_means(prior, c) for c in counts])
    np.testing.assert_allclose(means.sum(axis=1), 1)
    for count in range(1, n + 1):
        weights = probability.sum(axis=0)[:, None] * (counts == count)
        expected = lt.tau(worlds, n, [count]).value[0]
        assert (weights * means).sum() / weights.sum() == pytest.approx(expected, rel=1e-12)


def test_too_many_worlds_to_list_are_refused():
    with pytest.raises(ValueError, match="at most 7"):
        lt.every_world(lt.Prior("uniform", 8))


# --- frequencies and samples -------------------------------------------------------------------------------


def test_frequencies_are_drawn_anew_each_time_and_sum_to_one():
    frequencies = lt.marginal(lt.Prior("zipf", 50), 200, generator())
    np.testing.assert_allclose(frequencies.sum(axis=1), 1)
    assert np.unique(frequencies.max(axis=1)).size > 50
    assert z(frequencies[:, 0].mean(), 1 / 50, frequencies[:, 0].std() / math.sqrt(200)) < 4


def test_a_gap_prior_lists_its_head_and_spreads_its_tail():
    listed = lt.Prior("gap", 10, head_points=2, tail_mass=0.4).frequencies()
    np.testing.assert_allclose(listed, [0.3] * 2 + [0.05] * 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "pareto"},
        {"points": 0},
        {"kind": "gap"},
        {"kind": "gap", "head_points": 5, "tail_mass": 0.1},
        {"kind": "gap", "head_points": 2, "tail_mass": 1.0},
    ],
)
def test_impossible_priors_are_refused(wrong):
    with pytest.raises(ValueError, match="prior"):
        lt.Prior(**{"kind": "zipf", "points": 5} | wrong)


def test_twins_share_their_labels_and_an_odd_point_out_is_refused():
    seen = lt.sample(problem(lt.Prior("uniform", 6)), 50, generator(), twins=True)
    assert (seen.labels[:, ::2] == seen.labels[:, 1::2]).all()
    assert np.unique(seen.labels).size == 10
    with pytest.raises(ValueError, match="even"):
        lt.sample(problem(lt.Prior("uniform", 5)), 2, generator(), twins=True)


# --- learners ----------------------------------------------------------------------------------------------


def test_a_memorizer_errs_on_unseen_points_only_and_on_nine_tenths_of_them():
    seen = lt.sample(problem(lt.Prior("uniform", 100)), 500, generator())
    wrong = lt.predict(lt.up_to("memorizer", 0), seen, 10, generator(1)) != seen.labels
    assert not wrong[seen.counts > 0].any()
    unseen = (seen.counts == 0).sum()
    assert z(wrong[seen.counts == 0].mean(), 0.9, math.sqrt(0.09 / unseen)) < 4


def test_a_refused_singleton_is_guessed_so_it_errs_less_than_always():
    seen = lt.sample(problem(lt.Prior("uniform", 100), labels=4), 500, generator())
    wrong = lt.predict(lt.up_to("refuses singletons", 1), seen, 4, generator(1)) != seen.labels
    once = (seen.counts == 1).sum()
    assert z(wrong[seen.counts == 1].mean(), 3 / 4, math.sqrt(3 / 16 / once)) < 4
    assert not wrong[seen.counts > 1].any()


def test_memorizing_labels_shuffled_between_points_predicts_nothing():
    seen = lt.sample(problem(lt.Prior("zipf", 100)), 300, generator())
    shuffled = seen._replace(labels=generator(1).permuted(seen.labels, axis=1))
    predicted = lt.predict(lt.up_to("memorizer", 0), shuffled, 10, generator(2))
    error, std_error = lt.mean_and_error((seen.frequencies * (predicted != seen.labels)).sum(axis=1))
    assert z(error, 0.9, std_error) < 4


def test_renaming_points_changes_no_result():
    one = problem(lt.Prior("zipf", 100))
    seen = lt.sample(one, 50, generator())
    wanted = np.unique(seen.counts[seen.counts > 0])
    known = lt.tau(lt.marginal(one.prior, 50, generator(1)), one.n, wanted)
    predictions = lt.predict(lt.up_to("refuses singletons", 1), seen, 10, generator(2))
    order = generator(3).permutation(100)
    renamed = lt.Sample(*(each[:, order] for each in seen))
    before = lt.compare(seen, predictions, lt.optimum(seen, 10), known)
    after = lt.compare(renamed, predictions[:, order], lt.optimum(renamed, 10), known)
    assert after == pytest.approx(before, rel=1e-9, abs=1e-12)


def test_randomised_response_costs_its_flip_rate_times_what_there_is_to_lose():
    seen = lt.sample(problem(lt.Prior("zipf", 200), n=200), 1000, generator())
    opt = lt.optimum(seen, 10)
    for flip in (0.0, 0.1, 0.4, 0.7, 1.0):
        predictions = lt.predict(lt.randomised_response(flip), seen, 10, generator(int(10 * flip)))
        excess = (seen.frequencies * (predictions != seen.labels)).sum(axis=1) - opt
        mean, error = lt.mean_and_error(excess - flip * (0.9 - opt))
        assert z(mean, 0, error) < 4


def test_bands_share_out_all_of_the_mass_and_all_of_the_error():
    seen = lt.sample(problem(lt.Prior("zipf", 200), n=200), 50, generator())
    predictions = lt.predict(lt.up_to("refuses singletons", 1), seen, 10, generator(1))
    bands = lt.by_band(seen, predictions, 200)
    assert len(bands) == len(lt.BANDS)
    assert bands.mass.sum() == pytest.approx(1)
    error = (seen.frequencies * (predictions != seen.labels)).sum(axis=1).mean()
    assert bands.cost.sum() == pytest.approx(error)
    np.testing.assert_allclose(bands.mass * bands.err, bands.cost)


# --- the tail ----------------------------------------------------------------------------------------------


@given(st.integers(3, 400), st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_tau_1_is_never_below_the_weight_of_the_tail_over_5n(n, listed):
    chosen = np.array(listed)[generator().integers(len(listed), size=(50, 40))]
    frequencies = chosen / chosen.sum(axis=1, keepdims=True)
    weight, _ = lt.tail_weight(frequencies, 1 / (3 * n), 2 / n)
    assert lt.tau(frequencies, n, [1]).value[0] >= lt.tau1_floor(weight, n)


@pytest.mark.parametrize("n", [3, 4, 5, 10, 1000, 10**6])
def test_the_constant_of_the_tail_bound_holds_on_the_whole_band(n):
    a = np.linspace(1 / (3 * n), 2 / n, 2001)
    assert (n * a * np.exp((n - 1) * np.log1p(-a))).min() > 1 / 5


def test_the_tail_bound_refuses_samples_that_are_too_small_for_it():
    with pytest.raises(ValueError, match="at least 3"):
        lt.tau1_floor(0.5, 2)


def test_the_tail_bound_is_worth_a_fifth_when_all_mass_is_in_the_tail():
    weight, error = lt.tail_weight(lt.marginal(lt.Prior("uniform", 50), 4, generator()), 1 / 150, 2 / 50)
    assert (weight, error) == (pytest.approx(1), pytest.approx(0))
    assert 50 * lt.tau1_floor(weight, 50) == pytest.approx(1 / 5)


# --- the stage ---------------------------------------------------------------------------------------------


def test_learners_that_misfit_by_count_meet_the_bound_and_few_compare_nothing(stage):
    costs = stage["costs"]
    rows = costs[(costs.predicted == "equal") & ~costs.control]
    assert len(rows) == stage["summary"]["equality"]["comparisons"] == 4 * 6
    assert stage["summary"]["equality"]["largest_z"] < 4
    paying = rows[rows.bound_excess > 0.01]
    assert len(paying) == 4 * 4
    assert (paying.gap_se < 0.05 * paying.bound_excess).all()


def test_a_learner_blind_to_the_structure_of_labels_pays_more_than_the_bound(stage):
    rows = stage["costs"].query("predicted == 'above' and not control")
    assert len(rows) == 4
    assert (rows.gap > 10 * rows.gap_se).all()


def test_a_learner_that_is_told_the_frequencies_beats_the_bound_where_they_differ(stage):
    rows = stage["costs"].query("learner == 'is told the frequencies'").set_index("prior")
    assert rows.gap["zipf"] < -10 * rows.gap_se["zipf"]
    assert rows.misfits["uniform"] == 0


def test_a_learner_that_looks_at_the_whole_sample_can_fall_below_the_averaged_bound(stage):
    rows = stage["costs"].query("learner == 'refuses singletons of narrow samples'").set_index("prior")
    assert rows.gap["zipf"] < -4 * rows.gap_se["zipf"]
    assert abs(rows.gap["uniform"]) < 4 * rows.gap_se["uniform"]
    assert rows.misfits["uniform"] > 1


def test_excess_error_grows_by_tau_1_with_every_unfitted_singleton(stage):
    priors = stage["priors"].query("not control")
    assert (z(priors.slope_ratio, 1, priors.slope_ratio_se) < 4).all()
    assert (priors.slope_ratio_se < 0.05).all()


def test_where_the_tail_is_short_or_far_below_one_over_n_refusing_singletons_costs_nothing(stage):
    excess = stage["costs"].query("learner == 'refuses singletons'").set_index("prior").excess
    assert (excess[["uniform_many", "gap_far"]].abs() < 0.005).all()
    assert (excess[["zipf", "zipf_large", "uniform", "gap_near"]] > 0.03).all()


def test_twins_lower_the_optimum_and_who_uses_them_reaches_it(stage):
    costs = stage["costs"].set_index(["prior", "learner"])
    assert costs.opt["zipf", "uses twins"] < 0.9 * costs.opt["zipf", "memorizer"]
    aware = costs.loc[("zipf", "uses twins")]
    assert z(aware.err, aware.opt, aware.gap_se) < 4


def test_the_worked_example_with_fixed_frequencies_is_the_sum_over_ranks(stage):
    row = stage["example"].query("model == 'fixed'").iloc[-1]
    p = 1 / np.arange(1, row.N + 1) / np.sum(1 / np.arange(1, row.N + 1))
    assert row.singletons == pytest.approx(np.sum(p * (1 - p) ** (row.n - 1)))
    assert row.cost == pytest.approx(np.sum(p * row.n * p * (1 - p) ** (row.n - 1)))
    assert (row.singletons_se, row.cost_se, row.n_tau1_se) == (0, 0, 0)


def test_the_worked_example_agrees_with_the_simulated_problem_of_the_same_size():
    study = params.LongTail(**TOY | {"n": 100, "example_points": 50_000, "example_draws": 400, "draws": 400})
    example = lt.zipf_example(study).query("model == 'random' and N == 100").iloc[0]
    seen = lt.sample(lt.problems(study)[0], study.draws, generator())
    share, error = lt.mean_and_error((seen.counts == 1).mean(axis=1))
    assert z(example.singletons, share, math.hypot(error, example.singletons_se)) < 4


def test_the_summary_says_what_the_tables_say(stage):
    zipf = stage["summary"]["zipf"]
    row = stage["costs"].query("prior == 'zipf' and learner == 'refuses singletons'").iloc[0]
    assert zipf["error_refused"] == {"value": row.err, "std_error": row.err_se}
    assert zipf["bound"] == {"value": row.bound, "std_error": row.bound_se}
    assert zipf["excess"] == {"value": row.excess, "std_error": row.excess_se}
    assert zipf["n_tau_1"] > zipf["n_tau_1_lower"] > 0
    assert set(stage["summary"]) == {p.name for p in lt.problems(params.LongTail(**TOY))} | {
        "equality",
        "zipf_example",
        "scale",
    }


def test_the_same_seed_gives_the_same_tables():
    one, two = (lt.run(params.LongTail(**TOY)) for _ in range(2))
    assert json.dumps(one.pop("summary")) == json.dumps(two.pop("summary"))
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name], check_exact=True)


@pytest.mark.parametrize("name", TOY)
def test_every_parameter_changes_something(name):
    assert set(params.LongTail.model_fields) == set(TOY) == set(CHANGED)
    before, after = (lt.run(params.LongTail(**fields)) for fields in (TOY, TOY | {name: CHANGED[name]}))
    assert any(not before[table].equals(after[table]) for table in before if table != "summary")


# --- figures -----------------------------------------------------------------------------------------------


def test_figures_are_drawn_from_the_tables_of_the_stage(stage):
    drawn = [
        figures.cost_against_bound(stage["costs"]),
        figures.distance_from_bound(stage["costs"], 4.0),
        figures.unfitted_singletons(stage["growth"], stage["priors"]),
        figures.randomised_response(stage["costs"]),
        figures.tau_by_count(stage["tau"], 3),
        figures.subgroups(stage["subgroups"], "zipf"),
        figures.zipf_by_size(stage["example"]),
    ]
    assert len({figure.name for figure in drawn}) == 7
    assert all(charts.specification(figure)["datasets"] for figure in drawn)
    assert drawn[4].table["count"].max() == 3
    assert not drawn[1].table.control.any()


def test_a_figure_of_an_unknown_problem_is_refused_with_the_known_ones(stage):
    with pytest.raises(ValueError, match="zipf_large"):
        figures.subgroups(stage["subgroups"], "pareto")
