"""Bounds of canvases with several modalities, by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.diffusion.elbo import canvas_nll, subset_masks
from mdm_jax.diffusion.modal import Modal
from mdm_jax.diffusion.schedules import Cosine, Linear, Polynomial
from mdm_jax.errors import MdmError
from mdm_jax.streams import Span, Stream

STREAM = Stream(4, (Span("text", 0, 2, 0, 2), Span("image", 3, 1, 2, 2)))
MASK, PAD = 5, 6
MASKABLE = np.array([True, True, False, True])
TABLE = np.array([[a, b, 4, c + 2] for a, b, c in itertools.product(range(2), repeat=3)])
COPIES = np.array([[0, 0, 4, 2], [1, 1, 4, 3]])
POINTS = (np.arange(2000) + 0.5) / 2000
GRID, MEASURE = POINTS**5, 5 * POINTS**4  # times of the integrals, dense where weights are large


def nll_of_all_masks(table, probs=None):
    """Every mask, and -log p of its masked tokens at each position, mean over the data, nats."""
    oracle, masks = oracle_of(table, 5, MASK, probs), subset_masks(MASKABLE)
    weights = np.full(len(table), 1 / len(table)) if probs is None else probs

    def one(tokens, mask):
        return canvas_nll(oracle, tokens, mask, jnp.asarray(MASKABLE), mask_id=MASK, pad_id=PAD)

    every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(
        jnp.asarray(table), jnp.asarray(masks)
    )
    return masks, np.einsum("n,nmi->mi", weights, np.asarray(every))


def expected(masks, nll, rate, weight, measure=MEASURE):
    """E over masks and times of the sum over positions of weight * nll; rates [times, length]."""
    where = np.broadcast_to(MASKABLE, rate.shape)[:, None]
    chance = np.where(masks, rate[:, None], np.where(where, 1 - rate[:, None], 1.0)).prod(-1)
    return ((chance * np.einsum("mi,ti->tm", nll, weight)).sum(-1) * measure).mean()


def rates_at(objective, exponents):
    one = jax.vmap(objective.rates, (0, None))
    return map(np.asarray, one(jnp.asarray(GRID, jnp.float32), jnp.asarray(exponents)))


@pytest.mark.parametrize(
    "schedules", [(Linear(),), (Linear(), Cosine()), (Polynomial(3.0), Linear())]
)
@pytest.mark.parametrize("exponents", [(1.0, 1.0), (0.3, 2.5)])
def test_the_exact_model_attains_the_entropy(schedules, exponents):
    """One time, and times that differ between modalities by exponents: both are bounds, here tight."""
    probs = np.array([0.3, 0.05, 0.1, 0.05, 0.2, 0.1, 0.15, 0.05])
    masks, nll = nll_of_all_masks(TABLE, probs)
    rate, weight = rates_at(Modal(schedules).on(STREAM), exponents)
    entropy = -(probs * np.log(probs)).sum()
    np.testing.assert_allclose(expected(masks, nll, rate, weight), entropy, rtol=2e-3)


def test_times_drawn_independently_give_no_bound():
    """Two copies of a coin in one modality, one in the other: below the entropy, log 2."""
    masks, nll = nll_of_all_masks(COPIES)
    times = (np.arange(60) + 0.5) / 60
    one, two = (grid.ravel() for grid in np.meshgrid(times, times))
    rate = np.stack([one, one, 0 * one, two], axis=1)
    weight = np.stack([1 / one, 1 / one, 0 * one, 1 / two], axis=1)
    np.testing.assert_allclose(
        expected(masks, nll, rate, weight, 1.0), 5 / 6 * np.log(2), rtol=1e-3
    )
    rate, weight = rates_at(Modal().on(STREAM), (1.0, 1.0))
    np.testing.assert_allclose(expected(masks, nll, rate, weight), np.log(2), rtol=2e-3)


def test_draws_have_the_rates_and_drop_what_prompts_show():
    objective = Modal((Linear(), Polynomial(2.0)), drop=0.25).on(STREAM)
    maskable = jnp.array([False, False, False, True])  # the text is a prompt
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: objective.draw(key, maskable, jnp.float32(0.5))))
    masks, weights = (np.asarray(x)[:, 0] for x in draw(keys))
    assert (masks[:, 0] == masks[:, 1]).all() and not masks[:, 2].any()
    np.testing.assert_allclose(masks.mean(0), [0.25, 0.25, 0, 0.25], atol=0.03)
    assert (weights[:, :3] == 0).all()
    np.testing.assert_allclose(np.unique(weights[:, 3]), [0, 4.0], rtol=1e-5)  # 2 / t


def test_drop_of_one_hides_every_prompt():
    objective = Modal(drop=1.0).on(STREAM)
    shown = jnp.array([False, False, False, True])
    masks, weights = objective.draw(jax.random.key(0), shown, jnp.float32(1.0))
    assert masks.tolist() == [[True, True, False, True]]  # the marginal model's canvas
    assert weights.tolist() == [[0, 0, 0, 1]]


def test_schedules_that_do_not_fit_are_refused():
    with pytest.raises(MdmError, match=r"1 or 2 \(text, image\)"):
        Modal((Linear(),) * 3).on(STREAM)
