"""Bernoullis with a sigmoid of the score: the plainest posterior, which may reveal nothing."""

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
    from_logits,
)
from mdm_jax.types import Count, Mask, RowKey, Scalar


@dataclass(frozen=True)
class SigmoidScores:
    """q_i = sigmoid(s_i / temperature + logit(1 / left)): equal scores are the Ancestral sampler.

    An empty draw spends the step.
    """

    family: ClassVar[ActionDistribution] = Independent()
    induces_order: ClassVar[bool] = False

    def bernoulli(self, priorities: Priorities, left: Count) -> BernoulliLogProbs:
        """q of each position at this step."""
        return from_logits(priorities - jnp.log(jnp.maximum(left - 1.0, 1e-6)))

    def draw(
        self, key: RowKey, priorities: Priorities, is_masked: Mask, left: Count
    ) -> tuple[Mask, Scalar]:
        return bernoulli_draw(key, self.bernoulli(priorities, left), is_masked)

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms:
        return bernoulli_terms(self.bernoulli(priorities, left), utilities, is_masked)
