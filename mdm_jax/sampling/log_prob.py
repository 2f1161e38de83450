"""The probability with which the sampler generates a sequence, from when each position was revealed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.policies.base import Clock, Policy, adjust_logits
from mdm_jax.sampling.canvas import after_eos, window_start
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.outputs import apply_logit_mask, at_time
from mdm_jax.sampling.tokens import draw_logits
from mdm_jax.types import Count, Scalar, Tokens


def log_sampler(
    canvas: Tokens,
    tokens: Tokens,
    revealed_at: Int[Array, " window"],
    temperature: Scalar,
    *,
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Scalar:
    """log q(tokens | canvas, order): what the tokens of each call were drawn with, added up, nats.

    The mean of -log q over generations is the entropy of the sampler given the random draws of its
    policy: its entropy where the policy draws nothing at random, and no more than it otherwise. One
    denoiser call for each that the generation took. It is right for policies that only reveal, and whose
    changes of the logits, if any, need no memory. What follows the first EOS of a response was not drawn.

    Args:
      canvas: the prompt.
      tokens: the finished canvas.
      revealed_at: the call that revealed each position of the window; -1: it was given.
      temperature: of the token draws, in place of `config.temperature`.
      policy: that generated; where it changes the logits there are no blocks.
    """
    window = len(revealed_at)
    start = window_start(canvas, config.mask_id, window)
    places, valid = start + jnp.arange(window), canvas != config.pad_id
    steps = jnp.full(canvas.shape, -1).at[places].set(revealed_at)
    drawn = revealed_at >= 0
    if config.eos_id is not None:
        drawn &= ~after_eos(tokens, canvas == config.mask_id, config.eos_id)[places]

    def add(step: Count, total: Scalar) -> Scalar:
        shown = jnp.where(steps >= step, config.mask_id, tokens)
        clock, is_masked = Clock(step, jnp.ones((), jnp.int32)), shown[places] == config.mask_id
        logits = at_time(denoise, policy, clock)(shown, valid, places)
        logits = apply_logit_mask(logits, config)
        logits, _ = adjust_logits(policy, logits, is_masked, clock, policy.init(window))
        kept = draw_logits(logits / temperature, 1.0, config.top_p, config.top_k)
        found = jax.nn.log_softmax(kept, axis=-1)[jnp.arange(window), tokens[places]]
        return total + jnp.sum(jnp.where(drawn & (revealed_at == step), found, 0.0))

    return jax.lax.fori_loop(0, jnp.max(revealed_at) + 1, add, jnp.zeros((), jnp.float32))
