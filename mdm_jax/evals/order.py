"""In which order positions were revealed."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.policies.base import Policy
from mdm_jax.sampling.loop import SamplerConfig, sample
from mdm_jax.types import RowKey, Trace


def step_of_reveal(trace: Trace) -> Int[Array, " length"]:
    """Step at which each position was last revealed, from 0; -1 where it never was (a prompt)."""
    steps = jnp.arange(trace.unmask.shape[0])[:, None]
    return jnp.max(jnp.where(trace.unmask, steps, -1), axis=0)


def reveal_steps(
    key: RowKey,
    canvases: Int[np.ndarray, "n length"],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Int[np.ndarray, "n window"]:
    """`step_of_reveal` of a batch of canvases, all at once.

    Raises:
      ValueError: the sampler does not record.
    """
    if not config.record:
        raise ValueError("the order is read off the trace: use SamplerConfig(record=True)")
    keys = row_keys(key, jnp.arange(len(canvases)))
    rollout = sample(keys, jnp.asarray(canvases), denoise=denoise, policy=policy, config=config)
    return np.asarray(jax.vmap(step_of_reveal)(rollout.trace))
