"""Sudoku: a small world with exact conditionals (4x4), and the field's standard puzzle (9x9)."""

import dataclasses
import functools
import itertools
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.denoisers.oracle import Oracle, oracle_of
from mdm_jax.errors import MdmError
from mdm_jax.tasks.base import Batch, Examples, Vocabulary
from mdm_jax.tasks.splits import (
    batch_rng,
    checked_count,
    example_rng,
    prompt_rng,
    shown_at_random,
)
from mdm_jax.tasks.sudoku.solver import EMPTY, puzzle_from, random_grid, random_symmetries

_DEFAULT_CLUES = {4: (0, 4), 9: (32, 32)}
_FEWEST_CLUES = {4: 0, 9: 17}  # no 9x9 puzzle with 16 clues has one solution (McGuire et al. 2012)
_GRID_STREAM = 1_000_000_000  # indices from here on are full grids, below they are puzzles


@functools.cache
def all_grids() -> Int[np.ndarray, "288 16"]:
    """All 288 solved 4x4 grids, row-major, token id = digit - 1, in lexicographic order."""
    rows = np.array(list(itertools.permutations(range(4))), np.int32)
    bands = np.concatenate([np.repeat(rows, 24, axis=0), np.tile(rows, (24, 1))], axis=1)
    boxes = np.sort(bands[:, [[0, 1, 4, 5], [2, 3, 6, 7]]], axis=-1)
    bands = bands[(boxes == np.arange(4)).all(axis=(1, 2))]
    n = len(bands)
    grids = np.concatenate([np.repeat(bands, n, axis=0), np.tile(bands, (n, 1))], axis=1)
    grids = grids[(np.sort(_units(grids, 4), axis=-1) == np.arange(4)).all(axis=(1, 2))]
    grids.setflags(write=False)
    return grids


