"""Run directories on a real file system: created, resumed, refused, torn and truncated."""

import dataclasses
import enum
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.runs.log import append_rows, describe, open_run, read_rows


@dataclasses.dataclass(frozen=True)
class Threshold:
    threshold: Any = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    policy: Any = Threshold()
    name: str = "sudoku"


class Pair(NamedTuple):
    left: int
    right: tuple


class Colour(enum.Enum):
    RED = 1


def contents(directory):
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir()}


def test_describe_is_plain_json():
    got = describe({
        "config": Config(policy=Threshold(jnp.float32(0.5))),
        "pair": Pair(np.int64(3), (True, None)),
        "array": np.arange(4.0),
        "set": {3, 1, 2},
        "path": pathlib.Path("a") / "b",
        "enum": Colour.RED,
        "dtype": np.dtype("float32"),
        "function": math.comb,
        "class": jnp.bfloat16,
        "module": nn.Dropout(0.5),
        7: [np.bool_(False), jax.random.key(1)],
    })  # fmt: skip
    assert json.loads(json.dumps(got)) == got
    policy = {"kind": "Threshold", "threshold": 0.5}
    assert got["config"] == {"kind": "Config", "steps": 10, "policy": policy, "name": "sudoku"}
    assert got["pair"] == {"kind": "Pair", "left": 3, "right": [True, None]}
    assert got["array"] == [0.0, 1.0, 2.0, 3.0]
    assert got["set"] == [1, 2, 3]
    assert got["path"] == os.path.join("a", "b")
    assert (got["enum"], got["dtype"], got["function"]) == ("RED", "float32", "math.comb")
    assert got["module"]["kind"] == "Dropout"
    assert got["module"]["rate"] == 0.5
    assert "parent" not in got["module"]
    assert got["7"] == [False, {"kind": "key<fry>", "data": [0, 1]}]


def test_describe_tells_large_arrays_apart():
    weights = np.zeros((5, 7), np.float32)
    one, same, other = describe(weights), describe(jnp.zeros((5, 7))), describe(weights + 1)
    assert one == same
    assert one["sha256"] != other["sha256"]
    assert (one["shape"], one["dtype"]) == ([5, 7], "float32")


def test_describe_refuses_what_it_cannot_say():
    with pytest.raises(ValueError, match="of type object"):
        describe({"a": [object()]})

    @dataclasses.dataclass
    class Named:
        kind: str = "x"

    with pytest.raises(ValueError, match="Named is called 'kind'"):
        describe(Named())


def test_new_directory(tmp_path):
    run = open_run(tmp_path / "a" / "b", Config())
    assert sorted(contents(run.directory)) == ["config.json", "env.json"]
    assert json.loads((run.directory / "config.json").read_text()) == describe(Config())
    (env,) = json.loads((run.directory / "env.json").read_text())
    assert (env["jax"], env["numpy"]) == (jax.__version__, np.__version__)
    assert env["device_count"] == jax.device_count()
    assert env["command"] == sys.argv
    assert env["config_changes"] == {}


