"""The denoising loss of a batch, from the parameters of a network."""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.diffusion.context_rates import ContextRates, rated_process
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.diffusion.elbo import canvas_nll
from mdm_jax.diffusion.genmd4 import RATES, Genmd4, two_masks
from mdm_jax.diffusion.objectives import Objective, TimeSampler
from mdm_jax.diffusion.rates import Rates
from mdm_jax.streams import Stream
from mdm_jax.training.packing import packed_nll
from mdm_jax.types import Count, Mask, RowKey, Scalar, Tokens


class TokenBatch(NamedTuple):
    """Clean sequences on the device."""

    tokens: Int[Array, "batch length"]
    maskable: Bool[Array, "batch length"]
    # of packed rows, see `training.packing.pack`; None: one sequence a row
    source: Int[Array, "rows row_length"] | None = None


class Modalities(NamedTuple):
    """How the loss adds up modalities: each as a mean per token, times its weight."""

    stream: Stream
    weights: tuple[float, ...] | None = None  # None: every token counts alike


class CanvasIds(NamedTuple):
    """The two ids that are not tokens, and the number of positions that the masks of a row lie in."""

    mask: int
    pad: int
    window: int | None = None
    modalities: Modalities | None = None  # None: there is one


def row_nelbo(
    key: RowKey,
    tokens: Tokens,
    maskable: Mask,
    t: Scalar,
    denoise: Denoise,
    objective: Objective | Rates | ContextRates,
    ids: CanvasIds,
) -> tuple[Scalar | Float[Array, " length"], Scalar, Count]:
    """One draw of the bound for one sequence.

    Args:
      objective: rates that are learned, or how masks are drawn and weighed.

    Returns:
      The bound in nats per sequence (the part of each position where there are modalities), and over
      all views the summed negative log-likelihood of the masked tokens and their number.
    """
    canvas = {"mask_id": ids.mask, "pad_id": ids.pad, "window": ids.window}
    if isinstance(objective, Rates | ContextRates):
        rates, shown_of = rated_process(denoise, objective, tokens, maskable, **canvas)
        bound, terms = two_masks(key, tokens, maskable, t, rates, shown_of)
        return bound, jnp.sum(terms.nll), jnp.sum(terms.is_masked)
    masks, weights = objective.draw(key, maskable, t)
    nll_of = partial(canvas_nll, **canvas)
    nll = jax.vmap(lambda mask: nll_of(denoise, tokens, mask, maskable))(masks)
    return weighed(masks, weights, nll, maskable, ids)


def weighed(
    masks: Bool[Array, "views length"],
    weights: Float[Array, " views"] | Float[Array, "views length"],
    nll: Float[Array, "views length"],
    maskable: Mask,
    ids: CanvasIds,
) -> tuple[Scalar | Float[Array, " length"], Scalar, Count]:
    """What `row_nelbo` returns, from the negative log-likelihoods of the views."""
    if ids.modalities is not None:
        counts = masks & maskable  # what a prompt shows may be masked, and is not learned
        nll = jnp.where(counts, nll, 0.0)
        weights = weights[:, None] if weights.ndim == 1 else weights
        return jnp.mean(weights * nll, axis=0), jnp.sum(nll), jnp.sum(counts)
    nll = jnp.sum(nll, axis=-1)
    return jnp.mean(weights * nll), jnp.sum(nll), jnp.sum(masks)


def denoising_loss(
    params: Any,
    key: RowKey,
    batch: TokenBatch,
    *,
    module: nn.Module,
    objective: Objective | Genmd4,
    times: TimeSampler,
    ids: CanvasIds,
) -> tuple[Scalar, dict[str, Float[Array, ""]]]:
    """Mean bound per maskable token of a batch, nats.

    Times are drawn for the whole batch, masks with one key per row. An objective with two views is
    given half as many rows for the same cost. A batch with a `source` is computed in packed rows: the
    same masks and the same loss, up to the order of sums.

    Returns:
      The loss, and metrics: `nelbo_per_token` (the loss) and `nll_per_masked_token`, both in nats, and
      `weight`, the maskable tokens. Where there are modalities also `bits_NAME`, the bound of each in
      bits per token; the loss is then weighed by `modality_loss`, the bound is not. Where rates are
      learned, with the parameters `params[RATES]`, also `bits_per_token`, and the range of exponents
      where they do not depend on the sequence.
    """
    more, learned = {}, isinstance(objective, Genmd4)
    if learned:
        objective = objective.rates(params[RATES])
    if isinstance(objective, Rates):
        w = objective.exponents
        more = {"smallest_rate": jnp.min(w), "largest_rate": jnp.max(w)}
    k_times, k_rows = jax.random.split(key)
    count = batch.tokens.shape[0]
    keys, t = row_keys(k_rows, jnp.arange(count)), times(k_times, count)
    if batch.source is None:
        bound, nll, masked = jax.vmap(
            lambda key, tokens, maskable, t: row_nelbo(
                key, tokens, maskable, t, bind(module, params), objective, ids
            )
        )(keys, batch.tokens, batch.maskable, t)
    else:
        masks, weights = jax.vmap(objective.draw)(keys, batch.maskable, t)
        packed = partial(packed_nll, module=module, mask_id=ids.mask)
        nll = jax.vmap(packed, (None, None, 1, None), 1)(params, batch.tokens, masks, batch.source)
        bound, nll, masked = jax.vmap(partial(weighed, ids=ids))(
            masks, weights, nll, batch.maskable
        )
    weight = jnp.sum(batch.maskable).astype(jnp.float32)
    loss = jnp.sum(bound) / jnp.maximum(weight, 1.0)
    per_masked = jnp.sum(nll) / jnp.maximum(jnp.sum(masked), 1)
    metrics = {"nelbo_per_token": loss, "nll_per_masked_token": per_masked, "weight": weight}
    if learned:
        metrics |= more | {"bits_per_token": loss / math.log(2.0)}
    if ids.modalities is None:
        return loss, metrics
    by_modality, more = modality_loss(bound, batch.maskable, ids.modalities)
    return (loss if by_modality is None else by_modality), metrics | more


def modality_loss(
    bound: Float[Array, "batch length"], maskable: Bool[Array, "batch length"], given: Modalities
) -> tuple[Scalar | None, dict[str, Float[Array, ""]]]:
    """sum_m weight_m * (the bound per token of modality m), and `bits_NAME` of each.

    Returns:
      None as the loss where the modalities have no weights.
    """
    stream, found = given.stream, {}
    for name, span in zip(stream.names, stream.spans, strict=True):
        count = jnp.maximum(jnp.sum(maskable[:, span.positions]), 1)
        found[name] = jnp.sum(bound[:, span.positions]) / count
    bits = {f"bits_{name}": nats / math.log(2.0) for name, nats in found.items()}
    if given.weights is None:
        return None, bits
    return sum(w * x for w, x in zip(given.weights, found.values(), strict=True)), bits
