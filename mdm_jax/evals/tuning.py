"""Choosing a setting of a knob on held-out prompts: for a number of calls, or for an accuracy."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mdm_jax.errors import MdmError
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.generate import generate_sweep
from mdm_jax.evals.score import verify_all
from mdm_jax.keys import Stream, stream
from mdm_jax.policies.base import Policy


class Reached(NamedTuple):
    """What one setting reaches on held-out prompts."""

    accuracy: float
    calls: float  # mean denoiser calls


def reached_by(
    evaluator: Evaluator, policies: Sequence[Policy], seed: int, prompts: int, batch_size: int
) -> list[Reached]:
    """Accuracy and calls of policies of one kind on held-out prompts; nothing is stored."""
    task, found = evaluator.task, evaluator.task.examples("heldout", prompts)
    batches = generate_sweep(
        stream(seed, Stream.TUNING),
        found.canvases,
        denoise=evaluator.denoise,
        policies=policies,
        config=evaluator.config,
        batch_size=min(batch_size, evaluator.batch_size, prompts),
    )
    columns = zip(*([one.rollout for one in batch] for batch in batches), strict=True)
    reached = []
    for rollouts in columns:
        canvases, calls = (
            np.concatenate([getattr(one, name) for one in rollouts]) for name in ("canvas", "nfe")
        )
        correct = verify_all(task, canvases, found.references)
        reached.append(Reached(float(correct.mean()), float(calls.mean())))
    return reached


def setting_for(
    reached: Sequence[Reached], *, calls: float | None = None, accuracy: float | None = None
) -> int | None:
    """The most accurate setting in so many calls, or the cheapest that is so accurate; None: none is.

    Raises:
      MdmError: neither or both are wanted.
    """
    if (calls is None) == (accuracy is None):
        raise MdmError("choose a setting by its calls or by its accuracy")
    if calls is not None:
        fits = [i for i, one in enumerate(reached) if one.calls <= calls]
        return max(fits, key=lambda i: (reached[i].accuracy, -reached[i].calls), default=None)
    fits = [i for i, one in enumerate(reached) if one.accuracy >= accuracy]
    return min(fits, key=lambda i: reached[i].calls, default=None)
