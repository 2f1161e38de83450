"""Learned policies: features, draws and knobs."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import (
    LENGTH,
    MASK,
    PAD,
    POLICY,
    STEPS,
    Tabular,
    log_lik,
    random_world,
    sequences,
    with_plain_policy,
)
from scipy import stats
from scipy.optimize import brentq
from scipy.special import entr

from mdm_jax.evals.labels import describe_policy, label_of
from mdm_jax.policies.action_distributions import Categorical, PlackettLuceStop
from mdm_jax.policies.base import Policy, stack
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork, start_table
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample, sweep
from mdm_jax.types import Observation

WORLD = random_world(2)
SMALL = PolicyConfig(width=8, heads=2)
EVERYWHERE = jnp.ones(LENGTH, bool)
ROWS = 4000


CONFIG = SamplerConfig(MASK, PAD, STEPS, temperature=1.0)


def plain_policy(table, **knobs):
    return LearnedPolicy(POLICY, {"table": jnp.float32(table)}, STEPS, **knobs)


TABLE = np.random.default_rng(3).normal(size=(STEPS + 1, LENGTH))


def observe(logits=None, eligible=EVERYWHERE, block_step=0, num_blocks=1, is_masked=EVERYWHERE):
    logits = jnp.zeros((LENGTH, 3)) if logits is None else jnp.float32(logits)
    numbers = (0, 99, block_step, LENGTH, num_blocks)
    return Observation(
        logits, jnp.argmax(logits, -1), is_masked, eligible, *map(jnp.int32, numbers)
    )


TRACES = []


@jax.jit
def decide(policy, keys, observation):
    """Decisions under each key, [keys, length]."""
    TRACES.append(type(policy))
    return jax.vmap(lambda key: policy(key, observation, ())[0].unmask)(keys)


def decisions(policy, count=ROWS, seed=0, **seen):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(decide(policy, keys, observe(**seen)))


def rows(seed=7):
    """Keys and empty canvases."""
    base = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(jnp.arange(4 * ROWS))
    return keys, jnp.full((4 * ROWS, LENGTH), MASK)


def run(policy, config=CONFIG):
    denoise = Tabular(jnp.float32(WORLD.logits))
    return jax.tree.map(np.asarray, sample(*rows(), denoise=denoise, policy=policy, config=config))


def frequencies_fit(drawn, expected):
    error = np.sqrt(expected * (1 - expected) / len(drawn))
    return (np.abs(drawn.mean(axis=0) - expected) <= 4.5 * error + 1e-9).all()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def fresh():
    network = PolicyNetwork(SMALL, LENGTH, STEPS)
    init = jax.jit(lambda key: network.init(key, jnp.zeros((LENGTH, 3)), EVERYWHERE, jnp.int32(1)))
    return network, init(jax.random.key(4))["params"]


def shaken(params, seed=5):
    """Other parameters of the same shapes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.float32(0.5 * rng.normal(size=x.shape)), params)


def test_a_fresh_network_is_ancestral_sampling(fresh):
    network, params = fresh
    policy = LearnedPolicy(network, params, STEPS, policy_temperature=1.0, fallback="spend")
    assert isinstance(policy, Policy) and policy.init(LENGTH) == ()
    logits = 3 * np.random.default_rng(6).normal(size=(LENGTH, 3))
    some = jnp.array([True, False, True, True])
    for spent in range(STEPS):
        drawn = decisions(policy, logits=logits, eligible=some, block_step=spent)
        expected = np.asarray(some) / (STEPS - spent)
        assert frequencies_fit(drawn, expected)
        pairs = np.corrcoef(drawn[:, [0, 2, 3]].T) if spent < STEPS - 1 else np.eye(3)
        assert np.abs(pairs - np.eye(3)).max() < 4.5 / ROWS**0.5
    assert not frequencies_fit(decisions(policy, logits=logits, eligible=some), 0.4 * some)


