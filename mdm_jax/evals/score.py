"""Scoring finished canvases: which solve their prompts, and the row of a table that follows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.store import Generations
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import read_rows, replace_text
from mdm_jax.tasks.base import Task


@dataclass(frozen=True)
class Row:
    """One line of a table: a policy at one setting, its accuracy and its cost."""

    policy: str
    settings: Mapping[str, Any]
    correct: int
    total: int
    accuracy: float
    low: float  # 95 % interval, Beta(1, 1) posterior
    high: float
    nfe: float  # mean denoiser calls per sequence,
    nfe_min: int
    nfe_max: int
    passes: float  # and the calls that a batch executed, mean over batches
    sequences_per_second: float | None  # compilation left out; None where nothing else was timed
    label: str = ""  # of its generations in the store
    tokens_per_call: float | None = (
        None  # generated before the end of the response, per denoiser call
    )


class Outcome(NamedTuple):
    """A table row and, for paired comparisons, which examples were solved."""

    row: Row
    correct: Bool[np.ndarray, " n"]


def verify_all(
    task: Task, canvases: Int[np.ndarray, "n length"], references: Any
) -> Bool[np.ndarray, " n"]:
    """Which finished canvases solve their prompt.

    Args:
      references: as in `Examples`, a pytree of arrays with leading axis n.
    """
    if task.pure_verifier:
        references = jax.tree.map(jnp.asarray, references)
        return np.asarray(_verifier(task)(jnp.asarray(canvases), references))
    verdicts = [task.verify(canvas, take(references, i)) for i, canvas in enumerate(canvases)]
    return np.asarray(verdicts, dtype=bool)


@lru_cache(maxsize=8)
def _verifier(task: Task) -> Callable:
    def verify(canvases: Array, references: Any) -> Array:
        size = canvases_at_once(canvases.shape[1], 1)
        return map_rows(lambda row: task.verify(*row), (canvases, references), size)

    return jax.jit(verify)


def take(references: Any, rows: Int[np.ndarray, " n"] | int) -> Any:
    """The references of some examples, or of one."""
    return jax.tree.map(lambda leaf: leaf[rows], references)


def row_of(
    policy: str,
    settings: Mapping[str, Any],
    label: str,
    correct: Bool[np.ndarray, " n"],
    found: Generations,
) -> Row:
    """The table row of stored generations.

    Args:
      policy: its name.
      settings: its own and the sampler's.
      label: what the store calls them.
      correct: which generations solve their prompt.
      found: those generations.
    """
    right, total = int(np.sum(correct)), len(correct)
    interval = beta_interval(right, total)
    timed = found.seconds[np.isfinite(found.seconds)]
    return Row(
        policy=policy,
        settings=settings,
        correct=right,
        total=total,
        accuracy=right / total,
        low=interval.low,
        high=interval.high,
        nfe=float(np.mean(found.nfe)),
        nfe_min=int(np.min(found.nfe)),
        nfe_max=int(np.max(found.nfe)),
        passes=float(np.mean(found.passes)),
        sequences_per_second=float(1 / np.mean(timed)) if len(timed) else None,
        label=label,
    )


def keep_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row to a JSON-lines file, in the place of an earlier one of the same policy and settings."""
    others = [other for other in read_rows(path) if other.get("label") != row["label"]]
    replace_text(path, "".join(json.dumps(describe(one)) + "\n" for one in (*others, row)))
