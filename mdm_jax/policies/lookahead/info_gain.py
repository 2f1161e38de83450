"""Info-Gain: of several sets of positions the one that leaves least uncertainty for what it costs."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import PolicyState, confidence, entropy, top
from mdm_jax.policies.heuristics import steps_per_block
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Decision, Mask, Observation, RowKey


@pytree_dataclass
class InfoGain:
    """Draws `candidates` sets of ceil(masked / steps) positions by confidence with noise, calls the
    denoiser on what each leads to, and takes the one of largest

      J = - sum of the entropies of its positions - mean entropy of what then stays masked.

    Where some positions have a confidence of at least `certain`, all of these are revealed and nothing is
    compared. A set is the best by confidence / position_temperature plus Gumbel noise.

    Calls are counted as an implementation needs them that keeps the outputs of the set it takes: that
    set's call is the next step's.

    Reference: Info-Gain, arXiv:2602.18176, as in its code; how large sets are and that certain positions
    go alone are readings of notes on it.
    """

    wants_lookahead: ClassVar[bool] = True

    steps: int = 8  # sets in all, if nothing is certain
    candidates: int = static(8)  # sets that are compared
    position_temperature: float = 0.2  # smaller: sets of higher confidence
    certain: float = 0.8  # confidence above which nothing is compared

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("candidates", self.candidates, 1)
        check_range("position_temperature", self.position_temperature, above=0)
        check_range("certain", self.certain)

    def init(self, length: int) -> PolicyState:
        return ()

    def __call__(
        self, key: RowKey, observation: Observation, state: PolicyState
    ) -> tuple[Decision, PolicyState]:
        scores, eligible = confidence(observation.logits), observation.eligible
        count = -(-observation.block_masks // steps_per_block(self.steps, observation))

        def draw(key: RowKey) -> Mask:
            k_noise, k_ties = jax.random.split(key)
            noise = jax.random.gumbel(k_noise, scores.shape, jnp.float32, mode="high")
            return top(k_ties, scores / self.position_temperature + noise, eligible, count)

        reveals = jax.vmap(draw)(jax.random.split(key, self.candidates))
        paid = jnp.sum(jnp.where(reveals, entropy(observation.logits), 0.0), axis=1)
        after = jax.vmap(entropy)(observation.lookahead(reveals))
        left = eligible & ~reveals
        mean = jnp.sum(jnp.where(left, after, 0.0), axis=1) / jnp.maximum(jnp.sum(left, axis=1), 1)
        certain = eligible & (scores >= self.certain)
        compared = ~jnp.any(certain) & (count < jnp.sum(eligible))
        unmask = jnp.where(jnp.any(certain), certain, reveals[jnp.argmax(-paid - mean)])
        calls = jnp.where(compared, self.candidates - 1, 0).astype(jnp.int32)
        return Decision(unmask, jnp.zeros_like(unmask), extra_calls=calls), state
