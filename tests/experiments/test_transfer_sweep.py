"""What is planned and concluded of learning rates over sizes; training has a stand-in."""

import json
import math
from types import SimpleNamespace

from commands import call

from experiments import train_denoiser, transfer_sweep
from mdm_jax.training.loop import TrainingStopped

WORDS = ["--task.length", "8", "--rates", "0.1", "0.2", "0.4", "0.8"]


def sweep_of(moves, asked):
    """A stand-in whose best rate is 0.4 but, without rules, falls with the width."""

    def train(config):
        asked.append(config)
        width, rate = config.model.width, config.optimizer.learning_rate
        if rate > 0.6 and width > 64:
            raise TrainingStopped(3, "loss is nan")
        best = 0.4 if config.scaling == "completed-p" else 0.4 * (64 / width) ** moves
        loss = 1 + math.log(rate / best) ** 2
        return SimpleNamespace(likelihood=SimpleNamespace(nelbo_per_token=loss))

    return train


def test_the_verdict(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(train_denoiser, "train", sweep_of(1.0, asked))
    words = [*WORDS, "--widths", "128", "256", "--seeds", "0", "1"]
    call("transfer_sweep", *words, "--run_dir", tmp_path)
    assert len(asked) == len({one.run_dir for one in asked}) == 5 * 4 * 2  # the base once
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "completed-p, width: best learning rate 0.4 at 64, 0.4 at 128, 0.4 at 256; it m" in shown
    assert (
        "none, width: best learning rate 0.4 at 64, 0.2 at 128, 0.1 at 256; it moves by 2" in shown
    )
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["moved"] for row in table] == [0, 2]
    assert (tmp_path / "rates.png").stat().st_size > 5000


def test_sizes_of_every_axis():
    words = {"widths": (128,), "depths": (4,), "batch_sizes": (16,), "durations": (50,)}
    planned = transfer_sweep.plans(transfer_sweep.Config(**words))
    runs = {one.train.run_dir: one.train for one in planned}
    assert len(planned) == 16 and len(runs) == 9
    wide, batch = runs["completed-p-width-128"], runs["none-batch-size-16"]
    assert (wide.model.width, wide.model.heads, wide.base.width, wide.scaling) == (
        *(128, 8, 64),
        "completed-p",
    )
    assert (batch.batch_size, batch.steps, batch.scaling) == (16, 200, "none")  # as many tokens
    assert runs["none-depth-4"].model.depth == 4 and runs["none-updates-50"].steps == 50
    assert runs["base"].scaling == "none"
