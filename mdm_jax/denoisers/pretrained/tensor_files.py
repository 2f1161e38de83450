"""Directories of safetensors: one file, or several and an index that says what is in which."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Array = Shaped[np.ndarray, "..."]
WEIGHTS = "model.safetensors"
INDEX = WEIGHTS + ".index.json"
FILE_BYTES = 4 * 2**30  # of one file, when writing


class Found(NamedTuple):
    """A tensor in a file, not yet read."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # as safetensors spells it: F32, BF16


def find(directory: Path) -> dict[str, Found]:
    """Every tensor of a directory by name.

    Raises:
      ValueError: no such directory, no weights, a damaged file, or an index that does not agree with
        the files.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory} is no directory; give one with config.json and safetensors")
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{directory} holds no *.safetensors")
    found: dict[str, Found] = {}
    for file in files:
        found |= _header(file)
    if (directory / INDEX).is_file():
        _check_index(read_json(directory / INDEX), found, directory)
    return found


def _header(file: Path) -> dict[str, Found]:
    def describe(opened: Any, name: str) -> Found:
        part = opened.get_slice(name)
        return Found(file, tuple(part.get_shape()), part.get_dtype())

    return _opened(file, lambda opened: {name: describe(opened, name) for name in opened.keys()})  # noqa: SIM118


def _opened(file: Path, use: Callable[[Any], Any]) -> Any:
    try:
        with safe_open(file, framework="numpy") as opened:
            return use(opened)
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _check_index(index: Any, found: Mapping[str, Found], directory: Path) -> None:
    listed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(listed, dict):
        raise ValueError(f"{directory / INDEX} is damaged: it has no weight_map")
    absent = sorted(set(listed.values()) - {item.file.name for item in found.values()})
    if absent:
        raise ValueError(f"{directory} lacks files that {INDEX} lists: {', '.join(absent)}")
    astray = sorted(n for n, name in listed.items() if n in found and found[n].file.name != name)
    if astray:
        raise ValueError(f"{INDEX} names another file than the one that holds {', '.join(astray)}")


def read(found: Mapping[str, Found], name: str) -> Array:
    """One tensor, on the host."""
    return _opened(found[name].file, lambda opened: opened.get_tensor(name))


def write(directory: Path, sizes: Mapping[str, int], tensor: Callable[[str], Array]) -> None:
    """Write tensors in files of at most `FILE_BYTES` each (one tensor may be larger).

    Args:
      sizes: bytes of each tensor by name.
      tensor: gives one by name; called on every process, and the first one writes.
    """
    groups = list(_filled(sizes))
    names = [WEIGHTS]
    if len(groups) > 1:
        count = len(groups)
        names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for file, group in zip(names, groups, strict=True):
        whole = {name: np.ascontiguousarray(tensor(name)) for name in group}
        if jax.process_index() == 0:
            save_file(whole, directory / file, metadata={"format": "pt"})
    if len(groups) > 1:
        where = {n: file for file, group in zip(names, groups, strict=True) for n in group}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        write_json(directory / INDEX, index)


def _filled(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in order, in groups that fit a file."""
    group, total = [], 0
    for name, size in sizes.items():
        if group and total + size > FILE_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    yield group


def read_json(file: Path) -> Any:
    """What a JSON file says.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    if not file.is_file():
        raise ValueError(f"{file.parent} has no {file.name}")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file, on the first process."""
    if jax.process_index() == 0:
        file.write_text(json.dumps(content, indent=2))
