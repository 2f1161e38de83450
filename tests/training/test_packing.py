"""Packed rows: the same loss and gradient as a row for each sample, and nothing seen of the others."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.packed import Packed
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import stratified_times
from mdm_jax.diffusion.objectives import Complement
from mdm_jax.errors import MdmError
from mdm_jax.streams import Span, Stream
from mdm_jax.training.losses import CanvasIds, Modalities, TokenBatch, denoising_loss
from mdm_jax.training.packing import pack

STREAM = Stream(8, (Span("text", 1, 3, 0, 2), Span("image", 4, 4, 2, 3, (2, 2))))
VOCAB, MASK, PAD = 7, 7, 8
FLAGS = {"grid_rope": True, "modality_embedding": True, "max_length": 8}
MODULE = Transformer(TransformerConfig(width=8, depth=1, heads=2, **FLAGS), VOCAB, STREAM)
TOKENS = np.array(
    [
        [5, 0, 1, 1, 2, 3, 4, 4],
        [6, 1, 0, 0, PAD, PAD, PAD, PAD],
        [6, PAD, PAD, PAD, 4, 2, 2, 3],
        [5, 1, 1, PAD, 3, 3, 4, 2],
    ],
    np.int32,
)
MASKABLE = (TOKENS < 5) & (np.arange(8) != 1)  # each first letter is a prompt
SOURCE = pack(TOKENS, PAD, 10)


@jax.jit
def loss_and_gradient(params, batch):
    ids = CanvasIds(MASK, PAD, modalities=Modalities(STREAM, (1.0, 0.5)))
    loss = partial(
        denoising_loss, module=MODULE, objective=Complement(), times=stratified_times, ids=ids
    )
    return jax.value_and_grad(loss, has_aux=True)(params, jax.random.key(3), batch)


@pytest.fixture(scope="module")
def params():
    everything = jnp.asarray(TOKENS[0]), jnp.ones(8, bool)
    return jax.jit(MODULE.init)(jax.random.key(0), *everything)["params"]


def test_every_token_has_one_place_and_no_padding_has_any():
    """8 + 7 + 5 + 4 tokens in three rows of ten, the longest first, each where it first fits."""
    assert SOURCE.shape == (3, 10) and (SOURCE >= 0).sum() == 24
    used = SOURCE[SOURCE >= 0]
    assert sorted(used) == np.flatnonzero(TOKENS != PAD).tolist()
    assert [sorted(set(row[row >= 0] // 8)) for row in SOURCE] == [[0], [3], [1, 2]]
    assert pack(TOKENS, PAD, 10, multiple=2).shape == (4, 10)
    with pytest.raises(MdmError, match="pack 7 is less than the 8 tokens"):
        pack(TOKENS, PAD, 7)


def test_loss_and_gradient_are_those_of_a_row_for_each(params):
    """Anti-masking, weights of modalities, prompts, rotary positions on a grid, learned positions."""
    plain = TokenBatch(jnp.asarray(TOKENS), jnp.asarray(MASKABLE))
    expected = loss_and_gradient(params, plain)
    got = loss_and_gradient(params, plain._replace(source=jnp.asarray(SOURCE)))
    assert expected[0][1].keys() == got[0][1].keys()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6), expected, got)


def test_a_sample_sees_nothing_of_its_neighbours(params):
    """Bit for bit: whatever the others of its row are, and whatever is in empty positions."""
    row = SOURCE[2]
    at = np.maximum(row, 0)
    packed = Packed(jnp.asarray(np.where(row < 0, -1, at // 8)), jnp.asarray(at % 8))
    canvas = jnp.asarray(np.where(row < 0, MASK, TOKENS.ravel()[at]))
    other = jnp.where(packed.sample == 1, canvas, 5)
    logits = jax.jit(
        lambda canvas: MODULE.apply({"params": params}, canvas, canvas != PAD, None, packed)
    )
    mine = np.asarray(packed.sample) == 1
    assert (np.asarray(logits(canvas))[mine] == np.asarray(logits(other))[mine]).all()
