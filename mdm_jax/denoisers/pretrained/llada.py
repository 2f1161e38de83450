"""LLaDA (arXiv:2502.09992): an OLMo block without biases, as many key heads as query heads.

Source of names and fields: GSAI-ML/LLaDA-8B-Base and -Instruct.
"""

from collections.abc import Mapping
from typing import Any

from mdm_jax.denoisers.pretrained.checkpoint_format import (
    CheckpointFormat,
    SpecialIds,
    Tensor,
    one_to_one,
    per_block,
)
from mdm_jax.denoisers.pretrained.config_fields import check_fields
from mdm_jax.denoisers.pretrained.network import PretrainedConfig

LLADA_8B = PretrainedConfig(
    vocab=126464,
    embeddings=126464,
    width=4096,
    depth=32,
    heads=32,
    kv_heads=32,
    mlp=12288,
    max_length=4096,
    norm_eps=1e-5,
    rope_base=500000.0,
    dtype="bfloat16",
)

READ = (
    "d_model",
    "eos_token_id",
    "mask_token_id",
    "max_sequence_length",
    "mlp_hidden_size",
    "n_heads",
    "n_layers",
    "rms_norm_eps",
    "rope_theta",
    "vocab_size",
)
FIXED = {
    "activation_type": ("silu",),
    "alibi": (False,),
    "attention_layer_norm": (False,),
    "bias_for_layer_norm": (False, None),
    "block_group_size": (1,),
    "block_type": ("llama",),
    "clip_qkv": (None,),
    "include_bias": (False,),
    "include_qkv_bias": (False, None),
    "input_emb_norm": (False,),
    "layer_norm_type": ("rms",),
    "layer_norm_with_affine": (True,),
    "model_type": ("llada",),
    "multi_query_attention": (None, False),
    "rope": (True,),
    "rope_full_precision": (True,),
    "scale_logits": (False,),
    "weight_tying": (False,),
}
HARMLESS = (
    "alibi_bias_max",
    "attention_layer_norm_with_affine",
    "embedding_size",
    "flash_attention",
    "mlp_ratio",
    "n_kv_heads",
    "pad_token_id",
)


def read_config(published: Mapping[str, Any]) -> PretrainedConfig:
    """The network that a LLaDA config.json describes.

    Raises:
      ValueError: a field is missing, unknown, contradictory or has a value that is not implemented.
    """
    check_fields(published, read=READ, fixed=FIXED, harmless=HARMLESS)
    rows = published.get("embedding_size") or published["vocab_size"]
    if rows < published["vocab_size"]:
        raise ValueError(
            f"config.json contradicts itself: embedding_size {rows} has no room for "
            f"vocab_size {published['vocab_size']}"
        )
    return PretrainedConfig(
        vocab=rows,
        embeddings=rows,
        width=published["d_model"],
        depth=published["n_layers"],
        heads=published["n_heads"],
        kv_heads=published.get("n_kv_heads") or published["n_heads"],
        mlp=published["mlp_hidden_size"],
        max_length=published["max_sequence_length"],
        norm_eps=published["rms_norm_eps"],
        rope_base=published["rope_theta"],
    )


def tensors(config: PretrainedConfig) -> list[Tensor]:
    """Every tensor of a checkpoint."""
    block = {
        "attn_norm.weight": ("attention_norm", "scale"),
        "q_proj.weight": ("attention", "query", "weight"),
        "k_proj.weight": ("attention", "key", "weight"),
        "v_proj.weight": ("attention", "value", "weight"),
        "attn_out.weight": ("attention", "out", "weight"),
        "ff_norm.weight": ("mlp_norm", "scale"),
        "ff_proj.weight": ("gate", "weight"),
        "up_proj.weight": ("up", "weight"),
        "ff_out.weight": ("down", "weight"),
    }
    around = {
        "model.transformer.wte.weight": ("embed",),
        "model.transformer.ln_f.weight": ("final_norm", "scale"),
        "model.transformer.ff_out.weight": ("head",),
    }
    return one_to_one(around | per_block(config.depth, block, "model.transformer.blocks.{}."))


LLADA = CheckpointFormat(
    name="llada",
    recognises=lambda published: published.get("model_type") == "llada",
    config=read_config,
    ids=lambda published: SpecialIds(published["mask_token_id"], published["eos_token_id"]),
    tensors=tensors,
)
