"""Bernoullis with a sigmoid of the score: the plainest posterior, which may reveal nothing."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.orders.forms.base import Priorities, StepTerms
from mdm_jax.orders.forms.max_normalised import bernoulli_terms
from mdm_jax.policies.likelihood import (
    Chances,
    Family,
    Independent,
    Utilities,
    bernoulli_log_prob,
    from_logits,
)
from mdm_jax.types import Count, Mask, RowKey, Scalar


@dataclass(frozen=True)
class SigmoidScores:
    """q_i = sigmoid(s_i / temperature + logit(1 / left)): equal scores are the diffusion itself.

    An empty draw spends the step.
    """

    family: ClassVar[Family] = Independent()
    ranked: ClassVar[bool] = False

    def chances(self, priorities: Priorities, left: Count) -> Chances:
        """q of each position at this step."""
        return from_logits(priorities - jnp.log(jnp.maximum(left - 1.0, 1e-6)))

    def draw(
        self, key: RowKey, priorities: Priorities, is_masked: Mask, left: Count
    ) -> tuple[Mask, Scalar]:
        chances = self.chances(priorities, left)
        reveal = is_masked & (jnp.log(jax.random.uniform(key, is_masked.shape)) < chances.on)
        return reveal, bernoulli_log_prob(chances, reveal, is_masked)

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms:
        return bernoulli_terms(self.chances(priorities, left), utilities, is_masked)
