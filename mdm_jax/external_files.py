"""Reading files that other programs wrote, as editors, data sets and git leave them.

Text is UTF-8 whatever the locale is, with or without a byte order mark.
"""

import json
import os
from pathlib import Path
from typing import Any

from mdm_jax.errors import MdmError

_LFS = b"version https://git-lfs.github.com/spec/"


def expand(path: str | Path) -> Path:
    """The path with `~` replaced by the home directory.

    Raises:
      MdmError: there is a `~`, but no home directory (a container user without HOME).
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise MdmError(
            f"{path} needs a home directory, and this user has none: set HOME, or give a path "
            "without ~"
        ) from error


def user_cache() -> Path:
    """Where this user's caches are: the XDG directory, or ~/.cache.

    Raises:
      MdmError: the user has no home directory.
    """
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mdm_jax"


def check_not_pointer(path: Path) -> None:
    """Raise MdmError where git-lfs left a pointer in the place of a large file."""
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise MdmError(
                f"{path} is only a git-lfs pointer to the real file: run `git lfs pull` in "
                f"{path.parent}, or download it again"
            )


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
      MdmError: no such file, one that cannot be read, a git-lfs pointer, or text that is not UTF-8.
    """
    if not path.is_file():
        raise MdmError(f"{path.parent} has no {path.name}")
    try:
        check_not_pointer(path)
        return decode(path.read_bytes(), path)
    except OSError as error:
        raise MdmError(f"{path} cannot be read: {error}") from error


def decode(content: bytes, path: Path) -> str:
    """UTF-8 as text, without a byte order mark.

    Raises:
      MdmError: it is not UTF-8; `path` and the place are named.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MdmError(
            f"{path} is not UTF-8 at byte {error.start} ({error.reason}): convert it first"
        ) from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
      MdmError: as `read_text`, or it is not JSON.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """A JSON text as an object.

    Raises:
      MdmError: it is none, or a string in it is no text (half a surrogate pair); `where` is named.
    """
    try:
        content = json.loads(text)
        if "\\u" in text:
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MdmError(f"{where} is not JSON: {error}") from error
    return content


def split_lines(text: str, path: Path) -> list[tuple[str, str]]:
    """The lines of a JSON-lines text, each with its place for messages ("file, line 3").

    Only a line feed (or CR LF) ends a line: JSON strings may hold the Unicode line separators that
    `str.splitlines` splits at. Blank lines at the end are no lines.

    Raises:
      MdmError: there is no line.
    """
    lines = text.rstrip().split("\n")
    if lines == [""]:
        raise MdmError(f"{path} is empty")
    return [(line.rstrip("\r"), f"{path}, line {n}") for n, line in enumerate(lines, 1)]
