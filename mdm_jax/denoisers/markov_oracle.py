"""Exact conditionals of a Markov chain, of any length: from powers of its transition matrix."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Count, Mask, Scalar, Tokens


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
        wanted = self._places(canvas) if positions is None else positions
        mass = self._mass(canvas, shown, wanted)
        possible = jnp.any(mass > 0, axis=-1, keepdims=True)
        return jnp.log(jnp.where(possible, mass, 1.0))

    def _mass(
        self, canvas: Tokens, shown: Mask, wanted: Int[Array, " wanted"]
    ) -> Float[Array, "wanted vocab"]:
        """Probabilities of the tokens at `wanted`, up to a factor; all 0 in a contradiction."""
        before = jax.lax.cummax(jnp.where(shown, self._places(canvas), -1))[wanted]
        return self._from(before, wanted, canvas) * self._towards(canvas, shown, wanted)

    def _towards(
        self, canvas: Tokens, shown: Mask, wanted: Int[Array, " wanted"]
    ) -> Float[Array, "wanted vocab"]:
        """Probability of the next revealed token given each token at `wanted`; 1 where there is none."""
        length = len(canvas)
        after = jnp.where(shown, self._places(canvas), length)
        after = jax.lax.cummin(after, reverse=True)[wanted]
        to = self.powers[after - wanted, :, canvas[after]]
        return jnp.where((after < length)[:, None], to, 1.0)

    def joint_entropy(self, canvas: Tokens, chosen: Mask) -> Scalar:
        """Entropy of the tokens at `chosen`, masked positions, given the revealed ones, nats: a chain
        of conditionals, each given the position before it that is chosen or revealed. Positions between
        tokens that contradict each other are independent and uniform.
        """
        shown, place = canvas != self.mask_id, self._places(canvas)
        mass = self._mass(canvas, shown, place)
        alone = _normalised(mass)
        before = _strictly_before(shown | chosen)
        then = self.powers[place - before] * self._towards(canvas, shown, place)[:, None, :]
        given = jnp.where(shown[:, None], jax.nn.one_hot(canvas, self.vocab), alone)[before]
        after = jnp.sum(given * _entropy(_normalised(then)), axis=-1)
        found = jnp.where(before < 0, _entropy(alone), after)
        found = jnp.where(jnp.any(mass > 0, axis=-1), found, jnp.log(float(self.vocab)))
        return jnp.sum(jnp.where(chosen, found, 0.0))

    def with_dependence(
        self, canvas: Tokens, valid: Mask, positions: Int[Array, " wanted"] | None = None
    ) -> tuple[Float[Array, "wanted vocab"], Float[Array, "wanted wanted"]]:
        """Logits, and sum_ab |p(a_i, b_j) - p(a_i) p(b_j)| / 2 of each pair: see `DenoiseDependence`.

        Two positions of one gap depend on each other, one row of pairs at a time; others do not.
        """
        shown, place = valid & (canvas != self.mask_id), self._places(canvas)
        alone = _normalised(self._mass(canvas, shown, place))
        towards = self._towards(canvas, shown, place)
        gap = jnp.cumsum(shown)

        def row(i: Count) -> Float[Array, " length"]:
            """Of position i with every later one."""
            then = _normalised(self.powers[place - i] * towards[:, None, :])
            apart = jnp.abs(then - alone[:, None, :])
            found = jnp.einsum("v,jvw->j", alone[i], apart, precision="highest") / 2
            return jnp.where((place > i) & (gap == gap[i]) & ~shown[i] & ~shown, found, 0.0)

        upper = jax.lax.map(row, place)
        both, wanted = upper + upper.T, place if positions is None else positions
        return self(canvas, valid, positions), both[wanted][:, wanted]

    def log_prob(self, canvas: Tokens) -> Scalar:
        """Log-probability that a drawn sequence has the revealed tokens, nats."""
        shown, place = canvas != self.mask_id, self._places(canvas)
        tokens = jnp.where(shown, canvas, 0)
        prob = self._from(_strictly_before(shown), place, canvas)[place, tokens]
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


def _strictly_before(here: Mask) -> Int[Array, " length"]:
    """The nearest position to the left that is marked; -1 where there is none."""
    nearest = jax.lax.cummax(jnp.where(here, jnp.arange(len(here)), -1))
    return jnp.concatenate([jnp.full(1, -1, nearest.dtype), nearest[:-1]])


def _normalised(mass: Float[Array, "*lead vocab"]) -> Float[Array, "*lead vocab"]:
    """Probabilities from masses; zeros stay zeros."""
    total = jnp.sum(mass, axis=-1, keepdims=True)
    return mass / jnp.where(total > 0, total, 1.0)


def _entropy(probs: Float[Array, "*lead vocab"]) -> Float[Array, "*lead"]:
    """Entropies, nats."""
    logs = jnp.log(jnp.where(probs > 0, probs, 1.0))
    return -jnp.sum(probs * logs, axis=-1)


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
