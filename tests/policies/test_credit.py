"""CreditDecoding call by call against a plain twin; without credit it is its base."""

import jax
import jax.numpy as jnp
import numpy as np
from policy_world import LENGTH, VOCAB, observe

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.policies.credit import CreditDecoding
from mdm_jax.policies.heuristics import ConfidenceThreshold
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.checks import START
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

TABLE = np.random.default_rng(0).integers(3, size=(40, 8))
ORACLE = oracle_of(TABLE, 3, 3)
BASE = ConfidenceThreshold(0.6)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def test_equals_its_twin():
    policy = CreditDecoding(VOCAB, BASE, alpha=0.7, power=0.2, decay=0.8)
    rng = np.random.default_rng(1)
    masked, state = np.ones(LENGTH, bool), policy.init(LENGTH)
    credit = np.zeros((LENGTH, VOCAB))
    for call in range(4):
        logits = rng.normal(size=(LENGTH, VOCAB)) * 3
        adjusted, state = policy.adjust_logits(
            jnp.float32(logits), jnp.asarray(masked), START, state
        )
        probs = softmax(logits)
        for i in range(LENGTH):
            credit[i] = 0.8 * credit[i] if masked[i] else 0.0
            if masked[i]:
                credit[i, probs[i].argmax()] += probs[i].max() ** 0.2
        np.testing.assert_allclose(state, credit, rtol=1e-5, atol=1e-6)
        expected = logits + 0.7 * np.log(1 + credit)
        np.testing.assert_allclose(adjusted, expected, rtol=1e-5, atol=1e-5)
        one = jax.tree.map(
            lambda leaf: leaf[0], observe(call, np.asarray(adjusted)[None].repeat(512, 0))
        )
        one = one._replace(eligible=jnp.asarray(masked), logits=adjusted)
        unmask = np.asarray(policy(jax.random.key(call), one, state)[0].unmask)
        sure = masked & (softmax(expected).max(axis=-1) >= 0.6)
        best = masked & (softmax(expected).max(axis=-1) == softmax(expected)[masked].max())
        np.testing.assert_array_equal(unmask, sure if sure.any() else best)
        masked &= ~unmask


def test_no_credit_is_the_base_token_for_token_and_some_credit_is_not():
    config = SamplerConfig(3, 4, budget=8, temperature=1.0, record=True)
    policies = as_switch((BASE, CreditDecoding(3, BASE, alpha=0.0), CreditDecoding(3, BASE)))

    def run(policy):
        keys, blank = jax.random.split(jax.random.key(0), 64), jnp.full((64, 8), 3)
        return sample(keys, blank, denoise=ORACLE, policy=policy, config=config)

    base, without, with_credit = map(run, policies)
    np.testing.assert_array_equal(base.canvas, without.canvas)
    np.testing.assert_array_equal(base.revealed_at, without.revealed_at)
    assert (base.canvas != with_credit.canvas).any() and with_credit.nfe.mean() < base.nfe.mean()
