"""The policies of the table of exact results, each at a few settings of its knob."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.errors import MdmError
from mdm_jax.evals.exact.worlds import World
from mdm_jax.orders.counts import optimal_counts
from mdm_jax.policies import bisection, heuristics, klass, threshold_quota
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy, RevealAll, wants_hidden
from mdm_jax.policies.count_schedules import AlphaCounts, CountRule, GivenCounts
from mdm_jax.policies.remasking import p2, rcr, remdm
from mdm_jax.runs.config import read_task
from mdm_jax.runs.policies import load_policy

SCHEDULED = (
    heuristics.Random,
    heuristics.Ancestral,
    heuristics.LeftToRight,
    heuristics.TopConfidence,
    heuristics.TopMargin,
    heuristics.LowEntropy,
)
STEPS = (2, 3, 5, 8)
PRICES = (1.0, 0.3, 0.1, 0.03)  # of a learned policy's call
THRESHOLDS, FACTORS, GAMMAS = (0.5, 0.7, 0.9), (0.5, 2.0), (0.1, 0.5, 2.0, 5.0)


class Entry(NamedTuple):
    """A policy of the table."""

    policy: Policy
    # it only reveals, and looks at no proposed token and at no call of its own: `walk_sequences`
    followed: bool = True


def table_policies(profile: Float[np.ndarray, " masked"], vocab: int) -> list[Entry]:
    """Every policy of the table.

    Args:
      profile: h(k) of the world, from which the best counts of random positions follow.
      vocab: columns of the denoiser's logits.
    """
    steps = [n for n in STEPS if n < len(profile)]
    best: list[CountRule] = [GivenCounts(optimal_counts(profile, n)) for n in steps]
    return [
        Entry(RevealAll()),
        *(Entry(kind(n)) for kind in SCHEDULED for n in steps),
        *(Entry(heuristics.Random(n, AlphaCounts())) for n in steps),
        *(Entry(heuristics.Random(n, rule)) for n, rule in zip(steps, best, strict=True)),
        *_adaptive(),
        Entry(bisection.Bisection()),
        Entry(klass.Klass(vocab)),
        *_remasking(steps),
    ]


def _adaptive() -> list[Entry]:
    """Policies whose counts follow from what the denoiser says."""
    return [
        *(Entry(heuristics.ConfidenceThreshold(x)) for x in THRESHOLDS),
        *(Entry(heuristics.Factor(x)) for x in FACTORS),
        *(Entry(heuristics.EntropyBound(x)) for x in GAMMAS),
        Entry(threshold_quota.ThresholdQuota(8, 0.7)),
    ]


def _remasking(steps: list[int]) -> list[Entry]:
    """Policies that take back what they revealed."""
    kinds = p2.P2, rcr.Rcr, remdm.RemdmCap
    return [Entry(kind(n), followed=False) for kind in kinds for n in steps[-1:]]


def learned_entries(runs: Sequence[str], world: World) -> list[Entry]:
    """The policies of runs on the world's task, those with a price at several prices.

    Raises:
      MdmError: no such run, or its policy is for other canvases or wants hidden states.
    """
    found = []
    for run in runs:
        task = read_task(run)
        if task.name != world.task:
            continue
        policy = load_policy(run, task)
        if (task.length, task.vocabulary.size) != (world.length, world.oracle.vocab):
            raise MdmError(f"{run} learned on another {task.name} than {world.told}")
        if wants_hidden(policy):
            raise MdmError(f"{run} learned from hidden states, and exact conditionals have none")
        priced = isinstance(policy, AdaptivePolicy)
        found += [replace(policy, price=price) for price in PRICES] if priced else [policy]
    return [Entry(policy) for policy in found]
