"""Static orders of listed distributions: costs that are looked up, the searches, and the exact limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.limits import best_success, state_graph
from mdm_jax.orders.listed import (
    ListedCosts,
    ListedSequence,
    exact_log_prob,
    listed_sequences,
    log_marginals,
)
from mdm_jax.orders.prompt_search import search_prompts
from mdm_jax.orders.search import SearchConfig, SearchData, search_orders
from mdm_jax.orders.static import DenoiserCosts, exact_nll, order_nlls
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.tasks.sudoku.task import all_grids

TABLE = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1], [2, 0, 1]])
PROBS = np.array([0.3, 0.2, 0.1, 0.15, 0.25])


@pytest.fixture(scope="module")
def marginals():
    return log_marginals(all_grids())


def test_looked_up_costs_are_those_of_the_oracle():
    rng = np.random.default_rng(0)
    tokens, maskable = TABLE[rng.integers(5, size=20)], rng.random((20, 3)) < 0.8
    oracle, table = oracle_of(TABLE, 3, 3, PROBS), log_marginals(TABLE, PROBS)
    clean = Sequence(jnp.asarray(tokens), jnp.asarray(maskable))
    listed = listed_sequences(TABLE, tokens, maskable)
    np.testing.assert_allclose(-exact_log_prob(table, listed), exact_nll(clean, oracle), atol=2e-6)
    orders = jnp.asarray(rng.integers(3, size=(4, 3)))
    called = DenoiserCosts(oracle, OrderModel(MaxNormalised(), 3, 3, 4))
    np.testing.assert_allclose(
        order_nlls(orders, listed, ListedCosts(jnp.asarray(table), 3)),
        order_nlls(orders, clean, called),
        atol=2e-6,
    )
    with pytest.raises(ValueError, match="not among the listed"):
        listed_sequences(TABLE, np.array([[2, 2, 2]]), np.ones((1, 3), bool))


def test_the_search_finds_what_static_orders_can_do_on_an_empty_grid(marginals):
    """75 % in three calls, all grids in four: those whose first box is 1, 2, 3, 4 stand for all."""
    rows = np.flatnonzero((all_grids()[:, [0, 1, 4, 5]] == np.arange(4)).all(axis=1))
    clean = ListedSequence(jnp.asarray(rows), jnp.ones((len(rows), 16), bool))
    data = SearchData(clean, jnp.full(len(rows), jnp.log(288.0)))
    config = SearchConfig(proposals=1500, chains=8, end_temperature=0.002)
    for budget, wanted in ((3, 0.75), (4, 1.0)):
        costs = ListedCosts(jnp.asarray(marginals), budget)
        falling, orders = searched(data, costs, config)
        rates = 288 * jnp.exp(-order_nlls(orders, clean, costs)).mean(axis=1)
        np.testing.assert_allclose(rates.max(), wanted, rtol=1e-4)
        assert len(falling) == 20 and falling == sorted(falling, reverse=True)


def searched(data, costs, config):
    """What the search says on its way, and its orders."""
    told = []
    orders = search_orders(jax.random.key(0), data, costs, config, lambda *one: told.append(one))
    assert sum(count for count, _ in told) == config.proposals
    return [best for _, best in told], orders


def prompts_with(counts, seed):
    """Clues of random grids, the rows that fit, and what is masked."""
    rng, grids = np.random.default_rng(seed), all_grids()
    for count in counts:
        shown = np.isin(np.arange(16), rng.permutation(16)[:count])
        tokens = grids[rng.integers(288)]
        yield np.flatnonzero((grids == tokens)[:, shown].all(axis=1)), ~shown


def test_orders_searched_for_each_prompt_reach_the_exact_limit(marginals):
    """In two calls nothing is learned before the last one, so the best policy is an order."""
    prompts = list(prompts_with((2, 3, 3, 4), seed=2))
    most = max(len(rows) for rows, _ in prompts)
    rows = np.stack([np.resize(rows, most) for rows, _ in prompts])
    maskable = np.stack([np.tile(masked, (most, 1)) for _, masked in prompts])
    real = np.arange(most) < np.array([[len(rows)] for rows, _ in prompts])
    exact = np.where(real, np.log([[len(rows)] for rows, _ in prompts]), -np.inf)
    clean = ListedSequence(jnp.asarray(rows), jnp.asarray(maskable))
    data = SearchData(clean, jnp.asarray(exact, jnp.float32))
    costs = ListedCosts(jnp.asarray(marginals), 2)
    config = SearchConfig(proposals=800, chains=8, end_temperature=0.001)
    keys = jax.random.split(jax.random.key(0), len(prompts))
    found = search_prompts(keys, data, costs, config)
    for (rows, masked), order, loss in zip(prompts, *found, strict=True):
        graph = state_graph(all_grids()[rows][:, masked])
        limit = best_success(graph, 2)[-1]
        counted = ListedSequence(jnp.asarray(rows), jnp.asarray(np.tile(masked, (len(rows), 1))))
        reached = np.exp(-order_nlls(order[None], counted, costs)).sum()
        np.testing.assert_allclose(reached, limit, rtol=1e-4)
        np.testing.assert_allclose(np.exp(-loss) * most / len(rows), limit, rtol=1e-4)
