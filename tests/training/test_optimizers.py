"""The optimiser read off its own updates."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.genmd4 import RATES
from mdm_jax.training.optimizers import (
    Duration,
    OptimizerConfig,
    clip_apart,
    is_decayed,
    make_optimizer,
    sde_scale,
)

PARAMS = {"matrix": jnp.full((2, 3), 2.0), "vector": jnp.full((3,), 2.0)}


def updates(config, steps, gradient=1.0, params=PARAMS):
    """The update of each step under a constant gradient and parameters that stay."""
    optimizer = make_optimizer(config, steps)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, gradient), params)

    def one(state, _):
        update, state = optimizer.update(gradients, state, params)
        return state, update

    return jax.jit(lambda: jax.lax.scan(one, optimizer.init(params), None, length=steps)[1])()


def test_warm_up_then_cosine():
    """A constant gradient makes Adam's update minus the learning rate."""
    config = OptimizerConfig(
        learning_rate=0.1, final_fraction=0.2, warmup=10, weight_decay=0.0, eps=1e-12
    )
    rates = -np.asarray(updates(config, 101)["vector"][:, 0])
    warm = [0.1 * step / 10 for step in range(10)]
    cosine = [0.02 + 0.08 * (1 + math.cos(math.pi * step / 91)) / 2 for step in range(91)]
    assert_allclose(rates, warm + cosine, atol=1e-6)
    assert rates[0] == 0
    assert_allclose(rates[10], 0.1, rtol=1e-5)
    assert 0.02 < rates[-1] < 0.0201


@pytest.mark.parametrize(("warmup", "steps", "peak"), [(100, 50, 5), (3, 50, 3), (0, 50, 0)])
def test_warm_up_is_a_tenth_of_the_run_at_most(warmup, steps, peak):
    config = OptimizerConfig(warmup=warmup, weight_decay=0.0)
    assert int(np.argmin(updates(config, steps)["vector"][:, 0])) == peak


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_short_runs_have_finite_rates(steps):
    found = updates(OptimizerConfig(), steps)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_only_matrices_decay():
    """Without a gradient the update is -rate * weight_decay * parameter, on matrices."""
    config = OptimizerConfig(learning_rate=0.1, warmup=0, weight_decay=0.3)
    found = updates(config, 20, gradient=0.0)
    assert_allclose(found["matrix"][0], -0.1 * 0.3 * 2.0, rtol=1e-5)
    np.testing.assert_array_equal(found["vector"], 0.0)


@pytest.mark.parametrize("scan", [False, True])
def test_scales_of_norms_never_decay(scan):
    """Scanned blocks stack them, so that they have two axes like a matrix."""
    module = Transformer(TransformerConfig(width=8, depth=3, heads=2, scan=scan), 5)
    canvas = jnp.zeros(4, int)
    shapes = jax.eval_shape(module.init, jax.random.key(0), canvas, canvas == 0)["params"]
    decayed = jax.tree.leaves_with_path(is_decayed(shapes))
    assert {path[-1].key for path, yes in decayed if yes} == {"kernel", "embedding"}
    assert {path[-1].key for path, yes in decayed if not yes} == {"scale"}


@pytest.mark.parametrize(("clip", "norm"), [(0.5, 0.5), (100.0, 9.0), (0.0, 9.0)])
def test_clipping_by_the_global_norm(clip, norm):
    """9 entries of 3: norm 9. The first moment after one step is (1 - b1) times what was clipped."""
    optimizer = make_optimizer(OptimizerConfig(clip=clip, b1=0.75), 10)
    gradients = jax.tree.map(lambda x: jnp.full_like(x, 3.0), PARAMS)
    _, state = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    (moments,) = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if ".mu['matrix']" in jax.tree_util.keystr(path)
    ]
    assert_allclose(moments, 0.25 * norm / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("b1", 0.5), ("b2", 0.5), ("eps", 0.5), ("learning_rate", 0.1), ("final_fraction", 0.9)],
)
def test_every_knob_changes_the_update(knob, value):
    params = {"vector": jnp.ones(3)}

    def trajectory(config):
        optimizer = make_optimizer(config, 12)

        def one(carry, index):
            params, state = carry
            gradients = {"vector": jnp.sin(index + jnp.arange(3.0))}
            update, state = optimizer.update(gradients, state, params)
            params = jax.tree.map(jnp.add, params, update)
            return (params, state), params["vector"]

        start = params, optimizer.init(params)
        return jax.jit(lambda: jax.lax.scan(one, start, jnp.arange(12.0))[1])()

    plain = trajectory(OptimizerConfig())
    assert np.abs(trajectory(OptimizerConfig(**{knob: value})) - plain).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0 and finite, got nan"),
        ({"clip": -1.0}, "clip must be at least 0, got -1.0"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)


def half_life(decay, batch):
    """In sequences."""
    return math.log(0.5) / math.log(decay) * batch


@pytest.mark.parametrize("batch", [0.25, 1.0, 4.0])
def test_half_lives_in_tokens_do_not_depend_on_the_batch(batch):
    base = OptimizerConfig()
    scaled, ema = sde_scale(base, 0.99, Duration(batch=batch))
    for before, after in ((base.b1, scaled.b1), (base.b2, scaled.b2), (0.99, ema)):
        assert_allclose(half_life(after, batch), half_life(before, 1), rtol=1e-9)
    drift = scaled.learning_rate * scaled.weight_decay / batch  # of the weights, for each token
    assert_allclose(drift, base.learning_rate * base.weight_decay, rtol=1e-9)
    assert scaled.warmup * batch == base.warmup


def test_a_batch_that_follows_the_tokens_changes_decays_nowhere():
    base = OptimizerConfig()
    assert sde_scale(base, 0.99, Duration()) == (base, 0.99)
    scaled, ema = sde_scale(base, 0.99, Duration(batch=10.0, tokens=10.0))
    assert_allclose([scaled.learning_rate, scaled.b1, ema], [base.learning_rate, base.b1, 0.99])


def test_masking_rates_are_clipped_apart_and_never_decay():
    gradients = {"matrix": jnp.full((2, 3), 0.3), RATES: jnp.full((1, 4), 100.0)}
    clipped, _ = clip_apart(1.0).update(gradients, optax.EmptyState())
    assert_allclose(clipped["matrix"], gradients["matrix"])
    assert_allclose(clipped[RATES], 0.5, rtol=1e-6)
    assert not is_decayed(gradients)[RATES]
