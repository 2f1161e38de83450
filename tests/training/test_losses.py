"""The denoising loss: closed forms, what must not influence it, and learning."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.corruption import antithetic_times, stratified_times, uniform_times
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.diffusion.objectives import (
    Antithetic,
    AnyOrder,
    Complement,
    Continuous,
    Discrete,
    Objective,
)
from mdm_jax.diffusion.schedules import Cosine
from mdm_jax.training.losses import CanvasIds, TokenBatch, denoising_loss
from mdm_jax.training.state import accumulate, init_state, train_step

VOCAB, LENGTH = 4, 6
IDS = CanvasIds(VOCAB, VOCAB + 1)
OBJECTIVES = {
    "any_order": AnyOrder(),
    "continuous": Continuous(),
    "cosine": Continuous(Cosine()),
    "discrete": Discrete(4),
    "complement": Complement(),
    "antithetic": Antithetic(),
    "genmd4": Genmd4(start=2.0),
}
LEARNED = {RATES: jnp.array([[0.5, -0.8, 1.5, 0.0]])}
TIMES = {
    "uniform": uniform_times,
    "stratified": stratified_times,
    "antithetic": antithetic_times,
}


class Constant(nn.Module):
    """A denoiser that ignores its canvas: the same logits everywhere."""

    @nn.compact
    def __call__(self, canvas, valid, positions=None):
        logits = self.param("logits", nn.initializers.zeros, (VOCAB,))
        return jnp.broadcast_to(logits, (len(canvas), VOCAB))


def flat(**logits):
    return {"logits": jnp.asarray(logits.get("logits", np.zeros(VOCAB)), "f4")}


def tokens(rows):
    """Rows that are shuffles of one: stratified times treat rows differently, on average alike."""
    rng = np.random.default_rng(0)
    found = jnp.asarray([rng.permutation([0, 1, 1, 3, 2, 1]) for _ in range(rows)])
    return TokenBatch(found, jnp.ones(found.shape, bool))


def loss_of(module=None, objective=None, times=stratified_times):
    return partial(
        denoising_loss,
        module=module or Constant(),
        objective=objective or AnyOrder(),
        times=times,
        ids=IDS,
    )


@pytest.mark.parametrize(
    ("objective", "times"),
    [(o, t) for o in OBJECTIVES for t in TIMES if t == "stratified" or o == "any_order"],
)
def test_every_objective_estimates_the_same_bound(objective, times):
    """Constant logits l: L * mean_i -log softmax(l)[x_i] is the bound of every order and schedule, and of
    rates that depend on the token: independent tokens have it exact.
    """
    assert isinstance(OBJECTIVES[objective], Objective | Genmd4)
    loss = loss_of(objective=OBJECTIVES[objective], times=TIMES[times])
    batch, params = tokens(4), flat(logits=[0.0, 1.0, -1.0, 0.5]) | LEARNED

    @jax.jit
    def estimates(key):
        one = jax.value_and_grad(loss, has_aux=True)
        return jax.vmap(one, in_axes=(None, 0, None))(params, jax.random.split(key, 16000), batch)

    (bounds, metrics), gradients = estimates(jax.random.key(1))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((bounds, metrics, gradients)))
    log_probs = np.asarray(jax.nn.log_softmax(params["logits"]))
    exact = -log_probs[np.asarray(batch.tokens)].mean()
    error = bounds.std() / np.sqrt(len(bounds))
    assert error < 0.03
    assert abs(bounds.mean() - exact) < 4 * error + 1e-5
    counts = np.bincount(np.asarray(batch.tokens).ravel(), minlength=VOCAB) / batch.tokens.size
    slope = np.asarray(gradients["logits"])
    spread = slope.std(axis=0) / np.sqrt(len(slope))
    assert (np.abs(slope.mean(axis=0) - (np.exp(log_probs) - counts)) < 4.5 * spread + 1e-5).all()
    assert_array_equal(metrics["nelbo_per_token"], bounds)


def test_flat_logits_cost_log_vocab_per_token():
    """With exactly ceil(t L) masks of weight L / count there is no variance left at all."""
    loss, metrics = jax.jit(loss_of())(flat(), jax.random.key(0), tokens(3))
    assert_allclose(loss, np.log(VOCAB), rtol=1e-5)
    assert_allclose(metrics["nll_per_masked_token"], np.log(VOCAB), rtol=1e-5)


@pytest.mark.reuses_keys  # the same masks for the same rows, whatever is written in the prompt
def test_prompts_enter_as_context_only():
    batch = tokens(8)
    batch = batch._replace(maskable=batch.maskable.at[:, :3].set(False))
    value = jax.jit(loss_of(times=uniform_times))
    key, params = jax.random.key(0), flat(logits=[0.0, 3.0, -1.0, 0.5])
    plain, _ = value(params, key, batch)
    for column, changes in ((0, False), (2, False), (3, True)):
        other = batch.tokens.at[:, column].add(1) % VOCAB
        changed, _ = value(params, key, batch._replace(tokens=other))
        assert (float(changed) != float(plain)) == changes
    # and the mean is over what may be masked
    assert_allclose(value(flat(), key, batch)[0], np.log(VOCAB), rtol=1e-5)


@pytest.fixture(scope="module")
def network():
    module = Transformer(TransformerConfig(width=16, depth=1, heads=2, max_length=LENGTH), VOCAB)
    canvas = jnp.zeros(LENGTH, int)
    shapes = jax.eval_shape(module.init, jax.random.key(0), canvas, canvas == 0)["params"]
    rng = np.random.default_rng(0)
    return module, jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), "f4"), shapes)


@pytest.mark.reuses_keys
def test_padding_has_no_influence(network):
    module, params = network
    batch = tokens(8)
    padding = jnp.arange(LENGTH) >= 4
    batch = TokenBatch(jnp.where(padding, IDS.pad, batch.tokens), batch.maskable & ~padding)
    gradient = jax.jit(jax.grad(loss_of(module), has_aux=True))
    found, metrics = gradient(params, jax.random.key(0), batch)
    assert_array_equal(found["embed"]["embedding"][IDS.pad], 0.0)
    assert_array_equal(found["positions"][4:], 0.0)
    assert np.abs(found["embed"]["embedding"][IDS.mask]).max() > 0
    assert np.abs(found["positions"][:4]).min() > 0
    embedding = params["embed"]["embedding"].at[IDS.pad].add(5.0)
    elsewhere = params | {"embed": {"embedding": embedding}}
    _, again = gradient(elsewhere, jax.random.key(0), batch)
    jax.tree.map(assert_array_equal, again, metrics)


@pytest.mark.parametrize("objective", [AnyOrder(), Continuous()])
def test_nothing_maskable_costs_nothing(objective):
    batch = tokens(2)._replace(maskable=jnp.zeros((2, LENGTH), bool))
    value = jax.jit(jax.value_and_grad(loss_of(objective=objective), has_aux=True))
    for leaf in jax.tree.leaves(value(flat(), jax.random.key(0), batch)):
        assert_array_equal(leaf, 0.0)


def test_a_row_without_maskable_positions_adds_nothing():
    """The mean is per maskable token: an empty row neither adds to the sum nor to the count."""
    batch = tokens(4)
    batch = batch._replace(maskable=batch.maskable.at[1].set(False))
    loss, _ = jax.jit(loss_of())(flat(), jax.random.key(0), batch)
    assert_allclose(loss, np.log(VOCAB), rtol=1e-5)


def test_micro_batches_do_not_change_the_objective():
    """Rows with unequal numbers of maskable positions; complete masks leave nothing to chance."""
    batch = tokens(4)
    maskable = jnp.arange(LENGTH) < jnp.array([6, 1, 5, 2])[:, None]
    batch, params = TokenBatch(batch.tokens, maskable), flat(logits=[0.0, 3.0, -1.0, 0.5])
    loss = loss_of(times=lambda key, count: jnp.ones(count))
    whole, halves = (
        jax.jit(partial(accumulate, loss, micro_batches=parts))(params, jax.random.key(0), batch)
        for parts in (1, 2)
    )
    jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-6), halves, whole)


def test_learning_two_words(network):
    """Data of two sequences: from log VOCAB to a bound of log(2) / LENGTH."""
    module, params = network
    words = jnp.array([[0, 1, 2, 3, 0, 1], [3, 3, 1, 0, 2, 2]])
    batch = TokenBatch(jnp.tile(words, (8, 1)), jnp.ones((16, LENGTH), bool))
    optimizer = optax.adam(0.02)
    step = partial(train_step, loss=loss_of(module), optimizer=optimizer)

    @jax.jit
    def train(key):
        def one(state, key):
            state, metrics = step(state, key, batch)
            return state, metrics["nelbo_per_token"]

        return jax.lax.scan(one, init_state(params, optimizer), jax.random.split(key, 120))[1]

    losses = np.asarray(train(jax.random.key(0)))
    exact = np.log(2) / LENGTH
    assert losses[:5].mean() > 1.0
    assert abs(losses[-30:].mean() - exact) < 0.05
