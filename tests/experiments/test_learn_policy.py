"""learn_policy: its files, resuming, divergence, every setting, and loading the policy."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import parsed, refused

from experiments import evaluate, learn_policy, table_unmasking_policies
from mdm_jax.policies import heuristics
from mdm_jax.policies.action_distributions import Categorical, Independent
from mdm_jax.policies.networks.confidence_network import ConfidenceConfig
from mdm_jax.rl.learner import ExpertConfig
from mdm_jax.rl.reference_kl import MaxConfidence
from mdm_jax.rl.rewards import Additive
from mdm_jax.rl.warm_start import WarmStart
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.policies import PolicySpec, build_policy, load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.runs.trainings import rewards as rewards_module
from mdm_jax.tasks.chains import Chains
from mdm_jax.training import loop
from mdm_jax.training.checkpoints import restore_ema
from mdm_jax.training.optimizers import OptimizerConfig

FIGURES = {"learning.png", "frontier.png", "order_map.png"}
FILES = FIGURES | {
    ".lock",
    "best",
    "checkpoints",
    "comparison",
    "config.json",
    "env.json",
    "metrics.jsonl",
    "table.json",
}


def same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def metrics(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").open()]


@pytest.fixture
def home(rewarded):
    return Path(rewarded[0].run_dir)


def learn(rewarded, directory, **changes):
    """A run of its own with other settings."""
    config = replace(rewarded[0], run_dir=str(directory), **changes)
    return learn_policy.learn(config)


def test_files_rows_and_table(rewarded, home):
    _, rows = rewarded
    assert {path.name for path in home.iterdir()} == FILES
    for name in FIGURES:
        assert (home / name).read_bytes()[:4] == b"\x89PNG"
        assert (home / name).stat().st_size > 10_000
    seen = metrics(home)
    assert [row["step"] for row in seen] == [1, 2, 3, 4, 5, 6]
    for row in seen:
        assert 0 <= row["reward"] <= row["accuracy"] <= 1 <= row["nfe"] <= 13
        assert row["entropy"] > 0 and np.isfinite(row["loss"])
    assert sorted(path.name for path in (home / "checkpoints").iterdir()) == ["4", "6"]
    ours, *others = [paired_row.row for paired_row in rows]
    assert ours.policy == "LearnedPolicy" and ours.settings["steps"] == 13
    kinds = {row.policy for row in others}
    assert {"Ancestral", "TopConfidence", "Random", "EntropyBound", "ConfidenceThreshold"} <= kinds
    table = [paired_row._asdict() | {"row": asdict(paired_row.row)} for paired_row in rows]
    assert json.loads((home / "table.json").read_text()) == json.loads(json.dumps(table))


def test_the_policy_of_the_best_window_is_used(rewarded, home):
    rewards = [row["reward"] for row in metrics(home)]
    windows = np.reshape(rewards, (3, 2)).mean(axis=1)
    (best,) = (home / "best").iterdir()
    assert int(best.name) == 2 * (windows.argmax() + 1)
    policy = load_policy(home, rewarded[0].task)
    params, step = restore_ema(home / "best", policy.params)
    assert step == int(best.name) and policy.policy_temperature == 1.0
    same(policy.params, params)


def test_a_resumed_run_equals_an_uninterrupted_one(rewarded, home, tmp_path, monkeypatch):
    real = loop.save

    def stopped(manager, state):
        real(manager, state)
        manager.wait_until_finished()
        if int(state.step) == 4 and manager.directory.name == "checkpoints":
            raise KeyboardInterrupt

    directory = tmp_path / "policy"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", stopped)
        learn(rewarded, directory)
    assert len(metrics(directory)) == 4
    learn(rewarded, directory)
    assert (directory / "metrics.jsonl").read_text() == (home / "metrics.jsonl").read_text()
    same(
        load_policy(directory, rewarded[0].task).params, load_policy(home, rewarded[0].task).params
    )


def test_a_verifier_on_the_host_gives_the_same_updates(rewarded, home, tmp_path, monkeypatch):
    """Rollouts and updates are then two programs."""
    monkeypatch.setattr(Chains, "pure_verifier", False)
    learn(rewarded, tmp_path / "policy", steps=2)
    for ours, theirs in zip(metrics(tmp_path / "policy"), metrics(home), strict=False):
        assert {k: pytest.approx(v, abs=1e-5) for k, v in ours.items()} == theirs


def test_a_run_that_collapses_keeps_the_best_policy(rewarded, tmp_path, monkeypatch, capsys):
    rewards = iter([0.5, 0.5, 0.01, 0.01, 0.5, 0.5])
    real = rewards_module.compiled_iteration

    def compiled(*args):
        iteration = real(*args)

        def other(state, key, prompts):
            state, metrics = iteration(state, key, prompts)
            return state, metrics | {"reward": next(rewards)}

        return other

    monkeypatch.setattr(rewards_module, "compiled_iteration", compiled)
    learn(rewarded, tmp_path / "fallen")
    assert "stopped at iteration 4: the reward fell from 0.500 to 0.010" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "fallen" / "best").iterdir()] == ["2"]
    assert len(metrics(tmp_path / "fallen")) == 4
    assert (tmp_path / "fallen" / "checkpoints" / "4").is_dir()
    learn(rewarded, tmp_path / "fallen")  # the rewards that are left would do
    assert "stopped because the reward fell from 0.500 to 0.010" in capsys.readouterr().out
    assert len(metrics(tmp_path / "fallen")) == 4


def test_a_loss_that_is_not_finite_stops_the_run(rewarded, tmp_path, monkeypatch, capsys):
    def broken(after):
        def iteration(state, key, prompts):
            bad = int(state.step) >= after
            row = {"reward": 0.5, "accuracy": 0.5, "nfe": 2.0, "loss": np.nan if bad else 0.0}
            return state._replace(step=state.step + 1), row | {"grad_norm": 1.0}

        return lambda *_: iteration

    monkeypatch.setattr(rewards_module, "compiled_iteration", broken(4))
    learn(rewarded, tmp_path / "late")
    assert "stopped at iteration 5: loss is nan" in capsys.readouterr().out
    monkeypatch.setattr(rewards_module, "compiled_iteration", broken(0))
    with pytest.raises(ValueError, match=r"loss is nan.*at iteration 1, before"):
        learn(rewarded, tmp_path / "early")


SMALL = ConfidenceConfig(width=8, mlp=16)
CHANGES = {
    "one position per step, near a reference": {
        "policy": PolicySpec(network=SMALL, family=Categorical(), steps=4, candidate_top_k=2),
        "objective": {"reference": MaxConfidence(), "beta": 0.1},
    },
    "additive, an expert in blocks, hidden states, warm start": {
        "policy": PolicySpec(network=replace(SMALL, hidden=True), family=Independent()),
        "objective": {"reward": Additive(0.5), "by_deviation": True},
        "expert": ExpertConfig(policy=heuristics.ConfidenceThreshold(0.3), block_length=1),
        "warm_start": WarmStart(steps=2, teacher=heuristics.TopConfidence(13), final=True),
    },
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_every_setting_runs_and_its_policy_is_loaded(rewarded, tmp_path, changes):
    objective = replace(rewarded[0].objective, **changes.get("objective", {}))
    changes = changes | {"objective": objective, "steps": 2}
    learned, denoise = learn(rewarded, tmp_path / "policy", **changes)
    policy = load_policy(tmp_path / "policy", rewarded[0].task)
    same(policy.params, learned.params)
    assert (policy.network, policy.family, policy.steps) == (
        learned.network,
        learned.family,
        learned.steps,
    )
    k_policy = jax.random.fold_in(jax.random.key(0), 11)
    fresh = build_policy(changes["policy"], rewarded[0].task, denoise, k_policy)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), policy.params, fresh.params)
    assert any(jax.tree.leaves(moved))


def test_a_policy_is_used_at_another_length(rewarded, home, trained, tmp_path):
    denoise, task, _ = load_denoiser(trained[0])
    policy = Learned(run=str(home)).load(trained[0], denoise, task)
    assert policy.steps == task.length == 16
    config = evaluate.Config(
        run=str(trained[0]),
        policy=Learned(run=str(home), scale=2.0, policy_temperature=0.5),
        examples=4,
        batch_size=4,
        out_dir=str(tmp_path),
    )
    row = evaluate.run(config).row
    assert row.policy == "LearnedPolicy" and row.settings["scale"] == 2.0 and row.nfe_max <= 16


def test_the_table_trains_every_weight(rewarded, tmp_path, capsys):
    task = rewarded[0].task
    case = table_unmasking_policies.Case(task=task, train=rewarded[0].train)
    config = table_unmasking_policies.Config(
        cases=(case,),
        learn=rewarded[0],  # one weight is that of the fixture: compiled already
        weights=(3.0, 1.0),
        seeds=(1,),
        examples=8,
        published=True,
        run_dir=str(tmp_path),
    )
    tables = table_unmasking_policies.run(config)
    learned = [[v for v in rows if v.row.policy == "LearnedPolicy"] for rows in tables.values()]
    assert [len(rows) for rows in learned] == [1, 1]
    assert (tmp_path / "chains" / "frontier.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    assert "learned over 1 seeds" in told and "77.2 +- 0.4" in told
    kept = json.loads((tmp_path / "chains" / "weight-3" / "seed-1" / "config.json").read_text())
    assert kept["objective"]["reward"]["compute_weight"] == 3.0 and kept["seed"] == 1


def test_the_published_table_needs_a_checkpoint(tmp_path):
    paper = replace(table_unmasking_policies.PAPER, run_dir=str(tmp_path))
    with pytest.raises(ValueError, match="published checkpoint: give"):
        table_unmasking_policies.run(paper)
    with pytest.raises(ValueError, match="'chess' is none of gsm8k, math"):
        replace(paper, only="chess")


def test_the_command_line_reaches_what_matters():
    config = parsed(
        "learn_policy", "--task", "chains", "--policy.network.width", "16",
        "objective.reward:additive", "--objective.reward.compute_weight", "0.5",
        "policy.family:categorical",
    )  # fmt: skip
    assert config.objective.reward == Additive(0.5) and config.policy.family == Categorical()
    assert config.policy.network.width == 16 and config.task == Chains()


def test_the_published_setting():
    config = learn_policy.PRESETS["paper"]
    assert config.policy.network == ConfidenceConfig()
    assert config.optimizer == OptimizerConfig(
        learning_rate=3e-5, warmup=100, b1=0.9, b2=0.99, weight_decay=0.1, clip=0.2
    )
    assert (config.objective.group, config.objective.updates, config.objective.clip) == (8, 2, 0.5)
    assert config.steps * config.objective.updates == 1872


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--steps 0", "steps must be at least 1"),
        ("--pool 3", "pool must be at least 16, got 3"),
        ("--collapse 0", "collapse must be above 0"),
        ("--policy.steps 99", "policy.steps 99 exceeds the 16 positions of sudoku"),
        ("--objective.group 1", "group must be at least 2, got 1"),
        ("--denoiser nowhere", "nowhere is no run directory"),
    ],
)
def test_refused_settings(capsys, tmp_path, words, expected):
    told = refused(capsys, "learn_policy", "--run_dir", tmp_path / "p", *words.split())
    assert expected in " ".join(told.split())
    assert not (tmp_path / "p" / "metrics.jsonl").exists()


def test_a_policy_from_a_run_without_one(capsys, trained):
    line = refused(capsys, "evaluate", "--run", trained[0], "policy:learned")
    assert "holds no policy" in line


def test_a_run_with_other_settings_is_refused(rewarded):
    config = replace(rewarded[0], seed=5)
    with pytest.raises(ValueError, match="holds a run with another configuration"):
        learn_policy.learn(config)
