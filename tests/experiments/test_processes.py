"""Runs that are killed, terminated or shared by two processes end as one that was none of it."""

import json
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import WORDS, contents

from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.metrics import read_metrics

DRIVER = """
import sys
from dataclasses import replace
import jax
sys.path.insert(0, sys.argv[1])
directory, count, index, port = sys.argv[2], *map(int, sys.argv[3:])
from mdm_jax.sharding import start_processes

start_processes(count, index, f"localhost:{port}")
from tiny_run import LEARN
from experiments import evaluate, frontier, learn_variational_order
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.tasks.chains import Chains

assert jax.device_count() == 2 and jax.process_count() == count
train, task = replace(LEARN.train, shard_params=True, steps=3), Chains(depth=1, num_examples=8)
run = f"{directory}/order"
learn_variational_order.learn(replace(LEARN, task=task, train=train, joint=True, run_dir=run))
evaluate.run(
    evaluate.Config(
        run=run, policy=EntropyBound(2.0), examples=5, batch_size=4, parallel="device_map"
    )
)
frontier.run(
    frontier.Config(run=run, steps=(), factors=(), gammas=(), thresholds=(0.5, 0.9), examples=5)
)
"""
RUNS = ("order", "order/denoiser")
STORES = ("order/evaluate-chains-test-0", "order/frontier-chains-test-0")


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def finish(*processes, status=0):
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == status, f"{out}\n{err}"


def weights(directory):
    return jax.device_get(load_denoiser(directory).denoise.params)


def samples(directory):
    """Without the time they took, and the checksum of it all."""
    rows = [json.loads(line) for line in (directory / "samples.jsonl").open()]
    return [{name: row[name] for name in row.keys() - {"seconds", "crc"}} for row in rows]


@pytest.fixture(scope="module")
def one_and_two(start, tmp_path_factory):
    """The same work by one process with two devices, and by two with one each."""
    here = Path(__file__).parent
    directory, port = tmp_path_factory.mktemp("processes"), free_port()
    one, two = directory / "one", directory / "two"
    for path in (one, two):
        path.mkdir()
    finish(start("-c", DRIVER, here, one, 1, 0, port, devices=2))
    finish(*[start("-c", DRIVER, here, two, 2, i, port, devices=1) for i in range(2)])
    return one, two


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_train_what_one_does(one_and_two, run):
    """Parameters split over the processes, so that they are gathered, saved and read in parts."""
    one, two = (path / run for path in one_and_two)
    jax.tree.map(np.testing.assert_array_equal, weights(one), weights(two))
    assert read_metrics(one) == read_metrics(two)
    assert len(read_metrics(two)) == (4 if run == "order" else 3)


@pytest.mark.parametrize("store", STORES)
def test_two_processes_generate_what_one_does(one_and_two, store):
    one, two = (path / store for path in one_and_two)
    assert samples(one) == samples(two) != []


def test_only_the_first_process_writes(one_and_two):
    one, two = (contents(path / "order") for path in one_and_two)
    ours = [{name for name in found if "checkpoints/" not in name} for found in (one, two)]
    assert ours[0] == ours[1]  # of checkpoints, orbax makes up the names
    for run in (*RUNS, *STORES):
        (started,) = json.loads((one_and_two[1] / run / "env.json").read_text())
        assert started["process_count"] == 2 and started["device_count"] == 2


def command(directory, *words, steps="6"):
    settings = [steps if before == "--steps" else word for before, word in pairwise(["", *WORDS])]
    return ["-m", "experiments.train_denoiser", "--run_dir", directory, *settings, *words]


def wait_for(path, *processes):
    deadline = time.monotonic() + 300
    while not path.is_dir():
        for process in processes:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)


def test_a_terminated_process_ends_both_at_the_same_update(start, tmp_path):
    """SIGTERM to the second of two: both finish the update, save it together, and say so."""
    directory, port = tmp_path / "run", free_port()
    words = ["--processes.count", 2, "--processes.coordinator", f"localhost:{port}"]
    both = [
        start(*command(directory, *words, "--processes.id", i, steps="100000"), devices=1)
        for i in range(2)
    ]
    wait_for(directory / "checkpoints" / "3", *both)
    both[1].send_signal(signal.SIGTERM)
    finish(*both, status=143)
    saved = max(int(path.name) for path in (directory / "checkpoints").iterdir())
    assert [row["step"] for row in read_metrics(directory)][-1] <= saved < 100000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_training_resumes_as_if_it_had_not_been(start, trained, tmp_path, number):
    """Then the same command again: the same weights, bit for bit. SIGTERM comes while the first update
    compiles, since the others take no time; SIGKILL after the first checkpoint.
    """
    directory = tmp_path / "run"
    process = start(*command(directory))
    checkpoints = directory / "checkpoints"
    wait_for(checkpoints / "3" if number == signal.SIGKILL else checkpoints, process)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    assert not (directory / "training.png").exists()
    finish(start(*command(directory)))
    assert [row["step"] for row in read_metrics(directory)] == [1, 2, 3, 4, 5, 6]
    assert read_metrics(directory) == read_metrics(trained[0])
    jax.tree.map(np.testing.assert_array_equal, weights(directory), weights(trained[0]))
    assert len(json.loads((directory / "env.json").read_text())) == 2
    assert {"training.png", "config.json"} <= set(contents(directory))
