"""The steps of rollouts that something is learned from, without those after a rollout's end."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

# positions of steps that are differentiated at once: on a CPU, what a network has of them is to stay in
# the cache
POSITIONS_AT_ONCE = {"cpu": 2**11}


def steps_at_once(length: int, bound: int) -> int:
    """Steps that are differentiated at once, at most `bound`."""
    positions = POSITIONS_AT_ONCE.get(jax.default_backend())
    return bound if positions is None else min(bound, max(positions // length, 1))


class ActiveFirst(NamedTuple):
    """All steps of all rollouts in chunks, the active ones first: the last chunks have none.

    Rollouts that are split over devices stay split: every device orders its own, and every chunk has
    equally many steps of each.
    """

    order: Int[Array, "devices chunks size"]  # of a device's steps; beyond them: padding
    shape: tuple[int, int]  # rollouts, steps

    def chunks(self, tree: PyTree) -> PyTree:
        """Leaves [rollouts, steps, ...] -> [chunks, devices * size, ...], padded with 0."""
        return jax.tree.map(self._chunks, tree)

    def _chunks(self, x: Array) -> Array:
        devices, chunks, size = self.order.shape
        rest = x.shape[2:]
        take = jax.vmap(partial(jnp.take, axis=0, mode="fill", fill_value=0))
        x = take(x.reshape(devices, -1, *rest), self.order)
        return jnp.moveaxis(x, 1, 0).reshape(chunks, devices * size, *rest)

    def restored(
        self, x: Float[Array, "chunks some length"]
    ) -> Float[Array, "rollouts steps length"]:
        """The inverse, without the padding."""
        devices, chunks, size = self.order.shape
        x = jnp.moveaxis(x.reshape(chunks, devices, size, -1), 1, 0)
        count = self.shape[0] * self.shape[1] // devices
        back = jnp.argsort(self.order.reshape(devices, -1), axis=1)[:, :count]
        flat = jax.vmap(partial(jnp.take, axis=0))(x.reshape(devices, chunks * size, -1), back)
        return flat.reshape(*self.shape, -1)


def active_first(active: Bool[Array, "rollouts steps"], size: int, devices: int = 1) -> ActiveFirst:
    """Chunks of `size` steps of each device, or of all its steps if they are fewer."""
    order = jnp.argsort(~active.reshape(devices, -1), axis=1, stable=True)
    count = order.shape[1]
    size = min(size, count)
    beyond = count + jnp.arange(-count % size)
    padding = jnp.broadcast_to(beyond, (devices, len(beyond)))
    order = jnp.concatenate([order, padding], axis=1)
    return ActiveFirst(order.reshape(devices, -1, size), active.shape)
