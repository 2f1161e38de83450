"""One writer for each directory, between processes of one machine."""

import os
import platform
import subprocess
import sys

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.runs.directory import open_run
from mdm_jax.runs.lock import LOCK, only_writer

HOLD = """
import filelock, sys
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print(flush=True)
input()
"""


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path):
    with open_run(tmp_path / "run", "train", {"steps": 1}) as run:
        before = {path.name: path.read_bytes() for path in run.iterdir()}
        holder = rf"run is in use: process {os.getpid()} on {platform.node()}, started 20\d\d-"
        with (
            pytest.raises(MdmError, match=holder),
            open_run(tmp_path / "run", "train", {"steps": 1}),
        ):
            pass
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    with open_run(tmp_path / "run", "train", {"steps": 1}):
        pass


def test_a_killed_writer_leaves_the_directory_free(tmp_path, other):
    with pytest.raises(MdmError, match="is in use: another process writes"), only_writer(tmp_path):
        pass
    other.kill()
    other.wait()
    with only_writer(tmp_path):
        pass


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError
    with only_writer(tmp_path):
        pass
