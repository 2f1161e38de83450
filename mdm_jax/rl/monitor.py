"""Watching the reward during training: the best window so far, and runs that have diverged."""

from collections.abc import Mapping, Sequence

import numpy as np

from mdm_jax.errors import MdmError


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


def ends_best_window(rewards: Sequence[float], size: int) -> bool:
    """Whether the last iteration completes a window that is better than all earlier ones."""
    return len(rewards) % size == 0 and is_best(window_means(rewards, size))


def divergence_reason(
    metrics: Mapping[str, float], rewards: Sequence[float], size: int, share: float
) -> str | None:
    """Why training should stop after this iteration; None: it should not.

    Args:
      metrics: of the iteration: `loss` and `grad_norm`.
      rewards: of all iterations so far, this one included.
      size: iterations in a window.
      share: see `collapsed`.

    Raises:
      MdmError: loss or gradient are not finite, and no window is complete yet.
    """
    broken = [name for name in ("loss", "grad_norm") if not np.isfinite(metrics[name])]
    if broken and len(rewards) <= size:
        raise MdmError(
            f"{broken[0]} is {metrics[broken[0]]} at iteration {len(rewards)}, before there is a "
            "policy to keep: lower --optimizer.learning_rate"
        )
    if broken:
        return f"{broken[0]} is {metrics[broken[0]]}"
    means = window_means(rewards, size) if len(rewards) % size == 0 else []
    if means and collapsed(means, share):
        return f"the reward fell from {max(means):.3f} to {means[-1]:.3f}"
    return None
