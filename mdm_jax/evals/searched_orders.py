"""What the best order of each prompt reaches: searched before generation, by the denoiser alone."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.errors import check_range
from mdm_jax.evals.completions import generate_in
from mdm_jax.evals.evaluator import Evaluator
from mdm_jax.evals.intervals import beta_interval
from mdm_jax.evals.labels import label_of
from mdm_jax.evals.prompt_orders import USES, padded_parts, prompt_orders
from mdm_jax.evals.score import Outcome, Row, take, verify_all
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.policies.heuristics import LowEntropy
from mdm_jax.runs.description import describe
from mdm_jax.runs.json_files import read_json, write_json
from mdm_jax.runs.reporter import Progress, silent
from mdm_jax.types import Rollout

NAME = "OrderOfEachPrompt"


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

    Raises:
      MdmError: no prompt is to be searched.
    """
    check_range("searched.prompts", config.prompts, 1)
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

    def all(
        self, progress: Progress
    ) -> tuple[Bool[np.ndarray, " prompts"], Int[np.ndarray, " prompts"]]:
        """Which prompts are solved in their orders, and the calls of each."""
        evaluator = self.evaluator
        canvases = evaluator.examples.canvases[: self.config.prompts]
        k_all, found = jax.random.fold_in(evaluator.key, self.steps), []
        with progress("searching an order for each prompt", len(canvases)) as advance:
            for new, rows in padded_parts(len(canvases), self.config.together):
                done = self.some(row_keys(k_all, jnp.asarray(rows)), jnp.asarray(canvases[rows]))
                found.append((np.asarray(done.canvas)[:new], done.nfe[:new]))
                advance(new, f"at most {self.steps} calls")
        done, calls = map(np.concatenate, zip(*found, strict=True))
        references = take(evaluator.examples.references, np.arange(len(canvases)))
        return verify_all(evaluator.task, done, references), calls

    def some(self, keys: Key[Array, " n"], canvases: Int[Array, "n length"]) -> Rollout:
        """Search the order of each prompt, and generate in it."""
        settings = self.evaluator.denoise, self.evaluator.config
        orders = prompt_orders(keys, canvases, *settings, self.steps, self.config.search)
        k_generate = jax.vmap(jax.random.fold_in, (0, None))(keys, USES)
        return generate_in(k_generate, canvases, orders, *settings)
