"""Memory of a compiled sampler, in copies of the logits that the policy is shown."""

import jax
import jax.numpy as jnp
import pytest
from sampling_world import quick_sample, row_keys

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.pretrained.config import PretrainedConfig
from mdm_jax.denoisers.pretrained.network import PretrainedTransformer
from mdm_jax.policies.heuristics import TopConfidence
from mdm_jax.sampling.config import SamplerConfig

BATCH, LENGTH, BLOCK, VOCAB = 4, 128, 32, 16384
SHAPE = {"width": 8, "depth": 1, "heads": 1, "kv_heads": 1, "mlp": 8, "max_length": LENGTH}
MODULE = PretrainedTransformer(
    PretrainedConfig(vocab=VOCAB, embeddings=VOCAB, norm_eps=1e-5, rope_base=1e4, **SHAPE)
)


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        (BLOCK, {"temperature": 1.0}),
        (BLOCK, {"temperature": 1.0, "cache": "dual"}),
        (None, {"cache": "dual"}),
    ],
    ids=str,
)
def test_one_copy_of_the_logits_that_are_shown_and_a_half(block, settings):
    """Also at the last permitted call, which reveals every block, and whatever is drawn."""
    config = SamplerConfig(
        mask_id=VOCAB - 1, pad_id=VOCAB, budget=8, gen_length=LENGTH, block_length=block, **settings
    )
    canvas, valid = jnp.zeros(LENGTH, int), jnp.ones(LENGTH, bool)
    params = jax.eval_shape(MODULE.init, jax.random.key(0), canvas, valid)["params"]
    canvases = jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32)
    keys = jax.eval_shape(lambda: row_keys(0, range(BATCH)))
    lowered = quick_sample.lower(keys, canvases, bind(MODULE, params), TopConfidence(8), config)
    used = lowered.compile().memory_analysis().temp_size_in_bytes
    assert used < 1.5 * 4 * BATCH * (block or LENGTH) * VOCAB
