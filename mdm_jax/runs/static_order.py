"""The static orders that learning starts from: searched once, then read from the run directory."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdm_jax.denoisers.base import Denoise
from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import NOT_FINITE, MdmError
from mdm_jax.evals.prompt_orders import padded_parts, prompt_orders
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.search import SearchData, StaticOrder, best_order, search_orders
from mdm_jax.orders.static import DenoiserCosts, sequential_nll
from mdm_jax.orders.variational.loss import OrderParts
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.orders.variational.order_choice import follow
from mdm_jax.orders.variational.start import InitConfig, start_at
from mdm_jax.runs.imitated_orders import (
    Followed,
    imitating_policy,
    joined,
    sequences_to_follow,
)
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.reporter import Progress
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch
from mdm_jax.training.order_choice import Fitted, fit_choice
from mdm_jax.types import RowKey

PROMPTS = 3  # part of the held-out sequences whose prompts are searched one by one


class StaticStart(NamedTuple):
    """The start of learning at the static orders that a search finds."""

    task: Task
    seed: int
    denoise: Denoise
    parts: OrderParts
    config: InitConfig

    def apply(
        self, params: dict[str, Any], temperature: float, path: Path, progress: Progress
    ) -> dict[str, Any]:
        """The parameters with posterior and policy at the orders; unchanged if none is asked for.

        Args:
          temperature: of the posterior at the first update.
          path: JSON file where the orders are kept, and read from if it is there.
          progress: shows the search.
        """
        if not (self.config.search.proposals and self.parts.model.form.induces_order):
            return params
        found = _read(path) if path.exists() else self.search(path, progress)
        if not self.config.chooses:
            orders, alone = jnp.asarray([found.order]), jnp.ones(1, jnp.float32)
            return start_at(params, orders, alone, self.config, temperature)
        return self.by_prompt(params, jnp.asarray(found.orders), temperature, progress)

    def by_prompt(
        self,
        params: dict[str, Any],
        orders: Int[Array, "orders window"],
        temperature: float,
        progress: Progress,
    ) -> dict[str, Any]:
        """The parameters with a choice of one order for each prompt, and a policy that follows it."""
        batches = sequences_to_follow(self.task, self.seed, self.config)
        fitted, chosen = self._choose(orders, batches, progress)
        params = start_at(params, orders, fitted.shares, self.config, temperature)
        followed, shared = Followed(batches, chosen), (self.parts, self.seed, self.config)
        policy = imitating_policy(params["policy"], followed, self.denoise, *shared)
        return params | {"choice": fitted.params, "policy": policy}

    def _choose(
        self, orders: Int[Array, "orders window"], batches: list[Sequence], progress: Progress
    ) -> tuple[Fitted, list[Int[Array, "n window"]]]:
        """The choice, and the order that each of the clean sequences gets."""
        config, model, network = self.config.choice, self.parts.model, self.parts.choice
        k_follow, k_fit = jax.random.split(stream(self.seed, Stream.ORDER_CHOICE))
        with progress("choosing orders by the prompt", len(batches)) as advance:
            followed = []
            for part, batch in enumerate(batches):
                k_part = jax.random.fold_in(k_follow, part)
                followed.append(follow(k_part, orders, batch, self.denoise, model, config.cap))
                advance(1, "")
            fitted = fit_choice(k_fit, joined(followed), network, config)
            advance(0, f"worth {fitted.worth:.3f}, of one order {fitted.best_single:.3f}")
        logits = jax.vmap(partial(network.apply, {"params": fitted.params}))
        return fitted, [orders[jnp.argmax(logits(one.features), axis=-1)] for one in followed]

    def search(self, path: Path, progress: Progress) -> StaticOrder:
        """The orders of all chains and of single prompts, and the best of them, which are also written
        to `path`.

        They are compared on other sequences than those that the search is made on.

        Raises:
          MdmError: the denoiser's logits are NaN.
        """
        searched, validation = self._data(0), self._data(1)
        key = stream(self.seed, Stream.ORDER_SEARCH)
        config, costs = self.config.search, DenoiserCosts(self.denoise, self.parts.model)
        with progress("searching static orders", config.proposals) as advance:
            orders = search_orders(
                key,
                searched,
                costs,
                config,
                lambda count, best: advance(count, f"{best:.3f} nats"),
            )
        if self.config.searched_prompts:
            orders = jnp.concatenate([orders, self._of_prompts(key, progress)])
        with progress("comparing orders", 1) as advance:
            found = best_order(orders, validation, costs)
            advance(1, f"{found.nll:.3f} nats per validation sequence")
        if np.isnan(found.nll):
            raise MdmError(f"the denoiser's logits {NOT_FINITE}")
        write_json(path, {name: np.asarray(x).tolist() for name, x in found._asdict().items()})
        return found

    def _of_prompts(self, key: RowKey, progress: Progress) -> Int[Array, "prompts window"]:
        """The order of each of some held-out prompts."""
        config, vocabulary = self.config.prompt_search, self.task.vocabulary
        batch = clean_batch(self.task, self.seed, HELDOUT + PROMPTS, config.prompts)
        canvases = np.where(batch.maskable, vocabulary.mask_id, batch.tokens)
        settings = self.denoise, SamplerConfig().for_task(self.task)
        of_prompts = jax.random.fold_in(key, PROMPTS)
        orders = []
        with progress("searching orders of single prompts", config.prompts) as advance:
            for new, rows in padded_parts(config.prompts, config.together):
                keys, budget = row_keys(of_prompts, jnp.asarray(rows)), self.parts.model.budget
                found = prompt_orders(
                    keys, jnp.asarray(canvases[rows]), *settings, budget, config.search
                )
                orders.append(found[:new])
                advance(new, f"at most {budget} calls")
        return jnp.concatenate(orders)

    def _data(self, part: int) -> SearchData:
        """Held-out sequences: part 0 for the search, part 1 for validation."""
        config = self.config.search
        size = (config.sequences, config.validation_sequences)[part]
        batch = clean_batch(self.task, self.seed, HELDOUT + part, size)
        sequences = Sequence(*map(jnp.asarray, batch))
        if config.by == "bound":
            return SearchData(sequences)
        k_slow = jax.random.fold_in(stream(self.seed, Stream.SEQUENTIAL_NLL), part)
        return SearchData(
            sequences, sequential_nll(k_slow, sequences, self.denoise, self.parts.model)
        )


def _read(path: Path) -> StaticOrder:
    return StaticOrder(**{name: np.asarray(value) for name, value in read_json(path).items()})
