"""The run directory of a training: its metrics and checkpoints, new or resumed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mdm_jax.runs.directory import CHECKPOINTS, open_run
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.training import checkpoints
from mdm_jax.training.state import TrainState


class TrainingRun(NamedTuple):
    """An open run directory."""

    directory: Path
    log: MetricsLog
    checkpoints: checkpoints.Manager

    @property
    def is_new(self) -> bool:
        """Whether there is no checkpoint yet."""
        return self.checkpoints.latest_step() is None

    def resume(self, state: TrainState) -> TrainState:
        """The latest saved state, placed as `state` is, and `state` itself in a new run.

        Rows of metrics of later updates are dropped, since they come again.
        """
        state = checkpoints.restore(self.checkpoints, state)
        self.log.truncate_after(int(state.step))
        return state


@contextmanager
def open_training(
    directory: str | Path,
    experiment: str,
    config: Any,
    *,
    ignore: Sequence[str] = (),
    tensorboard: bool = False,
) -> Iterator[TrainingRun]:
    """Opens a run directory (see `open_run`); every checkpoint is complete when the block ends.

    Args:
      tensorboard: metrics are written for TensorBoard, too.
    """
    with open_run(directory, experiment, config, ignore) as home:
        log = MetricsLog(home, tensorboard)
        with checkpoints.open_manager(home / CHECKPOINTS) as manager:
            yield TrainingRun(home, log, manager)
