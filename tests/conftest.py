"""Four CPU devices, so that what is said of devices is tested everywhere, and strict keys."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=4"
)

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_keys(request):
    """Every key is used once; a test marked `reuses_keys` says why it may not check that."""
    with jax.debug_key_reuse("reuses_keys" not in request.keywords):
        yield
