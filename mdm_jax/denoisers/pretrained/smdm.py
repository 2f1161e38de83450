"""SMDM (arXiv:2410.18514): lit_gpt's Llama, its rotary table rounded to bfloat16, one embedding row
more than logits, for MASK.

SMDM knows no padding. Checkpoints come without a config.json: write one with the fields of lit_gpt's
`Config` beside the weights.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mdm_jax.denoisers.pretrained.checkpoint_format import (
    Array,
    CheckpointFormat,
    SpecialIds,
    Tensor,
    one_to_one,
    per_block,
)
from mdm_jax.denoisers.pretrained.config_fields import check_fields
from mdm_jax.denoisers.pretrained.network import PretrainedConfig

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

READ = (
    "block_size",
    "intermediate_size",
    "n_embd",
    "n_head",
    "n_layer",
    "n_query_groups",
    "norm_eps",
    "padded_vocab_size",
)
FIXED = {
    "_mlp_class": ("LLaMAMLP",),
    "_norm_class": ("FusedRMSNorm", "RMSNorm"),
    "bias": (False,),
    "condense_ratio": (1,),
    "parallel_residual": (False,),
    "rotary_percentage": (1.0,),
    "shared_attention_norm": (False,),
}
HARMLESS = (
    "eos_token_id",
    "mask_token_id",
    "name",
    "org",
    "padding_multiple",
    "rope_base",
    "vocab_size",
)


def read_config(published: Mapping[str, Any]) -> PretrainedConfig:
    """The network that a lit_gpt `Config` describes.

    Raises:
      ValueError: a field is missing, unknown, contradictory or has a value that is not implemented.
    """
    check_fields(published, read=READ, fixed=FIXED, harmless=HARMLESS)
    rows = published["padded_vocab_size"]
    if published.get("mask_token_id", rows) != rows:
        raise ValueError(
            f"config.json contradicts itself: mask_token_id is {published['mask_token_id']}, "
            f"but MASK comes after padded_vocab_size {rows}"
        )
    return PretrainedConfig(
        vocab=rows,
        embeddings=rows + 1,
        width=published["n_embd"],
        depth=published["n_layer"],
        heads=published["n_head"],
        kv_heads=published["n_query_groups"],
        mlp=published["intermediate_size"],
        max_length=published["block_size"],
        norm_eps=published["norm_eps"],
        rope_base=float(published.get("rope_base", 10000)),
        rounded_rope=True,
    )


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


def tensors(config: PretrainedConfig) -> list[Tensor]:
    """Every tensor of a checkpoint."""
    block = {
        "norm_1.weight": ("attention_norm", "scale"),
        "attn.proj.weight": ("attention", "out", "weight"),
        "norm_2.weight": ("mlp_norm", "scale"),
        "mlp.swiglu.w1.weight": ("gate", "weight"),
        "mlp.swiglu.w2.weight": ("up", "weight"),
        "mlp.swiglu.w3.weight": ("down", "weight"),
    }
    around = {
        "transformer.wte.weight": ("embed",),
        "transformer.ln_f.weight": ("final_norm", "scale"),
        "lm_head.weight": ("head",),
    }
    names = around | per_block(config.depth, block, "transformer.h.{}.")
    return one_to_one(names) + [_packed(config, i) for i in range(config.depth)]


def _packed(config: PretrainedConfig, i: int) -> Tensor:
    return Tensor(
        f"transformer.h.{i}.attn.attn.weight",
        tuple((f"block_{i}", "attention", part, "weight") for part in ("query", "key", "value")),
        partial(split_groups, config=config),
        partial(join_groups, config=config),
    )


SMDM = CheckpointFormat(
    name="smdm",
    recognises=lambda published: {"padded_vocab_size", "n_query_groups"} <= published.keys(),
    config=read_config,
    ids=lambda published: SpecialIds(published["padded_vocab_size"], published.get("eos_token_id")),
    tensors=tensors,
)
