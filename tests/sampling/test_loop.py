"""The compiled loop against its plain-Python twin, and what it promises about rows."""

import chex
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
    PLAIN,
    PROMPTED,
    Config,
    Hesitant,
    row_keys,
    row_of,
    run,
    toy,
    twin,
)

from mdm_jax.policies.base import RevealAll, RevealNone, stack
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import (
    Ancestral,
    ConfidenceThreshold,
    EntropyBound,
    LowEntropy,
    Random,
    TopConfidence,
    TopMargin,
)
from mdm_jax.sampling.loop import sample, sample_one, sweep

MASKS = (CANVASES == MASK).sum(axis=1)
CASES = [
    (TopConfidence(4), PLAIN, CANVASES),
    (Random(6, AlphaCounts()), Config(block_length=4, budget=4, record=True), CANVASES),
    (ConfidenceThreshold(0.6), Config(block_length=6, temperature=0.7, record=True), CANVASES),
    (EntropyBound(0.5), Config(top_p=0.8, temperature=1.0, record=True), CANVASES),
    (TopMargin(5), Config(eos_id=EOS, block_length=3, temperature=1.0, record=True), CANVASES),
    (Ancestral(5), Config(gen_length=8, temperature=1.0, record=True), PROMPTED),
    (LowEntropy(6), Config(gen_length=8, block_length=4, eos_id=EOS, record=True), PROMPTED),
    (Hesitant(2), PLAIN, CANVASES),
    (Hesitant(2, 1), Config(gen_length=8, block_length=2, budget=30, record=True), PROMPTED),
]


@pytest.mark.parametrize("policy, config, canvases", CASES, ids=[str(p) for p, _, _ in CASES])
def test_equals_its_twin_step_by_step(policy, config, canvases):
    """Tokens, calls and every step of the trace; steps that a row did not need are all zero."""
    got = run(policy, config, canvases, seed=1)
    for row, (key, canvas) in enumerate(zip(row_keys(1), canvases, strict=True)):
        tokens, nfe, seen, revealed_at = twin(key, canvas, toy(), policy, config)
        assert got.canvas[row].tolist() == tokens.tolist() and got.nfe[row] == nfe
        assert got.revealed_at[row].tolist() == revealed_at
        trace = jax.tree.map(lambda leaf, row=row: leaf[row], got.trace)
        names = ("is_masked", "eligible", "proposal", "unmask", "remask")
        for name, expected in zip(names, zip(*seen, strict=True), strict=bool(seen)):
            np.testing.assert_array_equal(getattr(trace, name)[:nfe], expected, err_msg=name)
        assert not any(leaf[nfe:].any() for leaf in jax.tree.leaves(trace))


@pytest.mark.parametrize("policy, config, canvases", CASES, ids=[str(p) for p, _, _ in CASES])
def test_given_tokens_stay_and_nothing_masked_leaves(policy, config, canvases):
    """Even though the denoiser would rather have MASK and PAD than anything else."""
    bias = np.array(toy().args[0]["bias"])
    bias[:, [MASK, PAD]] = 100.0
    got = run(policy, config, canvases, seed=1, denoise=toy(bias=bias)).canvas
    given = canvases != MASK
    np.testing.assert_array_equal(got[given], canvases[given])
    assert not np.isin(got[~given], [MASK, PAD]).any()


# ---- rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [TopConfidence(4), Hesitant(4)], ids=str)
def test_a_row_does_not_depend_on_its_neighbours(policy):
    """Alone, in another order, among copies of itself: bit for bit. At the fifth step, when the
    re-masking policy starts anew, some rows have finished, and must not be opened again.
    """
    together = run(policy)
    order = [4, 2, 0, 5, 1, 3]
    moved = run(policy, canvases=CANVASES[order], indices=order)
    copies = run(policy, canvases=CANVASES[[3] * 6], indices=[3] * 6)
    for row in range(6):
        alone = sample_one(
            row_keys(0)[row],
            jnp.asarray(CANVASES[row]),
            denoise=toy(),
            policy=policy,
            config=PLAIN,
        )
        expected = row_of(together, row)
        there = row_of(moved, order.index(row))
        jax.tree.map(np.testing.assert_array_equal, there, expected)
        assert alone.canvas.tolist() == expected.canvas.tolist() and alone.nfe == expected.nfe
        np.testing.assert_array_equal(alone.trace.unmask, expected.trace.unmask)
        np.testing.assert_allclose(alone.trace.entropy, expected.trace.entropy, atol=1e-5)
        copy = row_of(copies, row)
        jax.tree.map(np.testing.assert_array_equal, copy, row_of(together, 3))


