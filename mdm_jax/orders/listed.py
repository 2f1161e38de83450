"""What static orders cost where the distribution can be listed: looked up, without a denoiser.

With m(S) = p(x_S), the probability that a drawn sequence agrees with x at the positions S, an exact
conditional is p(x_i | x_S) = m(S + i) / m(S). All m of all sequences are one table.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import LIMIT
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.orders.search import SearchData
from mdm_jax.orders.static import Steps, masked_at
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Mask

MOST_CELLS = 2**26  # of the table: 256 MiB


class ListedSequence(NamedTuple):
    """A clean sequence by its number in the list, its prompt left out of `maskable`."""

    row: Count
    maskable: Mask


@pytree_dataclass
class ListedCosts:
    """`OrderCosts` under exact conditionals, from `log_marginals`."""

    marginals: Float[Array, "count subsets"]
    budget: int = static()

    def __call__(
        self, order: Steps, step: Count, sequence: ListedSequence
    ) -> Float[Array, " window"]:
        maskable = sequence.maskable
        is_masked = masked_at(order, maskable, jnp.zeros_like(maskable), step)
        places = 1 << jnp.arange(len(maskable))
        shown = jnp.sum(jnp.where(is_masked, 0, places))
        known = self.marginals[sequence.row, shown]
        return jnp.where(is_masked, known - self.marginals[sequence.row, shown | places], 0.0)

    def positions(self, sequences: ListedSequence) -> int:
        return sequences.maskable.shape[-1]

    def at_once(self, sequences: ListedSequence) -> int:
        return LIMIT // (4 * self.positions(sequences))


@dataclass(frozen=True, eq=False)
class Listing:
    """A distribution that is small enough for all marginals of its sequences to be kept.

    Attributes:
      table: every sequence.
      probs: of each.
    """

    table: Int[np.ndarray, "count length"]
    probs: Float[np.ndarray, " count"]

    @cached_property
    def marginals(self) -> Float[np.ndarray, "count subsets"]:
        """See `log_marginals`."""
        return log_marginals(self.table, self.probs)

    def costs(self, budget: int) -> ListedCosts:
        """What orders of so many steps cost."""
        return ListedCosts(jnp.asarray(self.marginals), budget)

    def data(
        self, tokens: Int[np.ndarray, "n length"], maskable: Bool[np.ndarray, "n length"]
    ) -> SearchData:
        """Clean sequences to compare orders on, with their exact probabilities.

        Raises:
          ValueError: one is not in the list.
        """
        sequences = listed_sequences(self.table, tokens, maskable)
        return SearchData(sequences, jnp.asarray(-exact_log_prob(self.marginals, sequences)))


def listing_of(denoise: Denoise) -> Listing | None:
    """The listing behind an oracle; None where there is none, or it is too large."""
    if not isinstance(denoise, Oracle):
        return None
    count, length = denoise.table.shape
    if length >= 31 or count * 2**length > MOST_CELLS:
        return None
    return Listing(np.asarray(denoise.table), np.asarray(denoise.probs))


def log_marginals(
    table: Int[np.ndarray, "count length"], probs: Float[np.ndarray, " count"] | None = None
) -> Float[np.ndarray, "count subsets"]:
    """log p(x_S) of every sequence x and set S of positions, nats; bit i of a set's number is position i.

    Args:
      table: every sequence of the distribution.
      probs: of each; None: the same for all.
    """
    table = np.asarray(table)
    count, length = table.shape
    weights = np.ones(count) if probs is None else np.asarray(probs, float)
    places = 1 << np.arange(length)
    mass = np.zeros((count, 2**length), np.float32)
    for row, tokens in enumerate(
        table
    ):  # first by where sequences agree, then summed over supersets
        mass[row] = np.bincount((table == tokens) @ places, weights / weights.sum(), 2**length)
    for place in places:
        halves = mass.reshape(count, -1, 2, place)
        halves[:, :, 0] += halves[:, :, 1]
    return np.log(mass)


def listed_sequences(
    table: Int[np.ndarray, "count length"],
    tokens: Int[np.ndarray, "n length"],
    maskable: Bool[np.ndarray, "n length"],
) -> ListedSequence:
    """Sequences by their numbers.

    Raises:
      ValueError: one is not in the list.
    """
    number = {row.tobytes(): index for index, row in enumerate(np.asarray(table, np.int64))}
    try:
        rows = [number[row.tobytes()] for row in np.asarray(tokens, np.int64)]
    except KeyError:
        raise ValueError("a sequence is not among the listed ones") from None
    return ListedSequence(jnp.asarray(rows, jnp.int32), jnp.asarray(maskable))


def exact_log_prob(
    marginals: Float[np.ndarray, "count subsets"], sequences: ListedSequence
) -> Float[np.ndarray, " n"]:
    """log p(tokens | prompt) of each sequence, nats."""
    rows, maskable = np.asarray(sequences.row), np.asarray(sequences.maskable)
    shown = ~maskable @ (1 << np.arange(maskable.shape[1]))
    return marginals[rows, -1] - marginals[rows, shown]
