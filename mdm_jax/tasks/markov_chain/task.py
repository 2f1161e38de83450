"""Sequences of a sparse Markov chain: exact conditionals at any length, and a known best order."""

import dataclasses
import functools
import string
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.markov_oracle import MarkovOracle, markov_oracle_of
from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.markov_chain.transitions import draw_chains, draw_transitions, stationary
from mdm_jax.tasks.splits import (
    batch_rng,
    checked_count,
    example_rng,
    prompt_rng,
    shown_at_random,
    world_rng,
)

_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
_HELDOUT_STREAM = (
    1_000_000_000  # indices from here on are held-out sequences, below they are prompts
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkovChain:
    """Complete a sequence so that every step is one that the chain can make.

    Each state allows `successors` next states, of random probabilities; sequences start in the
    stationary distribution. A prompt shows a uniform number of tokens of a sequence at uniform positions.

    Positions of different gaps between revealed tokens are independent, and those of one gap are not.
    So revealing the middle of every gap (`Bisection`) draws from the chain exactly, and no order does so
    in fewer than its ceil(log2(g + 1)) calls, g being the longest gap: 5 for 31 positions.

    Args:
      length: of the sequences.
      states: number of states, at most 62.
      successors: next states that each state allows.
      matrix_seed: of the transition matrix.
      min_revealed, max_revealed: the number of tokens in a prompt is uniform between them.
      num_examples: heldout sequences, and prompts of a split without a count.
    """

    name: ClassVar[str] = "markov_chain"
    pure_verifier: ClassVar[bool] = True

    length: int = 31
    states: int = 8
    successors: int = 3
    matrix_seed: int = 0
    min_revealed: int = 0
    max_revealed: int = 3
    num_examples: int = 256

    def __post_init__(self):
        if not 2 <= self.successors <= self.states <= len(_LETTERS):
            raise MdmError(
                f"successors {self.successors} and states {self.states} must satisfy "
                f"2 <= successors <= states <= {len(_LETTERS)}"
            )
        if not 0 <= self.min_revealed <= self.max_revealed < self.length:
            raise MdmError(
                f"tokens revealed from {self.min_revealed} to {self.max_revealed}: they must satisfy "
                f"0 <= min_revealed <= max_revealed <= {self.length - 1}"
            )
        if self.length < 2 or self.num_examples < 1 or self.matrix_seed < 0:
            raise MdmError(
                f"length {self.length} must be at least 2, num_examples {self.num_examples} at least "
                f"1, and matrix_seed {self.matrix_seed} not negative"
            )

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(size=self.states)

    @property
    def gen_length(self) -> None:
        return None

    @functools.cached_property
    def transitions(self) -> Float[np.ndarray, "states states"]:
        """The transition matrix: row = state, column = next state."""
        return draw_transitions(world_rng(self.matrix_seed), self.states, self.successors)

    @functools.cached_property
    def initial(self) -> Float[np.ndarray, " states"]:
        """The stationary distribution."""
        return stationary(self.transitions)

    def oracle(self) -> MarkovOracle:
        """The exact denoiser."""
        mask_id = self.vocabulary.mask_id
        return markov_oracle_of(self.transitions, self.initial, self.length, mask_id)

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        return self._batch(batch_rng(seed, step).random((size, self.length)))

    def heldout(self) -> Batch:
        rngs = (example_rng("heldout", _HELDOUT_STREAM + i) for i in range(self.num_examples))
        return self._batch(np.stack([rng.random(self.length) for rng in rngs]))

    def _batch(self, uniforms: Float[np.ndarray, "batch length"]) -> Batch:
        tokens = draw_chains(uniforms, self.transitions, self.initial)
        return Batch(tokens=tokens, maskable=np.ones(tokens.shape, bool))

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Prompts, any number of them; the reference of each is the prompt itself."""
        rngs = [example_rng(split, i) for i in range(checked_count(count, self.num_examples))]
        tokens = self._batch(np.stack([rng.random(self.length) for rng in rngs])).tokens
        shown = np.concatenate([self._shown(rng, 1) for rng in rngs])
        canvases = np.where(shown, tokens, np.int32(self.vocabulary.mask_id))
        return Examples(canvases=canvases, references=canvases)

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """In each row a uniform number of tokens at uniform positions, as `examples` shows them."""
        shown = self._shown(prompt_rng(seed), len(batch.tokens))
        return batch._replace(maskable=batch.maskable & ~shown)

    def _shown(self, rng: np.random.Generator, size: int) -> Bool[np.ndarray, "size length"]:
        return shown_at_random(rng, (size, self.length), self.min_revealed, self.max_revealed)

    def verify(
        self,
        canvas: Int[Array | np.ndarray, " length"],
        reference: Int[Array | np.ndarray, " length"],
    ) -> Bool[Array, ""]:
        """Whether every transition is possible and every token of the prompt is kept. Pure JAX."""
        canvas, reference = jnp.asarray(canvas), jnp.asarray(reference)
        possible = jnp.asarray(self.transitions > 0)[canvas[:-1], canvas[1:]]
        kept = (reference == self.vocabulary.mask_id) | (reference == canvas)
        return jnp.all(canvas < self.states) & jnp.all(possible) & jnp.all(kept)

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """A letter for each state; MASK is `▁`."""
        shown = [*_LETTERS[: self.states], "▁", ""]
        return "".join(shown[token] for token in np.asarray(tokens).tolist())
