"""config.json of a run directory read back: the experiment, its settings, its task."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import CONFIG, DENOISER, FORMAT, TOKENIZER, experiment_of
from mdm_jax.runs.json_files import read_json
from mdm_jax.tasks import PROMPTED, TASKS
from mdm_jax.tasks.base import Task

TRAINING = (
    "train_denoiser",
    "learn_variational_order",
    "learn_order",
    "learn_policy",
    "learn_pairs",
)


class RunConfig(dict):
    """config.json as a dict; a key that it lacks is an MdmError that names the file."""

    def __init__(self, path: Path, values: dict[str, Any]):
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise MdmError(f"{self.path} has no {key!r}: it is damaged")


def read_config(run: str | Path) -> RunConfig:
    """config.json of a training run; its "experiment" is one of `TRAINING`.

    Raises:
      MdmError: not the directory of a training run, or one of an earlier version.
    """
    path = expand(run) / CONFIG
    if not path.is_file():
        raise MdmError(f"{run} is no run directory (it has no {CONFIG}): train first")
    config = read_json(path)
    if not isinstance(config, dict) or not {"task", "experiment"} & config.keys():
        raise MdmError(_not_trained(run))
    if config.get("format") != FORMAT:
        raise MdmError(f"{run} was written by an earlier version of mdm_jax: train again")
    if experiment_of(config) not in TRAINING:
        raise MdmError(_not_trained(run))
    config["experiment"] = experiment_of(config)
    return RunConfig(path, config)


def _not_trained(run: str | Path) -> str:
    return (
        f"{run} is no training run: give a directory of train_denoiser, quickstart, learn_order, "
        "learn_variational_order, learn_policy or learn_pairs"
    )


def read_task(run: str | Path) -> Task:
    """The task of a run, with the tokenizer stored in the run directory."""
    config = read_config(run)
    task = from_json(config.get("task"), *TASKS.values(), *PROMPTED.values())
    tokenizer = expand(run) / TOKENIZER
    if tokenizer.is_file():
        return replace(task, tokenizer_file=str(tokenizer))
    if config["experiment"] != "train_denoiser" and hasattr(task, "tokenizer_file"):
        return replace(task, tokenizer_file=read_task(denoiser_run(run, config)).tokenizer_file)
    return task


def denoiser_run(run: str | Path, config: dict[str, Any]) -> str | Path:
    """The run (or published checkpoint) of the denoiser that an order or a policy learned with.

    Raises:
      MdmError: it is the run itself.
    """
    home = expand(config.get("denoiser") or expand(run) / DENOISER)
    if home.resolve() == expand(run).resolve():
        raise MdmError(f"{expand(run) / CONFIG} names the run itself as its denoiser")
    return home
