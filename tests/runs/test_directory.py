"""Run directories on a real file system: created, resumed, refused."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import pytest

from mdm_jax.errors import MdmError
from mdm_jax.runs import directory as directories
from mdm_jax.runs.description import describe


@dataclasses.dataclass(frozen=True)
class Threshold:
    threshold: Any = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    policy: Any = Threshold()
    name: str = "sudoku"


def open_run(*args, **settings):
    """Opened and closed again."""
    with directories.open_run(*args, **settings) as path:
        return path


def contents(directory):
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir()}


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    """The shell leaves it as it is in --run_dir=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert open_run("~/x", "train", Config()) == tmp_path / "home" / "x"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_new_directory(tmp_path):
    run = open_run(tmp_path / "a" / "b", "train", Config())
    assert sorted(contents(run)) == [".lock", "config.json", "env.json"]
    described = {"format": 2, "experiment": "train", **describe(Config())}
    assert json.loads((run / "config.json").read_text()) == described
    (env,) = json.loads((run / "env.json").read_text())
    assert (env["jax"], env["numpy"]) == (jax.__version__, np.__version__)
    assert env["device_count"] == jax.device_count()
    assert env["command"] == sys.argv
    assert env["config_changes"] == {}


def test_resume_keeps_config_and_adds_a_start(tmp_path):
    first = open_run(tmp_path, "train", Config(policy=Threshold(float("nan"))))
    before = contents(tmp_path)
    again = open_run(str(tmp_path), "train", Config(policy=Threshold(np.float32("nan"))))
    after = contents(tmp_path)
    assert again == first
    assert len(json.loads(after.pop("env.json"))) == 1 + len(json.loads(before.pop("env.json")))
    assert after == before


def test_another_configuration_is_refused_by_name(tmp_path):
    open_run(tmp_path, "train", Config())
    before = contents(tmp_path)
    with pytest.raises(MdmError) as error:
        open_run(tmp_path, "train", Config(steps=20, policy=Threshold(0.8)))
    for part in (
        "steps: 10, now 20",
        "policy.threshold: 0.9, now 0.8",
        "another directory",
        "delete it",
    ):
        assert part in str(error.value)
    assert "sudoku" not in str(error.value)
    with pytest.raises(MdmError, match=r"policy\.kind: 'Threshold', now 'absent'"):
        open_run(tmp_path, "train", Config(policy=None))
    with pytest.raises(MdmError, match="holds a run of train, not of evaluate: choose"):
        open_run(tmp_path, "evaluate", Config())
    assert contents(tmp_path) == before


def test_a_setting_that_is_new_since_differs_where_it_is_on(tmp_path):
    open_run(tmp_path / "run", "train", {"steps": 10})
    for off in (None, False, 0, [], "", "none", "softmax"):
        open_run(tmp_path / "run", "train", {"steps": 10, "added": off})
    with pytest.raises(MdmError, match="added: 'absent', now True"):
        open_run(tmp_path / "run", "train", {"steps": 10, "added": True})
    with pytest.raises(MdmError, match="steps: 10, now 0"):
        open_run(tmp_path / "run", "train", {"steps": 0})


def test_of_many_or_long_differences_a_short_line_is_shown(tmp_path):
    open_run(tmp_path, "train", Config())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"format": 2, "experiment": "train", "name": "x" * 999}))
    with pytest.raises(MdmError, match=r"kind: 'absent', now 'Config'; .*; and 2 more\)") as error:
        open_run(tmp_path, "train", Config())
    assert len(str(error.value)) < 300 + len(str(tmp_path))


def test_ignored_keys_may_change_and_are_recorded(tmp_path):
    open_run(tmp_path, "train", Config())
    changed = Config(steps=20, policy=Threshold(0.8))
    with pytest.raises(MdmError, match=r"policy\.threshold"):
        open_run(tmp_path, "train", changed, ignore=["steps", "pol"])
    open_run(tmp_path, "train", changed, ignore=["steps", "policy"])
    starts = json.loads((tmp_path / "env.json").read_text())
    assert starts[-1]["config_changes"] == {"steps": 20, "policy.threshold": 0.8}
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 10


def test_other_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(MdmError, match=r"not a run directory but holds thesis\.tex"):
        open_run(tmp_path, "train", Config())
    assert contents(tmp_path) == {"thesis.tex": b"x"}


def test_a_start_killed_while_creating_is_no_obstacle(tmp_path):
    (tmp_path / "config.json.tmp").write_text('{"kind": "Con')
    open_run(tmp_path, "train", Config())
    assert sorted(contents(tmp_path)) == [".lock", "config.json", "env.json"]


def test_a_run_of_an_earlier_version_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(describe(Config())))
    with pytest.raises(MdmError, match="was written by an earlier version of mdm_jax: choose"):
        open_run(tmp_path, "train", Config())


def test_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(MdmError, match=r"config\.json is damaged"):
        open_run(tmp_path, "train", Config())
