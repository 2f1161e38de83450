"""What ends an experiment is an exit status and, for the user, one line; compiled programs are kept."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import jax
import pytest

from experiments import _cli as cli
from experiments._cli.compilation_cache import use_compilation_cache
from mdm_jax.errors import MdmError


@dataclass(frozen=True)
class Config:
    """No settings."""

    number: int = 0


def status(capsys, run, *words):
    """Exit status and standard error of an experiment."""
    with pytest.raises(SystemExit) as caught:
        cli.main(Config, run, "doc", words=words)
    return caught.value.code, capsys.readouterr().err


def raising(error):
    def run(_):
        raise error

    return run


@pytest.mark.parametrize(
    "error, line",
    [
        (MdmError("steps must be at least 1"), "error: steps must be at least 1\n"),
        (MdmError("two\nlines of \x1b[2J"), "error: two lines of \\x1b[2J\n"),
        (FileExistsError(17, "File exists", "/a/b"), "error: File exists: /a/b\n"),
        (OSError(28, "No space left on device"), "error: No space left on device\n"),
        (PermissionError("by hand"), "error: by hand\n"),
    ],
)
def test_what_the_user_can_mend_is_one_line(capsys, error, line):
    assert status(capsys, raising(error)) == (2, line)


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_a_bug_keeps_its_traceback(capsys, kind):
    with pytest.raises(kind, match="ours"):
        cli.main(Config, raising(kind("ours")), "doc", words=())
    assert capsys.readouterr().err.startswith("this is a bug in mdm_jax; please report it")


def test_interruption_and_termination(capsys):
    before = signal.getsignal(signal.SIGTERM)
    code, err = status(capsys, raising(KeyboardInterrupt()))
    assert code == 130 and err.startswith("interrupted: run the same command again to resume")
    code, err = status(capsys, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert code == 143 and err.startswith("terminated: run the same command again to resume")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_leaves_does_not_end_a_run(start):
    lines = "for i in range(19999): print_once('line')\nprint('ran on', file=sys.stderr)"
    code = f"import sys; from experiments._cli.console import print_once\n{lines}"
    process = start("-c", code)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read().split("\n")[:2] == [
        "standard output is closed: this run continues without it",
        "ran on",
    ]


@pytest.fixture
def no_cache(monkeypatch):
    """JAX without a compilation cache of its own, for one test."""
    names = (
        "jax_compilation_cache_dir",
        "jax_compilation_cache_max_size",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_enable_compilation_cache",
    )
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_compiled_programs_are_kept_in_the_users_cache(no_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.main(Config, lambda _: None, "doc", words=())
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mdm_jax" / "compiled")
    cli.main(Config, lambda _: None, "doc", words=["--compilation_cache", str(tmp_path / "x")])
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "x")
    use_compilation_cache(None)  # as JAX_COMPILATION_CACHE_DIR would have set it
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "x")
    use_compilation_cache("none")
    assert not jax.config.jax_enable_compilation_cache


def test_a_cache_that_cannot_be_written(no_cache, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_compilation_cache(None)
    assert jax.config.jax_compilation_cache_dir is None
    with pytest.raises(OSError):
        use_compilation_cache(str(tmp_path / "file" / "x"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a container's user without an entry
    monkeypatch.chdir(tmp_path)
    use_compilation_cache(None)
    assert jax.config.jax_compilation_cache_dir is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_program_is_named_as_it_is_called(start):
    process = start("-m", "experiments.export", "--help")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.startswith("usage: python -m experiments.export ")


def test_importing_every_entry_point_leaves_out_what_only_runs_need(start):
    code = (
        "import sys, commands\n"
        "late = {'matplotlib', 'orbax', 'scipy.stats', 'tensorflow_datasets', 'tokenizers', 'jinja2'}\n"
        "sys.exit(str(late & {*sys.modules}) if late & {*sys.modules} else 0)"
    )
    process = start("-c", f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{code}")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
