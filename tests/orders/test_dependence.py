"""Labels of dependence from denoiser calls against exact ones, and the loss that a head learns from."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.oracle import Oracle, oracle_of
from mdm_jax.orders.dependence import CalledLabels, ExactLabels, PairLabels, labelled, pair_loss
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.config import SamplerConfig

LENGTH, VOCAB = 4, 3
MASK, PAD = VOCAB, VOCAB + 1
TABLE = np.array(list(itertools.product(range(VOCAB), repeat=LENGTH)))
PROBS = np.random.default_rng(0).dirichlet(np.full(len(TABLE), 0.3))
CONFIG = SamplerConfig(MASK, PAD, LENGTH)


@pytree_dataclass
class WithHidden:
    """An oracle whose hidden states are what it says."""

    oracle: Oracle

    def __call__(self, canvas, valid, positions=None):
        return self.oracle(canvas, valid, positions)

    def with_hidden(self, canvas, valid, positions=None):
        return self(canvas, valid, positions), jnp.exp(self(canvas, valid, positions))


DENOISE = WithHidden(oracle_of(TABLE, VOCAB, MASK, PROBS))


@partial(jax.jit, static_argnums=2)
def label_rows(keys, labels, count):
    """Labels of one sequence that shows its first token, with so many draws of masks and labels."""
    tokens, maskable = jnp.array([1, 0, 2, 0]), jnp.arange(LENGTH) > 0

    def one(key):
        return labelled(key, tokens, maskable, DENOISE, labels, CONFIG)

    return jax.vmap(one)(jax.random.split(keys, count))


def test_the_mean_of_labels_from_calls_is_the_exact_label():
    rows = lambda labels: jax.device_get(label_rows(jax.random.key(0), labels, 3000))  # noqa: E731
    (_, exact), (hidden, called) = rows(ExactLabels(DENOISE.oracle)), rows(CalledLabels(1))
    assert hidden.shape == (3000, LENGTH, VOCAB)
    assert not called.known[:, :, 0].any() and not called.known[:, 0].any()  # shown
    assert not np.einsum("nii->ni", called.known).any()
    masks = exact.known.any(axis=2).sum(axis=1)
    assert set(masks.tolist()) == {2, 3}
    assert (called.known.any(axis=1).sum(axis=1) == 1).all()  # one call, one column
    whole = masks == 3  # a single canvas, so labels are draws of one distribution
    for i, j in itertools.permutations(range(1, LENGTH), 2):
        chosen = whole & called.known[:, i, j]
        found, truth = called.dependence[chosen, i, j], exact.dependence[whole, i, j][0]
        assert chosen.sum() > 300
        assert abs(found.mean() - truth) < 4 * found.std() / np.sqrt(len(found)) + 1e-6


def test_the_loss_is_least_at_the_mean_label():
    labels = PairLabels(
        jnp.array([[[0.0, 0.2], [0.6, 0.9]]]), jnp.array([[[False, True], [True, False]]])
    )
    loss = lambda bias: pair_loss(jnp.full((1, 2, 2), bias), labels)[0]  # noqa: E731
    best = np.log(0.4 / 0.6)
    np.testing.assert_allclose(jax.grad(loss)(best), 0, atol=1e-6)
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    value, metrics = pair_loss(jnp.full((1, 2, 2), best), labels)
    np.testing.assert_allclose(value, entropy, rtol=1e-6)
    np.testing.assert_allclose([metrics["error"], metrics["spread"]], [0.2, 0.2], rtol=1e-5)
