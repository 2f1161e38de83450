"""Exact conditionals of a distribution that can be written down as a list of sequences."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Scalar, Tokens


@pytree_dataclass
class Oracle:
    """p(token | canvas) by summing over every sequence that agrees with the revealed tokens.

    Meets `DenoiseExact`. A canvas that no sequence agrees with (a contradiction, which parallel reveals
    produce) has uniform conditionals. Make one with `oracle_of`.
    """

    table: Int[Array, "count length"]
    probs: Float[Array, " count"]
    vocab: int = static()
    mask_id: int = static()

    def _mass(self, canvas: Tokens, valid: Mask) -> Float[Array, " count"]:
        """Weight of each sequence, zero where it contradicts the canvas."""
        open_ = (canvas == self.mask_id) | ~valid
        return self.probs * jnp.all(open_ | (self.table == canvas), axis=-1)

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        table = self.table if positions is None else self.table[:, positions]
        ids = jax.nn.one_hot(table, self.vocab)
        totals = jnp.einsum("n,nlv->lv", self._mass(canvas, valid), ids, precision="highest")
        consistent = jnp.sum(totals, axis=-1, keepdims=True) > 0
        return jnp.log(jnp.where(consistent, totals, 1.0))

    def with_dependence(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted wanted"]]:
        """Logits, and sum_ab |p(a_i, b_j) - p(a_i) p(b_j)| / 2 of each pair: see `DenoiseDependence`."""
        table = self.table if positions is None else self.table[:, positions]
        mass = self._mass(canvas, valid)
        shares = mass / jnp.where(jnp.sum(mass) > 0, jnp.sum(mass), 1.0)
        ids = jax.nn.one_hot(table, self.vocab)
        pairs = jnp.einsum("n,niv,njw->ijvw", shares, ids, ids, precision="highest")
        alone = jnp.einsum("n,nlv->lv", shares, ids, precision="highest")
        apart = alone[:, None, :, None] * alone[None, :, None, :]
        found = jnp.sum(jnp.abs(pairs - apart), axis=(2, 3)) / 2
        return self(canvas, valid, positions), found * ~jnp.eye(len(found), dtype=bool)

    def log_prob(self, canvas: Tokens) -> Scalar:
        """Log-probability that a drawn sequence agrees with the revealed tokens, nats."""
        mass = self._mass(canvas, jnp.ones(canvas.shape, bool))
        return jnp.log(jnp.sum(mass) / jnp.sum(self.probs))

    def joint_entropy(self, canvas: Tokens, chosen: Mask) -> Scalar:
        """Entropy of the tokens at `chosen`, given the revealed ones, nats; compares all pairs of
        sequences. Where no sequence fits, that of independent uniform tokens.
        """
        mass = self._mass(canvas, jnp.ones(canvas.shape, bool))
        total = jnp.sum(mass)
        mass = mass / jnp.where(total > 0, total, 1.0)
        ids = jax.nn.one_hot(self.table, self.vocab) * chosen[:, None]
        ids = ids.reshape(len(self.table), -1)
        alike = jnp.dot(ids, ids.T, precision="highest") > jnp.sum(chosen) - 0.5
        together = jnp.dot(alike.astype(jnp.float32), mass, precision="highest")
        found = -jnp.sum(jnp.where(mass > 0, mass * jnp.log(together), 0.0))
        return jnp.where(total > 0, found, jnp.sum(chosen) * jnp.log(float(self.vocab)))


def oracle_of(
    table: Int[np.ndarray, "count length"],
    vocab: int,
    mask_id: int,
    probs: Float[np.ndarray, " count"] | None = None,
) -> Oracle:
    """The oracle of `table`, each row with its probability (default: the same for all).

    Equal rows keep whole-number weights, so conditionals that are equal in exact arithmetic are equal
    in float32 and ties stay ties.

    Raises:
      ValueError: ids outside 0..vocab-1, mask_id among them, or probabilities that do not fit.
    """
    table = np.asarray(table)
    if table.ndim != 2 or table.size == 0 or table.min() < 0 or table.max() >= vocab:
        raise ValueError(f"table must be [count, length] of ids below {vocab}, got {table.shape}")
    if 0 <= mask_id < vocab:
        raise ValueError(f"mask_id {mask_id} is one of the {vocab} ids that the table may hold")
    weights = np.ones(len(table)) if probs is None else np.asarray(probs, dtype=float)
    if weights.shape != (len(table),) or weights.min() < 0 or not weights.sum() > 0:
        raise ValueError(f"need {len(table)} non-negative probabilities, got {weights.shape}")
    return Oracle(
        table=jnp.asarray(table, jnp.int32),
        probs=jnp.asarray(weights, jnp.float32),
        vocab=vocab,
        mask_id=mask_id,
    )
