"""Dream (Dream-org/Dream-v0-7B): a Qwen2 block with grouped key heads and biases on queries, keys and
values; its logits are shifted by one position.
"""

from mdm_jax.denoisers.pretrained.checkpoint_format import (
    CheckpointFormat,
    SpecialIds,
    TensorNames,
    first_id,
    separate_projections,
)
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.config_fields import FieldRules

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

RULES = FieldRules(
    attributes={
        "hidden_size": "width",
        "intermediate_size": "mlp",
        "max_position_embeddings": "max_length",
        "num_attention_heads": "heads",
        "num_hidden_layers": "depth",
        "num_key_value_heads": "kv_heads",
        "rms_norm_eps": "norm_eps",
        "rope_theta": "rope_base",
        "vocab_size": "vocab",
    },
    required=("eos_token_id", "mask_token_id"),
    fixed={"hidden_act": ("silu",), "model_type": ("Dream",)},
)
NAMES = TensorNames(
    embed="model.embed_tokens",
    final_norm="model.norm",
    head="lm_head",
    block="model.layers.{}.",
    attention_norm="input_layernorm",
    out="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)
PROJECTIONS = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"

DREAM = CheckpointFormat(
    name="dream",
    recognises=lambda published: published.get("model_type") == "Dream",
    rules=RULES,
    complete=lambda published: {
        "embeddings": published["vocab_size"],
        "qkv_bias": True,
        "shifted": True,
    },
    ids=lambda published: SpecialIds(
        published["mask_token_id"], first_id(published["eos_token_id"])
    ),
    names=NAMES,
    projections=lambda _: separate_projections(*PROJECTIONS, parts=("weight", "bias")),
)
