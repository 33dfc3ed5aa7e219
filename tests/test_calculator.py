"""The calculator's closed form agrees with simulated worlds, with hand calculation, and with its copy in the browser."""

import browser as look
import numpy as np
import pytest

from study.theory import calculator
from study.theory.long_tail import BANDS, Prior

GAP = Prior("gap", 1000, head_points=50, tail_mass=0.3)
CASES = [
    (Prior("zipf", 1000), 1000, 10, 1, np.inf),
    (Prior("zipf", 316), 5012, 2, 2, 1.5),
    (Prior("uniform", 100), 1000, 100, 0, np.inf),
    (GAP, 1000, 10, 1, 0.0),
]


def simulated(prior: Prior, n: int, labels: int, refused: int, epsilon: float, draws: int = 400):
    """Mean error over samples and its standard error: counts are drawn, the coins of the learner are averaged."""
    p = prior.frequencies() / prior.frequencies().sum()
    counts = np.random.default_rng(0).multinomial(n, p, size=draws)
    lie = (labels - 1) / (np.exp(epsilon) + labels - 1) if np.isfinite(epsilon) else 0.0
    error = np.where(counts <= refused, 1 - 1 / labels, lie) @ p
    share = (counts * ((counts >= 1) & (counts <= refused))).sum(1) / n
    return error.mean(), error.std() / draws**0.5, share.mean(), share.std() / draws**0.5


@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_is_the_mean_of_simulated_samples(case):
    found = calculator.loss(*case)
    error, error_se, share, share_se = simulated(*case)
    assert abs(found.error - error) < 4 * error_se + 1e-12
    assert abs(found.unfitted - share) < 4 * share_se + 1e-12


def test_uniform_points_by_hand():
    found = calculator.loss(Prior("uniform", 10), 10, 2, refused=1)
    unseen, once = 0.9**10, 10 * 0.1 * 0.9**9
    assert found.optimum == pytest.approx(unseen / 2)
    assert found.error == pytest.approx((unseen + once) / 2)
    assert found.unfitted == pytest.approx(once)
    assert found.weight == pytest.approx((0, 1, 0, 0)) and found.bands[1] == pytest.approx(found.error)
    assert np.isnan(found.bands[0])


@pytest.mark.parametrize("case", CASES)
def test_bands_add_up_to_the_whole(case):
    found = calculator.loss(*case)
    assert sum(found.weight) == pytest.approx(1)
    assert np.nansum(np.multiply(found.weight, found.bands)) == pytest.approx(found.error)
    assert np.nansum(np.multiply(found.weight, found.best)) == pytest.approx(found.optimum)


def test_no_privacy_and_no_refusal_is_the_optimum_and_full_privacy_is_a_guess():
    free = calculator.loss(GAP, 1000, 10)
    assert free.error == pytest.approx(free.optimum)
    assert calculator.loss(GAP, 1000, 10, epsilon=0.0).error == pytest.approx(0.9)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"labels": 1}, {"refused": -1}, {"epsilon": -0.1}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        calculator.loss(GAP, **({"n": 10, "labels": 2} | wrong))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calculator")
    script = (look.Path(__file__).parents[1] / "book/_static/calculator.js").read_text()
    form = calculator.FORM.format(points=1000, n=1000)
    (folder / "page.html").write_text(f"<meta charset=utf-8>{form}<script>{script}</script>")
    return (folder / "page.html").as_uri()


def test_the_browser_computes_the_same(address):
    with look.chromium() as chromium, look.opened(chromium, look.DESKTOP) as (page, complaints):
        page.goto(address)
        for prior, n, labels, refused, epsilon in CASES:
            chosen = {"prior": prior.kind, "points": prior.points, "n": n, "labels": labels, "tail": prior.tail_mass,
                      "refused": refused, "epsilon": min(epsilon, 700.0)}  # fmt: skip
            theirs, ours = (
                page.evaluate("chosen => studyLoss(chosen)", chosen),
                calculator.loss(prior, n, labels, refused, epsilon),
            )
            assert theirs["error"] == pytest.approx(ours.error) and theirs["optimum"] == pytest.approx(ours.optimum)
            assert theirs["unfitted"] == pytest.approx(ours.unfitted)
            assert [band["weight"] for band in theirs["bands"]] == pytest.approx(ours.weight)
            for band, error in zip(theirs["bands"], ours.bands):
                assert band["weight"] == 0 or band["error"] / band["weight"] == pytest.approx(error)
        assert complaints == [] and len(theirs["bands"]) == len(BANDS)


@pytest.mark.parametrize("size", [look.DESKTOP, look.PHONE], ids=["desktop", "phone"])
def test_dragging_redraws_and_keys_work(address, size):
    with look.chromium() as chromium, look.opened(chromium, size) as (page, complaints):
        page.goto(address)
        before = page.locator("[role=status]").text_content()
        assert "loses" in before and page.locator("tbody tr").count() == len(BANDS)
        page.focus("[name=refused]")
        page.keyboard.press("Home")
        assert "it loses 0.0 %" in page.locator("[role=status]").text_content()
        page.keyboard.press("ArrowRight")
        assert page.locator("[role=status]").text_content() == before
        assert not page.locator(".tail").is_visible()
        page.select_option("[name=prior]", "gap")
        assert page.locator(".tail").is_visible()
        assert complaints == []
