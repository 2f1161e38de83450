"""The process in which `programs.passes` runs a program: limits, and an end of all that it starts.

Run as a script with seconds, megabytes, processes and the program's bytes as arguments; standard input is
the program, then a nonce. The nonce stays in the pipe until the program has run to its end; then it is
copied to standard output. Imports the standard library alone.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import types

PR_SET_CHILD_SUBREAPER = 36  # of Linux: orphans below this process become its children


def main() -> None:
    """Fork: the child runs the program, the parent waits and ends what is left of it."""
    seconds, megabytes, processes, size = map(int, sys.argv[1:5])
    source = read(size)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        os.setsid()
        set_limits(seconds, megabytes, processes)
        run(source)
    else:
        status = wait(child, seconds)
        end_children(child)
        sys.exit(status)


def set_limits(seconds: int, megabytes: int, processes: int) -> None:
    """Lower the limits of this process and of those that it starts."""
    limits = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": megabytes << 20,
        "RLIMIT_NPROC": processes,
        "RLIMIT_FSIZE": 1 << 20,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }
    for name, limit in limits.items():
        _, most = resource.getrlimit(getattr(resource, name))
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(getattr(resource, name), (limit, limit))


def read(size: int) -> bytes:
    """So many bytes of standard input, and none beyond."""
    content = b""
    while len(content) < size and (part := os.read(0, size - len(content))):
        content += part
    return content


def run(source: bytes) -> None:
    """Run the program as a module that is not `__main__`, without input and without output."""
    nothing, nonce, report = os.open(os.devnull, os.O_RDWR), os.dup(0), os.dup(1)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    sys.argv = ["program"]
    module = sys.modules["program"] = types.ModuleType("program")
    exec(compile(source, "program", "exec"), module.__dict__)
    os.write(report, os.read(nonce, 64))


def wait(child: int, seconds: int) -> int:
    """The exit status of the child; 1 where it takes longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return 0
        time.sleep(0.005)
    return 1


def end_children(group: int) -> None:
    """Kill the child's group, then every orphan that has come to this process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    while True:
        for orphan in children():
            os.kill(orphan, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children() -> list[int]:
    """The ids of this process's children; none where there is no /proc."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
