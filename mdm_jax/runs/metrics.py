"""The metrics of a run: metrics.jsonl, and the same for TensorBoard where asked."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from mdm_jax.errors import MdmError
from mdm_jax.runs.json_files import Path, append_rows, read_rows, replace_text

METRICS = "metrics.jsonl"


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """The rows {"step": updates, name: value, ...} of a run, oldest first."""
    return read_rows(pathlib.Path(directory) / METRICS)


class MetricsLog:
    """Appends rows of metrics to metrics.jsonl of a run directory, and reads them back.

    Rows are kept in memory too, so that every process of a run has them; only the first one writes.

    Args:
        directory: of the run.
        tensorboard: also write DIRECTORY/tensorboard (needs the package tensorboardX).

    Raises:
        MdmError: tensorboardX is asked for and not installed, or metrics.jsonl is damaged.
    """

    def __init__(self, directory: Path, tensorboard: bool = False):
        self.path = pathlib.Path(directory) / METRICS
        self._rows = read_metrics(directory)
        self._open_tensorboard = _summary_writer() if tensorboard else None
        self._tensorboard = None  # opened by the first row, which says what a resumed run replaces

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one row {"step": step, **metrics}; it is on disk when this returns.

        Raises:
            ValueError: if the metrics have a "step" of their own.
        """
        if "step" in metrics:
            raise ValueError(f"'step' is given twice: {step} and {metrics['step']}")
        row = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        append_rows(self.path, [row])
        self._rows.append(row)
        if self._open_tensorboard is not None and jax.process_index() == 0:
            self._append_to_tensorboard(row)

    def rows(self) -> list[dict[str, Any]]:
        """The rows so far, oldest first."""
        return list(self._rows)

    def truncate_after(self, step: int) -> None:
        """Drops the rows of steps > step: they come again when a run resumes from `step`."""
        self._rows = [row for row in self._rows if row["step"] <= step]
        replace_text(self.path, "".join(json.dumps(row) + "\n" for row in self._rows))

    def _append_to_tensorboard(self, row: Mapping[str, Any]) -> None:
        if self._tensorboard is None:
            directory = str(self.path.with_name("tensorboard"))
            self._tensorboard = self._open_tensorboard(directory, purge_step=row["step"])
        for name, value in row.items():
            if name != "step":
                self._tensorboard.add_scalar(name, value, row["step"])
        self._tensorboard.flush()


def _summary_writer() -> Callable[..., Any]:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MdmError(
            "--tensorboard needs a package: pip install 'mdm_jax[tensorboard]'"
        ) from error
    return SummaryWriter
