"""The next reveal under independent Bernoullis: drawn, and integrated out."""

import jax
import jax.numpy as jnp

from mdm_jax.orders.variational.forms.base import StepTerms
from mdm_jax.policies.action_distributions import (
    BernoulliLogProbs,
    Utilities,
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    from_logits,
)
from mdm_jax.types import Mask, RowKey, Scalar


def bernoulli_draw(key: RowKey, q: BernoulliLogProbs, is_masked: Mask) -> tuple[Mask, Scalar]:
    """The masked positions to reveal, and the log-probability of that set, nats."""
    reveal = is_masked & (
        jnp.log(jax.random.uniform(key, is_masked.shape, jnp.float32)) < q.log_reveal
    )
    return reveal, bernoulli_log_prob(q, reveal, is_masked)


def bernoulli_terms(q: BernoulliLogProbs, utilities: Utilities, is_masked: Mask) -> StepTerms:
    """The terms of a posterior of independent Bernoullis."""
    return StepTerms(
        reveal=jnp.where(is_masked, jnp.exp(q.log_reveal), 0.0),
        kl=jnp.where(is_masked, bernoulli_kl(q, from_logits(utilities)), 0.0),
        entropy=jnp.where(is_masked, bernoulli_entropy(q), 0.0),
    )