def test_the_sampler_draws_from_the_model_whose_bound_is_learned():
    """Every sequence as often as all paths of policy and denoiser together say."""
    world = with_plain_policy(WORLD, TABLE)
    policy = plain_policy(TABLE, policy_temperature=1.0, fallback="spend")
    canvas = run(policy).canvas
    codes = canvas @ 3 ** np.arange(LENGTH)
    counts = np.bincount(codes, minlength=81)
    probs = np.zeros(81)
    for tokens in sequences():
        probs[tokens @ 3 ** np.arange(LENGTH)] = np.exp(log_lik(world, "max", tokens))
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-9)
    likely = probs * len(codes) > 5
    pooled = lambda x: np.append(x[likely], x[~likely].sum())  # noqa: E731
    assert stats.chisquare(pooled(counts), pooled(probs * len(codes))).pvalue > 1e-3


def test_temperature_zero_is_the_limit_of_small_temperatures():
    logits = np.random.default_rng(8).normal(size=(LENGTH, 3))
    cold = decisions(plain_policy(TABLE, policy_temperature=0.0), logits=logits)
    limit = decisions(plain_policy(TABLE, policy_temperature=1e-3), logits=logits)
    assert (cold == cold[0]).all() and (limit == cold).all()
    utilities = TABLE[STEPS] + logits[:, 0]
    assert cold[0].tolist() == (utilities > 0).tolist() and 0 < cold[0].sum() < LENGTH
    for temperature in (0.5, 2.0):
        policy = plain_policy(TABLE, policy_temperature=temperature, fallback="spend")
        assert frequencies_fit(decisions(policy, logits=logits), sigmoid(utilities / temperature))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.6, 1e6])
def test_scale_multiplies_the_probabilities(scale):
    policy = plain_policy(TABLE, policy_temperature=1.0, scale=scale, fallback="spend")
    expected = np.minimum(scale * sigmoid(TABLE[STEPS]), 1.0)
    drawn = decisions(policy)
    assert frequencies_fit(drawn, np.clip(expected, 2e-6 * (scale > 0), 1 - 2e-6))
    sure = decisions(replace(policy, policy_temperature=0.0))
    np.testing.assert_array_equal(sure[0], expected > 0.5)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_fallbacks_of_an_empty_draw(temperature):
    shy = TABLE - 50.0
    some = jnp.array([True, True, False, True])
    best = np.where(some, TABLE[STEPS], -np.inf).argmax()
    drawn = decisions(plain_policy(shy, policy_temperature=temperature), eligible=some)
    assert (drawn == (np.arange(LENGTH) == best)).all()
    spend = plain_policy(shy, policy_temperature=temperature, fallback="spend")
    assert not decisions(spend, eligible=some).any()
    bold = plain_policy(
        shy + 100.0, policy_temperature=temperature
    )  # no draw is empty: no difference
    assert (decisions(bold, eligible=some) == np.asarray(some)).all()
    nothing = jnp.zeros(LENGTH, bool)
    assert not decisions(plain_policy(shy, policy_temperature=temperature), eligible=nothing).any()


@pytest.mark.parametrize(
    "knobs",
    [
        {"family": Categorical()},
        {"family": PlackettLuceStop(1.0)},
        {"fallback": "best"},
        {"candidate_top_k": 1},
    ],
    ids=["mode", "mode with stop", "fallback", "candidates"],
)
def test_ties_are_broken_by_the_rows_key(knobs):
    """A policy that knows no better position reveals each equally often, at temperature 0 too."""
    utility = 1.0 if "candidate_top_k" in knobs else -1.0
    table = np.full((STEPS + 1, LENGTH), utility)
    drawn = decisions(plain_policy(table, **knobs))
    assert (drawn.sum(axis=1) == 1).all()
    assert stats.chisquare(drawn.sum(axis=0)).pvalue > 1e-3
    np.testing.assert_array_equal(drawn, decisions(plain_policy(table, **knobs)))


@pytest.mark.parametrize("fallback", ["best", "spend"])
def test_the_last_step_reveals_all(fallback):
    policy = plain_policy(TABLE - 50.0, policy_temperature=1.0, fallback=fallback)
    some = jnp.array([True, True, False, True])
    assert (decisions(policy, eligible=some, block_step=STEPS - 1) == np.asarray(some)).all()
    if fallback == "spend":
        rollout = run(policy)
        assert (rollout.revealed_at == STEPS - 1).all() and (rollout.nfe == STEPS).all()


