"""Lines, tables and progress: nothing in a text acts on the terminal, and tables fit it."""

import io

import pytest

from experiments._cli import console
from mdm_jax.evals.evaluate import Row

HOSTILE = "runs/m[/x]y [bold]b[/bold] :smile: \x1b[2J\r\x9b1m \ud800 \u202e"
SHOWN = "runs/m[/x]y [bold]b[/bold] :smile: \\x1b[2J\\r\\x9b1m \\ud800 \\u202e"


@pytest.fixture
def output(monkeypatch):
    """What is printed, as a text of 80 columns."""
    written = io.StringIO()
    monkeypatch.setattr(console.console, "file", written)
    monkeypatch.setattr(console.console, "width", 80)
    return written


def test_controls_become_escapes():
    assert console.escape_controls(HOSTILE) == SHOWN
    assert console.escape_controls("two\nlines\tä 数") == "two\nlines\tä 数"


def test_text_is_printed_as_it_is(output):
    console.print_once(HOSTILE)
    assert output.getvalue() == SHOWN + "\n"
    console.print_table(HOSTILE, ["name", "n"], [[HOSTILE, "1"]])
    with console.progress(HOSTILE, 2) as advance:
        advance(2, HOSTILE)
    shown = output.getvalue()
    assert "\x1b" not in shown and "\r" not in shown and ":smile:" in shown
    assert f"{SHOWN} 2/2 {SHOWN}, " in shown


def test_long_lines_are_left_whole(output):
    console.print_once("/a/path/" + "x" * 200)
    assert output.getvalue() == "/a/path/" + "x" * 200 + "\n"


def test_settings_can_be_read_in_80_columns(output):
    settings = {"steps": 8, "policy_temperature": 0.05, "schedule": "linear", "cache": "dual"}
    row = Row("ConfidenceThreshold", settings, 9, 8, 8 / 9, 0.501, 1.0, 12.5, 10, 16, 16.0, 12345.6)
    console.print_rows([row], "title")
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for name, value in settings.items():
        assert f"{name}={value}" in text
    for cell in ("ConfidenceThreshold", "88.9", "50.1 - 100.0", "12.50 [10, 16]", "16.0", "12,346"):
        assert cell in text
