"""A threshold among the candidates of a schedule, by hand and at its limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import (
    LENGTH,
    ROWS,
    assert_reveals_and_goes_on,
    observe,
    reveal,
    share_decided_otherwise,
)

from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.policies.threshold_quota import ThresholdQuota

ONE = 10**6  # so many steps that each reveals one


@pytest.mark.parametrize("policy", [ThresholdQuota()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("block_step", [0, 7])
def test_reveals_what_is_eligible_and_at_least_one_per_unfinished_row(policy, block_step):
    assert_reveals_and_goes_on(policy, block_step)


@pytest.mark.parametrize(
    "policy, other",
    [
        (ThresholdQuota(threshold=0.5), ThresholdQuota(threshold=0.99)),
        (ThresholdQuota(2, 0.3), ThresholdQuota(8, 0.3)),
        (ThresholdQuota(4, 0.3), ThresholdQuota(4, 0.3, AlphaCounts())),
    ],
    ids=str,
)
def test_every_knob_changes_something(policy, other):
    assert share_decided_otherwise(policy, other) > 0.05


def test_schedule_limits_the_candidates_and_threshold_chooses():
    """16 positions in 8 steps: two candidates at first; at step 3, with 12 left, four."""
    everything = np.ones((ROWS, LENGTH), bool)
    for step, left, candidates in [(0, 16, 2), (3, 12, 4), (7, 5, 5), (9, 3, 3)]:
        eligible = everything & (np.arange(LENGTH) < left)
        observations = observe(10, eligible=eligible, block_step=step)
        observations = observations._replace(block_masks=jnp.full(ROWS, 16))
        got = reveal(ThresholdQuota(8, 0.7), observations)
        top = reveal(ThresholdQuota(8, 0.0), observations)
        free = reveal(ConfidenceThreshold(0.7), observations)
        assert (top.sum(axis=1) == candidates).all()
        np.testing.assert_array_equal(got, top & free)


def test_the_quota_at_its_limits():
    one = reveal(ThresholdQuota(2, 1.5), observe(11))
    np.testing.assert_array_equal(one, reveal(TopConfidence(ONE), observe(11)))
    all_ = reveal(ThresholdQuota(1, 0.9), observe(11))
    np.testing.assert_array_equal(all_, reveal(ConfidenceThreshold(0.9), observe(11)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ThresholdQuota(0), "steps"),
    ],
)
def test_knobs_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
