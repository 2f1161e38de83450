"""Tiny runs that all experiments are tried on."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import jax
import pytest
from tiny_run import LEARN, POLICIES, REWARDED, tiny, write_untrained

from experiments import learn_policy, learn_variational_order, quickstart
from mdm_jax.evals import matched
from mdm_jax.profiling import timing
from mdm_jax.runs import remembered
from mdm_jax.tasks.chains import Chains


@pytest.fixture(scope="session", autouse=True)
def digests(tmp_path_factory):
    """Digests are not remembered in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "user_cache", lambda: tmp_path_factory.getbasetemp() / "cache")
        yield


@pytest.fixture(scope="session", autouse=True)
def small_workers():
    """Entry points that are called here leave the memory of the test process as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("experiments._cli.main"), "keep_freed_memory", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def small_peaks():
    """The machine's peaks are measured on small arrays; their rates come out too high by the ratio."""
    random = timing._random

    def small(shape, dtype, seed):
        return random(tuple(min(side, 512) for side in shape), dtype, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_random", small)
        yield


@pytest.fixture(scope="session")
def start():
    """Starts `python WORDS...` with so many CPU devices; returns the process."""
    begun = []

    def begin(*words, devices=4):
        flags = os.environ["XLA_FLAGS"].replace("device_count=4", f"device_count={devices}")
        environment = os.environ | {"XLA_FLAGS": flags}
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
def trained(tmp_path_factory):
    """The directory and the rows of a tiny quickstart."""
    directory = tmp_path_factory.mktemp("runs") / "quickstart"
    with jax.debug_key_reuse(True):
        return directory, quickstart.run(tiny(directory), POLICIES)


@pytest.fixture(scope="session", autouse=True)
def short_tables():
    """Comparisons of learned orders with few knobs and few prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matched, "THRESHOLDS", (0.1, 0.3, 0.9))
        patch.setattr(matched, "GAMMAS", (0.1, 3.0))
        patch.setattr(matched, "TUNING_PROMPTS", 4)
        yield


@pytest.fixture(scope="session")
def ordered(tmp_path_factory):
    """The settings, with their directory, and the table of a tiny order, with a denoiser of its own
    that learns along: arithmetic, so there are prompts, a window and EOS.
    """
    directory = tmp_path_factory.mktemp("orders") / "order"
    task = Chains(depth=1, num_examples=8)
    config = replace(LEARN, task=task, joint=True, run_dir=str(directory))
    with jax.debug_key_reuse(True):
        return config, learn_variational_order.run(config)


@pytest.fixture(scope="session")
def rewarded(tmp_path_factory):
    """The settings, with their directory, and the table of a tiny policy that learned from rewards,
    on a denoiser that has learned nothing.
    """
    home, task = tmp_path_factory.mktemp("policies"), Chains(depth=1, num_examples=8)
    write_untrained(home / "denoiser", task=task)
    config = replace(
        REWARDED, task=task, denoiser=str(home / "denoiser"), run_dir=str(home / "policy")
    )
    with jax.debug_key_reuse(True):
        return config, learn_policy.run(config)
