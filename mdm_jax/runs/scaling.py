"""Tables of runs for scaling laws, from CSV, JSON lines, or run directories."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, parse_json, read_text, split_lines
from mdm_jax.runs.config import RunConfig, read_config, read_task
from mdm_jax.runs.description import from_json
from mdm_jax.runs.metrics import read_metrics

Columns = dict[str, Float[np.ndarray, " runs"]]
LOSS = "heldout_nelbo_per_token"
SAME_MASKS = ("task", "seed", "heldout_rows")  # settings that the held-out canvases follow from


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of the columns in a file.

    Attributes:
      parameters: of the network, N.
      tokens: positions that training saw, D; where there are none, D = C / (6 N).
      flops: of training, C; where there are none, C = 6 N D.
      loss: nats per token; of distillation, the student's.
      run: a number for each training curve.
      accuracy: share solved; of pass-at-k, the share solved by one of `samples` generations.
      chance: accuracy of guessing, by which accuracies are rescaled.
      samples: independent generations, k.
      calls: denoiser calls of a generation.
      excess: nats that the denoiser loses beside the data's own entropy.
      kl: nats from the data's distribution to the sampler's.
      teacher_loss: nats per token.
      supervised_loss: nats per token of the same student without a teacher.
    """

    parameters: str = "parameters"
    tokens: str = "tokens"
    flops: str = "flops"
    loss: str = "loss"
    run: str = "run"
    accuracy: str = "accuracy"
    chance: str = "chance"
    samples: str = "samples"
    calls: str = "calls"
    excess: str = "excess"
    kl: str = "kl"
    teacher_loss: str = "teacher_loss"
    supervised_loss: str = "supervised_loss"


def read_runs(paths: Sequence[str], names: Mapping[str, str], curves: bool = False) -> Columns:
    """The columns of one file, or of any number of run directories.

    Args:
      names: of columns in a file, by the names that laws have for them.
      curves: every held-out bound of a run directory, not the last alone.

    Raises:
      MdmError: no such file, several files, columns that are not numbers, or runs whose held-out bounds
        have different masks.
    """
    if any(expand(path).is_dir() for path in paths):
        return _from_directories(paths, curves)
    if len(paths) != 1:
        raise MdmError(f"give one file of runs, or run directories, not {len(paths)} files")
    return _from_file(expand(paths[0]), names)


def _from_file(path: Path, names: Mapping[str, str]) -> Columns:
    text = read_text(path)
    if path.suffix == ".csv":
        rows: list[Mapping[str, Any]] = list(csv.DictReader(text.splitlines()))
    else:
        rows = [parse_json(line, where) for line, where in split_lines(text, path)]
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise MdmError(
            f"{path} has no rows of named columns: give CSV with a header, or JSON lines"
        )
    there = {ours: name for ours, name in names.items() if name in rows[0]}
    return {ours: _numbers(rows, name, path) for ours, name in there.items()}


def _numbers(
    rows: Sequence[Mapping[str, Any]], name: str, path: Path
) -> Float[np.ndarray, " runs"]:
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(float(row[name]))
        except (KeyError, TypeError, ValueError) as error:
            raise MdmError(
                f"{path}, run {number}: {name} is {row.get(name)!r}, not a number"
            ) from error
    return np.array(found)


def _from_directories(paths: Sequence[str], curves: bool) -> Columns:
    configs = [read_config(path) for path in paths]
    _check_same_masks(paths, configs)
    rows = []
    for number, (path, config) in enumerate(zip(paths, configs, strict=True)):
        rows += _points(number, path, config)[slice(None) if curves else slice(-1, None)]
    names = ("run", "parameters", "tokens", "flops", "loss")
    return dict(zip(names, np.array(rows, float).T, strict=True))


def _check_same_masks(paths: Sequence[str], configs: Sequence[RunConfig]) -> None:
    """Other masks change a held-out bound by more than a small change of scale does."""
    for path, config in zip(paths, configs, strict=True):
        if config["experiment"] != "train_denoiser":
            raise MdmError(f"{path} is a run of {config['experiment']}, not of train_denoiser")
        for name in SAME_MASKS:
            if config[name] != configs[0][name]:
                raise MdmError(
                    f"{path} and {paths[0]} differ in {name}: their held-out bounds have different "
                    "masks and cannot be compared"
                )


def _points(number: int, path: str, config: RunConfig) -> list[tuple[float, ...]]:
    """(run, parameters, tokens, flops, loss) of every held-out bound of a run."""
    model = from_json(config["model"], TransformerConfig)
    length = read_task(path).length
    each = config["batch_size"] * length
    found = [(row["step"] * each, row[LOSS]) for row in read_metrics(expand(path)) if LOSS in row]
    if not found:
        raise MdmError(f"{path} has no held-out bound yet: train it to its end")
    sizes, per_token = matrix_parameters(model), training_flops_per_token(model, length)
    rows = ((number, sizes, tokens, tokens * per_token, loss) for tokens, loss in found)
    return [tuple(map(float, row)) for row in rows]


def matrix_parameters(model: TransformerConfig) -> int:
    """Parameters of all matrices but the embeddings: 4 w^2 of attention and 3 w m of the MLP a layer."""
    return model.depth * (4 * model.width**2 + 3 * model.width * model.mlp_width)


def training_flops_per_token(model: TransformerConfig, length: int) -> int:
    """6 N + 12 depth width length: attention's products count, embedding and unembedding do not."""
    return 6 * matrix_parameters(model) + 12 * model.depth * model.width * length


def updates_within(flops: float, model: TransformerConfig, length: int, batch_size: int) -> int:
    """Updates that a budget of training FLOPs pays for, by `training_flops_per_token`."""
    return round(flops / (training_flops_per_token(model, length) * length * batch_size))