BLOCKS = replace(CONFIG, budget=LENGTH, block_length=2)


def test_steps_are_divided_among_blocks():
    """Four for two blocks; an empty draw reveals one position, the last step of a block the other."""
    policy = replace(plain_policy(TABLE - 50.0, policy_temperature=1.0), steps=4)
    rollout = run(policy, BLOCKS)
    assert (np.sort(rollout.revealed_at[:, :2]) == [0, 1]).all()
    assert (np.sort(rollout.revealed_at[:, 2:]) == [2, 3]).all()
    hasty = run(replace(policy, steps=2), BLOCKS)  # one step each: it is the last
    assert (hasty.revealed_at == [0, 0, 1, 1]).all()


def test_one_at_a_time_reveals_one_until_the_last_step():
    policy = plain_policy(TABLE, policy_temperature=1.0, family=Categorical())
    drawn = decisions(policy)
    odds = np.exp(TABLE[STEPS])
    assert (drawn.sum(axis=1) == 1).all() and frequencies_fit(drawn, odds / odds.sum())
    best = decisions(replace(policy, policy_temperature=0.0))
    limit = decisions(replace(policy, policy_temperature=1e-3))
    assert (best == (np.arange(LENGTH) == TABLE[STEPS].argmax())).all() and (limit == best).all()
    assert decisions(policy, block_step=STEPS - 1).all()


def test_a_sweep_over_knobs_equals_single_runs():
    policies = [
        replace(plain_policy(TABLE, policy_temperature=temperature, scale=scale), steps=4)
        for temperature, scale in ((0.0, 1.0), (0.7, 1.0), (1.0, 0.4))
    ]
    world = {"denoise": Tabular(jnp.float32(WORLD.logits)), "config": BLOCKS}
    swept = sweep(*rows(), policies=stack(policies), **world)
    for i, policy in enumerate(policies):
        single = run(policy, BLOCKS)
        np.testing.assert_array_equal(swept.canvas[i], single.canvas)
        np.testing.assert_array_equal(swept.revealed_at[i], single.revealed_at)
    assert len({np.asarray(x).tobytes() for x in swept.revealed_at}) == 3


def test_other_parameters_and_knobs_do_not_compile_again(fresh):
    network, params = fresh
    first = LearnedPolicy(network, params, STEPS, policy_temperature=1.0, fallback="spend")
    start = decisions(first)
    traces = len(TRACES)
    other = replace(first, params=shaken(params))
    assert (decisions(other) != start).any()
    decisions(replace(other, steps=2, scale=0.5, policy_temperature=0.0))
    assert len(TRACES) == traces
    decisions(plain_policy(TABLE), count=3)
    assert len(TRACES) == traces + 1


def test_a_static_start_follows_its_order():
    order = np.array([1, 0, 2, 1])
    params = start_table(
        {"table": jnp.zeros((STEPS + 1, LENGTH))}, jnp.asarray([order]), jnp.ones(1), 30.0
    )
    assert set(np.abs(params["table"]).ravel().tolist()) == {30.0}
    for temperature in (0.0, 1.0):
        policy = plain_policy(params["table"], policy_temperature=temperature, fallback="spend")
        rollout = run(policy)
        assert (rollout.revealed_at == order).all() and (rollout.nfe == STEPS).all()


@cache
def network_of(**switches):
    """Utilities under a network of its own with these switches alone, as a function of what it sees."""
    every = dict.fromkeys(("confidence", "margin", "entropy", "hidden"), False)
    network = PolicyNetwork(PolicyConfig(width=8, heads=2, **every | switches), LENGTH, STEPS)
    left = jnp.int32(2)
    shapes = jax.eval_shape(
        network.init,
        jax.random.key(0),
        jnp.zeros((LENGTH, 3)),
        EVERYWHERE,
        left,
        jnp.zeros((LENGTH, 2)),
    )
    params = shaken(jax.tree.map(lambda x: jnp.zeros(x.shape), shapes["params"]), 10)
    utilities = jax.jit(partial(network.apply, {"params": params}))
    hidden = np.random.default_rng(11).normal(size=(LENGTH, 2))

    def apply(probs, is_masked=EVERYWHERE, left=2, hidden=hidden):
        logits = jnp.log(jnp.float32(np.broadcast_to(probs, (LENGTH, 3))))
        return np.asarray(utilities(logits, is_masked, jnp.int32(left), jnp.float32(hidden)))

    return apply


