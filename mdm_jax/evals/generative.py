"""Generative perplexity against entropy: the two halves of how far generations are from a reference.

KL(sampler || reference) = -log q's entropy + cross-entropy: a single temperature shows one point of a
curve, and two samplers are to be compared at equal entropy. Reference: arXiv:2604.02718.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.intervals import mean_interval
from mdm_jax.evals.likelihood import row_bounds
from mdm_jax.evals.score import Row
from mdm_jax.evals.store import Generations
from mdm_jax.policies.base import Policy, RevealOnly, wants_lookahead
from mdm_jax.policies.context_ancestral import ContextAncestral
from mdm_jax.policies.rated_ancestral import RatedAncestral
from mdm_jax.policies.tempered import Tempered
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.log_prob import log_sampler
from mdm_jax.tasks.base import Batch
from mdm_jax.types import RowKey


class GenerativePoint(NamedTuple):
    """One temperature; per generated position, with 95 % intervals over generations."""

    temperature: float
    row: Row
    perplexity: float  # exp of the reference's any-order bound on -log p, an upper bound
    perplexity_low: float
    perplexity_high: float
    entropy: float  # of the sampler given its policy's random draws, nats
    entropy_low: float
    entropy_high: float
    token_entropy: float  # of the tokens within a generation, nats: what papers plot most often


class Reference(NamedTuple):
    """What generations are scored by."""

    denoise: Denoise
    key: RowKey  # of the masks
    draws: int  # masks of each generation


def check_generative(policy: Policy, temperatures: Sequence[float], config: SamplerConfig) -> None:
    """Raise MdmError where a policy's generations have no probability that can be read off."""
    for temperature in temperatures:
        Tempered(policy, temperature)
    if not temperatures:
        raise MdmError("nothing to sweep: give --temperatures")
    if not isinstance(policy, RevealOnly | RatedAncestral | ContextAncestral) or wants_lookahead(
        policy
    ):
        raise MdmError(
            f"{type(policy).__name__} re-masks, changes the logits or looks at what it drew, so "
            "no entropy follows from its generations: choose a policy that only reveals"
        )
    if hasattr(policy, "adjust_logits") and config.block_length is not None:
        raise MdmError(
            f"{type(policy).__name__} changes the logits: sweep it without --block_length"
        )
    if config.guidance or config.cache is not None or config.policy_sees_draw:
        raise MdmError("a temperature sweep takes no --guidance, --cache or --policy_sees_draw")


def generative_frontier(
    evaluator: Evaluator, policy: Policy, temperatures: Sequence[float], reference: Reference
) -> list[GenerativePoint]:
    """Generations at all temperatures, as one compiled call per batch, and what they are worth.

    Args:
      evaluator: its `config.temperature` is 1.
      policy: one that only reveals.
    """
    policies = [Tempered(policy, temperature) for temperature in temperatures]
    points = []
    for one, outcome in zip(policies, evaluator.sweep(policies), strict=True):
        found = evaluator.store.read(outcome.row.label).first(len(evaluator.examples.canvases))
        points.append(_point(evaluator, found, one, outcome.row, reference))
    return points


def _point(
    evaluator: Evaluator, found: Generations, policy: Tempered, row: Row, reference: Reference
) -> GenerativePoint:
    task, prompts = evaluator.task, evaluator.examples.canvases[found.index]
    is_response = prompts == task.vocabulary.mask_id
    count = is_response.sum(axis=1)
    nats = row_bounds(
        reference.key,
        reference.denoise,
        Batch(found.tokens, is_response),
        task.vocabulary,
        window=task.gen_length,
        draws=reference.draws,
    )
    logs = _log_samplers(
        *map(jnp.asarray, (prompts, found.tokens, found.revealed_at)),
        jnp.asarray(policy.token_temperature, jnp.float32),
        evaluator.denoise,
        policy.base,
        config=evaluator.config,
    )
    scale = count.mean()
    bound, entropy = (np.asarray(x, float) / scale for x in (nats, -np.asarray(logs)))
    ends = mean_interval(bound)
    return GenerativePoint(
        float(policy.token_temperature),
        row,
        *(math.exp(x) for x in (bound.mean(), ends.low, ends.high)),
        float(entropy.mean()),
        *mean_interval(entropy),
        token_entropy(found.tokens, is_response),
    )


@partial(jax.jit, static_argnames="config")
def _log_samplers(
    prompts: Int[Array, "n length"],
    tokens: Int[Array, "n length"],
    revealed_at: Int[Array, "n window"],
    temperature: Float[Array, ""],
    denoise: Denoise,
    policy: Policy,
    config: SamplerConfig,
) -> Float[Array, " n"]:
    """`log_sampler` of every generation."""

    def one(row: tuple) -> Float[Array, ""]:
        return log_sampler(*row, temperature, denoise=denoise, policy=policy, config=config)

    size = canvases_at_once(prompts.shape[1], config.pad_id, config.gen_length)
    return map_rows(one, (prompts, tokens, revealed_at), size)


def token_entropy(
    tokens: Int[np.ndarray, "n length"], is_response: Bool[np.ndarray, "n length"]
) -> float:
    """Entropy of the frequencies of ids within a response, nats, mean over generations."""
    found = []
    for row, inside in zip(tokens, is_response, strict=True):
        shares = np.unique(row[inside], return_counts=True)[1] / max(inside.sum(), 1)
        found.append(-np.sum(shares * np.log(shares)))
    return float(np.mean(found))
