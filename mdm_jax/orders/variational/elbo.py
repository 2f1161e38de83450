"""The order as a latent variable: its evidence lower bound and unbiased gradients.

The model reveals masked positions in at most `budget` steps: at each, the policy draws which, and the
denoiser what; the last step reveals all that is left. The posterior sees the clean sequence. With the
reveal of a step integrated out,

  -log p(tokens) <= sum over steps of E_q(path so far)[ E_q[nll of what is revealed] + KL(q || policy) ]

Reference: Fox et al., arXiv:2602.23968, as reconstructed: the bound in its Rao-Blackwellised form, one
random step per sequence, REINFORCE with a leave-one-out baseline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import apply_mask, row_keys
from mdm_jax.diffusion.elbo import token_nll
from mdm_jax.orders.variational.forms.base import Form, Priorities, StepTerms, draw_path
from mdm_jax.sampling.tokens import mask_logits
from mdm_jax.types import Count, Logits, Mask, RowKey, Scalar, Tokens

Hidden = Float[Array, "window features"] | None
UtilitiesOf = Callable[[Logits, Mask, Count, Any], Float[Array, " length"]]


@dataclass(frozen=True)
class OrderModel:
    """What is fixed while an order is learned.

    Attributes:
      form: of the posterior.
      budget: steps that a sequence may take.
      mask_id, pad_id: the two ids that are not tokens.
      window: the response is this many positions from the first maskable one; None: all positions.
      eos_id: where given, what follows a revealed EOS is closed at no cost, as the sampler does it.
      hidden: whether the policy sees the denoiser's hidden states.
    """

    form: Form
    budget: int
    mask_id: int
    pad_id: int
    window: int | None = None
    eos_id: int | None = None
    hidden: bool = False

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"budget must be at least one step, got {self.budget}")


class Sequence(NamedTuple):
    """One clean sequence, its prompt left out of `maskable`."""

    tokens: Tokens
    maskable: Mask


class Draws(NamedTuple):
    """What single paths contributed; nats, leading axis [paths]."""

    terms: StepTerms  # [paths, window]
    nll: Float[Array, "paths window"]  # -log p(token) of each masked position, 0 elsewhere
    log_prob: Float[Array, " paths"]  # log q(path)
    is_masked: Bool[Array, "paths window"]


def response(sequence: Sequence, model: OrderModel) -> Int[Array, " window"]:
    """The canvas positions that are generated."""
    if model.window is None:
        return jnp.arange(len(sequence.tokens))
    return jnp.argmax(sequence.maskable) + jnp.arange(model.window)


def eos_places(sequence: Sequence, positions: Int[Array, " window"], model: OrderModel) -> Mask:
    """Where the response has EOS, if a revealed one closes what follows it; else nowhere."""
    if model.eos_id is None:
        return jnp.zeros(positions.shape, bool)
    return sequence.tokens[positions] == model.eos_id


def always_revealed(sequence: Sequence, model: OrderModel) -> Mask:
    """Response positions that no EOS can close: every path reveals each of them exactly once."""
    positions = response(sequence, model)
    ends = eos_places(sequence, positions, model) & sequence.maskable[positions]
    return sequence.maskable[positions] & (jnp.cumsum(ends) - ends == 0)


def clean_nll(
    sequence: Sequence,
    positions: Int[Array, " window"],
    is_masked: Mask,
    denoise: Denoise,
    model: OrderModel,
) -> tuple[Float[Array, "window vocab"], Float[Array, " window"], Hidden]:
    """One denoiser call at a state of the response.

    Returns:
      Logits, -log p(token) of the masked positions (0 elsewhere; nats), and the denoiser's hidden
      states where the model's policy asks for them.
    """
    whole = jnp.zeros(sequence.tokens.shape, bool).at[positions].set(is_masked)
    canvas = apply_mask(sequence.tokens, whole, model.mask_id)
    valid, hidden = sequence.tokens != model.pad_id, None
    if model.hidden:
        logits, hidden = denoise.with_hidden(canvas, valid, positions)
    else:
        logits = denoise(canvas, valid, positions)
    logits = mask_logits(logits.astype(jnp.float32), (model.mask_id, model.pad_id))
    nll = token_nll(logits, jnp.where(is_masked, sequence.tokens[positions], 0))
    return logits, jnp.where(is_masked, nll, 0.0), hidden


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
    """The terms of the bound at one step of each of several paths: one denoiser call per path.

    Args:
      priorities: the posterior's scores / temperature.
      stops: the step, 0..budget - 1, at which each path is looked at.
      denoise: as in sampling.
      utilities_of: the policy's utilities from (logits, is_masked, left, hidden states or None).
    """
    positions = response(sequence, model)
    maskable = sequence.maskable[positions]
    ends = eos_places(sequence, positions, model)

    def one(key: RowKey, stop: Count) -> Draws:
        path = draw_path(key, model.form, priorities, maskable, stop, model.budget, ends)
        logits, nll, hidden = clean_nll(sequence, positions, path.is_masked, denoise, model)
        left = model.budget - stop
        seen = jax.lax.stop_gradient((logits, hidden))
        utilities = utilities_of(seen[0], path.is_masked, left, seen[1])
        terms = model.form.terms(priorities, utilities, path.is_masked, left)
        all_of_it = StepTerms(path.is_masked.astype(jnp.float32), *jnp.zeros((2, *nll.shape)))
        terms = jax.tree.map(lambda a, b: jnp.where(left <= 1, a, b), all_of_it, terms)
        return Draws(terms, nll, path.log_prob, path.is_masked)

    return jax.vmap(one)(row_keys(key, jnp.arange(len(stops))), stops)


class Weights(NamedTuple):
    """What counts how much in the objective; the bound itself is kl 1, entropy 0, step_cost 0."""

    kl: Scalar
    entropy: Scalar
    step_cost: Scalar  # nats per step that is taken


def path_values(
    draws: Draws, weights: Weights, predicted_nll: Float[Array, " window"]
) -> Float[Array, " paths"]:
    """What each path is worth at its step: minus its share of the bound, minus what was forecast.

    Every position is revealed exactly once, so over the steps of a path the forecast adds up to the
    same whatever the path is. Taking it away changes no gradient, only its noise: a path is no longer
    judged by how many positions happen to be left, but by how well it reveals them.

    Args:
      forecast: -log p(token) that each position is expected to cost; a function of the sequence alone,
        0 where a position may be closed by an EOS instead of being revealed.
    """
    surprise = jnp.sum(draws.terms.reveal * (draws.nll - predicted_nll), axis=-1)
    kl, entropy = jnp.sum(draws.terms.kl, axis=-1), jnp.sum(draws.terms.entropy, axis=-1)
    taken = jnp.any(draws.is_masked, axis=-1)
    return weights.entropy * entropy - surprise - weights.kl * kl - weights.step_cost * taken


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
    """Squared error of the forecast where positions are revealed; its minimum is the conditional mean."""
    reveal, nll = jax.lax.stop_gradient((draws.terms.reveal, draws.nll))
    return steps * jnp.mean(jnp.sum(reveal * (nll - predicted_nll) ** 2, axis=-1))
