"""One iteration of learning a policy from rewards: rollouts, advantages, several updates.

Reference: Jazbec et al., arXiv:2512.09106 (GRPO with one joint ratio per step, expert steering);
Hong et al., arXiv:2510.05725 (divergence from a reference order).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.action_distributions import from_logits
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.advantages import clipped, mixture_log_prob
from mdm_jax.rl.recording import Action
from mdm_jax.rl.reference_kl import ReferenceOrder
from mdm_jax.rl.rewards import Multiplicative, Reward
from mdm_jax.rl.rollouts import Episodes, Prompts, as_episodes, judge, play, rollout_metrics
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import Rollout, RowKey, Scalar


@dataclass(frozen=True, kw_only=True)
class GrpoObjective:
    """What is rewarded, and how far one iteration may move the policy.

    Attributes:
      reward: of a finished sequence.
      group: rollouts of each prompt.
      updates: optimiser steps on the same rollouts.
      clip: largest change of a step's probability ratio from 1 that is still rewarded.
      by_deviation: divide advantages by the group's standard deviation.
      per_position: one ratio per position instead of one per step (independent positions only).
      reference: order that a one-position-per-step policy is kept close to; None: none.
      beta: weight of that divergence.
      chunk: steps of a rollout that are differentiated at once; fewer take less memory.
    """

    reward: Reward = field(default_factory=Multiplicative)
    group: int = 8
    updates: int = 2
    clip: float = 0.5
    by_deviation: bool = False
    per_position: bool = False
    reference: ReferenceOrder | None = None
    beta: float = 1e-4
    chunk: int = 16

    def __post_init__(self) -> None:
        if self.group < 2 or min(self.updates, self.chunk) < 1:
            raise ValueError(
                f"group {self.group} must be at least 2 to have a mean to beat, updates "
                f"{self.updates} and chunk {self.chunk} at least 1"
            )
        if not self.clip > 0 or self.beta < 0:
            raise ValueError(f"clip {self.clip} must be positive, beta {self.beta} not negative")


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Who learns what and how: all that stays the same from one iteration to the next.

    Attributes:
      policy: its parameters are overridden by those of the state.
      objective: what is rewarded.
      sampler: of the policy's rollouts.
      optimizer: of the policy's parameters.
      experts: policies that add one rollout each to every group.
      expert_block: block length of their rollouts; None: as the policy's.
      ema_decay: of the averaged parameters; 0: the latest ones.
    """

    policy: LearnedPolicy
    objective: GrpoObjective
    sampler: SamplerConfig
    optimizer: optax.GradientTransformation
    experts: tuple[Policy, ...] = ()
    expert_block: int | None = None
    ema_decay: float = 0.0

    def play(self, params: Any, key: RowKey, prompts: Prompts, denoise: Denoise) -> Rollout:
        """Rollouts of the policy at these parameters, and of the experts."""
        return play(
            key,
            prompts,
            replace(self.policy, params=params),
            self.experts,
            self.objective.group,
            denoise=denoise,
            config=self.sampler,
            expert_block=self.expert_block,
        )


def position_log_probs(
    policy: LearnedPolicy, act: Action, per_position: bool
) -> tuple[Float[Array, " length"], Float[Array, " length"]]:
    """Log-probability of what was done at one step, and the utilities.

    The joint one stands at position 0, with 0 elsewhere, unless they are wanted for each position.
    """
    utilities = policy.utilities(act.features)
    if per_position:
        bernoulli = from_logits(utilities)
        logs = jnp.where(act.places > 0, bernoulli.log_reveal, bernoulli.log_keep)
        return jnp.where(act.allowed, logs, 0.0), utilities
    joint = policy.family.log_prob(utilities, act.places, act.allowed)
    return jnp.zeros(utilities.shape).at[0].set(joint), utilities


class StepValues(NamedTuple):
    """What steps contribute to the objective, and what is worth watching of them."""

    value: Float[Array, "..."]
    divergence: Float[Array, "..."]
    log_probs: Float[Array, "... length"]


def step_values(
    policy: LearnedPolicy,
    act: Action,
    confidence: Float[Array, " length"],
    before: Float[Array, " length"],
    advantage: Scalar,
    by_expert: Bool[Array, ""],
    first: Bool[Array, ""],
    *,
    experts: int,
    objective: GrpoObjective,
) -> StepValues:
    """min(rho A, clip(rho) A) of one step, minus beta times the divergence from the reference.

    Args:
      before: log-probabilities before the first update; not looked at in the first one, where the
        ratio is 1 by definition.
      first: whether this is the first update.
    """
    logs, utilities = position_log_probs(policy, act, objective.per_position)
    if experts:
        mixed = mixture_log_prob(jnp.sum(logs), objective.group, experts)
        logs = jnp.where(by_expert, jnp.zeros_like(logs).at[0].set(mixed), logs)
    ratio = logs - jnp.where(first, jax.lax.stop_gradient(logs), before)
    values = clipped(ratio, advantage, objective.clip)
    value = _over_positions(values, act, objective.per_position & ~by_expert)
    divergence = jnp.zeros(())
    if objective.reference is not None:
        divergence = objective.reference(utilities, confidence, act.allowed)
    return StepValues(value - objective.beta * divergence, divergence, logs)


def _over_positions(
    values: Float[Array, " length"], act: Action, per_position: Bool[Array, ""] | bool
) -> Scalar:
    """Mean over the positions that could be drawn, or what stands at position 0."""
    mean = jnp.sum(jnp.where(act.allowed, values, 0.0)) / jnp.maximum(jnp.sum(act.allowed), 1)
    return jnp.where(per_position, mean, values[0])


