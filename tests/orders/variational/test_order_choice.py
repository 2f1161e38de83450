"""Static orders that prompts choose: a world in which no single order serves all prompts.

Four bits are two pairs of copies. A flag says which positions form pairs, and the number of values of a
fifth position tells which flag it is. In two calls, one of each pair has to come first.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.demonstrations import demonstrate, without_gaps
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.loss import OrderParts, init_order, scores_of
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.orders.variational.order_choice import (
    ChoiceConfig,
    ImitationConfig,
    OrderChoice,
    choice_loss,
    follow,
)
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.orders.variational.start import InitConfig, start_at
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.training.order_choice import fit_choice
from mdm_jax.training.order_imitation import fit_policy, fit_scores

PAIRS = ([(1, 2), (3, 4)], [(1, 3), (2, 4)], [(1, 4), (2, 3)])  # by the flag
MASK, PAD, LENGTH = 3, 4, 6
# each order is right for two flags and wrong for the other
ORDERS = jnp.asarray([[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 1, 0], [0, 0, 1, 1, 0, 0]])
RIGHT = np.array([[False, True, True], [True, False, True], [True, True, False]])  # [flag, order]


def rows():
    """All sequences, and the probability of each: flags are equally frequent."""
    found, probs = [], []
    for flag, pairs in enumerate(PAIRS):
        for bits in itertools.product(range(2), repeat=2):
            for last in range(flag + 1):
                tokens = np.zeros(LENGTH, int)
                tokens[0], tokens[5] = flag, last
                for pair, bit in zip(pairs, bits, strict=True):
                    tokens[list(pair)] = bit
                found.append(tokens)
                probs.append(1 / (3 * 4 * (flag + 1)))
    return np.array(found), np.array(probs)


TABLE, PROBS = rows()
MODEL = OrderModel(MaxNormalised(), 2, MASK, PAD)


@pytest.fixture(scope="module")
def oracle():
    return oracle_of(TABLE, 3, MASK, PROBS)


@pytest.fixture(scope="module")
def sequences():
    drawn = np.random.default_rng(0).choice(len(TABLE), 512, p=PROBS)
    maskable = np.tile(np.arange(LENGTH) > 0, (512, 1))
    return Sequence(jnp.asarray(TABLE[drawn]), jnp.asarray(maskable))


@pytest.fixture(scope="module")
def followed(oracle, sequences):
    return follow(jax.random.key(0), ORDERS, sequences, oracle, MODEL, 3.0)


def test_orders_are_worth_their_success_rates(sequences, followed):
    """A wrong order draws both of two pairs of copies together: a quarter of its draws are sequences."""
    flags = np.asarray(sequences.tokens[:, 0])
    np.testing.assert_allclose(followed.worth, np.where(RIGHT[flags], 1.0, 0.25), rtol=1e-4)


def test_the_gradient_of_the_choice_is_that_of_the_expected_worth():
    rng = np.random.default_rng(1)
    logits, worth = rng.normal(size=(4, 3)), rng.uniform(size=(4, 3))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = (probs * worth).sum(axis=1, keepdims=True)
    logits, worth = (jnp.asarray(x, jnp.float32) for x in (logits, worth))
    found = jax.grad(choice_loss)(logits, worth, 0.0, 0.0)
    np.testing.assert_allclose(found, -probs * (np.asarray(worth) - mean) / 4, atol=1e-6)
    entropy, shares = -(probs * np.log(probs)).sum(axis=1).mean(), probs.mean(axis=0)
    diversity = -(shares * np.log(shares)).sum()
    expected = -(probs * np.asarray(worth)).sum(axis=1).mean() - 0.3 * entropy + 0.2 * diversity
    np.testing.assert_allclose(choice_loss(logits, worth, 0.3, 0.2), expected, rtol=1e-5)


def test_steps_at_which_the_prompt_leaves_nothing_are_left_out():
    order, maskable = jnp.asarray([0, 2, 1, 3, 2]), jnp.asarray([False, True, False, True, True])
    assert without_gaps(order, maskable, 4)[maskable].tolist() == [0, 1, 0]


def test_every_prompt_gets_an_order_that_serves_it(oracle, sequences, followed):
    config = ChoiceConfig(width=16, updates=128, batch_size=64, learning_rate=1e-2)
    choice = OrderChoice(config.width, 3)
    fitted = fit_choice(jax.random.key(1), followed, choice, config)
    assert fitted.worth > 0.999 and fitted.best_single < 0.85
    assert 2 <= (np.asarray(fitted.shares) > 0.1).sum() <= 3

    scorer = Scorer(ScorerConfig(width=8, depth=1, heads=2), MASK, LENGTH, 3)
    network = PolicyNetwork(PolicyConfig(width=16, heads=2, depth=0, canvas=32), LENGTH, 2)
    parts = OrderParts(MODEL, scorer, network, choice)
    params = init_order(parts, jax.random.key(2), LENGTH, MASK)
    start = InitConfig(search=SearchConfig(chains=3), by_prompt=True)
    params = start_at(params, ORDERS, fitted.shares, start, 0.1) | {"choice": fitted.params}

    flags = np.asarray(sequences.tokens[:, 0])
    one_of_each = jax.tree.map(lambda x: x[np.unique(flags, return_index=True)[1]], sequences)
    read = jax.jit(jax.vmap(partial(scores_of, params, parts=parts, denoise=oracle)))
    scores = read(one_of_each)
    chosen = [ORDERS.tolist().index((p < p[0]).astype(int).tolist()) for p in scores.priority]
    assert all(RIGHT[flag, order] for flag, order in enumerate(chosen))

    orders = ORDERS[np.array(chosen)[flags]]
    shown = jax.jit(lambda orders: demonstrate(orders, sequences, oracle, parts))(orders)
    shown = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), shown)
    imitation = ImitationConfig(updates=128, batch_size=64, learning_rate=1e-2)
    policy, loss = fit_policy(jax.random.key(3), params["policy"], shown, parts, imitation)
    assert loss < 0.05
    canvases = jnp.where(sequences.maskable, MASK, sequences.tokens)
    rollout = sample(
        jax.random.split(jax.random.key(4), len(flags)),
        canvases,
        denoise=oracle,
        policy=LearnedPolicy(network, policy, 2, 0.0),
        config=SamplerConfig(MASK, PAD, 2, temperature=1.0),
    )
    valid = {tuple(row) for row in TABLE.tolist()}
    assert all(tuple(row) in valid for row in np.asarray(rollout.canvas).tolist())


def test_the_posterior_learns_the_order_of_each_sequence(oracle, sequences):
    scorer = Scorer(ScorerConfig(width=16, depth=1, heads=2), MASK, LENGTH)
    network = PolicyNetwork(PolicyConfig(width=8, heads=2, depth=0), LENGTH, 2)
    parts = OrderParts(MODEL, scorer, network)
    params = init_order(parts, jax.random.key(0), LENGTH, MASK)["posterior"]
    orders = ORDERS[sequences.tokens[:, 0]]
    config = ImitationConfig(updates=200, batch_size=64, learning_rate=1e-2)
    params, error = fit_scores(jax.random.key(1), params, orders, sequences, parts, config, 0.25)
    assert error < 0.1  # steps
    whole = {"posterior": params}
    scores = jax.jit(jax.vmap(lambda one: scores_of(whole, one, parts, oracle)))(sequences)
    later = scores.priority < jnp.mean(scores.priority[:, 1:], axis=1, keepdims=True)
    np.testing.assert_array_equal(later[:, 1:], orders[:, 1:] == 1)
