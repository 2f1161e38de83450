"""A policy with a price against densely swept heuristics: the frontier of each, on the same prompts."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.matched import GAMMAS, THRESHOLDS
from mdm_jax.evals.paired import PairedRow, paired_row
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.policies import heuristics
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.runs.reporter import Progress, silent

PRICES = 12  # settings of the learned policy, evenly spaced in logs
FACTORS = tuple(np.geomspace(0.05, 8, 24).round(3).tolist())
MOST_STEPS = 16  # of policies with a fixed number of steps
SCHEDULED = (
    heuristics.Ancestral,
    heuristics.TopConfidence,
    heuristics.TopMargin,
    heuristics.LowEntropy,
)


class Frontiers(NamedTuple):
    """What every setting reaches."""

    learned: list[Outcome]  # by rising price: falling calls
    baselines: list[Outcome]

    @property
    def rows(self) -> list[Row]:
        """All of them, the learned policy's first."""
        return [one.row for one in (*self.learned, *self.baselines)]


def price_frontiers(
    evaluator: Evaluator,
    policy: AdaptivePolicy,
    prices: tuple[float, float],
    progress: Progress = silent,
) -> Frontiers:
    """Evaluate a policy between two prices, and the heuristics at all of their knobs.

    Each family is one compiled call per batch.
    """
    knobs = np.geomspace(*prices, PRICES)
    learned = [replace(policy, price=float(price)) for price in knobs]
    families = [learned, *baseline_families(evaluator)]
    outcomes = []
    with progress("comparing", len(families)) as advance:
        for family in families:
            outcomes.append(evaluator.sweep(family))
            advance(1, type(family[0]).__name__)
    return Frontiers(outcomes[0], [one for family in outcomes[1:] for one in family])


def baseline_families(evaluator: Evaluator) -> list[list[Policy]]:
    """The heuristics, each at every setting."""
    window = evaluator.task.gen_length or evaluator.task.length
    steps = range(1, min(window, MOST_STEPS) + 1)
    return [
        *([kind(count) for count in steps] for kind in SCHEDULED),
        [heuristics.EntropyBound(gamma) for gamma in GAMMAS],
        [heuristics.ConfidenceThreshold(threshold) for threshold in THRESHOLDS],
        [heuristics.Factor(factor) for factor in FACTORS],
    ]


def against_best(found: Frontiers) -> list[tuple[Row, PairedRow | None]]:
    """Each setting of the learned policy with the best baseline that takes no more calls, if any."""

    def best(ours: Outcome) -> PairedRow | None:
        cheap = [one for one in found.baselines if one.row.nfe <= ours.row.nfe]
        if not cheap:
            return None
        return paired_row(ours, max(cheap, key=lambda one: one.row.accuracy))

    return [(ours.row, best(ours)) for ours in found.learned]
