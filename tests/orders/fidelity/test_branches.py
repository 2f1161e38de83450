"""Branches from one state: their gradient against enumeration, and states after own tokens."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from listed_world import (
    COPIES,
    EVERYTHING,
    FORCING,
    LENGTH,
    LOG_P,
    ORACLE,
    PROBS,
    TABLE,
    conditionals,
    observation_at,
    row_keys,
    whole,
)

from mdm_jax.orders.fidelity.branches import Branching, branchings, try_sets
from mdm_jax.orders.fidelity.config import VineConfig, VineParts
from mdm_jax.orders.fidelity.credit import set_weights
from mdm_jax.orders.fidelity.exploration import FidelityBatch, Row, explore, visits
from mdm_jax.orders.fidelity.likelihood import order_likelihood
from mdm_jax.orders.fidelity.teacher_forcing import start_state
from mdm_jax.orders.fidelity.vine import vine_loss
from mdm_jax.policies.action_distributions import bernoulli_log_prob, from_logits
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    EntropyStart,
)

SUBSETS = np.array(list(itertools.product([False, True], repeat=LENGTH)))
PRICE = 0.1


def policy_of(start, seed=0, noise=0.5):
    """A network away from its start."""
    config = AdaptiveConfig(width=8, heads=2, max_length=LENGTH, start=start)
    policy = init_adaptive(AdaptiveNetwork(config), jax.random.key(seed), LENGTH)
    leaves, treedef = jax.tree.flatten(policy.params)

    @jax.jit
    def moved(leaves):
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        return [
            x + noise * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)
        ]

    return replace(policy, params=treedef.unflatten(moved(leaves)), price=PRICE)


UNSURE = policy_of(EntropyStart(offset=0.5, slope=1.0))
FIRM = policy_of(EntropyStart(offset=300.0, slope=460.0, floor=-300.0), noise=0.0)
PARTS = VineParts(VineConfig(states=8, draws=3, chunk=256), FORCING)


@jax.jit
def mode(policy, observation):
    return policy.unmask(jax.random.key(0), observation)


def sets_and_ratio(policy, tokens, first):
    """The order `first`, then the mode of the policy; log of its probability and its calls."""
    masked, total, calls, chosen = np.ones(LENGTH, bool), 0.0, 0, first
    while masked.any():
        if calls:
            chosen = np.asarray(mode(policy, observation_at(tokens, masked)))
        probs = conditionals(tokens, masked)[np.arange(LENGTH), tokens]
        total += np.log(probs)[chosen & masked].sum()
        masked, calls = masked & ~chosen, calls + 1
    return total, calls


def utilities_at_start(policy):
    observation = observation_at(TABLE[0], np.ones(LENGTH, bool))
    return jax.jit(lambda seen: policy.utilities(policy.featurize(seen)))(observation)


def start_branching(tokens, count):
    sequence = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, LENGTH)), whole(tokens))
    state = jax.vmap(lambda s: start_state(s, FORCING))(sequence)
    log_p = np.log(PROBS[(tokens == TABLE).all(axis=1)][0])
    full = jnp.ones(count)
    return Branching(sequence, state, PRICE * full, -log_p * full, 0 * full)


@pytest.mark.parametrize("row, try_start", [(0, False), (4, True)])
def test_the_gradient_is_that_of_all_sets(row, try_start):
    tokens, count = TABLE[row], 4000
    log_p = np.log(PROBS[row])
    utilities = utilities_at_start(UNSURE)
    best = np.arange(LENGTH) == np.argmax(utilities)
    returns = []
    for subset in SUBSETS:
        total, calls = sets_and_ratio(UNSURE, tokens, subset if subset.any() else best)
        returns.append(min(1.0, np.exp(total - log_p)) - PRICE * calls)
    assert np.ptp(returns) > 0.1

    def expected(utilities):
        masked = jnp.ones(LENGTH, bool)
        logs = [bernoulli_log_prob(from_logits(utilities), s, masked) for s in jnp.asarray(SUBSETS)]
        return jnp.sum(jnp.exp(jnp.stack(logs)) * jnp.asarray(returns))

    parts = replace(PARTS, config=replace(PARTS.config, try_start=try_start))
    at = start_branching(tokens, count)
    tried, _ = jax.jit(lambda k, a: try_sets(k, a, UNSURE, ORACLE, parts))(row_keys(1, count), at)

    def gradient(tried):
        def weighted(utilities):
            logs = jax.vmap(
                lambda s: bernoulli_log_prob(from_logits(utilities), s, tried.features.eligible)
            )(tried.sets)
            return jnp.sum(jax.lax.stop_gradient(set_weights(tried, 3, logs)) * logs)

        return jax.grad(weighted)(utilities)

    found = np.asarray(jax.jit(jax.vmap(gradient))(tried))
    error = found.std(axis=0) / np.sqrt(count)
    exact = np.asarray(jax.jit(jax.grad(expected))(utilities))
    assert (np.abs(found.mean(axis=0) - exact) < 4 * error + 1e-6).all()
    assert np.abs(exact).max() > 15 * error.max()  # so a wrong one would be seen


def test_equal_utilities_are_revealed_in_any_order():
    """Where the start clips them and the network adds nothing."""
    tied, count = policy_of(EntropyStart(offset=-50.0, slope=0.0, floor=-60.0), noise=0.0), 64
    tied = replace(tied, params=jax.tree.map(jnp.zeros_like, tied.params))
    maskable, nothing = jnp.ones((count, LENGTH), bool), jnp.zeros(count, bool)
    rows = Row(row_keys(3, count), maskable, nothing, PRICE * jnp.ones(count))
    tokens = jnp.broadcast_to(jnp.asarray(TABLE[0]), (count, LENGTH))
    seen = jax.jit(lambda rows: explore(tokens, rows, tied, ORACLE, FORCING, 256))(rows)
    assert not seen.sets.any() and (seen.revealed.sum(-1)[:, :LENGTH] == 1).all()
    assert len(np.unique(np.argmax(seen.revealed[:, :LENGTH], -1), axis=0)) > 15  # of 24


def test_the_same_set_returns_the_same():
    """Whether it is finished itself or shares the branch of an equal one."""
    at = start_branching(TABLE[0], 50)
    run = jax.jit(lambda keys, at: try_sets(keys, at, UNSURE, ORACLE, PARTS))
    tried, calls = run(row_keys(2, 50), at)
    sets, returns = np.asarray(tried.sets), np.asarray(tried.returns)
    seen = {}
    for each, value in zip(sets.reshape(-1, LENGTH), returns.ravel(), strict=True):
        np.testing.assert_allclose(seen.setdefault(tuple(each), value), value, atol=1e-6)
    assert len(seen) > 5
    assert 50 < calls < 50 * (1 + sets.shape[1] * (LENGTH - 1))


@pytest.mark.parametrize("on_policy", [False, True])
def test_mean_returns_are_the_overlap_wherever_rows_have_come(on_policy):
    """E[J] of a policy that always does the same, price 0, is 1 - TV from every step that it takes."""
    count = 420
    everything = order_likelihood(
        row_keys(0, len(EVERYTHING)), whole(EVERYTHING), FIRM, ORACLE, replace(FORCING, clip=99.0)
    )
    order = np.exp(everything.log_prob)
    data = np.array([PROBS[(x == TABLE).all(axis=1)].sum() for x in EVERYTHING])
    overlap = np.minimum(order, data).sum()
    assert 0.3 < overlap < 0.95 and everything.calls.min() >= 2
    tokens = jnp.asarray(np.tile(COPIES, (count // 14, 1)))
    log_p = jnp.asarray(np.tile(LOG_P, count // 14))
    ones = jnp.ones((count, LENGTH), bool)
    rows = Row(row_keys(3, count), ones, jnp.full(count, on_policy), jnp.zeros(count))

    @jax.jit
    def run(key, keys, more_keys):
        seen = explore(tokens, rows, FIRM, ORACLE, FORCING, 256)
        visited, row, real = visits(key, seen, rows, LENGTH * count)
        at, _ = branchings(keys, visited, log_p[row], ORACLE, PARTS)
        return visited.calls, real, try_sets(more_keys, at, FIRM, ORACLE, PARTS)[0]

    keys = row_keys(5, LENGTH * count), row_keys(6, LENGTH * count)
    calls, real, tried = run(jax.random.key(4), *keys)
    by_mode = np.asarray(tried.returns)[:, PARTS.config.draws]
    for step in range(2):
        values = by_mode[np.asarray(real & (calls == step))]
        assert len(values) == count
        error = values.std() / np.sqrt(count) if on_policy else 1e-5
        assert abs(values.mean() - overlap) < 4 * error


def batch_of(rows):
    return FidelityBatch(
        jnp.asarray(COPIES[:rows]), jnp.ones((rows, LENGTH), bool), jnp.zeros(rows)
    )


def test_where_nothing_can_be_chosen_nothing_is_learned():
    config = replace(PARTS.config, entropy=0.0)
    parts = VineParts(config, replace(FORCING, budget=1))
    loss = jax.jit(
        jax.grad(
            lambda p, k: vine_loss(p, k, batch_of(8), policy=UNSURE, denoise=ORACLE, parts=parts),
            has_aux=True,
        )
    )
    gradient, _ = loss(UNSURE.params, jax.random.key(7))
    assert all(np.abs(g).max() < 1e-6 for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("options", [{"draws": 1}, {"prices": (0.0, 1.0)}, {"cap": 0.0}])
def test_settings_that_cannot_be(options):
    with pytest.raises(ValueError, match="must"):
        VineConfig(**options)
