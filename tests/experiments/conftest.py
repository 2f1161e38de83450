"""One tiny trained run that all experiments are tried on, and a cache of what was compiled."""

import os
import subprocess
import sys

import jax
import pytest
from tiny_run import POLICIES, tiny

from experiments import quickstart


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Environment of subprocesses; they and this process share what has been compiled."""
    cache = tmp_path_factory.mktemp("compiled")
    settings = {
        "jax_compilation_cache_dir": str(cache),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield os.environ | {name.upper(): str(value) for name, value in settings.items()}
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def start(compiled):
    """Starts `python WORDS...`; returns the process."""
    begun = []

    def begin(*words, flags=None):
        environment = compiled | ({"XLA_FLAGS": flags} if flags else {})
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        if process.poll() is None:
            process.kill()


@pytest.fixture(scope="session")
def trained(compiled, tmp_path_factory):
    """The directory and the rows of a tiny quickstart."""
    directory = tmp_path_factory.mktemp("runs") / "quickstart"
    with jax.debug_key_reuse(True):
        return directory, quickstart.run(tiny(directory), POLICIES)
