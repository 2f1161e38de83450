"""What is trained and kept of a comparison in function space; training has a stand-in."""

import json
import math

from commands import call

from experiments import flerm
from mdm_jax.runs.trainings.flerm import Finished

WORDS = ["--task.length", "8", "--rates", "0.1", "0.2", "0.4", "--widths", "128"]


def test_records_are_matched_and_finished_runs_are_read(tmp_path, monkeypatch, capsys):
    asked = []

    def run(training, rate, wanted, advance):
        """Best at 0.2 where matched, else at less the wider the network is, which may diverge."""
        asked.append((training.model.width, rate, wanted))
        advance(training.steps)
        wider = training.model.width / 64
        best = 0.2 if wanted else 0.2 / wider
        if wanted is None and wider > 1 and rate == 0.4:
            return Finished(math.inf, {})
        return Finished(1 + math.log(rate / best) ** 2, {"rate": [rate]})

    monkeypatch.setattr(flerm.FlermTraining, "run", run)
    call("flerm", *WORDS, "--run_dir", tmp_path)
    assert len(asked) == 3 * (1 + 2)
    for width, rate, wanted in asked:
        assert wanted is None or (width == 128 and wanted == {"rate": [rate]})
    shown = capsys.readouterr().out
    assert "flerm, width: best learning rate 0.2 at 64, 0.2 at 128; it moves by 0" in shown
    assert "none, width: best learning rate 0.2 at 64, 0.1 at 128; it moves by 1" in shown
    table = (tmp_path / "table.json").read_text()
    assert [row["axis"] for row in json.loads(table)] == ["width", "width"]
    call("flerm", *WORDS, "--run_dir", tmp_path)
    assert len(asked) == 9 and (tmp_path / "table.json").read_text() == table
