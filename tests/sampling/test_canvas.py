"""Blocks, windows and the end of a response, on canvases small enough to check by eye."""

import jax.numpy as jnp
import pytest

from mdm_jax.sampling.canvas import (
    after_eos,
    block_ids,
    closed_by_eos,
    count_blocks,
    current_block,
    response_start,
    window_start,
)

EOS, MASK = 0, 9


@pytest.mark.parametrize(
    "canvas, start", [([1, 2, 9, 9], 2), ([9, 1, 9, 1], 0), ([1, 9, 2, 9], 1), ([1, 2, 3, 4], 0)]
)
def test_response_starts_at_the_first_mask(canvas, start):
    assert response_start(jnp.array(canvas), MASK) == start


def test_block_ids():
    assert block_ids(6, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert block_ids(6, 1).tolist() == [0, 1, 2, 3, 4, 5]
    assert block_ids(6, 6).tolist() == block_ids(6, None).tolist() == [0] * 6


@pytest.mark.parametrize("block_length", [4, 5, 7, 0, -2])
def test_blocks_must_divide(block_length):
    with pytest.raises(ValueError, match=rf"{block_length} does not divide the 6"):
        block_ids(6, block_length)


@pytest.mark.parametrize(
    "masked, current, count",
    [([0, 0, 1, 0, 0, 1], 1, 2), ([1, 1, 1, 1, 1, 1], 0, 3), ([0, 0, 0, 0, 0, 1], 2, 1)],
)
def test_current_block_and_how_many_there_are(masked, current, count):
    is_masked, blocks = jnp.array(masked, bool), block_ids(6, 2)
    assert current_block(is_masked, blocks) == current
    assert count_blocks(is_masked, blocks) == count


def test_there_is_no_current_block_when_nothing_is_masked():
    is_masked, blocks = jnp.zeros(6, bool), block_ids(6, 2)
    assert current_block(is_masked, blocks) > 2 and count_blocks(is_masked, blocks) == 0


@pytest.mark.parametrize(
    "tokens, response, after",
    [
        ([1, 0, 2, 0, 3], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]),  # the first EOS itself still belongs
        ([0, 1, 2, 0, 3], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]),  # one in the prompt ends nothing
        ([1, 9, 0, 9, 9], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]),  # a mask before it may still end it
        ([1, 2, 3, 4, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
        ([1, 2, 3, 4, 9], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]),
    ],
)
def test_after_eos(tokens, response, after):
    got = after_eos(jnp.array(tokens), jnp.array(response, bool), EOS)
    assert got.tolist() == [bool(x) for x in after]


@pytest.mark.parametrize(
    "canvas, closed",
    [
        ([0, 9, 0, 9, 9], [3, 4]),  # position 0 is the prompt, whose EOS ends nothing
        ([1, 9, 9, 9, 9], []),
        ([1, 0, 9, 7, 9], [2, 4]),  # a token that was revealed after it stays
    ],
)
def test_an_eos_closes_the_masks_after_it(canvas, closed):
    response = jnp.array([0, 1, 1, 1, 1], bool)
    got = closed_by_eos(jnp.array(canvas), response, MASK, EOS)
    assert jnp.flatnonzero(got).tolist() == closed


@pytest.mark.parametrize("canvas, start", [([1, 9, 9, 9], 1), ([1, 2, 3, 9], 2), ([9, 9, 1, 9], 0)])
def test_a_window_starts_at_the_response_or_where_it_fits(canvas, start):
    assert window_start(jnp.array(canvas), MASK, 2) == start
