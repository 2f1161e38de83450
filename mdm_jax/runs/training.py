"""A training in a run directory: settings, metrics, checkpoints, and the updates that are left to do."""

from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mdm_jax import sharding
from mdm_jax.errors import check_range, check_seed
from mdm_jax.runs.description import describe
from mdm_jax.runs.directory import CHECKPOINTS, open_run
from mdm_jax.runs.metrics import MetricsLog
from mdm_jax.runs.reporter import Reporter
from mdm_jax.tasks.base import Task, identity_of
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training import checkpoints
from mdm_jax.training.loop import Row, Services, Update, fit, not_finite
from mdm_jax.training.state import BatchTree, TrainState
from mdm_jax.types import RowKey


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ABC):
    """Settings of every training.

    Attributes:
      task: what is generated.
      data_dir: where the task's files are, for tasks that need some.
      run_dir: where everything is written; None: runs/EXPERIMENT-TASK, with what tells runs apart.
      steps: updates (of a policy from rewards: iterations).
      save_every: updates between checkpoints; the last update always has one.
      log_every: updates between rows of metrics.jsonl.
      tensorboard: write the metrics for TensorBoard, too (needs the package tensorboardX).
      seed: of everything that is random.
    """

    task: Task = field(default_factory=Sudoku)
    data_dir: str | None = None
    run_dir: str | None = None
    steps: int
    save_every: int
    log_every: int = 10
    tensorboard: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "save_every", "log_every"):
            check_range(name, getattr(self, name), 1)
        check_seed(self.seed)


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


@contextmanager
def training_run(
    config: TrainingConfig,
    experiment: str,
    ignore: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Iterator[TrainingRun]:
    """The run directory of a config, new or with checkpoints to resume from.

    Args:
      ignore: settings that may differ when a run is resumed.
      given: what else is learned from, and may not differ either.
    """
    described = describe(replace(config, run_dir=None)) | identity_of(config.task) | (given or {})
    with open_training(
        config.run_dir,
        experiment,
        described,
        ignore=("tensorboard", *ignore),
        tensorboard=config.tensorboard,
    ) as training:
        yield training


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What the updates of a training are, and what is shown of them.

    Attributes:
      title: of the progress bar.
      update, batch_at, key: as in `fit`.
      note: a row of metrics in a few words.
      evaluate, eval_every, guard: as in `Services`.
    """

    title: str
    update: Update
    batch_at: Callable[[int], BatchTree]
    key: RowKey
    note: Callable[[Row], str]
    evaluate: Callable[[TrainState, Row], Row] | None = None
    eval_every: int = 1
    guard: Callable[[int, Row], str | None] = not_finite


def run_updates(
    config: TrainingConfig,
    training: TrainingRun,
    state: TrainState,
    updates: Updates,
    reporter: Reporter,
) -> TrainState:
    """All updates that are left to do, with progress, metrics and checkpoints.

    Args:
      state: before the first update; a resumed run continues from its latest checkpoint.
    """
    state = training.resume(state)
    done = int(state.step)
    if done:
        reporter.say(f"resuming from update {done} of {training.directory}")
    with reporter.progress(updates.title, config.steps, done) as advance:
        services = Services(
            checkpoints=training.checkpoints,
            save_every=config.save_every,
            log=training.log.append,
            log_every=config.log_every,
            evaluate=updates.evaluate,
            eval_every=updates.eval_every,
            guard=updates.guard,
            progress=advance,
            note=updates.note,
        )
        key = sharding.shard(updates.key, sharding.replicated(sharding.make_mesh()))
        return fit(
            state, updates.update, updates.batch_at, key, steps=config.steps, services=services
        )
