"""Where the best learning rate is at each size, and how far it moves from that of the base."""

from typing import NamedTuple

import numpy as np


class RateSweep(NamedTuple):
    """Losses over one grid of learning rates for several sizes, trained by one rule.

    Attributes:
      rule: how settings were taken over from the base.
      axis: what the sizes are.
      rates: grid of learning rates, ascending.
      losses: of each size, the least of which need not be the base; inf: diverged.
      base: the size that the rule takes settings over from.
    """

    rule: str
    axis: str
    rates: tuple[float, ...]
    losses: dict[int, tuple[float, ...]]
    base: int

    def best(self, size: int) -> int:
        """Index of the rate with the least loss."""
        return int(np.argmin(self.losses[size]))

    @property
    def moved(self) -> int:
        """Grid points between the base's best rate and that of the size where it is furthest."""
        return max(abs(self.best(size) - self.best(self.base)) for size in self.losses)

    @property
    def at_edges(self) -> tuple[int, ...]:
        """Sizes whose best rate is the first or last of the grid, so that it may be beyond it."""
        return tuple(s for s in self.losses if self.best(s) in (0, len(self.rates) - 1))

    def cost(self, size: int) -> float:
        """What the base's best rate loses beside the size's own, in units of the loss."""
        losses = self.losses[size]
        return losses[self.best(self.base)] - losses[self.best(size)]

    def verdict(self) -> str:
        """The optimum of every size, how far it moves, and what that costs, as a line."""
        sizes = sorted(self.losses)
        best = ", ".join(f"{self.rates[self.best(size)]:g} at {size}" for size in sizes)
        worst = max(sizes, key=self.cost)
        edges = ", ".join(map(str, self.at_edges))
        return (
            f"{self.rule}, {self.axis}: best learning rate {best}; it moves by {self.moved} grid "
            f"point{'' if self.moved == 1 else 's'}, and the base's loses {self.cost(worst):.3f} nats "
            f"per token at {worst}"
        ) + (f" (the grid ends at the best of {edges}: give further --rates)" if edges else "")
