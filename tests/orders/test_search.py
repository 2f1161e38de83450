"""Static orders: their bound, their success rate, and the search among them."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from order_world import ALL, EOS, LENGTH, MASK, PAD, STEPS, Tabular, close, random_world, token_logs

from mdm_jax.denoisers.oracle import oracle_of
from mdm_jax.orders.search import (
    SearchConfig,
    SearchData,
    anneal,
    best_order,
    objective_of,
    propose_move,
    search_objective,
    start_chain,
)
from mdm_jax.orders.static import (
    DenoiserCosts,
    exact_nll,
    failure,
    order_nlls,
    sequential_nll,
    step_nll,
    success_ratios,
)
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence

WORLD = random_world(1)
DENOISE = Tabular(jnp.float32(WORLD.logits))
MODEL = OrderModel(MaxNormalised(), STEPS, MASK, PAD, eos_id=EOS)
# of the small distribution that success is counted on: every other one of the 16 rows of bits
TABLE = np.array(list(itertools.product(range(2), repeat=LENGTH)))[[0, 3, 5, 6, 9, 10, 11, 15]]
BATCHES = {  # clean tokens and what of them is generated
    "whole": (TABLE, np.ones(TABLE.shape, bool)),
    "prompts": (TABLE, np.ones(TABLE.shape, bool) & (np.arange(LENGTH) != 1)),
    "ends": (
        np.array([[0, 1, EOS, EOS], [1, EOS, EOS, EOS], [0, 1, 0, 1], [EOS, 1, EOS, EOS]] * 2),
        np.array([ALL, ALL, ALL, [False, True, True, True]] * 2),
    ),
}


def batch(name):
    return Sequence(*map(jnp.asarray, BATCHES[name]))


def nll_by_hand(order, tokens, maskable, logs_at):
    """Step by step: reveal what the order says, close what an EOS ends."""
    shown, total = ~maskable, 0.0
    for step in range(order.max() + 1):
        masked = maskable & ~shown
        reveal = masked & (order == step)
        total -= logs_at(tokens, masked)[reveal].sum()
        shown = ~close(masked & ~reveal, maskable, tokens == EOS)
    return total


def conditionals(tokens, masked):
    """log p(token | what is shown) of every position, by counting rows of TABLE."""
    rows = TABLE[(tokens == TABLE)[:, ~masked].all(axis=1)]
    with np.errstate(divide="ignore"):
        return np.log((rows == tokens).mean(axis=0))


@pytest.mark.parametrize("name", BATCHES)
def test_the_cost_of_an_order_is_that_of_its_steps(name):
    orders = np.random.default_rng(2).integers(0, STEPS, (6, LENGTH))
    got = order_nlls(jnp.asarray(orders), batch(name), DenoiserCosts(DENOISE, MODEL)).mean(axis=1)
    np.testing.assert_allclose(got, [mean_by_hand(order, name) for order in orders], rtol=2e-5)


def mean_by_hand(order, name):
    rows = zip(*BATCHES[name], strict=True)
    return np.mean([nll_by_hand(order, *row, partial(token_logs, WORLD)) for row in rows])


def test_sequential_decoding_stands_in_for_exact_conditionals():
    """With exact conditionals one position at a time costs exactly -log p, whatever the order; a
    denoiser whose orders differ is as good as their mean probability.
    """
    oracle, sequences = oracle_of(TABLE, 2, MASK), batch("prompts")
    slow = sequential_nll(jax.random.key(0), sequences, oracle, MODEL)
    np.testing.assert_allclose(slow, exact_nll(sequences, oracle), atol=1e-5)
    sequences, model = batch("whole"), replace(MODEL, budget=LENGTH)
    got = sequential_nll(jax.random.key(1), sequences, DENOISE, MODEL, orders=3)
    for index, nll in enumerate(got):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), index), 3)
        one = jax.tree.map(lambda x: x[index : index + 1], sequences)  # noqa: B023
        orders = jnp.stack([jax.random.permutation(key, LENGTH) for key in keys])
        alone = np.exp(-np.asarray(order_nlls(orders, one, DenoiserCosts(DENOISE, model))))
        np.testing.assert_allclose(nll, -np.log(alone.mean()), rtol=1e-5)


@pytest.mark.parametrize("name", ["whole", "prompts"])
def test_success_is_the_mass_that_stays_in_the_distribution(name):
    oracle, sequences = oracle_of(TABLE, 2, MASK), batch(name)
    rates = jax.jit(lambda order: success_ratios(order, sequences, oracle, MODEL).mean())
    seen = []
    for order in np.random.default_rng(3).integers(0, STEPS, (5, LENGTH)):
        mass = []
        for prompt, maskable in zip(*BATCHES[name], strict=True):
            fits = (prompt == TABLE)[:, ~maskable].all(axis=1)
            nll = [nll_by_hand(order, x, maskable, conditionals) for x in TABLE[fits]]
            mass.append(np.exp(-np.array(nll)).sum())
        seen.append(np.mean(mass))
        np.testing.assert_allclose(rates(jnp.asarray(order)), seen[-1], rtol=1e-5)
    assert np.ptp(seen) > 0.02


def test_exact_nll_and_failure_by_hand():
    oracle = oracle_of(TABLE, 2, MASK)
    got = exact_nll(batch("prompts"), oracle)
    maskable = BATCHES["prompts"][1]
    same = [(x == TABLE)[:, ~m].all(axis=1).sum() for x, m in zip(TABLE, maskable, strict=True)]
    np.testing.assert_allclose(got, np.log(same), rtol=1e-5, atol=1e-6)
    lost = failure(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0 + np.log(2)]))
    np.testing.assert_allclose(lost, -np.log(0.75), rtol=1e-5)


def test_orders_are_compared_by_success_or_by_the_bound():
    """A sequence that an order all but excludes counts for much in the mean, once in the success."""
    nll = jnp.array([[3.0, 3.0], [1.0, 5.5]])
    objectives = search_objective(jnp.array([1.0, 1.0])), search_objective(None)
    assert [int(jax.vmap(objective)(nll).argmin()) for objective in objectives] == [1, 0]


def test_the_best_order_is_chosen_on_validation_sequences():
    """By the objective, which need not agree with the bound; both are kept for every chain."""
    oracle, sequences = oracle_of(TABLE, 2, MASK), batch("whole")
    orders = jnp.asarray(np.random.default_rng(5).integers(0, STEPS, (6, LENGTH)))
    exact = exact_nll(sequences, oracle)
    bounds = np.asarray(order_nlls(orders, sequences, DenoiserCosts(oracle, MODEL)))
    losses = -np.log(np.exp(np.asarray(exact) - bounds).mean(axis=1))
    found = best_order(orders, SearchData(sequences, exact), DenoiserCosts(oracle, MODEL))
    assert found.order.tolist() == np.asarray(orders)[losses.argmin()].tolist()
    np.testing.assert_allclose(found.costs_of_chains, losses, rtol=1e-5)
    np.testing.assert_allclose(found.nll_of_chains, bounds.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.nll, bounds.mean(axis=1)[losses.argmin()], rtol=1e-5)


def cost_of(order, step, budget):
    model = OrderModel(MaxNormalised(), budget, MASK, PAD)
    return jax.vmap(lambda s: step_nll(order, step, s, DENOISE, model))(batch("whole"))


@partial(jax.jit, static_argnames=("budget", "objective"))
def begin(key, budget, objective):
    return start_chain(key, LENGTH, budget, partial(cost_of, budget=budget), objective)


@partial(jax.jit, static_argnames="objective")
def continue_chain(key, found, temperatures, first, objective):
    """Anneals, then computes the costs of the last and the best order afresh."""
    budget = found.costs.shape[1]
    end = anneal(key, found, partial(cost_of, budget=budget), temperatures, first, objective)
    each_step = jax.vmap(partial(cost_of, budget=budget), in_axes=(None, 0), out_axes=1)
    fresh, of_best = (each_step(x, jnp.arange(budget)) for x in (end.order, end.best))
    return end, fresh, objective_of(end.best, of_best, objective)


def largest(nll):
    return jnp.max(nll)


@pytest.mark.parametrize("budget, objective", [(STEPS, jnp.mean), (7, largest)])
def test_costs_kept_along_a_chain_equal_costs_computed_afresh(budget, objective):
    """Also where orders leave steps empty, as they must with more steps than positions."""
    temperatures = jnp.asarray(
        SearchConfig(proposals=60, start_temperature=3.0, end_temperature=1.0).temperatures(0, 60)
    )
    moved = 0
    for seed in range(10):
        k_start, k_moves = jax.random.split(jax.random.key(seed))
        start = begin(k_start, budget, objective)
        end, fresh, best = continue_chain(k_moves, start, temperatures, jnp.asarray(0), objective)
        np.testing.assert_allclose(end.costs, fresh, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(end.best_cost, best, rtol=1e-5)
        assert end.best_cost <= start.best_cost
        assert ((end.order >= 0) & (end.order < budget)).all()
        moved += np.sum(start.order != end.order)
    assert moved > 10


def test_the_search_finds_the_best_of_all_orders():
    config = SearchConfig(proposals=240)
    orders = np.array(list(itertools.product(range(STEPS), repeat=LENGTH)))
    costs = [mean_by_hand(order, "whole") for order in orders]
    ends, pieces = (
        [],
        [(first, jnp.asarray(config.temperatures(first, 60))) for first in (0, 60, 120, 180)],
    )
    for seed in range(3):
        k_start, k_moves = jax.random.split(jax.random.key(seed))
        found = begin(k_start, STEPS, jnp.mean)
        for first, temperatures in pieces:
            key = jax.random.clone(k_moves)  # the proposals of each piece have their own numbers
            found = continue_chain(key, found, temperatures, jnp.asarray(first), jnp.mean)[0]
        ends.append(found)
    best = min(ends, key=lambda search: search.best_cost)
    np.testing.assert_allclose(best.best_cost, min(costs), rtol=1e-5)
    assert best.best.tolist() == orders[np.argmin(costs)].tolist()


def test_a_move_changes_the_context_of_one_step_only():
    moves = jax.jit(jax.vmap(partial(propose_move, budget=6), in_axes=(0, None)))
    for order in ([0, 0, 3, 5], [2, 2, 2, 2], [0, 1, 1, 4]):
        keys = jax.random.split(jax.random.key(7), 300)
        after, steps = map(np.asarray, moves(keys, jnp.asarray(order)))
        same = (after[:, None] >= np.arange(6)[:, None]) == (order >= np.arange(6)[:, None])
        kept = same.all(axis=-1)  # [move, step]: what is masked when the step begins
        kept[np.arange(300), steps] = True
        assert kept.all() and len(np.unique(after, axis=0)) > 3


def test_a_budget_of_one_has_one_order():
    flat = lambda order, step: jnp.ones((1, LENGTH))  # noqa: E731
    start = start_chain(jax.random.key(0), LENGTH, 1, flat)
    end = anneal(jax.random.key(1), start, flat, jnp.ones(9), jnp.asarray(0))
    assert end.best.tolist() == end.order.tolist() == [0] * LENGTH
    assert end.best_cost == LENGTH


def test_temperatures_fall_geometrically_whatever_the_pieces():
    config = SearchConfig(proposals=10, start_temperature=0.5, end_temperature=0.05)
    temperatures = config.temperatures(0, 10)
    assert temperatures[0] == np.float32(0.5)
    np.testing.assert_allclose(temperatures[1:] / temperatures[:-1], 0.1**0.1, rtol=1e-5)
    pieces = np.concatenate([config.temperatures(0, 4), config.temperatures(4, 6)])
    np.testing.assert_array_equal(pieces, temperatures)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"proposals": -1}, "proposals must be at least 0, got -1"),
        ({"chains": 0}, "chains must be at least 1, got 0"),
        ({"sequences": 0}, "sequences must be at least 1, got 0"),
        ({"validation_sequences": 0}, "validation_sequences must be at least 1, got 0"),
        ({"start_temperature": 0.001}, "start_temperature must be at least 0.003"),
        ({"end_temperature": 0.0}, "end_temperature must be above 0"),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        SearchConfig(**wrong)