def grpo_loss(
    params: Any,
    key: RowKey,
    batch: tuple[Episodes, Bool[Array, " rollouts"]],
    *,
    policy: LearnedPolicy,
    experts: int,
    objective: GrpoObjective,
) -> tuple[Scalar, Metrics]:
    """Minus the objective: mean over rollouts of the mean over their steps of `step_values`.

    The steps are taken `objective.chunk` at a time, recomputed in the backward pass, and left out
    where no rollout is still running.

    Args:
      batch: episodes, and for each whether this is the first update on them.

    Returns:
      The loss, and metrics with `log_probs` [rollouts, steps, length] of this update.
    """
    episodes, first = batch
    weight = episodes.active / jnp.maximum(jnp.sum(episodes.active, axis=1, keepdims=True), 1)
    weight /= len(weight)
    judged = partial(
        step_values, replace(policy, params=params), experts=experts, objective=objective
    )
    over_steps = jax.vmap(judged, in_axes=(0, 0, 0, None, None, None))
    over_rows = jax.checkpoint(jax.vmap(over_steps))

    def some(acts: Action, confidence: Array, before: Array, weight: Array) -> StepValues:
        found = over_rows(acts, confidence, before, episodes.advantage, episodes.by_expert, first)
        sums = (jnp.sum(weight * x) for x in (found.value, found.divergence))
        return StepValues(*sums, found.log_probs)

    def none(acts: Action, confidence: Array, before: Array, weight: Array) -> StepValues:
        return StepValues(jnp.zeros(()), jnp.zeros(()), jnp.zeros_like(before))

    def one(chunk: tuple) -> StepValues:
        return jax.lax.cond(jnp.any(chunk[0].allowed), some, none, *chunk)

    parts = episodes.acts, episodes.confidence, episodes.before, weight
    chunks = jax.tree.map(partial(_in_chunks, size=objective.chunk), parts)
    values, divergence, logs = jax.lax.map(one, chunks)
    logs = _out_of_chunks(logs, episodes.active.shape[1])
    watched = {
        "loss": -jnp.sum(values),
        "divergence": jnp.sum(divergence),
        "entropy": -jnp.sum(weight * jnp.sum(logs, axis=-1)),
        "log_probs": logs,
    }
    return -jnp.sum(values), watched


def _in_chunks(x: Array, size: int) -> Array:
    """[rollouts, steps, ...] -> [chunks, rollouts, size, ...], filled up with zeros."""
    steps = x.shape[1]
    size = min(size, steps)
    x = jnp.pad(x, ((0, 0), (0, -steps % size), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 1, 0)


def _out_of_chunks(
    x: Float[Array, "chunks rollouts size length"], steps: int
) -> Float[Array, "rollouts steps length"]:
    """The way back, without what was filled up."""
    x = jnp.moveaxis(x, 0, 1)
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, :steps]


def learn_from(
    state: TrainState, key: RowKey, episodes: Episodes, learner: Learner
) -> tuple[TrainState, Metrics]:
    """`objective.updates` optimiser steps on the same rollouts; the state's step counts iterations.

    Where no reward differs from its group's mean and no reference pulls, nothing is learned: the
    state comes back unchanged but for its step.
    """
    objective, optimizer = learner.objective, learner.optimizer
    loss = partial(
        grpo_loss, policy=learner.policy, experts=len(learner.experts), objective=objective
    )
    averaged = {"ema_decay": learner.ema_decay}

    def update(carry: tuple, index: Int[Array, ""]) -> tuple:
        state, episodes = carry
        first = jnp.broadcast_to(index == 0, episodes.advantage.shape)
        batch = episodes, first
        state, metrics = train_step(state, key, batch, loss=loss, optimizer=optimizer, **averaged)
        logs = metrics.pop("log_probs")
        before = jnp.where(index == 0, logs, episodes.before)
        change = jnp.sum(logs - before, axis=-1)
        metrics["log_ratio"] = jnp.max(jnp.where(episodes.active, jnp.abs(change), 0.0))
        return (state, episodes._replace(before=before)), metrics

    (new, _), metrics = jax.lax.scan(update, (state, episodes), jnp.arange(objective.updates))
    silent = jnp.all(episodes.advantage == 0) & (objective.reference is None)
    new = jax.tree.map(lambda old, new: jnp.where(silent, old, new), state, new)
    last = metrics.pop("log_ratio")[-1]  # of the others, what the first update saw
    metrics = {name: values[0] for name, values in metrics.items()}
    return new._replace(step=state.step + 1), metrics | {"log_ratio": last}


def reinforce(
    state: TrainState,
    key: RowKey,
    rollout: Rollout,
    correct: Bool[Array, "prompts group"],
    learner: Learner,
) -> tuple[TrainState, Metrics]:
    """The second half of an iteration: from judged rollouts to the next state. Pure; jit it."""
    objective, most = learner.objective, rollout.revealed_at.shape[-1]  # one position per call
    rewards = judge(rollout, correct, objective.reward, most)
    episodes = as_episodes(rollout, rewards, len(learner.experts), objective.by_deviation)
    seen = rollout_metrics(rollout, correct, rewards, objective.group)
    state, metrics = learn_from(state, key, episodes, learner)
    return state, seen | metrics


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
      verify: (canvas [length], reference) -> whether it is right, in pure JAX.
    """
    k_play, k_learn = jax.random.split(key)
    rollout = learner.play(state.params, k_play, prompts, denoise)
    judged = jax.vmap(jax.vmap(verify, in_axes=(0, None)))
    correct = judged(rollout.canvas, prompts.references)
    return reinforce(state, k_learn, rollout, correct, learner)
