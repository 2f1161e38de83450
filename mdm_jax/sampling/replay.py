"""One generation step by step: the canvas before the first denoiser call and after each."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdm_jax.sampling.canvas import window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.types import Rollout, Tokens, Trace

Canvas = Int[np.ndarray, " length"]


def shown_canvases(
    trace: Trace, canvas: Tokens, config: SamplerConfig
) -> Int[Array, "budget length"]:
    """The canvas that the denoiser was called on at every step; the finished one at steps not needed.

    Args:
      trace: of one sequence.
      canvas: what it started from.
    """
    length, mask_id = trace.is_masked.shape[-1], config.mask_id
    start = window_start(canvas, mask_id, length)

    def step(written: Tokens, now: Trace) -> tuple[Tokens, Tokens]:
        closed = mask_id if config.eos_id is None else config.eos_id  # by an EOS: never written
        window = jnp.where(written == mask_id, closed, written)
        window = jnp.where(now.is_masked, mask_id, window)
        written = jnp.where(now.unmask, now.proposal, written)
        return jnp.where(now.remask, mask_id, written), window

    window = jax.lax.dynamic_slice(canvas, (start,), (length,))
    windows = jax.lax.scan(step, window, trace._replace(record=None))[1]
    return jax.vmap(lambda window: jax.lax.dynamic_update_slice(canvas, window, (start,)))(windows)


def replay_trace(rollout: Rollout, canvas: Canvas, config: SamplerConfig) -> list[Canvas]:
    """The canvases of a recorded rollout: before its first call, and after each.

    Args:
      rollout: of one sequence, with its trace.
      canvas: what it started from.
    """
    shown = shown_canvases(rollout.trace, jnp.asarray(canvas, jnp.int32), config)
    return [*np.asarray(shown)[: int(rollout.nfe)], np.asarray(rollout.canvas)]


def replay_reveals(
    canvas: Canvas, tokens: Canvas, revealed_at: Int[np.ndarray, " window"], mask_id: int
) -> list[Canvas]:
    """The same without a trace, where nothing was re-masked.

    Args:
      tokens: the finished canvas.
      revealed_at: the step of every position of the window; -1: given.
    """
    steps = np.full(len(canvas), -1)
    steps[canvas == mask_id] = revealed_at[revealed_at >= 0]
    return [np.where(steps >= step, mask_id, tokens) for step in range(steps.max() + 2)]
