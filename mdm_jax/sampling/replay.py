"""One generation step by step: the canvas before the first denoiser call and after each."""

import jax
import numpy as np
from jaxtyping import Int

from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.types import Rollout

Canvas = Int[np.ndarray, " length"]


def replay_trace(rollout: Rollout, canvas: Canvas, config: SamplerConfig) -> list[Canvas]:
    """The canvases of a recorded rollout.

    Args:
      rollout: of one sequence, with its trace.
      canvas: what it started from.
    """
    trace = jax.device_get(rollout.trace)
    length = trace.unmask.shape[1]
    start = min(int(np.argmax(canvas == config.mask_id)), len(canvas) - length)  # as `prepare` does
    canvases = [np.array(canvas)]
    for step in range(int(rollout.nfe)):
        after = canvases[-1].copy()
        window = after[start : start + length]  # a view
        window[trace.unmask[step]] = trace.proposal[step][trace.unmask[step]]
        window[trace.remask[step]] = config.mask_id
        canvases.append(after)
    canvases[-1] = np.asarray(rollout.canvas)  # with what was closed after EOS
    return canvases


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
