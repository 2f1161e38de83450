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

from mdm_jax.errors import MdmError
from mdm_jax.external_files import check_not_pointer, read_json

Array = Shaped[np.ndarray, "..."]
WEIGHTS = "model.safetensors"
INDEX = WEIGHTS + ".index.json"
FILE_BYTES = 4 * 2**30  # of one file, when writing


class StoredTensor(NamedTuple):
    """A tensor in a file, not yet read."""

    file: Path
    shape: tuple[int, ...]
    dtype: str  # as safetensors spells it: F32, BF16


def find(directory: Path) -> dict[str, StoredTensor]:
    """Every tensor of a directory by name.

    The index decides which files are read; without one there must be a single file, or one called
    model.safetensors.

    Raises:
      MdmError: no such directory, no weights, several files of which none is preferred, a damaged
        file, or an index that does not agree with the files.
    """
    if not directory.is_dir():
        raise MdmError(f"{directory} is no directory; give one with config.json and safetensors")
    if (directory / INDEX).is_file():
        return _find_indexed(directory)
    return _header(_only_file(directory))


def _only_file(directory: Path) -> Path:
    """The one file of weights of a directory without an index."""
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise MdmError(f"{directory} holds no *.safetensors")
    if len(files) > 1 and directory / WEIGHTS not in files:
        raise MdmError(
            f"{directory} holds {len(files)} *.safetensors and no {INDEX}, so which belong to the "
            "model cannot be decided: add the index, or keep one file"
        )
    return directory / WEIGHTS if directory / WEIGHTS in files else files[0]


def _find_indexed(directory: Path) -> dict[str, StoredTensor]:
    listed = _read_index(directory / INDEX)
    names = sorted(set(listed.values()))
    absent = [name for name in names if not (directory / name).is_file()]
    if absent:
        raise MdmError(f"{directory} lacks files that {INDEX} lists: {', '.join(absent)}")
    if WEIGHTS not in names and (directory / WEIGHTS).is_file():
        raise MdmError(
            f"{directory} holds both {WEIGHTS} and an index of other files, so which are the weights "
            f"cannot be decided: remove {WEIGHTS} or {INDEX}"
        )
    headers = {name: _header(directory / name) for name in names}
    astray = sorted(tensor for tensor, name in listed.items() if tensor not in headers[name])
    if astray:
        raise MdmError(f"{INDEX} names another file than the one that holds {', '.join(astray)}")
    found = {tensor: stored for header in headers.values() for tensor, stored in header.items()}
    return found | {tensor: headers[name][tensor] for tensor, name in listed.items()}


def _read_index(path: Path) -> dict[str, str]:
    """The file of each tensor."""
    index = read_json(path)
    listed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise MdmError(f"{path} is damaged: it has no weight_map")
    for name in listed.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise MdmError(f"{path} is damaged: {name!r} is no name of a file beside it")
    return listed


def _header(file: Path) -> dict[str, StoredTensor]:
    def describe(opened: Any, name: str) -> StoredTensor:
        part = opened.get_slice(name)
        return StoredTensor(file, tuple(part.get_shape()), part.get_dtype())

    def describe_all(opened: Any) -> dict[str, StoredTensor]:
        return {name: describe(opened, name) for name in sorted(opened.keys())}

    return _opened(file, describe_all)


def _opened(file: Path, use: Callable[[Any], Any]) -> Any:
    try:
        check_not_pointer(file)
        with safe_open(file, framework="numpy") as opened:
            return use(opened)
    except SafetensorError as error:
        raise MdmError(f"{file} is damaged: {error}") from error
    except OSError as error:
        raise MdmError(f"{file} cannot be read: {error}") from error


def read(found: Mapping[str, StoredTensor], name: str) -> Array:
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


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file, on the first process."""
    if jax.process_index() == 0:
        file.write_text(json.dumps(content, indent=2), encoding="utf-8")
