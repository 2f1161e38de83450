"""What the README and the pages of docs/ tell people to type works."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
TRANSLATED = {"--steps", "--remasking", "--threshold", "--factor", "--alg", "--alg-temp"}
TRANSLATED |= {
    "--gen-length",
    "--cfg-scale",
    "--task",
    "--preset",
}  # taken before the flags are read


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    """(experiment, its words) of every documented command, each once."""
    found = {}
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.search(r"python -m experiments\.(\w+)(.*)", line):
                    words = shlex.split(match[2].split("&&")[0].rstrip('"'), comments=True)
                    found[match[1], *words] = pytest.param(
                        match[1], words, id=f"{match[1]} {words}"
                    )
    return found.values()


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name
)
def test_python_blocks_run(page, capsys):
    namespace = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


@pytest.mark.parametrize(("experiment", "words"), commands())
def test_flags_of_documented_commands_exist(experiment, words, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    command_line = pytest.importorskip("command_line", reason="needs the docs extra")
    chosen = [word for word in words if re.match(r"[a-z_.-]+:[a-z]", word)]
    published = "DIR" in words  # its tasks are made from the files that are there
    for flag in ("--preset",) if published else ("--task", "--preset"):
        if flag in words:
            chosen = [*words[words.index(flag) :][:2], *chosen]
    known = command_line.help_text(f"experiments.{experiment}", *chosen)
    flags = {word.replace("_", "-") for word in words if word.startswith("--")}
    if published:
        flags = {flag for flag in flags if not flag.startswith("--task.")}
    assert "--help" in known
    assert [flag for flag in flags - TRANSLATED if not re.search(rf"{flag}[ ,\n]", known)] == []
