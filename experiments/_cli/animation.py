"""One generation as it is revealed."""

import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from rich.live import Live
from rich.text import Text

from experiments._cli.console import console
from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample_one
from mdm_jax.sampling.replay import replay_trace
from mdm_jax.tasks.base import Task, TextTask
from mdm_jax.types import Rollout

FRAME_SECONDS, LONGEST_SECONDS = 0.35, 30.0


def show_generation(
    key: jax.Array,
    task: Task,
    canvas: Int[np.ndarray, " length"],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Rollout:
    """Generate one sequence; animated in a terminal, its end printed elsewhere.

    Natural-language prompts may be long: they are printed once, and only the response is animated.
    """
    config = replace(config, record=True)
    rollout = sample_one(key, jnp.asarray(canvas), denoise=denoise, policy=policy, config=config)
    rollout = jax.device_get(rollout)
    part = slice(None)
    if isinstance(task, TextTask):
        start = int(np.argmax(canvas == config.mask_id))
        part = slice(start, start + config.gen_length)
        console.print(Text(task.decode(canvas[:start]), style="dim"))
    shown = [task.decode(after[part]) for after in replay_trace(rollout, canvas, config)]
    play(shown, type(policy).__name__)
    return rollout


def play(texts: list[str], title: str) -> None:
    """Show the texts one after another in a terminal; elsewhere print the last."""
    if not console.is_terminal:
        console.print(Text(texts[-1]))
        return
    with Live(console=console, refresh_per_second=20) as live:
        for step, text in enumerate(texts):
            live.update(Text(f"{title}: {step} of {len(texts) - 1} denoiser calls\n{text}"))
            time.sleep(min(FRAME_SECONDS, LONGEST_SECONDS / len(texts)))
