"""A head is trained, compared with attention and exact dependence, resumed, and used as a policy."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_run import write_untrained

from experiments import learn_pairs
from mdm_jax.errors import MdmError
from mdm_jax.policies.networks.pair_network import PairConfig
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.policies import load_policy
from mdm_jax.runs.policy_specs import Learned
from mdm_jax.training import loop


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The settings, with their directory, and the rows of the comparison."""
    home = tmp_path_factory.mktemp("pairs")
    write_untrained(home / "denoiser")
    config = learn_pairs.Config(
        denoiser=str(home / "denoiser"),
        run_dir=str(home / "pairs"),
        network=PairConfig(width=4),
        label_calls=2,
        steps=4,
        save_every=2,
        log_every=1,
        batch_size=4,
        examples=4,
        allowances=(0.1, 50.0),
    )
    with jax.debug_key_reuse(True):
        return home, config, learn_pairs.run(config)


def test_it_compares_three_sources_and_costs_what_it_says(learned):
    home, _, rows = learned
    names = [row.policy for row in rows]
    sources = ("head", "attention", "exact")
    assert names == [f"Demask, {source}" for source in sources for _ in range(2)]
    assert all(large.nfe == 1.0 for large in rows[1::2])  # everything fits
    assert len(json.loads((home / "pairs" / "table.json").read_text())) == 6
    metrics = [json.loads(line) for line in (home / "pairs" / "metrics.jsonl").open()]
    assert [row["step"] for row in metrics] == [1, 2, 3, 4] and "error" in metrics[0]


def test_a_stopped_run_ends_like_one_that_was_not(learned, tmp_path, monkeypatch):
    home, config, _ = learned

    def stopped(manager, state, real=loop.save):
        real(manager, state)
        manager.wait_until_finished()
        raise KeyboardInterrupt

    again = replace(config, run_dir=str(tmp_path / "pairs"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "save", stopped)
        learn_pairs.learn(again)
    policy, _ = learn_pairs.learn(again)
    theirs = load_policy(home / "pairs", config.task)
    jax.tree.map(np.testing.assert_array_equal, policy.params, theirs.params)
    assert theirs.rule.allowance == config.allowance


def test_it_is_a_learned_policy_with_one_knob(learned):
    home, config, _ = learned
    denoise = load_denoiser(home / "denoiser").denoise
    policy = Learned(allowance=0.7).load(home / "pairs", denoise, config.task)
    assert policy.rule.allowance == 0.7
    with pytest.raises(MdmError, match="its one knob is"):
        Learned(steps=4).load(home / "pairs", denoise, config.task)
    with pytest.raises(MdmError, match="learned from 16 hidden features, but the denoiser gives 1"):
        Learned().load(home / "pairs", config.task.oracle(), config.task)
