"""Running a program that nobody has read: in its own process, with limits on time and memory.

A guard against accidents, not against malice: the program sees the file system as this user does, and the
network where there is one.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile

# runs inside the new process, before a line of the program; what the program prints is dropped
_GUARD = """
import os, resource, sys
seconds, megabytes = int(sys.argv[1]), int(sys.argv[2])
limits = {
    "RLIMIT_CPU": seconds,
    "RLIMIT_AS": megabytes << 20,
    "RLIMIT_FSIZE": 1 << 20,
    "RLIMIT_NOFILE": 64,
    "RLIMIT_CORE": 0,
}
for name, limit in limits.items():
    _, most = resource.getrlimit(getattr(resource, name))
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(getattr(resource, name), (limit, limit))
source, sys.argv, report = sys.stdin.read(), ["program"], os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
exec(compile(source, "program", "exec"), {"__name__": "__main__"})
os.write(report, b"finished")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one run: seconds by the clock (and of processor time), and megabytes of address space."""

    seconds: int = 10
    megabytes: int = 1024

    def __post_init__(self) -> None:
        if self.seconds < 1 or self.megabytes < 64:
            raise ValueError(
                f"a run needs at least 1 second and 64 megabytes, got {self.seconds} and "
                f"{self.megabytes}"
            )


def passes(source: str, limits: Limits) -> bool:
    """Whether a Python program runs to its end without an error, within the limits.

    It runs in an empty directory that is deleted afterwards, without this process's environment,
    and with everything it starts in one process group, which is killed when it ends.
    """
    arguments = [sys.executable, "-I", "-c", _GUARD, str(limits.seconds), str(limits.megabytes)]
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={"PATH": os.defpath, "HOME": directory},
            start_new_session=True,
        ) as process,
    ):
        try:
            said, _ = process.communicate(source.encode(errors="replace"), limits.seconds)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode == 0 and said == b"finished"
