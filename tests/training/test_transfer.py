"""Settings taken over by wider and deeper networks: rules, exactness at the base, coordinate check."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.errors import MdmError
from mdm_jax.training.coordinates import PLACES, Check, changes, slopes
from mdm_jax.training.losses import CanvasIds, TokenBatch
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.transfer import MODULES, kind_of, multipliers

VOCAB, LENGTH = 7, 8


def network(width, depth, base=None, **settings):
    config = TransformerConfig(
        width=width, depth=depth, heads=width // 8, **(base or {}), **settings
    )
    return config, Transformer(config, VOCAB)


def initial(module, seed=0):
    canvas = jnp.zeros(LENGTH, int)
    return jax.jit(module.init)(jax.random.key(seed), canvas, canvas == 0)["params"]


@pytest.mark.parametrize("scan", [False, True])
def test_every_parameter_has_a_kind(scan):
    _, module = network(16, 2, max_length=LENGTH, scan=scan)
    shapes = jax.eval_shape(lambda: initial(module))
    found = {kind_of(path) for path, _ in jax.tree.leaves_with_path(shapes)}
    assert found == {"embedding", "matrix", "gain", "head_gain", "last_gain", "unembedding"}
    with pytest.raises(MdmError, match="no rule says how the parameter adapter/kernel transfers"):
        kind_of((jax.tree_util.DictKey("adapter"), jax.tree_util.DictKey("kernel")))


def test_the_base_itself_is_plain_adamw_bit_for_bit():
    """Weights before training, and after three updates whose gradients are small beside eps."""
    base = dict(base_width=16, base_depth=2)
    (own, plain), (scaled, taken) = network(16, 2), network(16, 2, base)
    params = initial(plain)
    jax.tree.map(assert_array_equal, initial(taken), params)
    config = OptimizerConfig(warmup=0, eps=1e-4, weight_decay=0.3)

    def trained(model):
        optimizer = make_optimizer(config, 10, model)

        def step(carry, index):
            params, state = carry
            gradients = jax.tree.map(lambda x: 1e-4 * jnp.sin(index + 10 * x), params)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = params, optimizer.init(params)
        return jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(3.0))[0][0])()

    jax.tree.map(assert_array_equal, trained(scaled), trained(own))


def test_learning_rate_eps_and_decay_of_a_hidden_matrix():
    """Four times as wide and twice as deep: exactly AdamW with the settings of the table."""
    config, _ = network(32, 4, dict(base_width=8, base_depth=2, alpha=0.5))
    params = {"gate": {"kernel": jnp.full((2, 2), 0.5)}}
    gradients = jax.tree.map(lambda x: 1e-3 * jnp.ones_like(x), params)
    settings = OptimizerConfig(learning_rate=0.1, warmup=0, eps=1e-3, weight_decay=0.2, clip=0.0)
    rate = 0.1 / 4 * 2**-0.5
    expected = optax.adamw(rate, b2=settings.b2, eps=1e-3 / 4 * 2**-0.5, weight_decay=0.2 * 4)
    for optimizer in (make_optimizer(settings, 10**9, config), expected):
        found, _ = optimizer.update(gradients, optimizer.init(params), params)
        assert_allclose(found["gate"]["kernel"], -rate * (1 / (1 + 2**-2.5) + 0.8 * 0.5), rtol=1e-5)


def test_weights_before_training_by_kind():
    """Their deviation at four times the width and twice the depth, beside the base."""
    base = dict(base_width=64, base_depth=1)
    small, large = initial(network(64, 1)[1]), initial(network(256, 2, base)[1])

    def deviation(params, *path):
        for name in path:
            params = params[name]
        return float(np.std(params))

    for path, ratio in {
        ("embed", "embedding"): 1.0,
        ("block_0", "gate", "kernel"): 1 / 2,
        ("block_0", "down", "kernel"): 1 / 2,
        ("block_0", "attention", "out", "kernel"): 1 / 2,
        ("unembed", "kernel"): 1 / 4,
    }.items():
        assert_allclose(deviation(large, *path), ratio * deviation(small, *path), rtol=0.15)


def test_decay_of_matrices_is_the_same_at_every_width():
    """What a matrix loses in an update is learning rate times decay."""
    for width in (8, 32, 128):
        table = multipliers(network(width, 2, dict(base_width=8, base_depth=2))[0])
        for kind in ("matrix", "unembedding"):
            assert table[kind].learning_rate * table[kind].decay == 1.0


def test_branches_are_scaled_by_depth():
    """With alpha 1 and twice the depth, half of what the blocks of a plain network add."""
    canvas = jnp.arange(LENGTH) % VOCAB
    (_, plain), (config, scaled) = network(16, 2), network(16, 2, dict(base_width=16, base_depth=1))
    assert config.branch_scale == 0.5
    params = initial(plain)
    for block in ("block_0", "block_1"):
        for branch in (params[block]["attention"]["out"], params[block]["down"]):
            branch["kernel"] = branch["kernel"] * 0.5
    halved = plain.apply({"params": params}, canvas, canvas >= 0)
    for block in ("block_0", "block_1"):
        for branch in (params[block]["attention"]["out"], params[block]["down"]):
            branch["kernel"] = branch["kernel"] * 2.0
    assert_allclose(scaled.apply({"params": params}, canvas, canvas >= 0), halved, atol=1e-5)


def test_coordinate_check():
    """Activations of hidden layers move alike at four times the width with the rules, and do not
    without them. At the base both are the same network, with the same updates (above).
    """
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (8, 16)))
    batch = TokenBatch(tokens, jnp.ones(tokens.shape, bool))
    optimizer = OptimizerConfig(learning_rate=2e-3, warmup=0)
    check = Check(batch, VOCAB, CanvasIds(VOCAB, VOCAB + 1), optimizer, updates=3, seeds=4)

    at_base = changes(network(64, 1)[0], check)

    def steepest(base):
        found = {64: at_base, 256: changes(network(256, 1, base)[0], check)}
        return {
            place: max(abs(one.slope) for one in slopes(found) if one.place == place)
            for place in PLACES
        }

    scaled, plain = steepest(dict(base_width=64, base_depth=1)), steepest(None)
    hidden = ("embedding", "attention", "MLP")
    assert max(scaled[place] for place in hidden) < 0.1
    assert min(plain[place] for place in hidden[1:]) > 0.5


def test_learning_rates_of_modules():
    """Exactly the updates without them, times the rate of the module; other networks are refused."""
    params = {name: {"kernel": jnp.full((2, 2), 0.5)} for name in MODULES}
    rates = (("query-key", 2.0), ("gain", 0.5), ("unembedding", 3.0))
    settings = OptimizerConfig(warmup=0, weight_decay=0.1)

    def update(config):
        optimizer = make_optimizer(config, 10)
        return jax.jit(optimizer.update)(params, optimizer.init(params), params)[0]

    plain, own = update(settings), update(replace(settings, module_rates=rates))
    for (path, a), b in zip(jax.tree.leaves_with_path(own), jax.tree.leaves(plain), strict=True):
        assert_allclose(a, b * dict(rates).get(kind_of(path, MODULES), 1.0), rtol=1e-6)
    with pytest.raises(MdmError, match="no rule says how the parameter adapter transfers"):
        make_optimizer(replace(settings, module_rates=rates), 10).init({"adapter": jnp.ones(2)})
