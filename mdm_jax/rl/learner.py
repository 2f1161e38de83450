"""One iteration of learning a policy from rewards: rollouts, advantages, several updates.

Reference: Jazbec et al., arXiv:2512.09106.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.base import Policy
from mdm_jax.policies.kinds import AnyHeuristic
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.episodes import Episodes, as_episodes
from mdm_jax.rl.grpo import GrpoObjective, grpo_loss
from mdm_jax.rl.hidden import Reader, calls_of, check_no_cache
from mdm_jax.rl.rollouts import (
    GroupConfig,
    Prompts,
    generate_groups,
    rewards_of,
    rollout_metrics,
)
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import Rollout, RowKey


@dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """An expert whose rollouts are added to every group, one for each prompt.

    Attributes:
      policy: the expert; None: no expert.
      block_length: of the expert's rollouts; None: that of the policy's.
    """

    policy: AnyHeuristic | None = None
    block_length: int | None = None

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The expert, or nothing."""
        return () if self.policy is None else (self.policy,)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What stays the same from one iteration to the next.

    Attributes:
      policy: the policy that learns; its parameters are replaced by those of the state.
      objective: what is rewarded.
      sampler: of the policy's rollouts.
      optimizer: of the policy's parameters.
      experts: policies that add one rollout each to every group.
      expert_block: block length of the experts' rollouts; None: that of `sampler`.
      ema_decay: of the averaged parameters; 0: the latest ones.
      devices: that the prompts are split over.

    Raises:
      MdmError: a policy that reads hidden states, with a cache.
    """

    policy: LearnedPolicy
    objective: GrpoObjective
    sampler: SamplerConfig
    optimizer: optax.GradientTransformation
    experts: tuple[Policy, ...] = ()
    expert_block: int | None = None
    ema_decay: float = 0.0
    devices: int = 1

    def __post_init__(self) -> None:
        check_no_cache(self.policy, self.sampler)

    def rollouts(self, params: Any, key: RowKey, prompts: Prompts, denoise: Denoise) -> Rollout:
        """Groups of rollouts with these parameters: see `generate_groups`."""
        groups = GroupConfig(
            size=self.objective.group,
            sampler=self.sampler,
            experts=self.experts,
            expert_block=self.expert_block,
            devices=self.devices,
        )
        policy = replace(self.policy, params=params)
        return generate_groups(key, prompts, denoise, policy, groups)


def iterate(
    state: TrainState,
    key: RowKey,
    prompts: Prompts,
    denoise: Denoise,
    *,
    learner: Learner,
    verify: Callable[[Any, Any], Bool[Array, ""]],
) -> tuple[TrainState, Metrics]:
    """Rollouts, rewards, advantages and updates as one pure function; jit it.

    Args:
      verify: (canvas [length], reference) -> whether it is correct, in pure JAX.
    """
    k_rollout, k_update = jax.random.split(key)
    rollout = learner.rollouts(state.params, k_rollout, prompts, denoise)
    verify_all = jax.vmap(jax.vmap(verify, in_axes=(0, None)))
    correct = verify_all(rollout.canvas, prompts.references)
    return reinforce(
        state, k_update, rollout, correct, prompts.canvases, learner=learner, denoise=denoise
    )


def reinforce(
    state: TrainState,
    key: RowKey,
    rollout: Rollout,
    correct: Bool[Array, "prompts group"],
    canvases: Int[Array, "prompts length"],
    *,
    learner: Learner,
    denoise: Denoise,
) -> tuple[TrainState, Metrics]:
    """The second half of an iteration: from verified rollouts to the next state. Pure; jit it.

    Args:
      canvases: that the rollouts started from.
    """
    objective, most = learner.objective, rollout.revealed_at.shape[-1]  # one position per call
    rewards = rewards_of(rollout, correct, objective.reward, most)
    calls_of_one = partial(calls_of, policy=learner.policy, config=learner.sampler)
    calls = jax.vmap(jax.vmap(calls_of_one, in_axes=(0, None)))(rollout.trace, canvases)
    episodes = as_episodes(rollout, rewards, len(learner.experts), objective.by_deviation, calls)
    metrics = rollout_metrics(rollout, correct, rewards, objective.group)
    reader = Reader(learner.policy, denoise, learner.sampler.pad_id)
    state, update_metrics = learn_from(state, key, episodes, reader, learner)
    return state, metrics | update_metrics


def learn_from(
    state: TrainState, key: RowKey, episodes: Episodes, reader: Reader, learner: Learner
) -> tuple[TrainState, Metrics]:
    """`objective.updates` optimizer steps on the same rollouts; the state's step counts iterations.

    If all advantages are 0 and there is no reference order, only the state's step changes.

    Returns:
      The state, and the metrics of the first update; `log_ratio` is that of the last.
    """
    update = partial(_update, key=key, reader=reader, learner=learner)
    (new, _), metrics = jax.lax.scan(
        update, (state, episodes), jnp.arange(learner.objective.updates)
    )
    nothing_to_learn = jnp.all(episodes.advantage == 0) & (learner.objective.reference is None)
    new = jax.tree.map(lambda old, new: jnp.where(nothing_to_learn, old, new), state, new)
    log_ratio = metrics.pop("log_ratio")[-1]
    metrics = {name: values[0] for name, values in metrics.items()}
    return new._replace(step=state.step + 1), metrics | {"log_ratio": log_ratio}


def _update(
    carry: tuple[TrainState, Episodes],
    index: Int[Array, ""],
    key: RowKey,
    reader: Reader,
    learner: Learner,
) -> tuple[tuple[TrainState, Episodes], Metrics]:
    """Update number `index` on the same rollouts."""
    state, episodes = carry
    steps = episodes.steps
    first_update = jnp.broadcast_to(index == 0, episodes.advantage.shape)
    loss = partial(
        grpo_loss,
        reader=reader,
        experts=len(learner.experts),
        objective=learner.objective,
        devices=learner.devices,
    )
    state, metrics = train_step(
        state,
        key,
        episodes._replace(first_update=first_update),
        loss=loss,
        optimizer=learner.optimizer,
        ema_decay=learner.ema_decay,
    )
    logs = metrics.pop("log_probs")
    old_logs = jnp.where(index == 0, logs, steps.old_log_probs)
    log_ratio = jnp.abs(jnp.sum(logs - old_logs, axis=-1))
    metrics["log_ratio"] = jnp.max(jnp.where(episodes.active, log_ratio, 0.0))
    return (state, episodes._replace(steps=steps._replace(old_log_probs=old_logs))), metrics
