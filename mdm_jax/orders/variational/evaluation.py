"""The order bound on held-out sequences: every step of several paths, no random step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import MdmError, check_rows
from mdm_jax.orders.variational.elbo import Draws
from mdm_jax.orders.variational.loss import OrderParts, bound_denoiser, scores_of, sequence_draws
from mdm_jax.orders.variational.model import OrderModel, Sequence, calls_at_once, response
from mdm_jax.sampling.canvas import after_eos
from mdm_jax.types import Mask, RowKey

PATHS = 4  # of each sequence


class OrderBound(NamedTuple):
    """Means over held-out sequences, nats per sequence; `error` is the standard error of `nelbo`."""

    nelbo: float  # token_nll + kl: a bound on -log p(response | prompt)
    error: float
    token_nll: float
    kl: float
    posterior_entropy: float
    steps_used: float
    content_token_nll: float  # the same without what follows the first EOS
    content_kl: float


class RowTerms(NamedTuple):
    """Terms of the bound of one sequence, nats, mean over its paths."""

    token_nll: Float[Array, "*batch"]
    kl: Float[Array, "*batch"]
    entropy: Float[Array, "*batch"]
    steps_used: Float[Array, "*batch"]
    content_token_nll: Float[Array, "*batch"]
    content_kl: Float[Array, "*batch"]


class FittedOrder(NamedTuple):
    """Posterior and policy with their parameters.

    `params` may also hold the parameters of a denoiser that was fine-tuned jointly.
    """

    parts: OrderParts
    params: dict[str, Any]
    temperature: float  # of the posterior


def order_bound(
    key: RowKey,
    order: FittedOrder,
    data: Sequence,
    denoise: Denoise,
    *,
    paths: int = PATHS,
    batch_size: int = 64,
) -> OrderBound:
    """The bound of posterior and policy on clean sequences, from whole paths of reveals.

    Row i uses fold_in(key, i), so the result does not depend on `batch_size`.

    Args:
      data: clean sequences as host arrays, leading axis [n].
      paths: drawn for each sequence; each costs as many denoiser calls as it has steps.

    Raises:
      MdmError: there are no sequences.
    """
    count = len(data.tokens)
    if count == 0:
        raise MdmError("there are no held-out sequences to measure the bound on")
    measure = partial(_batch_terms, parts=order.parts, paths=paths)
    found = []
    for start in range(0, count, batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        sequences = Sequence(jnp.asarray(data.tokens[rows]), jnp.asarray(data.maskable[rows]))
        keys, temperature = row_keys(key, jnp.asarray(rows)), jnp.asarray(order.temperature)
        found.append(measure(order.params, keys, sequences, denoise, temperature))
    terms = RowTerms(*(np.concatenate(column)[:count] for column in zip(*found, strict=True)))
    check_rows("terms of the bound of row", ~np.isnan(terms.token_nll + terms.kl))
    return _means(terms)


def _means(rows: RowTerms) -> OrderBound:
    nelbo = rows.token_nll + rows.kl
    spread = np.std(nelbo, ddof=1) if len(nelbo) > 1 else float("nan")
    first, *others = (float(np.mean(column)) for column in (nelbo, *rows))
    return OrderBound(first, float(spread / np.sqrt(len(nelbo))), *others)


@partial(jax.jit, static_argnames=("parts", "paths"))
def _batch_terms(
    params: dict[str, Any],
    keys: Array,
    sequences: Sequence,
    denoise: Denoise,
    temperature: Float[Array, ""],
    *,
    parts: OrderParts,
    paths: int,
) -> RowTerms:
    """The terms of each sequence of a batch."""
    stops = jnp.tile(jnp.arange(parts.model.budget), paths)
    denoiser = bound_denoiser(params, denoise)
    size = calls_at_once(sequences.tokens.shape[1], parts.model) // len(stops)

    def row(row: tuple[RowKey, Sequence]) -> RowTerms:
        key, sequence = row
        priorities = scores_of(params, sequence, parts, denoiser).priority / temperature
        draws = sequence_draws(
            params, key, sequence, priorities, stops, parts=parts, denoise=denoiser
        )
        return _row_terms(draws, _content(sequence, parts.model), paths)

    return map_rows(row, (keys, sequences), max(size, 1))


def _content(sequence: Sequence, model: OrderModel) -> Mask:
    """Response positions up to the first EOS."""
    positions = response(sequence, model)
    if model.eos_id is None:
        return jnp.ones(positions.shape, bool)
    return ~after_eos(sequence.tokens[positions], sequence.maskable[positions], model.eos_id)


def _row_terms(draws: Draws, content: Mask, paths: int) -> RowTerms:
    nll = draws.terms.reveal * draws.nll
    used = jnp.sum(jnp.any(draws.is_masked, axis=-1))
    sums = (nll.sum(), draws.terms.kl.sum(), draws.terms.entropy.sum(), used)
    inside = ((nll * content[None, :]).sum(), (draws.terms.kl * content[None, :]).sum())
    return RowTerms(*(x / paths for x in (*sums, *inside)))
