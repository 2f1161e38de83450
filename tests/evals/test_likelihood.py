"""The held-out bound against what is known exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from recorded import RECORDINGS, records

from mdm_jax import sharding
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.denoisers.pretrained.checkpoints import load
from mdm_jax.diffusion.elbo import any_order_nelbo, canvas_nll
from mdm_jax.diffusion.rates import Rates
from mdm_jax.errors import MdmError
from mdm_jax.evals.likelihood import (
    Likelihood,
    Rated,
    heldout_likelihood,
    row_bounds,
    summary,
)
from mdm_jax.tasks.base import Batch, Vocabulary
from mdm_jax.tasks.sudoku.task import Sudoku, all_grids

EOS, MASK, PAD = 3, 4, 5
WORDS = Vocabulary(size=4, eos_id=EOS)
LOGITS = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
NLL = -np.log(np.exp(LOGITS) / np.exp(LOGITS).sum())


def constant(logits, canvas, valid, positions=None):
    """The same logits everywhere."""
    wanted = canvas if positions is None else positions
    return jnp.broadcast_to(logits, (wanted.shape[0], logits.shape[0]))


DENOISE = jax.tree_util.Partial(constant, jnp.asarray(LOGITS))


def answers():
    """A prompt of two tokens, an answer of 0 to 3 tokens, EOS to the end of five, PAD."""
    tokens = np.array(
        [
            [1, 2, EOS, EOS, EOS, EOS, EOS, PAD],
            [2, EOS, 0, 1, EOS, EOS, EOS, PAD],  # an EOS in the prompt ends nothing
            [0, 0, 1, 2, 2, EOS, EOS, PAD],
        ],
        np.int32,
    )
    place = np.arange(8)
    return Batch(tokens, np.broadcast_to((place >= 2) & (place < 7), tokens.shape))


def test_oracle_on_all_sudokus_is_log_288():
    task = Sudoku()
    oracle = oracle_of(all_grids(), 4, task.vocabulary.mask_id)
    found = heldout_likelihood(
        jax.random.key(0), oracle, task.heldout(), task.vocabulary, draws=4, batch_size=96
    )
    assert abs(found.nelbo_per_token - np.log(288) / 16) < 3 * found.error
    assert 0 < found.error < 0.02
    assert found.tokens_per_sequence == 16
    assert found.nelbo_per_content_token == pytest.approx(found.nelbo_per_token, rel=1e-6)


def test_rows_are_split_over_the_devices_of_the_denoiser(monkeypatch):
    """Its weights stay where they are, and every device has its rows."""
    spread, seen = sharding.replicate(DENOISE, sharding.make_mesh()), []
    real = sharding.to_host
    monkeypatch.setattr(sharding, "to_host", lambda tree: seen.extend(tree) or real(tree))
    alone, split = (
        heldout_likelihood(jax.random.key(0), denoise, answers(), WORDS, draws=2, batch_size=6)
        for denoise in (DENOISE, spread)
    )
    assert_allclose(split, alone, rtol=1e-6)
    assert {len(terms.sharding.device_set) for terms in seen} == {jax.device_count()}
    assert not any(terms.is_fully_replicated for terms in seen)


def test_a_bound_is_called_held_out_where_something_is():
    """Training on 4x4 grids sees all of them."""
    found = Likelihood(*(1.0,) * len(Likelihood._fields))
    assert summary(found, Sudoku(side=9)).startswith("held-out bound: ")
    assert summary(found, Sudoku()).startswith(
        "bound on the training sequences (nothing is held out)"
    )


def test_constant_logits_have_a_closed_form():
    """Each token costs its own -log p; padding and prompt nothing."""
    data = answers()
    found = heldout_likelihood(jax.random.key(0), DENOISE, data, WORDS, draws=4000)
    costs = NLL[np.minimum(data.tokens, 3)]
    inside = data.maskable
    assert_allclose(found.nelbo_per_token, costs[inside].mean(), rtol=0.01)
    assert_allclose(found.nll_per_masked_token, costs[inside].mean(), rtol=0.01)
    # content: up to the first EOS of the answer, itself included
    content = np.zeros_like(inside)
    for row, stop in enumerate((3, 5, 6)):
        content[row, 2:stop] = True
    assert_allclose(found.nelbo_per_content_token, costs[content].mean(), rtol=0.02)
    assert abs(costs[content].mean() - costs[inside].mean()) > 0.05
    assert found.tokens_per_sequence == 5


def test_constant_logits_cost_the_same_at_every_rate():
    rates = Rates(jnp.array([[0.5, 1.0, 2.0, 3.0]]))
    rated = Rated(DENOISE, rates)
    found = heldout_likelihood(jax.random.key(0), rated, answers(), WORDS, draws=4000)
    expected = NLL[np.minimum(answers().tokens, 3)][answers().maskable].mean()
    assert_allclose(found.nelbo_per_token, expected, rtol=0.02)


def test_equal_costs_leave_no_variance():
    flat = jax.tree_util.Partial(constant, jnp.zeros(4))
    found = heldout_likelihood(jax.random.key(0), flat, answers(), WORDS)
    assert_allclose(found.nelbo_per_token, np.log(4), rtol=1e-5)
    assert found.error < 1e-5


def test_without_an_eos_all_is_content():
    found = heldout_likelihood(jax.random.key(0), DENOISE, answers(), Vocabulary(size=4))
    assert found.nelbo_per_content_token == pytest.approx(found.nelbo_per_token, rel=1e-6)


def test_batch_size_and_window_change_nothing():
    measure = partial(heldout_likelihood, data=answers(), vocabulary=WORDS, denoise=DENOISE)
    whole = measure(jax.random.key(2), batch_size=3)
    for batch_size, window in ((1, None), (2, 5), (7, 6)):
        found = measure(jax.random.key(2), batch_size=batch_size, window=window)
        assert_allclose(found, whole, rtol=1e-5)


def test_the_error_is_the_spread_of_the_mean():
    """Over many seeds the estimates scatter as the standard error says."""
    data = Batch(*(np.repeat(leaf, 20, axis=0) for leaf in answers()))
    measure = partial(heldout_likelihood, denoise=DENOISE, data=data, vocabulary=WORDS)
    found = [measure(jax.random.key(seed), draws=1, batch_size=60) for seed in range(60)]
    spread = np.std([one.nelbo_per_token for one in found])
    told = np.mean([one.error for one in found])
    # rows differ for good, too, and that part of the error no seed shows
    assert spread < told < 3 * spread


def test_more_draws_are_more_exact():
    measure = partial(heldout_likelihood, denoise=DENOISE, data=answers(), vocabulary=WORDS)
    exact = NLL[answers().tokens[answers().maskable]].mean()
    off = [
        [abs(measure(jax.random.key(s), draws=draws).nelbo_per_token - exact) for s in range(20)]
        for draws in (1, 64)
    ]
    assert np.mean(off[1]) < 0.3 * np.mean(off[0])


def test_nothing_to_measure():
    empty = Batch(np.zeros((0, 8), np.int32), np.zeros((0, 8), bool))
    with pytest.raises(ValueError, match="no held-out sequences"):
        heldout_likelihood(jax.random.key(0), DENOISE, empty, WORDS)


def test_one_sequence_has_no_error():
    one = Batch(*(leaf[:1] for leaf in answers()))
    found = heldout_likelihood(jax.random.key(0), DENOISE, one, WORDS)
    assert np.isnan(found.error) and np.isfinite(found.nelbo_per_token)


def test_bounds_of_rows_are_what_the_mean_is_made_of():
    arguments = {"draws": 4, "batch_size": 2}
    mean = heldout_likelihood(jax.random.key(3), DENOISE, answers(), WORDS, **arguments)
    rows = row_bounds(jax.random.key(3), DENOISE, answers(), WORDS, **arguments)
    assert rows.shape == (len(answers().tokens),)
    assert rows.sum() / answers().maskable.sum() == pytest.approx(mean.nelbo_per_token, rel=1e-5)


def test_a_bound_that_is_not_a_number_is_refused():
    broken = jax.tree_util.Partial(constant, jnp.asarray(LOGITS * np.nan))
    for measure in (heldout_likelihood, row_bounds):
        with pytest.raises(MdmError, match="terms of the bound of row 0 and 1 others are NaN"):
            measure(jax.random.key(0), broken, answers(), WORDS, draws=4, batch_size=2)


@pytest.mark.parametrize("case", [0, 1])
def test_llada_log_likelihood_on_the_masks_it_drew(case):
    """Recorded: minus the mean, over masks, of answer length / masked * their cross-entropy."""
    recorded = records("llada_tiny/likelihood")[case]
    denoise, info = load(RECORDINGS / "llada_tiny")
    tokens = jnp.array(recorded["prompt_ids"] + recorded["answer_ids"])
    maskable = jnp.arange(len(tokens)) >= len(recorded["prompt_ids"])
    masks = jnp.array(recorded["noisy_batches"]).reshape(-1, len(tokens)) == info.mask_id

    def bound(mask):
        ids = {"mask_id": info.mask_id, "pad_id": info.pad_id}
        nll = canvas_nll(denoise, tokens, mask, maskable, **ids)
        return any_order_nelbo(nll.sum(), maskable.sum(), mask.sum())

    bounds = jax.jit(jax.vmap(bound))(masks)
    assert -float(bounds.mean()) == pytest.approx(recorded["log_likelihood"], abs=2e-3)
