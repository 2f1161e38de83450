"""Directories of evaluations: one task, one split, one seed, one denoiser; any number of policies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdm_jax.evals.store import SampleStore
from mdm_jax.runs.directory import open_run
from mdm_jax.tasks.base import Task

# settings of a task that change no generation
NO_IDENTITY = ("task.checkpoint", "task.execute", "task.limits")


def open_store(
    directory: Path,
    experiment: str,
    task: Task,
    split: str,
    seed: int,
    denoiser: Mapping[str, Any],
) -> SampleStore:
    """The generations kept in a directory, which is created or must belong to the same settings.

    Args:
      experiment: name of the entry point.
      denoiser: what identifies its weights.

    Raises:
      ValueError: the directory belongs to other settings, or to something else.
    """
    same = {"task": task, "split": split, "seed": seed} | dict(denoiser)
    open_run(directory, experiment, same, ignore=NO_IDENTITY)
    return SampleStore(directory / "samples.jsonl")
