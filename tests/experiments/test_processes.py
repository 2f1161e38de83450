"""Killed for good and started again; two processes instead of one."""

import json
import signal
import socket
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import WORDS, contents

from mdm_jax.runs.denoisers import load_denoiser

DRIVER = """
import sys
from dataclasses import replace
import jax, numpy as np
sys.path.insert(0, sys.argv[1])
from tiny_run import TRAIN
from experiments import train_denoiser
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.sampling.config import SamplerConfig

directory, count, index, port = sys.argv[2], *map(int, sys.argv[3:])
train_denoiser.run(
    replace(
        TRAIN,
        steps=3,
        run_dir=f"{directory}/run",
        shard_params=True,
        processes=train_denoiser.Processes(
            count=count, id=index, coordinator=f"localhost:{port}"
        ),
    )
)
denoise, task, _ = load_denoiser(f"{directory}/run")
examples, config = task.examples("test", 5), SamplerConfig(temperature=1.0).for_task(task)
batches = list(
    generate(jax.random.key(0), examples.canvases, denoise=denoise, policy=EntropyBound(2.0),
             config=config, batching=Batching(4, "device_map"))
)
np.savez(
    f"{directory}/generated-{index}.npz",
    canvas=np.concatenate([batch.rollout.canvas for batch in batches]),
    nfe=np.concatenate([batch.rollout.nfe for batch in batches]),
)
assert jax.device_count() == 2
"""


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def finish(*processes):
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{out}\n{err}"


def weights(directory):
    return jax.device_get(load_denoiser(directory).denoise.params)


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").open()]


@pytest.fixture(scope="module")
def one_and_two(start, tmp_path_factory):
    """The same work by one process with two devices, and by two with one each."""
    here = Path(__file__).parent
    directory, port = tmp_path_factory.mktemp("processes"), free_port()
    one, two = directory / "one", directory / "two"
    for path in (one, two):
        path.mkdir()
    common = " --xla_backend_optimization_level=1"
    flags = "--xla_force_host_platform_device_count={}" + common
    finish(start("-c", DRIVER, here, one, 1, 0, port, flags=flags.format(2)))
    finish(*[start("-c", DRIVER, here, two, 2, i, port, flags=flags.format(1)) for i in range(2)])
    return one, two


def test_two_processes_train_what_one_does(one_and_two):
    """Parameters split over the processes, so that they are gathered, saved and read in parts."""
    one, two = (path / "run" for path in one_and_two)
    jax.tree.map(np.testing.assert_array_equal, weights(one), weights(two))
    assert rows(one) == rows(two)
    assert [row["step"] for row in rows(two)] == [1, 2, 3]


def test_two_processes_generate_what_one_does(one_and_two):
    one, two = one_and_two
    expected = np.load(one / "generated-0.npz")
    assert expected["canvas"].shape == (5, 16) and expected["canvas"].max() < 4
    for index in range(2):
        found = np.load(two / f"generated-{index}.npz")
        for name in ("canvas", "nfe"):
            np.testing.assert_array_equal(found[name], expected[name])


def test_only_the_first_process_writes_the_log(one_and_two):
    (started,) = json.loads((one_and_two[1] / "run" / "env.json").read_text())
    assert started["process_count"] == 2 and started["device_count"] == 2


def test_killed_training_goes_on_as_if_it_had_not_been(start, trained, tmp_path):
    """SIGKILL after the first checkpoint; the same command again; bit for bit the same weights."""
    directory = tmp_path / "run"
    command = ["-m", "experiments.train_denoiser", "--run_dir", directory, *WORDS]
    process = start(*command)
    deadline = time.monotonic() + 120
    while not (directory / "checkpoints" / "3").is_dir():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (directory / "training.png").exists()
    again = start(*command)
    finish(again)
    assert [row["step"] for row in rows(directory)] == [1, 2, 3, 4, 5, 6]
    assert rows(directory) == rows(trained[0])
    jax.tree.map(np.testing.assert_array_equal, weights(directory), weights(trained[0]))
    assert len(json.loads((directory / "env.json").read_text())) == 2
    assert {"training.png", "config.json"} <= set(contents(directory))
