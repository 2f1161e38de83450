"""What the ten puzzles are completed to, in one batch."""

import jax
import pytest
from evaluation_world import gathered, generated


@pytest.fixture(scope="session")
def whole():
    with jax.debug_key_reuse(True):
        return gathered(generated(10))
