"""Files as other programs leave them."""

import os
import pwd
import subprocess
import sys

import pytest

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, read_json, read_text, split_lines

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\n\n \n", ["a"]),
        ("a\n\nb", ["a", "", "b"]),
        ("a\u2028b\u2029c\x85d\x0be\n", ["a\u2028b\u2029c\x85d\x0be"]),
    ],
)
def test_only_line_feeds_end_a_line(tmp_path, text, lines):
    found = split_lines(text, tmp_path / "f")
    assert [line for line, _ in found] == lines
    assert found[0][1] == f"{tmp_path / 'f'}, line 1"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_lines(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(MdmError, match="f is empty"):
        split_lines(read_text(tmp_path / "f"), tmp_path / "f")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "f").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xbc"}')
    assert read_json(tmp_path / "f") == {"a": "ü"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff{}", "f is not UTF-8 at byte 0"),
        (b"{", "f is not JSON"),
        (b"[" * 100_000, "f is not JSON"),
        (b'{"question": "\\ud83d?"}', "f is not JSON: .*surrogates not allowed"),
        (POINTER.encode(), "f is only a git-lfs pointer .* `git lfs pull`"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(MdmError, match=message):
        read_json(tmp_path / "f")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MdmError, match=r"has no config\.json"):
        read_text(tmp_path / "config.json")


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/x") == tmp_path / "x" and expand("/a~") == expand("/a~")

    def nobody(uid):
        raise KeyError(uid)  # what a container's user without a passwd entry gets

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert str(expand("data")) == "data"
    with pytest.raises(MdmError, match="set HOME, or give a path without ~"):
        expand("~/x")


def test_any_locale(tmp_path):
    (tmp_path / "f").write_text('{"a": "ü"}', encoding="utf-8")
    code = f"from mdm_jax.external_files import *; print(ascii(read_json(Path({str(tmp_path)!r}) / 'f')))"
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout == "{'a': '\\xfc'}\n"
