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
import json

import jax.numpy as jnp
import pytest
from parity_world import assert_same, denoiser, fast_dllm

from mdm_jax.policies.base import RevealOnly
from mdm_jax.policies.count_schedules import AncestralCounts
from mdm_jax.policies.heuristics import ConfidenceThreshold, LowEntropy
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.config import CacheConfig

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


def recorded(folder, kind, block):
    """Cases of a cache and a block length; of LLaDA's without the calls that we do not make."""
    files = sorted(folder.glob("traj_fastdllm*.json"))
    for case in [case for file in files for case in json.loads(file.read_text())["cases"]]:
        if case["args"]["cache"] == kind and case["args"]["block_length"] == block:
            dream = "alg" in case["args"]  # whose counts may be 0
            yield case | {"steps": [s for s in case["steps"] if dream or s["revealed"]]}


MODELS = {"llada_tiny": fast_dllm, "dream_tiny": dream_policy}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("kind", "block"), [("prefix", 8), ("prefix", 16), ("dual", 8), ("dual", 16)]
)
def test_blocks(name, kind, block, shared_dir):
    folder = shared_dir / "parity" / name
    cases = list(recorded(folder, kind, block))
    assert len(cases) == (24 if name == "llada_tiny" else 6)
    check(cases, folder, kind, block)


@pytest.mark.parametrize("name", MODELS)
def test_one_block(name, shared_dir):
    """Both caches compute the same anew: what was recorded with one is also true of the other."""
    folder = shared_dir / "parity" / name
    cases = [case for kind in ("prefix", "dual") for case in recorded(folder, kind, 32)]
    assert len(cases) == (48 if name == "llada_tiny" else 12)
    check(cases, folder, "dual", 32)


def check(cases, folder, kind, block):
    denoise, config = denoiser(folder)
    policies = [MODELS[folder.name](case["args"]) for case in cases]
    settings = config(block_length=block, cache=CacheConfig(kind))
    assert_same(cases, policies, denoise, settings)


def test_the_calls_that_we_do_not_make(shared_dir):
    """They are the second ones of blocks that the first call completed."""
    path = shared_dir / "parity/llada_tiny/traj_fastdllm.json"
    cases = [c for c in json.loads(path.read_text())["cases"] if c["args"]["cache"] != "none"]
    pairs = [pair for case in cases for pair in itertools.pairwise(case["steps"])]
    empty = [(before, now) for before, now in pairs if not now["revealed"]]
    assert len(empty) == 22
    for before, now in empty:
        assert before["kind"] == "full" and now["kind"] != "full"
        assert len(before["revealed"]) > 1
