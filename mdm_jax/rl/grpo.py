"""The loss of learning a policy from rewards: GRPO with one joint probability ratio per step.

Reference: Jazbec et al., arXiv:2512.09106 (the objective, expert steering); Hong et al.,
arXiv:2510.05725 (divergence from a reference order).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mdm_jax.chunks import sum_of_chunks
from mdm_jax.errors import MdmError, check_range
from mdm_jax.policies.action_distributions import Independent, from_logits
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.active import ActiveFirst, active_first, steps_at_once
from mdm_jax.rl.advantages import clipped, mixture_log_prob
from mdm_jax.rl.episodes import Episodes, Steps
from mdm_jax.rl.hidden import Reader
from mdm_jax.rl.recording import Action
from mdm_jax.rl.reference_kl import ReferenceOrder
from mdm_jax.rl.rewards import Multiplicative, Reward
from mdm_jax.types import RowKey, Scalar


@dataclass(frozen=True, kw_only=True)
class GrpoObjective:
    """What is rewarded, and how far one iteration may move the policy.

    Attributes:
      reward: of a finished sequence.
      group: rollouts of each prompt.
      updates: optimizer steps on the same rollouts.
      clip: a step's probability ratio is clipped to [1 - clip, 1 + clip].
      by_deviation: divide advantages by the group's standard deviation.
      per_position: one ratio per position instead of one per step (only with independent positions).
      reference: order that a one-position-per-step policy is kept close to; None: none.
      beta: weight of the divergence from the reference.
      chunk: steps of a rollout that are differentiated at once, at most; fewer need less memory.

    Raises:
      MdmError: a value out of range.
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
        check_range("group", self.group, 2)  # for advantages over its mean
        for name in ("updates", "chunk"):
            check_range(name, getattr(self, name), 1)
        check_range("clip", self.clip, above=0)
        check_range("beta", self.beta, 0)


class StepValues(NamedTuple):
    """What a step contributes to the objective, and its metrics."""

    value: Scalar
    divergence: Scalar  # from the reference order, nats
    log_probs: Float[Array, " length"]


def position_log_probs(
    policy: LearnedPolicy, action: Action, per_position: bool
) -> tuple[Float[Array, " length"], Float[Array, " length"]]:
    """Log-probability of an action, nats, and the utilities.

    Without `per_position` the joint log-probability is at index 0, and all other entries are 0.

    Raises:
      MdmError: `per_position` with a family whose positions are not independent.
    """
    if per_position and policy.family != Independent():
        raise MdmError(
            f"per_position needs independent positions, but the policy's family is {policy.family}: "
            "choose family Independent, or one ratio per step"
        )
    utilities = policy.utilities(action.features)
    if per_position:
        bernoulli = from_logits(utilities)
        logs = jnp.where(action.order > 0, bernoulli.log_reveal, bernoulli.log_keep)
        return jnp.where(action.allowed, logs, 0.0), utilities
    joint = policy.family.log_prob(utilities, action.order, action.allowed)
    return jnp.zeros_like(utilities).at[0].set(joint), utilities


def step_values(
    policy: LearnedPolicy,
    step: Steps,
    advantage: Scalar,
    by_expert: Bool[Array, ""],
    first_update: Bool[Array, ""],
    *,
    experts: int,
    objective: GrpoObjective,
) -> StepValues:
    """min(rho A, clip(rho) A) of one step, minus beta times the divergence from the reference.

    rho is the probability ratio to the policy before the first update, in which it is 1 exactly.

    Args:
      step: without leading axes.
      experts: how many experts are in a group; the probability of their actions is that under the
        mixture of policy and experts.
    """
    action = step.action
    logs, utilities = position_log_probs(policy, action, objective.per_position)
    if experts:
        mixed = mixture_log_prob(jnp.sum(logs), objective.group, experts)
        logs = jnp.where(by_expert, jnp.zeros_like(logs).at[0].set(mixed), logs)
    old_logs = jnp.where(first_update, jax.lax.stop_gradient(logs), step.old_log_probs)
    values = clipped(logs - old_logs, advantage, objective.clip)
    value = _over_positions(values, action, objective.per_position & ~by_expert)
    divergence = jnp.zeros((), jnp.float32)
    if objective.reference is not None:
        divergence = objective.reference(utilities, step.confidence, action.allowed)
    return StepValues(value - objective.beta * divergence, divergence, logs)


