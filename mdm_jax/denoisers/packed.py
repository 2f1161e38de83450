"""Several samples in one row: which one each position belongs to, and what positions see of a row."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from mdm_jax.types import Mask


class Packed(NamedTuple):
    """Where the positions of a row come from."""

    sample: Int[Array, " length"]  # the number of each position's sample; -1: of none
    place: Int[Array, " length"]  # its position in that sample; 0 where there is none


class Sight(NamedTuple):
    """What the positions of a row attend to, and where they are."""

    visible: Bool[Array, "#length length"]  # by each position, or by all of them
    places: Int[Array, " length"] | None = None  # 0, 1, ...

    def take(self, table: Array | np.ndarray) -> Array | np.ndarray:
        """The entries of a table that has one for each place of a sample."""
        if self.places is None:
            return table[: self.visible.shape[-1]]
        return jnp.asarray(table)[self.places]


def sight_of(valid: Mask, packed: Packed | None) -> Sight:
    """All valid positions seen by all; or with `packed` those of a sample by that sample alone."""
    if packed is None:
        return Sight(valid[None])
    return Sight(packed.sample[:, None] == packed.sample[None, :], packed.place)
