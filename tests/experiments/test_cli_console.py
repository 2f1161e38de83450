"""Lines, tables and progress: nothing in a text acts on the terminal."""

import io

import pytest

from experiments._cli import console

HOSTILE = "runs/m[/x]y [bold]b[/bold] :smile: \x1b[2J\r\x9b1m \ud800 \u202e"
SHOWN = "runs/m[/x]y [bold]b[/bold] :smile: \\x1b[2J\\r\\x9b1m \\ud800 \\u202e"


@pytest.fixture
def output(monkeypatch):
    """What is printed, as a text of 80 columns."""
    written = io.StringIO()
    monkeypatch.setattr(console.console, "_file", written)
    monkeypatch.setattr(console.console, "_width", 80)
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
