"""An order is learned, compared, drawn, and used wherever a policy is."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import jax
import numpy as np
import pytest
from commands import refused
from tiny_run import POLICIES, REWARDED, contents, tiny

from experiments import (
    evaluate,
    frontier,
    learn_policy,
    learn_variational_order,
    quickstart,
    sample,
)
from mdm_jax.evals.store import SampleStore
from mdm_jax.orders.variational.forms import AnyForm
from mdm_jax.policies.heuristics import EntropyBound
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.runs import policy_specs
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.description import describe, digest, from_json
from mdm_jax.runs.policies import PolicySpec, load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.runs.static_order import StaticStart
from mdm_jax.tasks.chains import Chains
from mdm_jax.training import loop

FIGURES = {"learning.png", "order_map.png", "priorities.png", "steps.png"}
FILES = FIGURES | {
    ".lock",
    "bound.json",
    "checkpoints",
    "comparison",
    "config.json",
    "denoiser",
    "env.json",
    "metrics.jsonl",
    "start.json",
    "table.json",
}


def read_json(path):
    return json.loads(path.read_text())


def same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def timeless(row):
    """A row without how long it took."""
    return replace(row, sequences_per_second=None)


@pytest.fixture
def order(ordered):
    """The directory of the tiny order."""
    return Path(ordered[0].run_dir)


def test_it_writes_what_it_says(ordered, order):
    _, rows = ordered
    assert {path.name for path in order.iterdir()} == FILES
    for name in FIGURES:
        assert (order / name).read_bytes()[:4] == b"\x89PNG"
        assert (order / name).stat().st_size > 10_000
    metrics = [json.loads(line) for line in (order / "metrics.jsonl").open()]
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    for row in metrics:
        assert np.isclose(row["nelbo"], row["token_nll"] + row["kl"])
        assert 1 <= row["steps_used"] <= 3
    assert sorted(path.name for path in (order / "checkpoints").iterdir()) == ["2", "4"]
    bound = read_json(order / "bound.json")
    assert np.isclose(bound["nelbo"], bound["token_nll"] + bound["kl"])
    start = read_json(order / "start.json")
    assert len(start["orders"]) == 2 + 3  # of the search's chains, and of three prompts
    assert start["order"] in start["orders"]
    assert all(len(one) == 13 and set(one) <= {0, 1, 2} for one in start["orders"])
    table = [paired_row._asdict() | {"row": asdict(paired_row.row)} for paired_row in rows]
    assert read_json(order / "table.json") == json.loads(json.dumps(table))


def test_everyone_completes_the_same_prompts(ordered, order):
    ours, *others = [paired_row.row for paired_row in ordered[1]]
    assert ours.policy == "LearnedPolicy" and 1 <= ours.nfe_min <= ours.nfe_max <= 3
    stored = SampleStore(order / "comparison" / "samples.jsonl").read_all()
    assert set(stored) == {row.label for row in (ours, *others)}
    kinds = {row.policy for row in others}
    assert {"Ancestral", "TopConfidence", "Random", "EntropyBound", "ConfidenceThreshold"} <= kinds
    for found in stored.values():
        assert found.index.tolist() == list(range(8))
        assert found.revealed_at.shape == (8, 13)


def test_the_same_command_again_learns_nothing(ordered, order, monkeypatch):
    def never(*_, **__):
        raise AssertionError("learned or generated again")

    before = contents(order)
    monkeypatch.setattr("mdm_jax.training.order.train_step", never)
    monkeypatch.setattr(StaticStart, "search", never)
    monkeypatch.setattr("mdm_jax.evals.generate.mapped_sampler", lambda *_: never)
    monkeypatch.setattr("mdm_jax.evals.generate.mapped_refill", never)
    monkeypatch.setattr(
        learn_variational_order, "draw_order_run", lambda *_: None
    )  # it looks at four prompts
    again = learn_variational_order.run(ordered[0])
    assert [v._replace(row=timeless(v.row)) for v in again] == [
        v._replace(row=timeless(v.row)) for v in ordered[1]
    ]
    changed = {name for name, text in contents(order).items() if before.get(name) != text}
    assert changed <= {
        "env.json",
        "comparison/env.json",
        "denoiser/env.json",
        "denoiser/training.png",
    }


def test_a_stopped_run_ends_like_one_that_was_not(ordered, order, tmp_path, monkeypatch):
    real = loop.save

    def stopped(manager, state):
        real(manager, state)
        manager.wait_until_finished()
        raise KeyboardInterrupt

    directory = tmp_path / "order"
    shutil.copytree(order / "denoiser", directory / "denoiser")
    for name in ("config.json", "env.json"):
        shutil.copy(order / name, directory)
    config = replace(ordered[0], run_dir=str(directory))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", stopped)
        learn_variational_order.learn(config)
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["2"]
    monkeypatch.setattr(StaticStart, "search", None)  # it does not search again
    learn_variational_order.learn(config)
    for name in ("metrics.jsonl", "start.json", "bound.json"):
        assert (directory / name).read_text() == (order / name).read_text()
    same(load_policy(directory, config.task).params, load_policy(order, config.task).params)
    same(load_denoiser(directory).denoise.params, load_denoiser(order).denoise.params)


def test_the_denoiser_learned_along(ordered, order):
    after, before = load_denoiser(order), load_denoiser(order / "denoiser")
    assert (after.step, before.step) == (4, 1)
    assert after.task == before.task == ordered[0].task
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), after.denoise.params, before.denoise.params
    )
    assert any(jax.tree.leaves(moved))


def test_a_policy_comes_with_its_knobs(ordered, order):
    denoise, task, _ = load_denoiser(order)
    policy = policy_specs.resolve(Learned(), order, denoise, task)
    assert (policy.steps, policy.policy_temperature, policy.scale) == (3, 0.0, 1.0)
    given = Learned(str(order), 2, 0.5, 1.5, "spend")
    other = policy_specs.resolve(given, order / "denoiser", denoise, replace(task, num_examples=2))
    assert (other.steps, other.policy_temperature, other.scale) == (2, 0.5, 1.5)
    assert other.fallback == "spend"
    same(other.params, policy.params)
    assert policy_specs.resolve(EntropyBound(1.0), order, denoise, task) == EntropyBound(1.0)


def test_a_policy_for_something_else_is_refused(order, monkeypatch):
    denoise, _, _ = load_denoiser(order)
    with pytest.raises(ValueError, match=r"of chains \(13 of 18.*, not of chains \(22 of 30"):
        Learned().load(order, denoise, Chains(depth=2))
    network = PolicyNetwork(PolicyConfig(hidden=True), 13, 3)
    conditioning = LearnedPolicy(network, {"hidden": {"kernel": np.zeros((32, 8))}}, 3)
    monkeypatch.setattr(policy_specs, "load_policy", lambda *_: conditioning)
    with pytest.raises(ValueError, match="from 32 hidden features, but the denoiser gives 16"):
        Learned().load(order, denoise, Chains(depth=1))


@pytest.mark.parametrize("form", get_args(AnyForm))
def test_every_form_is_read_back(form):
    assert from_json(describe(form()), *get_args(AnyForm)) == form()


def test_evaluating_a_learned_policy(order, tmp_path, capsys):
    config = evaluate.Config(
        run=str(order), policy=Learned(), examples=6, batch_size=4, out_dir=str(tmp_path)
    )
    assert evaluate.run(config).row.settings["steps"] == 3
    assert evaluate.run(replace(config, policy=Learned(steps=1))).row.nfe_max == 1
    nothing = Learned(policy_temperature=1.0, scale=0.0)  # each draw is empty
    best = evaluate.run(replace(config, policy=nothing)).row
    spend = evaluate.run(replace(config, policy=replace(nothing, fallback="spend"))).row
    store = SampleStore(tmp_path / "samples.jsonl")
    assert (store.read(spend.label).revealed_at == 2).all()
    assert ((store.read(best.label).revealed_at == 0).sum(1) >= 1).all()
    told = " ".join(capsys.readouterr().out.split())
    assert "against LearnedPolicy steps=1" in told


def test_sampling_a_learned_policy(order, capsys):
    texts = sample.run(sample.Config(run=str(order), policy=Learned(), count=1))
    shown = "".join(capsys.readouterr().out.split())
    assert len(texts) == 1 and "▁" not in texts[0] and "".join(texts[0].split()) in shown


def test_learning_from_rewards_starts_from_it(ordered, order, tmp_path):
    home, task = tmp_path / "policy", ordered[0].task
    config = replace(
        REWARDED,
        task=task,
        denoiser=str(order / "denoiser"),
        policy=PolicySpec(start=str(order)),
        steps=2,
        run_dir=str(home),
    )
    learned, denoise = learn_policy.learn(config)
    start = load_policy(order, task)
    assert learned.steps == 3 and learned.network == start.network
    same(Learned().load(home, denoise, task).params, learned.params)
    assert read_json(home / "config.json")["start_identity"] == {"weights": digest(start.params)}


def test_learned_policies_on_the_frontier(order, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(order, other)
    sweep = frontier.Config(
        run=str(order),
        steps=(),
        thresholds=(),
        factors=(),
        gammas=(),
        learned=(str(order), str(order), str(other)),
        scales=(0.5, 1000.0),
        examples=6,
        batch_size=4,
        out_dir=str(tmp_path / "frontier"),
    )
    rows = frontier.run(sweep)
    names = ["LearnedPolicy, order"] * 2 + ["LearnedPolicy, other"] * 2
    assert [row.policy for row in rows] == names
    table = read_json(tmp_path / "frontier" / "table.json")
    assert [row["policy"] for row in table] == names
    assert [row.settings["scale"] for row in rows] == [0.5, 1000.0, 0.5, 1000.0]
    assert {row.settings["policy_temperature"] for row in rows} == {1.0}
    assert rows[1].nfe_max == 1 < rows[0].nfe <= 3
    assert rows[:2] == [replace(row, policy="LearnedPolicy, order") for row in rows[2:]]
    alone = evaluate.Config(
        run=str(order),
        policy=Learned(policy_temperature=1.0, scale=0.5),
        examples=6,
        batch_size=4,
        out_dir=str(tmp_path / "alone"),
    )
    assert evaluate.run(alone).row.nfe == rows[0].nfe


def test_a_learned_policy_of_another_task(capsys, trained, order):
    before = contents(trained[0])
    for name, words in (
        ("evaluate", ["policy:learned", "--policy.run"]),
        ("sample", ["policy:learned", "--policy.run"]),
        ("frontier", ["--learned"]),
    ):
        line = refused(capsys, name, "--run", trained[0], *words, order)
        assert "learned the order of chains (13 of 18 positions, 21 ids), not of sudoku" in line
    assert contents(trained[0]) == before


def test_a_learned_policy_without_a_checkpoint(capsys, order, tmp_path):
    copy = tmp_path / "order"
    copy.mkdir()
    shutil.copy(order / "config.json", copy)
    words = ["--run", copy, "policy:learned"]
    line = refused(capsys, "evaluate", *words)
    assert f"{copy}/denoiser is no run directory" in line
    shutil.copytree(order / "denoiser", copy / "denoiser")
    assert f"no checkpoints at {copy}/checkpoints" in refused(capsys, "sample", *words)
    (copy / "checkpoints").mkdir()
    assert "no finished checkpoint" in refused(capsys, "evaluate", *words)


def test_quickstart_learns_an_order_last(trained, tmp_path, capsys):
    directory = tmp_path / "run"
    shutil.copytree(trained[0], directory, ignore=shutil.ignore_patterns("ev*", "fr*"))
    config = replace(tiny(directory), learned=True, prices=(1.0, 0.1))
    rows = quickstart.run(config, POLICIES[:1])
    assert timeless(rows[0]) == timeless(trained[1][0])
    assert [row.policy for row in rows[1:]] == ["AdaptivePolicy"] * 2
    assert [row.settings["price"] for row in rows[1:]] == [1.0, 0.1]
    assert "learned policy: " in " ".join(capsys.readouterr().out.split())
    theirs = load_denoiser(directory / "order").denoise.params
    same(theirs, load_denoiser(directory).denoise.params)
