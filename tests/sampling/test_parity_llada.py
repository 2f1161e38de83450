"""LLaDA's, Fast-dLLM's and other samplers on a small LLaDA, against recorded trajectories.

Where we follow another rule than the code that was recorded:
- Factor: that code reveals the last rank too when it alone fails the test. `LastRankToo` adds this to
  our rule, and then all is theirs.
- RCR over several blocks: the port's memory is never reset, so that a later block re-masks tokens of
  earlier ones. Ours re-masks in the current block only; the first block is compared.
- P2+: theirs spends one more call, on the order alone.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import pytest
from parity_world import WHOLE, assert_same, denoiser, fast_dllm, rows
from recorded import trajectories, uncached

from mdm_jax.diffusion.schedules import Cosine, Linear
from mdm_jax.policies.count_schedules import AlphaCounts
from mdm_jax.policies.heuristics import EntropyBound, TopConfidence
from mdm_jax.policies.klass import Klass
from mdm_jax.policies.remasking.p2 import P2, P2Plus
from mdm_jax.policies.remasking.rcr import Rcr
from mdm_jax.policies.remasking.rounds import RemdmRounds
from mdm_jax.policies.remasking.wino import Wino

# a switch that is mapped over its index runs every branch, each with the same key
pytestmark = pytest.mark.reuses_keys
MODEL, VOCAB, EOS, EOT = "llada_tiny", 512, 500, 505


@dataclass(frozen=True)
class Sine:
    """P2's kappa = sin(pi/2 progress) is what is unmasked."""

    def alpha(self, t):
        return jnp.sin(0.5 * jnp.pi * (1.0 - t))

    def time(self, alpha):
        return 1.0 - 2.0 / jnp.pi * jnp.arcsin(alpha)


@dataclass(frozen=True)
class Square:
    """P2's kappa = progress^2."""

    def alpha(self, t):
        return (1.0 - t) ** 2

    def time(self, alpha):
        return 1.0 - alpha**0.5


SCHEDULES = {"linear": Linear(), "cosine": Cosine(), "sine": Sine(), "poly2": Square()}


def rcr(args):
    schedule = SCHEDULES[args["mode"]]
    if args["overtime_conf"]:
        return Rcr(args["steps"], schedule)
    return TopConfidence(args["steps"], AlphaCounts(schedule, least=0))


POLICIES = {
    None: fast_dllm,
    "klass": lambda a: Klass(VOCAB, a["conf_threshold"], a["kl_threshold"], a["kl_history_length"]),
    "eb": lambda a: EntropyBound(a["gamma"]),
    "p2": lambda a: P2(a["num_steps"], a["eta"], SCHEDULES[a["kappa"]]),
    "p2plus": lambda a: P2Plus(a["num_steps"]),
    "rcr": rcr,
    "wino": lambda a: Wino(a["threshold"], a["threshold_back"]),
    "remdm_llada": lambda a: RemdmRounds(a["steps"], a["remdm_steps"], a["remdm_number"]),
}
NAMES = ("llada", "fastdllm", "fastdllm_factor", "other")


def block_of(case):
    return case["args"].get("block_length", 32)


def calls_of(case):
    """Which of its calls ours are the same as."""
    if case.get("sampler") == "p2plus":
        return slice(1, None)
    if case.get("sampler") == "rcr" and case["args"]["overtime_conf"] and block_of(case) < 32:
        return slice(case["args"]["steps"] * block_of(case) // 32)
    return WHOLE


def group_of(case):
    """Which test below compares this case."""
    args = case["args"]
    if case.get("sampler") == "wino":
        return "wino"
    if args.get("logits_eos_inf"):
        return "no EOS"
    if args.get("confidence_eos_eot_inf"):
        return "EOS last"
    return "guided" if args.get("cfg_scale") else "plain"


def group(name, block):
    cases = uncached(trajectories(MODEL, *NAMES))
    return [case for case in cases if group_of(case) == name and block_of(case) == block]


def check(recorded, **settings):
    denoise, config = denoiser(MODEL)
    policies = [POLICIES[case.get("sampler")](case["args"]) for case in recorded]
    assert_same(recorded, policies, denoise, config(**settings), [calls_of(c) for c in recorded])


@pytest.mark.parametrize("block, count", [(8, 39), (16, 59 + 3), (32, 100 + 3)])
def test_plain(block, count):
    """Fixed counts, thresholds, factors, KLASS, entropy bounds, P2, P2+, RCR, ReMDM's rounds; and the
    rows of batches, which are padded on the left there and on their own here.
    """
    batches = [row for case in trajectories(MODEL, "llada_batch") for row in rows(case)]
    recorded = group("plain", block) + [row for row in batches if block_of(row) == block]
    assert len(recorded) == count
    check(recorded, block_length=block)


@pytest.mark.parametrize("block", [8, 16, 32])
def test_guided(block):
    recorded = group("guided", block)
    assert len(recorded) == 9
    check(recorded, guidance=1.5, block_length=block)


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize(
    "name, settings", [("no EOS", {"forbid_ids": (EOS,)}), ("EOS last", {"late_ids": (EOS, EOT)})]
)
def test_eos_options(block, name, settings):
    recorded = group(name, block)
    assert len(recorded) == 2
    check(recorded, block_length=block, **settings)


@pytest.mark.parametrize("block", [8, 16, 32])
def test_wino(block):
    recorded = group("wino", block)
    assert len(recorded) == 6
    check(recorded, block_length=block)


def test_every_trajectory_has_its_test():
    found = uncached(trajectories(MODEL, *NAMES))
    assert len(found) == 39 + 59 + 100 + 3 * 9 + 2 * 2 * 2 + 3 * 6
    assert {group_of(case) for case in found} == {"plain", "guided", "no EOS", "EOS last", "wino"}
    assert sum(calls_of(case) != WHOLE for case in found) == 8 + 6  # RCR in blocks, P2+
