"""Distributions with exact conditionals that every policy is measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.limits import StateGraph, state_graph
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Batch
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.chains.listed import listed_answers
from mdm_jax.tasks.markov_chain import MarkovChain, transition_error
from mdm_jax.tasks.splits import shown_at_random
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.tasks.sudoku.symmetries import grid_symmetries
from mdm_jax.tasks.sudoku.task import all_grids

CHAINS = Chains(depth=2, max_operand=4, operators="+-", max_value=9)
CLUES = 4
PAIRS, VALUES = 4, 4


@dataclass(frozen=True, eq=False)
class World:
    """A distribution, and what its sequences show of themselves as a prompt.

    Attributes:
      name: as people see it.
      told: what it is, in a sentence.
      oracle: exact conditionals.
      draw: (generator, count) -> clean sequences, what is generated in `maskable`; the same number of
        positions in each.
      probs: of all the sequences of `table`, where they are listed and there is no prompt.
      sequences: all of them where prompts show some of their tokens, uniform.
      symmetries: permutations of the rows of `table` or `sequences` that change nothing; see
        `orders.limits`.
      shown: positions that a prompt shows.
      transition_error: of sequences of a chain; 0 for infinitely many of its own. None: no chain.
      task: name of the task whose learned policies can be measured here.
    """

    name: str
    told: str
    oracle: DenoiseExact
    draw: Callable[[np.random.Generator, int], Batch]
    table: Int[np.ndarray, "count length"] | None = None
    probs: Float[np.ndarray, " count"] | None = None
    sequences: Int[np.ndarray, "count length"] | None = None
    symmetries: Sequence[Int[np.ndarray, " count"]] = ()
    shown: int = 0
    transition_error: Callable[[Int[np.ndarray, "n length"]], float] | None = None
    task: str | None = None

    def graph(self) -> StateGraph | None:
        """The states of generation, from which the best policy follows; None: not listed."""
        sequences = self.table if self.sequences is None else self.sequences
        if sequences is None:
            return None
        return state_graph(sequences, self.probs, (self.shown,), self.symmetries)

    @property
    def length(self) -> int:
        """Positions of a sequence."""
        return self.draw(np.random.default_rng(0), 1).tokens.shape[1]

    @property
    def pad_id(self) -> int:
        """The id after MASK."""
        return max(self.oracle.vocab, self.oracle.mask_id + 1)

    def sampling(self, length: int) -> SamplerConfig:
        """Tokens drawn as the oracle says, one call per position if need be."""
        ids = {"mask_id": self.oracle.mask_id, "pad_id": self.pad_id}
        return SamplerConfig(**ids, budget=length, temperature=1.0, record=True)


def listed_world(
    name: str,
    told: str,
    table: Int[np.ndarray, "count length"],
    vocab: int,
    probs: Float[np.ndarray, " count"] | None = None,
) -> World:
    """The world of a list of sequences, all of them generated from nothing."""
    shares = np.full(len(table), 1 / len(table)) if probs is None else probs

    def draw(rng: np.random.Generator, count: int) -> Batch:
        tokens = table[rng.choice(len(table), count, p=shares)]
        return Batch(tokens, np.ones(tokens.shape, bool))

    oracle = oracle_of(table, vocab, vocab, probs)
    return World(name, told, oracle, draw, table, shares)


def empty_sudoku() -> World:
    """All of 4x4 Sudoku."""
    world = listed_world("sudoku", "4x4 Sudoku, an empty grid", all_grids(), 4)
    return replace(world, symmetries=grid_symmetries(), task=Sudoku.name)


def sudoku_with_clues() -> World:
    """4x4 Sudoku where a prompt shows some cells."""
    grids, task = all_grids(), Sudoku()

    def draw(rng: np.random.Generator, count: int) -> Batch:
        tokens = grids[rng.integers(len(grids), size=count)]
        return Batch(tokens, ~shown_at_random(rng, tokens.shape, CLUES, CLUES))

    told = f"4x4 Sudoku, {CLUES} random cells shown"
    world = World("sudoku-clues", told, task.oracle(), draw, task=task.name)
    return replace(world, sequences=grids, symmetries=grid_symmetries(), shown=CLUES)


def chain_world(task: MarkovChain) -> World:
    """Sequences of a Markov chain, from nothing."""

    def draw(rng: np.random.Generator, count: int) -> Batch:
        return task.train_batch(int(rng.integers(2**31)), 0, count)

    told = (
        f"a chain of {task.length} tokens, {task.states} states, {task.successors} next ones each"
    )
    chain = {"transitions": task.transitions, "initial": task.initial}
    error = partial(transition_error, **chain)
    return World("markov-chain", told, task.oracle(), draw, transition_error=error, task=task.name)


def copy_pairs() -> Int[np.ndarray, "count length"]:
    """Uniform tokens, then the same tokens again."""
    half = np.indices((VALUES,) * PAIRS).reshape(PAIRS, -1).T
    return np.concatenate([half, half], axis=1).astype(np.int32)


def all_worlds() -> list[World]:
    """What the table of exact results is about."""
    answers, chances = listed_answers(CHAINS)
    return [
        empty_sudoku(),
        sudoku_with_clues(),
        listed_world(
            "chains",
            "worked answers such as <<3+2=5>><<5-1=4>>####4, their prompt not shown",
            answers,
            CHAINS.vocabulary.size,
            chances,
        ),
        chain_world(MarkovChain()),
        listed_world(
            "copy-pairs",
            f"{PAIRS} uniform tokens, each of them twice",
            copy_pairs(),
            VALUES,
        ),
    ]
