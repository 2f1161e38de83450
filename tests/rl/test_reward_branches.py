"""Rewards with credit for each step: the gradient against enumeration, and what is learned from it."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax import sharding
from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.fidelity.credit import Tried, set_weights
from mdm_jax.policies.action_distributions import bernoulli_log_prob, from_logits
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)
from mdm_jax.rl.branch_learner import BranchLearner, compiled_branches
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.rl.branches import Fixed, try_sets
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import prepared, sample
from mdm_jax.sampling.rows import Sampler
from mdm_jax.training.optimizers import OptimizerConfig, make_optimizer
from mdm_jax.training.state import init_state
from mdm_jax.types import Observation

LENGTH, MASK, PRICE, STEPS = 4, 2, 0.15, 150
# two pairs of copies, unequally probable
TABLE = np.array([[a, b, a, b] for a, b in itertools.product(range(2), repeat=2)])
WEIGHTS = np.array([4.0, 1.0, 2.0, 3.0])
ORACLE = oracle_of(TABLE, 2, MASK, WEIGHTS)
CONFIG = SamplerConfig(mask_id=MASK, pad_id=3, budget=LENGTH, temperature=1.0)
EMPTY = np.full(LENGTH, MASK, np.int32)
SUBSETS = np.array(list(itertools.product([False, True], repeat=LENGTH)))
CANVASES = np.array(list(itertools.product(range(3), repeat=LENGTH)))
OBJECTIVE = BranchObjective(prices=(PRICE, PRICE), draws=3, states=2, chunk=512)


class Copies:
    """Whether a canvas is in the table."""

    pure_verifier = True

    def verify(self, canvas, reference):
        return jnp.all(canvas[:2] == canvas[2:]) & jnp.all(canvas < MASK)


class OnHost(Copies):
    pure_verifier = False

    def verify(self, canvas, reference):
        assert (canvas < MASK).all()  # unfinished ones do not come here
        return (canvas[:2] == canvas[2:]).all()


def policy_of(start, noise=0.5):
    """A network away from its start."""
    shape = AdaptiveConfig(width=8, depth=0, canvas=16, max_length=LENGTH, start=start)
    policy = init_adaptive(AdaptiveNetwork(shape), jax.random.key(0), LENGTH)
    leaves, treedef = jax.tree.flatten(policy.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + noise * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return replace(policy, params=treedef.unflatten(moved), price=PRICE)


UNSURE = policy_of(EntropyStart(offset=0.5, slope=1.0))


def conditionals(canvas):
    """p(token | what is shown) [length, 2]; uniform where nothing fits."""
    fits = WEIGHTS * ((canvas == MASK) | (canvas == TABLE)).all(axis=1)
    if not fits.sum():
        return np.full((LENGTH, 2), 0.5)
    return np.stack([fits @ (v == TABLE) for v in range(2)], axis=1) / fits.sum()


def observation_at(canvas):
    is_masked, zero = canvas == MASK, jnp.zeros((), jnp.int32)
    logits = ORACLE(canvas, jnp.ones(LENGTH, bool))
    counts = zero, zero + LENGTH, zero, zero + LENGTH, zero + 1
    return Observation(logits, canvas, is_masked, is_masked, *counts)


@jax.jit
@jax.vmap
def looked_up(canvas):
    """Utilities and the set of the mode on a canvas."""
    observation = observation_at(canvas)
    utilities = UNSURE.utilities(UNSURE.featurize(observation))
    return utilities, UNSURE.unmask(jax.random.key(0), observation)


def value_of(canvas, chosen, calls, modes, multiplicative):
    """What a first set earns on average, by enumeration of all tokens, if the mode goes on."""
    calls = calls + 1
    chosen = np.flatnonzero((canvas == MASK) & (chosen | (calls == LENGTH)))
    probs, total = conditionals(canvas), 0.0
    for tokens in itertools.product(range(2), repeat=len(chosen)):
        after = canvas.copy()
        after[chosen] = tokens
        weight = np.prod(probs[chosen, list(tokens)])
        if weight and (after == MASK).any():
            rest = modes[tuple(after)]
            total += weight * value_of(after, rest, calls, modes, multiplicative)
        elif weight:
            right = float((after == TABLE).all(axis=1).any())
            speed = ((LENGTH - calls + 1) / LENGTH) ** (PRICE * LENGTH)
            total += weight * (right * speed if multiplicative else right - PRICE * calls)
    return total


@pytest.mark.parametrize("multiplicative, try_start", [(False, True), (True, False)])
def test_the_gradient_is_that_of_all_sets(multiplicative, try_start):
    objective = replace(OBJECTIVE, multiplicative=multiplicative, try_start=try_start)
    count, draws = 4000, objective.draws
    utilities, chosen = looked_up(jnp.asarray(CANVASES))
    modes = {tuple(c): np.asarray(s) for c, s in zip(CANVASES, chosen, strict=True)}
    utilities = utilities[-1]  # of the empty canvas
    best = np.arange(LENGTH) == np.argmax(utilities)
    values = [
        value_of(EMPTY, subset if subset.any() else best, 0, modes, multiplicative)
        for subset in SUBSETS
    ]
    assert np.ptp(values) > 0.1

    def expected(utilities):
        logs = [log_prob(utilities, subset) for subset in jnp.asarray(SUBSETS)]
        return jnp.sum(jnp.exp(jnp.stack(logs)) * jnp.asarray(values))

    @jax.jit
    def tried(key):
        k_token, k_policy = jax.random.split(key)
        canvases = jnp.broadcast_to(jnp.asarray(EMPTY), (count, LENGTH))
        token_keys = jax.random.split(k_token, count)
        sampler, rows, context = prepared(Sampler(ORACLE, UNSURE, CONFIG), token_keys, canvases)
        ones = jnp.ones(count)
        fixed = Fixed(context, jax.random.split(k_policy, count), PRICE * ones, 0 * ones)
        found, _ = try_sets(sampler, rows, fixed, ones, objective, objective.chunk)
        correct = jax.vmap(jax.vmap(Copies().verify, (0, None)), (0, None))(found.canvas, 0)
        return found, found.rewards(correct, objective)

    @jax.vmap
    def gradient(found, rewards):
        tried = Tried(found.features, found.sets, rewards, found.price)

        def weighted(utilities):
            logs = jax.vmap(lambda subset: log_prob(utilities, subset))(tried.sets)
            return jnp.sum(jax.lax.stop_gradient(set_weights(tried, draws, logs)) * logs)

        return jax.grad(weighted)(utilities)

    found = np.asarray(jax.jit(gradient)(*tried(jax.random.key(2))))
    error = found.std(axis=0) / np.sqrt(count)
    exact = np.asarray(jax.grad(expected)(utilities))
    assert (np.abs(found.mean(axis=0) - exact) < 4 * error + 1e-6).all()
    assert np.abs(exact).max() > 10 * error.max()  # so a wrong one would be seen


def log_prob(utilities, subset):
    return bernoulli_log_prob(from_logits(utilities), subset, jnp.ones(LENGTH, bool))


@pytest.fixture(scope="module")
def learner():
    start = EntropyStart(floor=-1.0)
    shape = AdaptiveConfig(width=16, depth=0, canvas=32, max_length=LENGTH, start=start)
    fast = OptimizerConfig(learning_rate=1e-2, weight_decay=0.0, warmup=5)
    policy = init_adaptive(AdaptiveNetwork(shape), jax.random.key(0), LENGTH)
    return BranchLearner(
        policy=policy,
        objective=OBJECTIVE,
        sampler=CONFIG,
        optimizer=make_optimizer(fast, STEPS),
        steps=STEPS,
    )


def start_of(learner):
    params = {"policy": jax.tree.map(jnp.copy, learner.policy.params)}
    return sharding.replicate(init_state(params, learner.optimizer), sharding.make_mesh())


@pytest.fixture(scope="module")
def update(learner):
    """An update in one program."""
    return compiled_branches(learner, ORACLE, Copies(), sharding.make_mesh())


PROMPTS = Prompts(np.tile(EMPTY, (16, 1)), np.zeros(16, np.int32))


def test_two_uncertain_positions_that_are_independent_go_together(learner, update):
    """One call for one of each pair, one for the rest; an entropy bound needs more."""
    state = start_of(learner)
    for key in jax.random.split(jax.random.key(3), STEPS):
        state, metrics = update(state, key, PROMPTS)
    assert 16 * 2 < metrics["calls"] <= 16 * (2 + 2 * (1 + 5 * 3))
    policy = replace(learner.policy, params=jax.device_get(state.ema["policy"]), price=PRICE)
    keys, canvases = jax.random.split(jax.random.key(4), 64), np.tile(EMPTY, (64, 1))
    found = sample(keys, canvases, denoise=ORACLE, policy=policy, config=CONFIG)
    assert (found.nfe == 2).all() and (found.canvas[:, :2] == found.canvas[:, 2:]).all()


def test_a_verifier_on_the_host_changes_nothing(learner, update):
    in_two = compiled_branches(learner, ORACLE, OnHost(), sharding.make_mesh())
    found = [each(start_of(learner), jax.random.key(5), PROMPTS) for each in (update, in_two)]
    (one, metrics), (other, others) = jax.device_get(found)
    assert metrics["grad_norm"] > 0
    for name in metrics:
        np.testing.assert_allclose(metrics[name], others[name], rtol=1e-4, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one.params, other.params)


@pytest.mark.parametrize("options", [{"draws": 1}, {"prices": (0.0, 1.0)}, {"states": 0}])
def test_settings_that_cannot_be(options):
    with pytest.raises(ValueError, match="must"):
        BranchObjective(**options)
