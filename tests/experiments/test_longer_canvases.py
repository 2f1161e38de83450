"""Trained at one length, measured at others; training has a stand-in."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call

from experiments import longer_canvases
from mdm_jax.runs.trainings.denoiser import Trained


def uniform(canvas, valid, positions=None):
    """Knows nothing: log 8 nats for each token of a chain with 8 states, at any length."""
    return jnp.zeros((len(canvas if positions is None else positions), 8))


def test_the_table(tmp_path, monkeypatch, capsys):
    asked = []

    def trained(config):
        asked.append(config)
        return Trained(jax.tree_util.Partial(uniform), None)

    monkeypatch.setattr(longer_canvases.train_denoiser, "train", trained)
    words = ["--times", "2", "--tokens", "64", "--attention", "softmax", "sigmoid"]
    call("longer_canvases", *words, "--task.length", 8, "--run_dir", tmp_path)
    assert [one.model.attention for one in asked] == ["softmax", "sigmoid"]
    assert {one.task.length for one in asked} == {8} and len({one.run_dir for one in asked}) == 2
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["attention"] for row in table] == ["softmax", "sigmoid"]
    for row in table:
        assert row["nats_per_token"].keys() == {"8", "16"}
        for by_seed in row["nats_per_token"].values():
            assert by_seed == pytest.approx([np.log(8)], rel=1e-5)
    assert "trained at length 8" in capsys.readouterr().out
