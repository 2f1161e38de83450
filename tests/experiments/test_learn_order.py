"""A policy with a price is learned, compared with all heuristics, drawn, and used in evaluations."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import ADAPTIVE, LEARN

from experiments import learn_order, learn_variational_order, table_learned_orders
from mdm_jax.errors import MdmError
from mdm_jax.evals import exact_limit, price_frontier, static_order_limit
from mdm_jax.evals.sweeps import Sweep, all_prices
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.base import stack
from mdm_jax.runs import adaptive
from mdm_jax.runs.policies import load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.tasks.markov_chain import MarkovChain
from mdm_jax.tasks.sudoku import Sudoku
from mdm_jax.training import loop

TINY = replace(ADAPTIVE, oracle=True)
NO_HEURISTICS = {"steps": (), "thresholds": (), "factors": (), "gammas": (), "scales": (1.0,)}
TINY_SEARCH = SearchConfig(proposals=4, chains=1, sequences=2, validation_sequences=4)


@pytest.fixture(scope="module", autouse=True)
def few_baselines():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(price_frontier, "GAMMAS", (0.1, 3.0))
        patch.setattr(price_frontier, "THRESHOLDS", (0.3, 0.9))
        patch.setattr(price_frontier, "FACTORS", (0.3, 2.0))
        patch.setattr(price_frontier, "SCHEDULED", price_frontier.SCHEDULED[:1])
        patch.setattr(table_learned_orders, "all_families", price_frontier.baseline_families)
        patch.setattr(static_order_limit, "LISTED", TINY_SEARCH)
        patch.setattr(adaptive, "KNOBS", 6)
        patch.setattr(adaptive, "HELD_OUT_ROWS", 8)
        few_states = exact_limit.graph_of(Sudoku(min_clues=4))
        patch.setattr(exact_limit, "graph_of", lambda task: few_states)
        yield


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The settings, with their directory, and the frontiers."""
    directory = tmp_path_factory.mktemp("orders") / "adaptive"
    config = replace(TINY, run_dir=str(directory))
    with jax.debug_key_reuse(True):
        return config, learn_order.run(config)


def test_it_writes_what_it_says(learned):
    config, found = learned
    directory = Path(config.run_dir)
    for name in ("learning.png", "frontier.png", "order_map.png"):
        assert (directory / name).read_bytes()[:4] == b"\x89PNG"
    metrics = [json.loads(line) for line in (directory / "metrics.jsonl").open()]
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert [row["step"] for row in metrics if "heldout_score" in row] == [2, 4]
    table = json.loads((directory / "table.json").read_text())
    assert (
        len(table) == len(found.rows) == price_frontier.PRICES + 2 * 3 + len(price_frontier.STEPS)
    )
    prices = [row["settings"]["price"] for row in table[: price_frontier.PRICES]]
    np.testing.assert_allclose(prices, np.geomspace(0.01, 4.0, price_frontier.PRICES), rtol=1e-3)


def test_baselines_beside_it_take_no_more_calls(learned):
    for row, other in price_frontier.against_best(learned[1]):
        if other is not None:
            assert other.row.nfe <= row.nfe
            np.testing.assert_allclose(other.gain, row.accuracy - other.row.accuracy, atol=0.01)


def test_the_policy_is_found_by_its_run(learned):
    config, _ = learned
    policy = load_policy(config.run_dir, config.task)
    assert isinstance(policy, AdaptivePolicy)
    spec = Learned(price=0.5, steps=3)
    loaded = spec.load(config.run_dir, config.task.oracle(), config.task)
    assert (loaded.price, loaded.steps) == (0.5, 3)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, policy.params)
    with pytest.raises(MdmError, match="change its price"):
        Learned(scale=2.0).load(config.run_dir, config.task.oracle(), config.task)


def test_a_price_is_found_for_a_wanted_cost(learned):
    config, _ = learned
    task, oracle = config.task, config.task.oracle()
    least, _ = config.replay.prices
    found = Learned(calls=float(config.budget)).load(config.run_dir, oracle, task)
    np.testing.assert_allclose(found.price, least, rtol=1e-6)  # the budget is never passed
    with pytest.raises(MdmError, match="calls or more"):
        Learned(calls=1.0).load(config.run_dir, oracle, task)
    with pytest.raises(MdmError, match="give one of"):
        Learned(calls=3.0, price=0.5)


def test_prices_that_it_has_not_learned_at_are_refused(learned):
    config, _ = learned
    task, oracle = config.task, config.task.oracle()
    refused = r"learns at prices from 0\.01 to 4, not at 0\.001"
    with pytest.raises(MdmError, match=refused):
        Learned(price=0.001).load(config.run_dir, oracle, task)
    sweep = Sweep(**NO_HEURISTICS, learned=(config.run_dir,), prices=(0.1, 0.001))
    with pytest.raises(MdmError, match=refused):
        list(sweep.policies(config.run_dir, oracle, task))
    assert Learned(price=4.0).load(config.run_dir, oracle, task).price == 4.0


