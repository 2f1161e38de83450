"""Running generated programs: what passes, what does not, and what is stopped."""

import time

import pytest

from mdm_jax.tasks.prompted.programs import Limits, passes

SMALL = Limits(seconds=2, megabytes=256)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert 1 + 1 == 2", True),
        ("print('finished' * 9)", True),
        ("if __name__ != '__main__': raise ValueError", True),
        ("assert False", False),
        ("import sys; sys.exit(0)", False),
        ("import os; os._exit(0)", False),
        ("def f(:", False),
        ("x = 'a' * (1 << 30)", False),
        ("open('large', 'w').write('a' * (2 << 20))", False),
        ("print(input())", False),
        ("", True),
    ],
)
def test_what_passes(source, expected):
    assert passes(source, SMALL) is expected


def test_programs_that_never_end_are_stopped_with_what_they_started(tmp_path):
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(2.5); open({str(mark)!r}, 'w')"
    source = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
time.sleep(60)
"""
    began = time.monotonic()
    assert not passes(source, Limits(seconds=1))
    assert time.monotonic() - began < 5
    time.sleep(2.5)
    assert not mark.exists()


def test_nothing_is_left_and_nothing_is_shown_of_this_process(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.chdir(tmp_path)
    source = "import os; open('here', 'w'); assert 'SECRET' not in os.environ"
    assert passes(source, SMALL) and list(tmp_path.iterdir()) == []


def test_limits_that_leave_no_room():
    for wrong in ({"seconds": 0}, {"megabytes": 10}):
        with pytest.raises(ValueError, match="at least 1 second and 64 megabytes"):
            Limits(**wrong)
