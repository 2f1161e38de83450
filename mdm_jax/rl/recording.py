"""Policies whose trace keeps what a learning policy would need to know of every step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.policies.action_distributions import SelectionOrder
from mdm_jax.policies.base import Policy, PolicyState, confidence, rank, wants_hidden
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.types import Decision, Mask, Observation, RowKey


class Action(NamedTuple):
    """The decision of one step, with all that its log-probability depends on."""

    features: Any  # the network's input, without hidden states: see `mdm_jax.rl.hidden`
    order: SelectionOrder  # the revealed positions, in the order in which they were drawn
    allowed: Mask  # positions that could be drawn; none if the step was not the policy's decision


@pytree_dataclass
class RecordingPolicy:
    """Draws from the policy's distribution without any knob, and records the `Action`.

    An empty draw spends the step. The last permitted step reveals all that is masked; it is not a
    decision of the policy.
    """

    policy: LearnedPolicy

    @property
    def wants_hidden(self) -> bool:
        """Whether the network uses the denoiser's hidden states."""
        return self.policy.wants_hidden

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        policy, features = self.policy, self.policy.featurize(observation)
        forced = policy.left(observation) <= 1
        allowed = policy.candidates(key, observation) & ~forced
        order = policy.family.draw(key, policy.utilities(features), allowed)
        order = jnp.where(allowed, order, 0)
        unmask = jnp.where(forced, observation.eligible, order > 0)
        action = Action(_small(features, policy), order, allowed)
        return Decision(unmask, jnp.zeros_like(unmask), action), state


@pytree_dataclass
class ExpertRecorder:
    """Another policy decides; its decisions are recorded as `Action`s of the learning policy.

    All masked positions count as allowed, so that a step also teaches which positions to leave masked
    (with blocks, those of later blocks too). Reference: expert steering, arXiv:2512.09106.
    """

    expert: Policy
    learner: LearnedPolicy

    @property
    def wants_hidden(self) -> bool:
        """Whether one of the two uses the denoiser's hidden states."""
        return self.learner.wants_hidden or wants_hidden(self.expert)

    def init(self, length: int) -> PolicyState:
        return self.expert.init(length)

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        k_expert, k_ties = jax.random.split(key)
        decision, state = self.expert(k_expert, observation, state)
        chosen = decision.unmask & observation.eligible
        order = rank(k_ties, confidence(observation.logits), chosen) + 1  # the most confident first
        features = _small(self.learner.featurize(observation), self.learner)
        action = Action(features, jnp.where(chosen, order, 0), observation.is_masked)
        return decision._replace(record=action), state


def _small(features: Any, policy: LearnedPolicy) -> Any:
    """Features as they are recorded."""
    return features._replace(hidden=None) if policy.wants_hidden else features
