"""A family of published checkpoints: how its config.json and tensors become the network here.

Each family's own file has the tables; this one has what is done with them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.config_fields import (
    FieldRules,
    Fields,
    check_value,
    read_attributes,
)

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


class TensorNames(NamedTuple):
    """What a family calls the weights of the network, without the final ".weight".

    `block` is what stands before the names of block {}; the names after it are relative to that.
    """

    embed: str
    final_norm: str
    head: str
    block: str
    attention_norm: str
    out: str
    mlp_norm: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True, kw_only=True)
class CheckpointFormat:
    """A published architecture: how its files are read as a `PretrainedTransformer`.

    Attributes:
      name: of the family.
      recognises: whether the fields of a config.json are of this family.
      rules: which fields there are.
      complete: the attributes of `PretrainedConfig` that no single field gives.
      ids: the special ids.
      names: of the tensors.
      projections: the tensors of queries, keys and values of one block, relative to it.
    """

    name: str
    recognises: Callable[[Fields], bool]
    rules: FieldRules
    complete: Callable[[Fields], Mapping[str, Any]]
    ids: Callable[[Fields], SpecialIds]
    names: TensorNames
    projections: Callable[[PretrainedConfig], Sequence[Tensor]]

    def config(self, published: Fields) -> PretrainedConfig:
        """The network that a config.json describes.

        Raises:
          MdmError: a field is missing, not understood, contradictory, or has a value that is not
            implemented.
        """
        attributes = read_attributes(published, self.rules)
        config = PretrainedConfig(**attributes, **self.complete(published))
        check_value("head_dim", published.get("head_dim"), (None, config.dim))
        return config

    def tensors(self, config: PretrainedConfig) -> list[Tensor]:
        """Every tensor of a checkpoint."""
        names = self.names
        outer = {
            names.embed: ("embed",),
            names.final_norm: ("final_norm", "scale"),
            names.head: ("head",),
        }
        inner = {
            names.attention_norm: ("attention_norm", "scale"),
            names.out: ("attention", "out", "weight"),
            names.mlp_norm: ("mlp_norm", "scale"),
            names.gate: ("gate", "weight"),
            names.up: ("up", "weight"),
            names.down: ("down", "weight"),
        }
        block = [*_weights(inner), *self.projections(config)]
        blocks = [self._inside(i, tensor) for i in range(config.depth) for tensor in block]
        return _weights(outer) + blocks

    def _inside(self, i: int, tensor: Tensor) -> Tensor:
        """A tensor of block `i`."""
        paths = tuple((f"block_{i}", *path) for path in tensor.paths)
        return tensor._replace(name=self.names.block.format(i) + tensor.name, paths=paths)


def separate_projections(*names: str, parts: Sequence[str] = ("weight",)) -> list[Tensor]:
    """Queries, keys and values as three tensors (or three of each of `parts`)."""
    return [
        Tensor(f"{name}.{part}", (("attention", ours, part),))
        for name, ours in zip(names, ("query", "key", "value"), strict=True)
        for part in parts
    ]


def first_id(ids: Any) -> int | None:
    """A token id; the first one where config.json lists several."""
    return ids[0] if isinstance(ids, list) else ids


def _weights(paths: Mapping[str, Path]) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (path,)) for name, path in paths.items()]
