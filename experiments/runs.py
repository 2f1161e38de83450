"""Reading a run directory back: its task, its network, its averaged weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.tasks import TASKS
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema

CHECKPOINTS = "checkpoints"
TOKENIZER = "tokenizer.json"


class LoadedRun(NamedTuple):
    """A trained denoiser, the task it was trained on, and its number of updates."""

    denoise: Bound
    task: Task
    step: int


def read_config(run: str | Path) -> dict[str, Any]:
    """config.json of a run directory.

    Raises:
      ValueError: not the directory of a training run.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        raise ValueError(f"{run} is no run directory (it has no config.json): train first")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"task", "model"} <= config.keys():
        raise ValueError(
            f"{run} is no training run: give the directory of train_denoiser or quickstart as --run"
        )
    return config


def read_task(run: str | Path) -> Task:
    """The task of a run, with the tokenizer that the run carries."""
    described = dict(read_config(run)["task"])
    kinds = {task.__name__: task for task in TASKS.values()}
    task = kinds[described.pop("kind")](**described)
    tokenizer = Path(run) / TOKENIZER
    return replace(task, tokenizer_file=str(tokenizer)) if tokenizer.is_file() else task


def load_run(run: str | Path, task: Task | None = None) -> LoadedRun:
    """The denoiser of a run with its averaged weights.

    Args:
      run: run directory of `experiments.train_denoiser` or `experiments.quickstart`.
      task: what it will be used on; None: what it was trained on.

    Raises:
      ValueError: no run, no readable checkpoint, or the task has other ids than the one trained on.
    """
    trained_on = read_task(run)
    task = trained_on if task is None else task
    if task.vocabulary != trained_on.vocabulary:
        raise ValueError(
            f"{run} was trained with {trained_on.vocabulary}, but task {task.name} has {task.vocabulary}"
        )
    described = dict(read_config(run)["model"])
    described.pop("kind")
    module = Transformer(TransformerConfig(**described), task.vocabulary.size)
    shapes = jax.eval_shape(lambda: init_params(module, trained_on, jax.random.key(0)))
    params, step = restore_ema(Path(run) / CHECKPOINTS, shapes)
    return LoadedRun(bind(module, params), task, step)


def init_params(module: Transformer, task: Task, key: jax.Array) -> Any:
    """Fresh parameters of a network for a task's canvases."""
    canvas = jnp.full((task.length,), task.vocabulary.mask_id)
    return module.init(key, canvas, jnp.ones(canvas.shape, bool))["params"]
