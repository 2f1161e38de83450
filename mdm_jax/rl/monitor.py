"""Watching the reward during training: the best window so far, and runs that have diverged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mdm_jax.errors import MdmError
from mdm_jax.training.loop import not_finite
from mdm_jax.training.state import TrainState


def window_means(rewards: Sequence[float], size: int) -> list[float]:
    """Means over consecutive windows of `size` iterations, without an incomplete last window."""
    full = len(rewards) // size * size
    return np.reshape(rewards[:full], (-1, size)).mean(axis=1).tolist()


def is_best(means: Sequence[float]) -> bool:
    """Whether the last window is better than all earlier ones."""
    return len(means) > 0 and means[-1] > max(means[:-1], default=-np.inf)


def collapsed(means: Sequence[float], share: float) -> bool:
    """Whether the last window is below the best one by more than `share` of it."""
    best = max(means, default=0.0)
    return best > 0 and means[-1] < (1 - share) * best


@dataclass(frozen=True)
class RewardMonitor:
    """Keeps the policy of the best window of rewards, and stops a run whose reward collapses.

    Its methods are the `guard` and `evaluate` services of `training.loop.fit`.

    Attributes:
      window: iterations over which rewards are averaged.
      collapse: a window that is below the best one by more than this share of it stops the run.
      logged: the rows of metrics of all earlier iterations.
      keep: saves the state at the end of the best window so far.
    """

    window: int
    collapse: float
    logged: Callable[[], Sequence[Mapping[str, float]]]
    keep: Callable[[TrainState], None]

    def guard(self, done: int, row: Mapping[str, float]) -> str | None:
        """Why the run should stop after this iteration, or None.

        Raises:
          MdmError: loss or gradient are not finite before a first window is complete.
        """
        reason = not_finite(done, row)
        if reason and done <= self.window:
            raise MdmError(f"{reason} (at iteration {done}, before there is a policy to keep)")
        if reason or done % self.window:
            return reason
        return self._fall(self._window_means(row))

    def before(self) -> str | None:
        """Why a run that is started again was stopped, or None."""
        return self._fall(self._window_means())

    def evaluate(self, state: TrainState, row: Mapping[str, float]) -> dict[str, float]:
        """Keeps the state if it ends the best window; adds nothing to the row."""
        if int(state.step) % self.window == 0 and is_best(self._window_means(row)):
            self.keep(state)
        return {}

    def _window_means(self, *new: Mapping[str, float]) -> list[float]:
        return window_means([row["reward"] for row in [*self.logged(), *new]], self.window)

    def _fall(self, means: Sequence[float]) -> str | None:
        if means and collapsed(means, self.collapse):
            return f"the reward fell from {max(means):.3f} to {means[-1]:.3f}"
        return None
