"""Policies that the denoiser or the task completes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdm_jax.evals.labels import describe_policy
from mdm_jax.policies import credit, klass, pc_sampler, randomised
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence, TopMargin
from mdm_jax.runs.policy_specs import CreditDecoding, Klass, PcSampler, Perturbed, resolve
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample
from mdm_jax.tasks.sudoku import Sudoku

TASK = Sudoku()
UNIFORM = jax.tree_util.Partial(
    lambda canvas, valid, positions=None: jnp.zeros((len(canvas), TASK.vocabulary.size + 2))
)


def resolved(spec):
    return resolve(spec, "nowhere", UNIFORM, TASK)


def test_klass_is_as_wide_as_the_logits():
    assert resolved(Klass(0.7, 0.1, 3)) == klass.Klass(TASK.vocabulary.size + 2, 0.7, 0.1, 3)


def test_credit_is_as_wide_as_the_logits_and_on_top_of_a_threshold():
    expected = credit.CreditDecoding(TASK.vocabulary.size + 2, ConfidenceThreshold(0.7), 0.5)
    assert resolved(CreditDecoding(0.7, 0.5)) == expected


def test_perturbed_is_around_its_base():
    assert resolved(Perturbed(TopMargin(3), 0.2)) == randomised.Perturbed(TopMargin(3), 0.2)


def test_frequencies_are_counted_or_read(tmp_path):
    counted = resolved(PcSampler(steps=3))
    assert isinstance(counted, pc_sampler.PcSampler) and counted.steps == 3
    np.testing.assert_allclose(counted.frequencies, 0.25, atol=0.03)  # 4x4 Sudoku: digits alike
    np.save(tmp_path / "counts.npy", np.array([1, 2, 3, 4]))
    read = resolved(PcSampler(str(tmp_path / "counts.npy")))
    np.testing.assert_allclose(read.frequencies, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert describe_policy(read) != describe_policy(counted)
    assert len(str(describe_policy(read))) < 120
    np.save(tmp_path / "wrong.npy", np.ones(3))
    with pytest.raises(ValueError, match="must hold 4 token counts, got shape"):
        resolved(PcSampler(str(tmp_path / "wrong.npy")))


def test_other_policies_are_themselves():
    assert resolved(TopConfidence(3)) == TopConfidence(3)


@pytest.mark.parametrize(
    "spec", [Klass(), CreditDecoding(), PcSampler(), Perturbed()], ids=lambda s: type(s).__name__
)
def test_they_generate(spec):
    policy, config = resolved(spec), SamplerConfig().for_task(TASK)
    canvas = jnp.full((2, 16), config.mask_id)
    keys = jax.random.split(jax.random.key(0), 2)
    rollout = sample(keys, canvas, denoise=UNIFORM, policy=policy, config=config)
    assert (np.asarray(rollout.canvas) < 4).all() and (rollout.nfe >= 1).all()
