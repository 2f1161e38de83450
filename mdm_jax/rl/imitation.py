"""Learning a policy from examples of decisions: what a heuristic does, or what already is final."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.base import Policy
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.recording import Action, ExpertRecorder
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.state import Metrics, TrainState, train_step
from mdm_jax.types import Rollout, RowKey, Scalar


def final_labels(rollout: Rollout) -> Action:
    """Acts that reveal whatever already equals the final answer (Learn2PD, arXiv:2509.25188).

    Args:
      rollout: leading axis [rows], of a policy that reveals for good.
    """
    act, trace = rollout.trace.record, rollout.trace
    final = jnp.sum(jnp.where(trace.unmask, trace.proposal, 0), axis=1)  # each revealed once
    right = trace.is_masked & (trace.proposal == final[:, None, :])
    return act._replace(places=right.astype(jnp.int32), allowed=trace.is_masked)


def imitation_loss(
    params: Any, key: RowKey, acts: Action, *, policy: LearnedPolicy
) -> tuple[Scalar, Metrics]:
    """-log p(what was done), mean over the steps in which something could be; nats.

    Args:
      acts: leading axes [rows, steps].
    """
    policy = replace(policy, params=params)

    def log_prob(act: Action) -> Scalar:
        return policy.family.log_prob(policy.utilities(act.features), act.places, act.allowed)

    active = jnp.any(acts.allowed, axis=-1)
    logs = jnp.where(active, jax.vmap(jax.vmap(log_prob))(acts), 0.0)
    loss = -jnp.sum(logs) / jnp.maximum(jnp.sum(active), 1)
    return loss, {"imitation_nll": loss}


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """Whom to imitate.

    Attributes:
      teacher: any policy.
      final: what its finished response already equals is to be revealed, not what it reveals.
    """

    teacher: Policy
    final: bool = False


def imitate(
    state: TrainState,
    key: RowKey,
    prompts: Prompts,
    denoise: Denoise,
    *,
    policy: LearnedPolicy,
    imitation: Imitation,
    config: SamplerConfig,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Metrics]:
    """The teacher completes the prompts; one update towards what it did. Pure; jit it."""
    k_play, k_learn = jax.random.split(key)
    watched = ExpertRecorder(imitation.teacher, policy)
    keys = row_keys(k_play, jnp.arange(len(prompts.canvases)))
    settings = replace(config, record=True)
    rollout = sample(keys, prompts.canvases, denoise=denoise, policy=watched, config=settings)
    acts = final_labels(rollout) if imitation.final else rollout.trace.record
    loss = partial(imitation_loss, policy=policy)
    state, metrics = train_step(state, k_learn, acts, loss=loss, optimizer=optimizer, ema_decay=0.0)
    return state, metrics | {"teacher_nfe": jnp.mean(rollout.nfe)}
