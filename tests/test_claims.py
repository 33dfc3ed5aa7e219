"""The ledger of claims: rules, verdicts, controls, errors, and the real `claims.yaml`."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pybtex.database import parse_file
from pydantic import TypeAdapter, ValidationError

from study import claims
from study.claims import LedgerError, Quantity

ROOT = Path(__file__).parents[1]
LEDGER = claims.load(ROOT / "claims.yaml")
RULE = TypeAdapter(claims.Rule)
FILE = "tables/toy/summary.json"
POINTERS = {claim.id: claim.pointers() for claim in LEDGER.claims if claim.measured}


def quantity(*pairs):
    return Quantity(*np.array(pairs, dtype=float).reshape(-1, 2).T)


def rule(kind, **fields):
    return RULE.validate_python({"kind": kind, **fields})


def claim(**changes):
    return {
        "id": "toy-claim",
        "system": "toy",
        "chapter": "estimators",
        "source": [{"key": "someone2020", "where": "Table 1"}],
        "statement": "The effect is large.",
        "published": {"value": 2.5, "uncertainty": 0.5, "unit": "points"},
        "rule": {"kind": "greater"},
        "measured": f"{FILE}#/effect",
        "same_scale": True,
        "scale": "A toy.",
        "control": {"statement": "Shuffled data must show none."},
    } | changes


def ledger(*entries):
    return claims.Ledger.model_validate({"systems": {"toy": "A toy study"}, "claims": list(entries)})


def tables(root, **content):
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def verdict_of(root, **changes):
    row = claims.judge(ledger(claim(**changes)), root).iloc[0]
    return row.verdict, row.reason


def q(value, std_error):
    return {"value": value, "std_error": std_error}


# Rules ----------------------------------------------------------------------------------------------------

CASES = [
    (rule("within", tolerance=0.1, k=2), (1.0, 0.1), (1.29, 0.0), (1.31, 0.0)),
    (rule("within", k=2), (1.0, 0.3), (1.99, 0.4), (2.01, 0.4)),
    (rule("within", k=2, resolution=0.5), (1.0, 0.4), (1.0, 0.3), (1.0, 0.31)),
    (rule("ratio", low=0.5, high=1.5, k=0), (2.0, 0.0), (3.0, 0.0), (3.01, 0.0)),
    (rule("ratio", low=0.5, high=1.5, k=0), (2.0, 0.0), (1.0, 0.0), (0.99, 0.0)),
    (rule("ratio", low=0.5, high=1.5, k=2), (2.0, 0.0), (3.18, 0.1), (3.22, 0.1)),
    (rule("ratio", low=0.5, high=1.5, k=2), (2.0, 0.0), (2.0, 0.5), (2.0, 0.51)),
    (rule("ratio", low=0.5, high=1.5, k=1), (2.0, 0.4), (3.5, 0.0), (4.0, 0.0)),
    (rule("greater", k=2), (1.0, 0.3), (2.01, 0.4), (1.99, 0.4)),
    (rule("less", k=2), (1.0, 0.3), (-0.01, 0.4), (0.01, 0.4)),
    (rule("at_least", k=2), (1.0, 0.3), (0.01, 0.4), (-0.01, 0.4)),
    (rule("at_most", k=2), (1.0, 0.3), (1.99, 0.4), (2.01, 0.4)),
    (rule("at_most", k=2, resolution=0.5), (1.0, 0.3), (1.0, 0.4), (1.0, 0.41)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "reference", "good", "bad"), CASES)
def test_a_rule_holds_up_to_its_limit_and_fails_beyond(rule, reference, good, bad):
    assert claims.holds(rule, quantity(good), quantity(reference))
    assert not claims.holds(rule, quantity(bad), quantity(reference))


@pytest.mark.parametrize(("rule", "reference", "good", "bad"), CASES)
def test_of_several_values_every_one_must_obey_the_rule(rule, reference, good, bad):
    assert claims.holds(rule, quantity(good, good), quantity(reference))
    assert claims.holds(rule, quantity(good, good), quantity(reference, reference))
    assert not claims.holds(rule, quantity(good, bad), quantity(reference))


@pytest.mark.parametrize("rule", [case[0] for case in CASES])
@pytest.mark.parametrize("pair", [(np.nan, 0.1), (1.0, np.nan)])
def test_what_is_not_identified_never_passes(rule, pair):
    assert not claims.holds(rule, quantity(pair), quantity((1.0, 0.0)))
    assert not claims.holds(rule, quantity((1.0, 0.0)), quantity(pair))


def test_an_ordering_forgives_noise_between_neighbours_but_not_a_step_back():
    rising = rule("increasing", k=2)
    assert claims.holds(rising, quantity((1, 0.1), (0.9, 0.1), (2, 0.1)))
    assert not claims.holds(rising, quantity((1, 0.1), (0.7, 0.1), (2, 0.1)))
    assert not claims.holds(rising, quantity((1, 0.1), (1.1, 0.1), (1.2, 0.1)))
    assert not claims.holds(rising, quantity((1, 0.1), (np.nan, 0.1), (2, 0.1)))
    assert claims.holds(rule("decreasing", k=2), quantity((2, 0.1), (2.1, 0.1), (1, 0.1)))
    assert not claims.holds(rule("decreasing", k=2), quantity((1, 0.1), (2, 0.1)))


def test_an_ordering_of_one_value_is_an_error():
    with pytest.raises(LedgerError, match="two values or more, found 1"):
        claims.holds(rule("increasing"), quantity((1, 0.1)))


def test_a_ratio_to_zero_fails_instead_of_dividing():
    assert not claims.holds(rule("ratio", low=0, high=1), quantity((0, 0)), quantity((0, 0)))


def test_no_values_satisfy_no_rule():
    empty = Quantity(np.array([]), np.array([]))
    assert not claims.holds(rule("greater"), empty, quantity((0, 0)))


def test_two_measured_values_do_not_compare_with_three():
    with pytest.raises(LedgerError, match="2 measured values against 3"):
        claims.holds(rule("greater"), quantity((1, 0), (1, 0)), quantity((0, 0), (0, 0), (0, 0)))


numbers = st.floats(-1e6, 1e6)
pairs = st.tuples(numbers, st.floats(0, 1e3))


@given(pairs, pairs, st.floats(0, 10))
def test_greater_and_at_most_exclude_each_other_and_so_do_less_and_at_least(a, b, k):
    def check(kind):
        return claims.holds(rule(kind, k=k), quantity(a), quantity(b))

    assert check("greater") != check("at_most")
    assert check("less") != check("at_least")
    assert not (check("greater") and check("less"))


# Verdicts -------------------------------------------------------------------------------------------------


def test_a_claim_that_holds_at_the_same_scale_is_reproduced(tmp_path):
    assert verdict_of(tables(tmp_path, effect=q(0.03, 0.001))) == ("reproduced", "")


def test_on_other_data_the_best_verdict_is_the_direction(tmp_path):
    root = tables(tmp_path, effect=q(0.025, 0.001))
    assert verdict_of(root, same_scale=False)[0] == "direction reproduced"
    assert verdict_of(root, same_scale=False, rule={"kind": "within"})[0] == "direction reproduced"


def test_other_data_is_what_a_claim_assumes_unless_it_says_otherwise(tmp_path):
    entry = claim()
    del entry["same_scale"]
    frame = claims.judge(ledger(entry), tables(tmp_path, effect=q(0.025, 0.001)))
    assert frame.verdict.tolist() == ["direction reproduced"]


def test_a_failed_rule_is_not_reproduced_and_says_by_what_numbers(tmp_path):
    verdict, reason = verdict_of(tables(tmp_path, effect=q(0.001, 0.001)))
    assert verdict == "not reproduced"
    assert "0.10 ± 0.10 points" in reason
    assert "above 0 points by 2 standard errors" in reason


def test_a_rule_that_fails_for_want_of_precision_says_what_was_wanted(tmp_path):
    root = tables(tmp_path, effect=q(0.025, 0.01))
    verdict, reason = verdict_of(root, rule={"kind": "within", "tolerance": 0.01, "resolution": 0.005})
    assert verdict == "not reproduced"
    assert "known to 0.5 points or better" in reason


def test_a_claim_without_measurement_is_not_tested_and_reads_no_file(tmp_path):
    assert verdict_of(tmp_path, measured=None) == ("not tested", "")


def test_an_untested_claim_stays_untested_whatever_its_control_says(tmp_path):
    control = {"statement": "None.", "measured": f"{FILE}#/null", "rule": {"kind": "at_most"}}
    assert verdict_of(tmp_path, measured=None, control=control) == ("not tested", "")


def test_the_weaker_rule_saves_the_direction_only(tmp_path):
    root = tables(tmp_path, effect=q(0.01, 0.001))
    strict = {"kind": "within", "k": 2}
    assert verdict_of(root, rule=strict)[0] == "not reproduced"
    verdict, reason = verdict_of(root, rule=strict, weaker={"kind": "greater"})
    assert verdict == "direction reproduced"
    assert "the published value" in reason
    assert verdict_of(root, rule=strict, weaker={"kind": "less"})[0] == "not reproduced"


@pytest.mark.parametrize(("null", "verdict"), [(0.001, "reproduced"), (0.2, "not reproduced")])
def test_a_failing_control_overturns_a_claim_that_holds(tmp_path, null, verdict):
    root = tables(tmp_path, effect=q(0.03, 0.001), null=q(null, 0.001))
    control = {"statement": "None.", "measured": f"{FILE}#/null", "rule": {"kind": "at_most", "against": 0.01}}
    found, reason = verdict_of(root, control=control)
    assert found == verdict
    assert ("control failed" in reason) == (verdict == "not reproduced")


def test_a_control_may_compare_two_measured_values(tmp_path):
    control = {
        "statement": "Random removal must cost less.",
        "measured": f"{FILE}#/random",
        "rule": {"kind": "less", "against": f"{FILE}#/effect"},
    }
    clear = tables(tmp_path, effect=q(0.03, 0.001), random=q(0.01, 0.001))
    assert verdict_of(clear, control=control)[0] == "reproduced"
    blurred = tables(tmp_path, effect=q(0.03, 0.001), random=q(0.028, 0.001))
    assert verdict_of(blurred, control=control)[0] == "not reproduced"


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [(q(0.0149, 0.0), "not reproduced"), (q(0.0151, 0.0), "reproduced"), (q(0.0120, 0.0043), "reproduced")],
)
def test_published_points_and_their_uncertainty_meet_measured_fractions(tmp_path, effect, verdict):
    assert verdict_of(tables(tmp_path, effect=effect), rule={"kind": "within"})[0] == verdict


def test_a_published_series_is_compared_value_by_value(tmp_path):
    series = {"published": {"values": [10, 20], "over": "sizes", "unit": "percent"}, "rule": {"kind": "within"}}
    assert verdict_of(tables(tmp_path, effect=[q(0.1, 0), q(0.2, 0)]), **series)[0] == "reproduced"
    assert verdict_of(tables(tmp_path, effect=[q(0.2, 0), q(0.1, 0)]), **series)[0] == "not reproduced"


def test_an_unidentified_value_is_not_reproduced_and_says_so(tmp_path):
    verdict, reason = verdict_of(tables(tmp_path, effect=q(None, None)))
    assert verdict == "not reproduced"
    assert "not identified" in reason


# Reading --------------------------------------------------------------------------------------------------


def test_a_pointer_reaches_through_objects_lists_and_escaped_names():
    document = {"a/b": [{"m~n": 7}]}
    assert claims.resolve(document, "/a~1b/0/m~0n") == 7


@pytest.mark.parametrize("pointer", ["/pairs/number", "/pairs/count/value", "/curve/3", "/curve/first"])
def test_a_pointer_to_nothing_names_claim_file_pointer_and_what_is_there(tmp_path, pointer):
    root = tables(tmp_path, pairs={"count": 4, "tests": 3}, curve=[1, 2])
    with pytest.raises(LedgerError) as caught:
        verdict_of(root, measured=f"{FILE}#{pointer}")
    message = str(caught.value)
    assert "toy-claim" in message
    assert f"{FILE}#{pointer}" in message
    assert {"/pairs/number": "count, tests", "/pairs/count/value": "the value 4"}.get(pointer, "list of 2") in message


def test_a_missing_file_is_an_error_with_its_users_and_a_remedy(tmp_path):
    entries = [claim(), claim(id="other-claim"), claim(id="third", measured="tables/b.json#/x")]
    with pytest.raises(LedgerError) as caught:
        claims.judge(ledger(*entries), tmp_path)
    message = str(caught.value)
    assert f"{FILE} (for toy-claim, other-claim)" in message
    assert "tables/b.json (for third)" in message
    assert "dvc repro" in message


@pytest.mark.parametrize("node", [True, "0.5", {"value": 1.0}, {"value": "x", "std_error": 0}, [1, "two"]])
def test_what_is_no_number_is_refused_by_file_and_pointer(tmp_path, node):
    with pytest.raises(LedgerError, match=f"{FILE}#/effect"):
        claims.quantity(tables(tmp_path, effect=node), f"{FILE}#/effect")


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    tables(tmp_path, effect=q(1, 0))
    (tmp_path / FILE).write_text('{"effect": {"val')
    with pytest.raises(LedgerError, match=FILE):
        claims.quantity(tmp_path, f"{FILE}#/effect")


def test_numbers_nulls_and_lists_become_values_with_errors(tmp_path):
    root = tables(tmp_path, effect=[3, None, q(0.5, 0.1), q(0.5, None)])
    value, error = claims.quantity(root, f"{FILE}#/effect")
    np.testing.assert_array_equal(value, [3, np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(error, [0, np.nan, 0.1, np.nan])


# What a ledger may not say --------------------------------------------------------------------------------

REFUSED = {
    "an unknown field": {"wished_for": 1},
    "a typed verdict": {"verdict": "reproduced"},
    "an unknown field in a rule": {"rule": {"kind": "greater", "margin": 1}},
    "an unknown rule": {"rule": {"kind": "looks similar"}},
    "an unknown field in a control": {"control": {"statement": "None.", "passed": True}},
    "a published verdict": {"published": {"value": 1, "verdict": "reproduced"}},
    "no source": {"source": []},
    "a source without a place": {"source": [{"key": "someone2020"}]},
    "no published value": {"published": None},
    "a control without a rule": {"control": {"statement": "None.", "measured": f"{FILE}#/null"}},
    "a control with a published value": {
        "control": {"statement": "None.", "measured": f"{FILE}#/null", "rule": {"kind": "within"}}
    },
    "a number to match where only a direction is published": {
        "published": {"direction": "up"},
        "rule": {"kind": "within"},
    },
    "a weaker rule to match where only a direction is published": {
        "published": {"direction": "up"},
        "weaker": {"kind": "ratio", "low": 0, "high": 1},
    },
    "a pointer outside tables": {"measured": "notes.json#/x"},
    "a file without a pointer": {"measured": FILE},
    "an id that is no kebab": {"id": "Toy_claim"},
    "an unknown system": {"system": "elsewhere"},
    "an unknown chapter": {"chapter": "epilogue"},
    "a negative tolerance": {"rule": {"kind": "within", "tolerance": -1}},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED.keys())
def test_a_ledger_refuses(changes):
    with pytest.raises(ValidationError):
        ledger(claim(**changes))


def test_a_ledger_refuses_one_id_twice_and_names_it():
    with pytest.raises(ValidationError, match="toy-claim"):
        ledger(claim(), claim())


def test_a_claim_cannot_be_changed_after_loading():
    with pytest.raises(ValidationError):
        LEDGER.claims[0].same_scale = True


# The real ledger ------------------------------------------------------------------------------------------


def test_every_source_stands_in_the_bibliography_with_author_title_and_year():
    entries = parse_file(ROOT / "book" / "references.bib").entries
    cited = {source.key for claim in LEDGER.claims for source in claim.source}
    assert cited <= set(entries)
    for key, entry in entries.items():
        assert "author" in entry.persons, key
        assert {"title", "year"} <= set(entry.fields), key


def test_no_verdict_is_typed_in_the_ledger():
    def scalars(node):
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        yield from (item for child in children for item in scalars(child)) if children else [node]

    document = yaml.safe_load((ROOT / "claims.yaml").read_text(encoding="utf-8"))
    assert not set(claims.VERDICTS) & {text for text in scalars(document["claims"]) if isinstance(text, str)}
    assert all("verdict" not in entry for entry in document["claims"])


def test_every_system_has_claims_and_some_claims_are_tested():
    assert {claim.system for claim in LEDGER.claims} == set(LEDGER.systems)
    assert 0 < len(POINTERS) < len(LEDGER.claims)


def test_every_tested_claim_has_a_control_that_is_checked():
    assert [claim.id for claim in LEDGER.claims if claim.measured and not claim.control.measured] == []


def test_where_talk_and_paper_differ_both_values_stand_with_their_sources():
    found = {
        (claim.source[0].key, claim.published.value, claim.published.uncertainty)
        for claim in LEDGER.claims
        if claim.id.startswith("removing-influencers-costs-accuracy")
    }
    assert found == {("feldman2020neural", 2.54, 0.20), ("zhang2020talk", 2.46, 0.36)}


def documents(root, node):
    """Files in which every pointer of the real ledger leads to `node`."""
    trees = {}
    for pointer in {pointer for pointers in POINTERS.values() for pointer in pointers}:
        name, _, place = pointer.partition("#/")
        *parents, last = place.split("/")
        tree = trees.setdefault(name, {})
        for parent in parents:
            tree = tree.setdefault(parent, {})
        tree[last] = node
    for name, tree in trees.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree))
    return root


@pytest.mark.parametrize("nothing", [[None, None], [q(0, 0), q(0, 0)], [q(0, 1e3), q(0, 1e3)]])
def test_a_study_that_measured_nothing_reproduces_nothing(tmp_path, nothing):
    frame = claims.judge(LEDGER, documents(tmp_path, nothing))
    assert set(frame[frame.id.isin(POINTERS)].verdict) == {"not reproduced"}
    assert set(frame[~frame.id.isin(POINTERS)].verdict) == {"not tested"}
    assert frame.id.tolist() == [claim.id for claim in LEDGER.claims]


def test_the_real_ledger_without_tables_is_an_error(tmp_path):
    with pytest.raises(LedgerError, match="dvc repro"):
        claims.judge(LEDGER, tmp_path)


# Pages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def frame(tmp_path):
    entries = [
        claim(id="it-holds"),
        claim(id="it-fails", statement="It falls.", rule={"kind": "less"}),
        claim(id="it-waits", measured=None),
    ]
    return claims.judge(ledger(*entries), tables(tmp_path, effect=q(0.03, 0.001)))


def test_counts_name_every_verdict_even_those_of_no_claim(frame):
    expected = {"reproduced": 1, "direction reproduced": 0, "not reproduced": 1, "not tested": 1}
    assert claims.counts(frame) == expected


def test_the_scorecard_shows_each_claim_once_with_source_value_rule_and_verdict(frame):
    page = claims.scorecard_markdown(frame)
    assert page.startswith("# Scorecard\n")
    assert "| not reproduced | 1 |" in page
    assert "## A toy study" in page
    for name in frame.id:
        assert page.count(f'id="claim-{name}"') == 1
    assert page.count("{cite:t}`someone2020`, Table 1") == 3
    assert "2.5 ± 0.5 points" in page
    assert "3.00 ± 0.10 points" in page
    assert page.index("it-fails") < page.index("it-waits")


def test_every_row_of_the_scorecard_has_four_cells(frame):
    lines = claims.scorecard_markdown(frame).splitlines()
    first = [index for index, line in enumerate(lines) if line.startswith("* - ")]
    assert len(first) == 1 + len(frame)
    for start, end in zip(first, [*first[1:], len(lines)], strict=True):
        assert sum(line.startswith("  - ") for line in lines[start:end]) == 3


def test_the_readme_names_what_was_not_reproduced_with_the_reason(frame):
    block = claims.readme_head(frame)
    assert block.startswith("3 published claims from 1 lines of work")
    failed = [line for line in block.splitlines() if line.startswith("- *Not reproduced:*")]
    assert len(failed) == 1
    assert "It falls." in failed[0]
    assert "must be below 0 points" in failed[0]


def test_the_readme_keeps_what_stands_around_the_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{claims.BEGIN}\nold\n{claims.END}\nafter\n")
    for block in ("new\n", "newer"):
        claims.update_readme(path, block)
    assert path.read_text() == f"before\n{claims.BEGIN}\n\nnewer\n\n{claims.END}\nafter\n"
    assert [item.name for item in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize("text", ["", claims.BEGIN, claims.END, f"{claims.END}\n{claims.BEGIN}"])
def test_a_readme_without_both_markers_in_order_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(LedgerError, match=r"README\.md needs the lines"):
        claims.update_readme(path, "new")
    assert path.read_text() == text


def test_a_run_saves_the_scorecard_and_heads_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tables(tmp_path, effect=q(0.03, 0.001)))
    entries = {"systems": {"toy": "A toy"}, "claims": [claim(), claim(id="waiting", measured=None)]}
    Path("claims.yaml").write_text(yaml.safe_dump(entries))
    Path("README.md").write_text(f"{claims.BEGIN}{claims.END}")
    frame = claims.run(readme="README.md")
    saved = json.loads(Path("tables/claims/scorecard.json").read_text())
    assert saved["counts"] == claims.counts(frame)
    assert [entry["verdict"] for entry in saved["claims"]] == ["reproduced", "not tested"]
    assert saved["claims"][1]["value"] is None
    assert "| reproduced | 1 |" in Path("README.md").read_text()


@pytest.mark.parametrize(
    ("published", "shown"),
    [
        ({"value": 2.54, "uncertainty": 0.20, "unit": "points"}, "2.54 ± 0.20 points"),
        ({"value": 1015}, "1,015"),
        ({"value": 85, "unit": "percent", "about": True}, "≈ 85\N{NO-BREAK SPACE}%"),
        ({"values": [1098, 0.5], "over": "two sizes"}, "1,098, 0.5 (two sizes)"),
        ({"direction": "rises"}, "rises"),
    ],
)
def test_published_values_are_written_as_in_the_paper(published, shown):
    entry = ledger(claim(published=published, measured=None)).claims[0]
    assert claims.show_published(entry.published) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.98526, 0.00031, "98.526 ± 0.031\N{NO-BREAK SPACE}%"),
        (0.9691, float(np.full(24, 0.9691).std(ddof=1)) + 2e-17, "96.91\N{NO-BREAK SPACE}%"),  # equal numbers, averaged
        (0.0, 0.0, "0\N{NO-BREAK SPACE}%"),
    ],
)
def test_what_was_measured_is_shown_as_far_as_its_error_allows(value, error, shown):
    assert claims.show(value, error, "percent") == shown