def _units(
    grids: Int[Array | np.ndarray, "*lead cells"], side: int
) -> Int[Array | np.ndarray, "*lead units side"]:
    """[..., side * side] -> [..., 3 * side, side]: its rows, columns and boxes."""
    box = 2 if side == 4 else 3
    cells = np.arange(side * side).reshape(side, side)
    boxes = cells.reshape(box, box, box, box).swapaxes(1, 2).reshape(side, side)
    return grids[..., np.concatenate([cells, cells.T, boxes])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sudoku:
    """Complete a grid so that every row, column and box holds each digit once.

    Cells are row-major, token id = digit - 1, all side * side positions may be masked; no EOS.

    side 4: training draws from all 288 grids; a prompt shows a uniform number of clues in uniform
    cells of a uniform grid, and any completion that respects them counts.
    side 9: training draws `base_grids` searched grids under random symmetries; prompts are puzzles
    with one solution, from grids of another stream. A puzzle from which nothing more can be removed
    keeps more than the drawn number of clues (from about 25 clues downwards).

    Args:
      side: 4 or 9.
      min_clues, max_clues: the number of clues is uniform between them. None: 0 and 4 for side 4,
        32 and 32 for side 9; when one alone is given, the other default is moved to admit it.
      base_grids: searched grids behind the training stream of side 9; side 4 has all 288 instead.
      num_examples: prompts of a split without a count.
    """

    name: ClassVar[str] = "sudoku"
    pure_verifier: ClassVar[bool] = True

    side: int = 4
    min_clues: int | None = None
    max_clues: int | None = None
    base_grids: int = 1000
    num_examples: int = 256

    def __post_init__(self):
        if self.side not in _DEFAULT_CLUES:
            raise MdmError(f"side {self.side} is not available: choose 4 or 9")
        fewest, most = self.clue_range
        if not _FEWEST_CLUES[self.side] <= fewest <= most < self.length:
            raise MdmError(
                f"clues from {fewest} to {most}: for side {self.side} they must satisfy "
                f"{_FEWEST_CLUES[self.side]} <= min_clues <= max_clues <= {self.length - 1}"
            )
        if self.base_grids < 1 or self.num_examples < 1:
            raise MdmError(
                f"base_grids {self.base_grids} and num_examples {self.num_examples} "
                "must be at least 1"
            )

    @property
    def clue_range(self) -> tuple[int, int]:
        """The fewest and the most clues of a prompt, defaults filled in."""
        fewest, most = _DEFAULT_CLUES[self.side]
        if self.min_clues is not None:
            fewest, most = self.min_clues, max(most, self.min_clues)
        if self.max_clues is not None:
            most = self.max_clues
            fewest = min(fewest, most) if self.min_clues is None else fewest
        return fewest, most

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(size=self.side)

    @property
    def length(self) -> int:
        return self.side * self.side

    @property
    def gen_length(self) -> None:
        return None

    @functools.cached_property
    def _grids(self) -> Int[np.ndarray, "grids length"]:
        if self.side == 4:
            return all_grids()
        return self._searched("train", self.base_grids)

    def _searched(self, split: str, count: int) -> Int[np.ndarray, "grids length"]:
        rngs = (example_rng(split, _GRID_STREAM + index) for index in range(count))
        return np.stack([random_grid(rng) for rng in rngs])

    def train_batch(self, seed: int, step: int, size: int) -> Batch:
        rng = batch_rng(seed, step)
        grids = self._grids[rng.integers(len(self._grids), size=size)]
        return self._batch(grids if self.side == 4 else random_symmetries(grids, rng))

    @property
    def holds_out(self) -> bool:
        """Whether `heldout` are grids that training never sees: not where all grids are trained on."""
        return self.side != 4

    def heldout(self) -> Batch:
        """side 4: all 288 grids (there are no others); side 9: `num_examples` fresh grids."""
        return self._batch(
            self._grids if self.side == 4 else self._searched("heldout", self.num_examples)
        )

    def _batch(self, grids: Int[np.ndarray, "batch length"]) -> Batch:
        tokens = grids.astype(np.int32)
        return Batch(tokens=tokens, maskable=np.ones(tokens.shape, bool))

    def examples(self, split: str = "test", count: int | None = None) -> Examples:
        """Puzzles, any number of them; the reference of each is the puzzle itself."""
        count = checked_count(count, self.num_examples)
        puzzles = [self._puzzle(example_rng(split, index)) for index in range(count)]
        canvases = np.where(np.stack(puzzles) == EMPTY, self.vocabulary.mask_id, puzzles)
        return Examples(canvases=canvases.astype(np.int32), references=canvases.astype(np.int32))

    def with_prompts(self, batch: Batch, seed: int) -> Batch:
        """In each row a uniform number of clues, within `clue_range`, in uniform cells.

        A function of the seed and the batch's size. For side 4 that is how `examples` draw them. For
        side 9 clue cells are uniform instead of searched, so the solution need not be unique.
        """
        shown = shown_at_random(prompt_rng(seed), batch.tokens.shape, *self.clue_range)
        return batch._replace(maskable=batch.maskable & ~shown)

    def oracle(self) -> Oracle:
        """The exact denoiser of side 4, from all 288 grids; MdmError for side 9."""
        if self.side != 4:
            raise MdmError(
                f"side {self.side} has no oracle: its solved grids, about 6.7e21, are too many for a "
                "table; only side 4 has one"
            )
        return oracle_of(all_grids(), self.vocabulary.size, self.vocabulary.mask_id)

    def _puzzle(self, rng: np.random.Generator) -> Int[np.ndarray, " length"]:
        fewest, most = self.clue_range
        clues = int(rng.integers(fewest, most + 1))
        if self.side == 9:
            return puzzle_from(random_grid(rng), clues, rng)
        grid = self._grids[rng.integers(len(self._grids))]
        shown = rng.permutation(self.length) < clues
        return np.where(shown, grid, EMPTY)

    def verify(
        self,
        canvas: Int[Array | np.ndarray, " length"],
        reference: Int[Array | np.ndarray, " length"],
    ) -> Bool[Array, ""]:
        """Whether the grid is solved and shows every clue of the puzzle. Pure JAX."""
        canvas, reference = jnp.asarray(canvas), jnp.asarray(reference)
        units = jnp.sort(_units(canvas, self.side), axis=-1)
        kept = (reference == self.vocabulary.mask_id) | (reference == canvas)
        return (units == jnp.arange(self.side)).all() & kept.all()

    def decode(self, tokens: Int[Array | np.ndarray, " length"]) -> str:
        """The grid drawn with lines between boxes; an open cell is a dot."""
        box = 2 if self.side == 4 else 3
        marks = [str(t + 1) if t < self.side else "." for t in np.asarray(tokens).tolist()]
        groups = [" ".join(marks[i : i + box]) for i in range(0, self.length, box)]
        lines = ["|".join(groups[i : i + box]) for i in range(0, len(groups), box)]
        rule = "+".join(["-" * (2 * box - 1)] * box)
        bands = ["\n".join(lines[i : i + box]) for i in range(0, self.side, box)]
        return f"\n{rule}\n".join(bands)
