"""Reading and writing the directories that denoisers are published in: config.json and safetensors.

Tensors are read one at a time and go straight to where they will live, in the type they will have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mdm_jax.denoisers.base import Bound, bind
from mdm_jax.denoisers.pretrained import tensor_files
from mdm_jax.denoisers.pretrained.checkpoint_format import Array, CheckpointFormat
from mdm_jax.denoisers.pretrained.config import Dtype
from mdm_jax.denoisers.pretrained.dream import DREAM
from mdm_jax.denoisers.pretrained.llada import LLADA
from mdm_jax.denoisers.pretrained.manifest import (
    check_manifest,
    get,
    param_shapes,
    stored_dtype,
)
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.denoisers.pretrained.partition import sharding
from mdm_jax.denoisers.pretrained.smdm import SMDM
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, read_json
from mdm_jax.sharding import to_host

FORMATS = (LLADA, DREAM, SMDM)
CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class PublishedInfo:
    """What goes with the weights of a published denoiser.

    Attributes:
      family: "llada", "dream" or "smdm".
      vocab: rows of the head.
      mask_id: the id of MASK.
      eos_id: the id that ends a response, where config.json says it.
      pad_id: the id of padding on a canvas. It lies outside the vocabulary, because the padding ids
        that are published mean something else as well.
      max_length: most positions of a canvas.
      published: the fields of config.json as they stand.
    """

    family: str
    vocab: int
    mask_id: int
    eos_id: int | None
    pad_id: int
    max_length: int
    published: Mapping[str, Any] = field(repr=False)


class Published(NamedTuple):
    """A denoiser that meets `DenoiseCached`, and what goes with it."""

    denoise: Bound
    info: PublishedInfo


def load(directory: str | Path, mesh: Mesh | None = None, dtype: Dtype | None = None) -> Published:
    """The denoiser of a published directory.

    Args:
      directory: with config.json and safetensors.
      mesh: devices to spread the parameters over, see `partition`; None: the default device.
      dtype: of the parameters and of what is computed in; None: as stored.

    Raises:
      MdmError: no such directory or file, damaged files, an unknown family, a field of config.json
        that is not understood, or tensors that are missing, unexpected or of another shape.
    """
    path = expand(directory)
    found = tensor_files.find(path)
    published = read_json(path / CONFIG)
    family = _recognised(path, published)
    config = replace(family.config(published), dtype=dtype or stored_dtype(path, found))
    info, tensors = _info(family, published), family.tensors(config)
    module = PretrainedTransformer(config)
    check_manifest(path, tensors, found, module)
    params: dict = {}
    for tensor in sorted(tensors, key=lambda tensor: found[tensor.name].file):
        parts = tensor.split(tensor_files.read(found, tensor.name))
        for name, part in zip(tensor.paths, parts, strict=True):
            _insert(params, name, _place(part.astype(jnp.dtype(config.dtype)), name, mesh))
    return Published(bind(module, params), info)


def read_info(directory: str | Path) -> PublishedInfo:
    """What `load` says of a directory beside its weights, from config.json alone.

    Raises:
      MdmError: no such file, an unknown family, or a field that is not understood.
    """
    path = expand(directory)
    published = read_json(path / CONFIG)
    return _info(_recognised(path, published), published)


def load_shapes(directory: str | Path) -> Bound:
    """The denoiser of a published directory with shapes in the place of its parameters.

    Raises:
      MdmError: as `load`, except for what only the tensors themselves show.
    """
    path = expand(directory)
    published = read_json(path / CONFIG)
    stored = stored_dtype(path, tensor_files.find(path))
    config = replace(_recognised(path, published).config(published), dtype=stored)
    module = PretrainedTransformer(config)
    return bind(module, param_shapes(module))


def save(directory: str | Path, denoise: Bound, info: PublishedInfo) -> None:
    """Write a denoiser in the layout that it was published in, in the type that it computes in.

    Every process must call it.

    Raises:
      MdmError: the directory already holds weights.
    """
    path, dtype = expand(directory), jnp.dtype(denoise.module.config.dtype)
    if any(path.glob("*.safetensors")):
        raise MdmError(f"{path} already holds weights; save to another directory")
    if jax.process_index() == 0:
        path.mkdir(parents=True, exist_ok=True)
    family = next(family for family in FORMATS if family.name == info.family)
    tensors = {tensor.name: tensor for tensor in family.tensors(denoise.module.config)}

    def parts(name: str) -> list[jax.Array]:
        return [get(denoise.params, part) for part in tensors[name].paths]

    tensor_files.write(
        path,
        {name: sum(part.size for part in parts(name)) * dtype.itemsize for name in tensors},
        lambda name: tensors[name].join(*to_host(parts(name))).astype(dtype),
    )
    stored = {name: str(dtype) for name in ("torch_dtype", "dtype") if name in info.published}
    tensor_files.write_json(path / CONFIG, {**info.published, **stored})


def _recognised(path: Path, published: Any) -> CheckpointFormat:
    if not isinstance(published, dict):
        raise MdmError(f"{path / CONFIG} is damaged: it is no object")
    for family in FORMATS:
        if family.recognises(published):
            return family
    raise MdmError(
        f"{path / CONFIG} is of none of the families {', '.join(f.name for f in FORMATS)}: "
        f"its model_type is {published.get('model_type')!r}"
    )


def _info(family: CheckpointFormat, published: dict[str, Any]) -> PublishedInfo:
    """Raise MdmError for special ids outside the vocabulary."""
    config, ids = family.config(published), family.ids(published)
    limits = {
        "mask_token_id": (ids.mask, config.embeddings),
        "eos_token_id": (ids.eos, config.vocab),
    }
    for name, (token, rows) in limits.items():
        if token is None:
            continue
        if not isinstance(token, int) or not 0 <= token < rows:
            raise MdmError(f"config.json says {name} = {token!r}, but there are {rows} rows")
    return PublishedInfo(
        family=family.name,
        vocab=config.vocab,
        mask_id=ids.mask,
        eos_id=ids.eos,
        pad_id=max(config.vocab, config.embeddings),
        max_length=config.max_length,
        published=published,
    )


def _place(part: Array, path: tuple[str, ...], mesh: Mesh | None) -> jax.Array:
    """A host array on the default device, or its shards on theirs."""
    if mesh is None:
        return jnp.asarray(part)
    where = sharding(mesh, path, part.shape)
    return jax.make_array_from_callback(part.shape, where, lambda index: part[index])


def _insert(tree: dict, path: tuple[str, ...], leaf: jax.Array) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = leaf
