"""Credit for whole trajectories, as in GRPO: what `vine` is measured against.

G orders of the same clean sequence are drawn, and each step of an order gets the credit of all of it:

  1/G sum_g (J_g - mean of the other J) sum_t grad log pi(A_t).

On 4x4 Sudoku policies that learn from this stop distinguishing the price of a call.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.fidelity.config import VineParts
from mdm_jax.orders.fidelity.exploration import (
    Exploration,
    FidelityBatch,
    Row,
    draw_prices,
    explore,
)
from mdm_jax.orders.fidelity.likelihood import sequential_likelihood
from mdm_jax.orders.fidelity.returns import capped_ratio
from mdm_jax.orders.fidelity.teacher_forcing import (
    Sequence,
    observe,
    rows_at_once,
    state_at,
)
from mdm_jax.orders.fidelity.vine import Metrics
from mdm_jax.policies.action_distributions import bernoulli_log_prob, from_logits
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.types import RowKey, Scalar


def trajectory_loss(
    params: Any,
    key: RowKey,
    batch: FidelityBatch,
    *,
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: VineParts,
    group: int = 8,
) -> tuple[Scalar, Metrics]:
    """A loss whose gradient is minus the estimate above, and the denoiser calls that it took."""
    config, forcing, count = parts.config, parts.forcing, len(batch.tokens)
    k_reference, k_price, k_explore = jax.random.split(key, 3)
    sequences = Sequence(batch.tokens, batch.maskable)
    sequential = sequential_likelihood(
        k_reference, sequences, parts.reference, denoise, forcing, config.chunk
    )
    repeat = partial(jax.tree.map, lambda leaf: jnp.repeat(leaf, group, axis=0))
    tokens, maskable, prices, log_sequential = repeat(
        (*sequences, draw_prices(k_price, count, config.prices), sequential.log_prob)
    )
    keys = row_keys(k_explore, jnp.arange(count * group))
    rows = Row(keys, maskable, jnp.zeros(count * group, bool), prices)
    fixed = jax.lax.stop_gradient(replace(policy, params=params))
    seen = explore(tokens, rows, fixed, denoise, forcing, config.chunk)
    worth = capped_ratio(seen.log_prob - log_sequential, config.cap) - prices * seen.state.calls
    worth = (worth / (prices + config.price_offset)).reshape(count, group)
    advantages = (worth - worth.mean(axis=1, keepdims=True)) * group / (group - 1)
    learning = replace(policy, params=params)
    log_prob = partial(path_log_prob, policy=learning, denoise=denoise, parts=parts)
    chunk = rows_at_once(tokens.shape[1], forcing, config.chunk) // forcing.budget
    logs = map_rows(lambda item: log_prob(*item), (seen, rows), max(chunk, 1))
    calls = jnp.sum(sequential.calls) + 2 * jnp.sum(seen.state.calls)  # once more for gradients
    return -jnp.mean(advantages.ravel() * logs), {"calls": calls}


def path_log_prob(
    seen: Exploration, row: Row, policy: AdaptivePolicy, denoise: Denoise, parts: VineParts
) -> Scalar:
    """log-probability of all the sets that a row has drawn, nats."""
    sequence, forcing = Sequence(seen.tokens, row.maskable), parts.forcing

    def at(call: tuple[Array, Array, Array]) -> Scalar:
        is_masked, drawn, calls = call
        state = state_at(is_masked, calls, forcing)
        observation, _ = observe(sequence, state, denoise, forcing)
        features = policy.featurize(observation)._replace(price=row.price)
        bernoulli = from_logits(policy.utilities(features))
        return bernoulli_log_prob(bernoulli, drawn, observation.eligible)

    calls = seen.features.is_masked, seen.sets, jnp.arange(forcing.budget)
    size = rows_at_once(len(seen.tokens), forcing, parts.config.chunk)
    return jnp.sum(map_rows(at, calls, size))


class GradientNoise(NamedTuple):
    """How well a gradient is estimated."""

    noise_to_signal: float  # trace of the covariance / squared norm of the mean
    calls: float  # denoiser calls of one estimate

    @property
    def cost(self) -> float:
        """Denoiser calls after averaging which noise and signal are equal."""
        return self.noise_to_signal * self.calls


def gradient_noise(
    loss: Callable[[PyTree, RowKey], tuple[Scalar, Metrics]],
    params: PyTree,
    keys: Key[Array, " n"],
) -> GradientNoise:
    """From independent estimates of a gradient at the same parameters.

    Args:
      loss: (params, key) -> loss and metrics, among them `calls`.
    """

    @jax.jit
    def estimate(params: PyTree, key: RowKey) -> tuple[Float[Array, " size"], Array]:
        found, metrics = jax.grad(loss, has_aux=True)(params, key)
        return ravel_pytree(found)[0], metrics["calls"]

    flat, calls = zip(*(jax.device_get(estimate(params, key)) for key in keys), strict=True)
    variance = np.sum(np.var(flat, axis=0, ddof=1))
    # the squared norm of a mean of n has n-th of the variance too much
    signal = np.sum(np.mean(flat, axis=0) ** 2) - variance / len(flat)
    return GradientNoise(float(variance / max(signal, 1e-12)), float(np.mean(calls)))
