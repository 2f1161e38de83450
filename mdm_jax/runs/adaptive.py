"""Policies with a price: their shape for a task, and loading them from run directories."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Denoise
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.orders.fidelity.config import CriticParts, ReplayConfig
from mdm_jax.orders.fidelity.evaluation import (
    Prices,
    fidelities,
    held_out,
    price_for,
    prices_between,
)
from mdm_jax.orders.fidelity.returns import Fidelity
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, Sequence
from mdm_jax.policies.adaptive import AdaptivePolicy, init_adaptive
from mdm_jax.policies.base import stack
from mdm_jax.policies.networks.adaptive_network import (
    AdaptiveConfig,
    AdaptiveNetwork,
    ConfidenceStart,
    EntropyStart,
)
from mdm_jax.policies.networks.critic_network import CriticNetwork
from mdm_jax.rl.branch_objective import BranchObjective
from mdm_jax.rl.reached import Measure, Reached
from mdm_jax.rl.rollouts import Prompts
from mdm_jax.runs.config import RunConfig, read_config, read_task
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import BEST
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.tasks.base import Task, stream_of
from mdm_jax.tasks.clean_batches import HELDOUT, clean_batch
from mdm_jax.training.checkpoints import restore_ema

KNOBS, HELD_OUT_ROWS = 48, 256  # prices that are tried, and held-out sequences of each
ROUNDING = 0.01  # of prices, relative
SHORT = 64  # positions up to which the network tells them apart by default


def network_for(task: Task) -> AdaptiveConfig:
    """The usual shape: dense layers over a short canvas, one transformer block over a long one.

    Where responses end, tokens are answers: certain once what they follow from is shown. There
    learning starts at a confidence threshold, which is higher the lower the price is; elsewhere at an
    entropy bound.
    Codes of images and speech keep an entropy of a nat or two whatever is shown. Where there are such, a
    start that waits until positions are determined would reveal one after another, and sets that finish
    early would never be drawn.
    """
    window, start = task.gen_length or task.length, EntropyStart(eagerness=0.6)
    if task.vocabulary.eos_id is not None:
        start = ConfidenceStart(eagerness=1.0, patience=1.0)
    if stream_of(task) is not None:
        start = EntropyStart(offset=2.0, slope=1.0, eagerness=0.6)
    if window <= SHORT:
        return AdaptiveConfig(depth=0, max_length=window, start=start)
    return AdaptiveConfig(start=start)


def forcing_for(task: Task, budget: int, block_length: int | None = None) -> Forcing:
    """How clean sequences of a task are followed, at most `budget` denoiser calls for each."""
    ids = task.vocabulary
    return Forcing(ids.mask_id, ids.pad_id, budget, task.gen_length, block_length, ids.eos_id)


def fresh_policy(network: AdaptiveConfig, task: Task, key: jax.Array) -> AdaptivePolicy:
    """The policy before training: the heuristic that it starts at."""
    return init_adaptive(AdaptiveNetwork(network), key, task.gen_length or task.length)


def load_adaptive(run: str | Path, config: dict[str, Any], task: Task) -> AdaptivePolicy:
    """The policy of a `learn_order` run, or of a `learn_policy` run with credit for each step, at the
    parameters that were best on held-out data.

    Args:
      config: the run's config.json.
      task: the run's.

    Raises:
      MdmError: no readable checkpoint.
    """
    described = config["network"]
    if described is None:
        network = network_for(task)
    else:
        start = from_json(described["start"], EntropyStart, ConfidenceStart)
        network = from_json(described | {"start": start}, AdaptiveConfig)
    steps = config["budget"] if config.get("within_budget") else 0
    return best_policy(run, replace(fresh_policy(network, task, root_key(0)), steps=steps))


def best_policy(run: str | Path, policy: AdaptivePolicy) -> AdaptivePolicy:
    """A policy of this shape with the best parameters of a run so far."""
    params, _ = restore_ema(expand(run) / BEST, {"policy": policy.params})
    return replace(policy, params=params["policy"])


def price_range(run: str | Path) -> tuple[float, float]:
    """The least and the largest price of a denoiser call that a run has learned at."""
    config = read_config(run)
    return _objective_of(config).prices


def check_price(run: str | Path, price: float) -> None:
    """Refuse a price at which a run has not learned: what its policy does there means nothing.

    Raises:
      MdmError: it is too low or too high.
    """
    check_between(str(run), price, price_range(run))


def check_between(name: str, price: float, prices: tuple[float, float]) -> None:
    """Raise MdmError for a price that is not between two, but for rounding."""
    low, high = prices
    if not low * (1 - ROUNDING) <= price <= high * (1 + ROUNDING):
        raise MdmError(
            f"{name} learns at prices from {low:g} to {high:g}, not at {price:g}: "
            "choose one of these, or learn at others"
        )


def _objective_of(config: RunConfig) -> ReplayConfig | BranchObjective:
    """What a policy with a price has learned from."""
    if config["experiment"] == "learn_policy":
        return from_json(config["branches"], BranchObjective)
    return from_json(config["replay"], ReplayConfig)


def price_reaching(
    run: str | Path,
    policy: AdaptivePolicy,
    denoise: Denoise,
    *,
    calls: float | None = None,
    overlap: float | None = None,
) -> float:
    """The price that gives what is wanted on held-out data of the run's task.

    Costs at most 48 x 256 sequences x the run's budget of denoiser calls.

    Args:
      calls: mean number of denoiser calls, at most.
      overlap: with sequential decoding, at least: sum over sequences of the smaller probability.

    Raises:
      MdmError: no price that the policy has learned at gives it, or overlap with a policy from rewards.
    """
    config, task = read_config(run), read_task(run)
    from_rewards = config["experiment"] == "learn_policy"
    if from_rewards and overlap is not None:
        raise MdmError(f"{run} learned from rewards: ask for calls in place of overlap")
    measure = _reached if from_rewards else _fidelity
    found, prices = measure(config, task, policy, denoise)
    most_overlap = None if from_rewards else float(found.overlap.max())
    fewest_calls = float(found.calls.min())
    if (calls is not None and calls < fewest_calls) or (
        overlap is not None and overlap > most_overlap
    ):
        limits = f"{run} takes {fewest_calls:.2f} calls or more"
        limits += "" if from_rewards else f", and overlaps by {most_overlap:.3f} or less"
        raise MdmError(f"{limits}: ask for what is possible")
    return float(price_for(found, prices, calls=calls, overlap=overlap))


def best_within(
    run: str | Path, policy: AdaptivePolicy, denoise: Denoise, budget: int
) -> AdaptivePolicy:
    """The policy of a `learn_order` run at the price whose orders, cut off after `budget` calls, overlap
    most with sequential decoding on held-out sequences.

    Costs at most 48 x 256 sequences x `budget` denoiser calls.
    """
    found, prices = _fidelity(read_config(run), read_task(run), policy, denoise, budget)
    return replace(policy, price=float(prices[jnp.argmax(found.overlap)]))


def _fidelity(
    config: RunConfig,
    task: Task,
    policy: AdaptivePolicy,
    denoise: Denoise,
    budget: int | None = None,
) -> tuple[Fidelity, Prices]:
    """What a policy of `learn_order` reaches on held-out sequences, at all prices.

    Args:
      budget: most calls; None: as in the run.
    """
    replay = _objective_of(config)
    forcing = forcing_for(task, budget or config["budget"], config["block_length"])
    parts = CriticParts(replay, forcing, CriticNetwork(policy.network.config))
    batch = clean_batch(task, config["seed"], HELDOUT + 4, HELD_OUT_ROWS)
    sequences = Sequence(jnp.asarray(batch.tokens), jnp.asarray(batch.maskable))
    data = jax.jit(partial(held_out, parts=parts))(root_key(0), sequences, denoise)
    policies, prices = _at_all_prices(policy, replay.prices)
    return jax.jit(partial(fidelities, parts=parts))(policies, data, denoise), prices


def _reached(
    config: RunConfig, task: Task, policy: AdaptivePolicy, denoise: Denoise
) -> tuple[Reached, Prices]:
    """What a policy of `learn_policy` reaches on held-out prompts, at all prices."""
    objective = _objective_of(config)
    sampler = SamplerConfig(
        temperature=config["temperature"], block_length=config["block_length"]
    ).for_task(task)
    keys = jax.random.split(root_key(0), HELD_OUT_ROWS)
    prompts = Prompts(*task.examples("heldout", HELD_OUT_ROWS))
    policies, prices = _at_all_prices(policy, objective.prices)
    return Measure(keys, prompts, denoise, task, sampler, objective)(policies), prices


def _at_all_prices(
    policy: AdaptivePolicy, prices: tuple[float, float]
) -> tuple[AdaptivePolicy, Prices]:
    """A stack of the policy at prices between two, and these."""
    knobs = prices_between(*prices, KNOBS)
    return stack([replace(policy, price=float(price)) for price in knobs]), knobs
