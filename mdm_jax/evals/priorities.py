"""When a learned order reveals each position: the posterior's expectation, and the policy's choice."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.keys import root_key
from mdm_jax.orders.variational.evaluation import FittedOrder
from mdm_jax.orders.variational.forms.base import draw_path
from mdm_jax.orders.variational.loss import scores_of
from mdm_jax.orders.variational.model import Sequence, eos_places, response
from mdm_jax.runs.orders import LearnedOrder
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Batch, Task
from mdm_jax.types import RowKey

EXAMPLES = 4  # that are shown
PATHS = 64  # of the posterior, for each of them


class Priorities(NamedTuple):
    """Steps of reveal of a few sequences."""

    posterior: Float[np.ndarray, "n window"]  # expected
    policy: Int[np.ndarray, "n window"]  # where it generates from the same prompt
    given: Bool[np.ndarray, "n window"]


def example_priorities(
    task: Task, learned: LearnedOrder, posterior_temperature: float, temperature: float
) -> Priorities:
    """The priorities of a few held-out sequences with their prompts shown.

    Args:
      temperature: of the policy's token draws.
    """
    clean = task.heldout()
    chosen = np.unique(np.linspace(0, len(clean.tokens) - 1, EXAMPLES).astype(int))
    data = task.with_prompts(Batch(clean.tokens[chosen], clean.maskable[chosen]), seed=0)
    k_posterior, k_policy = jax.random.split(root_key(0))
    order = FittedOrder(learned.parts, learned.params, posterior_temperature)
    expected, given = posterior_steps(k_posterior, order, data, learned.denoise)
    config = SamplerConfig(temperature=temperature).for_task(task)
    prompts = np.where(data.maskable, np.int32(config.mask_id), data.tokens)
    (batch,) = generate(
        k_policy,
        prompts,
        denoise=learned.denoise,
        policy=learned.policy,
        config=config,
        batching=Batching(len(prompts)),
    )
    return Priorities(expected, batch.rollout.revealed_at, given)


def posterior_steps(
    key: RowKey, order: FittedOrder, data: Batch, denoise: Denoise
) -> tuple[Float[np.ndarray, "n window"], np.ndarray]:
    """The step at which the posterior reveals each position, mean over `PATHS` paths, and what is
    given and never revealed.
    """
    parts, model = order.parts, order.parts.model

    def row(row: tuple[RowKey, Sequence], denoise: Denoise) -> tuple[Array, Array]:
        key, sequence = row
        here = response(sequence, model)
        maskable, ends = sequence.maskable[here], eos_places(sequence, here, model)
        scores = scores_of(order.params, sequence, parts, denoise).priority / order.temperature

        def masked_after(key: RowKey, steps: Array) -> Array:
            path = draw_path(key, model.form, scores, maskable, steps, model.budget, ends)
            return path.is_masked

        def revealed_at(key: RowKey) -> Array:
            steps = jnp.arange(1, model.budget)
            return jnp.sum(jax.vmap(partial(masked_after, key))(steps), axis=0)

        return jnp.mean(jax.lax.map(revealed_at, jax.random.split(key, PATHS)), axis=0), ~maskable

    keys = row_keys(key, jnp.arange(len(data.tokens)))
    rows = keys, Sequence(*map(jnp.asarray, data))
    mapped = jax.jit(lambda rows, denoise: jax.lax.map(partial(row, denoise=denoise), rows))
    found = mapped(rows, denoise)
    return tuple(np.asarray(part) for part in found)
