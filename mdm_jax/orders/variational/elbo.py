"""The order as a latent variable: its evidence lower bound and unbiased gradients.

The model reveals masked positions in at most `budget` steps: at each, the policy draws which, and the
denoiser what; the last step reveals all that is left. The posterior sees the clean sequence. With the
reveal of a step integrated out,

  -log p(tokens) <= sum over steps of E_q(path so far)[ E_q[nll of what is revealed] + KL(q || policy) ]

Reference: Fox et al., arXiv:2602.23968, as reconstructed: the bound in its Rao-Blackwellised form, one
random step per sequence, REINFORCE with a leave-one-out baseline.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.chunks import kept, map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.variational.forms.base import Priorities, StepTerms, draw_path
from mdm_jax.orders.variational.model import (
    OrderModel,
    Sequence,
    calls_at_once,
    clean_nll,
    eos_places,
    response,
)
from mdm_jax.types import Count, Logits, Mask, RowKey, Scalar

UtilitiesOf = Callable[[Logits, Mask, Count, Any], Float[Array, " length"]]


class Draws(NamedTuple):
    """Terms of single paths, nats; leading axis [paths]."""

    terms: StepTerms  # [paths, window]
    nll: Float[Array, "paths window"]  # -log p(token) of each masked position, 0 elsewhere
    log_prob: Float[Array, " paths"]  # log q(path)
    is_masked: Bool[Array, "paths window"]


def draw_terms(
    key: RowKey,
    sequence: Sequence,
    priorities: Priorities,
    stops: Int[Array, " paths"],
    *,
    model: OrderModel,
    denoise: Denoise,
    utilities_of: UtilitiesOf,
) -> Draws:
    """The terms of the bound at one step of each of several paths: one denoiser call per path, and no
    more calls at once than `calls_at_once` allows.

    Args:
      priorities: the posterior's scores / temperature.
      stops: the step, 0..budget - 1, at which each path is looked at.
      denoise: as in sampling.
      utilities_of: the policy's utilities from (logits, is_masked, left, hidden states or None).
    """
    positions = response(sequence, model)
    maskable = sequence.maskable[positions]
    ends = eos_places(sequence, positions, model)

    def one(path: tuple[RowKey, Count]) -> Draws:
        key, stop = path
        path = draw_path(key, model.form, priorities, maskable, stop, model.budget, ends)
        logits, nll, hidden = clean_nll(sequence, positions, path.is_masked, denoise, model)
        nll = kept(nll)
        left = model.budget - stop
        seen = jax.lax.stop_gradient((logits, hidden))
        utilities = utilities_of(seen[0], path.is_masked, left, seen[1])
        terms = model.form.terms(priorities, utilities, path.is_masked, left)
        all_of_it = StepTerms(path.is_masked.astype(jnp.float32), *jnp.zeros((2, *nll.shape)))
        terms = jax.tree.map(lambda a, b: jnp.where(left <= 1, a, b), all_of_it, terms)
        return Draws(terms, nll, path.log_prob, path.is_masked)

    paths = row_keys(key, jnp.arange(len(stops))), stops
    return map_rows(one, paths, calls_at_once(len(sequence.tokens), model))


class Weights(NamedTuple):
    """Weights of the terms of the objective; the bound itself is kl 1, entropy 0, step_cost 0."""

    kl: Scalar
    entropy: Scalar
    step_cost: Scalar  # nats per step that is taken


def path_values(
    draws: Draws, weights: Weights, predicted_nll: Float[Array, " window"]
) -> Float[Array, " paths"]:
    """The value of each path at its step: minus its share of the bound, plus the predicted part.

    Every position is revealed exactly once, so the predictions of a path add up to the same number
    whatever the path is. Subtracting them changes no gradient, only its noise: a path is compared by how
    well it reveals positions, not by how many happen to be left.

    Args:
      predicted_nll: -log p(token) expected of each position; a function of the sequence alone, 0 where
        a position may be closed by an EOS instead of being revealed.
    """
    unexpected = jnp.sum(draws.terms.reveal * (draws.nll - predicted_nll[None, :]), axis=-1)
    kl, entropy = jnp.sum(draws.terms.kl, axis=-1), jnp.sum(draws.terms.entropy, axis=-1)
    taken = jnp.any(draws.is_masked, axis=-1)
    return weights.entropy * entropy - unexpected - weights.kl * kl - weights.step_cost * taken


def leave_one_out(values: Float[Array, " paths"]) -> Float[Array, " paths"]:
    """Each value minus the mean of the others; 0 for a single one."""
    count = values.shape[0]
    return (values - jnp.mean(values)) * (count / max(count - 1, 1))


def surrogate(
    draws: Draws, weights: Weights, predicted_nll: Float[Array, " window"], steps: int
) -> Scalar:
    """A loss whose gradient is the estimate of the bound's: paths that share one random step.

    steps / K * sum over paths of -(stop_gradient(advantage) * log q(path) + value).
    """
    values = path_values(draws, weights, jax.lax.stop_gradient(predicted_nll))
    advantages = jax.lax.stop_gradient(leave_one_out(values))
    return -steps * jnp.mean(advantages * draws.log_prob + values)


def predicted_nll_loss(draws: Draws, predicted_nll: Float[Array, " window"], steps: int) -> Scalar:
    """Squared error of the predictions where positions are revealed.

    Its minimum is the conditional mean.
    """
    reveal, nll = jax.lax.stop_gradient((draws.terms.reveal, draws.nll))
    return steps * jnp.mean(jnp.sum(reveal * (nll - predicted_nll[None, :]) ** 2, axis=-1))
