"""Directories of evaluations: one task, one split, one seed, one denoiser; any number of policies."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdm_jax.evals.store import SAMPLES, SampleStore
from mdm_jax.runs.directory import open_run
from mdm_jax.tasks.base import Task, identity_of

COMPARISON = "comparison"  # in the directory of a run that compares what it has learned
# settings of a task that change no generation: where its files are, whose content counts, and scoring
PATHS = ("task.checkpoint", "task.data_dir", "task.cache_dir", "task.tokenizer_file")
NO_IDENTITY = (*PATHS, "task.execute", "task.limits")


@contextmanager
def open_store(
    directory: Path,
    experiment: str,
    task: Task,
    split: str,
    seed: int,
    denoiser: Mapping[str, Any] | None = None,
) -> Iterator[SampleStore]:
    """The generations kept in a directory, which is created or must belong to the same settings.

    No other process can open it while the block runs. Each policy has its own label in the store, which
    also stands for the sampler's settings, the key and the denoiser (see `Evaluator.label`), and each
    generation what it was asked.

    Args:
      experiment: name of the entry point.
      denoiser: what identifies its weights; None: several denoisers may be compared.

    Raises:
      MdmError: the directory belongs to other settings or to something else, or is in use.
    """
    same = {"task": task, "split": split, "seed": seed} | identity_of(task) | dict(denoiser or {})
    with open_run(directory, experiment, same, ignore=NO_IDENTITY) as home:
        yield SampleStore(home / SAMPLES)
