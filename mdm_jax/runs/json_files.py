"""JSON files that survive a killed writer. Where there are several processes, the first one writes."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from mdm_jax.errors import MdmError
from mdm_jax.runs.description import Json, describe

Path = str | os.PathLike


def read_json(path: Path) -> Json:
    """The content of a JSON file.

    Raises:
        MdmError: it is not JSON.
    """
    try:
        return json.loads(pathlib.Path(path).read_bytes())
    except ValueError as error:
        raise MdmError(f"{path} is damaged, not JSON: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Writes `describe(value)`, indented: the whole file or nothing, however the process ends."""
    replace_text(path, json.dumps(describe(value), indent=2) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Writes a whole text file or nothing, however the process ends."""
    if jax.process_index() != 0:
        return
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSON-lines file; a last line that a killed writer left unfinished is dropped.

    Raises:
        MdmError: for any other line that is not a JSON object, with the file and line number.
    """
    path = pathlib.Path(path)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [parse_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows to a JSON-lines file in one write, on disk when it returns.

    An unfinished last line is cut off first, so a killed writer loses the rows of one call at most.

    Raises:
        ValueError: if a value cannot be described; nothing has been written then.
    """
    append_text(path, "".join(json.dumps(describe(row)) + "\n" for row in rows))


def append_text(path: Path, text: str) -> None:
    """Appends whole lines in one write, on disk when it returns; cuts an unfinished last line first."""
    if jax.process_index() != 0:
        return
    drop_torn_line(path)
    with open(path, "ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def drop_torn_line(path: Path) -> None:
    """Cuts off what a killed writer left after the last line end, if there is anything."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def parse_row(line: bytes, where: str) -> dict:
    """A line of a JSON-lines file as an object.

    Raises:
        MdmError: it is none; `where` is named.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise MdmError(f"{where}: not a JSON line: {line[:80]!r}") from error
    if not isinstance(row, dict):
        raise MdmError(f"{where}: not a JSON object: {line[:80]!r}")
    return row
