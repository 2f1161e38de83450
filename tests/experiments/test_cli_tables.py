"""Tables of results fit the terminal."""

import io

import pytest

from experiments._cli import console, tables
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.score import Row


@pytest.fixture
def output(monkeypatch):
    """What is printed, as a text of 80 columns."""
    written = io.StringIO()
    monkeypatch.setattr(console.console, "_file", written)
    monkeypatch.setattr(console.console, "_width", 80)
    return written


def test_settings_can_be_read_in_80_columns(output):
    settings = {"steps": 8, "policy_temperature": 0.05, "schedule": "linear", "cache": "dual"}
    row = Row("ConfidenceThreshold", settings, 9, 8, 8 / 9, 0.501, 1.0, 12.5, 10, 16, 16.0, 12345.6)
    tables.print_rows([row], "title")
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for name, value in settings.items():
        assert f"{name}={value}" in text
    for cell in ("ConfidenceThreshold", "88.9", "50.1 - 100.0", "12.50 [10, 16]", "16.0", "12,346"):
        assert cell in text


def row(policy, accuracy, nfe):
    return Row(policy, {"steps": 4}, 1, 2, accuracy, 0.1, 0.9, nfe, 1, 16, 16.0, None)


def test_paired_rows_say_who_is_better(output):
    rows = [
        PairedRow(row("LearnedPolicy", 0.5, 4.0)),
        PairedRow(row("Random", 0.25, 4.0), 0.25, 0.125, 0.375, 0.99),
    ]
    tables.print_paired_rows(rows, "title")
    shown = output.getvalue()
    assert "+25.0 [+12.5, +37.5]" in shown and "0.990" in shown
    assert max(map(len, shown.splitlines())) <= 80
