"""Training an adaptive policy by the fidelity of its orders: the updates."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from mdm_jax.chunks import map_rows
from mdm_jax.compiling import jit_update
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.fidelity.actor_critic import (
    critic_loss,
    policy_loss,
    states_at_once,
    targets,
)
from mdm_jax.orders.fidelity.config import CriticParts, VineParts
from mdm_jax.orders.fidelity.experience import experience
from mdm_jax.orders.fidelity.exploration import FidelityBatch
from mdm_jax.orders.fidelity.replay import Replay, add, draw_transitions, empty_replay
from mdm_jax.orders.fidelity.vine import vine_loss
from mdm_jax.policies.adaptive import TIES, AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import blank_features
from mdm_jax.training.loop import Update
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import Metrics, Params, TrainState, init_state, train_step
from mdm_jax.types import RowKey, Scalar


def vine_update(
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: VineParts,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.99,
) -> Update:
    """One update by the gradient of `vine_loss`, compiled once.

    Raises:
      ValueError: the policy has pair costs, and branches take positions as independent.
    """
    if policy.network.config.pair_costs:
        raise ValueError("branches take positions as independent: no pair_costs")

    @jax.jit
    def update(
        state: TrainState, key: RowKey, batch: FidelityBatch, denoise: Denoise
    ) -> tuple[TrainState, Metrics]:
        def loss(params: Params, key: RowKey, batch: FidelityBatch) -> tuple[Scalar, Metrics]:
            return vine_loss(
                params["policy"], key, batch, policy=policy, denoise=denoise, parts=parts
            )

        return train_step(state, key, batch, loss=loss, optimizer=optimizer, ema_decay=ema_decay)

    return partial(update, denoise=denoise)


class Learning(NamedTuple):
    """What learning from a replay resumes from beside parameters and their average."""

    optimizer: PyTree
    target: Params  # the critic that gives the targets
    replay: Replay


def critic_optimizer(
    policy: OptimizerConfig, critic: OptimizerConfig, steps: int
) -> optax.GradientTransformation:
    """An optimiser for each part; `steps` gradient steps in all."""
    configs = {"policy": policy, "critic": critic}
    return optax.multi_transform(
        {name: make_optimizer(config, steps) for name, config in configs.items()},
        {name: name for name in configs},
    )


def init_critic_state(
    key: RowKey,
    policy: AdaptivePolicy,
    batch: FidelityBatch,
    denoise: Denoise,
    parts: CriticParts,
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """The state before the first update, its replay empty.

    Args:
      batch: shapes of the batches of the run.
    """
    collect = partial(experience, policy=policy, denoise=denoise, parts=parts)
    example, _ = jax.eval_shape(collect, key, batch)
    window = example.revealed.shape[-1]
    critic = jax.jit(parts.critic.init)(key, blank_features(window), jnp.zeros(window, bool))
    # updates give up their state, and the policy's parameters are used again
    params = {"policy": jax.tree.map(jnp.copy, policy.params), "critic": critic["params"]}
    state = init_state(params, optimizer)
    replay = empty_replay(example, parts.config.capacity)
    target = jax.tree.map(jnp.copy, params["critic"])
    return state._replace(opt_state=Learning(state.opt_state, target, replay))


def critic_update(
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: CriticParts,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.995,
) -> Update:
    """One update, compiled once: new rows for the replay, then gradient steps of critic and policy."""

    @partial(jit_update, donate_argnums=0)
    def update(
        state: TrainState, key: RowKey, batch: FidelityBatch, denoise: Denoise
    ) -> tuple[TrainState, Metrics]:
        k_rows, k_learn = jax.random.split(key)
        acting = replace(policy, params=state.params["policy"])
        rows, metrics = experience(k_rows, batch, acting, denoise, parts)
        learning = state.opt_state
        state = state._replace(opt_state=learning._replace(replay=add(learning.replay, rows)))
        share = jnp.maximum(1.0 - jnp.mean(batch.progress) / parts.config.anneal, 0.0)
        step = partial(
            gradient_step,
            share=share,
            policy=policy,
            parts=parts,
            optimizer=optimizer,
            ema_decay=ema_decay,
        )
        keys = jax.random.split(k_learn, parts.config.updates)
        state, rows = jax.lax.scan(step, state, keys)
        metrics |= jax.tree.map(jnp.mean, rows)
        return state._replace(step=state.step + 1), metrics

    return partial(update, denoise=denoise)


def gradient_step(
    state: TrainState,
    key: RowKey,
    *,
    share: Scalar,
    policy: AdaptivePolicy,
    parts: CriticParts,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> tuple[TrainState, Metrics]:
    """One gradient step of critic and policy on replayed calls."""
    k_replay, k_sets = jax.random.split(key)
    k_ties = row_keys(jax.random.fold_in(key, TIES), jnp.arange(parts.config.replayed))
    learning, params = state.opt_state, state.params
    batch = draw_transitions(k_replay, learning.replay, parts.config)
    acting = replace(policy, params=params["policy"])
    target = partial(targets, policy=acting, critic_params=learning.target, parts=parts)
    size = states_at_once(parts, batch.revealed.shape[1])
    wanted = map_rows(lambda row: target(*row), (k_ties, batch), size)
    critic_gradient = jax.value_and_grad(critic_loss, has_aux=True)
    (loss, errors), critic = critic_gradient(params["critic"], batch, wanted, parts)
    policy_gradient = jax.grad(
        partial(policy_loss, policy=policy, critic_params=params["critic"], parts=parts),
        has_aux=True,
    )
    gradient, found = policy_gradient(params["policy"], k_sets, batch, share)
    gradients = {"policy": gradient, "critic": critic}
    changes, opt_state = optimizer.update(gradients, learning.optimizer, params)
    params = optax.apply_updates(params, changes)
    decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
    target = optax.incremental_update(params["critic"], learning.target, parts.config.target_rate)
    ema = optax.incremental_update(params, state.ema, 1.0 - decay)
    learning = learning._replace(optimizer=opt_state, target=target)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(gradients)} | errors | found
    return state._replace(params=params, ema=ema, opt_state=learning), metrics
