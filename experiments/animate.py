"""One generation as it is revealed."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from rich.live import Live
from rich.text import Text

from experiments.console import console
from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.loop import SamplerConfig, sample_one
from mdm_jax.tasks.base import Task
from mdm_jax.types import Rollout

FRAME_SECONDS = 0.35


def frames(
    rollout: Rollout, canvas: Int[np.ndarray, " length"], config: SamplerConfig
) -> list[Int[np.ndarray, " length"]]:
    """The canvas before the first step and after each, read off the trace."""
    trace = jax.device_get(rollout.trace)
    start = 0 if config.gen_length is None else int(np.argmax(canvas == config.mask_id))
    shown = [np.array(canvas)]
    for step in range(int(rollout.nfe)):
        window = shown[-1][start : start + trace.unmask.shape[1]]
        window = np.where(trace.unmask[step], trace.proposal[step], window)
        window = np.where(trace.remask[step], config.mask_id, window)
        after = shown[-1].copy()
        after[start : start + len(window)] = window
        shown.append(after)
    shown[-1] = np.asarray(rollout.canvas)  # with what was closed after EOS
    return shown


def show_generation(
    key: jax.Array,
    task: Task,
    canvas: Int[np.ndarray, " length"],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Rollout:
    """Generate one sequence; animated in a terminal, its end printed elsewhere."""
    config = replace(config, record=True)
    rollout = sample_one(key, jnp.asarray(canvas), denoise=denoise, policy=policy, config=config)
    rollout = jax.device_get(rollout)
    shown = frames(rollout, canvas, config)
    if not console.is_terminal:
        console.print(Text(task.decode(shown[-1])))
        return rollout
    with Live(console=console, refresh_per_second=20) as live:
        for step, after in enumerate(shown):
            caption = f"{type(policy).__name__}: {step} of {len(shown) - 1} denoiser calls\n"
            live.update(Text(caption + task.decode(after)))
            time.sleep(FRAME_SECONDS)
    return rollout
