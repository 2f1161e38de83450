"""Frozen dataclasses that JAX can look into."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def static(default: Any = ..., repr: bool = True) -> Any:
    """A field that is part of the structure: hashable, compared when JAX decides to compile again.

    With `repr` False it is left out where the object is shown.
    """
    extra = {} if default is ... else {"default": default}
    return field(metadata={"static": True}, repr=repr, **extra)


def pytree_dataclass(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose fields are leaves, except those marked `static`.

    Unlike `jax.tree_util.register_dataclass`, rebuilding it skips `__init__`, so checks there see what
    a person wrote and never a tracer.
    """
    cls = dataclass(frozen=True)(cls)
    leaves = [f.name for f in fields(cls) if not f.metadata.get("static")]
    structure = [f.name for f in fields(cls) if f.metadata.get("static")]

    def flatten(item: T) -> tuple:
        keyed = [(jax.tree_util.GetAttrKey(name), getattr(item, name)) for name in leaves]
        return keyed, tuple(getattr(item, name) for name in structure)

    def unflatten(aux: tuple, children: Any) -> T:
        item = object.__new__(cls)
        values = (*children, *aux)
        for name, value in zip(leaves + structure, values, strict=True):
            object.__setattr__(item, name, value)
        return item

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
