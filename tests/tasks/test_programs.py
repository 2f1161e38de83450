"""Running generated programs: what passes, what does not, what is stopped and what is contained."""

import shutil
import time

import pytest

from mdm_jax.tasks.prompted import programs
from mdm_jax.tasks.prompted.programs import Limits, passes

SMALL = Limits(seconds=2, megabytes=256)


@pytest.fixture(params=["plain", "bubblewrap"], autouse=True)
def isolation(request, monkeypatch):
    """Without namespaces, and with them where bwrap can be used."""
    programs._bubblewrap.cache_clear()
    if request.param == "plain":
        monkeypatch.setattr(programs, "_bubblewrap", lambda: ())
    elif not programs._bubblewrap():
        pytest.skip("bwrap is not installed, or may not make namespaces")
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


@pytest.mark.parametrize("session", [False, True])
def test_programs_that_never_end_are_stopped_with_what_they_started(tmp_path, session):
    """Also with what left their session."""
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


def test_namespaces_hide_other_processes_files_and_the_network(isolation, tmp_path):
    if isolation == "plain":
        pytest.skip("only bubblewrap does")
    (tmp_path / "file").write_text("x")
    few = "import os\nassert sum(name.isdigit() for name in os.listdir('/proc')) < 6"
    assert passes(few, SMALL)
    assert passes(f"import os\nassert not os.path.exists({str(tmp_path / 'file')!r})", SMALL)
    assert passes("import os\nassert os.listdir('/sys/class/net') == ['lo']", SMALL) or passes(
        "import socket\nassert [name for _, name in socket.if_nameindex()] == ['lo']", SMALL
    )
    assert not passes("open('/usr/mark', 'w')", SMALL)


def test_a_bwrap_that_may_not_be_used_is_not_used(tmp_path, monkeypatch, isolation):
    if isolation == "plain":
        pytest.skip("one time is enough")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    programs._bubblewrap.cache_clear()
    assert shutil.which("bwrap") == str(broken) and programs._bubblewrap() == ()
    programs._bubblewrap.cache_clear()


def test_limits_that_leave_no_room(isolation):
    for wrong in ({"seconds": 0}, {"megabytes": 10}, {"processes": 0}):
        with pytest.raises(ValueError, match="at least 1 second, 64 megabytes and 1 process"):
            Limits(**wrong)
