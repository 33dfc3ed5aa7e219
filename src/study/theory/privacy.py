"""How much memorization differential privacy allows, in closed form and by simulation.

A randomized algorithm is (epsilon, delta)-private if no event is more than exp(epsilon) times as probable, plus delta,
on one of two data sets that differ by one record than on the other (Dwork & Roth 2014, Definition 2.4). Memorization
compares two such data sets, with an example and without it, so it is bounded. `memorization_bound` is sharper than the
usual exp(epsilon) - 1 + delta, for it uses the definition twice: on the event that the example is fitted, and on its
complement.
"""

import numpy as np

from study.estimators import standard_error


def memorization_bound(epsilon, delta: float = 0.0) -> np.ndarray:
    """Largest |mem| of an (``epsilon``, ``delta``)-private algorithm: (exp(epsilon) - 1 + 2 delta) / (exp(epsilon) + 1).

    With p and q the probabilities of a right answer with the example and without it, p <= exp(epsilon) q + delta and
    1 - q <= exp(epsilon) (1 - p) + delta; p - q is largest where both are equalities. Raises ``ValueError`` for a negative
    epsilon or a delta outside [0, 1].
    """
    epsilon = _checked(epsilon, delta)
    return np.tanh(epsilon / 2) + 2 * delta / (np.exp(epsilon) + 1)


def usual_bound(epsilon, delta: float = 0.0) -> np.ndarray:
    """exp(epsilon) - 1 + delta, from the definition used once; says nothing where it exceeds 1."""
    return np.expm1(_checked(epsilon, delta)) + delta


def least_epsilon(mem: float, delta: float = 0.0) -> float:
    """The smallest epsilon at which an algorithm with memorization ``mem`` can be (epsilon, ``delta``)-private.

    The inverse of `memorization_bound`, 0 where delta alone allows ``mem``. Raises ``ValueError`` unless 0 <= mem <= 1.
    """
    if not 0 <= mem <= 1:
        raise ValueError(f"mem is {mem}; a value from 0 to 1 is needed")
    _checked(0.0, delta)
    with np.errstate(divide="ignore"):
        return float(max(0.0, np.log(1 + mem - 2 * delta) - np.log1p(-mem))) if mem > delta else 0.0


def guessing_bound(epsilon, classes: int) -> np.ndarray:
    """Largest mem at delta = 0 of a private algorithm that without the example is right by chance, 1 / ``classes``."""
    epsilon, chance = _checked(epsilon, 0.0), 1 / classes
    return np.minimum(chance * np.exp(epsilon), 1 - (1 - chance) * np.exp(-epsilon)) - chance


def fitting_bound(epsilon, delta: float, without) -> np.ndarray:
    """Largest probability of a right answer with the example, where ``without`` it that probability is known.

    The smaller of exp(epsilon) q + delta and 1 - exp(-epsilon) (1 - q - delta); `memorization_bound` is what is left of it
    when nothing is known of q. Raises ``ValueError`` for a q outside [0, 1].
    """
    epsilon, without = _checked(epsilon, delta), np.asarray(without, dtype=float)
    if ((without < 0) | (without > 1)).any():
        raise ValueError(f"without is {without}; a probability is needed")
    return np.clip(np.minimum(np.exp(epsilon) * without + delta, 1 - np.exp(-epsilon) * (1 - without - delta)), 0, 1)


def group_privacy(epsilon: float, delta: float, copies: int) -> tuple[float, float]:
    """What an (``epsilon``, ``delta``)-private algorithm promises to an example present ``copies`` times or not at all.

    (c epsilon, delta (exp(c epsilon) - 1) / (exp(epsilon) - 1)), by using the definition once for each copy (group privacy,
    Dwork & Roth 2014). A delta above 1 promises nothing and is returned as 1. Raises ``ValueError`` for less than one copy.
    """
    if copies < 1:
        raise ValueError(f"copies is {copies}; at least one is needed")
    _checked(epsilon, delta)
    return copies * epsilon, float(min(1.0, delta * np.exp(epsilon * np.arange(copies)).sum()))


def randomised_response(epsilon: float, trials: int, rng: np.random.Generator, delta: float = 0.0) -> tuple[float, float]:
    """Memorization of the algorithm that attains the bound, measured on ``trials`` runs a side; with its standard error.

    It reports whether the example is there (Warner 1965): truthfully with probability exp(epsilon) / (exp(epsilon) + 1).
    With a ``delta`` it gives the truth away, and says that it does, with that probability, and answers so otherwise.
    """
    truthful = delta + (1 - delta) / (1 + np.exp(-epsilon))
    right_in, right_out = rng.binomial(trials, truthful), rng.binomial(trials, 1 - truthful)
    return (right_in - right_out) / trials, float(standard_error(right_in, trials, right_out, trials))


def _checked(epsilon, delta: float) -> np.ndarray:
    epsilon = np.asarray(epsilon, dtype=float)
    if (epsilon < 0).any() or not 0 <= delta <= 1:
        raise ValueError(f"epsilon is {epsilon} and delta is {delta}; epsilon >= 0 and 0 <= delta <= 1 are needed")
    return epsilon
