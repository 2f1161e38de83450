"""The denoising loss of a batch, from the parameters of a network."""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.diffusion.elbo import canvas_nll
from mdm_jax.diffusion.objectives import Objective, TimeSampler
from mdm_jax.types import Count, Mask, RowKey, Scalar, Tokens


class TokenBatch(NamedTuple):
    """Clean sequences on the device."""

    tokens: Int[Array, "batch length"]
    maskable: Bool[Array, "batch length"]


class CanvasIds(NamedTuple):
    """The two ids that are not tokens, and the number of positions that the masks of a row lie in."""

    mask: int
    pad: int
    window: int | None = None


def row_nelbo(
    key: RowKey,
    tokens: Tokens,
    maskable: Mask,
    t: Scalar,
    denoise: Denoise,
    objective: Objective,
    ids: CanvasIds,
) -> tuple[Scalar, Scalar, Count]:
    """One draw of the bound for one sequence.

    Returns:
      The bound in nats per sequence, and over all views the summed negative log-likelihood of the
      masked tokens and their number.
    """
    masks, weights = objective.draw(key, maskable, t)
    nll_of = partial(canvas_nll, mask_id=ids.mask, pad_id=ids.pad, window=ids.window)
    nll = jnp.sum(jax.vmap(lambda mask: nll_of(denoise, tokens, mask, maskable))(masks), axis=-1)
    return jnp.mean(weights * nll), jnp.sum(nll), jnp.sum(masks)


def denoising_loss(
    params: Any,
    key: RowKey,
    batch: TokenBatch,
    *,
    module: nn.Module,
    objective: Objective,
    times: TimeSampler,
    ids: CanvasIds,
) -> tuple[Scalar, dict[str, Float[Array, ""]]]:
    """Mean bound per maskable token of a batch, nats.

    Times are drawn for the whole batch, masks with one key per row. An objective with two views is
    given half as many rows for the same cost.

    Returns:
      The loss, and metrics: `nelbo_per_token` (the loss) and `nll_per_masked_token`, both in nats, and
      `weight`, the maskable tokens.
    """
    k_times, k_rows = jax.random.split(key)
    count = batch.tokens.shape[0]
    bound, nll, masked = jax.vmap(
        lambda key, tokens, maskable, t: row_nelbo(
            key, tokens, maskable, t, bind(module, params), objective, ids
        )
    )(row_keys(k_rows, jnp.arange(count)), batch.tokens, batch.maskable, times(k_times, count))
    weight = jnp.sum(batch.maskable).astype(jnp.float32)
    loss = jnp.sum(bound) / jnp.maximum(weight, 1.0)
    per_masked = jnp.sum(nll) / jnp.maximum(jnp.sum(masked), 1)
    return loss, {"nelbo_per_token": loss, "nll_per_masked_token": per_masked, "weight": weight}
