"""Recorded trajectories of other people's samplers, and ours beside them, step for step.

Theirs share out probability among all tokens, MASK included, which never wins; here MASK is ruled out
before the softmax. No recorded case hangs on that.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from recorded import RECORDINGS

from mdm_jax.denoisers.pretrained.checkpoints import load
from mdm_jax.policies.base import RevealOnly, confidence, rank, stack
from mdm_jax.policies.heuristics import ConfidenceThreshold, Factor, TopConfidence
from mdm_jax.policies.switch import as_switch
from mdm_jax.pytrees import pytree_dataclass
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import sample_one

LENGTH, NEW, BUDGET = 53, 32, 64  # the longest prompt has 21 positions; shorter ones are padded


@pytree_dataclass
class LastRankToo(RevealOnly):
    """`Factor` as released: where only the last rank fails, it is revealed as well."""

    written: Factor

    def unmask(self, key, observation):
        chosen = self.written.unmask(key, observation)
        place = rank(key, confidence(observation.logits), observation.eligible)
        masked = jnp.sum(observation.eligible)
        return chosen | (
            (masked - jnp.sum(chosen) == 1) & observation.eligible & (place == masked - 1)
        )


def fast_dllm(args):
    """The policy of LLaDA's and Fast-dLLM's arguments."""
    if args.get("factor") is not None:
        return LastRankToo(Factor(args["factor"]))
    if args.get("threshold") is not None:
        return ConfidenceThreshold(args["threshold"])
    return TopConfidence(args["steps"])


@functools.cache
def denoiser(model):
    """The denoiser of a recorded model, and `SamplerConfig` with its ids and lengths filled in."""
    denoise, info = load(RECORDINGS / model)
    ids = {"mask_id": info.mask_id, "pad_id": info.pad_id}
    # no case needs the whole budget; without a last step that commits, half as much is compiled
    lengths = {"gen_length": NEW, "budget": BUDGET, "commit": False}
    return denoise, functools.partial(SamplerConfig, **ids, **lengths, record=True)


def rows(case):
    """The rows of a batch as cases of their own, without the padding on their left."""
    batch = zip(
        case["prompt_ids"], case["attention_mask"], case["final_ids"], case["steps"], strict=True
    )
    for number, (prompt, seen, final, steps) in enumerate(batch):
        pads = seen.count(0)
        moved = [
            {"revealed": [[place - pads, *rest] for place, *rest in step["revealed"]]}
            for step in steps
        ]
        yield case | {
            "id": f"{case['id']}, row {number}",
            "prompt_ids": prompt[pads:],
            "final_ids": final[pads:],
            "steps": moved,
        }


@functools.partial(jax.jit, static_argnames="config")
def _run(key, canvases, denoise, policies, config):
    def one(canvas, policy):
        return sample_one(key, canvas, denoise=denoise, policy=policy, config=config)

    return jax.vmap(one)(canvases, policies)


def complete(prompts, policies, denoise, config):
    """Each prompt completed by its own policy, all in one compiled call."""
    canvases = np.full((len(prompts), LENGTH), config.pad_id)
    for row, prompt in enumerate(prompts):
        canvases[row, : len(prompt)] = prompt
        canvases[row, len(prompt) : len(prompt) + NEW] = config.mask_id
    choices = stack(as_switch(tuple(policies)))
    rollout = _run(jax.random.key(0), jnp.asarray(canvases), denoise, choices, config)
    return jax.tree.map(np.asarray, rollout)


def our_steps(rollout, row, start):
    """What each call revealed, {position: token}, and what it re-masked: net, like the records."""
    masked = rollout.trace.is_masked[row]
    for step in range(rollout.nfe[row]):
        after = masked[step + 1] if step + 1 < rollout.nfe[row] else np.zeros(NEW, bool)
        shown, hidden = masked[step] & ~after, ~masked[step] & after
        tokens = rollout.trace.proposal[row, step]
        yield (
            {int(start + k): int(tokens[k]) for k in np.flatnonzero(shown)},
            [int(start + k) for k in np.flatnonzero(hidden)],
        )


def their_steps(case):
    """The same of a record, up to the last call with a mask in its input."""
    changes = [
        ({place: token for place, token, *_ in step["revealed"]}, step.get("remasked", []))
        for step in case["steps"]
    ]
    left, busy = NEW, 0
    for number, (shown, hidden) in enumerate(changes):
        busy = number + 1 if left else busy
        left += len(hidden) - len(shown)
    assert not any(shown or hidden for shown, hidden in changes[busy:])
    return changes[:busy]


WHOLE = slice(None)


def assert_same(recorded, policies, denoise, config, calls=None):
    """Every case token for token and step for step.

    `calls`: which of their calls ours are compared with. We do not spend calls where nothing is masked.
    """
    rollout = complete([case["prompt_ids"] for case in recorded], policies, denoise, config)
    for row, case in enumerate(recorded):
        start, span = len(case["prompt_ids"]), calls[row] if calls else WHOLE
        theirs, ours = their_steps(case)[span], list(our_steps(rollout, row, start))
        assert ours[: len(theirs)] == theirs, case["id"]
        if span.stop is None:
            assert len(ours) == len(theirs), case["id"]
            assert rollout.canvas[row, : start + NEW].tolist() == case["final_ids"], case["id"]
