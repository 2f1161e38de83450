"""Bernoullis whose largest probability is one: the posterior of Fox et al., as reconstructed."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from mdm_jax.orders.variational.forms.base import Priorities, StepTerms
from mdm_jax.orders.variational.forms.bernoulli import bernoulli_draw, bernoulli_terms
from mdm_jax.policies.action_distributions import (
    ActionDistribution,
    BernoulliLogProbs,
    Independent,
    Utilities,
    from_log_probs,
)
from mdm_jax.types import Count, Mask, RowKey, Scalar


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
        return bernoulli_draw(key, self.bernoulli(priorities, is_masked), is_masked)

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms:
        return bernoulli_terms(self.bernoulli(priorities, is_masked), utilities, is_masked)