def test_all_of_its_prices_are_one_sweep(learned):
    config, _ = learned
    for prices, count in ((None, 25), ((0.1, 1.0), 2)):
        sweep = Sweep(**NO_HEURISTICS, learned=(config.run_dir,), prices=prices)
        ((name, family),) = sweep.policies(config.run_dir, config.task.oracle(), config.task)
        assert name == "AdaptivePolicy, adaptive" and len(family) == count
        assert {policy.policy_temperature for policy in family} == {0.0}
    ends = [all_prices(config.run_dir)[i] for i in (0, -1)]
    np.testing.assert_allclose(ends, config.replay.prices, rtol=1e-3)


def test_a_stopped_run_ends_like_one_that_was_not(learned, tmp_path, monkeypatch):
    real = loop.save

    def stopped(manager, state):
        real(manager, state)
        manager.wait_until_finished()
        raise KeyboardInterrupt

    config = replace(learned[0], run_dir=str(tmp_path / "adaptive"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", stopped)
        learn_order.learn(config)
    policy, _ = learn_order.learn(config)
    whole = Path(learned[0].run_dir) / "metrics.jsonl"
    assert (tmp_path / "adaptive" / "metrics.jsonl").read_text() == whole.read_text()
    theirs = load_policy(learned[0].run_dir, config.task)
    jax.tree.map(np.testing.assert_array_equal, policy.params, theirs.params)


def test_the_table_learns_every_seed(learned, tmp_path, capsys):
    tables = table_learned_orders.run(
        table_learned_orders.Config(
            only="sudoku",
            learn=TINY,
            seeds=(0, 1),
            calls=(7.3,),
            examples=8,
            run_dir=str(tmp_path),
            budgets=(2,),
            searched=PromptSearch(prompts=3, together=2, search=TINY_SEARCH),
        )
    )
    ((row,),) = tables.values()
    assert len(row.learned) == 2
    kept = json.loads((tmp_path / "sudoku" / "table.json").read_text())
    assert [len(seed) for seed in kept["seeds"]] == [price_frontier.PRICES] * 2
    assert (tmp_path / "sudoku" / "frontier.png").is_file()
    accuracy = [row["accuracy"] for row in kept["seeds"][0]]
    assert accuracy == [one.row.accuracy for one in learned[1].learned]  # as that run alone
    fixed = [(row["policy"], row["total"]) for row in kept["others"][-2:]]
    assert fixed == [("BestStaticOrder", 4), ("OrderOfEachPrompt", 3)]
    np.testing.assert_allclose(kept["limits"], 1.0, rtol=1e-6)
    assert "sudoku: 2 seeds, 8 prompts" in capsys.readouterr().out


def test_runs_take_the_place_of_training(learned, tmp_path):
    table = table_learned_orders.Config(
        only="sudoku",
        learn=TINY,
        runs=(learned[0].run_dir,),
        calls=(7.3,),
        examples=8,
        run_dir=str(tmp_path),
    )
    ((row,),) = table_learned_orders.run(table).values()
    assert row.learned == (price_frontier.accuracy_at(learned[1].learned, 7.3),)
    with pytest.raises(MdmError, match="give --only as well"):
        replace(table, only=None)


def test_where_all_heuristics_are_compared_each_has_25_settings():
    families = price_frontier.families_for(30, 4)
    assert {len(family) for family in families} == {25}
    assert all(len(jax.tree.leaves(stack(family))[0]) == len(family) for family in families)


def test_a_replay_that_is_no_multiple_is_refused():
    with pytest.raises(MdmError, match="no multiple of batch_size 8"):
        replace(TINY, replay=replace(TINY.replay, capacity=12))


def test_a_variational_order_starts_at_a_policy_that_keeps_within_its_budget(tmp_path):
    run = str(tmp_path / "three-calls")
    within = replace(TINY, budget=3, within_budget=True, steps=2, run_dir=run)
    learn_order.learn(within)
    policy = load_policy(run, within.task)
    assert policy.steps == 3
    config = replace(
        LEARN,
        oracle=True,
        start=replace(LEARN.start, policy=run),
        steps=2,
        run_dir=str(tmp_path / "order"),
    )
    learned = learn_variational_order.learn(config)
    assert "choice" not in learned.params and learned.policy.steps == 3
    again = learn_variational_order.learn(config)  # finished: read, not learned again
    jax.tree.map(np.testing.assert_array_equal, again.params, learned.params)
    with pytest.raises(MdmError, match="no run of learn_order for markov_chain"):
        learn_variational_order.learn(
            replace(config, task=MarkovChain(), run_dir=str(tmp_path / "no"))
        )
