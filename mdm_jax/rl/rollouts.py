"""Groups of rollouts of a policy that is being trained, and their rewards."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.chunks import canvases_at_once, map_batches
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.recording import ExpertRecorder, RecordingPolicy
from mdm_jax.rl.rewards import Reward
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Rollout, RowKey, Scalar

PerRollout = Float[Array, "prompts group"]


class Prompts(NamedTuple):
    """The prompts of one iteration; leading axis [prompts]."""

    canvases: Int[Array | np.ndarray, "prompts length"]
    references: Any  # what the verifier compares with, a pytree of arrays


def draw_prompts(pool: Prompts, count: int, seed: int, index: int) -> Prompts:
    """`count` different prompts of a pool on the host; the choice depends on seed and index only."""
    rng = np.random.default_rng((seed, index))
    rows = rng.choice(len(pool.canvases), count, replace=False)
    return jax.tree.map(lambda leaf: leaf[rows], pool)


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """How the group of rollouts of each prompt is generated.

    Attributes:
      size: rollouts of the policy.
      sampler: their sampler settings; everything is recorded.
      experts: policies that add one rollout each.
      expert_block: block length of the experts' rollouts; None: that of `sampler`.
      devices: that the prompts are split over.
    """

    size: int
    sampler: SamplerConfig
    experts: tuple[Policy, ...] = ()
    expert_block: int | None = None
    devices: int = 1


def generate_groups(
    key: RowKey, prompts: Prompts, denoise: Denoise, policy: LearnedPolicy, groups: GroupConfig
) -> Rollout:
    """`groups.size` rollouts of the policy and one of each expert, for every prompt.

    Rollout g of prompt i has the key fold_in(fold_in(key, i), g). As many are generated at once as
    `canvases_at_once` allows on each device.

    Returns:
      Rollout with leading axes [prompts, group + experts]; the record of its trace is an `Action`.
    """
    size, experts = groups.size, groups.experts
    prompt_keys = row_keys(key, jnp.arange(len(prompts.canvases)))
    keys = jax.vmap(lambda k: row_keys(k, jnp.arange(size + len(experts))))(prompt_keys)
    sampler = replace(groups.sampler, record=True)
    expert_sampler = sampler
    if groups.expert_block is not None:
        expert_sampler = replace(sampler, block_length=groups.expert_block)

    complete = partial(_complete, prompts.canvases, denoise, groups.devices)
    parts = [complete(keys[:, :size], RecordingPolicy(policy), sampler)]
    for index, expert in enumerate(experts, start=size):
        recorder = ExpertRecorder(expert, policy)
        parts.append(complete(keys[:, index : index + 1], recorder, expert_sampler))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs, axis=1), *parts)


def _complete(
    canvases: Int[Array, "prompts length"],
    denoise: Denoise,
    devices: int,
    keys: Key[Array, "prompts repeats"],
    policy: Policy,
    config: SamplerConfig,
) -> Rollout:
    """Every prompt completed once per key; leading axes [prompts, repeats]."""
    repeated = jnp.repeat(canvases, keys.shape[1], axis=0)
    run = partial(sample, denoise=denoise, policy=policy, config=config)
    size = canvases_at_once(canvases.shape[1], config.pad_id, config.gen_length) * devices
    flat = map_batches(lambda rows: run(*rows), (keys.reshape(-1), repeated), size)
    return jax.tree.map(lambda x: x.reshape(*keys.shape, *x.shape[1:]), flat)


def rewards_of(
    rollout: Rollout, correct: Bool[Array, "prompts group"], reward: Reward, most: int
) -> PerRollout:
    """The reward of each rollout; `most` is the number of denoiser calls of the slowest possible one."""
    return jax.vmap(jax.vmap(lambda c, n: reward(c, n, most)))(correct, rollout.nfe)


def rollout_metrics(
    rollout: Rollout, correct: Bool[Array, "prompts group"], rewards: PerRollout, size: int
) -> dict[str, Scalar]:
    """Means over the policy's own rollouts, and the experts' mean reward if there are experts.

    Args:
      size: rollouts of the policy in each group; those of experts follow them.
    """
    own, experts = slice(None, size), slice(size, None)
    action = rollout.trace.record
    empty = action.allowed.any(-1) & ~(action.order > 0).any(-1)
    metrics = {
        "reward": jnp.mean(rewards[:, own]),
        "accuracy": jnp.mean(correct[:, own]),
        "nfe": jnp.mean(rollout.nfe[:, own]),
        "empty_steps": jnp.mean(jnp.sum(empty[:, own], axis=-1)),
        "groups_that_differ": jnp.mean(jnp.ptp(rewards, axis=1) > 0),
        "finite_rollouts": jnp.mean(rollout.finite),
    }
    if rewards.shape[1] > size:
        metrics["expert_reward"] = jnp.mean(rewards[:, experts])
    return metrics
