"""Running generated programs: what passes, what does not, what is stopped and what is contained."""

import time

import pytest

from mdm_jax.tasks.prompted import programs
from mdm_jax.tasks.prompted.programs import Limits, passes

SMALL = Limits(seconds=2, megabytes=256)


@pytest.fixture(params=["plain", "unshare", "bubblewrap"], autouse=True)
def isolation(request, monkeypatch):
    """Without namespaces, and with them by what can be used here."""
    ways = {"unshare": programs._unshare(), "bubblewrap": programs._bubblewrap()}
    if not ways.get(request.param, True):
        pytest.skip(f"{request.param} is not installed, or may not make namespaces")
    for name, command in ways.items():
        found = command if name == request.param else ()
        monkeypatch.setattr(programs, f"_{name}", lambda found=found: found)
    return request.param


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert 1 + 1 == 2", True),
        ("print('finished' * 9)", True),
        ("if __name__ == '__main__': raise ValueError", True),
        (
            "from __future__ import annotations\nfrom dataclasses import *\n@dataclass\nclass A: a: int",
            1,
        ),
        ("assert False", False),
        ("import sys; sys.exit(0)", False),
        ("import os; os._exit(0)", False),
        ("import os; os._exit(0) if [os.write(i, b'finished') for i in (1, 2)] else 0", False),
        ("def f(:", False),
        ("x = 'a' * (1 << 30)", False),
        ("open('large', 'w').write('a' * (2 << 20))", False),
        ("print(input())", False),
        ("", True),
    ],
)
def test_what_passes(source, expected):
    assert passes(source, SMALL) == expected


def to_all_files(content):
    """A program that writes to all that it has open, and ends well."""
    return f"""
for i in range(64):
    try: os.write(i, {content})
    except OSError: pass
os._exit(0)"""


@pytest.mark.parametrize(
    "claim",
    [
        "sys.exit(0)",
        "os._exit(0)",
        "raise SystemExit(True)",
        f"print('passed'){to_all_files(b'passed')}",
        to_all_files("str([sys.argv, dict(os.environ)]).encode()"),
        "builtins.AssertionError = builtins.Exception = type('Never', (BaseException,), {})",
        "builtins.exec = builtins.compile = builtins.print = lambda *a, **k: None",
        "builtins.open = builtins.__import__ = lambda *a, **k: None",
        "sys.excepthook = lambda *a: os._exit(0)",
        "atexit.register(os._exit, 0)",
        "check = lambda f: None",
        "sys.modules['program'] = sys.modules['__main__'] = sys",
        "os.write = lambda fd, text: None",
        "os.read = lambda fd, size: b'passed'",
    ],
)
def test_a_program_cannot_say_itself_that_it_passed(claim):
    """What it does before its tests, of which one fails, is no verdict."""
    tests = "def check(f): assert f() == 2\ncheck(lambda: 1)\n"
    assert not passes(f"import atexit, builtins, os, sys\n{claim}\n{tests}", SMALL)


def test_the_number_is_in_no_variable_while_the_program_runs():
    source = """
import sys
frame = sys._getframe()
while frame:
    assert not [x for x in frame.f_locals.values() if isinstance(x, (str, bytes)) and len(x) == 16]
    frame = frame.f_back
"""
    assert passes(source, SMALL)


@pytest.mark.parametrize("session", [False, True])
def test_programs_that_never_end_are_stopped_with_what_they_started(tmp_path, session, isolation):
    """Also with what left their session."""
    if isolation != "plain" and not session:
        pytest.skip("one time is enough")
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(2.5); open({str(mark)!r}, 'w')"
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session={session})"
    began = time.monotonic()
    assert not passes(f"import subprocess, sys, time\n{start}\ntime.sleep(60)", Limits(seconds=1))
    assert passes(f"import subprocess, sys\n{start}", Limits(seconds=5, processes=9999))
    assert time.monotonic() - began < 6
    time.sleep(2.5)
    assert not mark.exists()


def test_nothing_is_left_and_nothing_is_shown_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.chdir(tmp_path)
    source = "import os; open('here', 'w'); assert 'SECRET' not in os.environ"
    assert passes(source, SMALL) and list(tmp_path.iterdir()) == []


def test_namespaces_hide_other_processes_and_the_network(isolation):
    if isolation == "plain":
        pytest.skip("it has no namespaces")
    few = "import os\nassert sum(name.isdigit() for name in os.listdir('/proc')) < 6"
    assert passes(few, SMALL)
    lo = "import socket\nassert [name for _, name in socket.if_nameindex()] == ['lo']"
    assert passes(lo, SMALL)


def test_bubblewrap_hides_files(isolation, tmp_path):
    if isolation != "bubblewrap":
        pytest.skip("only bubblewrap does")
    (tmp_path / "file").write_text("x")
    assert passes(f"import os\nassert not os.path.exists({str(tmp_path / 'file')!r})", SMALL)
    assert not passes("open('/usr/mark', 'w')", SMALL)


def test_a_program_that_may_not_make_namespaces_is_not_used(tmp_path, monkeypatch, isolation):
    if isolation != "plain":
        pytest.skip("one time is enough")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs._if_usable("bwrap") == programs._if_usable("unshare") == ()


def test_limits_that_leave_no_room(isolation):
    for wrong in ({"seconds": 0}, {"megabytes": 10}, {"processes": 0}):
        with pytest.raises(ValueError, match="at least 1 second, 64 megabytes and 1 process"):
            Limits(**wrong)
