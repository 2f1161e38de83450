"""Running a program that nobody has read. This is not a security sandbox.

Contained everywhere: time, memory, size of files, number of processes; the program has an empty
directory of its own, none of this process's environment variables, no input and no output; whatever
it starts is killed when it ends, also in other sessions (Linux). That a program ran to its end is
reported by a random number, which its process reads only then: exit statuses, output, replaced builtins
and hooks report nothing.

Contained on Linux with util-linux's `unshare`, where user namespaces are allowed: it sees no other
process (nor their environment), no network, and no shared memory of others.

Contained where bubblewrap (`bwrap`) is installed and may be used, which is tried first: that, and of
the file system it sees, read only, the system's libraries and Python.

Not contained: without bubblewrap the program reads and writes files as this user does; without either
it reads /proc and has the network. In any case it shares an interpreter with the tests: one that
searches the interpreter or its open files for the number, replaces what the tests call, or returns
what compares equal to everything, passes. The verdict on a deliberately hostile program is no proof.
Run programs of a model that may be hostile on a machine where there is nothing to lose.
"""

import contextlib
import dataclasses
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from mdm_jax.errors import MdmError

_GUARD = Path(__file__).with_name("program_guard.py")
_GRACE = 5  # seconds beyond the limit for starting and ending
_UNSHARE = (
    "--user",
    "--map-current-user",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--mount",
    "--mount-proc",
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one run.

    Attributes:
      seconds: by the clock, and of processor time.
      megabytes: of address space of each process.
      processes: of this user (in namespaces: of the program); root has no such limit.
    """

    seconds: int = 10
    megabytes: int = 1024
    processes: int = 64

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.megabytes < 64 or self.processes < 1:
            raise MdmError(
                "a run needs at least 1 second, 64 megabytes and 1 process, got "
                f"{self.seconds}, {self.megabytes} and {self.processes}"
            )


def passes(source: str, limits: Limits) -> bool:
    """Whether a Python program runs to its end without an error, within the limits.

    It is not `__main__`. The module's docstring says what is contained and what is not.
    """
    nonce, content = secrets.token_bytes(16), source.encode(errors="replace")
    numbers = (limits.seconds, limits.megabytes, limits.processes, len(content))
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-I", "-c", _GUARD.read_text(encoding="utf-8")]
        process = subprocess.Popen(
            [*_isolation(directory), *command, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={"PATH": os.defpath, "HOME": directory, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        with process, _killed_in_the_end(process):
            try:
                report, _ = process.communicate(content + nonce, limits.seconds + _GRACE)
            except subprocess.TimeoutExpired:
                return False
        return process.returncode == 0 and report == nonce


@contextlib.contextmanager
def _killed_in_the_end(process: subprocess.Popen):
    """Kill the process with its group on leaving."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left
            os.killpg(process.pid, signal.SIGKILL)


def _isolation(directory: str) -> list[str]:
    """What precedes a command that runs in namespaces of its own; nothing where that is impossible."""
    return [*_bubblewrap(), "--bind", directory, directory] if _bubblewrap() else [*_unshare()]


@functools.cache
def _bubblewrap() -> tuple[str, ...]:
    """bwrap with all that does not depend on the run; empty where it is missing or may not be used."""
    python = (sys.base_prefix, sys.prefix, str(Path(sys.executable).resolve().parent))
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--tmpfs", "/tmp"]
    for path in (*_SYSTEM, *python):
        command += ["--ro-bind-try", path, path]
    return _if_usable(*command, "--proc", "/proc", "--dev", "/dev")


@functools.cache
def _unshare() -> tuple[str, ...]:
    """unshare with its options; empty where it is missing or may not be used."""
    return _if_usable("unshare", *_UNSHARE, "--fork", "--kill-child")


def _if_usable(name: str, *options: str) -> tuple[str, ...]:
    """The command with the path of its program, if it can start Python."""
    program = shutil.which(name)
    if program is None:
        return ()
    command = (program, *options)
    trial = subprocess.run([*command, sys.executable, "-I", "-c", ""], capture_output=True)
    return command if trial.returncode == 0 else ()
