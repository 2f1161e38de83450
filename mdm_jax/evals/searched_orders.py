"""What the best order of each prompt reaches: searched before generation, by the denoiser alone.

Sequential decoding completes each prompt several times; orders are compared by how probable they make
these completions. Nothing of the verifier is used.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import check_range
from mdm_jax.evals.completions import completions, generate_in, sequential
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.labels import label_of
from mdm_jax.evals.score import Outcome, Row, take, verify_all
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.listed import Listing, listing_of
from mdm_jax.orders.prompt_search import prompt_search_calls, search_prompts
from mdm_jax.orders.search import SearchConfig, SearchData
from mdm_jax.orders.static import DenoiserCosts, OrderCosts
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.model import OrderModel, Sequence
from mdm_jax.policies.heuristics import LowEntropy
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.reporter import Progress, silent
from mdm_jax.types import Rollout, RowKey

NAME = "OrderOfEachPrompt"


@dataclass(frozen=True, kw_only=True)
class PromptSearch:
    """A search for each prompt.

    Attributes:
      prompts: that are searched, the first ones of the comparison.
      search: of each; `sequences` completions of the prompt are what orders are compared on, and there
        are no validation sequences.
      together: prompts whose search is one compiled call.
    """

    prompts: int = 256
    search: SearchConfig = field(
        default_factory=lambda: SearchConfig(proposals=300, chains=1, sequences=16)
    )
    together: int = 64

    def __post_init__(self) -> None:
        for name in ("prompts", "together"):
            check_range(name, getattr(self, name), 1)
        check_range("search.proposals", self.search.proposals, 1)

    def calls(self, steps: int) -> int:
        """Denoiser calls of the search for one prompt, beside those of its completions."""
        return prompt_search_calls(self.search, self.search.sequences, steps)


def searched_orders(
    evaluator: Evaluator,
    steps: int,
    config: PromptSearch,
    path: Path,
    progress: Progress = silent,
) -> Outcome:
    """Accuracy of the order that is found for each prompt, in at most `steps` calls.

    Args:
      path: JSON file where what was found is kept, and read from if it is there.
    """
    label = label_of(NAME, {"steps": steps})
    asked = describe({"label": evaluator.label(LowEntropy(1)), "steps": steps, "search": config})
    kept = read_json(path) if path.exists() else {}
    if kept.get("asked") != asked:
        correct, calls = _Searches(evaluator, steps, config).all(progress)
        kept = {"asked": asked, "correct": correct.tolist(), "calls": calls.tolist()}
        write_json(path, kept)
    correct, calls = np.asarray(kept["correct"], bool), np.asarray(kept["calls"])
    interval = beta_interval(int(correct.sum()), len(correct))
    row = Row(
        policy=NAME,
        settings={"steps": steps},
        correct=int(correct.sum()),
        total=len(correct),
        accuracy=float(correct.mean()),
        low=interval.low,
        high=interval.high,
        nfe=float(calls.mean()),
        nfe_min=int(calls.min()),
        nfe_max=int(calls.max()),
        passes=float(calls.mean()),
        sequences_per_second=None,
        label=label,
    )
    return Outcome(row, correct)


@dataclass(frozen=True, eq=False)
class _Searches:
    """The searches of all prompts."""

    evaluator: Evaluator
    steps: int
    config: PromptSearch

    @cached_property
    def listing(self) -> Listing | None:
        """Where costs are looked up instead of computed."""
        return listing_of(self.evaluator.denoise)

    def all(
        self, progress: Progress
    ) -> tuple[Bool[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]]:
        """Which prompts are solved in their orders, and the calls of each."""
        evaluator, size = self.evaluator, self.config.together
        canvases = evaluator.examples.canvases[: self.config.prompts]
        k_all, found = jax.random.fold_in(evaluator.key, self.steps), []
        with progress("searching an order for each prompt", len(canvases)) as advance:
            for first in range(0, len(canvases), size):
                part = np.arange(first, min(first + size, len(canvases)))
                padded = np.resize(part, size)  # one shape, compiled once
                keys = row_keys(k_all, jnp.asarray(padded))
                done = self.some(keys, jnp.asarray(canvases[padded]))
                found.append((np.asarray(done.canvas)[: len(part)], done.nfe[: len(part)]))
                advance(len(part), f"at most {self.steps} calls")
        done, calls = map(np.concatenate, zip(*found, strict=True))
        references = take(evaluator.examples.references, np.arange(len(canvases)))
        return verify_all(evaluator.task, done, references), calls

    def some(self, keys: Key[Array, " n"], canvases: Int[Array, "n length"]) -> Rollout:
        """Complete each prompt several times, search its order, and generate in it."""
        denoise, sampling = self.evaluator.denoise, self.evaluator.config
        k_complete, k_compare, k_search, k_generate = (
            jax.vmap(jax.random.fold_in, (0, None))(keys, use) for use in range(4)
        )
        search = self.config.search
        clean = completions(k_complete, canvases, denoise, sampling, search.sequences)
        maskable = jnp.repeat(canvases[:, None] == sampling.mask_id, search.sequences, axis=1)
        flat = [x.reshape(-1, x.shape[-1]) for x in (clean, maskable)]
        costs, data = self.compared(k_compare[0], *flat)
        data = jax.tree.map(lambda x: x.reshape(*clean.shape[:2], *x.shape[1:]), data)
        orders = search_prompts(k_search, data, costs, search).orders
        return generate_in(k_generate, canvases, orders, denoise, sampling)

    def compared(
        self, key: RowKey, clean: Int[Array, "n length"], maskable: Bool[Array, "n length"]
    ) -> tuple[OrderCosts, SearchData]:
        """What orders cost, and the completions with their probabilities."""
        if self.listing is not None:
            rows = np.asarray(clean), np.asarray(maskable)
            return self.listing.costs(self.steps), self.listing.data(*rows)
        ids, window = self.evaluator.config, self.evaluator.config.gen_length
        model = OrderModel(
            MaxNormalised(), self.steps, ids.mask_id, ids.pad_id, window, eos_id=ids.eos_id
        )
        forcing = Forcing(
            ids.mask_id, ids.pad_id, window or clean.shape[1], window, eos_id=ids.eos_id
        )
        sequences = Sequence(clean, maskable)
        found = sequential(key, sequences, self.evaluator.denoise, forcing)
        return DenoiserCosts(self.evaluator.denoise, model), SearchData(sequences, -found)
