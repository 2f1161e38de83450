"""One writer at a time for each directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from mdm_jax.errors import MdmError
from mdm_jax.runs.environment import STARTS
from mdm_jax.runs.json_files import read_json

LOCK = ".lock"


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Holds the lock of a directory, which is created, while the block runs.

    The system releases it when the process ends, however it does. Who only reads needs no lock. Where
    there are several processes, the first one holds it.

    Raises:
      MdmError: another process holds it.
    """
    if jax.process_index() != 0:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise MdmError(
            f"{directory} is in use: {_holder(directory)} writes to it; wait until it has finished, or "
            "choose another directory"
        ) from error
    with held:
        yield


def _holder(directory: Path) -> str:
    """The process that writes to a directory, as its last start says."""
    try:
        last = read_json(directory / STARTS)[-1]
        return f"process {last['pid']} on {last['host']}, started {last['started']},"
    except (OSError, MdmError, LookupError, TypeError):
        return "another process"
