"""A policy of the command line at other values of a knob."""

import pytest

from experiments.frontier import Config
from mdm_jax.errors import MdmError
from mdm_jax.evals.sweeps import at
from mdm_jax.policies.heuristics import ConfidenceThreshold, TopConfidence
from mdm_jax.policies.mask_git import MaskGit
from mdm_jax.runs.stream_policies import CodebookPenalty, PerModality, RepetitionPenalty


def test_a_knob_is_that_of_the_policy_or_of_the_one_within():
    assert at(TopConfidence(8), "steps", 4.0) == TopConfidence(4)
    assert at(CodebookPenalty(), "penalty", 0.5) == CodebookPenalty(penalty=0.5)
    assert at(CodebookPenalty(), "base.steps", 3.0) == CodebookPenalty(MaskGit(steps=3))
    assert at(PerModality(steps=(2, 4, 8)), "steps", 3.0) == PerModality(steps=(3,))
    assert type(at(TopConfidence(8), "steps", 4.0).steps) is int


@pytest.mark.parametrize("knob", ["threshold", "schedule", "base", "base.steps", "", "modality"])
def test_what_is_no_number_is_refused(knob):
    for policy in (TopConfidence(8), RepetitionPenalty(ConfidenceThreshold(0.9))):
        with pytest.raises(MdmError, match="has no number"):
            at(policy, knob, 0.5)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(MdmError, match="is a whole number"):
        at(TopConfidence(8), "steps", 2.5)
    with pytest.raises(MdmError, match="steps must be"):
        at(TopConfidence(8), "steps", 0.0)
    for given in ({"policy": TopConfidence(8)}, {"values": (1.0,)}):
        with pytest.raises(MdmError, match="give both"):
            Config(run="run", **given)
