"""The update against hand computations, and resuming against going on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mdm_jax.training.loop import Services, fit
from mdm_jax.training.state import TrainState, accumulate, init_state, train_step

PARAMS = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array(0.3)}


def quadratic(params, key, batch, noise=0.0):
    """Mean squared error of a line, with noise on the inputs."""
    x, y = batch
    x = x + noise * jax.random.normal(key, x.shape)
    error = x @ params["w"] + params["b"] - y
    return jnp.mean(error**2), {"mse": jnp.mean(error**2), "bias": jnp.mean(error)}


def data(rows=12):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 3)).astype(np.float32)
    return x, (x @ np.array([2.0, 0.0, -1.0]) + 1).astype(np.float32)


def fresh(optimizer):
    """A first state that may be donated."""
    return init_state(jax.tree.map(jnp.copy, PARAMS), optimizer)


def close(found, expected, atol=1e-6):
    jax.tree.map(partial(assert_allclose, atol=atol), found, expected)


def equal(found, expected):
    jax.tree.map(assert_array_equal, found, expected)


@pytest.mark.parametrize("micro_batches", [2, 3, 12])
def test_accumulated_gradient_is_that_of_the_whole_batch(micro_batches):
    key = jax.random.key(0)
    whole = accumulate(quadratic, PARAMS, key, data(), 1)
    parts = jax.jit(partial(accumulate, quadratic, micro_batches=micro_batches))
    close(parts(PARAMS, key, data()), whole)


def test_accumulation_is_the_mean_of_slices_with_their_own_keys():
    """Slice i holds the rows i mod micro_batches and uses fold_in(key, i)."""
    key, (x, y) = jax.random.key(3), data()
    noisy = partial(quadratic, noise=1.0)
    gradient = jax.jit(jax.grad(noisy, has_aux=True))
    slices = [
        gradient(PARAMS, jax.random.fold_in(key, i), (x[i::3], y[i::3])) for i in np.arange(3)
    ]
    by_hand = jax.tree.map(lambda *leaves: sum(leaves) / 3, *slices)
    found = jax.jit(partial(accumulate, noisy, micro_batches=3))(PARAMS, key, (x, y))
    close(found, by_hand)
    one_key = [gradient(PARAMS, jax.random.clone(key), (x[i::3], y[i::3])) for i in range(3)]
    shared = jax.tree.map(lambda *leaves: sum(leaves) / 3, *one_key)
    assert np.abs(shared[0]["w"] - found[0]["w"]).max() > 1e-2


def test_batches_that_do_not_divide():
    with pytest.raises(ValueError, match="a batch of 12 does not divide into 5 micro-batches"):
        accumulate(quadratic, PARAMS, jax.random.key(0), data(), 5)


def test_one_update_by_hand():
    batch, optimizer = data(), optax.sgd(0.1)
    step = partial(train_step, loss=quadratic, optimizer=optimizer, ema_decay=0.5)
    gradient, metrics = jax.grad(quadratic, has_aux=True)(PARAMS, jax.random.key(0), batch)
    state, found = jax.jit(step)(init_state(PARAMS, optimizer), jax.random.key(0), batch)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, gradient)
    close(state.params, params)
    # decay (1 + 0) / (10 + 0) at the first update
    close(state.ema, jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, PARAMS, params))
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradient)))
    close(found, metrics | {"grad_norm": norm})
    assert int(state.step) == 1


@pytest.mark.parametrize("ema_decay", [0.0, 0.3, 0.999])
def test_average_follows_its_formula(ema_decay):
    optimizer = optax.sgd(0.1)
    step = jax.jit(partial(train_step, loss=quadratic, optimizer=optimizer, ema_decay=ema_decay))
    state, ema = init_state(PARAMS, optimizer), np.asarray(PARAMS["w"])
    for index in range(8):
        state, _ = step(state, jax.random.key(index), data())
        decay = min(ema_decay, (1 + index) / (10 + index))
        ema = decay * ema + (1 - decay) * np.asarray(state.params["w"])
        assert_allclose(state.ema["w"], ema, rtol=1e-5)


def test_the_average_is_no_alias_of_the_parameters():
    """Donated state must not hold a buffer twice."""
    state = init_state(PARAMS, optax.sgd(0.1))
    equal(state.ema, state.params)
    assert state.ema["w"] is not state.params["w"]
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state[1:3])]
    assert len(set(pointers)) == len(pointers)


@pytest.fixture(scope="module")
def noisy_step():
    optimizer = optax.adam(0.05)
    loss = partial(quadratic, noise=0.1)
    return optimizer, jax.jit(
        partial(train_step, loss=loss, optimizer=optimizer, micro_batches=2), donate_argnums=0
    )


def train(noisy_step, state, steps, batch_at=lambda index: data()):
    """The state after `steps` updates and the rows of metrics."""
    rows = []
    services = Services(log=lambda step, row: rows.append(row), log_every=1)
    key = jax.random.key(7)
    return fit(state, noisy_step[1], batch_at, key, steps=steps, services=services), rows


def test_learning(noisy_step):
    _, rows = train(noisy_step, fresh(noisy_step[0]), 150)
    losses = [row["mse"] for row in rows]
    assert len(losses) == 150
    assert np.mean(losses[-10:]) < 0.1 * losses[0]


@pytest.mark.parametrize("stop", [1, 5, 8])
def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(noisy_step, stop):
    """Moments, average and keys included, although each update is given its state to write to."""

    def batch_at(index):
        return jax.tree.map(lambda x: np.roll(x, index, axis=0)[:8], data())

    whole, rows = train(noisy_step, fresh(noisy_step[0]), 9, batch_at)
    state, first = train(noisy_step, fresh(noisy_step[0]), stop, batch_at)
    saved = TrainState(*jax.tree.map(jnp.asarray, jax.device_get(state)))
    resumed, rest = train(noisy_step, saved, 9, batch_at)
    equal(resumed, whole)
    assert first + rest == rows


def test_many_small_updates_move_bfloat16_weights_as_they_move_float32():
    """Each is far below the spacing of bfloat16 numbers, 2^-8 of the weight."""
    optimizer, start = optax.adam(1e-5), jnp.linspace(0.5, 1.5, 50)

    def loss(params, key, batch):
        return jnp.sum(params["w"].astype(jnp.bfloat16)).astype(jnp.float32), {}

    step = jax.jit(partial(train_step, loss=loss, optimizer=optimizer, ema_decay=0.5))
    state = init_state({"w": start.astype(jnp.bfloat16)}, optimizer)
    before = state.params["w"]
    for index in range(300):
        state, _ = step(state, jax.random.fold_in(jax.random.key(0), index), (jnp.zeros(1),))
    floating = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {str(leaf.dtype) for leaf in floating} == {"float32"}
    assert_allclose(before - state.params["w"], 300e-5, rtol=5e-3)
    assert_allclose(before - state.ema["w"], 299e-5, rtol=5e-3)
