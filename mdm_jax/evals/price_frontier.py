"""A policy with a price against densely swept heuristics: the frontier of each, on the same prompts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mdm_jax.denoisers.base import logit_columns
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.matched import GAMMAS, THRESHOLDS
from mdm_jax.evals.paired import PairedRow, paired_row
from mdm_jax.evals.score import Outcome, Row
from mdm_jax.policies import heuristics
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.credit import CreditDecoding
from mdm_jax.policies.hierarchical import Hierarchical
from mdm_jax.policies.klass import Klass
from mdm_jax.runs.reporter import Progress, silent

PRICES = 12  # settings of the learned policy, evenly spaced in logs
FACTORS = tuple(np.geomspace(0.05, 8, 24).round(3).tolist())
KNOBS = 25  # settings of every heuristic where all are compared
STEPS = (*range(1, 9), 12, 16)  # of policies with a fixed number of them
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
    policies: Sequence[AdaptivePolicy],
    prices: tuple[float, float],
    progress: Progress = silent,
    heuristics_of: Callable[[Evaluator], list[list[Policy]]] | None = None,
) -> list[Frontiers]:
    """Evaluate each policy between two prices, and the heuristics once at all of their knobs.

    Each policy and each family of heuristics is one compiled call per batch.

    Args:
      heuristics_of: the families; None: `baseline_families`.
    """
    knobs = [float(price) for price in np.geomspace(*prices, PRICES)]
    learned = [[replace(policy, price=price) for price in knobs] for policy in policies]
    families = [*learned, *(heuristics_of or baseline_families)(evaluator)]
    outcomes = []
    with progress("comparing", len(families)) as advance:
        for family in families:
            outcomes.append(evaluator.sweep(family))
            advance(1, type(family[0]).__name__)
    ours, others = outcomes[: len(policies)], outcomes[len(policies) :]
    baselines = [one for family in others for one in family]
    return [Frontiers(one, baselines) for one in ours]


def accuracy_at(outcomes: Sequence[Outcome], calls: float) -> float:
    """Accuracy within so many calls on average, between the two nearest settings.

    What a policy reaches that takes either of the two at random for each prompt; at more calls than any
    setting takes, what the best one reaches. NaN where all settings take more.
    """
    rows = sorted((one.row for one in outcomes), key=lambda row: row.nfe)
    accuracy = np.maximum.accumulate([row.accuracy for row in rows])
    return float(np.interp(calls, [row.nfe for row in rows], accuracy, left=np.nan))


def best_baseline_at(found: Frontiers, calls: float) -> tuple[str, float]:
    """The heuristic that is best in so many calls, and its accuracy; "-" and NaN where there is none."""
    families: dict[str, list[Outcome]] = {}
    for one in found.baselines:
        families.setdefault(one.row.policy, []).append(one)
    reached = {name: accuracy_at(family, calls) for name, family in families.items()}
    reached = {name: value for name, value in reached.items() if not np.isnan(value)}
    return max(reached.items(), key=lambda item: item[1], default=("-", float("nan")))


class AtCalls(NamedTuple):
    """What the policies of several training seeds reach in a number of calls."""

    calls: float
    learned: tuple[float, ...]  # accuracy of each seed, NaN where none of its settings is near
    baseline: str
    baseline_accuracy: float


def over_seeds_at(found: Sequence[Frontiers], calls: float) -> AtCalls:
    """Every seed and the best heuristic in so many calls."""
    learned = tuple(accuracy_at(one.learned, calls) for one in found)
    return AtCalls(calls, learned, *best_baseline_at(found[0], calls))


def median_seed(found: Sequence[Frontiers]) -> int:
    """The one whose accuracy, mean over its settings, is the median."""
    means = [np.mean([one.row.accuracy for one in each.learned]) for each in found]
    return int(np.argsort(means)[(len(means) - 1) // 2])


def baseline_families(evaluator: Evaluator) -> list[list[Policy]]:
    """The heuristics, each at every setting."""
    window = evaluator.task.gen_length or evaluator.task.length
    return [
        *([kind(count) for count in STEPS if count <= window] for kind in SCHEDULED),
        [heuristics.EntropyBound(gamma) for gamma in GAMMAS],
        [heuristics.ConfidenceThreshold(threshold) for threshold in THRESHOLDS],
        [heuristics.Factor(factor) for factor in FACTORS],
    ]


def all_families(evaluator: Evaluator) -> list[list[Policy]]:
    """The heuristics of `baseline_families` and the other rules that see what a denoiser says and only
    reveal, each at up to 25 settings.
    """
    task = evaluator.task
    columns = logit_columns(evaluator.denoise, task.length)
    return families_for(task.gen_length or task.length, columns)


def families_for(window: int, vocab: int) -> list[list[Policy]]:
    """`all_families` for responses of `window` positions and logits of `vocab` columns."""
    steps = range(1, min(window, KNOBS) + 1)
    shares = np.linspace(0.02, 0.98, KNOBS).round(2).tolist()
    return [
        *([kind(count) for count in steps] for kind in SCHEDULED),
        [heuristics.Random(count) for count in steps],
        [heuristics.Random(count, AlphaCounts()) for count in steps],
        [heuristics.LeftToRight(count) for count in steps],
        [heuristics.EntropyBound(x) for x in np.geomspace(0.01, 30, KNOBS).tolist()],
        [heuristics.ConfidenceThreshold(x) for x in shares],
        [heuristics.Factor(x) for x in np.geomspace(0.05, 8, KNOBS).tolist()],
        [Klass(vocab, x) for x in shares],
        [CreditDecoding(vocab, heuristics.ConfidenceThreshold(x)) for x in shares],
        [Hierarchical(max(x, 0.9), x) for x in shares],
    ]


def against_best(found: Frontiers) -> list[tuple[Row, PairedRow | None]]:
    """Each setting of the learned policy with the best baseline that takes no more calls, if any."""

    def best(ours: Outcome) -> PairedRow | None:
        cheap = [one for one in found.baselines if one.row.nfe <= ours.row.nfe]
        if not cheap:
            return None
        return paired_row(ours, max(cheap, key=lambda one: one.row.accuracy))

    return [(ours.row, best(ours)) for ours in found.learned]
