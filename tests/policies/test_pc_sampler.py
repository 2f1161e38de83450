"""PC-Sampler by its formula, and its limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import (
    LENGTH,
    ROWS,
    VOCAB,
    assert_reveals_and_goes_on,
    observe,
    reveal,
    share_decided_otherwise,
)

from mdm_jax.policies.count_schedules import AlphaCounts, LinearCounts
from mdm_jax.policies.heuristics import LeftToRight
from mdm_jax.policies.pc_sampler import PcSampler

ONE = 10**6  # so many steps that each reveals one
COMMON = jnp.asarray(np.random.default_rng(0).dirichlet(np.full(VOCAB, 0.3)), jnp.float32)


@pytest.mark.parametrize("policy", [PcSampler(COMMON)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("block_step", [0, 7])
def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row(policy, block_step):
    assert_reveals_and_goes_on(policy, block_step)


@pytest.mark.parametrize(
    "policy, other",
    [
        (PcSampler(COMMON), PcSampler(COMMON[::-1])),
        (PcSampler(COMMON, 4), PcSampler(COMMON, 8)),
        (PcSampler(COMMON), PcSampler(COMMON, schedule=AlphaCounts())),
        (PcSampler(COMMON), PcSampler(COMMON, decay=0.0)),
        (PcSampler(COMMON, decay=0.0), PcSampler(COMMON, decay=0.0, ceiling=0.5)),
    ],
    ids=str,
)
def test_every_knob_changes_something(policy, other):
    assert share_decided_otherwise(policy, other) > 0.05


@pytest.mark.parametrize("decay, ceiling", [(0.25, 10.0), (0.0, 1.0), (0.05, 2.0)])
def test_pc_sampler_is_its_formula(decay, ceiling):
    observations = observe(8)
    got = reveal(PcSampler(COMMON, ONE, LinearCounts(), decay, ceiling), observations)
    for row in range(0, ROWS, 8):
        logits, eligible = np.asarray(observations.logits[row], float), observations.eligible[row]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        rarity = -np.log(np.asarray(COMMON, float)[probs.argmax(axis=1)] + 1e-9)
        score = np.exp(-decay * np.arange(LENGTH)) * np.minimum(probs.max(axis=1) * rarity, ceiling)
        best = score[eligible].max() if eligible.any() else 0
        assert got[row].sum() == eligible.any() and np.allclose(score[got[row]], best, rtol=1e-4)


def test_pc_sampler_with_a_steep_decay_reads_from_the_left():
    steep, left = PcSampler(COMMON, ONE, decay=50.0), LeftToRight(ONE)
    np.testing.assert_array_equal(reveal(steep, observe(9)), reveal(left, observe(9)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PcSampler(COMMON, 0), "steps"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
