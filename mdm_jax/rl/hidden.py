"""The denoiser's hidden states of recorded steps, computed again from what it was called on.

Those of all steps of all rollouts would be most of what an iteration has in memory, so they are not kept.
"""

from typing import NamedTuple

import jax.numpy as jnp

from mdm_jax.chunks import canvases_at_once
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.rl.recording import Action
from mdm_jax.sampling.canvas import window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.replay import shown_canvases
from mdm_jax.types import Count, Tokens, Trace


class Call(NamedTuple):
    """What the denoiser was called on at one step, and where the window of the response begins."""

    canvas: Tokens
    start: Count


def check_no_cache(policy: LearnedPolicy, config: SamplerConfig) -> None:
    """Refuse to learn from hidden states that a call on the canvas alone does not give.

    Raises:
      MdmError: the policy reads hidden states, and the sampler has a cache.
    """
    if policy.wants_hidden and config.cache is not None:
        raise MdmError(
            "a policy that reads hidden states learns without a cache, whose hidden states are those "
            "of earlier canvases too: leave SamplerConfig.cache None, or choose other features"
        )


def calls_of(
    trace: Trace, prompt: Tokens, *, policy: LearnedPolicy, config: SamplerConfig
) -> Call | None:
    """The calls of one recorded rollout, [steps, ...]; None for a policy without hidden states."""
    if not policy.wants_hidden:
        return None
    canvases = shown_canvases(trace, prompt, config)
    start = window_start(prompt, config.mask_id, trace.is_masked.shape[-1])
    return Call(canvases, jnp.full(len(canvases), start))


class Reader(NamedTuple):
    """A policy that learns from recorded steps, and the denoiser where it reads hidden states."""

    policy: LearnedPolicy
    denoise: Denoise | None = None
    pad_id: int = -1

    def with_hidden(self, action: Action, call: Call | None) -> Action:
        """The action of one step with the hidden states that its features lack: one denoiser call."""
        if call is None:
            return action
        window = call.start + jnp.arange(len(action.order))
        hidden = self.denoise.with_hidden(call.canvas, call.canvas != self.pad_id, window)[1]
        return action._replace(features=action.features._replace(hidden=hidden))

    def at_once(self, action: Action, call: Call | None) -> int:
        """Steps that are worked on together, at least 1; leading axes do not count."""
        window = action.order.shape[-1]
        if call is None:
            return canvases_at_once(window, 1)
        return canvases_at_once(call.canvas.shape[-1], self.pad_id, window)
