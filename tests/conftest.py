"""Four CPU devices, so that what is said of devices is tested everywhere, and strict keys."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=4"
    " --xla_backend_optimization_level=1"  # compiles random draws on a CPU three times faster
)

from pathlib import Path

import jax
import pytest


@pytest.fixture(autouse=True)
def strict_keys(request):
    """Every key is used once; a test marked `reuses_keys` says why it may not check that."""
    with jax.debug_key_reuse("reuses_keys" not in request.keywords):
        yield


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Each compiled program maps memory, and Linux allows a process 65,530 maps: XLA aborts beyond."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


@pytest.fixture
def official_data():
    """The directory with gsm8k/, humaneval/ and tiny_shakespeare/ as their authors publish them."""
    if "MDM_JAX_TEST_DATA" not in os.environ:
        pytest.fail("set MDM_JAX_TEST_DATA to the directory that holds gsm8k/, humaneval/, ...")
    return Path(os.environ["MDM_JAX_TEST_DATA"])
