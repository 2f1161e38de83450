"""Dream (Dream-org/Dream-v0-7B): a Qwen2 block with grouped key heads and biases on queries, keys and
values; its logits are shifted by one position.
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

DREAM_7B = PretrainedConfig(
    vocab=152064,
    embeddings=152064,
    width=3584,
    depth=28,
    heads=28,
    kv_heads=4,
    mlp=18944,
    max_length=131072,
    norm_eps=1e-6,
    rope_base=1000000.0,
    qkv_bias=True,
    shifted=True,
    dtype="bfloat16",
)

READ = (
    "eos_token_id",
    "hidden_size",
    "intermediate_size",
    "mask_token_id",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "vocab_size",
)
FIXED = {
    "hidden_act": ("silu",),
    "model_type": ("Dream",),
    "rope_scaling": (None,),
    "sliding_window": (None,),
    "tie_word_embeddings": (False,),
    "use_sliding_window": (False,),
}
HARMLESS = ("max_window_layers", "pad_token_id")  # of sliding windows, which are off


def read_config(published: Mapping[str, Any]) -> PretrainedConfig:
    """The network that a Dream config.json describes.

    Raises:
      ValueError: a field is missing, unknown, contradictory or has a value that is not implemented.
    """
    check_fields(published, read=READ, fixed=FIXED, harmless=HARMLESS)
    return PretrainedConfig(
        vocab=published["vocab_size"],
        embeddings=published["vocab_size"],
        width=published["hidden_size"],
        depth=published["num_hidden_layers"],
        heads=published["num_attention_heads"],
        kv_heads=published["num_key_value_heads"],
        mlp=published["intermediate_size"],
        max_length=published["max_position_embeddings"],
        norm_eps=published["rms_norm_eps"],
        rope_base=published["rope_theta"],
        qkv_bias=True,
        shifted=True,
    )


def tensors(config: PretrainedConfig) -> list[Tensor]:
    """Every tensor of a checkpoint."""
    projections = {"q_proj": "query", "k_proj": "key", "v_proj": "value"}
    block = {
        "input_layernorm.weight": ("attention_norm", "scale"),
        "self_attn.o_proj.weight": ("attention", "out", "weight"),
        "post_attention_layernorm.weight": ("mlp_norm", "scale"),
        "mlp.gate_proj.weight": ("gate", "weight"),
        "mlp.up_proj.weight": ("up", "weight"),
        "mlp.down_proj.weight": ("down", "weight"),
    } | {
        f"self_attn.{name}.{part}": ("attention", ours, part)
        for name, ours in projections.items()
        for part in ("weight", "bias")
    }
    around = {
        "model.embed_tokens.weight": ("embed",),
        "model.norm.weight": ("final_norm", "scale"),
        "lm_head.weight": ("head",),
    }
    return one_to_one(around | per_block(config.depth, block, "model.layers.{}."))


DREAM = CheckpointFormat(
    name="dream",
    recognises=lambda published: published.get("model_type") == "Dream",
    config=read_config,
    ids=lambda published: SpecialIds(published["mask_token_id"], published["eos_token_id"]),
    tensors=tensors,
)
