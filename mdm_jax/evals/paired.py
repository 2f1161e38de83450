"""Two policies on the same prompts: who is better, and how sure that is."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.intervals import Difference, mcnemar_exact, paired_difference
from mdm_jax.evals.labels import is_repeat
from mdm_jax.evals.score import Outcome, Row, take, verify_all
from mdm_jax.runs.json_files import write_json


class PairedRow(NamedTuple):
    """A row of a table, and by how much a reference policy is better on the same prompts."""

    row: Row
    gain: float | None = None  # mean difference of accuracies, the reference minus this one
    low: float | None = None  # 95 % interval
    high: float | None = None
    better: float | None = None  # P(the reference is better)


class StoredComparison(NamedTuple):
    """A policy against another one whose generations are in the same store."""

    label: str  # of the other one
    difference: Difference
    mcnemar: float  # p-value of McNemar's exact test
    prompts: int  # that both have completed


def paired_row(reference: Outcome, other: Outcome) -> PairedRow:
    """The row of `other`, compared with `reference` on the same prompts."""
    gain = paired_difference(*_counts(reference.correct, other.correct))
    return PairedRow(other.row, gain.mean, gain.interval.low, gain.interval.high, gain.probability)


def compare_with_stored(evaluator: Evaluator, outcome: Outcome) -> Iterator[StoredComparison]:
    """An outcome on all prompts against every other policy in the store, on the prompts of both."""
    examples = evaluator.examples
    for label, found in evaluator.store.read_all().items():
        found = found.first(len(examples.canvases))
        if label == outcome.row.label or is_repeat(label) or len(found.index) < 2:
            continue
        references = take(examples.references, found.index)
        theirs = verify_all(evaluator.task, found.tokens, references)
        counts = _counts(outcome.correct[found.index], theirs)
        p_value = mcnemar_exact(counts[1], counts[2])
        yield StoredComparison(label, paired_difference(*counts), p_value, len(found.index))


def save_table(rows: Sequence[PairedRow], path: Path) -> None:
    """Write a table as JSON."""
    write_json(path, [one._asdict() | {"row": asdict(one.row)} for one in rows])


def _counts(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> tuple[int, int, int, int]:
    """Prompts that both solve, only a, only b, and neither."""
    return tuple(int(np.sum(x & y)) for x in (a, ~a) for y in (b, ~b))
