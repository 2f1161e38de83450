"""One position per step: the classical posterior over orders."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from mdm_jax.orders.variational.forms.base import Priorities, StepTerms
from mdm_jax.policies.action_distributions import (
    ActionDistribution,
    Categorical,
    Utilities,
    masked_log_softmax,
)
from mdm_jax.types import Count, Mask, RowKey, Scalar


@dataclass(frozen=True)
class PlackettLuce:
    """Probability softmax(s / temperature) over what is masked, one reveal per step.

    With a budget of as many steps as positions it is LO-ARM with scores computed once; with fewer,
    the last step reveals all that is left. Reference: arXiv:2503.05979.
    """

    family: ClassVar[ActionDistribution] = Categorical()
    induces_order: ClassVar[bool] = True

    def draw(
        self, key: RowKey, priorities: Priorities, is_masked: Mask, left: Count
    ) -> tuple[Mask, Scalar]:
        places = self.family.draw(key, priorities, is_masked)
        return places > 0, self.family.log_prob(priorities, places, is_masked)

    def terms(
        self,
        priorities: Priorities,
        utilities: Utilities,
        is_masked: Mask,
        left: Count,
    ) -> StepTerms:
        log_q, log_p = (masked_log_softmax(x, is_masked) for x in (priorities, utilities))
        q = jnp.where(is_masked, jnp.exp(log_q), 0.0)
        return StepTerms(
            reveal=q,
            kl=q * (log_q - log_p),
            entropy=-q * log_q,
        )
