"""The held-out order bound against the sum over all paths."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import (
    EOS,
    FORMS,
    MASK,
    PAD,
    POLICY,
    SCORER,
    STEPS,
    PlainDenoiser,
    path_bound,
    posterior_paths,
    random_world,
    token_logs,
    with_plain_policy,
)

from mdm_jax.denoisers.base import bind
from mdm_jax.orders.variational.evaluation import FittedOrder, _batch_terms, order_bound
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.model import OrderModel, Sequence

RNG = np.random.default_rng(0)
TABLE, SCORES = RNG.normal(size=(STEPS + 1, 4)), np.array([0.1, -0.2, 0.4, 0.0])
WORLD, TEMPERATURE = with_plain_policy(random_world(4), TABLE), 0.5
PARTS = OrderParts(OrderModel(FORMS["max"], STEPS, MASK, PAD, eos_id=EOS), SCORER, POLICY)
DATA = Sequence(
    np.array([[0, 1, 1, 0], [1, 0, EOS, EOS], [1, EOS, EOS, EOS], [0, 0, 1, EOS], [EOS, 1, 0, 1]]),
    np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]], bool),
)
PARAMS = {
    "posterior": {"priority": jnp.float32(SCORES), "predicted_nll": jnp.zeros(4)},
    "policy": {"table": jnp.float32(TABLE)},
}


def measure(data=DATA, denoiser=WORLD.logits, params=PARAMS, parts=PARTS, **settings):
    denoise = bind(PlainDenoiser(), {"table": jnp.float32(denoiser)})
    order = FittedOrder(parts, params, TEMPERATURE)
    return order_bound(jax.random.key(0), order, data, denoise, **settings)


def exact():
    """Of each sequence: bound, -log p of the tokens revealed, of those up to the first EOS, steps."""
    rows = []
    for tokens, maskable in zip(*DATA, strict=True):
        rules = {"maskable": maskable, "ends": tokens == EOS}
        ended = np.cumsum(maskable & (tokens == EOS)) - (maskable & (tokens == EOS)) > 0
        nll, content, taken = 0.0, 0.0, 0.0
        for steps, prob in posterior_paths("max", SCORES / TEMPERATURE, **rules):
            for step in steps:
                logs = token_logs(WORLD, tokens, step.masked)
                nll -= prob * logs[step.reveal].sum()
                content -= prob * logs[step.reveal & ~ended].sum()
                taken += prob * step.masked.any()
        bound = -path_bound(WORLD, "max", tokens, SCORES / TEMPERATURE, **rules)
        without = -path_bound(WORLD, "max", tokens, SCORES / TEMPERATURE, entropy=1.0, **rules)
        rows.append((bound, nll, content, taken, bound - without))
    return np.array(rows).T


@pytest.fixture(scope="module")
def whole():
    with jax.debug_key_reuse(True):
        return measure(paths=3000)


def test_every_number_is_that_of_all_paths(whole):
    bound, nll, content, taken, entropy = exact()
    for got, expected in (
        (whole.nelbo, bound),
        (whole.token_nll, nll),
        (whole.kl, bound - nll),
        (whole.content_token_nll, content),
        (whole.steps_used, taken),
        (whole.posterior_entropy, entropy),
    ):
        np.testing.assert_allclose(got, expected.mean(), rtol=0.015)
    np.testing.assert_allclose(whole.nelbo, whole.token_nll + whole.kl, rtol=1e-5)
    np.testing.assert_allclose(whole.error, bound.std(ddof=1) / 5**0.5, rtol=0.03)
    assert whole.content_token_nll < whole.token_nll - 0.05 and whole.content_kl < whole.kl


def test_the_batch_size_changes_nothing_and_a_learned_denoiser_is_used(whole):
    learned = PARAMS | {"denoiser": {"table": jnp.float32(WORLD.logits)}}
    in_parts = measure(denoiser=0 * WORLD.logits, params=learned, batch_size=2, paths=3000)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-5)


def test_the_bound_compiles_once():
    """As `learn_variational_order` asks for it of each training seed."""
    measure(paths=2, batch_size=2)
    before = _batch_terms._cache_size()
    measure(paths=2, batch_size=2)
    assert _batch_terms._cache_size() == before


def test_without_an_eos_all_positions_are_content():
    found = measure(parts=replace(PARTS, model=replace(PARTS.model, eos_id=None)))
    np.testing.assert_allclose(found[6:], (found.token_nll, found.kl), rtol=1e-6)


def test_one_sequence_has_no_error_and_none_no_bound():
    found = measure(Sequence(DATA.tokens[:1], DATA.maskable[:1]), paths=1, batch_size=1)
    assert np.isnan(found.error) and np.isfinite(found.nelbo)
    with pytest.raises(ValueError, match="no held-out sequences"):
        measure(Sequence(DATA.tokens[:0], DATA.maskable[:0]))
