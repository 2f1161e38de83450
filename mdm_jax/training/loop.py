"""The training loop of denoisers, orders and policies: rows of metrics, checkpoints, reasons to stop."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax

from mdm_jax.errors import NOT_FINITE, MdmError
from mdm_jax.training.checkpoints import Manager, save
from mdm_jax.training.interruption import Interrupted, interruptions
from mdm_jax.training.state import BatchTree, Metrics, TrainState
from mdm_jax.types import RowKey

Row = dict[str, float]
Update = Callable[[TrainState, RowKey, BatchTree], tuple[TrainState, Metrics]]


class TrainingStopped(MdmError):
    """The guard stopped the training after update `step`, because of `reason`."""

    def __init__(self, step: int, reason: str):
        super().__init__(f"training stopped at update {step}: {reason}")
        self.step, self.reason = step, reason


def not_finite(step: int, row: Row) -> str | None:
    """The usual guard: a reason to stop once logits, the loss or its gradient are not finite."""
    if row.get("finite_rollouts", 1.0) < 1.0:
        return f"the denoiser's logits {NOT_FINITE}"
    for name in ("loss", "nelbo", "nelbo_per_token", "grad_norm"):
        if not math.isfinite(row.get(name, 0.0)):
            advice = "lower the learning rate"
            if step == 1:
                advice = "check the weights and the data that the training starts from"
            return f"{name} is {row[name]}; {advice}"
    return None


@dataclass(frozen=True, kw_only=True)
class Services:
    """What `fit` does beside the updates.

    Attributes:
      checkpoints: where states are saved; None: nowhere, and signals keep their usual effect.
      save_every: updates between checkpoints; the last update always has one.
      log: given (updates, row) of every row of metrics.
      log_every: updates between rows; the last update always has one.
      evaluate: given (state, row) after a row; the values it returns join the row.
      eval_every: updates between evaluations; the last update always has one.
      guard: given (updates, row), returns a reason to stop, or None.
      progress: given (1, note) after every update; the note describes the latest row, or is "".
      note: a row in a few words.
    """

    checkpoints: Manager | None = None
    save_every: int = 1000
    log: Callable[[int, Row], None] = lambda step, row: None
    log_every: int = 10
    evaluate: Callable[[TrainState, Row], Row] | None = None
    eval_every: int = 1000
    guard: Callable[[int, Row], str | None] = not_finite
    progress: Callable[[int, str], None] = lambda count, note: None
    note: Callable[[Row], str] = lambda row: ""


def fit(
    state: TrainState,
    update: Update,
    batch_at: Callable[[int], BatchTree],
    key: RowKey,
    *,
    steps: int,
    services: Services,
) -> TrainState:
    """Runs updates from wherever `state` is until `steps` have been done.

    Update s uses fold_in(key, s) and batch_at(s), so a resumed run does what an uninterrupted one does.
    Metrics are read while the device works on the next update, except where the state itself is saved
    or evaluated; a checkpoint is never ahead of the rows, nor made from a loss that is not finite.
    On SIGTERM and SIGINT the update is finished and saved; so is the one at which the guard stops the
    training, if its row is read before the next update, so that a new start does not repeat it.

    Args:
      state: given up at the first update (it may be donated).

    Returns:
      The state after the last update.

    Raises:
      TrainingStopped: the guard has found a reason to stop.
      Interrupted: by a signal; the state is saved.
    """
    late = None
    with interruptions(enabled=services.checkpoints is not None) as received:
        for index in range(int(state.step), steps):
            state, metrics = update(state, jax.random.fold_in(key, index), batch_at(index))
            note = _record(services, *late) if late else ""
            done, signal = index + 1, received()
            last, late = done == steps, None
            evaluates = services.evaluate and _due(done, services.eval_every, last)
            saves = services.checkpoints and _due(done, services.save_every, last or signal > 0)
            logs = evaluates or _due(done, services.log_every, last)
            if evaluates or saves or last:
                now = state, bool(evaluates)
                note = _record(services, done, metrics, now, log=logs) or note
            elif logs:
                late = done, metrics
            if saves:
                save(services.checkpoints, state)
            services.progress(1, note)
            if signal:
                raise Interrupted(signal, done)
    return state


def _due(done: int, every: int, anyway: bool) -> bool:
    return anyway or done % every == 0


def _record(
    services: Services,
    done: int,
    metrics: Metrics,
    now: tuple[TrainState, bool] | None = None,
    log: bool = True,
) -> str:
    """Reads one row, logs it, and stops the training if the guard says so; returns its note.

    Args:
      now: the state after the update, and whether it is evaluated; None: it is there no more.
      log: whether the row is wanted; a row that stops the training is logged in any case.
    """
    row = {name: float(value) for name, value in jax.device_get(metrics).items()}
    reason = services.guard(done, row)
    if now and now[1] and not reason:
        row |= services.evaluate(now[0], row)
    if log or reason:
        services.log(done, row)
    if reason:
        if now and services.checkpoints and not not_finite(done, row):
            save(services.checkpoints, now[0])
        raise TrainingStopped(done, reason)
    return services.note(row) if log else ""