def test_keys_matter_and_nothing_else_is_random():
    first, again, other = (run(TopConfidence(4), seed=seed).canvas for seed in (0, 0, 2))
    assert first.tolist() == again.tolist() and first.tolist() != other.tolist()


def test_rows_that_are_done_cost_nothing():
    assert run(TopConfidence(4)).nfe.tolist() == [4, 4, 4, 4, 0, 4]
    assert run(TopConfidence(20)).nfe.tolist() == [10, 8, 6, 7, 0, 5]


# ---- cost --------------------------------------------------------------------------------------

CALLS = []


def counting(canvas, valid, positions=None):
    """A bare Python function as denoiser, which reports each time that it is executed."""
    jax.debug.callback(lambda: CALLS.append(1))
    return jnp.tile(jnp.arange(7.0), (len(canvas), 1))


def test_the_loop_ends_when_the_slowest_row_is_done():
    denoise = jax.tree_util.Partial(counting)
    got = run(TopConfidence(20), Config(budget=14), denoise=denoise)
    jax.effects_barrier()
    assert got.nfe.tolist() == MASKS.tolist() == [12, 8, 6, 7, 0, 5]
    assert got.passes.tolist() == [12] * 6
    assert len(CALLS) == 12  # of 14 permitted ones; each is for all rows
    assert (got.canvas[CANVASES == MASK] == 4).all()  # the best but for MASK and PAD, 5 and 6
    CALLS.clear()
    run(TopConfidence(20), Config(budget=14), CANVASES[[4] * 6], denoise=denoise)
    jax.effects_barrier()
    assert CALLS == []


@pytest.mark.parametrize("policy, alone", [(TopConfidence(6), True), (Hesitant(), False)])
def test_logits_are_asked_for_where_the_policy_looks(policy, alone):
    """Of the block in every step but the last permitted one, of the whole window else."""
    asked = []

    def spy(canvas, valid, positions=None):
        asked.append(len(canvas) if positions is None else len(positions))  # when it is compiled
        return toy()(canvas, valid, positions)

    config = Config(gen_length=8, block_length=4)
    run(policy, config, PROMPTED, denoise=jax.tree_util.Partial(spy))
    assert set(asked) == ({4, 8} if alone else {8})


def test_the_last_permitted_step_commits_all():
    got = run(TopConfidence(20))
    unmasked = got.trace.unmask.sum(axis=2)
    assert got.nfe.tolist() == np.minimum(MASKS, 10).tolist()
    np.testing.assert_array_equal(unmasked.sum(axis=1), MASKS)
    assert unmasked[0].tolist() == [1] * 9 + [3]


def test_without_commit_an_empty_action_is_a_spent_step():
    got = run(RevealNone(), Config(budget=3, commit=False, record=True))
    np.testing.assert_array_equal(got.canvas, CANVASES)
    assert got.nfe.tolist() == [3, 3, 3, 3, 0, 3] and not got.trace.unmask.any()
    assert (got.revealed_at == -1).all()


# ---- the trace ---------------------------------------------------------------------------------


def test_trace_is_the_order_of_generation():
    got = run(TopConfidence(4))
    chex.assert_tree_shape_prefix(got.trace, (6, 10, LENGTH))
    assert got.trace.unmask.dtype == bool and got.trace.confidence.dtype == np.float32
    np.testing.assert_array_equal(got.trace.unmask.sum(axis=1), CANVASES == MASK)
    revealed = np.cumsum(got.trace.unmask, axis=1)
    for step in range(4):
        still = (CANVASES == MASK) & ~revealed[:, step].astype(bool)
        np.testing.assert_array_equal(got.trace.is_masked[:, step + 1], still)
    chosen = (got.trace.proposal * got.trace.unmask).sum(axis=1)
    np.testing.assert_array_equal(chosen, np.where(CANVASES == MASK, got.canvas, 0))
    assert run(RevealAll(), Config(budget=1)).trace is None


