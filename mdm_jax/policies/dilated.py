"""Dilated schedules: positions far apart first, whatever the denoiser says."""

from typing import ClassVar

import jax.numpy as jnp

from mdm_jax.errors import check_range
from mdm_jax.policies.base import RevealOnly
from mdm_jax.pytrees import pytree_dataclass, static
from mdm_jax.types import Mask, Observation, RowKey


@pytree_dataclass
class Dilated(RevealOnly):
    """Every s-th eligible position of the block, with the largest s of ceil(B / base), ceil(B / base^2),
    ..., 1 that has one: s divides the places that are revealed, counted from the start of the block.

    B positions take ceil(log_base B) calls. A grid that a prompt has filled already costs no call.

    Reference: DUS, arXiv:2506.19037 (B a power of the base there; other lengths are rounded up here).
    """

    wants_window: ClassVar[bool] = False

    base: int = static(2)  # by which the distance shrinks from call to call

    def __post_init__(self) -> None:
        check_range("base", self.base, 2)

    def unmask(self, key: RowKey, observation: Observation) -> Mask:
        eligible = observation.eligible
        place = jnp.arange(len(eligible))
        grids = jnp.stack([eligible & (place % size == 0) for size in self._strides(len(eligible))])
        first = jnp.argmax(jnp.any(grids, axis=1))  # of the largest distance
        return grids[first]

    def _strides(self, length: int) -> list[int]:
        """Falling distances, the last one 1."""
        found = [max(-(-length // self.base), 1)]
        while found[-1] > 1:
            found.append(-(-found[-1] // self.base))
        return found
