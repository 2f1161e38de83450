"""Configurations as plain JSON, and dataclasses read back from it."""

import dataclasses
import enum
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mdm_jax.checksums import text_digest
from mdm_jax.errors import MdmError

Json = dict | list | str | int | float | bool | None


def describe(obj: Any) -> Json:
    """A configuration as plain JSON, the same text for equal configurations.

    Dataclasses and named tuples become {"kind": class name, field: ...}, a Flax module without the
    link to its parent; jax and numpy scalars Python numbers; arrays of
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
        fields = dataclasses.fields(obj)
        return _describe_fields(obj, [f.name for f in fields if f.repr or f.name != "parent"])
    if callable(obj) and hasattr(obj, "__qualname__"):
        return f"{obj.__module__}.{obj.__qualname__}"
    raise ValueError(f"cannot describe {obj!r} of type {type(obj).__qualname__}")


def digest(obj: Any, digits: int = 12) -> str:
    """The first hexadecimal digits of a digest of `describe(obj)`, which has all that is in it."""
    return text_digest(json.dumps(describe(obj), sort_keys=True), digits)


def from_json(described: Json, *kinds: type) -> Any:
    """The dataclass that `describe` made `described` from: the one of `kinds` with that name.

    Lists become tuples, as fields of settings are.

    Raises:
      MdmError: it describes none of them.
    """
    by_name = {kind.__name__: kind for kind in kinds}
    try:
        items = dict(described).items()
        fields = {name: tuple(one) if isinstance(one, list) else one for name, one in items}
        return by_name[fields.pop("kind")](**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise MdmError(
            f"config.json: {described!r} describes no {' or '.join(by_name)} "
            f"({type(error).__name__}: {error})"
        ) from error


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
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return {
        "kind": "array",
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "sha256": hashlib.sha256(content).hexdigest()[:16],
    }
