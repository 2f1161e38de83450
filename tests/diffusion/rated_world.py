"""A listed distribution of three tokens, and the bound under masking rates by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from mdm_jax.diffusion.elbo import subset_masks
from mdm_jax.diffusion.genmd4 import poisson_terms, two_masks
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample

MASK, PAD = 3, 4
TABLE = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
PROBS = np.random.default_rng(0).dirichlet(np.full(27, 0.7))
ALL = jnp.ones(3, bool)
MASKS = jnp.asarray(subset_masks(np.ones(3, bool)))
WRONG = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)), jnp.float32)  # logits
SHARE = jnp.float32(0.4)  # of masked tokens


def wrong_logits(canvas):
    """Logits of a bad denoiser, which depend on what it sees."""
    return WRONG * (1.0 + 0.3 * jnp.sum(jnp.where(canvas == MASK, 0, canvas + 1)))


def at_time(tokens, t, process):
    """E over masks at time t of t times the bound's integrand, by enumeration.

    `process` is what `rated_process` returns.
    """
    rates, shown_of = process
    true = rates.of(tokens)

    def one(is_masked):
        chance = jnp.where(is_masked, t**true, 1 - t**true).prod()
        terms, _ = poisson_terms(true, shown_of(is_masked), tokens, jnp.log(t))
        return chance * jnp.sum(jnp.where(is_masked, terms, 0.0))

    return jnp.sum(jax.vmap(one)(MASKS))


def bounds_of(process_at):
    """The bound of every sequence, the integral over time included.

    Args:
      process_at: (tokens, t) -> what `rated_process` returns.
    """
    u = (np.arange(200, dtype=np.float32) + 0.5) / 200
    times, measure = jnp.asarray(u**4), jnp.asarray(4 / u)

    def one(tokens):
        return jnp.mean(
            measure * jax.vmap(lambda t: at_time(tokens, t, process_at(tokens, t)))(times)
        )

    return jax.lax.map(one, jnp.asarray(TABLE))


def check_gradient(start, process_of, log_t, width):
    """That two masks estimate the exact gradient of parameters, and without their score term do not.

    Args:
      process_of: (parameters, tokens) -> what `rated_process` returns.
      log_t, width: `log_time_of_share` at `SHARE`.
    """
    tokens = jnp.array([0, 2, 1], jnp.int32)

    def estimate(parameters, key, scored):
        bound, terms = two_masks(key, tokens, ALL, SHARE, *process_of(parameters, tokens))
        return bound if scored else jnp.mean(jnp.sum(terms.bound, axis=-1))

    def exact(parameters):
        return width * at_time(tokens, jnp.exp(log_t), process_of(parameters, tokens))

    @jax.jit
    def both(keys):
        one = jax.value_and_grad(estimate)
        return tuple(jax.vmap(lambda key, s=s: one(start, key, s))(keys) for s in (True, False))

    value, gradient = jax.jit(jax.value_and_grad(exact))(start)
    (values, scored), (plain, without) = both(jax.random.split(jax.random.key(0), 40_000))
    assert_allclose(values, plain, rtol=1e-5, atol=1e-5)  # the score term has no value
    spread = np.asarray(scored).std(axis=0) / 200
    assert abs(values.mean() - value) < 4 * values.std() / 200
    assert (abs(scored.mean(axis=0) - gradient) < 4 * spread).all() and spread.max() < 0.03
    assert (abs(without.mean(axis=0) - gradient) > 8 * spread).any()


def p_value(denoise, policy, steps):
    """That samples follow the joint, by chi-square."""
    found = sample(
        jax.random.split(jax.random.key(1), 2048),
        jnp.full((2048, 3), MASK),
        denoise=denoise,
        policy=policy,
        config=SamplerConfig(MASK, PAD, budget=64, temperature=1.0),
    )
    assert int(found.nfe.max()) <= steps
    counts = np.bincount(np.asarray(found.canvas) @ np.array([9, 3, 1]), minlength=27)
    return stats.chisquare(counts, 2048 * PROBS / PROBS.sum()).pvalue