def _over_positions(
    values: Float[Array, " length"], action: Action, per_position: Bool[Array, ""] | bool
) -> Scalar:
    """With `per_position` the mean over the allowed positions, else the joint value at index 0."""
    allowed = action.allowed
    mean = jnp.sum(jnp.where(allowed, values, 0.0)) / jnp.maximum(
        jnp.sum(allowed, dtype=jnp.float32), 1
    )
    return jnp.where(per_position, mean, values[0])


def grpo_loss(
    params: Any,
    key: RowKey,
    episodes: Episodes,
    *,
    reader: Reader,
    experts: int,
    objective: GrpoObjective,
    devices: int = 1,
) -> tuple[Scalar, dict[str, Array]]:
    """Minus the objective: mean over rollouts of the mean over their active steps of `step_values`.

    Args:
      devices: that the rollouts are split over.

    Returns:
      The loss, and metrics with `log_probs` [rollouts, steps, length] under these parameters.
    """
    active, steps = episodes.active, episodes.steps
    count = jnp.sum(active, axis=1, keepdims=True, dtype=jnp.float32)
    weight = active / jnp.maximum(count, 1) / len(active)

    def of_step(params: Any, step: Steps, *of_rollout: Array) -> StepValues:
        policy = replace(reader.policy, params=params)
        step = step._replace(action=reader.with_hidden(step.action, step.call))
        return step_values(policy, step, *of_rollout, experts=experts, objective=objective)

    most = min(reader.at_once(steps.action, steps.call), objective.chunk * len(active) // devices)
    size = steps_at_once(steps.action.order.shape[-1], most)
    order = active_first(active, size, devices)
    value, (divergence, logs) = _weighted_sums(of_step, params, episodes, weight, order)
    metrics = {
        "loss": -value,
        "divergence": divergence,
        "entropy": -jnp.sum(weight * jnp.sum(logs, axis=-1)),
        "log_probs": logs,
    }
    return -value, metrics


def _weighted_sums(
    of_step: Callable[..., StepValues],
    params: Any,
    episodes: Episodes,
    weight: Float[Array, "rollouts steps"],
    order: ActiveFirst,
) -> tuple[Scalar, tuple[Scalar, Float[Array, "rollouts steps length"]]]:
    """`of_step` of all steps, a chunk at a time; chunks without an active step are skipped.

    Returns:
      The weighted sums of values and divergences, and the log-probabilities.
    """
    of_steps = jax.vmap(of_step, (None, *[0] * 4))
    of_rollout = episodes.advantage, episodes.by_expert, episodes.first_update
    of_rollout = (jnp.broadcast_to(x[:, None], weight.shape) for x in of_rollout)

    def compute(params: Any, weight: Array, *step: Any) -> tuple:
        found = of_steps(params, *step)
        sums = (jnp.sum(weight * x) for x in (found.value, found.divergence))
        return *sums, found.log_probs

    def skip(params: Any, weight: Array, steps: Steps, *_: Any) -> tuple:
        zero = jnp.zeros((), jnp.float32)
        return zero, zero, jnp.zeros_like(steps.old_log_probs)

    def one(params: Any, chunk: tuple) -> tuple[Scalar, tuple]:
        value, *rest = jax.lax.cond(jnp.any(chunk[0] > 0), compute, skip, params, *chunk)
        return value, tuple(rest)

    chunks = order.chunks((weight, episodes.steps, *of_rollout))
    value, (divergences, logs) = sum_of_chunks(one, params, chunks)
    return value, (jnp.sum(divergences), order.restored(logs))
