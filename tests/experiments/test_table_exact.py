"""The table of exact results as a command: measured, printed, written, and not made twice."""

from commands import call

from experiments import table_exact
from mdm_jax.evals.exact import table
from mdm_jax.evals.exact.policies import Entry
from mdm_jax.policies.base import RevealAll


def test_a_world_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table_exact, "table_policies", lambda profile, vocab: [Entry(RevealAll())])
    words = ["--only", "copy-pairs", "--samples", "64", "--draws", "2", "--run_dir"]
    call("table_exact", *words, tmp_path / "run")
    shown = capsys.readouterr().out
    assert "4 uniform tokens, each of them twice" in shown and "RevealAll" in shown
    assert "5.545" in shown  # four tokens of log 4 that their copies do not know of
    assert (tmp_path / "run" / "exact.png").exists()
    monkeypatch.setattr(table, "measure", None)
    call("table_exact", *words, tmp_path / "run")
    assert capsys.readouterr().out.endswith("exact.png\n")
