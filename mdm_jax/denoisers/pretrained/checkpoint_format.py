"""What there is to know of a family of published checkpoints."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from mdm_jax.denoisers.pretrained.network import PretrainedConfig

Path = tuple[str, ...]
Array = Shaped[np.ndarray, "..."]


class SpecialIds(NamedTuple):
    """Special ids, as config.json gives them."""

    mask: int
    eos: int | None


class Tensor(NamedTuple):
    """A tensor of a checkpoint and the parameters that it holds.

    `split` makes the parameters of the tensor, in the order of `paths`, and `join` undoes it.
    """

    name: str
    paths: tuple[Path, ...]
    split: Callable[[Array], tuple[Array, ...]] = lambda whole: (whole,)
    join: Callable[..., Array] = lambda part: part


class CheckpointFormat(NamedTuple):
    """A published architecture: how its files are read as a `PretrainedTransformer`.

    `recognises`, `config` and `ids` take the fields of config.json; `config` raises ValueError, naming
    the field, for what it does not understand.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    config: Callable[[Mapping[str, Any]], PretrainedConfig]
    ids: Callable[[Mapping[str, Any]], SpecialIds]
    tensors: Callable[[PretrainedConfig], list[Tensor]]


def one_to_one(names: Mapping[str, Path]) -> list[Tensor]:
    """Tensors that are parameters as they stand."""
    return [Tensor(name, (path,)) for name, path in names.items()]


def per_block(depth: int, names: Mapping[str, Path], prefix: str) -> dict[str, Path]:
    """The names of every block, `prefix` having a place for its number; paths are inside the block."""
    return {
        prefix.format(i) + name: (f"block_{i}", *path)
        for i in range(depth)
        for name, path in names.items()
    }
