"""Rollouts as the policy update reads them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.rl.advantages import group_advantages
from mdm_jax.rl.hidden import Call
from mdm_jax.rl.recording import Action
from mdm_jax.types import Rollout


class Steps(NamedTuple):
    """Every step of every rollout; the shapes are those of `Episodes`."""

    action: Action
    call: Call | None  # where hidden states are wanted
    confidence: Float[Array, "*steps length"]
    # log-probabilities of the actions before the first update; not used in the first update itself
    old_log_probs: Float[Array, "*steps length"]


class Episodes(NamedTuple):
    """A batch of rollouts; leading axis [rollouts]."""

    steps: Steps  # [rollouts, steps, ...]
    advantage: Float[Array, " rollouts"]
    by_expert: Bool[Array, " rollouts"]
    first_update: Bool[Array, " rollouts"]  # whether no update has been made on them

    @property
    def active(self) -> Bool[Array, "rollouts steps"]:
        """Steps in which something could be decided."""
        return jnp.any(self.steps.action.allowed, axis=-1)


def as_episodes(
    rollout: Rollout,
    rewards: Float[Array, "prompts group"],
    experts: int,
    by_deviation: bool,
    calls: Call | None = None,
) -> Episodes:
    """Groups of rollouts as one batch, each with its advantage over its group (experts included).

    Args:
      rollout: of `generate_groups`, [prompts, group, ...], the experts' rollouts last in each group.
      experts: how many experts there are.
      by_deviation: see `group_advantages`.
      calls: of `calls_of`, [prompts, group, ...].
    """
    advantage = jax.vmap(partial(group_advantages, by_deviation=by_deviation))(rewards)
    prompts, group = rewards.shape
    by_expert = jnp.broadcast_to(jnp.arange(group) >= group - experts, (prompts, group))
    trace = rollout.trace
    steps = Steps(trace.record, calls, trace.confidence, jnp.zeros_like(trace.confidence))
    episodes = Episodes(steps, advantage, by_expert, jnp.ones((prompts, group), bool))
    return jax.tree.map(lambda x: x.reshape(prompts * group, *x.shape[2:]), episodes)
