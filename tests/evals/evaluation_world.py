"""Ten puzzles, exact conditionals, and a verifier that can be computed by hand."""

from typing import ClassVar

import jax
import numpy as np

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.evals.store import SampleStore
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Vocabulary
from mdm_jax.tasks.sudoku.task import Sudoku, all_grids

TASK = Sudoku()
EXAMPLES = TASK.examples("test", 10)
ORACLE = oracle_of(all_grids(), 4, TASK.vocabulary.mask_id)
CONFIG = SamplerConfig(temperature=1.0).for_task(TASK)
POLICY = EntropyBound(0.5)


def generated(size, parallel="vmap", config=CONFIG, denoise=ORACLE, **settings):
    """Batches of the puzzles under POLICY."""
    return generate(
        jax.random.key(0),
        EXAMPLES.canvases,
        denoise=denoise,
        policy=POLICY,
        config=config,
        batching=Batching(size, parallel),
        **settings,
    )


def gathered(batches):
    """Canvases, costs and indices of all batches, by increasing index."""
    columns = zip(*((b.rollout.canvas, b.rollout.nfe, b.indices) for b in batches), strict=True)
    columns = [np.concatenate(parts) for parts in columns]
    return [column[np.argsort(columns[2])] for column in columns]


def evaluator(directory, examples=EXAMPLES, **settings):
    """The puzzles, stored in a directory."""
    store = SampleStore(directory / "samples.jsonl")
    return Evaluator(TASK, examples, ORACLE, CONFIG, store, jax.random.key(0), **settings)


class SumTask:
    """Solved where the sum of the canvas equals the reference; verified in plain Python."""

    name: ClassVar[str] = "sum"
    pure_verifier: ClassVar[bool] = False
    length, gen_length, vocabulary = 2, None, Vocabulary(size=9)
    # of no use here
    train_batch = heldout = examples = with_prompts = staticmethod(lambda *_: None)

    def verify(self, canvas, reference):
        assert isinstance(canvas, np.ndarray)
        return int(canvas.sum()) == reference["sum"]

    def decode(self, tokens):
        return " ".join(map(str, tokens))


class PureSumTask(SumTask):
    """The same as pure JAX."""

    pure_verifier: ClassVar[bool] = True

    def verify(self, canvas, reference):
        return canvas.sum() == reference["sum"]
