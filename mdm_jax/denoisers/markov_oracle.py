"""Exact conditionals of a Markov chain, of any length: from powers of its transition matrix."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Scalar, Tokens


@pytree_dataclass
class MarkovOracle:
    """p(token | canvas) of a Markov chain with transition matrix P.

    Only the nearest revealed neighbours count: with a to the left and b to the right of position i,

      p(x_i | x_a, x_b) is proportional to P^(i-a)[x_a, x_i] P^(b-i)[x_i, x_b],

    the marginal of i in place of the first factor where nothing to the left is revealed, and 1 in place
    of the second where nothing to the right is. Meets `DenoiseExact`, at O(length * vocab) per canvas.
    Between two tokens that contradict each other the conditionals are uniform; those of other gaps do
    not change. Make one with `markov_oracle_of`.

    Reference: exact conditionals of chains in place of a denoiser, by forward-backward passes: Tang, Yu,
    Zhang and Ver Steeg, arXiv:2602.19619.
    """

    powers: Float[Array, "length vocab vocab"]  # P^0, P^1, ...
    marginals: Float[Array, "length vocab"]
    mask_id: int = static()

    @property
    def vocab(self) -> int:
        """Number of states."""
        return self.marginals.shape[-1]

    def __call__(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> Float[Array, "wanted vocab"]:
        shown = valid & (canvas != self.mask_id)
        place = self._places(canvas)
        wanted = place if positions is None else positions
        before = jax.lax.cummax(jnp.where(shown, place, -1))[wanted]
        after = jax.lax.cummin(jnp.where(shown, place, len(canvas)), reverse=True)[wanted]
        left = self._from(before, wanted, canvas)
        to = self.powers[after - wanted, :, canvas[after]]
        mass = left * jnp.where((after < len(canvas))[:, None], to, 1.0)
        possible = jnp.any(mass > 0, axis=-1, keepdims=True)
        return jnp.log(jnp.where(possible, mass, 1.0))

    def log_prob(self, canvas: Tokens) -> Scalar:
        """Log-probability that a drawn sequence has the revealed tokens, nats."""
        shown, place = canvas != self.mask_id, self._places(canvas)
        nearest = jax.lax.cummax(jnp.where(shown, place, -1))
        before = jnp.concatenate([jnp.full(1, -1, nearest.dtype), nearest[:-1]])
        tokens = jnp.where(shown, canvas, 0)
        prob = self._from(before, place, canvas)[place, tokens]
        return jnp.sum(jnp.where(shown, jnp.log(prob), 0.0))

    def _places(self, canvas: Tokens) -> Int[Array, " length"]:
        if len(canvas) > len(self.powers):
            raise ValueError(
                f"a canvas of {len(canvas)} is longer than {len(self.powers)} positions"
            )
        return jnp.arange(len(canvas))

    def _from(
        self, before: Int[Array, " wanted"], wanted: Int[Array, " wanted"], canvas: Tokens
    ) -> Float[Array, "wanted vocab"]:
        """p(token at `wanted` | token at `before`); the marginals where `before` is -1."""
        given = self.powers[wanted - before, canvas[before]]
        return jnp.where((before < 0)[:, None], self.marginals[wanted], given)


def markov_oracle_of(
    transitions: Float[np.ndarray, "vocab vocab"],
    initial: Float[np.ndarray, " vocab"],
    length: int,
    mask_id: int,
) -> MarkovOracle:
    """The oracle of sequences of `length` tokens; rows of `transitions` add up to one.

    Raises:
      ValueError: no probabilities, or mask_id is a state.
    """
    rows = np.concatenate([transitions, initial[None, :]])
    if rows.min() < 0 or not np.allclose(rows.sum(axis=1), 1.0):
        raise ValueError("rows of transitions, and initial, must be non-negative and add up to one")
    if 0 <= mask_id < len(initial):
        raise ValueError(f"mask_id {mask_id} is one of the {len(initial)} states")
    powers = [np.eye(len(initial))]
    for _ in range(length - 1):
        powers.append(powers[-1] @ transitions)
    stacked = np.stack(powers)
    return MarkovOracle(
        powers=jnp.asarray(stacked, jnp.float32),
        marginals=jnp.asarray(initial @ stacked, jnp.float32),
        mask_id=mask_id,
    )
