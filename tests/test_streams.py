"""Which positions a modality has, which ids they may take, and what a network makes of it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.base import bind
from mdm_jax.denoisers.rope import grid_rope_table, rope_table
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.policies.heuristics import Ancestral
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.streams import OUTSIDE, Span, Stream
from mdm_jax.training.denoiser import init_params

WORDS, CELLS = Span("text", 1, 2, 0, 3), Span("image", 4, 4, 3, 2, (2, 2))
STREAM, VOCAB, MASK, PAD = Stream(9, (WORDS, CELLS)), 7, 7, 8  # 5 and 6 are boundaries
CONFIG = TransformerConfig(width=16, depth=1, heads=2, max_length=9)


def test_positions_and_ids():
    assert STREAM.modality.tolist() == [OUTSIDE, 0, 0, OUTSIDE, 1, 1, 1, 1, OUTSIDE]
    allowed = STREAM.allowed(VOCAB)
    ids = [np.flatnonzero(row).tolist() for row in allowed]
    assert ids == [[5, 6], [0, 1, 2], [0, 1, 2], [5, 6], *[[3, 4]] * 4, [5, 6]]
    assert STREAM.coordinates[4:8].tolist() == [[4, 4], [4, 5], [5, 4], [5, 5]]
    assert STREAM.coordinates[8].tolist() == [8, 8]


@pytest.mark.parametrize(
    "spans, problem",
    [
        ((WORDS, replace(CELLS, start=2)), "overlaps"),
        ((replace(WORDS, start=8),), "leaves"),
        ((WORDS, replace(CELLS, first_id=2)), "shares ids"),
        ((replace(CELLS, grid=(2, 3)),), "grid"),
    ],
)
def test_spans_that_do_not_fit_are_refused(spans, problem):
    with pytest.raises(MdmError, match=problem):
        Stream(9, spans)
    with pytest.raises(MdmError, match="below 4"):
        STREAM.allowed(4)


def test_equal_coordinates_are_one_position():
    places = jnp.arange(5)
    one, two = (
        rope_table(places, 8, 100.0),
        grid_rope_table(jnp.stack([places, places], 1), 8, 100.0),
    )
    assert all((a == b).all() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("more", [{}, {"modality_embedding": True, "grid_rope": True}])
def test_nothing_outside_a_positions_range_is_produced(more):
    """At a high temperature, and with what is clamped kept."""
    module = Transformer(replace(CONFIG, **more), VOCAB, STREAM)
    denoise = bind(module, init_params(module, jax.random.key(0), 9, MASK))
    canvas = jnp.array([5, MASK, MASK, 5, 4, MASK, MASK, MASK, 6])
    config = SamplerConfig(MASK, PAD, budget=3, temperature=50.0)
    keys = jax.random.split(jax.random.key(1), 64)
    found = sample(
        keys, jnp.tile(canvas, (64, 1)), denoise=denoise, policy=Ancestral(3), config=config
    )
    rows = np.asarray(found.canvas)
    assert STREAM.allowed(VOCAB)[np.arange(9), rows].all()
    assert (rows[:, [0, 3, 4, 8]] == [5, 5, 4, 6]).all()
    assert len(np.unique(rows[:, 1])) == 3 and len(np.unique(rows[:, 5])) == 2


def test_options_for_modalities_need_some():
    with pytest.raises(MdmError, match="several modalities"):
        Transformer(replace(CONFIG, grid_rope=True), VOCAB)


def test_without_options_a_stream_changes_no_allowed_logit():
    plain, ranged = Transformer(CONFIG, VOCAB), Transformer(CONFIG, VOCAB, STREAM)
    params = init_params(plain, jax.random.key(0), 9, MASK)
    canvas, valid = jnp.full(9, MASK), jnp.ones(9, bool)
    allowed = STREAM.allowed(VOCAB)
    expected = np.where(allowed, bind(plain, params)(canvas, valid), -np.inf)
    some = jnp.array([7, 2])
    assert (np.asarray(bind(ranged, params)(canvas, valid)) == expected).all()
    part = bind(ranged, params)(canvas, valid, some)
    np.testing.assert_allclose(part, expected[some], rtol=1e-5)
