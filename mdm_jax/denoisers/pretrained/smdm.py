"""SMDM (arXiv:2410.18514): lit_gpt's Llama, its rotary table rounded to bfloat16, one embedding row
more than logits, for MASK.

SMDM knows no padding. Checkpoints come without a config.json: write one with the fields of lit_gpt's
`Config` beside the weights.
"""

from functools import partial
from typing import Any

import numpy as np

from mdm_jax.denoisers.pretrained.checkpoint_format import (
    Array,
    CheckpointFormat,
    SpecialIds,
    Tensor,
    TensorNames,
    first_id,
)
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.config_fields import FieldRules, Fields, check_number
from mdm_jax.errors import MdmError

SMDM_170M = PretrainedConfig(
    vocab=32000,
    embeddings=32001,
    width=768,
    depth=18,
    heads=12,
    kv_heads=12,
    mlp=3072,
    max_length=2048,
    norm_eps=1e-5,
    rope_base=10000.0,
    rounded_rope=True,
    dtype="bfloat16",
)
SMDM_1B = PretrainedConfig(
    vocab=32000,
    embeddings=32001,
    width=1792,
    depth=20,
    heads=14,
    kv_heads=14,
    mlp=7168,
    max_length=2048,
    norm_eps=1e-5,
    rope_base=10000.0,
    rounded_rope=True,
    dtype="bfloat16",
)

RULES = FieldRules(
    attributes={
        "block_size": "max_length",
        "intermediate_size": "mlp",
        "n_embd": "width",
        "n_head": "heads",
        "n_layer": "depth",
        "n_query_groups": "kv_heads",
        "norm_eps": "norm_eps",
        "padded_vocab_size": "vocab",
    },
    required=(),
    fixed={
        "_mlp_class": ("LLaMAMLP",),
        "_norm_class": ("FusedRMSNorm", "RMSNorm"),
        "bias": (False,),
        "condense_ratio": (1,),
        "parallel_residual": (False,),
        "rotary_percentage": (1.0,),
        "shared_attention_norm": (False,),
    },
    ignored=(
        "eos_token_id",
        "mask_token_id",
        "name",
        "org",
        "padding_multiple",
        "rope_base",
        "vocab_size",
    ),
)
NAMES = TensorNames(
    embed="transformer.wte",
    final_norm="transformer.ln_f",
    head="lm_head",
    block="transformer.h.{}.",
    attention_norm="norm_1",
    out="attn.proj",
    mlp_norm="norm_2",
    gate="mlp.swiglu.w1",
    up="mlp.swiglu.w2",
    down="mlp.swiglu.w3",
)


def _complete(published: Fields) -> dict[str, Any]:
    """The embedding with its row for MASK, and the rotary table."""
    rows, base = published["padded_vocab_size"], published.get("rope_base", 10000)
    if published.get("mask_token_id", rows) != rows:
        raise MdmError(
            f"config.json contradicts itself: mask_token_id is {published['mask_token_id']}, "
            f"but MASK comes after padded_vocab_size {rows}"
        )
    check_number("rope_base", base)
    return {"embeddings": rows + 1, "rope_base": float(base), "rounded_rope": True}


def split_groups(fused: Array, *, config: PretrainedConfig) -> tuple[Array, Array, Array]:
    """Queries, keys and values of a projection that is packed group by group: [q, ..., q, k, v]."""
    groups = fused.reshape(config.kv_heads, -1, config.dim, fused.shape[-1])
    parts = groups[:, :-2], groups[:, -2], groups[:, -1]
    query, key, value = (part.reshape(-1, fused.shape[-1]) for part in parts)
    return query, key, value


def join_groups(query: Array, key: Array, value: Array, *, config: PretrainedConfig) -> Array:
    """The packed projection: undoes `split_groups`."""
    width = query.shape[-1]
    parts = [x.reshape(config.kv_heads, -1, config.dim, width) for x in (query, key, value)]
    return np.concatenate(parts, axis=1).reshape(-1, width)


def _packed(config: PretrainedConfig) -> list[Tensor]:
    """Queries, keys and values of a block in one tensor."""
    paths = tuple(("attention", part, "weight") for part in ("query", "key", "value"))
    how = partial(split_groups, config=config), partial(join_groups, config=config)
    return [Tensor("attn.attn.weight", paths, *how)]


SMDM = CheckpointFormat(
    name="smdm",
    recognises=lambda published: {"padded_vocab_size", "n_query_groups"} <= published.keys(),
    rules=RULES,
    complete=_complete,
    ids=lambda published: SpecialIds(
        published["padded_vocab_size"], first_id(published.get("eos_token_id"))
    ),
    names=NAMES,
    projections=_packed,
)
