"""What refusing rare points or keeping labels private costs, in closed form: the numbers behind the calculator in the page.

The world is the one of `study.theory.long_tail`, with one simplification: the list of the prior is itself the
distribution of points, so that every expectation is a sum and nothing is drawn. A point of frequency p occurs k times
among n draws with probability Binomial(n, p)(k). The learner guesses among the labels where it has not seen a point or
refuses it, and otherwise answers by randomised response. ``book/_static/calculator.js`` computes the same in the
browser; ``tests/test_calculator.py`` holds both against each other and against simulated worlds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from study.theory.long_tail import BANDS, Prior


@dataclass(frozen=True)
class Loss:
    """Errors, as shares of new points: ``error``, the best possible ``optimum``, and both within each of `BANDS`.

    ``weight``: the share of new points that belong to a band; ``bands`` and ``best`` are NaN where there is none.
    ``unfitted``: the expected share of the sample that stands in refused points.
    """

    error: float
    optimum: float
    weight: tuple[float, ...]
    bands: tuple[float, ...]
    best: tuple[float, ...]
    unfitted: float


def loss(prior: Prior, n: int, labels: int, refused: int = 0, epsilon: float = np.inf) -> Loss:
    """Expected error of a learner that refuses points seen at most ``refused`` times and is ``epsilon``-private for labels.

    Randomised response among k labels tells the truth with probability e^epsilon / (e^epsilon + k - 1) (Warner 1965, for
    k = 2). Raises ``ValueError`` for fewer than one draw, two labels, or negative ``refused`` or ``epsilon``.
    """
    if n < 1 or labels < 2 or refused < 0 or epsilon < 0:
        raise ValueError(
            f"n is {n} (at least 1), labels {labels} (at least 2), refused {refused} and epsilon {epsilon} (not negative)"
        )
    p = prior.frequencies()
    p = p / p.sum()
    guess, lie = 1 - 1 / labels, (labels - 1) / (np.exp(min(epsilon, 700.0)) + labels - 1)
    unseen, few = (1 - p) ** n, binom.cdf(refused, n, p)
    error, best = few * guess + (1 - few) * lie, unseen * guess
    masks = [(n * p >= low) & (n * p < high) for low, high in BANDS]
    weight = [float(p[mask].sum()) for mask in masks]
    within = [[float(p[mask] @ x[mask] / p[mask].sum()) if mask.any() else np.nan for mask in masks] for x in (error, best)]
    counts = np.arange(1, refused + 1)[:, None]
    unfitted = float((counts * binom.pmf(counts, n, p)).sum() / n)
    return Loss(float(p @ error), float(p @ best), tuple(weight), tuple(within[0]), tuple(within[1]), unfitted)


FORM = """<form class="study-calculator" data-points="{points}" data-n="{n}">
<p class="controls"><label>Prior <select name="prior"><option value="zipf">Zipf</option>
<option value="uniform">uniform</option><option value="gap">gap: a head and a thin tail</option></select></label>
<label>Labels <select name="labels"><option>2</option><option selected>10</option><option>100</option></select></label></p>
<label>Points N <span class="value" data-of="points"></span>
<input type="range" name="points" min="1" max="5" step="0.1"></label>
<label>Sample size n <span class="value" data-of="n"></span>
<input type="range" name="n" min="1" max="5" step="0.1"></label>
<label class="tail">Mass of the tail <span class="value" data-of="tail"></span>
<input type="range" name="tail" min="-4" max="-0.3" step="0.1" value="-0.5"></label>
<label>Refuses points seen at most <span class="value" data-of="refused"></span> times
<input type="range" name="refused" min="0" max="5" step="1" value="1"></label>
<label>Privacy of labels ε <span class="value" data-of="epsilon"></span>
<input type="range" name="epsilon" min="0" max="10" step="0.25" value="10"></label>
<p class="told" role="status"></p>
<table><caption>Error by how often a point is expected in the sample (frequency times n)</caption>
<thead><tr><th scope="col">expected count</th><th scope="col">share of new points</th>
<th scope="col">best possible error</th><th scope="col">error of this learner</th>
<th scope="col" class="bars">excess</th></tr></thead><tbody></tbody></table>
<noscript>The calculator needs scripts; <code>study.theory.calculator.loss</code> gives the same numbers.</noscript></form>
"""


def show(points: int = 1000, n: int = 1000) -> None:
    """Display the calculator in the running notebook, set to ``points`` and ``n``."""
    from IPython.display import HTML, display

    display(HTML(FORM.format(points=points, n=n)))
