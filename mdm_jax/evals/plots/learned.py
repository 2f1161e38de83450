"""Pictures of a learned order: how it was learned, which it is, and what it costs."""

from collections.abc import Sequence as Rows
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.evals.generate import Batching, generate
from mdm_jax.evals.paired import PairedRow
from mdm_jax.evals.plots import orders as order_plots
from mdm_jax.evals.plots import results as result_plots
from mdm_jax.evals.score import Row
from mdm_jax.evals.store import Generations, SampleStore
from mdm_jax.orders.variational.forms.base import draw_path
from mdm_jax.orders.variational.loss import OrderParts, scores_of
from mdm_jax.orders.variational.model import Sequence, eos_places, response
from mdm_jax.runs.metrics import read_metrics
from mdm_jax.runs.orders import LearnedOrder
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Batch, Task
from mdm_jax.types import RowKey

LEARNING = {
    "nats per sequence": ("nelbo", "token_nll"),
    "KL(posterior || policy), nats": ("kl",),
    "entropy of the posterior, nats": ("posterior_entropy",),
    "steps of a sequence": ("steps_used",),
}
REWARDED = {
    "reward": ("reward",),
    "share of the rollouts that are right": ("accuracy",),
    "denoiser calls": ("nfe",),
    "entropy of a step's decision, nats": ("entropy",),
}
ADAPTIVE = ("EntropyBound", "ConfidenceThreshold")
SHOWN = 4  # examples whose priorities are drawn
PATHS = 64  # of the posterior, for each of them


def draw_figures(
    task: Task, learned: LearnedOrder, rows: Rows[PairedRow], directory: Path, temperature: float
) -> None:
    """Write learning.png, order_map.png, priorities.png and steps.png.

    Args:
      rows: of the table, the learned policy first; those with generations in samples.jsonl are shown.
      directory: the run's.
      temperature: of the posterior.
    """
    found = SampleStore(directory / "samples.jsonl").read_all()
    table = [paired_row.row for paired_row in rows if paired_row.row.label in found]
    stored = {row.label: found[row.label].first(row.total) for row in table}
    grid = _grid(task)
    figures = {
        "learning": result_plots.training_figure(read_metrics(directory), LEARNING),
        "order_map": result_plots.order_map_figure(order_maps(table, stored), grid),
        "priorities": order_plots.priorities_figure(
            *priorities(task, learned, table[0], temperature), grid
        ),
        "steps": order_plots.steps_figure(step_counts(table, stored)),
    }
    for name, figure in figures.items():
        result_plots.save(figure, directory / f"{name}.png")


def draw_rewarded(task: Task, rows: Rows[PairedRow], directory: Path) -> None:
    """Write learning.png, frontier.png and order_map.png of a policy that has learned from rewards.

    Args:
      rows: of the table, the learned policy first.
      directory: the run's.
    """
    found = SampleStore(directory / "samples.jsonl").read_all()
    table = [paired_row.row for paired_row in rows if paired_row.row.label in found]
    stored = {row.label: found[row.label].first(row.total) for row in table}
    figures = {
        "learning": result_plots.training_figure(read_metrics(directory), REWARDED),
        "frontier": result_plots.frontier_figure(table),
        "order_map": result_plots.order_map_figure(order_maps(table, stored), _grid(task)),
    }
    for name, figure in figures.items():
        result_plots.save(figure, directory / f"{name}.png")


def _grid(task: Task) -> tuple[int, int] | None:
    """Height and width of a square task."""
    side = getattr(task, "side", None)
    return None if side is None else (side, side)


def order_maps(
    table: Rows[Row], stored: dict[str, Generations]
) -> dict[str, Int[np.ndarray, "n window"]]:
    """Steps of reveal of each kind of policy at the setting whose calls are nearest to the learned
    policy's, by kind and calls.
    """
    maps = {}
    for kind in dict.fromkeys(row.policy for row in table):
        members = [row for row in table if row.policy == kind]
        row = min(members, key=lambda row: abs(row.nfe - table[0].nfe))
        maps[f"{kind}, {row.nfe:.1f} calls"] = stored[row.label].revealed_at
    return maps


def step_counts(
    table: Rows[Row], stored: dict[str, Generations]
) -> dict[str, Int[np.ndarray, " n"]]:
    """Denoiser calls of each sequence, of the learned policy and of those that choose their number."""
    counts = {table[0].policy: stored[table[0].label].nfe}
    for row in table:
        if row.policy in ADAPTIVE:
            name, knob = next(iter(row.settings.items()))
            counts[f"{row.policy} {name}={knob:g}"] = stored[row.label].nfe
    return counts


def priorities(
    task: Task, learned: LearnedOrder, row: Row, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a few held-out sequences with their prompts shown, [n, window] each: the posterior's
    expected step of every position, the policy's step where it generates from the same prompt, and
    what was given.
    """
    clean = task.heldout()
    chosen = np.unique(np.linspace(0, len(clean.tokens) - 1, SHOWN).astype(int))
    data = task.with_prompts(Batch(clean.tokens[chosen], clean.maskable[chosen]), seed=0)
    k_posterior, k_policy = jax.random.split(jax.random.key(0))
    expected, given = posterior_steps(k_posterior, learned.params, data, learned.parts, temperature)
    config = SamplerConfig(temperature=row.settings["temperature"]).for_task(task)
    prompts = np.where(data.maskable, np.int32(config.mask_id), data.tokens)
    (batch,) = generate(
        k_policy,
        prompts,
        denoise=learned.denoise,
        policy=learned.policy,
        config=config,
        batching=Batching(len(prompts)),
    )
    return expected, batch.rollout.revealed_at, given


def posterior_steps(
    key: RowKey, params: dict, data: Batch, parts: OrderParts, temperature: float
) -> tuple[Float[np.ndarray, "n window"], np.ndarray]:
    """The step at which the posterior reveals each position, mean over `PATHS` paths, and what is
    given and never revealed.
    """
    model = parts.model

    def row(key: RowKey, sequence: Sequence) -> tuple[Array, Array]:
        here = response(sequence, model)
        maskable, ends = sequence.maskable[here], eos_places(sequence, here, model)
        scores = scores_of(params, sequence, parts).priority / temperature

        def masked_after(key: RowKey, steps: Array) -> Array:
            path = draw_path(key, model.form, scores, maskable, steps, model.budget, ends)
            return path.is_masked

        def revealed_at(key: RowKey) -> Array:
            steps = jnp.arange(1, model.budget)
            return jnp.sum(jax.vmap(partial(masked_after, key))(steps), axis=0)

        return jnp.mean(jax.vmap(revealed_at)(jax.random.split(key, PATHS)), axis=0), ~maskable

    keys = row_keys(key, jnp.arange(len(data.tokens)))
    found = jax.jit(jax.vmap(row))(keys, Sequence(*map(jnp.asarray, data)))
    return tuple(np.asarray(part) for part in found)
