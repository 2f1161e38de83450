"""The loss of canvases with several modalities: parts that add up, weights, and what is not learned."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.diffusion.corruption import stratified_times
from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.objectives import AnyOrder, Complement
from mdm_jax.streams import Span, Stream
from mdm_jax.training.losses import CanvasIds, Modalities, TokenBatch, denoising_loss

STREAM = Stream(6, (Span("text", 1, 2, 0, 2), Span("image", 3, 3, 2, 3)))
MASK, PAD, VOCAB = 6, 7, 6
BATCH = TokenBatch(
    jnp.array([[5, 0, 1, 2, 3, 4], [5, 1, 1, 4, 4, 2]] * 8),
    jnp.array([[False] + [True] * 5, [False] * 3 + [True] * 3] * 8),
)


class PerPosition(nn.Module):
    """A denoiser that ignores its canvas; ids outside a position's range are -inf."""

    @nn.compact
    def __call__(self, canvas, valid, positions=None):
        logits = self.param("logits", nn.initializers.normal(1.0), (len(canvas), VOCAB))
        return jnp.where(jnp.asarray(STREAM.allowed(VOCAB)), logits, -jnp.inf)


def loss(objective, modalities, key=0):
    module = PerPosition()
    params = jax.jit(module.init)(jax.random.key(1), BATCH.tokens[0], BATCH.maskable[0])["params"]
    settings = {"module": module, "objective": objective, "times": stratified_times}
    ids = CanvasIds(MASK, PAD, modalities=modalities)

    def of(params):
        return denoising_loss(params, jax.random.key(key), BATCH, ids=ids, **settings)

    return jax.jit(jax.value_and_grad(of, has_aux=True))(params)


@pytest.mark.parametrize("objective", [AnyOrder(), Complement(), Modal(spread=0.5).on(STREAM)])
def test_the_parts_add_up(objective):
    """Bits per token of the modalities, times their tokens, are the bound; it is finite, and so is its
    gradient, at positions whose ids are excluded as well.
    """
    (value, metrics), gradient = loss(objective, Modalities(STREAM))
    counts = [np.asarray(BATCH.maskable)[:, span.positions].sum() for span in STREAM.spans]
    parts = [metrics[f"bits_{name}"] * math.log(2) for name in STREAM.names]
    total = sum(n * x for n, x in zip(counts, parts, strict=True))
    np.testing.assert_allclose(total / sum(counts), metrics["nelbo_per_token"], rtol=1e-5)
    assert value == metrics["nelbo_per_token"] and np.isfinite(gradient["logits"]).all()
    if not isinstance(objective, type(Modal().on(STREAM))):
        plain = loss(objective, None)[0][0]
        np.testing.assert_allclose(value, plain, rtol=1e-5)


def test_weights_scale_each_modality_and_leave_the_bound():
    """A weight of 0 takes away exactly the gradient of that modality."""
    (_, plain), _ = loss(AnyOrder(), Modalities(STREAM))
    (value, metrics), gradient = loss(AnyOrder(), Modalities(STREAM, (0.0, 2.0)))
    assert metrics == plain
    np.testing.assert_allclose(value, 2 * metrics["bits_image"] * math.log(2), rtol=1e-5)
    text, image = (np.asarray(gradient["logits"])[span.positions] for span in STREAM.spans)
    assert (text == 0).all() and np.abs(image).max() > 0


def test_what_is_dropped_is_not_learned():
    """Prompts that are masked for guidance add neither to the bound nor to the gradient."""
    shown = Modal().on(STREAM), Modal(drop=1.0).on(STREAM)
    (one, _), first = loss(shown[0], Modalities(STREAM))
    (two, _), second = loss(shown[1], Modalities(STREAM))
    assert one == two and (first["logits"] == second["logits"]).all()
