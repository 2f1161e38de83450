"""Fast-dLLM's prefix and dual caches on a small LLaDA and a small Dream, against recorded trajectories.

Where we follow another rule than the code that was recorded:
- LLaDA: the first version of that loop calls at least twice in a block, even if the first call
  completed it. The second one then reveals nothing, and we do not make it; every other call is theirs.
- The factor's last rank: see `LastRankToo`.
- Dream: the full call at the start of a block reveals the block's first token alone, whatever the
  policy; `FirstAlone` does that here. In cached calls the shift by one then needs no logits from
  before the block; we keep them, so that any policy may be used.
"""

import itertools

import jax.numpy as jnp
import pytest
from parity_world import assert_same, denoiser, fast_dllm
from recorded import trajectories

from mdm_jax.policies.base import RevealOnly
from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import ConfidenceThreshold, LowEntropy
from mdm_jax.pytrees import pytree_dataclass

# a switch that is mapped over its index runs every branch, each with the same key
pytestmark = pytest.mark.reuses_keys


@pytree_dataclass
class FirstAlone(RevealOnly):
    """The first position of a block at its first call, then what `rest` says."""

    rest: RevealOnly

    def unmask(self, key, observation):
        eligible = observation.eligible
        first = eligible & (jnp.arange(len(eligible)) == jnp.argmax(eligible))
        return jnp.where(observation.block_step == 0, first, self.rest.unmask(key, observation))


def dream_policy(args):
    if args["alg"] == "confidence_threshold":
        return FirstAlone(ConfidenceThreshold(args["threshold"]))
    return FirstAlone(LowEntropy(args["steps"], AncestralCounts(1e-3)))


def recorded(model, kind, block):
    """Cases of a cache and a block length; of LLaDA's without the calls that we do not make."""
    for case in trajectories(model, *FILES[model]):
        if case["args"]["cache"] == kind and case["args"]["block_length"] == block:
            dream = "alg" in case["args"]  # whose counts may be 0
            yield case | {"steps": [s for s in case["steps"] if dream or s["revealed"]]}


MODELS = {"llada_tiny": fast_dllm, "dream_tiny": dream_policy}
FILES = {"llada_tiny": ("fastdllm", "fastdllm_factor"), "dream_tiny": ("fastdllm",)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("kind", "block"), [("prefix", 8), ("prefix", 16), ("dual", 8), ("dual", 16)]
)
def test_blocks(model, kind, block):
    cases = list(recorded(model, kind, block))
    assert len(cases) == (24 if model == "llada_tiny" else 6)
    check(cases, model, kind, block)


@pytest.mark.parametrize("model", MODELS)
def test_one_block(model):
    """Both caches compute the same anew: what was recorded with one is also true of the other."""
    cases = [case for kind in ("prefix", "dual") for case in recorded(model, kind, 32)]
    assert len(cases) == (48 if model == "llada_tiny" else 12)
    check(cases, model, "dual", 32)


def check(cases, model, kind, block):
    denoise, config = denoiser(model)
    policies = [MODELS[model](case["args"]) for case in cases]
    settings = config(block_length=block, cache=kind)
    assert_same(cases, policies, denoise, settings)


def test_the_calls_that_we_do_not_make():
    """They are the second ones of blocks that the first call completed."""
    cases = trajectories("llada_tiny", "fastdllm")
    cases = [case for case in cases if case["args"]["cache"] != "none"]
    pairs = [pair for case in cases for pair in itertools.pairwise(case["steps"])]
    empty = [(before, now) for before, now in pairs if not now["revealed"]]
    assert len(empty) == 22
    for before, now in empty:
        assert before["kind"] == "full" and now["kind"] != "full"
        assert len(before["revealed"]) > 1
