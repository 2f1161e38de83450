"""Held-out likelihood: the any-order bound or that of learned rates, with and without padding."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax import sharding
from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.context_rates import ContextRates, rated_process
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.diffusion.elbo import bits_per_token, canvas_nll, perplexity
from mdm_jax.diffusion.genmd4 import mask_terms
from mdm_jax.diffusion.objectives import AnyOrder
from mdm_jax.diffusion.rates import Rates
from mdm_jax.errors import MdmError, check_rows
from mdm_jax.sampling.canvas import after_eos
from mdm_jax.tasks.base import Batch, Task, Vocabulary, heldout_title
from mdm_jax.types import Mask, RowKey, Scalar, Tokens

DRAWS = 8  # masks of each sequence


class Likelihood(NamedTuple):
    """Means over held-out sequences, nats; `error` is the standard error of `nelbo_per_token`."""

    nelbo_per_token: float
    error: float
    nelbo_per_content_token: float  # what follows the first EOS left out of the sum and the count
    nll_per_masked_token: float
    tokens_per_sequence: float


def summary(found: Likelihood, task: Task) -> str:
    """The bound on `task.heldout()` in the units that people use, as lines of text."""
    nats = found.nelbo_per_token
    return (
        f"{heldout_title(task)}: {nats:.4f} +- {1.96 * found.error:.4f} nats per token\n"
        f"  = {bits_per_token(nats, 1):.4f} bits per token, perplexity {perplexity(nats, 1):.3f}\n"
        f"  {found.nelbo_per_content_token:.4f} nats per token up to the first EOS\n"
        f"  {found.nll_per_masked_token:.4f} nats per masked token"
    )


class Rated(NamedTuple):
    """A denoiser, and the masking rates whose bound it is measured by; None: the any-order bound."""

    denoise: Denoise
    rates: Rates | ContextRates | None


class _Setting(NamedTuple):
    """What is the same for all sequences."""

    vocabulary: Vocabulary
    window: int | None
    draws: int
    devices: int = 1  # that rows are split over

    @property
    def canvas(self) -> dict[str, int | None]:
        """The ids and the window of `canvas_call`."""
        ids = self.vocabulary
        return {"mask_id": ids.mask_id, "pad_id": ids.pad_id, "window": self.window}


def _row_terms(
    key: RowKey, tokens: Tokens, maskable: Mask, t: Scalar, denoise: Denoise, setting: _Setting
) -> tuple[Float[Array, " length"], Float[Array, " length"], Mask]:
    """Weighted and plain negative log-likelihood of each masked position, and the mask."""
    masks, weights = AnyOrder().draw(key, maskable, t)
    nll = canvas_nll(denoise, tokens, masks[0], maskable, **setting.canvas)
    return weights[0] * nll, nll, masks[0]


def _rated_terms(
    key: RowKey,
    tokens: Tokens,
    maskable: Mask,
    u: Scalar,
    denoise: Denoise,
    setting: _Setting,
    rates: Rates | ContextRates,
) -> tuple[Float[Array, " length"], Float[Array, " length"], Mask]:
    """`_row_terms` for the bound under rates, with a share u^2 of the tokens masked.

    Their weight is then about 2 / u: with a share of u it would be 1 / u, of infinite variance.
    """
    by, shown_of = rated_process(denoise, rates, tokens, maskable, **setting.canvas)
    found = mask_terms(key, tokens, maskable, u**2, by, shown_of)
    return 2.0 * u * found.bound, found.nll, found.is_masked


def heldout_likelihood(
    key: Key[Array, ""],
    denoise: Denoise | Rated,
    data: Batch,
    vocabulary: Vocabulary,
    *,
    window: int | None = None,
    draws: int = DRAWS,
    batch_size: int = 16,
) -> Likelihood:
    """The bound on clean sequences, any-order or `Rated`, by `draws` stratified masks of each.

    `window` is the task's `gen_length`. Row i uses fold_in(key, i), so
    the result does not depend on `batch_size`; a call works on batch_size * draws canvases, on as many
    of them at once as `canvases_at_once` allows. Rows are split over the devices of a denoiser that all
    of them have.

    Raises:
      MdmError: there are no sequences.
    """
    if len(data.tokens) == 0:
        raise MdmError("there are no held-out sequences to measure the likelihood on")
    content = np.asarray(data.maskable)
    if vocabulary.eos_id is not None:
        past = jax.vmap(lambda tokens, here: after_eos(tokens, here, vocabulary.eos_id))
        content = content & ~np.asarray(past(jnp.asarray(data.tokens), jnp.asarray(data.maskable)))
    setting, sums = _Setting(vocabulary, window, draws), np.zeros(4)
    bounds = []
    model = denoise if isinstance(denoise, Rated) else Rated(denoise, None)
    for bound, nll, masked, real in _measured(key, model, data, content, setting, batch_size):
        bounds.append(bound.sum(-1))
        sums += [bound.sum(), (bound * real).sum(), nll.sum() / draws, masked.sum() / draws]
    return _summary(sums, np.concatenate(bounds), data, content)


def row_bounds(
    key: Key[Array, ""],
    denoise: Denoise,
    data: Batch,
    vocabulary: Vocabulary,
    *,
    window: int | None = None,
    draws: int = DRAWS,
    batch_size: int = 16,
) -> Float[np.ndarray, " rows"]:
    """The any-order bound on -log p of each row's maskable tokens given the rest, nats.

    The sum of `position_bounds`.
    """
    sizes = {"window": window, "draws": draws, "batch_size": batch_size}
    return position_bounds(key, denoise, data, vocabulary, **sizes).sum(-1)


def position_bounds(
    key: Key[Array, ""],
    denoise: Denoise,
    data: Batch,
    vocabulary: Vocabulary,
    *,
    window: int | None = None,
    draws: int = DRAWS,
    batch_size: int = 16,
) -> Float[np.ndarray, "rows length"]:
    """The part of each position in the any-order bound on -log p of each row's maskable tokens, nats.

    Each is the mean over `draws` stratified masks: maskable / masked * nll where it is masked. Arguments
    as `heldout_likelihood`. Reference: LLaDA, arXiv:2502.09992, Eq. 6.
    """
    setting = _Setting(vocabulary, window, draws)
    found = _measured(key, Rated(denoise, None), data, data.maskable, setting, batch_size)
    return np.concatenate([bound for bound, *_ in found])[: len(data.tokens)]


def _measured(
    key: RowKey, model: Rated, data: Batch, content: np.ndarray, setting: _Setting, size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Terms of all rows, `size` of them in each batch: those of `_chunk_terms`, and the content."""
    mesh = sharding.data_mesh(model)
    if mesh is None:
        for *rows, real in _chunks(data, content, size):
            terms = jax.device_get(_chunk_terms(key, *rows, model, setting))
            _check_bound(terms[0], rows[0])
            yield (*terms, real)
        return
    key, setting = (
        sharding.shard(key, sharding.replicated(mesh)),
        setting._replace(devices=mesh.size),
    )
    for *rows, real in _chunks(data, content, -(-size // mesh.size) * mesh.size):
        placed = sharding.shard(tuple(rows), sharding.by_row(mesh))
        terms = sharding.to_host(_chunk_terms(key, *placed, model, setting))
        _check_bound(terms[0], rows[0])
        yield (*terms, real)


def _check_bound(
    bound: Float[np.ndarray, "batch length"], index: Int[np.ndarray, " batch"]
) -> None:
    """The terms of a row may be infinite, for an id that is never produced, but not NaN."""
    check_rows("terms of the bound of row", ~np.isnan(bound.sum(-1)), index)


def _chunks(data: Batch, content: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches of equal size; what fills up the last one is masked out."""
    for start in range(0, len(data.tokens), size):
        index = np.arange(start, start + size)
        row = np.minimum(index, len(data.tokens) - 1)
        inside = (index < len(data.tokens))[:, None]
        yield index, data.tokens[row], data.maskable[row] & inside, content[row] & inside


@jax.jit(static_argnames="setting")
def _chunk_terms(
    key: RowKey,
    index: Int[Array, " batch"],
    tokens: Int[Array, "batch length"],
    maskable: Array,
    model: Rated,
    setting: _Setting,
) -> tuple[Array, Array, Array]:
    """Mean weighted terms [batch, length]; plain terms and masks summed over draws."""
    size = canvases_at_once(tokens.shape[1], setting.vocabulary.pad_id, setting.window)
    denoise, rates = model

    def row(row: tuple[RowKey, Tokens, Mask]) -> tuple:
        key, tokens, maskable = row
        k_times, k_masks = jax.random.split(key)
        draws = jnp.arange(setting.draws)
        times = (draws + 1.0 - jax.random.uniform(k_times, (), jnp.float32)) / setting.draws
        keys = row_keys(k_masks, draws)

        def terms(draw: tuple[RowKey, Scalar]) -> tuple:
            here = draw[0], tokens, maskable, draw[1], denoise, setting
            return _row_terms(*here) if rates is None else _rated_terms(*here, rates)

        bound, nll, masked = map_rows(terms, (keys, times), size)
        return bound.mean(0), nll.sum(0), masked.sum(0)

    rows = row_keys(key, index), tokens, maskable
    return map_rows(row, rows, max(size // setting.draws, 1) * setting.devices)


def _summary(sums: np.ndarray, bounds: np.ndarray, data: Batch, content: np.ndarray) -> Likelihood:
    rows, tokens = len(data.tokens), max(int(data.maskable.sum()), 1)
    spread = bounds[:rows].std(ddof=1) if rows > 1 else float("nan")
    return Likelihood(
        nelbo_per_token=float(sums[0] / tokens),
        error=float(spread * np.sqrt(rows) / tokens),
        nelbo_per_content_token=float(sums[1] / max(int(content.sum()), 1)),
        nll_per_masked_token=float(sums[2] / max(sums[3], 1e-9)),
        tokens_per_sequence=tokens / rows,
    )
