"""Bounds on -log p(tokens): single-draw estimates in nats per sequence, and their exact value.

All of them weight the same quantity, the summed negative log-likelihood of the masked tokens; they
differ in how the mask is drawn.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.diffusion.schedules import Schedule, per_masked, weight
from mdm_jax.types import Logits, Mask, Scalar, Tokens


def token_nll(logits: Logits, tokens: Tokens) -> Float[Array, " length"]:
    """-log softmax(logits)[token] in nats, float32, without a full log-softmax."""
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def masked_nll(logits: Logits, tokens: Tokens, is_masked: Mask) -> Scalar:
    """Summed negative log-likelihood of the masked tokens, nats."""
    return jnp.sum(jnp.where(is_masked, token_nll(logits, jnp.where(is_masked, tokens, 0)), 0.0))


def canvas_call(
    denoise: Callable[..., Any],
    tokens: Tokens,
    is_masked: Mask,
    maskable: Mask,
    *,
    mask_id: int,
    pad_id: int,
    window: int | None = None,
) -> tuple[Int[Array, " shown"], Any]:
    """Positions of the canvas that may be masked, and what the denoiser says there.

    Args:
      denoise: called as `Denoise`, such as its own `with_hidden`.
      window: all maskable positions are among this many from the first of them, or the last ones of
        the canvas, and logits are computed for those alone; None: they may be anywhere.
    """
    canvas, valid = apply_mask(tokens, is_masked, mask_id), tokens != pad_id
    positions = jnp.arange(len(tokens))
    if window is None:
        return positions, denoise(canvas, valid)
    positions = jnp.minimum(jnp.argmax(maskable), len(tokens) - window) + jnp.arange(window)
    return positions, denoise(canvas, valid, positions)


def canvas_nll(
    denoise: Denoise,
    tokens: Tokens,
    is_masked: Mask,
    maskable: Mask,
    *,
    mask_id: int,
    pad_id: int,
    window: int | None = None,
) -> Float[Array, " length"]:
    """-log p(token | canvas) at the masked positions, 0 elsewhere, nats: one denoiser call.

    Arguments as `canvas_call`.
    """
    ids = {"mask_id": mask_id, "pad_id": pad_id, "window": window}
    positions, logits = canvas_call(denoise, tokens, is_masked, maskable, **ids)
    counts = is_masked[positions]
    nll = token_nll(logits, jnp.where(counts, tokens[positions], 0))
    return jnp.zeros(tokens.shape, jnp.float32).at[positions].set(jnp.where(counts, nll, 0.0))


def continuous_nelbo(nll: Scalar, t: Scalar, schedule: Schedule) -> Scalar:
    """weight(t) * nll, for a mask drawn at rate 1 - alpha(t) with t uniform in (0, 1].

    Unbiased for the continuous-time bound. With `Linear` this is 1/t * nll, the LLaDA loss; with the
    prompt left out of the maskable positions it is the LLaDA fine-tuning loss.

    Reference: MD4, arXiv:2406.04329, Eq. 4; LLaDA, arXiv:2502.09992, Eq. 3 and 5.
    """
    return weight(schedule, t) * nll


def any_order_nelbo(nll: Scalar, maskable_count: Int[Array, ""], count: Int[Array, ""]) -> Scalar:
    """maskable / count * nll, for a uniform set of `count` masks, count uniform in 1..maskable.

    The same bound as `continuous_nelbo` with bounded weights: the mean over random orders of the
    chain rule. Zero when nothing is maskable. Reference: arXiv:2110.02037 (ARDM), Eq. 3.
    """
    return maskable_count / jnp.maximum(count, 1) * nll


def discrete_nelbo(
    nll: Scalar, step: Int[Array, ""], steps: Int[Array, ""], schedule: Schedule
) -> Scalar:
    """T (alpha(s) - alpha(t)) / (1 - alpha(t)) * nll, t = step/T, s = t - 1/T, step uniform in 1..T.

    For a mask drawn at rate 1 - alpha(t). The bound of the sampler that takes T steps, each position
    revealed independently. Reference: MD4, arXiv:2406.04329, Eq. 3 before the limit.
    """
    t, s = step / steps, (step - 1) / steps
    alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
    return per_masked(steps * (alpha_s - alpha_t), alpha_t) * nll


def subset_masks(maskable: np.ndarray) -> np.ndarray:
    """Every non-empty subset of the maskable positions, [2^k - 1, length] bool.

    Raises:
      ValueError: more than 16 maskable positions.
    """
    positions = np.flatnonzero(np.asarray(maskable))
    if len(positions) > 16:
        raise ValueError(f"{len(positions)} maskable positions have too many subsets; at most 16")
    bits = np.array(list(itertools.product([False, True], repeat=len(positions))), dtype=bool)[1:]
    masks = np.zeros((len(bits), len(maskable)), dtype=bool)
    masks[:, positions] = bits
    return masks


def any_order_weights(masks: np.ndarray, total: int) -> np.ndarray:
    """Weight B(k, total - k + 1) of each mask set of size k in the exact continuous-time bound.

    It is the integral of t^(k-1) (1-t)^(total-k), the same for every schedule.
    """
    sizes = masks.sum(axis=1)
    return np.exp(betaln(sizes, total - sizes + 1))


def bits_per_token(nelbo: float, tokens: float | int) -> float:
    """Bits per token, from nats per sequence of `tokens` tokens."""
    return nelbo / (tokens * math.log(2.0))


def perplexity(nelbo: float, tokens: float | int) -> float:
    """exp of the nats per token."""
    return math.exp(nelbo / tokens)
