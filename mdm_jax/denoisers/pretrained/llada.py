"""LLaDA (arXiv:2502.09992): an OLMo block without biases, as many key heads as query heads.

Source of names and fields: GSAI-ML/LLaDA-8B-Base and -Instruct.
"""

from typing import Any

from mdm_jax.denoisers.pretrained.checkpoint_format import (
    CheckpointFormat,
    SpecialIds,
    TensorNames,
    first_id,
    separate_projections,
)
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.config_fields import FieldRules, Fields
from mdm_jax.errors import MdmError

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

RULES = FieldRules(
    attributes={
        "d_model": "width",
        "max_sequence_length": "max_length",
        "mlp_hidden_size": "mlp",
        "n_heads": "heads",
        "n_layers": "depth",
        "rms_norm_eps": "norm_eps",
        "rope_theta": "rope_base",
    },
    required=("eos_token_id", "mask_token_id", "vocab_size"),
    fixed={
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
    },
    ignored=(
        "alibi_bias_max",
        "attention_layer_norm_with_affine",
        "embedding_size",
        "flash_attention",
        "mlp_ratio",
        "n_kv_heads",
    ),
)
NAMES = TensorNames(
    embed="model.transformer.wte",
    final_norm="model.transformer.ln_f",
    head="model.transformer.ff_out",
    block="model.transformer.blocks.{}.",
    attention_norm="attn_norm",
    out="attn_out",
    mlp_norm="ff_norm",
    gate="ff_proj",
    up="up_proj",
    down="ff_out",
)


def _complete(published: Fields) -> dict[str, Any]:
    """Rows of embedding and head, which may be more than the vocabulary, and key heads."""
    rows = published.get("embedding_size") or published["vocab_size"]
    if rows < published["vocab_size"]:
        raise MdmError(
            f"config.json contradicts itself: embedding_size {rows} has no room for "
            f"vocab_size {published['vocab_size']}"
        )
    kv_heads = published.get("n_kv_heads") or published["n_heads"]
    return {"vocab": rows, "embeddings": rows, "kv_heads": kv_heads}


LLADA = CheckpointFormat(
    name="llada",
    recognises=lambda published: published.get("model_type") == "llada",
    rules=RULES,
    complete=_complete,
    ids=lambda published: SpecialIds(
        published["mask_token_id"], first_id(published["eos_token_id"])
    ),
    names=NAMES,
    projections=lambda _: separate_projections("q_proj", "k_proj", "v_proj"),
)
