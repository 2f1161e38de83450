"""A learned policy while it is being trained: it acts by chance, and its acts are kept in the trace."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.policies.action_distributions import SelectionOrder
from mdm_jax.policies.base import Policy, PolicyState, confidence, rank
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Mask, Observation, RowKey


class Action(NamedTuple):
    """One decision, with all that its probability depends on."""

    features: Any  # what the network saw
    places: SelectionOrder  # what was drawn, in which order
    allowed: Mask  # what could have been drawn; nothing where the step decided nothing


@pytree_dataclass
class RecordingPolicy:
    """Draws from the policy's own distribution, no knob applied. An empty draw spends the step.

    The last permitted step reveals all that is left; that is no decision of the policy.
    """

    policy: LearnedPolicy

    @property
    def wants_hidden(self) -> bool:
        """Whether the network looks at the denoiser's hidden states."""
        return self.policy.wants_hidden

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        policy, features = self.policy, self.policy.featurize(observation)
        forced = policy.left(observation) <= 1
        allowed = policy.candidates(observation) & ~forced
        places = policy.family.draw(key, policy.utilities(features), allowed)
        places = jnp.where(allowed, places, 0)
        unmask = jnp.where(forced, observation.eligible, places > 0)
        return Decision(unmask, jnp.zeros_like(unmask), Action(features, places, allowed)), state


@pytree_dataclass
class ExpertRecorder:
    """Another policy acts; it is kept what the learner would have seen, and could have done.

    The learner could have revealed anything that was masked, so a step also tells it what to leave
    alone (in blocks: everything that comes later). Reference: expert steering, arXiv:2512.09106.
    """

    expert: Policy
    learner: LearnedPolicy

    @property
    def wants_hidden(self) -> bool:
        """Whether either looks at the denoiser's hidden states."""
        return self.learner.wants_hidden or getattr(self.expert, "wants_hidden", False)

    def init(self, length: int) -> PolicyState:
        return self.expert.init(length)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        k_expert, k_ties = jax.random.split(key)
        decision, state = self.expert(k_expert, observation, state)
        chosen = decision.unmask & observation.eligible
        order = rank(k_ties, confidence(observation.logits), chosen) + 1  # the most confident first
        act = Action(
            self.learner.featurize(observation), jnp.where(chosen, order, 0), observation.is_masked
        )
        return decision._replace(record=act), state
