"""Four CPU devices, so that what is said of devices is tested everywhere, and strict keys."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

FLAGS = (
    " --xla_force_host_platform_device_count=4"
    # most of the time is compilation, two thirds of which these save
    " --xla_backend_optimization_level=0"
    " --xla_cpu_parallel_codegen_split_count=1"
)
if jax.__version_info__ < (0, 11):  # later versions do not know it
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
if FLAGS not in os.environ.get("XLA_FLAGS", ""):  # workers inherit them from the main process
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + FLAGS
CACHE_BYTES = 2**30


def pytest_configure(config):
    """Compiled programs are kept in .pytest_cache: both workers and the next run find them there."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # the user's choice, or set by the main process
        return
    if hasattr(config, "cache"):
        directory = config.cache.mkdir("compiled")
        if sum(file.stat().st_size for file in directory.iterdir()) > CACHE_BYTES:
            shutil.rmtree(directory)
    else:  # -p no:cacheprovider
        directory = tempfile.mkdtemp(prefix="compiled")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    settings = {
        "jax_compilation_cache_dir": str(directory),
        # what compiles in less takes as long to look up
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)  # for workers and other subprocesses
        jax.config.update(name, value)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: the garbage collector looks at the rest alone, and less often."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 10, 10)
        gc.enable()


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
