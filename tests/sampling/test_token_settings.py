"""Settings of the loop that change which tokens are drawn, and what policies see of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from sampling_world import CANVASES, MASK, PROMPTED, Config, run, toy

from mdm_jax.denoisers.guidance import Guided
from mdm_jax.policies.heuristics import ConfidenceThreshold, LowEntropy, TopConfidence
from mdm_jax.sampling.tokens import draw_logits

MASKED = CANVASES == MASK


def test_forbidden_ids_are_never_produced():
    bias = np.array(toy().args[0]["bias"])
    bias[:, [1, 3]] += 50.0
    free = run(TopConfidence(4), Config(), denoise=toy(bias=bias)).canvas
    got = run(TopConfidence(4), Config(forbid_ids=(1, 3)), denoise=toy(bias=bias)).canvas
    assert np.isin(free[MASKED], [1, 3]).all()
    assert not np.isin(got[MASKED], [1, 3]).any()


@pytest.mark.parametrize("policy", [TopConfidence(99), LowEntropy(99)])
def test_late_ids_come_last(policy):
    """One position at a time: a late token only where every masked position would take one."""
    late = (0, 2)
    trace = run(policy, Config(late_ids=late, budget=12, record=True)).trace
    shown = 0
    for row, step in zip(*np.nonzero(trace.unmask.any(axis=2)), strict=True):
        would = np.isin(trace.proposal[row, step], late)[trace.is_masked[row, step]]
        taken = np.isin(trace.proposal[row, step], late)[trace.unmask[row, step]]
        assert taken.all() == would.all() and taken.sum() <= 1
        shown += 0 < would.mean() < 1
    assert shown > 5


def test_policies_see_what_is_drawn_from():
    """With one token left at each position all are certain, so all are revealed at once."""
    plain = Config(temperature=0.7, top_k=1, budget=12, record=True)
    seeing = Config(temperature=0.7, top_k=1, budget=12, record=True, policy_sees_draw=True)
    slow, quick = run(ConfidenceThreshold(0.9), plain), run(ConfidenceThreshold(0.9), seeing)
    assert slow.nfe.max() > 1 and quick.nfe.max() == 1
    assert (quick.trace.confidence[:, 0][MASKED] == 1).all()
    # at temperature 0 filters change no token, but what is seen of them
    cold = Config(top_p=0.6, budget=12, record=True, policy_sees_draw=True)
    logits = jnp.asarray(run_logits())
    kept = np.asarray(draw_logits(logits, 0.0, 0.6, None))
    probs = np.exp(kept - kept.max(axis=1, keepdims=True))
    seen = run(TopConfidence(12), cold).trace.confidence[0, 0]
    np.testing.assert_allclose(seen, (probs / probs.sum(axis=1, keepdims=True)).max(1), rtol=1e-5)


def run_logits():
    """What the denoiser says of the first, wholly masked canvas, MASK and PAD ruled out."""
    logits = np.array(toy()(CANVASES[0], np.ones(12, bool)), np.float32)
    logits[:, 5:] = -np.inf
    return logits


def test_guidance_is_a_guided_denoiser():
    config = Config(gen_length=8, record=True)
    guided = Config(gen_length=8, guidance=1.5, record=True)
    by_setting = run(TopConfidence(4), guided, PROMPTED)
    by_hand = run(TopConfidence(4), config, PROMPTED, denoise=Guided(toy(), 1.5, MASK))
    np.testing.assert_array_equal(by_setting.canvas, by_hand.canvas)
    assert by_setting.passes.tolist() == by_hand.passes.tolist() == [8] * 6  # two in each call
    with pytest.raises(ValueError, match=r"guidance 1.5 masks the prompt: it needs a gen_length"):
        Config(guidance=1.5).check(8)
    in_blocks = Config(gen_length=8, block_length=4)
    with pytest.raises(ValueError, match="this policy looks only at the current block"):
        run(TopConfidence(4), in_blocks, PROMPTED, denoise=Guided(toy(), 1.5, MASK))
