"""The task that something is done with: by name, or that of a run; and where its files are."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mdm_jax.errors import MdmError
from mdm_jax.runs.config import read_task
from mdm_jax.runs.published import is_published
from mdm_jax.tasks import PROMPTED, TASKS
from mdm_jax.tasks.prompted import FreePrompt

T = TypeVar("T")  # a `Task`, whose files are not read before they are needed


def choose_task(
    name: str | None, home: str | Path | None, default: T | None, may_be_free: bool = False
) -> T | None:
    """The task called `name`, in the settings of `home` or of `default` where these have it.

    Args:
      name: of the task; None: that of `home`, else `default`.
      home: run directory, or directory of a published checkpoint, of the denoiser; None: there is none.
      may_be_free: a published checkpoint may be given a free prompt, where no name is.

    Raises:
      MdmError: there is no such task, or none for this denoiser.
    """
    if home and is_published(home):
        return _prompted(home, name, may_be_free)
    if home:
        default = read_task(home)
    if name is not None and name not in TASKS:
        raise MdmError(
            f"task {name!r} is for published checkpoints: give the directory of one"
            if name in PROMPTED
            else f"unknown task {name!r}; choose from {', '.join(TASKS)}"
        )
    if name is None or (default is not None and name == default.name):
        return default
    return TASKS[name]()


def _prompted(checkpoint: str | Path, name: str | None, may_be_free: bool) -> T:
    """The natural-language prompts that a published checkpoint is given."""
    name = FreePrompt.name if name is None and may_be_free else name
    if name not in PROMPTED:
        raise MdmError(
            f"{checkpoint} is a published checkpoint: choose its prompts by --task, one of "
            f"{', '.join(PROMPTED)}" + ("" if name is None else f", not {name!r}")
        )
    return PROMPTED[name](checkpoint=checkpoint)


def with_data_dir(task: T, data_dir: str | None) -> T:
    """The task reading its files from `data_dir`.

    Raises:
      MdmError: the task has no files.
    """
    if data_dir is None:
        return task
    if not hasattr(task, "data_dir"):
        raise MdmError(f"task {task.name} generates its own data: leave out --data_dir {data_dir}")
    return replace(task, data_dir=data_dir)
