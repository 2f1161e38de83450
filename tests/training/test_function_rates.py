"""How far updates move the outputs: closed forms of a linear layer, and matching."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.runs.trainings.flerm import FlermTraining
from mdm_jax.tasks.chains import Chains
from mdm_jax.training.function_rates import (
    base_sizes,
    by_name,
    probe_gradient,
    size_of,
    sums_of,
    track,
)
from mdm_jax.training.optimizers import OptimizerConfig

RNG = np.random.default_rng(0)
INPUTS, WEIGHTS = (jnp.asarray(RNG.standard_normal(s), "f4") for s in ((1, 5), (5, 3)))


def test_a_linear_layer_moves_its_outputs_as_far_as_estimated():
    """Mean squares over xi of both estimates are the mean square of x dW, for updates of rank one."""
    update = jnp.outer(jnp.asarray(RNG.standard_normal(5), "f4"), jnp.array([1.0, -0.5, 2.0]))

    @jax.jit
    @jax.vmap
    def estimates(key):
        gradient = probe_gradient(lambda w: INPUTS @ w, WEIGHTS, key)
        sums = sums_of(update, gradient)
        return size_of(sums) ** 2, jnp.sum(update * gradient) ** 2, size_of(sums, True) ** 2

    kronecker, whole, output = estimates(jax.random.split(jax.random.key(0), 20_000))
    assert_allclose(kronecker, whole, rtol=2e-3, atol=1e-6)
    exact = np.mean((INPUTS @ update) ** 2)
    assert_allclose([np.mean(kronecker), np.mean(output)], exact, rtol=0.05)
    assert np.std(output) < 0.8 * np.std(whole)  # why the unembedding has its own term


def test_any_number_of_axes():
    """An outer product of three vectors has (sum u)^2; a gain has it, too."""
    a, b, c = (jnp.asarray(RNG.uniform(0.5, 2, n), "f4") for n in (2, 3, 4))
    u = jnp.einsum("i,j,k->ijk", a, b, c)
    assert_allclose(size_of(sums_of(u, jnp.ones(u.shape))), jnp.sum(u), rtol=1e-4)
    assert_allclose(size_of(sums_of(a, b[:2])), jnp.sum(a * b[:2]), rtol=1e-5)
    assert size_of(sums_of(0 * a, a)) < 1e-15


def test_averages_forget_their_start():
    params = {"gate": {"kernel": WEIGHTS}}
    tracked = track(params)
    for _ in range(3):
        tracked = tracked.then(params, {"gate": {"kernel": 2 * WEIGHTS}})
        now = tracked.sizes()["gate/kernel"]
        assert_allclose(now, size_of(sums_of(WEIGHTS, 2 * WEIGHTS)), rtol=1e-5)


def test_what_a_block_moves_is_split_between_its_copies():
    base = {"embed/embedding": 3.0, "block_0/gate/kernel": 1.0, "block_1/gate/kernel": 2.0}
    names = ["embed/embedding", *(f"block_{i}/gate/kernel" for i in range(4))]
    assert list(base_sizes(base, names, 2).values()) == [3.0, 0.5, 0.5, 1.0, 1.0]


def test_updates_move_the_outputs_as_far_as_wanted(monkeypatch):
    """Half the rate, where updates should move the outputs twice as far, is the same training."""
    monkeypatch.setattr(FlermTraining, "_loss", lambda self, state: norm(state.ema))
    training = FlermTraining(
        task=Chains(depth=1, num_examples=8),
        model=TransformerConfig(width=8, depth=1, heads=2),
        base_depth=1,
        optimizer=OptimizerConfig(warmup=0),
        steps=3,
        batch_size=4,
        ema_decay=0.9,
        heldout_rows=4,
        every=1,
        seed=0,
    )
    names = by_name(jax.eval_shape(training.compiled[0], jax.random.key(0)).train.params)

    def run(rate, size):
        return training.run(rate, {name: [size] * 3 for name in names}, lambda count: None)

    one, other, further = run(0.01, 1.0), run(0.005, 2.0), run(0.01, 2.0)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert abs(further.loss - one.loss) > 1e-3
    for name, sizes in one.record.items():
        assert len(sizes) == 3
        assert_allclose(other.record[name], sizes, rtol=1e-4)


def norm(tree):
    return float(optax.tree.norm(tree))
