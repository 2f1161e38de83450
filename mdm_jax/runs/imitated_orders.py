"""Teaching posterior and policy the orders that clean sequences get, before the first update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.variational.demonstrations import demonstrate
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.orders.variational.start import InitConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import clean_batch
from mdm_jax.training.order_imitation import fit_policy, fit_scores

PARTS = 16  # in which clean sequences are followed
POLICY, SCORES = 2, 3  # folded into the key of the choice


class Followed(NamedTuple):
    """Clean sequences in parts of equal size, and the order that each of them gets."""

    batches: list[Sequence]
    orders: list[Int[Array, "n window"]]


def sequences_to_follow(task: Task, seed: int, config: InitConfig) -> list[Sequence]:
    """The clean sequences that orders are followed along."""
    size = -(-config.choice.sequences // PARTS)
    batches = (clean_batch(task, seed, part, size) for part in range(PARTS))
    return [Sequence(*map(jnp.asarray, batch)) for batch in batches]


def imitating_policy(
    policy: Any,
    followed: Followed,
    denoise: Denoise,
    parts: OrderParts,
    seed: int,
    config: InitConfig,
) -> Any:
    """The policy's parameters after imitating the orders; unchanged where it sees hidden states, which
    are too many to keep for all steps.
    """
    if parts.model.hidden or not config.imitation.updates:
        return policy
    shown = [
        demonstrate(orders, batch, denoise, parts)
        for orders, batch in zip(followed.orders, followed.batches, strict=True)
    ]
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), joined(shown))
    key = jax.random.fold_in(stream(seed, Stream.ORDER_CHOICE), POLICY)
    return fit_policy(key, policy, steps, parts, config.imitation)[0]


def imitating_posterior(
    posterior: Any,
    followed: Followed,
    parts: OrderParts,
    seed: int,
    config: InitConfig,
    spacing: float,
) -> tuple[Any, float]:
    """The posterior's parameters after imitating the orders, and how far its scores are off.

    Args:
      spacing: between the scores of neighbouring steps.
    """
    key = jax.random.fold_in(stream(seed, Stream.ORDER_CHOICE), SCORES)
    orders, sequences = joined(followed.orders), joined(followed.batches)
    params, error = fit_scores(key, posterior, orders, sequences, parts, config.scores, spacing)
    return params, float(error)


def joined(parts: list[Any]) -> Any:
    """Batches as one."""
    return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)