EVEN = np.array([0.5, 0.3, 0.2])
OTHERS = {  # distributions with the same ...
    "confidence": np.array([0.5, 0.4, 0.1]),
    "margin": np.array([0.6, 0.4, 1e-9]),
    "entropy": None,
}
_y = brentq(lambda y: entr([1 - 2 * y, y, y]).sum() - entr(EVEN).sum(), 0.05, 0.32)
OTHERS["entropy"] = np.array([1 - 2 * _y, _y, _y])


@pytest.mark.parametrize("switch", OTHERS)
def test_each_feature_switch_adds_its_feature_only(switch):
    apply = network_of(**{switch: True})
    reference = apply(EVEN)
    for name, probs in OTHERS.items():
        moved = np.abs(apply(probs) - reference).max()
        assert moved < 1e-4 if name == switch else moved > 1e-3, (name, moved)
    some = EVERYWHERE.at[1].set(False)
    only_there = np.tile(EVEN, (LENGTH, 1))
    only_there[1] = [0.98, 0.01, 0.01]  # of no interest: it is shown already
    np.testing.assert_array_equal(apply(only_there, some), apply(EVEN, some))
    assert np.abs(apply(only_there) - reference).max() > 1e-3


def test_hidden_states_are_features_if_switched_on():
    apply = network_of(hidden=True)
    assert np.abs(apply(EVEN, hidden=np.eye(LENGTH, 2)) - apply(EVEN)).max() > 1e-3
    np.testing.assert_array_equal(apply(OTHERS["margin"]), apply(EVEN))
    for hidden in (False, True):
        network = PolicyNetwork(replace(SMALL, hidden=hidden), LENGTH, STEPS)
        assert LearnedPolicy(network, {}, STEPS).wants_hidden is hidden


def test_positions_steps_left_and_the_mask_are_always_features():
    apply = network_of(margin=True)
    assert len(np.unique(apply(EVEN))) == LENGTH
    assert np.abs(apply(EVEN, left=3) - apply(EVEN)).max() > 1e-3
    np.testing.assert_array_equal(apply(EVEN, left=9), apply(EVEN, left=STEPS))
    assert np.abs(apply(EVEN, EVERYWHERE.at[1].set(False)) - apply(EVEN)).max() > 1e-3
    np.testing.assert_array_equal(apply(EVEN, hidden=np.eye(LENGTH, 2)), apply(EVEN))


def test_labels_tell_policies_apart_and_stay_short(fresh):
    network, params = fresh
    first = LearnedPolicy(network, params, STEPS)
    others = [
        replace(first, params=shaken(params)),
        replace(first, params=shaken(params, 6)),
        replace(first, steps=5),
        replace(first, policy_temperature=1.0),
        replace(first, scale=0.5),
        replace(first, fallback="spend"),
    ]
    labels = [label_of("LearnedPolicy", describe_policy(one)) for one in (first, *others)]
    assert len(set(labels)) == len(labels) and max(map(len, labels)) < 160
    assert labels[0].startswith("LearnedPolicy ") and "\n" not in "".join(labels)
    again = replace(first, params=jax.tree.map(jnp.copy, params))
    shown = describe_policy(first)
    assert describe_policy(again) == shown
    assert shown["steps"] == STEPS and shown["fallback"] == "best" and len(shown["weights"]) == 8
    assert {"params", "network", "family"}.isdisjoint(shown)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"policy_temperature": -0.1}, "policy_temperature must be at least 0"),
        ({"scale": -1.0}, "scale must be at least 0"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(plain_policy(TABLE), **wrong)


def test_an_unknown_fallback_is_refused():
    with pytest.raises((ValueError, TypeError), match="retry"):
        plain_policy(TABLE, fallback="retry")
