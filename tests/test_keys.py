"""Keys depend on the seed and the purpose alone."""

import jax
import numpy as np
import pytest

from mdm_jax import sharding
from mdm_jax.errors import MdmError
from mdm_jax.keys import Stream, root_key, stream


def data(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_another_default_implementation_changes_no_key():
    expected = data(root_key(3)), data(stream(3, Stream.TUNING))
    with jax.default_prng_impl("rbg"):
        key = root_key(3)
        (placed,) = sharding.replicate([key], sharding.make_mesh())
        assert key.dtype == placed.dtype == root_key(3).dtype
        assert (data(key), data(stream(3, Stream.TUNING))) == expected


def test_streams_share_no_key():
    """Neither with each other nor with what is folded into another one, rows and updates."""
    seen = [data(root_key(0))]
    for purpose in Stream:
        key = stream(0, purpose)
        seen += [data(key), *(data(jax.random.fold_in(key, row)) for row in range(20))]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_would_give_the_key_of_another_are_refused(seed):
    with pytest.raises(MdmError, match="seed must be at "):
        root_key(seed)
