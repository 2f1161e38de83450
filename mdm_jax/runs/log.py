"""A run directory: config.json (what), env.json (on what), metrics.jsonl (how it went).

Nothing in it is overwritten by another run: a directory is either new, or resumed with the
configuration that it was created with.
"""

import dataclasses
import datetime
import enum
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np

Json = dict | list | str | int | float | bool | None
Path = str | os.PathLike
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class RunLog:
    """An open run directory."""

    directory: pathlib.Path

    @property
    def metrics_path(self) -> pathlib.Path:
        return self.directory / "metrics.jsonl"

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds one row {"step": step, **metrics} to metrics.jsonl and flushes it to disk.

        Raises:
            ValueError: if the metrics have a "step" of their own, or a value cannot be described.
        """
        if "step" in metrics:
            raise ValueError(f"'step' is given twice: {step} and {metrics['step']}")
        append_rows(self.metrics_path, [{"step": step, **metrics}])

    def metrics(self) -> list[dict]:
        """The rows so far, in the order in which they were written."""
        return read_rows(self.metrics_path)

    def truncate_after(self, step: int) -> None:
        """Drops the rows of steps > step: they come again when a run resumes from `step`."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        _replace(self.metrics_path, "".join(json.dumps(row) + "\n" for row in kept))


def open_run(
    directory: Path, config: Any, resume_ok: bool = True, ignore: Sequence[str] = ()
) -> RunLog:
    """Creates a run directory, or resumes the one that is there with the same configuration.

    Args:
        directory: new, empty, or a run directory.
        config: any object that `describe` understands.
        resume_ok: whether the directory may already hold a run.
        ignore: dotted keys that may differ on resume ("steps", "policy.threshold"; a prefix stands
            for all below it). config.json keeps their first values, env.json lists the new ones.

    Returns:
        The run log; env.json has one entry more, for this start.

    Raises:
        ValueError: if the directory holds something else, or a run with another configuration, or
            a run and `resume_ok` is False. Nothing has been written then.
    """
    directory = pathlib.Path(directory)
    described = describe(config)
    config_path = directory / "config.json"
    changed = {}
    if config_path.exists():
        changed = _compared(config_path, described, resume_ok, ignore)
    else:
        _create(directory, described)
    env_path = directory / "env.json"
    starts = _read_json(env_path) if env_path.exists() else []
    _replace(env_path, _dump([*starts, {**environment(), "config_changes": changed}]))
    return RunLog(directory)


def describe(obj: Any) -> Json:
    """A configuration as plain JSON, the same text for equal configurations.

    Dataclasses and named tuples become {"kind": class name, field: ...}, fields with repr=False
    left out (Flax keeps a module's parent there); jax and numpy scalars Python numbers; arrays of
    up to 16 entries lists, larger ones their shape, dtype and digest; functions and classes names.

    Args:
        obj: nested dataclasses, named tuples, mappings, sequences, sets, arrays, enums, paths, ...

    Returns:
        dicts, lists, strings and numbers.

    Raises:
        ValueError: for a type with no faithful description, with its name.
    """
    match obj:
        case enum.Enum():
            return obj.name
        case np.generic() | np.ndarray() | jax.Array():
            return _describe_array(obj)
        case None | bool() | int() | float() | str():
            return obj
        case os.PathLike():
            return os.fspath(obj)
        case np.dtype():
            return obj.name
        case Mapping():
            return {str(key): describe(value) for key, value in obj.items()}
        case set() | frozenset():
            return sorted((describe(value) for value in obj), key=json.dumps)
        case tuple() if hasattr(obj, "_fields"):
            return _describe_fields(obj, obj._fields)
        case list() | tuple():
            return [describe(value) for value in obj]
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return _describe_fields(obj, [f.name for f in dataclasses.fields(obj) if f.repr])
    if callable(obj) and hasattr(obj, "__qualname__"):
        return f"{obj.__module__}.{obj.__qualname__}"
    raise ValueError(f"cannot describe {obj!r} of type {type(obj).__qualname__}")


