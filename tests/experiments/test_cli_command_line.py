"""The command line of all experiments: configs from words, and refusals that change nothing on disk."""

import shutil
from dataclasses import fields, replace

import pytest
from commands import MODULES, call, parsed, refused
from tiny_run import WORDS, contents

from experiments import (
    learn_variational_order,
    quickstart,
)
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.policies.count_schedules import AlphaCounts, GivenCounts
from mdm_jax.policies.heuristics import EntropyBound, Random, TopConfidence
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.chains import Chains
from mdm_jax.tasks.sudoku import Sudoku


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A copy of the tiny run that nobody else writes to."""
    directory = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(
        trained[0], directory, ignore=shutil.ignore_patterns("evaluate-*", "frontier-*")
    )
    return directory


@pytest.mark.parametrize("name", MODULES)
def test_help(name, capsys):
    with pytest.raises(SystemExit) as caught:
        call(name, "--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert MODULES[name].__doc__.split()[0] in shown
    has_task = "task" in {field.name for field in fields(MODULES[name].Config)}
    assert ("--task {sudoku,chains,gsm8k,text8" in shown) == has_task


def test_flags_become_settings(run):
    config = parsed("train", "--task", "chains", "--task.depth", "2", *WORDS)
    assert config.task == Chains(depth=2) and config.steps == 6 and config.model.width == 16
    config = parsed("evaluate", "policy:entropy-bound", "--policy.gamma", "0.5", "--run", run)
    assert config.policy == EntropyBound(0.5) and config.task == Sudoku()
    config = parsed("evaluate", f"--run={run}", "--temperature", "0.5", "--block_length", "4")
    assert config.sampling == SamplerConfig(temperature=0.5, block_length=4)
    config = parsed("sample", "--run", run, "policy:top-confidence", "--policy.schedule", "cosine")
    assert config.policy == TopConfidence(8, AlphaCounts())
    config = parsed("sample", "--run", run, "policy:random", "--policy.schedule", "1,2,13")
    assert config.policy == Random(8, GivenCounts((1, 2, 13)))
    config = parsed("quickstart", "--preset", "minute", "--examples", "5")
    assert config == replace(quickstart.PRESETS["minute"], examples=5)


def test_flags_become_a_learned_policy(run):
    config = parsed("evaluate", "--run", run, "policy:learned")
    assert config.policy == Learned() and config.run == str(run)
    words = "policy:learned --policy.run /order --policy.steps 3 --policy.policy_temperature 1"
    words += " --policy.scale 1.5 --policy.fallback spend"
    for name in ("evaluate", "sample"):
        config = parsed(name, "--run", run, *words.split())
        assert config.policy == Learned("/order", 3, 1.0, 1.5, "spend") and config.run == str(run)
    config = parsed("frontier", "--run", run, "--learned", "a", "b", "--scales", "1", "2")
    assert config.learned == ("a", "b") and config.scales == (1.0, 2.0)
    words = f"--task chains --denoiser {run} --budget 8 form:plackett-luce --objective.samples 6"
    config = parsed("learn_variational_order", *words.split())
    assert config.task == Chains() and config.form == PlackettLuce()
    assert (config.denoiser, config.budget, config.objective.samples) == (str(run), 8, 6)
    config = parsed("learn_variational_order", "--preset", "plain", "--joint")
    assert config == replace(learn_variational_order.PRESETS["plain"], joint=True)


def test_a_run_with_another_configuration(capsys, run):
    before = contents(run)
    words = ["--run_dir", run, *WORDS, "--optimizer.learning_rate", "0.5"]
    line = refused(capsys, "train", *words)
    assert (
        "holds a run with another configuration (optimizer.learning_rate: 0.003, now 0.5)" in line
    )
    assert "choose another directory or delete it" in line
    assert contents(run) == before


def test_a_directory_of_something_else(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    line = refused(capsys, "train", "--run_dir", tmp_path, *WORDS)
    assert "is not a run directory but holds thesis.tex" in line
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_run_that_is_no_training_run(capsys, run, tmp_path):
    (tmp_path / "config.json").write_text('{"task": {"kind": "Sudoku"}}')
    line = refused(capsys, "sample", "--run", tmp_path)
    assert "was written by an earlier version of mdm_jax: train again" in line
    (tmp_path / "config.json").write_text('{"format": 2, "experiment": "evaluate", "task": {}}')
    line = refused(capsys, "sample", "--run", tmp_path)
    assert "is no training run: give a directory of train_denoiser, quickstart, learn_order" in line
    (tmp_path / "config.json").write_text('{"task": {"ki')
    assert "config.json is damaged" in refused(capsys, "sample", "--run", tmp_path)
    assert "is no run directory" in refused(capsys, "sample", "--run", tmp_path / "x")


@pytest.mark.parametrize("name", ["evaluate", "frontier", "sample"])
def test_a_damaged_checkpoint(capsys, run, tmp_path, name):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    for path in (damaged / "checkpoints" / "6" / "ema").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    before = contents(damaged)
    line = refused(capsys, name, "--run", damaged)
    assert "checkpoint 6 in" in line and "cannot be read" in line
    assert f"delete {damaged}/checkpoints/6 to go back" in line
    assert contents(damaged) == before


def test_training_on_a_damaged_checkpoint(capsys, run, tmp_path):
    damaged = tmp_path / "run"
    shutil.copytree(run, damaged)
    shutil.rmtree(damaged / "checkpoints" / "6" / "opt_state")
    before = contents(damaged)
    line = refused(capsys, "train", "--run_dir", damaged, *WORDS)
    assert "checkpoint 6 in" in line and "cannot be read" in line
    changed = {name for name, text in contents(damaged).items() if before.get(name) != text}
    assert changed == {"env.json"}  # that it was started


def test_no_checkpoint_yet(capsys, run, tmp_path):
    shutil.copy(run / "config.json", tmp_path)
    assert "no checkpoints at" in refused(capsys, "sample", "--run", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    line = refused(capsys, "sample", "--run", tmp_path)
    assert "no finished checkpoint in" in line and "train first" in line


def test_refusals_do_not_depend_on_the_terminal(start, monkeypatch):
    for name in ("PYTHONUTF8", "PYTHONCOERCECLOCALE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("LC_ALL", "C")
    process = start("-m", "experiments.benchmark", "--steps", "many", "--stray")
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (2, 1)
    assert err.startswith("error: Unrecognized options: --stray")


def test_a_refusal_of_a_process(start, tmp_path):
    process = start("-m", "experiments.sample", "--run", tmp_path / "nothing")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2 and out == ""
    lines = [line for line in err.splitlines() if line]
    assert lines == [
        f"error: {tmp_path}/nothing is no run directory (it has no config.json): train first"
    ]
