"""The tensors that a checkpoint must hold, compared with those that it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.pretrained.checkpoint_format import Tensor
from mdm_jax.denoisers.pretrained.config import Dtype
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.denoisers.pretrained.tensor_files import StoredTensor
from mdm_jax.errors import MdmError
from mdm_jax.keys import root_key

DTYPES: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16"}


def stored_dtype(path: Path, found: Mapping[str, StoredTensor]) -> Dtype:
    """The one type of all tensors.

    Raises:
      MdmError: there are several, or one that is not implemented.
    """
    stored = sorted({item.dtype for item in found.values()})
    if len(stored) != 1 or stored[0] not in DTYPES:
        raise MdmError(
            f"{path} stores {' and '.join(stored)}; say which dtype to load, float32 or bfloat16"
        )
    return DTYPES[stored[0]]


def check_manifest(
    path: Path,
    tensors: list[Tensor],
    found: Mapping[str, StoredTensor],
    module: PretrainedTransformer,
) -> None:
    """Raise one MdmError with every tensor that is missing, unexpected or of another shape."""
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
        raise MdmError(f"{path} does not fit its config.json. " + "; ".join(said))


def expected_shapes(
    tensors: list[Tensor], module: PretrainedTransformer
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name: those that a tensor packs are stacked by rows."""
    params = param_shapes(module)

    def shape(tensor: Tensor) -> tuple[int, ...]:
        parts = [get(params, path).shape for path in tensor.paths]
        return sum(part[0] for part in parts), *parts[0][1:]

    return {tensor.name: shape(tensor) for tensor in tensors}


def param_shapes(module: PretrainedTransformer) -> dict:
    """Parameters as shapes and types, without any computation."""
    canvas = jax.ShapeDtypeStruct((1,), jnp.int32), jax.ShapeDtypeStruct((1,), bool)
    return jax.eval_shape(module.init, root_key(0), *canvas)["params"]


def get(tree: Mapping, path: tuple[str, ...]) -> Any:
    """The leaf at a path of a nested dictionary."""
    for name in path:
        tree = tree[name]
    return tree
