"""Bernoullis whose largest probability is one: the posterior of Fox et al., as reconstructed."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.orders.variational.forms.base import Priorities, StepTerms
from mdm_jax.policies.action_distributions import (
    ActionDistribution,
    BernoulliLogProbs,
    Independent,
    Utilities,
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    from_log_probs,
    from_logits,
)
from mdm_jax.types import Count, Mask, RowKey, Scalar


def bernoulli_terms(q: BernoulliLogProbs, utilities: Utilities, is_masked: Mask) -> StepTerms:
    """The terms of a posterior of independent Bernoullis."""
    return StepTerms(
        reveal=jnp.where(is_masked, jnp.exp(q.log_reveal), 0.0),
        kl=jnp.where(is_masked, bernoulli_kl(q, from_logits(utilities)), 0.0),
        entropy=jnp.where(is_masked, bernoulli_entropy(q), 0.0),
    )


@dataclass(frozen=True)
class MaxNormalised:
    """q_i = exp((s_i - max over masked s) / temperature).

    The position of the highest score is always revealed, those within a temperature of it probably.

    Reference: arXiv:2602.23968, Eq. 14 (reconstructed: the only independent Bernoullis that
    guarantee a reveal and whose only update is a renormalisation).
    """

    family: ClassVar[ActionDistribution] = Independent()
    induces_order: ClassVar[bool] = True

    def bernoulli(self, priorities: Priorities, is_masked: Mask) -> BernoulliLogProbs:
        """q of each position, given what is masked."""
        best = jnp.max(priorities, where=is_masked, initial=-jnp.inf)
        return from_log_probs(jnp.where(is_masked, priorities - best, -1.0))

    def draw(
        self, key: RowKey, priorities: Priorities, is_masked: Mask, left: Count
    ) -> tuple[Mask, Scalar]:
        bernoulli = self.bernoulli(priorities, is_masked)
        reveal = is_masked & (
            jnp.log(jax.random.uniform(key, is_masked.shape)) < bernoulli.log_reveal
        )
        return reveal, bernoulli_log_prob(bernoulli, reveal, is_masked)

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms:
        return bernoulli_terms(self.bernoulli(priorities, is_masked), utilities, is_masked)
