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
from mdm_jax.denoisers.pretrained.checkpoint_format import Array, CheckpointFormat, Tensor
from mdm_jax.denoisers.pretrained.dream import DREAM
from mdm_jax.denoisers.pretrained.llada import LLADA
from mdm_jax.denoisers.pretrained.network import Dtype, PretrainedTransformer
from mdm_jax.denoisers.pretrained.partition import sharding
from mdm_jax.denoisers.pretrained.smdm import SMDM
from mdm_jax.denoisers.pretrained.tensor_files import Found
from mdm_jax.sharding import to_host

FORMATS = (LLADA, DREAM, SMDM)
CONFIG = "config.json"
DTYPES: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16"}


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
      ValueError: no such directory or file, damaged files, an unknown family, a field of config.json
        that is not understood, or tensors that are missing, unexpected or of another shape.
    """
    path = Path(directory)
    found = tensor_files.find(path)
    published = tensor_files.read_json(path / CONFIG)
    family = _recognised(path, published)
    config = replace(family.config(published), dtype=dtype or _stored_dtype(path, found))
    info, tensors = _info(family, published), family.tensors(config)
    module = PretrainedTransformer(config)
    _check_manifest(path, tensors, found, module)
    params: dict = {}
    for tensor in sorted(tensors, key=lambda tensor: found[tensor.name].file):
        parts = tensor.split(tensor_files.read(found, tensor.name))
        for name, part in zip(tensor.paths, parts, strict=True):
            _insert(params, name, _place(part.astype(jnp.dtype(config.dtype)), name, mesh))
    return Published(bind(module, params), info)


def read_info(directory: str | Path) -> PublishedInfo:
    """What `load` says of a directory beside its weights, from config.json alone.

    Raises:
      ValueError: no such file, an unknown family, or a field that is not understood.
    """
    path = Path(directory)
    published = tensor_files.read_json(path / CONFIG)
    return _info(_recognised(path, published), published)


def load_shapes(directory: str | Path) -> Bound:
    """The denoiser of a published directory with shapes in the place of its parameters.

    Raises:
      ValueError: as `load`, except for what only the tensors themselves show.
    """
    path = Path(directory)
    published = tensor_files.read_json(path / CONFIG)
    stored = _stored_dtype(path, tensor_files.find(path))
    config = replace(_recognised(path, published).config(published), dtype=stored)
    module = PretrainedTransformer(config)
    return bind(module, _shapes(module))


def save(directory: str | Path, denoise: Bound, info: PublishedInfo) -> None:
    """Write a denoiser in the layout that it was published in; every process must call it.

    Raises:
      ValueError: the directory already holds weights.
    """
    path, dtype = Path(directory), denoise.module.config.dtype
    if any(path.glob("*.safetensors")):
        raise ValueError(f"{path} already holds weights; save to another directory")
    path.mkdir(parents=True, exist_ok=True)
    family = next(family for family in FORMATS if family.name == info.family)
    tensors = {tensor.name: tensor for tensor in family.tensors(denoise.module.config)}

    def parts(name: str) -> list[jax.Array]:
        return [_get(denoise.params, part) for part in tensors[name].paths]

    tensor_files.write(
        path,
        {name: sum(part.nbytes for part in parts(name)) for name in tensors},
        lambda name: tensors[name].join(*to_host(parts(name))),
    )
    stored = {"torch_dtype": dtype} if "torch_dtype" in info.published else {}
    tensor_files.write_json(path / CONFIG, {**info.published, **stored})


def _recognised(path: Path, published: Any) -> CheckpointFormat:
    if not isinstance(published, dict):
        raise ValueError(f"{path / CONFIG} is damaged: it is no object")
    for family in FORMATS:
        if family.recognises(published):
            return family
    raise ValueError(
        f"{path / CONFIG} is of none of the families {', '.join(f.name for f in FORMATS)}: "
        f"its model_type is {published.get('model_type')!r}"
    )


def _info(family: CheckpointFormat, published: dict[str, Any]) -> PublishedInfo:
    """Raise ValueError for special ids outside the vocabulary."""
    config, ids = family.config(published), family.ids(published)
    rooms = {
        "mask_token_id": (ids.mask, config.embeddings),
        "eos_token_id": (ids.eos, config.vocab),
    }
    for name, (token, rows) in rooms.items():
        if token is not None and not 0 <= token < rows:
            raise ValueError(f"config.json says {name} = {token}, but there are {rows} rows")
    return PublishedInfo(
        family=family.name,
        vocab=config.vocab,
        mask_id=ids.mask,
        eos_id=ids.eos,
        pad_id=max(config.vocab, config.embeddings),
        max_length=config.max_length,
        published=published,
    )


def _stored_dtype(path: Path, found: Mapping[str, Found]) -> Dtype:
    """The one type of all tensors."""
    stored = sorted({item.dtype for item in found.values()})
    if len(stored) != 1 or stored[0] not in DTYPES:
        raise ValueError(
            f"{path} stores {' and '.join(stored)}; say which dtype to load, float32 or bfloat16"
        )
    return DTYPES[stored[0]]


def _check_manifest(
    path: Path, tensors: list[Tensor], found: Mapping[str, Found], module: PretrainedTransformer
) -> None:
    """Raise one ValueError with every tensor that is missing, unexpected or of another shape."""
    wanted = expected_shapes(tensors, module)
    wrong = {
        name: (found[name].shape, shape)
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    }
    faults = [
        ("missing", sorted(wanted.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - wanted.keys())),
        ("wrong shape", [f"{name} is {a}, not {b}" for name, (a, b) in wrong.items()]),
    ]
    said = [f"{len(names)} {fault}: {', '.join(names)}" for fault, names in faults if names]
    if said:
        raise ValueError(f"{path} does not fit its config.json. " + "; ".join(said))


def expected_shapes(
    tensors: list[Tensor], module: PretrainedTransformer
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name: those that a tensor packs are stacked by rows."""
    params = _shapes(module)

    def shape(tensor: Tensor) -> tuple[int, ...]:
        parts = [_get(params, path).shape for path in tensor.paths]
        return sum(part[0] for part in parts), *parts[0][1:]

    return {tensor.name: shape(tensor) for tensor in tensors}


def _shapes(module: PretrainedTransformer) -> dict:
    canvas = jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), bool)
    return jax.eval_shape(module.init, jax.random.key(0), *canvas)["params"]


def _place(part: Array, path: tuple[str, ...], mesh: Mesh | None) -> jax.Array:
    """A host array on the default device, or its shards on theirs."""
    if mesh is None:
        return jnp.asarray(part)
    where = sharding(mesh, path, part.shape)
    return jax.make_array_from_callback(part.shape, where, lambda index: part[index])


def _get(tree: Mapping, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _insert(tree: dict, path: tuple[str, ...], leaf: jax.Array) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = leaf
