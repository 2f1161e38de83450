"""Rollouts of a policy that is being trained, and what they are worth."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.advantages import group_advantages
from mdm_jax.rl.recording import Action, ExpertRecorder, RecordingPolicy
from mdm_jax.rl.rewards import Reward
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.state import Metrics
from mdm_jax.types import Rollout, RowKey


class Prompts(NamedTuple):
    """What one iteration completes; leading axis [prompts]."""

    canvases: Int[Array, "prompts length"]
    references: Any


class Episodes(NamedTuple):
    """Rollouts as the update sees them; leading axis [rollouts]."""

    acts: Action  # [rollouts, steps, ...]
    confidence: Float[Array, "rollouts steps length"]
    advantage: Float[Array, " rollouts"]
    by_expert: Bool[Array, " rollouts"]
    before: Float[Array, "rollouts steps length"]  # log-probabilities before the first update

    @property
    def active(self) -> Bool[Array, "rollouts steps"]:
        """Where something was decided."""
        return jnp.any(self.acts.allowed, axis=-1)


def play(
    key: RowKey,
    prompts: Prompts,
    policy: LearnedPolicy,
    experts: tuple[Policy, ...],
    group: int,
    *,
    denoise: Denoise,
    config: SamplerConfig,
    expert_block: int | None = None,
) -> Rollout:
    """`group` rollouts of the policy and one of each expert, for every prompt.

    Rollout g of prompt i has the key fold_in(fold_in(key, i), g).

    Args:
      config: the sampler of the policy's rollouts; everything is recorded.
      expert_block: block length of the experts' rollouts; None: as the policy's.

    Returns:
      Rollout with leading axes [prompts, group + experts]; its trace's record is an `Act`.
    """
    config = replace(config, record=True)
    count = len(prompts.canvases)
    keys = jax.vmap(lambda k: row_keys(k, jnp.arange(group + len(experts))))(
        row_keys(key, jnp.arange(count))
    )

    blocks = config.block_length if expert_block is None else expert_block
    expert_config = replace(config, block_length=blocks)

    def run(actor: Policy, keys: Key[Array, "prompts repeats"], config: SamplerConfig) -> Rollout:
        repeats = keys.shape[1]
        canvases = jnp.repeat(prompts.canvases, repeats, axis=0)
        found = sample(keys.reshape(-1), canvases, denoise=denoise, policy=actor, config=config)
        return jax.tree.map(lambda x: x.reshape(count, repeats, *x.shape[1:]), found)

    parts = [run(RecordingPolicy(policy), keys[:, :group], config)]
    for place, expert in enumerate(experts):
        one = slice(group + place, group + place + 1)
        parts.append(run(ExpertRecorder(expert, policy), keys[:, one], expert_config))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs, axis=1), *parts)


def judge(
    rollout: Rollout, correct: Bool[Array, "prompts group"], reward: Reward, most: int
) -> Float[Array, "prompts group"]:
    """The reward of each rollout; `most` is the number of denoiser calls that are worth least."""
    return jax.vmap(jax.vmap(lambda c, n: reward(c, n, most)))(correct, rollout.nfe)


def as_episodes(
    rollout: Rollout, rewards: Float[Array, "prompts group"], experts: int, by_deviation: bool
) -> Episodes:
    """Rollouts with their advantages over their group, experts included, in one row after another."""
    advantage = jax.vmap(partial(group_advantages, by_deviation=by_deviation))(rewards)
    prompts, group = rewards.shape
    by_expert = jnp.broadcast_to(jnp.arange(group) >= group - experts, (prompts, group))
    found = Episodes(
        rollout.trace.record,
        rollout.trace.confidence,
        advantage,
        by_expert,
        jnp.zeros_like(rollout.trace.confidence),
    )
    return jax.tree.map(lambda x: x.reshape(prompts * group, *x.shape[2:]), found)


def rollout_metrics(
    rollout: Rollout,
    correct: Bool[Array, "prompts group"],
    rewards: Float[Array, "prompts group"],
    group: int,
) -> Metrics:
    """What the policy's own rollouts came to, and those of the experts where there are some."""
    mine, theirs = slice(None, group), slice(group, None)
    empty = rollout.trace.record.allowed.any(-1) & ~(rollout.trace.record.places > 0).any(-1)
    metrics = {
        "reward": jnp.mean(rewards[:, mine]),
        "accuracy": jnp.mean(correct[:, mine]),
        "nfe": jnp.mean(rollout.nfe[:, mine]),
        "empty_steps": jnp.mean(jnp.sum(empty[:, mine], axis=-1)),
        "groups_that_differ": jnp.mean(jnp.ptp(rewards, axis=1) > 0),
    }
    if rewards.shape[1] > group:
        metrics["expert_reward"] = jnp.mean(rewards[:, theirs])
    return metrics
