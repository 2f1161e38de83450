"""Learning a policy from decisions: those of a teacher, or those that its final answers imply."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from mdm_jax.chunks import canvases_at_once, map_batches, sum_of_chunks
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import MdmError
from mdm_jax.policies.action_distributions import Independent
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.active import active_first, steps_at_once
from mdm_jax.rl.hidden import Call, Reader, calls_of, check_no_cache
from mdm_jax.rl.recording import Action, ExpertRecorder
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.canvas import window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import Rollout, RowKey, Scalar


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """What stays the same from one update to the next.

    Attributes:
      policy: the policy that learns; its parameters are replaced by those of the state.
      teacher: any policy.
      sampler: of the teacher's rollouts.
      optimizer: of the policy's parameters.
      final: learn the labels of `final_labels` instead of the teacher's decisions.
      devices: that the prompts are split over.

    Raises:
      MdmError: `final` with a family whose positions are not independent: the labels are any set; a
        policy that reads hidden states, with a cache.
    """

    policy: LearnedPolicy
    teacher: Policy
    sampler: SamplerConfig
    optimizer: optax.GradientTransformation
    final: bool = False
    devices: int = 1

    def __post_init__(self) -> None:
        check_no_cache(self.policy, self.sampler)
        if self.final and self.policy.family != Independent():
            raise MdmError(
                "labels of the final answer need independent positions, but the policy's family is "
                f"{self.policy.family}: choose family Independent, or final False"
            )


def imitate(
    state: TrainState, key: RowKey, prompts: Prompts, denoise: Denoise, *, imitation: Imitation
) -> tuple[TrainState, Metrics]:
    """The teacher completes the prompts; one update towards its decisions. Pure; jit it."""
    k_rollout, k_update = jax.random.split(key)
    config = replace(imitation.sampler, record=True)
    policy = ExpertRecorder(imitation.teacher, imitation.policy)
    complete = partial(sample, denoise=denoise, policy=policy, config=config)
    rows = row_keys(k_rollout, jnp.arange(len(prompts.canvases))), prompts.canvases
    size = canvases_at_once(prompts.canvases.shape[1], config.pad_id, config.gen_length)
    rollout = map_batches(lambda rows: complete(*rows), rows, size * imitation.devices)
    actions = rollout.trace.record
    if imitation.final:
        actions = final_labels(rollout, prompts.canvases, imitation.sampler.mask_id)
    calls_of_one = partial(calls_of, policy=imitation.policy, config=config)
    calls = jax.vmap(calls_of_one)(rollout.trace, prompts.canvases)
    reader = Reader(imitation.policy, denoise, config.pad_id)
    loss = partial(imitation_loss, reader=reader, devices=imitation.devices)
    state, metrics = train_step(
        state, k_update, (actions, calls), loss=loss, optimizer=imitation.optimizer, ema_decay=0.0
    )
    return state, metrics | {"teacher_nfe": jnp.mean(rollout.nfe)}


def imitation_loss(
    params: Any,
    key: RowKey,
    steps: tuple[Action, Call | None],
    *,
    reader: Reader,
    devices: int = 1,
) -> tuple[Scalar, Metrics]:
    """-log p(action), mean over the steps in which something could be decided; nats.

    Args:
      steps: leading axes [rows, steps].
      devices: that the rows are split over.
    """

    def log_prob(params: Any, action: Action, call: Call | None) -> Scalar:
        policy, action = replace(reader.policy, params=params), reader.with_hidden(action, call)
        utilities = policy.utilities(action.features)
        return policy.family.log_prob(utilities, action.order, action.allowed)

    def compute(params: Any, active: Array, *steps: Any) -> Scalar:
        logs = jax.vmap(log_prob, (None, 0, 0))(params, *steps)
        return -jnp.sum(jnp.where(active, logs, 0.0))

    def one(params: Any, chunk: tuple[Array, Action, Call | None]) -> tuple[Scalar, None]:
        zero = jnp.zeros((), jnp.float32)
        some = jnp.any(chunk[0])
        return jax.lax.cond(some, compute, lambda *_: zero, params, *chunk), None

    active = jnp.any(steps[0].allowed, axis=-1)
    size = steps_at_once(steps[0].order.shape[-1], reader.at_once(*steps))
    chunks = active_first(active, size, devices).chunks((active, *steps))
    loss = sum_of_chunks(one, params, chunks)[0] / jnp.maximum(jnp.sum(active), 1)
    return loss, {"imitation_nll": loss}


def final_labels(rollout: Rollout, canvases: Int[Array, "rows length"], mask_id: int) -> Action:
    """Actions that reveal every position whose proposed token equals the final answer.

    Args:
      rollout: leading axis [rows], with `Action`s as record.
      canvases: its prompts.

    Reference: Learn2PD, arXiv:2509.25188.
    """
    action, trace = rollout.trace.record, rollout.trace
    length = trace.is_masked.shape[-1]
    starts = jax.vmap(lambda canvas: window_start(canvas, mask_id, length))(canvases)
    window = partial(jax.lax.dynamic_slice_in_dim, slice_size=length)
    final = jax.vmap(window)(rollout.canvas, starts)
    is_final = trace.is_masked & (trace.proposal == final[:, None, :])
    return action._replace(order=is_final.astype(jnp.int32), allowed=trace.is_masked)
