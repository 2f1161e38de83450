"""Generations that a search for orders needs: sequential ones, and in an order of each prompt's own."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.likelihood import sequential_likelihood
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.orders.variational.order_choice import NEARLY_SEQUENTIAL
from mdm_jax.policies.given_order import GivenOrder
from mdm_jax.policies.heuristics import LowEntropy
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample, sample_one
from mdm_jax.types import Rollout, RowKey


@partial(jax.jit, static_argnames="forcing")
def sequential(
    key: RowKey, sequences: Sequence, denoise: Denoise, forcing: Forcing
) -> Float[Array, " n"]:
    """log p(tokens | prompt) of sequential decoding, nats."""
    found = sequential_likelihood(key, sequences, NEARLY_SEQUENTIAL, denoise, forcing)
    return found.log_prob


@partial(jax.jit, static_argnames=("config", "count"))
def completions(
    keys: Key[Array, " prompts"],
    canvases: Int[Array, "prompts length"],
    denoise: Denoise,
    config: SamplerConfig,
    count: int,
) -> Int[Array, "prompts count length"]:
    """Each prompt completed `count` times by sequential decoding, at temperature 1."""
    window = config.gen_length or canvases.shape[1]
    slow = replace(config, budget=window, temperature=1.0)

    def of_prompt(item: tuple[Array, Array]) -> Array:
        key, canvas = item
        tiled = jnp.tile(canvas, (count, 1))
        each = jax.random.split(key, count)
        return sample(each, tiled, denoise=denoise, policy=LowEntropy(window), config=slow).canvas

    return jax.lax.map(of_prompt, (keys, canvases))


@partial(jax.jit, static_argnames="config")
def generate_in(
    keys: Key[Array, " prompts"],
    canvases: Int[Array, "prompts length"],
    orders: Int[Array, "prompts window"],
    denoise: Denoise,
    config: SamplerConfig,
) -> Rollout:
    """Complete each canvas in its own order."""

    def one(key: Array, canvas: Array, order: Array) -> Rollout:
        return sample_one(key, canvas, denoise=denoise, policy=GivenOrder(order), config=config)

    return jax.vmap(one)(keys, canvases, orders)
