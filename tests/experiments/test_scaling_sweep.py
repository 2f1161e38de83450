"""A sweep is planned at equal FLOPs, and fit_laws reads what it trains; training has a stand-in."""

import numpy as np
from commands import call, parsed

from experiments import scaling_sweep, train_denoiser
from mdm_jax.laws.isoflop import same_budget
from mdm_jax.runs.description import describe
from mdm_jax.runs.directory import CONFIG, FORMAT
from mdm_jax.runs.json_files import append_rows, write_json
from mdm_jax.runs.metrics import METRICS
from mdm_jax.runs.scaling import ColumnNames, read_runs, training_flops_per_token

WORDS = ["--widths", "16", "32", "64", "--budgets", "3e11", "1e12", "3e12", "1e13"]


def trained(config):
    """Writes what a run would, with a loss that is best at a size which grows with the budget."""
    train = train_denoiser.resolve(config)
    described = {"format": FORMAT, "experiment": "train_denoiser", **describe(train)}
    home = scaling_sweep.expand(train.run_dir)
    home.mkdir(parents=True)
    write_json(home / CONFIG, described)
    each = training_flops_per_token(train.model, train.task.length)
    tokens = train.steps * train.batch_size * train.task.length
    size = np.log(each / 2.4e5) - 0.1 * np.log(each * tokens / 1e12)
    append_rows(home / METRICS, [{"step": train.steps, "heldout_nelbo_per_token": 1 + size**2 / 9}])


def test_budgets_are_met_and_the_runs_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling_sweep.train_denoiser, "train", trained)
    home = tmp_path / "sweep"
    call("scaling_sweep", *WORDS, "--plan", "--run_dir", home)
    assert not home.exists() and "12 runs" in capsys.readouterr().out
    call("scaling_sweep", *WORDS, "--run_dir", home)
    directories = [str(path) for path in sorted(home.iterdir())]
    columns = read_runs(directories, vars(ColumnNames()))
    groups = same_budget(columns["flops"])
    assert [len(group) for group in groups] == [3, 3, 3, 3]
    for group, budget in zip(groups, (3e11, 1e12, 3e12, 1e13), strict=True):
        assert np.abs(columns["flops"][group] / budget - 1).max() < 0.01
    words = [
        "--approach",
        "isoflop",
        "--skip_edges",
        "--draws",
        "20",
        "--out_dir",
        tmp_path / "law",
    ]
    call("fit_laws", "--runs", *directories, *words)
    assert "N exponent" in capsys.readouterr().out  # no residuals: three sizes have no intervals


def test_a_learning_rate_for_each_width():
    words = [*WORDS[:4], "--learning_rates", "0.1", "0.2", "0.3"]
    planned = scaling_sweep.plans(parsed("scaling_sweep", *words))
    rates = {each.train.model.width: each.train.optimizer.learning_rate for each in planned}
    assert rates == {16: 0.1, 32: 0.2, 64: 0.3}
    assert {each.train.model.heads for each in planned} == {1, 2, 4}
