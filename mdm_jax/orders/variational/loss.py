"""The loss of posterior and policy, and of the denoiser where it is fine-tuned jointly."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.denoisers.transformer import Transformer
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.variational.elbo import Draws, draw_terms, predicted_nll_loss, surrogate
from mdm_jax.orders.variational.model import (
    OrderModel,
    Sequence,
    always_revealed,
    calls_at_once,
    response,
)
from mdm_jax.orders.variational.objective import OrderObjective
from mdm_jax.orders.variational.order_choice import (
    PROMPT_FEATURES,
    OrderChoice,
    prompt_features,
)
from mdm_jax.orders.variational.posterior import PosteriorScores, Scorer
from mdm_jax.policies.networks.policy_network import PolicyNetwork
from mdm_jax.types import RowKey, Scalar


class OrderBatch(NamedTuple):
    """Clean sequences with their prompts shown, and how far the run has come (0 to 1, per row)."""

    tokens: Int[Array, "batch length"]
    maskable: Bool[Array, "batch length"]
    progress: Float[Array, " batch"]


@dataclass(frozen=True)
class OrderParts:
    """The networks of an order model, without their parameters."""

    model: OrderModel
    scorer: Scorer
    network: PolicyNetwork
    choice: OrderChoice | None = None  # where the posterior has several static orders


@partial(jax.jit, static_argnames=("parts", "length", "vocab", "hidden"))
def init_order(parts: OrderParts, key: RowKey, length: int, vocab: int, hidden: int = 1) -> dict:
    """Fresh parameters of posterior and policy for canvases of `length`."""
    k_posterior, k_policy = jax.random.split(key)
    k_choice = jax.random.fold_in(key, 2)
    ones = jnp.ones((length,), bool)
    positions = response(Sequence(jnp.zeros((length,), jnp.int32), ones), parts.model)
    window = len(positions)
    tokens, order = jnp.zeros((length,), jnp.int32), None
    if parts.choice is not None:
        order = jnp.zeros((), jnp.int32)
    scorer = parts.scorer.init(k_posterior, tokens, ones, ones, positions, order)
    seen = jnp.zeros((window, hidden)) if parts.model.hidden else None
    policy = parts.network.init(
        k_policy, jnp.zeros((window, vocab)), ones[:window], jnp.asarray(1), seen
    )
    params = {"posterior": scorer["params"], "policy": policy["params"]}
    if parts.choice is not None:
        features = jnp.zeros((window, PROMPT_FEATURES), jnp.float32)
        params["choice"] = parts.choice.init(k_choice, features)["params"]
    return params


def scores_of(
    params: dict, sequence: Sequence, parts: OrderParts, denoise: Denoise
) -> PosteriorScores:
    """The posterior's scores of one sequence: one call of the scorer, and where the prompt chooses one
    of several orders, one of the denoiser.
    """
    valid = sequence.tokens != parts.model.pad_id
    positions, order = response(sequence, parts.model), None
    if parts.choice is not None:
        features = prompt_features(sequence, denoise, parts.model)
        order = jnp.argmax(parts.choice.apply({"params": params["choice"]}, features))
    return parts.scorer.apply(
        {"params": params["posterior"]}, sequence.tokens, valid, sequence.maskable, positions, order
    )


def sequence_draws(
    params: dict,
    key: RowKey,
    sequence: Sequence,
    priorities: Float[Array, " window"],
    stops: Int[Array, " paths"],
    *,
    parts: OrderParts,
    denoise: Denoise,
) -> Draws:
    """`draw_terms` with the networks at these parameters."""
    apply = partial(parts.network.apply, {"params": params["policy"]})
    return draw_terms(
        key,
        sequence,
        priorities,
        stops,
        model=parts.model,
        denoise=denoise,
        utilities_of=apply,
    )


def order_loss(
    params: dict,
    key: RowKey,
    batch: OrderBatch,
    *,
    parts: OrderParts,
    objective: OrderObjective,
    denoise: Denoise,
    devices: int = 1,
) -> tuple[Scalar, dict[str, Any]]:
    """A loss whose gradient estimates that of the bound, per maskable token.

    One random step per sequence, stratified over the batch, and `samples` paths to it. The denoiser is
    fine-tuned jointly where `params` has a "denoiser"; its blocks are then computed again in the backward
    pass, as are all activations of a batch that is too large to be in memory.

    Args:
      devices: that the batch is split over.

    Returns:
      The loss, whose value means nothing, and the bound and its terms as metrics in nats.
    """
    denoise = _recomputing(bound_denoiser(params, denoise))
    budget, count = parts.model.budget, batch.tokens.shape[0]
    k_shift, k_steps, k_rows = jax.random.split(key, 3)
    # so that a part of a round favours no step
    shift = jax.random.randint(k_shift, (), 0, budget, jnp.int32)
    steps = jax.random.permutation(k_steps, (shift + jnp.arange(count)) % budget)

    def row(row: tuple[RowKey, OrderBatch, Array]) -> tuple[Scalar, Draws]:
        key, (tokens, maskable, progress), step = row
        sequence = Sequence(tokens, maskable)
        scores = scores_of(params, sequence, parts, denoise)
        draws = sequence_draws(
            params,
            key,
            sequence,
            scores.priority / objective.temperature_at(progress),
            jnp.full((objective.samples,), step),
            parts=parts,
            denoise=denoise,
        )
        predicted_nll = jnp.where(always_revealed(sequence, parts.model), scores.predicted_nll, 0.0)
        predicted_nll = predicted_nll * objective.predicted_nll
        loss = surrogate(draws, objective.weights_at(progress), predicted_nll, budget)
        return loss + objective.predicted_nll * predicted_nll_loss(
            draws, predicted_nll, budget
        ), draws

    rows = row_keys(k_rows, jnp.arange(count)), batch, steps
    size = calls_at_once(batch.tokens.shape[1], parts.model) * devices // objective.samples
    loss, draws = map_rows(row, rows, max(size, devices), recompute=True)
    tokens = jnp.maximum(jnp.sum(batch.maskable), 1) / count
    return jnp.mean(loss) / tokens, bound_metrics(draws, budget)


def bound_denoiser(params: PyTree, denoise: Denoise) -> Denoise:
    """The denoiser, with the parameters in `params` where it is fine-tuned jointly.

    They are float32 while they are trained, and get the types of the denoiser's own here.
    """
    if "denoiser" not in params:
        return denoise
    tuned = jax.tree.map(
        lambda leaf, before: leaf.astype(before.dtype), params["denoiser"], denoise.params
    )
    return bind(denoise.module, tuned)


def _recomputing(denoise: Denoise) -> Denoise:
    """The denoiser, with `TransformerConfig.remat`; published networks always do so."""
    module = getattr(denoise, "module", None)
    if not isinstance(module, Transformer):
        return denoise
    return bind(module.clone(config=replace(module.config, remat=True)), denoise.params)


def bound_metrics(draws: Draws, budget: int) -> dict[str, Scalar]:
    """The bound and its parts from draws [batch, paths], each at one random step; nats per sequence."""

    def mean(x: Array) -> Scalar:
        return budget * jnp.mean(jnp.sum(x, axis=-1))

    nll, kl = mean(draws.terms.reveal * draws.nll), mean(draws.terms.kl)
    return {
        "nelbo": nll + kl,
        "token_nll": nll,
        "kl": kl,
        "posterior_entropy": mean(draws.terms.entropy),
        "steps_used": budget * jnp.mean(jnp.any(draws.is_masked, axis=-1)),
    }
