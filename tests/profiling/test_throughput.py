"""Rates of stored generations, by hand."""

import numpy as np

from mdm_jax.evals.store import Generations
from mdm_jax.profiling.throughput import live, throughput
from mdm_jax.tasks.base import Vocabulary

WORDS = Vocabulary(size=5, eos_id=0)
MASK, PAD = WORDS.mask_id, WORDS.pad_id
CANVASES = np.array([[0, 2, MASK, MASK, MASK, MASK], [3, MASK, MASK, MASK, MASK, PAD]] * 2)


def generated(seconds):
    tokens = np.array([[0, 2, 1, 2, 0, 4], [3, 1, 1, 1, 1, PAD]])
    return Generations(
        index=np.array([0, 3]),
        tokens=tokens,
        text=["", ""],
        nfe=np.array([2, 4]),
        passes=np.array([4, 4]),
        seconds=np.array(seconds),
        revealed_at=tokens,
    )


def test_rates():
    speed = throughput(generated([0.5, 0.5]), CANVASES, WORDS)
    assert speed.useful_tokens == (2 + 4) / 2  # an EOS in the prompt ends nothing
    assert (speed.canvas_tokens_per_call, speed.useful_tokens_per_call) == (8 / 6, 6 / 6)
    assert (speed.canvas_tokens_per_second, speed.useful_tokens_per_second) == (8.0, 6.0)
    assert speed.passes_per_second == 8.0


def test_what_compiled_has_no_rate():
    speed = throughput(generated([np.nan, 0.5]), CANVASES, WORDS)
    assert (speed.canvas_tokens_per_second, speed.useful_tokens_per_second) == (8.0, 8.0)
    untimed = throughput(generated([np.nan, np.nan]), CANVASES, WORDS)
    assert untimed[3:] == (None, None, None) and untimed[:3] == speed[:3]


def test_a_turn_that_ends_ends_the_response():
    tokens = np.array([[0, 2, 1, 4, 1, 4]])
    is_response = np.arange(6)[None] >= 2
    vocabulary = Vocabulary(size=5, eos_id=0, turn_ends=(4,))
    assert live(tokens, is_response, vocabulary).tolist() == [[False] * 2 + [True] + [False] * 3]


def test_without_an_eos_all_is_live():
    is_response = CANVASES == MASK
    np.testing.assert_array_equal(live(CANVASES, is_response, Vocabulary(size=5)), is_response)
