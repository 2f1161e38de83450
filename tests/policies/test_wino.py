"""WINO's decisions against a plain twin, and what it needs of a denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_world import LENGTH, ROWS, keys, observe

from mdm_jax.policies.base import Policy
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.policies.remasking.wino import Wino
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample


@jax.jit
def decide(policy, keys, observations, states):
    return jax.vmap(lambda *row: policy(*row))(keys, observations, states)


def midway(seed, before):
    """A block of 16 positions, some of them revealed, at its second call."""
    observations = observe(seed, block_step=1)
    eligible = observations.eligible
    rng = np.random.default_rng(seed)
    look = np.where(eligible, 1.0, rng.random((ROWS, LENGTH)))
    observations = observations._replace(
        is_masked=eligible, verifier_prob=jnp.asarray(look, jnp.float32)
    )
    states = jnp.ones((ROWS, LENGTH), bool), jnp.full(ROWS, before)
    return observations, states


def confidences(observations):
    odds = np.exp(np.asarray(observations.logits, float))
    return (odds / odds.sum(axis=-1, keepdims=True)).max(axis=-1)


@pytest.mark.parametrize("before", [2, 30])
@pytest.mark.parametrize("threshold, back", [(0.6, 0.9), (0.1, 0.3), (0.9, 0.9)])
def test_equals_its_twin(before, threshold, back):
    observations, states = midway(1, before)
    decision, (_, accepted) = decide(Wino(threshold, back), keys(2), observations, states)
    c, look = confidences(observations), np.asarray(observations.verifier_prob)
    taken_back = 0
    for row in range(0, ROWS, 4):
        eligible = np.asarray(observations.eligible[row])
        most = min(max(int(0.7 * eligible.sum()), 5), 20)
        falling = sorted(np.flatnonzero(eligible), key=lambda k, row=row: -c[row, k])
        sure = [k for k in falling if c[row, k] > threshold][:most] or falling[:1]
        assert sorted(sure) == np.flatnonzero(decision.unmask[row]).tolist()
        there = np.flatnonzero(~eligible)
        doubted = [k for k in there if look[row, k] < back]
        if len(doubted) >= before:
            doubted = sorted(there, key=lambda k, row=row: look[row, k])[: before - 1]
        doubted = doubted if len(sure) > 1 else []
        assert sorted(doubted) == np.flatnonzero(decision.remask[row]).tolist()
        assert accepted[row] == len(sure)
        taken_back += len(doubted)
    assert taken_back > 30


def test_limits():
    observations, states = midway(3, 30)
    eligible = np.asarray(observations.eligible)

    def decision(*knobs):
        return decide(Wino(*knobs), keys(4), observations, states)[0]

    one_at_a_time, trusting = decision(2.0, 0.9), decision(0.1, 0.0)
    np.testing.assert_array_equal(one_at_a_time.unmask.sum(axis=1), eligible.any(axis=1))
    assert not one_at_a_time.remask.any() and not trusting.remask.any()
    strict = decision(0.1, 1.5)  # whatever was revealed is taken back, where several are revealed
    several = strict.unmask.sum(axis=1) > 1
    np.testing.assert_array_equal(strict.remask, ~eligible & np.asarray(several)[:, None])


def test_needs_a_denoiser_with_verifier_logits():
    config = SamplerConfig(mask_id=5, pad_id=6, budget=4)
    denoise = jax.tree_util.Partial(
        lambda canvas, valid, positions=None: jnp.zeros((len(canvas), 7))
    )
    assert isinstance(Wino(), Policy) and as_switch((Wino(), TopConfidence()))[1].wants_verifier
    with pytest.raises(ValueError, match="Wino wants verifier logits, but the denoiser Part"):
        sample(keys(0)[:1], jnp.full((1, 4), 5), denoise=denoise, policy=Wino(), config=config)
    with pytest.raises(ValueError, match="threshold_back"):
        Wino(0.6, -0.1)
