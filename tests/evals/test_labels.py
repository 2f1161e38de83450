"""Labels of stored generations: everything that changes one, and nothing else."""

from dataclasses import replace

import jax.numpy as jnp
from evaluation_world import CONFIG, TASK

from mdm_jax.diffusion.rates import Rates
from mdm_jax.diffusion.schedules import Linear
from mdm_jax.evals.labels import describe_policy, describe_sampler, label_of
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import ConfidenceThreshold, LeftToRight, TopConfidence
from mdm_jax.policies.rated_ancestral import RatedAncestral
from mdm_jax.policies.switch import as_switch
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.chains import Chains

CHANGES = (
    {"temperature": 0.5},
    {"budget": 12},
    {"block_length": 4},
    {"gen_length": 8},
    {"top_p": 0.9},
    {"top_k": 3},
    {"policy_sees_draw": True},
    {"forbid_ids": (1,)},
    {"late_ids": (1,)},
    {"late_ids": (1, 2)},
    {"guidance": 1.5},
    {"mask_id": 9},
    {"pad_id": 9},
    {"eos_id": 1},
    {"unused": (1,)},
    {"cache": "dual"},
    {"cache": "dual", "refresh": 4},
    {"cut_eos": False},
    {"commit": False},
    {"guidance": 1.5, "guidance_grows": True, "condition": (0,), "response": (1, 2)},
    {"guidance": 1.5, "condition": (0,), "response": (1,)},
    {"guidance": 1.5, "condition": (1,), "response": (1,)},
    {"guidance": 1.5, "guidance_grows": True, "condition": (0,), "response": (1,)},
)


def test_all_settings_of_a_sampler_but_the_record_are_told_apart():
    fields = {name for change in CHANGES for name in change}
    assert fields == set(SamplerConfig.__dataclass_fields__) - {"record"}
    labels = [describe_sampler(replace(CONFIG, **change), TASK) for change in ({}, *CHANGES)]
    assert all(one not in labels[:place] for place, one in enumerate(labels)), labels
    assert describe_sampler(replace(CONFIG, record=True), TASK) == labels[0]


def test_what_the_task_decides_is_not_repeated():
    assert describe_sampler(CONFIG, TASK) == {"temperature": 1.0, "budget": 16}
    chains = Chains()
    plain = SamplerConfig().for_task(chains)
    assert list(describe_sampler(plain, chains)) == ["temperature", "budget"]
    without = replace(plain, eos_id=None)
    assert describe_sampler(without, chains)["eos_id"] is None


def test_policies_by_name_and_knobs():
    policies = (
        TopConfidence(8),
        TopConfidence(4),
        TopConfidence(8, AlphaCounts()),
        TopConfidence(8, AlphaCounts(Linear())),
        LeftToRight(8),
        ConfidenceThreshold(0.9),
        ConfidenceThreshold(0.91),
    )
    labels = [label_of(type(one).__name__, describe_policy(one)) for one in policies]
    assert len(set(labels)) == len(labels)
    assert labels[0] == "TopConfidence steps=8 schedule=linear"
    switched = as_switch((TopConfidence(8), LeftToRight(8)))
    assert [describe_policy(one) for one in switched] == [
        describe_policy(TopConfidence(8)),
        describe_policy(LeftToRight(8)),
    ]


def test_learned_rates_are_told_apart_by_a_digest():
    """Printed, long arrays that differ in the middle look the same."""
    one = jnp.ones((1, 5000))
    rates = Rates(one), Rates(one.at[0, 2500].set(2.0))
    first, other = (describe_policy(RatedAncestral(each, steps=4)) for each in rates)
    assert first != other and first["steps"] == 4
    assert all(len(str(value)) < 20 for value in first.values())
