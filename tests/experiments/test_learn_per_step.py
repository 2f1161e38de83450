"""learn_policy --preset per-step: a policy with a price, resumed, loaded, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import ADAPTIVE, REWARDED

from experiments import learn_policy
from mdm_jax.errors import MdmError
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.runs import adaptive
from mdm_jax.runs.policies import load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.runs.trainings import branch_rewards
from mdm_jax.training import loop

TINY = replace(
    learn_policy.PER_STEP,
    branches=BranchObjective(states=1, draws=2),
    network=ADAPTIVE.network,
    oracle=True,
    steps=4,
    prompts=4,
    pool=8,
    window=2,
    save_every=2,
    examples=8,
)


@pytest.fixture(scope="module", autouse=True)
def few_prompts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branch_rewards, "HELD_OUT_PROMPTS", 8)
        patch.setattr(adaptive, "HELD_OUT_ROWS", 8)
        patch.setattr(adaptive, "KNOBS", 4)
        yield


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The settings, with their directory, and the policy."""
    config = replace(TINY, run_dir=str(tmp_path_factory.mktemp("rewards") / "run"))
    with jax.debug_key_reuse(True):
        return config, learn_policy.learn(config)[0]


def rows_of(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").open()]


def test_what_it_logs(learned):
    rows = rows_of(learned[0].run_dir)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows if "heldout_score" in row] == [2, 4]
    for row in rows:
        assert 1 <= row["nfe"] <= 16 and 0 <= row["accuracy"] <= 1
        assert 4 * 3 <= row["calls"] <= 4 * (16 + 1 + 4 * 15)


def test_the_policy_is_found_by_its_run(learned):
    config, policy = learned
    oracle = config.task.oracle()
    loaded = Learned(price=0.1).load(config.run_dir, oracle, config.task)
    assert isinstance(loaded, AdaptivePolicy) and loaded.price == 0.1
    jax.tree.map(np.testing.assert_array_equal, loaded.params, policy.params)
    cheapest = Learned(calls=16.0).load(config.run_dir, oracle, config.task)
    np.testing.assert_allclose(cheapest.price, config.branches.prices[0], rtol=1e-5)
    with pytest.raises(MdmError, match="ask for calls"):
        Learned(overlap=0.5).load(config.run_dir, oracle, config.task)


def test_a_stopped_run_ends_like_one_that_was_not(learned, tmp_path, monkeypatch):
    real = loop.save

    def stopped(manager, state):
        real(manager, state)
        manager.wait_until_finished()
        raise KeyboardInterrupt

    config = replace(learned[0], run_dir=str(tmp_path / "run"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", stopped)
        learn_policy.learn(config)
    policy, _ = learn_policy.learn(config)
    assert rows_of(config.run_dir) == rows_of(learned[0].run_dir)
    theirs = load_policy(learned[0].run_dir, config.task)
    jax.tree.map(np.testing.assert_array_equal, policy.params, theirs.params)


@pytest.mark.parametrize("setting", ["policy", "objective"])
def test_settings_of_grpo_are_refused(setting):
    with pytest.raises(MdmError, match=f"{setting} is a setting of GRPO"):
        learn_policy.resolve(replace(TINY, **{setting: getattr(REWARDED, setting)}))
