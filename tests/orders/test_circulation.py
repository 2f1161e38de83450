"""Circulation: zero for exact conditionals, and what it is for others by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.circulation import local_circulation, pair_circulation
from mdm_jax.orders.variational.model import Sequence, SpecialIds

LENGTH, VOCAB = 4, 2
IDS = SpecialIds(VOCAB, VOCAB + 1)
TABLE = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))
PROBS = np.random.default_rng(0).dirichlet(np.full(len(TABLE), 0.5))
ORACLE = oracle_of(TABLE, VOCAB, IDS.mask_id, PROBS)
ROWS = Sequence(jnp.asarray(TABLE), jnp.ones(TABLE.shape, bool))


def test_exact_conditionals_have_none_and_sharpened_ones_have_some():
    circulation = jax.jit(local_circulation, static_argnums=3)
    found = circulation(jax.random.split(jax.random.key(0), 16), ROWS, ORACLE, IDS)
    np.testing.assert_allclose(found.nats, 0, atol=1e-5)
    assert set(np.asarray(found.masked).tolist()) == {0.5, 0.75, 1.0}
    assert {1, 2} <= set(np.asarray(found.distance).tolist()) <= {1, 2, 3}
    sharper = jax.tree_util.Partial(lambda oracle, *given: 2.0 * oracle(*given), ORACLE)
    again = jax.random.split(jax.random.key(1), 16)
    assert circulation(again, ROWS, sharper, IDS).rms > 0.1


def test_a_pair_by_hand():
    """A denoiser that takes a position for likelier 1 with every 1 that it sees, at position 0 twice."""

    def denoise(canvas, valid, positions=None):
        seen = jnp.sum(canvas == 1) * jnp.where(jnp.arange(2) == 0, 2.0, 1.0)
        return jnp.stack([jnp.zeros(2), seen], axis=1)

    sequence = Sequence(jnp.array([1, 1]), jnp.ones(2, bool))
    given = lambda odds: np.log(1 / (1 + np.exp(-odds)))  # noqa: E731
    got = pair_circulation(sequence, sequence.maskable, jnp.array([0, 1]), denoise, IDS)
    np.testing.assert_allclose(got, (given(0) + given(1)) - (given(0) + given(2)), atol=1e-6)
