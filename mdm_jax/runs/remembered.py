"""Digests of large files, computed once and remembered in the user's cache."""

from pathlib import Path

from mdm_jax.checksums import file_digest
from mdm_jax.errors import MdmError
from mdm_jax.external_files import user_cache
from mdm_jax.runs.json_files import read_json, write_json

MEMORY = "digests.json"


def remembered_digest(path: Path) -> str:
    """The SHA-256 of a file; only computed where path, size or times are not those of the last time."""
    status, where = path.stat(), str(path.resolve())
    state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    known = _read().get(where, {})
    if known.get("state") == state:
        return known["sha256"]
    digest = file_digest(path)
    _write(where, {"state": state, "sha256": digest})
    return digest


def _read() -> dict:
    """What is remembered; nothing where there is no cache, or one that cannot be read."""
    try:
        found = read_json(user_cache() / MEMORY)
    except (OSError, MdmError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(where: str, entry: dict) -> None:
    """Remember one file, and forget those that are gone."""
    kept = {path: known for path, known in _read().items() if Path(path).exists()}
    try:
        user_cache().mkdir(parents=True, exist_ok=True)
        write_json(user_cache() / MEMORY, kept | {where: entry})
    except (OSError, MdmError):  # a disk that is full or read-only, a user without a home
        return
