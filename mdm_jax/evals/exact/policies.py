"""The policies of the table of exact results, each at a few settings of its knob."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mdm_jax.errors import MdmError
from mdm_jax.evals.exact.worlds import World
from mdm_jax.evals.sweeps import SCHEDULED
from mdm_jax.orders.counts import optimal_counts
from mdm_jax.policies import (
    bisection,
    credit,
    dilated,
    heuristics,
    hierarchical,
    klass,
    random_shift,
    threshold_quota,
)
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import Policy, RevealAll, wants_hidden
from mdm_jax.policies.count_schedules import AlphaCounts, CountRule, GivenCounts
from mdm_jax.policies.lookahead import info_gain, lopa, punt
from mdm_jax.policies.pairwise import adas, dapd, dawn, demask
from mdm_jax.policies.remasking import p2, rcr, remdm, saber
from mdm_jax.runs.config import read_task
from mdm_jax.runs.policies import load_policy

STEPS = (2, 3, 5, 8)
PRICES = (1.0, 0.3, 0.1, 0.03)  # of a learned policy's call
# exact dependence is a total variation, of another size than the attention that the papers use
ALPHA, ALLOWANCES, EDGES = 5.0, (0.02, 0.2, 0.5, 1.0), (0.02, 0.1, 0.2)
EPSILONS = (0.01, 0.1, 0.3)  # nats, of PUNT's tests
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
        Entry(dilated.Dilated()),
        Entry(klass.Klass(vocab)),
        *(Entry(random_shift.RandomShift(n)) for n in steps),
        *_pairwise(steps),
        *_unfollowed(steps, vocab),
    ]


def _adaptive() -> list[Entry]:
    """Policies whose counts follow from what the denoiser says."""
    return [
        *(Entry(heuristics.ConfidenceThreshold(x)) for x in THRESHOLDS),
        *(Entry(heuristics.Factor(x)) for x in FACTORS),
        *(Entry(heuristics.EntropyBound(x)) for x in GAMMAS),
        *(Entry(hierarchical.Hierarchical(0.9, x)) for x in (0.2, 0.4)),
        Entry(threshold_quota.ThresholdQuota(8, 0.7)),
    ]


def _pairwise(steps: list[int]) -> list[Entry]:
    """Policies that know which positions depend on each other: exactly, here."""
    found = [
        *(adas.Adas(heuristics.TopConfidence(n), ALPHA) for n in steps),
        *(demask.Demask(x) for x in ALLOWANCES),
        *(dapd.Dapd(x) for x in EDGES),
        *(dawn.Dawn(induced=x, sink=1.0) for x in (0.2, 0.4)),
    ]
    return [Entry(policy) for policy in found]


def _unfollowed(steps: list[int], vocab: int) -> list[Entry]:
    """Policies that re-mask, look at what they drew, or change what they draw from."""
    most = steps[-1]
    found = [
        *(kind(most) for kind in (p2.P2, rcr.Rcr, remdm.RemdmCap)),
        saber.Saber(),
        *(credit.CreditDecoding(vocab, heuristics.ConfidenceThreshold(x)) for x in THRESHOLDS),
        *(punt.Punt(x) for x in EPSILONS),
        *(lopa.Lopa(x) for x in THRESHOLDS),
        *(info_gain.InfoGain(n) for n in steps[1:]),
    ]
    return [Entry(policy, followed=False) for policy in found]


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
