"""Generating in batches: a canvas does not depend on the batch it is completed in."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from evaluation_world import CONFIG, EXAMPLES, ORACLE, POLICY, TASK, gathered, generated
from numpy.testing import assert_array_equal

from mdm_jax.errors import MdmError
from mdm_jax.evals import generate as module
from mdm_jax.evals.generate import generate_sweep, padded_batches
from mdm_jax.policies.heuristics import EntropyBound


def test_batches_are_filled_with_copies():
    found = list(padded_batches(np.arange(3, 10), 3))
    assert [chosen.tolist() for chosen, _ in found] == [[3, 4, 5], [6, 7, 8], [9]]
    assert [filled.tolist() for _, filled in found] == [[3, 4, 5], [6, 7, 8], [9, 9, 9]]
    assert list(padded_batches(np.arange(0), 3)) == []


@pytest.mark.parametrize(
    ("size", "parallel"), [(4, "vmap"), (16, "vmap"), (4, "device_map"), (8, "pmap")]
)
def test_generations_do_not_depend_on_the_batch(whole, size, parallel):
    """Nor on what was in a row's place before it, where there are more canvases than places."""
    batches = list(generated(size, parallel))
    for batch in batches:
        assert (batch.rollout.passes >= batch.rollout.nfe).all()
        assert batch.seconds is None if size == 16 else batch.seconds > 0
    for one, expected in zip(gathered(batches), whole, strict=True):
        assert_array_equal(one, expected)
    canvases, nfe, _ = whole
    assert len(np.unique(canvases, axis=0)) > 8 and np.ptp(nfe) > 0
    given = EXAMPLES.canvases != TASK.vocabulary.mask_id
    assert_array_equal(canvases[given], EXAMPLES.canvases[given])


def test_recorded_generations_are_made_batch_by_batch(whole):
    batches = list(generated(4, config=replace(CONFIG, record=True)))
    assert [len(b.indices) for b in batches] == [4, 4, 2]
    assert [b.seconds is None for b in batches] == [True, False, False]
    for batch in batches:
        assert (batch.rollout.passes == batch.rollout.nfe.max()).all()
        assert (batch.rollout.trace.unmask.any(2).sum(1) == batch.rollout.nfe).all()
    assert_array_equal(gathered(batches)[0], whole[0])


def test_logits_that_are_not_finite_stop_it():
    broken = jax.tree_util.Partial(lambda oracle, *args: oracle(*args) * np.nan, ORACLE)
    with pytest.raises(MdmError, match=r"logits for prompt . and . others are NaN or infinite"):
        next(generated(4, indices=np.array([7, 2]), denoise=broken))
    with pytest.raises(MdmError, match=r"logits for prompt . and . others are NaN or infinite"):
        next(generated(4, denoise=broken))
    swept = generate_sweep(
        jax.random.key(0),
        EXAMPLES.canvases,
        denoise=broken,
        policies=[EntropyBound(0.1), POLICY],
        config=CONFIG,
        batch_size=6,
    )
    with pytest.raises(MdmError, match=r"logits for prompt . and . others are NaN or infinite"):
        next(swept)


def test_chosen_indices_keep_their_keys(whole):
    some = np.array([7, 2, 5])
    found = gathered(generated(4, indices=some))
    assert_array_equal(found[0], whole[0][np.sort(some)])
    assert_array_equal(found[2], np.sort(some))


def test_a_sweep_is_its_settings(whole):
    swept = list(
        generate_sweep(
            jax.random.key(0),
            EXAMPLES.canvases,
            denoise=ORACLE,
            policies=[EntropyBound(0.1), POLICY],
            config=CONFIG,
            batch_size=6,
        )
    )
    assert [[len(one.indices) for one in batch] for batch in swept] == [[6, 6], [4, 4]]
    for one, expected in zip(gathered(batch[1] for batch in swept), whole, strict=True):
        assert_array_equal(one, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, "device_map"), "a batch of 6 cannot be shared by 4 devices"),
        ((0,), "a batch of 0"),
        ((4, "vmap", replace(CONFIG, block_length=3)), "block_length 3 does not divide"),
        ((4, "vmap", replace(CONFIG, gen_length=17)), "gen_length 17 does not fit a canvas of 16"),
    ],
)
def test_what_does_not_fit_is_refused_before_compiling(monkeypatch, arguments, message):
    monkeypatch.setattr(module, "mapped_sampler", None)
    monkeypatch.setattr(module, "mapped_refill", None)
    with pytest.raises(ValueError, match=message):
        next(generated(*arguments))
