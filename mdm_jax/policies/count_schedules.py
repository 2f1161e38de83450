"""How many positions a policy with a fixed number of steps reveals at each of them."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.diffusion.schedules import Cosine, Schedule
from mdm_jax.errors import MdmError

Count = Int[Array, ""]


@runtime_checkable
class CountRule(Protocol):
    """Positions revealed at each step. Hashable, so that it may be static.

    `step` counts from 0; the last step reveals all that is left.
    """

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        """Positions to reveal now, with `remaining` of `total` still masked."""
        ...

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        """The share of the masked positions to reveal now, as a probability."""
        ...


@dataclass(frozen=True)
class LinearCounts:
    """ceil(remaining / steps left): the same number at each step, one more in the first
    total mod steps steps.

    Reference: LLaDA, arXiv:2502.09992 (`n_i = N // S`, plus one for the first `N mod S` steps).
    """

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        left = jnp.maximum(steps - step, 1)
        return (remaining + left - 1) // left

    def __str__(self) -> str:
        return "linear"

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        return 1.0 / jnp.maximum(steps - step, 1)


@dataclass(frozen=True)
class AlphaCounts:
    """Keep floor(total * (1 - alpha(1 - progress))) masked, progress = (step + 1) / steps; at least
    `least` positions are revealed.

    With `least` 0 a step may reveal nothing, as in MaskGIT, arXiv:2202.04200, section 3.3.
    """

    schedule: Schedule = field(default_factory=Cosine)
    least: int = 1

    def __str__(self) -> str:
        name = "cosine" if self.schedule == Cosine() else str(self.schedule)
        return name if self.least == 1 else f"{name}, at least {self.least}"

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        kept = still_masked(self.schedule, total, step, steps)
        return jnp.where(step + 1 >= steps, remaining, jnp.maximum(remaining - kept, self.least))

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        kept = _masked(self.schedule, step + 1, steps) / _masked(self.schedule, step, steps)
        return jnp.where(step + 1 >= steps, 1.0, 1.0 - kept)


def _masked(schedule: Schedule, step: Count, steps: Count) -> Float[Array, ""]:
    """Share that is masked after `step` of `steps` steps."""
    return 1.0 - schedule.alpha(jnp.maximum(1.0 - step / steps, 0.0))


def still_masked(schedule: Schedule, total: Count, step: Count, steps: Count) -> Count:
    """How many of `total` positions a schedule leaves masked after step number `step`."""
    # 1e-4: a product that is a whole number in exact arithmetic must not be floored below it
    kept = jnp.floor(total * _masked(schedule, step + 1, steps) + 1e-4).astype(jnp.int32)
    return jnp.where(step + 1 >= steps, 0, kept)


@dataclass(frozen=True)
class AncestralCounts:
    """floor(remaining * (1 - s/t)): what ancestral sampling reveals on average between the times t
    and s of an even grid from 1 to `eps`, rounded down.

    A step whose mean is below one reveals nothing, so with `steps` = `total` the first call reveals
    nothing and the last one two. Float32 rounding decides whether a mean reaches one, so the grid is
    computed as in the reference, from both ends to the middle.

    Reference: Dream, arXiv:2508.15487 (`eps` 1e-3); SMDM, arXiv:2410.18514 (`eps` 1e-5).
    """

    eps: float = 1e-3

    def __str__(self) -> str:
        return f"expected, eps {self.eps:g}"

    def _time(self, step: Count, steps: Count) -> Float[Array, ""]:
        width = jnp.float32(self.eps - 1.0) / steps
        rising, falling = 1.0 + step * width, jnp.float32(self.eps) - (steps - step) * width
        return jnp.where(step < (steps + 1) // 2, rising, falling)

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        mean = remaining * self.share(step, steps)
        return jnp.where(step + 1 >= steps, remaining, jnp.floor(mean).astype(jnp.int32))

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        kept = self._time(step + 1, steps) / self._time(step, steps)
        return jnp.where(step + 1 >= steps, 1.0, 1.0 - kept)


@dataclass(frozen=True)
class GivenCounts:
    """These counts, such as `orders.counts.optimal_counts` finds; the last one takes what is left.

    Where another number of positions is masked at the start than they add up to, the share that stays
    masked after each step is kept, rounded to whole positions, and at least one is revealed.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise MdmError(f"counts must be at least 1 each, got {list(self.counts)}")

    def __str__(self) -> str:
        return ",".join(map(str, self.counts))

    def _left(self, step: Count) -> Float[Array, ""]:
        """Share that is masked before that step; 0 after the last one."""
        left = sum(self.counts) - jnp.cumsum(jnp.array((0, *self.counts)))
        return left[jnp.minimum(step, len(self.counts))] / sum(self.counts)

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        kept = jnp.round(total * self._left(step + 1)).astype(jnp.int32)
        return jnp.where(step + 1 >= steps, remaining, jnp.maximum(remaining - kept, 1))

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        before = self._left(step)
        kept = self._left(step + 1) / jnp.where(before > 0, before, 1.0)
        return jnp.where(step + 1 >= steps, 1.0, 1.0 - kept)
