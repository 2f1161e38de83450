"""Finished rows make room for waiting prompts: which, when, and what it saves."""

from typing import NamedTuple

import numpy as np
import pytest

from mdm_jax.evals.refilled import refilled


class Found(NamedTuple):
    """What rows have come to: the prompt's own number, and calls."""

    prompt: np.ndarray
    nfe: np.ndarray
    passes: np.ndarray


class Batch:
    """Rows that need so many calls each, as `sampling.refill` steps them."""

    def __init__(self, needed):
        self.needed, self.executed, self.calls = np.asarray(needed), 0, []

    def begin(self, prompts):
        zero = np.zeros(len(prompts), int)
        return Found(prompts.copy(), zero, zero)

    def advance(self, prompts, rows, is_new, free):
        prompt, nfe, passes = (
            np.where(is_new, *both) for both in zip(self.begin(prompts), rows, strict=True)
        )
        assert prompt.tolist() == prompts.tolist()
        needed = self.needed[prompt]
        while (nfe >= needed).sum() < free:
            nfe, passes = nfe + (nfe < needed), passes + 1
            self.executed += len(prompt)
        rows = Found(prompt, nfe, passes)
        return rows, rows, nfe >= needed


@pytest.mark.parametrize(("count", "size"), [(40, 8), (9, 8), (8, 8), (30, 16)])
def test_every_prompt_is_completed_once_in_the_calls_it_needs(count, size):
    prompts = np.random.default_rng(0).permutation(count)
    needed = np.random.default_rng(1).integers(1, 20, count)
    batch = Batch(needed)
    found = list(refilled(prompts, size, size, batch.begin, batch.advance))
    for one in found:
        assert one.prompts.tolist() == one.rollout.prompt.tolist() and one.seconds >= 0
        assert one.rollout.nfe.tolist() == needed[one.prompts].tolist()
        assert (one.rollout.passes >= one.rollout.nfe).all()
    assert sorted(np.concatenate([one.prompts for one in found])) == list(range(count))
    assert sum(one.rollout.passes.sum() for one in found) <= batch.executed


def test_nine_of_ten_executed_calls_are_useful():
    """With 34 calls of up to 56, as thresholds gave; 0.66 where batches are completed whole."""
    needed = np.random.default_rng(2).integers(12, 57, 256)
    batch = Batch(needed)
    list(refilled(np.arange(256), 16, 16, batch.begin, batch.advance))
    whole = 16 * needed.reshape(-1, 16).max(axis=1).sum()
    assert needed.sum() / batch.executed > 0.9 > 0.7 > needed.sum() / whole