def test_trace_holds_the_scores_that_the_policy_saw():
    got = run(TopConfidence(20))
    probs = np.sort(jax.nn.softmax(toy()(jnp.asarray(CANVASES[0]), jnp.ones(12, bool))[:, :5]), 1)
    first = jax.tree.map(lambda leaf: leaf[0, 0], got.trace)
    np.testing.assert_allclose(first.confidence, probs[:, -1], rtol=1e-4)
    np.testing.assert_allclose(first.margin, probs[:, -1] - probs[:, -2], atol=1e-5)
    np.testing.assert_allclose(first.entropy, -(probs * np.log(probs)).sum(1), atol=1e-4)
    assert first.unmask.argmax() == first.confidence.argmax()


# ---- re-masking --------------------------------------------------------------------------------


def test_a_remasking_decision_is_honoured_but_never_for_given_tokens():
    """Two steps of two reveals, one in which all of the response is masked again, then all anew."""
    got = run(Hesitant(2))
    assert got.trace.remask[0].sum(axis=1).tolist() == [0, 0, 4] + [0] * 7
    assert got.nfe.tolist() == [9, 7, 6, 7, 0, 6]
    assert not (got.trace.remask & (CANVASES != MASK)[:, None]).any()
    np.testing.assert_array_equal(got.canvas[CANVASES != MASK], CANVASES[CANVASES != MASK])
    assert (got.canvas != MASK).all()


def test_the_last_step_commits_rather_than_remasks():
    got = run(Hesitant(9, 1))
    assert got.trace.unmask[0].sum(axis=1).tolist() == [1] * 9 + [3]
    assert not got.trace.remask.any() and (got.canvas != MASK).all()


# ---- compiled once -----------------------------------------------------------------------------


def test_knobs_weights_keys_and_prompts_do_not_compile_again():
    def once(threshold, seed):
        canvases = np.roll(CANVASES, seed, axis=0)
        return run(ConfidenceThreshold(threshold), PLAIN, canvases, seed, denoise=toy(seed))

    once(0.5, 0)
    before = sample._cache_size()
    results = [once(threshold, seed) for threshold, seed in [(0.9, 0), (0.2, 1), (0.2, 2)]]
    assert sample._cache_size() == before
    assert len({str(got.canvas.tolist()) for got in results}) == 3


def test_sweep_is_the_separate_runs():
    settings = [ConfidenceThreshold(0.1), ConfidenceThreshold(0.6), ConfidenceThreshold(2.0)]
    swept = sweep(
        row_keys(0),
        jnp.asarray(CANVASES),
        denoise=toy(),
        policies=stack(settings),
        config=PLAIN,
    )
    for setting, policy in enumerate(settings):
        expected = run(policy)
        got = jax.tree.map(lambda leaf, setting=setting: leaf[setting], swept)
        np.testing.assert_array_equal(got.canvas, expected.canvas)
        np.testing.assert_array_equal(got.nfe, expected.nfe)
        np.testing.assert_array_equal(got.trace.unmask, expected.trace.unmask)
    assert swept.nfe[2].tolist() == np.minimum(MASKS, 10).tolist()


def test_unused_ids_are_never_produced():
    produced = np.unique(np.asarray(run(RevealAll(), PLAIN).canvas)[0])
    assert len(produced) > 2
    unused = tuple(produced[:2].tolist())
    canvas = np.asarray(run(RevealAll(), Config(temperature=1.0, unused=(*unused, 99))).canvas)[0]
    assert not {*unused, MASK} & {*canvas.tolist()}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"block_length": 5}, r"5 does not divide the 12 .*\[1, 2, 3, 4, 6, 12\]"),
        ({"block_length": 0}, "0 does not divide"),
        ({"gen_length": 8, "block_length": 3}, "3 does not divide the 8"),
        ({"gen_length": 13}, "gen_length 13 does not fit a canvas of 12"),
        ({"gen_length": 0}, "gen_length 0"),
    ],
)
def test_windows_and_blocks_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        run(RevealAll(), Config(**settings))


def _broken(params, canvas, valid, positions=None):
    """NaN where no mask is, which nobody reads, and where a canvas begins with 1, 2."""
    broken = (canvas != MASK) | ((canvas[0] == 1) & (canvas[1] == 2))
    logits = toy()(canvas, valid) + params
    return jnp.where(broken[:, None], jnp.nan, logits)


def test_logits_that_are_not_finite_are_told_of_by_row():
    denoise = jax.tree_util.Partial(_broken, jnp.float32(0))
    rows = [1, 2, 3, 5, 5, 5]
    found = run(TopConfidence(4), canvases=CANVASES[rows], indices=rows, denoise=denoise)
    assert found.finite.tolist() == [False, *[True] * 5]
