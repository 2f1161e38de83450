"""What tests of published denoisers share: a small config.json of each family, and weights."""

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.pretrained.checkpoints import FORMATS, PublishedInfo
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer

VOCAB, MASK, PAD = 24, 20, 24
LLADA = {
    "model_type": "llada",
    "d_model": 16,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 2,
    "mlp_hidden_size": 12,
    "max_sequence_length": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "vocab_size": VOCAB,
    "mask_token_id": MASK,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "weight_tying": False,
}
DREAM = {
    "model_type": "Dream",
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 100.0,
    "vocab_size": VOCAB,
    "mask_token_id": MASK,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "hidden_act": "silu",
    "torch_dtype": "float32",
}
SMDM = {
    "block_size": 32,
    "intermediate_size": 12,
    "n_embd": 16,
    "n_head": 4,
    "n_layer": 2,
    "n_query_groups": 2,
    "norm_eps": 1e-5,
    "padded_vocab_size": VOCAB,
    "bias": False,
    "rope_base": 100,
}
PUBLISHED = dict(zip(("llada", "dream", "smdm"), (LLADA, DREAM, SMDM), strict=True))


def family_of(name):
    return next(family for family in FORMATS if family.name == name)


def random_params(module, seed=0):
    """Parameters drawn so that attention and every logit depend on all of them."""
    canvas = np.zeros(1, np.int32), np.ones(1, bool)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *canvas)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf):
        drawn = (len(leaf.shape) == 1) + 0.5 * rng.standard_normal(leaf.shape)
        return jnp.asarray(drawn, leaf.dtype)

    return jax.tree.map(draw, shapes)


def small(name, seed=0):
    """A denoiser of the family with random weights, and its info."""
    family, published = family_of(name), PUBLISHED[name]
    config, ids = family.config(published), family.ids(published)
    module = PretrainedTransformer(config)
    info = PublishedInfo(
        family=name,
        vocab=VOCAB,
        mask_id=ids.mask,
        eos_id=ids.eos,
        pad_id=config.embeddings,
        max_length=32,
        published=published,
    )
    return bind(module, random_params(module, seed)), info
