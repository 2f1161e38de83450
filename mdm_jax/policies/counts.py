"""How many positions a policy with a fixed number of steps reveals at each step."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.diffusion.schedules import Cosine, Schedule

Count = Int[Array, ""]


@runtime_checkable
class CountRule(Protocol):
    """Hashable, so that it may be static. `step` counts from 0; the last step reveals the rest."""

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        """Positions to reveal now, of `remaining` masked ones out of `total` at the start."""
        ...

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        """The same as a probability: what share of the masked positions to reveal now."""
        ...


@dataclass(frozen=True)
class Even:
    """ceil(remaining / steps left): equal shares, one more in the first total mod steps steps.

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
class Ratio:
    """Keep floor(total * (1 - alpha(1 - progress))) masked, progress = (step + 1) / steps; at least
    one position is revealed.

    Reference: MaskGIT, arXiv:2202.04200, section 3.3, which has no such minimum.
    """

    schedule: Schedule = field(default_factory=Cosine)

    def __str__(self) -> str:
        return "cosine" if self.schedule == Cosine() else str(self.schedule)

    def _masked(self, step: Count, steps: Count) -> Float[Array, ""]:
        return 1.0 - self.schedule.alpha(jnp.maximum(1.0 - step / steps, 0.0))

    def count(self, remaining: Count, total: Count, step: Count, steps: Count) -> Count:
        # the hair keeps a product that is meant to be a whole number from being floored below it
        kept = jnp.floor(total * self._masked(step + 1, steps) + 1e-4).astype(jnp.int32)
        return jnp.where(step + 1 >= steps, remaining, jnp.maximum(remaining - kept, 1))

    def share(self, step: Count, steps: Count) -> Float[Array, ""]:
        kept = self._masked(step + 1, steps) / self._masked(step, steps)
        return jnp.where(step + 1 >= steps, 1.0, 1.0 - kept)
