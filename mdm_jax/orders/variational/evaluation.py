"""The order bound on held-out sequences: every step of several paths, no random step."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.orders.variational.elbo import Sequence, response
from mdm_jax.orders.variational.loss import OrderParts, bound_denoiser, scores_of, sequence_draws
from mdm_jax.sampling.canvas import after_eos
from mdm_jax.tasks.base import Batch
from mdm_jax.types import RowKey, Scalar


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


def order_bound(
    key: RowKey,
    params: dict,
    data: Batch,
    parts: OrderParts,
    denoise: Denoise,
    *,
    temperature: float,
    eos_id: int | None = None,
    paths: int = 4,
    batch_size: int = 64,
) -> OrderBound:
    """The bound of posterior and policy, `paths` whole paths for each sequence.

    Row i uses fold_in(key, i), so the result does not depend on `batch_size`.

    Raises:
      ValueError: there are no sequences.
    """
    if len(data.tokens) == 0:
        raise ValueError("there are no held-out sequences to measure the bound on")
    measure = jax.jit(partial(_chunk, parts=parts, paths=paths, eos_id=eos_id))
    found = []
    for start in range(0, len(data.tokens), batch_size):
        rows = np.minimum(np.arange(start, start + batch_size), len(data.tokens) - 1)
        sequences = Sequence(jnp.asarray(data.tokens[rows]), jnp.asarray(data.maskable[rows]))
        keys = row_keys(key, jnp.asarray(rows))
        found.append(measure(params, keys, sequences, denoise, jnp.asarray(temperature)))
    columns = [np.concatenate(column)[: len(data.tokens)] for column in zip(*found, strict=True)]
    nll, kl, entropy, steps, content_nll, content_kl = columns
    spread = np.std(nll + kl, ddof=1) if len(nll) > 1 else float("nan")
    means = [
        float(np.mean(x)) for x in (nll + kl, nll, kl, entropy, steps, content_nll, content_kl)
    ]
    return OrderBound(means[0], float(spread / np.sqrt(len(nll))), *means[1:])


def _chunk(
    params: dict,
    keys: Array,
    sequences: Sequence,
    denoise: Denoise,
    temperature: Scalar,
    *,
    parts: OrderParts,
    paths: int,
    eos_id: int | None,
) -> tuple[Float[Array, " batch"], ...]:
    """Per sequence, nats: token nll, KL, entropy, steps used, and the first two without padding."""
    budget = parts.model.budget
    stops = jnp.tile(jnp.arange(budget), paths)
    denoiser = bound_denoiser(params, denoise)

    def row(key: RowKey, sequence: Sequence) -> tuple:
        priorities = scores_of(params, sequence, parts).priority / temperature
        draws = sequence_draws(
            params, key, sequence, priorities, stops, parts=parts, denoise=denoiser
        )
        positions = response(sequence, parts.model)
        content = jnp.ones(positions.shape, bool)
        if eos_id is not None:
            content = ~after_eos(sequence.tokens[positions], sequence.maskable[positions], eos_id)
        nll = draws.terms.reveal * draws.nll
        used = jnp.sum(jnp.any(draws.is_masked, axis=-1))
        sums = (nll.sum(), draws.terms.kl.sum(), draws.terms.entropy.sum(), used)
        return *(x / paths for x in sums), *(
            (x * content).sum() / paths for x in (nll, draws.terms.kl)
        )

    return jax.vmap(row)(keys, sequences)
