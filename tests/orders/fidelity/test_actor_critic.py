"""Losses of policy and critic against enumeration."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from listed_world import FORCING, LENGTH, TABLE, observation_at, row_keys

from mdm_jax.orders.fidelity.actor_critic import critic_loss, policy_loss, returns_of, targets
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig
from mdm_jax.orders.fidelity.replay import Transition
from mdm_jax.policies.action_distributions import bernoulli_log_prob, from_logits
from mdm_jax.policies.adaptive import init_adaptive
from mdm_jax.policies.base import or_best
from mdm_jax.policies.networks.adaptive_network import AdaptiveConfig, AdaptiveNetwork, EntropyStart
from mdm_jax.policies.networks.critic_network import CriticNetwork

SETS = jnp.asarray(list(itertools.product([False, True], repeat=LENGTH)))
CONFIG = AdaptiveConfig(width=8, heads=2, depth=0, max_length=LENGTH, canvas=16)
PARTS = CriticParts(ReplayConfig(draws=8, borrowed=0), FORCING, CriticNetwork(CONFIG))


def moved(params, seed):
    leaves, treedef = jax.tree.flatten(params)

    @jax.jit
    def noisy(leaves, keys):
        return [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]

    return treedef.unflatten(noisy(leaves, row_keys(seed, len(leaves))))


@jax.jit
def predict(critic, features, chosen):
    return PARTS.critic.apply({"params": critic}, features, chosen)


@jax.jit
def targets_of(transition, policy, critic):
    return targets(jax.random.key(0), transition, policy, critic, PARTS)


@pytest.fixture(scope="module")
def world():
    """Policy, critic's parameters, and a call that reveals the first position at a whole canvas."""
    policy = init_adaptive(AdaptiveNetwork(CONFIG), jax.random.key(0), LENGTH)
    policy = replace(policy, params=moved(policy.params, 1), price=0.3)
    state, after = np.ones(LENGTH, bool), np.array([False, True, True, True])
    features, following = (
        policy.featurize(observation_at(TABLE[1], masked)) for masked in (state, after)
    )
    init = jax.jit(PARTS.critic.init)
    critic = init(jax.random.key(2), features, jnp.asarray(state))["params"]
    transition = Transition(
        features, jnp.asarray(~after), jnp.asarray(0.5), following, jnp.asarray(0.25)
    )
    return policy, moved(critic, 3), transition


def slope(policy, critic, transition, parts, share):
    """The derivative of the policy's loss by what is added to all utilities."""
    batch = jax.tree.map(lambda leaf: leaf[None], transition)
    rest = {"policy": policy, "critic_params": critic, "parts": parts}
    loss = partial(policy_loss, key=jax.random.key(0), batch=batch, **rest)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda params: loss(params, share=jnp.asarray(share))[0])(params)

    return gradient(policy.params)["utility"]["bias"]


def test_the_policy_follows_the_gradient_of_the_mean_return(world):
    policy, critic, transition = world
    features = transition.features
    scale = features.price + PARTS.config.price_offset

    def mean_return(params):
        utilities = replace(policy, params=params).utilities(features)
        fixed = jax.lax.stop_gradient(utilities)
        best = partial(or_best, jax.random.key(0))  # there are no ties
        revealed = jax.vmap(best, in_axes=(0, None, None))(SETS, fixed, features.eligible)
        returns = returns_of(revealed, features, critic, PARTS) / scale
        bernoulli = from_logits(utilities)
        logs = jax.vmap(lambda one: bernoulli_log_prob(bernoulli, one, features.eligible))(SETS)
        return jnp.sum(jnp.exp(logs) * jax.lax.stop_gradient(returns))

    exact = ravel_pytree(jax.jit(jax.grad(mean_return))(policy.params))[0]
    batch = jax.tree.map(lambda leaf: leaf[None], transition)

    @jax.jit
    @jax.vmap
    def estimate(key):
        rest = {"policy": policy, "critic_params": critic, "parts": PARTS}
        loss = partial(policy_loss, key=key, batch=batch, share=jnp.zeros(()), **rest)
        gradient, _ = jax.grad(loss, has_aux=True)(policy.params)
        return ravel_pytree(gradient)[0]

    found = -estimate(row_keys(5, 4096))
    error = found.std(axis=0) / np.sqrt(len(found))
    off = np.abs(found.mean(axis=0) - exact)
    assert (off <= 5 * error + 1e-6).all()
    assert (np.abs(exact) > 10 * error).any()  # the estimate is precise enough to tell


