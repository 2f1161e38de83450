"""Masking rates that depend on the sequence: bound and gradient by enumeration, and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rated_world import (
    ALL,
    MASK,
    PAD,
    PROBS,
    SHARE,
    TABLE,
    bounds_of,
    check_gradient,
    p_value,
    wrong_logits,
)

from mdm_jax.diffusion.context_rates import OF_SEQUENCE, ContextRates, rated_process
from mdm_jax.diffusion.genmd4 import Genmd4
from mdm_jax.diffusion.rates import log_time_of_share
from mdm_jax.policies.context_ancestral import ContextAncestral
from mdm_jax.pytrees import pytree_dataclass

FREE = np.random.default_rng(2).uniform(0.7, 5.0, (27, 3)).astype(np.float32)  # w_i(x)
FACTORS = np.float32([0.7, 1.0, 3.0])[TABLE] * np.float32([2.0, 1.0, 1.5])  # of token and position
IDS = {"mask_id": MASK, "pad_id": PAD}
READ = ContextRates(jnp.array([[1.0, 0.0], [1.0, 0.0]]), 0.0)
ONE = ContextRates(jnp.zeros((2, 2)), float(np.log(np.expm1(1.0))))  # all exponents are 1


@pytree_dataclass
class Exact:
    """The best mu and v at time t; the latter is what `READ` reads off hidden states, and of a clean
    sequence it is w.
    """

    exponents: jax.Array
    t: jax.Array | float = 1.0

    def at(self, t):
        return Exact(self.exponents, t)

    def with_hidden(self, canvas, valid, positions=None):
        masked = self.exponents * jnp.log(self.t)  # log-probability that a position is masked
        process = jnp.where(canvas == MASK, masked, jnp.log(-jnp.expm1(masked))).sum(1)
        agrees = ((canvas == MASK) | (canvas == TABLE)).all(1)
        weights = jnp.where(agrees, jnp.log(PROBS) + process, -jnp.inf)
        rated = weights[:, None] + jnp.log(self.exponents)
        has_token = TABLE[:, :, None] == jnp.arange(3)
        logits = jax.nn.logsumexp(jnp.where(has_token, rated[:, :, None], -jnp.inf), axis=0)
        v = jnp.exp(jax.nn.logsumexp(rated, axis=0) - jax.nn.logsumexp(weights))
        return logits.astype(jnp.float32), jnp.log(jnp.expm1(v))[:, None].astype(jnp.float32)

    def __call__(self, canvas, valid, positions=None):
        return self.with_hidden(canvas, valid, positions)[0]


class Wrong:
    """A bad denoiser, whose hidden states depend on what it sees."""

    def __call__(self, canvas, valid, positions=None):
        return wrong_logits(canvas)

    def with_hidden(self, canvas, valid, positions=None):
        return self(canvas, valid), jnp.sin(wrong_logits(canvas)[:, :1] + canvas[:, None])


@pytest.fixture(scope="module")
def bounds():
    def of(exponents, rates):
        denoise = Exact(exponents)
        return bounds_of(lambda tokens, t: rated_process(denoise.at(t), rates, tokens, ALL, **IDS))

    return jax.jit(of)


def test_the_bound_is_minus_log_p_where_only_the_own_token_and_position_count(bounds):
    assert_allclose(bounds(FACTORS, READ), -np.log(PROBS), rtol=2e-3)


def test_the_bound_is_above_where_the_sequence_counts(bounds):
    """When others were revealed says something of w then, and no canvas shows it."""
    gaps = bounds(FREE, READ) + np.log(PROBS)
    assert (gaps > -2e-3).all() and 0.005 < gaps @ PROBS < 0.1
    same = ContextRates(READ.heads.at[1].set(jnp.array([0.0, 2.0])), READ.before)
    assert (bounds(FREE, same) + np.log(PROBS)) @ PROBS > 0.1  # v is not the best


@pytest.mark.reuses_keys  # the same masks with and without the score term
def test_two_masks_estimate_the_exact_gradient_of_both_heads():
    heads = jnp.array([[0.7, 0.3], [-0.4, 0.6]])

    def process(heads, tokens):
        return rated_process(Wrong(), ContextRates(heads, 0.0), tokens, ALL, **IDS)

    rates, _ = process(heads, jnp.array([0, 2, 1], jnp.int32))
    check_gradient(heads, process, *log_time_of_share(rates.exponents[:, 0], ALL, SHARE))


def test_many_steps_sample_the_joint():
    """Whatever w is; not in two steps, and not at rates that know nothing of the context."""
    denoise = Exact(jnp.asarray(FREE))
    assert p_value(denoise, ContextAncestral(READ, 64), 64) > 1e-3
    assert p_value(denoise, ContextAncestral(READ, 2), 2) < 1e-6
    assert p_value(denoise, ContextAncestral(ONE, 64), 64) < 1e-6


def test_rates_start_where_they_are_told_to():
    start = Genmd4("context", start=2.5)
    hidden = jnp.ones((4, 6))
    rates = start.rates(start.init(4, 5, 6))
    assert_allclose(rates.read(OF_SEQUENCE, hidden).exponents, np.full((4, 1), 2.5), rtol=1e-6)
