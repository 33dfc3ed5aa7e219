"""From each number of the scorecard a way leads to its table, the run that made it, and the chapter."""

from pathlib import Path

import pandas as pd
import pytest

from study import claims, provenance, runs

ROOT = Path(__file__).parents[1]
MADE = {
    "estimate@a": runs.Run("estimate@a", (), ("tables/a/summary.json",)),
    "removal@a": runs.Run("removal@a", (), ("tables/a/removal.json",)),
}


@pytest.fixture(scope="module")
def ledger() -> claims.Ledger:
    return claims.load(ROOT / "claims.yaml")


def claim(ledger: claims.Ledger, **changes) -> claims.Claim:
    return next(each for each in ledger.claims if each.measured).model_copy(update={"chapter": "case studies"} | changes)


def test_a_number_leads_to_table_place_run_and_chapter(ledger):
    told = provenance.origin(
        claim(ledger, measured="tables/a/removal.json#/curve/0"), MADE, {"chapter_case_studies": "chapters/04_case_studies"}
    )
    assert "<code>tables/a/removal.json</code> <code>/curve/0</code>" in told
    assert '<a href="status.html#run-removal-a">removal@a</a>' in told and "run-estimate" not in told
    assert '<a href="chapters/04_case_studies.html">case studies</a>' in told


def test_a_table_that_one_chapter_alone_reads_leads_to_that_one(ledger):
    read = MADE | {name: runs.Run(name, ("tables/a/removal.json",), ()) for name in ("chapter_objection", "chapter_theory")}
    pages = {name: name for name in ("chapter_case_studies", "chapter_objection", "chapter_theory")}
    doubted = claim(ledger, measured="tables/a/removal.json#/curve")
    assert "chapter_case_studies.html" in provenance.origin(doubted, read, pages)
    del read["chapter_theory"]
    assert "chapter_objection.html" in provenance.origin(doubted, read, pages)


def test_a_table_that_no_run_makes_is_an_error_that_names_the_claim(ledger):
    stray = claim(ledger, id="stray", measured="tables/b/summary.json#/x")
    with pytest.raises(ValueError, match=r"claim stray: no run .* makes tables/b/summary\.json"):
        provenance.origin(stray, MADE, {})


def test_every_tested_claim_of_the_study_and_no_other_tells_its_origin(ledger):
    made, frame = runs.load(ROOT / "dvc.yaml"), pd.DataFrame({"id": [each.id for each in ledger.claims], "rule": "r"})
    told = provenance.with_origins(frame, ledger, made, {}).set_index("id")["rule"].str.contains("status.html#run-")
    assert told.to_dict() == {each.id: each.measured is not None for each in ledger.claims}
    assert frame["rule"].eq("r").all()
