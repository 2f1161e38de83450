"""The static order that learning starts from: searched once, then read from the run directory."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import NOT_FINITE, MdmError
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.search import SearchData, StaticOrder, best_order, search_orders
from mdm_jax.orders.static import sequential_nll
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.orders.variational.start import InitConfig, start_at
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.reporter import Progress
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch


class StaticStart(NamedTuple):
    """The start of learning at the best static order that a search finds."""

    task: Task
    seed: int
    denoise: Denoise
    model: OrderModel
    config: InitConfig

    def apply(
        self, params: dict[str, Any], temperature: float, path: Path, progress: Progress
    ) -> dict[str, Any]:
        """The parameters with posterior and policy at the order; unchanged if none is asked for.

        Args:
          temperature: of the posterior at the first update.
          path: JSON file where the order is kept, and read from if it is there.
          progress: shows the search.
        """
        if not (self.config.search.proposals and self.model.form.induces_order):
            return params
        order = _read(path) if path.exists() else self.search(path, progress)
        return start_at(params, jnp.asarray(order.order), self.config, temperature)

    def search(self, path: Path, progress: Progress) -> StaticOrder:
        """The best order, which is also written to `path`.

        Chains are compared on other sequences than those that the search is made on.

        Raises:
          MdmError: the denoiser's logits are NaN.
        """
        searched, validation = self._data(0), self._data(1)
        key = stream(self.seed, Stream.ORDER_SEARCH)
        config = self.config.search
        with progress("searching a static order", config.proposals) as advance:
            orders = search_orders(
                key,
                searched,
                self.denoise,
                self.model,
                config,
                lambda count, best: advance(count, f"{best:.3f} nats"),
            )
            found = best_order(orders, validation, self.denoise, self.model)
            advance(0, f"{found.nll:.3f} nats per validation sequence")
        if np.isnan(found.nll):
            raise MdmError(f"the denoiser's logits {NOT_FINITE}")
        write_json(path, {name: np.asarray(x).tolist() for name, x in found._asdict().items()})
        return found

    def _data(self, part: int) -> SearchData:
        """Held-out sequences: part 0 for the search, part 1 for validation."""
        config = self.config.search
        size = (config.sequences, config.validation_sequences)[part]
        batch = clean_batch(self.task, self.seed, HELDOUT + part, size)
        sequences = Sequence(*map(jnp.asarray, batch))
        if config.by == "bound":
            return SearchData(sequences)
        k_slow = jax.random.fold_in(stream(self.seed, Stream.SEQUENTIAL_NLL), part)
        return SearchData(sequences, sequential_nll(k_slow, sequences, self.denoise, self.model))


def _read(path: Path) -> StaticOrder:
    return StaticOrder(**{name: np.asarray(value) for name, value in read_json(path).items()})
