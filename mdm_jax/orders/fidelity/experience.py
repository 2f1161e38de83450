"""New rows for the replay: calls of the policy along clean sequences and with tokens of its own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.fidelity.config import CriticParts
from mdm_jax.orders.fidelity.exploration import FidelityBatch, Row, draw_prices, explore
from mdm_jax.orders.fidelity.replay import Steps
from mdm_jax.orders.fidelity.sequential import log_retraced
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.types import RowKey

LOWEST_SURVIVAL = -30.0  # its log


def experience(
    key: RowKey,
    batch: FidelityBatch,
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: CriticParts,
) -> tuple[Steps, dict[str, Array]]:
    """Reveal a batch of sequences by sets that the policy draws.

    Returns:
      The calls, leading axis [batch]; the mean calls of a row, and all denoiser calls that were made.
    """
    config, count = parts.config, len(batch.tokens)
    k_price, k_explore, k_retrace = jax.random.split(key, 3)
    rows = Row(
        row_keys(k_explore, jnp.arange(count)),
        batch.maskable,
        jnp.arange(count) < round(config.on_policy * count),
        draw_prices(k_price, count, config.prices),
    )
    seen = explore(
        batch.tokens, rows, policy, denoise, parts.forcing, config.chunk, config.exploration
    )
    keys = row_keys(k_retrace, jnp.arange(count))
    retraced = log_retraced(keys, seen, rows, parts, denoise)
    before = jnp.cumsum(retraced.log_probs, axis=1) - retraced.log_probs
    ratio = jnp.exp(jnp.clip(before - seen.log_probs, LOWEST_SURVIVAL, 0.0))
    survival = jnp.where(rows.on_policy[:, None], ratio, 1.0)
    walked = jnp.sum(seen.state.calls, dtype=jnp.float32)
    metrics = {
        "walk_calls": walked / count,
        "calls": walked + jnp.sum(retraced.state.calls),
        "survival": jnp.mean(jnp.min(survival, axis=1)),
    }
    return Steps(seen.features, seen.revealed, survival), metrics
