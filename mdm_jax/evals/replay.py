"""Generations as text, step by step: made now with their trace, or read from a store."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import NOT_FINITE, MdmError
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample_one
from mdm_jax.sampling.replay import replay_reveals, replay_trace
from mdm_jax.tasks.base import Task, TextTask
from mdm_jax.types import Rollout, RowKey


class Replay(NamedTuple):
    """A generation as it was revealed."""

    rollout: Rollout  # host arrays
    prompt: str | None  # of natural-language prompts, which may be long
    frames: list[str]  # the canvas, or the response after such a prompt, before and after each call


def generate_replay(
    key: RowKey,
    task: Task,
    canvas: Int[np.ndarray, " length"],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Replay:
    """Complete one canvas and replay it.

    Raises:
      MdmError: logits that are NaN or infinite.
    """
    config = replace(config, record=True)
    rollout = sample_one(key, jnp.asarray(canvas), denoise=denoise, policy=policy, config=config)
    rollout = jax.device_get(rollout)
    if not rollout.finite:
        raise MdmError(f"the denoiser's logits {NOT_FINITE}")
    part, prompt = slice(None), None
    if isinstance(task, TextTask):
        start = int(np.argmax(canvas == config.mask_id))
        part, prompt = slice(start, start + config.gen_length), task.decode(canvas[:start])
    frames = [task.decode(after[part]) for after in replay_trace(rollout, canvas, config)]
    return Replay(rollout, prompt, frames)


def stored_frames(evaluator: Evaluator, label: str) -> list[str]:
    """The first stored generation of a policy as text, before and after each denoiser call.

    Args:
      label: what the store calls the policy's generations.
    """
    found, task = evaluator.store.read(label), evaluator.task
    shown = replay_reveals(
        evaluator.examples.canvases[0],
        found.tokens[0],
        found.revealed_at[0],
        task.vocabulary.mask_id,
    )
    return [task.decode(tokens) for tokens in shown]
