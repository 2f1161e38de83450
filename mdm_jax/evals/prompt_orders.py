"""The order that a search finds for each of many prompts, by the denoiser alone.

Sequential decoding completes each prompt several times; orders are compared by how probable they make
these completions. Nothing of a verifier is used.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.denoisers.base import Denoise
from mdm_jax.evals.completions import completions, sequential
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.listed import listing_of
from mdm_jax.orders.prompt_search import search_prompts
from mdm_jax.orders.search import SearchConfig, SearchData
from mdm_jax.orders.static import DenoiserCosts, OrderCosts
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.types import RowKey

USES = 3  # of a prompt's key: numbers below it are folded in


def padded_parts(count: int, size: int) -> Iterator[tuple[int, Int[np.ndarray, " size"]]]:
    """Rows 0..count - 1 in parts of one size, which are compiled once.

    Yields:
      How many rows of a part are new, and its rows; the last part is filled up with rows of its own.
    """
    for first in range(0, count, size):
        part = np.arange(first, min(first + size, count))
        yield len(part), np.resize(part, min(size, count))


def prompt_orders(
    keys: Key[Array, " prompts"],
    canvases: Int[Array, "prompts length"],
    denoise: Denoise,
    sampling: SamplerConfig,
    steps: int,
    search: SearchConfig,
) -> Int[Array, "prompts window"]:
    """Complete each prompt `search.sequences` times, and search its order of at most `steps` steps.

    Costs `PromptSearch.calls(steps)` denoiser calls for a prompt, and those of its completions.

    Args:
      keys: one per prompt; numbers from `USES` on may be folded in for other purposes.
      sampling: ids and window of the task; budget and temperature do not matter.
    """
    k_complete, k_compare, k_search = (
        jax.vmap(jax.random.fold_in, (0, None))(keys, use) for use in range(USES)
    )
    clean = completions(k_complete, canvases, denoise, sampling, search.sequences)
    maskable = jnp.repeat(canvases[:, None] == sampling.mask_id, search.sequences, axis=1)
    flat = (x.reshape(-1, x.shape[-1]) for x in (clean, maskable))
    costs, data = _compared(k_compare[0], *flat, denoise, sampling, steps)
    if search.by == "bound":
        data = SearchData(data.sequences)
    data = jax.tree.map(lambda x: x.reshape(*clean.shape[:2], *x.shape[1:]), data)
    return search_prompts(k_search, data, costs, search).orders


def _compared(
    key: RowKey,
    clean: Int[Array, "n length"],
    maskable: Bool[Array, "n length"],
    denoise: Denoise,
    sampling: SamplerConfig,
    steps: int,
) -> tuple[OrderCosts, SearchData]:
    """What orders cost, looked up where states can be listed, and the completions' probabilities."""
    if (listing := listing_of(denoise)) is not None:
        return listing.costs(steps), listing.data(np.asarray(clean), np.asarray(maskable))
    ids, window = (sampling.mask_id, sampling.pad_id), sampling.gen_length
    model = OrderModel(MaxNormalised(), steps, *ids, window, eos_id=sampling.eos_id)
    forcing = Forcing(*ids, window or clean.shape[1], window, eos_id=sampling.eos_id)
    sequences = Sequence(clean, maskable)
    found = sequential(key, sequences, denoise, forcing)
    return DenoiserCosts(denoise, model), SearchData(sequences, -found)