def environment() -> dict:
    """Versions, devices, code revision, command line and time: what a result may depend on."""
    revision = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", __file__) else ""
    device = jax.devices()[0]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(sys.argv),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "backend": device.platform,
        "device": device.device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "git_commit": revision or None,
        "git_dirty": bool(_git("status", "--porcelain")) if revision else None,
    }


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSON-lines file; a last line that a killed writer left unfinished is dropped.

    Raises:
        ValueError: for any other line that is not a JSON object, with the file and line number.
    """
    path = pathlib.Path(path)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [_parsed_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def append_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows to a JSON-lines file in one write, on disk when it returns.

    An unfinished last line is cut off first, so a killed writer loses the rows of one call at most.

    Raises:
        ValueError: if a value cannot be described; nothing has been written then.
    """
    text = "".join(json.dumps(describe(row)) + "\n" for row in rows)
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


def _compared(
    config_path: pathlib.Path, described: Json, resume_ok: bool, ignore: Sequence[str]
) -> dict[str, Json]:
    """The ignored keys whose values have changed, with the new ones; raises for all others."""
    directory = config_path.parent
    if not resume_ok:
        raise ValueError(f"{directory} already holds a run: choose another directory or delete it")
    old, new = _flat(_read_json(config_path)), _flat(json.loads(_dump(described)))
    differ = {
        key: (old.get(key, "absent"), new.get(key, "absent"))
        for key in sorted(old.keys() | new.keys())
        if json.dumps(old.get(key, "absent")) != json.dumps(new.get(key, "absent"))
    }
    ignored = {key for key in differ if any(f"{key}.".startswith(f"{name}.") for name in ignore)}
    fatal = [
        f"{key}: {differ[key][0]!r}, now {differ[key][1]!r}" for key in differ.keys() - ignored
    ]
    if fatal:
        raise ValueError(
            f"{directory} holds a run with another configuration ({'; '.join(sorted(fatal))}): "
            "choose another directory or delete it"
        )
    return {key: differ[key][1] for key in sorted(ignored)}


def _create(directory: pathlib.Path, described: Json) -> None:
    """Makes the directory and its config.json; a start killed in between leaves no obstacle."""
    directory.mkdir(parents=True, exist_ok=True)
    found = sorted({path.name for path in directory.iterdir()} - {"config.json.tmp"})
    if found:
        raise ValueError(
            f"{directory} is not a run directory but holds {', '.join(found[:5])}: "
            "choose another directory or delete it"
        )
    _replace(directory / "config.json", _dump(described))


def _describe_fields(obj: Any, names: Sequence[str]) -> dict:
    if "kind" in names:
        raise ValueError(
            f"a field of {type(obj).__qualname__} is called 'kind', as its class name is"
        )
    fields = {name: describe(getattr(obj, name)) for name in names}
    return {"kind": type(obj).__name__, **fields}


def _describe_array(array: Any) -> Json:
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return {"kind": str(array.dtype), "data": describe(jax.random.key_data(array))}
    array = np.asarray(array)
    if array.size <= 16:
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return {
        "kind": "array",
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": digest,
    }


def _flat(value: Json, prefix: str = "") -> dict[str, Json]:
    """Nested dicts as one, with dotted keys; an empty dict stays a value."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = [_flat(part, f"{prefix}.{key}" if prefix else key) for key, part in value.items()]
    return {key: leaf for part in parts for key, leaf in part.items()}


def _parsed_row(line: bytes, where: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not a JSON line: {line[:80]!r}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object: {line[:80]!r}")
    return row


def _read_json(path: pathlib.Path) -> Json:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error


def _dump(value: Json) -> str:
    return json.dumps(value, indent=2) + "\n"


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a whole file or nothing, however the process ends."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _git(*arguments: str) -> str:
    """What git says in the package's directory; "" where it fails or there is none."""
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