def test_environment_names_the_revision_only_of_a_checkout_with_the_package_in_it(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    module = tmp_path / "runlog.py"
    module.write_text("")
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "m"], check=True)
    monkeypatch.setattr(runlog, "__file__", str(module))
    assert runlog.environment()["git_commit"] is None  # e.g. a virtual environment in a checkout
    subprocess.run([*git, "add", "runlog.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "m"], check=True)
    env = runlog.environment()
    assert len(env["git_commit"]) == 40
    assert env["git_dirty"] is False
    module.write_text("x")
    assert runlog.environment()["git_dirty"] is True


def test_resume_keeps_config_and_adds_a_start(tmp_path):
    first = open_run(tmp_path, Config(policy=Threshold(float("nan"))))
    first.append(1, {"loss": 2.0})
    before = contents(tmp_path)
    again = open_run(str(tmp_path), Config(policy=Threshold(np.float32("nan"))))
    after = contents(tmp_path)
    assert again == first
    assert len(json.loads(after.pop("env.json"))) == 1 + len(json.loads(before.pop("env.json")))
    assert after == before


def test_another_configuration_is_refused_by_name(tmp_path):
    open_run(tmp_path, Config())
    before = contents(tmp_path)
    with pytest.raises(ValueError) as error:
        open_run(tmp_path, Config(steps=20, policy=Threshold(0.8)))
    for part in (
        "steps: 10, now 20",
        "policy.threshold: 0.9, now 0.8",
        "another directory",
        "delete it",
    ):
        assert part in str(error.value)
    assert "sudoku" not in str(error.value)
    with pytest.raises(ValueError, match=r"policy\.kind: 'Threshold', now 'absent'"):
        open_run(tmp_path, Config(policy=None))
    with pytest.raises(ValueError, match="already holds a run"):
        open_run(tmp_path, Config(), resume_ok=False)
    assert contents(tmp_path) == before


def test_ignored_keys_may_change_and_are_recorded(tmp_path):
    open_run(tmp_path, Config())
    changed = Config(steps=20, policy=Threshold(0.8))
    with pytest.raises(ValueError, match=r"policy\.threshold"):
        open_run(tmp_path, changed, ignore=["steps", "pol"])
    open_run(tmp_path, changed, ignore=["steps", "policy"])
    starts = json.loads((tmp_path / "env.json").read_text())
    assert starts[-1]["config_changes"] == {"steps": 20, "policy.threshold": 0.8}
    assert json.loads((tmp_path / "config.json").read_text()) == describe(Config())


def test_other_directories_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"not a run directory but holds thesis\.tex"):
        open_run(tmp_path, Config())
    assert contents(tmp_path) == {"thesis.tex": b"x"}


def test_a_start_killed_while_creating_is_no_obstacle(tmp_path):
    (tmp_path / "config.json.tmp").write_text('{"kind": "Con')
    open_run(tmp_path, Config())
    assert sorted(contents(tmp_path)) == ["config.json", "env.json"]


def test_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not JSON"):
        open_run(tmp_path, Config())


def test_metrics_and_truncation(tmp_path):
    run = open_run(tmp_path, Config())
    assert run.metrics() == []
    for step in (0, 5, 5, 10):
        run.append(step, {"loss": jnp.float32(step / 2)})
    run.truncate_after(5)
    run.append(6, {"loss": np.float64(0.1)})
    rows = [(0, 0.0), (5, 2.5), (5, 2.5), (6, 0.1)]
    assert run.metrics() == [{"step": step, "loss": loss} for step, loss in rows]
    with pytest.raises(ValueError, match="'step' is given twice: 1 and 2"):
        run.append(1, {"step": 2})


def test_torn_last_line_is_dropped_then_repaired(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"a": 1}, {"a": "é\n"}])
    whole = path.read_bytes()
    for cut in range(1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert read_rows(path) == [{"a": 1}, {"a": "é\n"}][:complete]
        append_rows(path, [{"a": 3}])
        assert read_rows(path) == [*[{"a": 1}, {"a": "é\n"}][:complete], {"a": 3}]


@pytest.mark.parametrize("line", ['{"a": ', "[1]", ""])
def test_malformed_middle_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + line + '\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not a JSON"):
        read_rows(path)


def test_rows_that_cannot_be_described_write_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="of type object"):
        append_rows(path, [{"a": 1}, {"a": object()}])
    assert not path.exists()


def test_killed_writer_leaves_readable_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = (
        "import sys; from mdm_jax.runs.log import append_rows\n"
        "for i in range(10**9):\n"
        "    append_rows(sys.argv[1], [{'step': i, 'text': 'x' * 5000}])\n"
        "    print(flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE
    ) as process:
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    steps = [row["step"] for row in read_rows(path)]
    assert len(steps) >= 5
    assert steps == list(range(len(steps)))
