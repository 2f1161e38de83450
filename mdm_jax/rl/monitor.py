"""Watching a reward while it is learned: the best so far, and runs that have gone wrong."""

from collections.abc import Sequence

import numpy as np


def window_means(rewards: Sequence[float], size: int) -> list[float]:
    """Means over consecutive windows of `size` iterations; what does not fill one is left out."""
    full = len(rewards) // size * size
    return np.reshape(rewards[:full], (-1, size)).mean(axis=1).tolist()


def is_best(means: Sequence[float]) -> bool:
    """Whether the last window is better than all before it."""
    return len(means) > 0 and means[-1] > max(means[:-1], default=-np.inf)


def collapsed(means: Sequence[float], share: float) -> bool:
    """Whether the last window has lost more than `share` of the best one."""
    best = max(means, default=0.0)
    return best > 0 and means[-1] < (1 - share) * best
