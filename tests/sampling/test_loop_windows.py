"""Blocks, response windows, padding and EOS inside the loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sampling_world import (
    CANVASES,
    EOS,
    LENGTH,
    MASK,
    PAD,
    PROMPTED,
    VOCAB,
    Config,
    certain,
    row_keys,
    run,
)

from mdm_jax.policies.base import RevealAll
from mdm_jax.policies.heuristics import Ancestral, LeftToRight, LowEntropy, TopConfidence, TopMargin
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.loop import sample
from mdm_jax.types import Decision

BLOCKS_OF_FOUR = Config(block_length=4, temperature=1.0, record=True)
WITH_EOS = Config(eos_id=EOS)


# ---- blocks ------------------------------------------------------------------------------------


def test_each_row_is_in_its_own_block():
    """Two steps in each of three blocks; rows that were given a block spend their steps elsewhere."""
    got = run(TopConfidence(6), BLOCKS_OF_FOUR)
    blocks = np.arange(LENGTH) // 4
    for row in range(6):
        for step in range(got.nfe[row]):
            masked = got.trace.is_masked[row, step]
            expected = masked & (blocks == blocks[masked].min())
            np.testing.assert_array_equal(got.trace.eligible[row, step], expected)
    at_first = [set(blocks[got.trace.eligible[row, 0]]) for row in (0, 1, 5)]
    assert at_first == [{0}, {1}, {1}]
    # row 1 has two blocks and so three steps in each: 2 + 1 + 1
    counts = got.trace.unmask.sum(axis=2)
    assert counts[0].tolist() == [2] * 6 + [0] * 4
    assert counts[1].tolist() == [2, 1, 1, 2, 1, 1] + [0] * 4
    assert counts[5].tolist() == [1, 1, 1, 1, 1] + [0] * 5  # 2 masks, then 3, in 3 steps each
    assert got.nfe.tolist() == [6, 6, 6, 5, 0, 5]


def test_one_block_is_full_diffusion():
    whole = run(TopConfidence(4))
    block = run(TopConfidence(4), Config(temperature=1.0, record=True, block_length=LENGTH))
    jax.tree.map(np.testing.assert_array_equal, block, whole)
    blocks = run(TopConfidence(4), BLOCKS_OF_FOUR)
    assert blocks.canvas.tolist() != whole.canvas.tolist()  # so it does matter


def test_blocks_of_one_are_left_to_right():
    """The same tokens as the policy gives, drawn from the same keys, but for what is eligible."""
    blocks = run(TopConfidence(1), Config(temperature=1.0, record=True, block_length=1))
    in_order = run(LeftToRight(1000))
    np.testing.assert_array_equal(blocks.canvas, in_order.canvas)
    np.testing.assert_array_equal(blocks.trace.unmask, in_order.trace.unmask)
    assert blocks.revealed_at[1].tolist() == [-1] * 4 + list(range(8))


def test_there_is_at_least_one_step_per_block():
    assert run(TopConfidence(1), BLOCKS_OF_FOUR).nfe.tolist() == [3, 2, 3, 3, 0, 2]


# ---- windows -----------------------------------------------------------------------------------


def test_a_window_is_the_whole_canvas_run_of_its_response():
    """Prompts of several lengths in one batch, none of them ever masked."""
    window = run(TopConfidence(4), Config(gen_length=8), PROMPTED)
    whole = run(TopConfidence(4), Config(), PROMPTED)
    np.testing.assert_array_equal(window.canvas, whole.canvas)
    np.testing.assert_array_equal(window.nfe, whole.nfe)
    starts = [2, 4, 3, 1, 4, 0]  # the fifth response has no room for eight: its window is earlier
    for row, start in enumerate(starts):
        expected = whole.revealed_at[row, start : start + 8]
        np.testing.assert_array_equal(window.revealed_at[row], expected)


def test_blocks_are_counted_from_the_start_of_the_window():
    config = Config(gen_length=8, block_length=4, eos_id=EOS, record=True)
    eligible = run(LowEntropy(6), config, PROMPTED).trace.eligible[:, 0]
    np.testing.assert_array_equal(eligible[[0, 1, 2, 3, 5]], [[1] * 4 + [0] * 4] * 5)


def test_padding_changes_nothing():
    """More of it, on the right: the same tokens, draws included, from the same keys."""
    config = Config(gen_length=8, temperature=1.0, record=True)
    canvases = PROMPTED[[0, 1, 2, 3, 0, 5]]
    narrow = run(Ancestral(5), config, canvases)
    wide = run(Ancestral(5), config, np.pad(canvases, ((0, 0), (0, 4)), constant_values=PAD))
    np.testing.assert_array_equal(wide.canvas[:, :LENGTH], narrow.canvas)
    assert (wide.canvas[:, LENGTH:] == PAD).all()
    np.testing.assert_array_equal(wide.trace.unmask, narrow.trace.unmask)
    np.testing.assert_array_equal(wide.nfe, narrow.nfe)


def test_the_denoiser_is_asked_for_the_window_alone():
    asked = []

    def spy(canvas, valid, positions=None):
        asked.append(None if positions is None else positions.shape)
        logits = jnp.zeros((len(canvas), VOCAB))
        return logits if positions is None else logits[positions]

    def trace(config):
        arguments = {"denoise": jax.tree_util.Partial(spy), "policy": RevealAll(), "config": config}
        jax.eval_shape(functools.partial(sample, **arguments), row_keys(0), jnp.asarray(PROMPTED))

    trace(Config(gen_length=8))
    assert set(asked) == {(8,)}
    trace(Config())
    assert set(asked) == {(8,), None}


# ---- the end of a response ---------------------------------------------------------------------


def test_what_follows_eos_is_eos_at_no_cost():
    """The surest is on the left, so each row is revealed from left to right."""
    tokens = [1, 2, 3, EOS, 4, 4, 4, 4, 4, 4, 4, 4]
    denoise = certain(tokens, sureness=np.linspace(9, 5, LENGTH))
    got = run(TopConfidence(1000), WITH_EOS, denoise=denoise)
    assert got.canvas[0].tolist() == [1, 2, 3] + [EOS] * 9 and got.nfe[0] == 4
    assert got.revealed_at[0].tolist() == [0, 1, 2] + [3] * 9
    # an EOS in the prompt (row 3) ends nothing, and padding stays
    assert got.canvas[1].tolist() == [1, 2, 3, 4] + [4] * 8 and got.nfe[1] == 8
    assert got.canvas[3].tolist() == [1, 0, 3] + [EOS] * 7 + [PAD] * 2 and got.nfe[3] == 1
    without = run(TopConfidence(1000), Config(), denoise=denoise)
    assert without.canvas[0].tolist() == tokens and without.nfe[0] == 10


def test_given_tokens_after_eos_stay_and_the_end_may_move_forward():
    tokens = [1, EOS, 3, 4, 1, EOS, 2, 2, 2, 2, 2, 2]
    denoise = certain(tokens, sureness=[1, 2, 3, 4, 5, 9, 8, 7, 6, 5.5, 5.4, 5.3])
    got = run(TopConfidence(1000), WITH_EOS, denoise=denoise)
    # position 5 first, which closes 6..11; then 4, 3, 2, then the EOS at 1, last 0
    assert got.revealed_at[0].tolist() == [5, 4, 3, 2, 1] + [0] * 7 and got.nfe[0] == 6
    assert got.canvas[0].tolist() == [1, EOS, 3, 4, 1] + [EOS] * 7
    assert got.canvas[5].tolist() == [4, 3, 2, 1, 2, EOS, EOS, 3, EOS, EOS, EOS, 4]
    assert got.nfe[5] == 1


@pytree_dataclass
class SecondThoughts:
    """Reveals position 3, then re-masks it and reveals position 0, then reveals all that it may."""

    def init(self, length):
        return jnp.zeros((), jnp.int32)

    def __call__(self, key, observation, state):
        places = jnp.arange(len(observation.eligible))
        unmask = jnp.select([state == 0, state == 1], [places == 3, places == 0], True)
        return Decision(unmask, (state == 1) & (places == 3)), state + 1


def _says_eos_at_first(canvas, valid, positions=None):
    """Token 4 everywhere; EOS at position 3 as long as position 0 is masked."""
    logits = jnp.tile(10.0 * jax.nn.one_hot(4, VOCAB), (len(canvas), 1))
    logits = logits.at[3, EOS].set(jnp.where(canvas[0] == MASK, 20.0, 0.0))
    return logits if positions is None else logits[positions]


@pytest.mark.parametrize("block_length, nfe", [(None, 3), (4, 5)])
def test_a_re_masked_eos_opens_again_what_it_closed(block_length, nfe):
    config = Config(eos_id=EOS, block_length=block_length, record=True)
    denoise = jax.tree_util.Partial(_says_eos_at_first)
    got = run(SecondThoughts(), config, CANVASES[[0] * 6], denoise=denoise)
    assert got.canvas[0].tolist() == [4] * LENGTH and got.nfe[0] == nfe
    masks = got.trace.is_masked[0].sum(axis=1)
    assert masks[:3].tolist() == [LENGTH, 3, LENGTH - 1]
    assert got.revealed_at[0, :5].tolist() == [1, 2, 2, 2, nfe - 1 if block_length is None else 3]


def test_eos_closes_later_blocks_too():
    config = Config(eos_id=EOS, block_length=3, temperature=1.0, record=True)
    denoise = certain([1, EOS, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4], sureness=50.0)
    got = run(TopMargin(4), config, denoise=denoise)
    assert got.nfe[0] == 1 and got.canvas[0].tolist() == [1, EOS, 3] + [EOS] * 9
    assert got.nfe[1] == 3 and got.canvas[1].tolist() == [1, 2, 3, 4] + [4] * 8
