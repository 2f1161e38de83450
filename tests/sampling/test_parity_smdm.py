"""SMDM's sampler on a small SMDM, with and without guidance, against recorded trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_world import NEW, assert_same, denoiser
from recorded import trajectories

from mdm_jax.denoisers.guidance import Guided
from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import TopConfidence

MODEL, MASK, COUNTS = "smdm_tiny", 448, AncestralCounts(1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.5])
def test_most_confident_first(weight):
    cases = trajectories(MODEL, "smdm")
    recorded = [case for case in cases if case["args"]["cfg_scale"] == weight]
    assert len(recorded) == 12
    denoise, config = denoiser(MODEL)
    policies = [TopConfidence(case["args"]["steps"], COUNTS) for case in recorded]
    assert_same(recorded, policies, Guided(denoise, weight, MASK) if weight else denoise, config())


def test_batch_ranked_as_a_whole():
    """Theirs counts and ranks the masked positions of all rows together, so that a row depends on its
    neighbours. Ours never does; with the ranking done here by hand, the trajectory is theirs.
    """
    denoise, _ = denoiser(MODEL)
    one = jax.jit(jax.vmap(lambda canvas: denoise(canvas, jnp.ones(canvas.shape, bool))))
    for case in trajectories(MODEL, "smdm_batch"):
        steps, prompts = case["args"]["steps"], np.array(case["prompt_ids"])
        canvases = np.pad(prompts, ((0, 0), (0, NEW)), constant_values=MASK)
        for step in range(steps):
            probs = np.asarray(jax.nn.softmax(one(jnp.asarray(canvases)), axis=-1))
            scores = np.where(canvases == MASK, probs.max(axis=-1), -1).ravel()
            left = jnp.int32((canvases == MASK).sum())
            count = int(COUNTS.count(left, jnp.int32(2 * NEW), jnp.int32(step), jnp.int32(steps)))
            best = np.argsort(-scores, kind="stable")[:count]
            before = canvases.copy()
            canvases.ravel()[best] = probs.argmax(axis=-1).ravel()[best]
            for row, now in enumerate(canvases):
                shown = {place: token for place, token in case["steps"][row][step]["revealed"]}
                assert shown == {k: now[k] for k in np.flatnonzero(now != before[row])}
        assert canvases.tolist() == case["final_ids"]
