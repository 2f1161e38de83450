"""Checksums of what is written, as the command sha256sum writes and checks them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mdm_jax.errors import MdmError

SUMS = "SHA256SUMS"


def text_digest(text: str, digits: int = 16) -> str:
    """The first hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(directory: Path, pattern: str) -> None:
    """Write SHA256SUMS of the files below a directory that fit a pattern: all of it or nothing."""
    files = sorted(path for path in directory.glob(pattern) if path.is_file())
    with ThreadPoolExecutor() as pool:  # hashing does not hold Python's lock
        digests = pool.map(file_digest, files)
    lines = [
        f"{digest}  {path.relative_to(directory).as_posix()}\n"
        for digest, path in zip(digests, files, strict=True)
    ]
    partial = directory / f"{SUMS}.tmp"
    partial.write_text("".join(lines))
    os.replace(partial, directory / SUMS)


def check_sums(
    directory: Path, parts: Sequence[str] = (), digest: Callable[[Path], str] = file_digest
) -> None:
    """Compare the files of a directory with its SHA256SUMS, if it has one.

    Args:
      parts: only files below these members of the directory; none: all files that are listed.
      digest: of a file.

    Raises:
      MdmError: a file is missing or has other content.
    """
    if not (directory / SUMS).is_file():
        return
    listed = [line.partition("  ")[::2] for line in _lines(directory / SUMS)]
    chosen = [(sum_, name) for sum_, name in listed if not parts or name.split("/")[0] in parts]
    if not {*parts} <= {name.split("/")[0] for _, name in chosen}:
        raise MdmError(f"{directory / SUMS} is damaged: files that were written are not listed")
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda entry: _digest(directory / entry[1], digest), chosen)
    for (expected, name), actual in zip(chosen, found, strict=True):
        if actual != expected:
            raise MdmError(
                f"{directory / name} is damaged: it is not what was written ({SUMS} beside it)"
            )


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode("utf-8", "replace").splitlines()


def _digest(path: Path, digest: Callable[[Path], str]) -> str | None:
    """The digest of a file; None where it cannot be read."""
    try:
        return digest(path)
    except (OSError, ValueError):  # ValueError: a name with a NUL, from damaged sums
        return None