@pytest.mark.parametrize(
    ("share", "bound", "pulled"), [(1.0, 5.0, 1), (0.0, 5.0, 0), (1.0, None, 0)]
)
def test_a_policy_that_is_too_sure_is_pulled_back_while_it_learns(world, share, bound, pulled):
    policy, critic, transition = world
    sure = replace(
        CONFIG, start=EntropyStart(offset=40.0, slope=0.0)
    )  # draws the same set each time
    policy = replace(policy, network=AdaptiveNetwork(sure))
    parts = replace(PARTS, config=replace(PARTS.config, bound=bound, entropy=0.0))
    assert np.sign(slope(policy, critic, transition, parts, share)) == pulled


@pytest.mark.parametrize(
    ("own", "borrowed", "pulled"), [("one", 4, -1), ("one", 0, 0), ("all", 4, 0)]
)
def test_what_is_better_at_another_price_is_taken_over(world, own, borrowed, pulled):
    """At a price of 50 the last call is worth more than any token: to reveal all is best."""
    policy, critic, transition = world
    sign = 1.0 if own == "one" else -1.0
    start = EntropyStart(offset=20 * sign, slope=0.0, eagerness=-6 * sign, floor=-30.0)
    policy = replace(policy, network=AdaptiveNetwork(replace(CONFIG, start=start)))
    config = replace(PARTS.config, borrowed=borrowed, prices=(0.001, 0.05), entropy=0.0, bound=None)
    features = transition.features._replace(price=jnp.asarray(50.0))
    parts = replace(PARTS, config=config)
    found = slope(policy, critic, transition._replace(features=features), parts, 0.0)
    assert np.sign(np.round(found, 3)) == pulled


def test_targets_are_one_call_of_the_mode_ahead(world):
    policy, critic, transition = world
    wanted = targets_of(transition, policy, critic)
    following = transition.next_features
    utilities = jax.jit(policy.utilities)(following)
    mode = or_best(
        jax.random.key(0), following.eligible & (utilities > 0), utilities, following.eligible
    )
    later = predict(critic, following, mode)
    np.testing.assert_allclose(wanted.nats[mode], 0.25 * following.entropy[mode], rtol=1e-6)
    np.testing.assert_allclose(wanted.nats[~mode], later.nats[~mode], rtol=1e-6)
    np.testing.assert_allclose(wanted.calls, 1.0 + later.calls, rtol=1e-6)
    assert wanted.survival == 0.5


def test_the_last_call_that_may_be_made_reveals_all(world):
    policy, critic, transition = world
    last = transition.next_features._replace(calls_left=jnp.asarray(1.0))
    wanted = targets_of(transition._replace(next_features=last), policy, critic)
    np.testing.assert_allclose(wanted.nats, 0.25 * last.entropy, rtol=1e-6)


def test_nothing_follows_the_last_call(world):
    policy, critic, transition = world
    nothing = jnp.zeros(LENGTH, bool)
    finished = transition.next_features._replace(is_masked=nothing, eligible=nothing)
    transition = transition._replace(next_features=finished)
    wanted = targets_of(transition, policy, critic)
    assert not wanted.nats.any() and wanted.calls == 0


def test_a_critic_that_predicts_its_targets_has_no_loss(world):
    _, critic, transition = world
    found = predict(critic, transition.features, transition.revealed)
    batch, wanted = (jax.tree.map(lambda leaf: leaf[None], x) for x in (transition, found))
    loss = jax.jit(lambda wanted: critic_loss(critic, batch, wanted, PARTS)[0])
    np.testing.assert_allclose(loss(wanted), 0, atol=1e-12)
    off = wanted._replace(calls=wanted.calls + 0.5)
    np.testing.assert_allclose(loss(off), 0.125, rtol=1e-5)


def test_the_survival_depends_on_the_state_alone(world):
    _, critic, transition = world
    dear = transition.features._replace(price=jnp.asarray(3.0))
    for features, chosen in [(transition.features, SETS[3]), (dear, SETS[9])]:
        found = predict(critic, features, chosen)
        first = predict(critic, transition.features, SETS[0])
        assert found.survival == first.survival
