"""Steps in chunks, the active ones first."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.rl.active import active_first

ACTIVE = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)


@pytest.mark.parametrize(("devices", "size"), [(1, 4), (1, 5), (1, 100), (2, 2), (4, 2)])
def test_all_steps_come_back_and_the_active_ones_are_in_the_first_chunks(devices, size):
    order = active_first(jnp.asarray(ACTIVE), size, devices)
    number = jnp.arange(1.0, 13.0).reshape(4, 3, 1)
    numbers, active = order.chunks((number, jnp.asarray(ACTIVE)))
    np.testing.assert_array_equal(order.restored(numbers), number)
    assert sorted(np.ravel(numbers[numbers > 0])) == list(range(1, 13))
    most = ACTIVE.reshape(devices, -1).sum(1).max()
    needed = -(-most // min(size, 12 // devices))
    assert active[:needed].sum() == ACTIVE.sum() and not active[needed:].any()


def test_every_device_has_its_own_rollouts_in_its_part_of_a_chunk():
    rollout = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 3, 1))
    order = active_first(jnp.asarray(ACTIVE), 3, 2)
    halves = order.chunks(rollout).reshape(2, 2, 3)  # chunks, devices, size
    np.testing.assert_array_equal(halves >= 2, [[[False] * 3, [True] * 3]] * 2)
