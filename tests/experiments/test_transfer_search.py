"""A search of learning rates by module, and what it gains at another width; training has a stand-in."""

import json
import math
import re
from types import SimpleNamespace

import pytest
from commands import call

from experiments import train_denoiser


def train(config):
    """Best where embeddings learn four times as fast, at any width; a seed shifts all losses."""
    rates = dict(config.optimizer.module_rates)
    loss = 1 + (math.log2(rates.get("embedding", 1.0)) - 2) ** 2 + config.seed
    return SimpleNamespace(likelihood=SimpleNamespace(nelbo_per_token=loss))


def test_what_is_found_is_carried_over(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_denoiser, "train", train)
    words = ["--trials", "60", "--modules", "embedding", "--task.length", "8"]
    call("transfer_search", *words, "--run_dir", tmp_path)
    found = re.search(r"--optimizer.module_rates embedding ([0-9.]+)\n", capsys.readouterr().out)
    assert float(found[1]) == pytest.approx(4, rel=0.2)
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["width"] for row in table] == [64, 128]
    for row in table:
        assert row["base"] == pytest.approx(6) and row["searched"] == pytest.approx(2, abs=0.05)
