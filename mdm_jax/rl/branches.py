"""Branches of a policy's own rollouts: states that it comes to, sets tried there, each one finished.

No clean sequence is needed, prompts are enough: tokens are drawn by the sampler's own rules. All branches
of one state share the noise that draws their tokens, one random number for each position and token,
whenever the position is revealed. So what differs between them is due to the sets.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.chunks import canvases_at_once, map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.credit import ProposedSets, proposed_sets
from mdm_jax.orders.fidelity.ragged import run_ragged
from mdm_jax.policies.adaptive import AdaptivePolicy
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.rl.branch_objective import Attempts, BranchObjective
from mdm_jax.sampling.config import SamplerConfig
from mdm_jax.sampling.loop import prepared
from mdm_jax.sampling.outputs import call_denoiser
from mdm_jax.sampling.rows import (
    RowContext,
    RowState,
    Sampler,
    enter_block,
    shown_positions,
    whole_canvas,
)
from mdm_jax.sampling.step import observe, reveal
from mdm_jax.types import Count, Decision, Mask, Observation, RowKey, Scalar


class Fixed(NamedTuple):
    """What stays the same of a row."""

    context: RowContext  # its key draws the tokens
    key: RowKey  # of the policy
    price: Scalar
    temperature: Scalar  # of the policy; 0: its mode


class Walk(NamedTuple):
    """A rollout of the drawing policy, and where it has been."""

    row: RowState
    windows: Int[Array, "budget window"]  # before each call


class Branch(NamedTuple):
    """A set tried at a state, and how it goes on from there."""

    row: RowState
    pending: Bool[Array, ""]  # False: nothing is learned from it, or another branch does the same


class Keys(NamedTuple):
    """Of one prompt, by purpose."""

    tokens: RowKey
    temperature: RowKey
    walk: RowKey
    states: RowKey
    branches: RowKey


def attempt(
    keys: Key[Array, " prompts"],
    canvases: Int[Array, "prompts length"],
    prices: Float[Array, " prompts"],
    policy: AdaptivePolicy,
    denoise: Denoise,
    config: SamplerConfig,
    objective: BranchObjective,
) -> tuple[Attempts, Int[Array, " prompts"]]:
    """Roll out every prompt once with sets drawn by the policy, and branch at some states on the way.

    Everything of a prompt follows from its own key. Its rollout has a policy temperature between 0 and
    1, so that some come to the states that the mode comes to, others to those of other sets.

    Args:
      config: of the sampler, complete, without a cache.

    Returns:
      What was tried, and the denoiser calls for each prompt.
    """
    split = jax.vmap(lambda key: Keys(*jax.random.split(key, len(Keys._fields))))(keys)
    sampler, rows, context = prepared(Sampler(denoise, policy, config), split.tokens, canvases)
    most = canvases_at_once(canvases.shape[1], config.pad_id, config.gen_length)
    chunk = min(objective.chunk, most)
    temperatures = jax.vmap(partial(jax.random.uniform, dtype=jnp.float32))(split.temperature)
    walks = walk(sampler, rows, Fixed(context, split.walk, prices, temperatures), chunk)
    choose = partial(visited, budget=config.budget, count=objective.states)
    calls, weight = jax.vmap(choose)(split.states, walks.row.nfe)

    owner, call = jnp.repeat(jnp.arange(len(keys)), objective.states), calls.ravel()
    rows, context, branch_keys = jax.tree.map(
        lambda leaf: leaf[owner], (rows, context, split.branches)
    )
    state_keys = jax.vmap(lambda key, at: jax.random.split(jax.random.fold_in(key, at)))(
        branch_keys, call
    )
    context, mode = context._replace(key=state_keys[:, 0]), jnp.zeros(len(owner), jnp.float32)
    fixed = Fixed(context, state_keys[:, 1], prices[owner], mode)
    at = jax.vmap(row_at)(rows, walks.windows[owner, call], call)
    tried, spent = try_sets(sampler, at, fixed, weight.ravel(), objective, chunk)
    by_prompt = partial(jax.tree.map, lambda leaf: leaf.reshape(*calls.shape, *leaf.shape[1:]))
    return by_prompt(tried), walks.row.nfe + jnp.sum(by_prompt(spent), axis=1)


def walk(sampler: Sampler, rows: RowState, fixed: Fixed, chunk: int) -> Walk:
    """Roll out all rows with sets drawn by the policy; leading axis [rows]."""
    shape = (*rows.window.shape[:1], sampler.config.budget, *rows.window.shape[1:])
    walks = Walk(rows, jnp.zeros(shape, jnp.int32))
    step = partial(walk_step, sampler=sampler)
    running = partial(is_running, config=sampler.config)
    return run_ragged(step, lambda now: running(now.row), walks, fixed, chunk)


def walk_step(now: Walk, fixed: Fixed, sampler: Sampler) -> Walk:
    """One denoiser call of one row."""
    row, observation = call_of(sampler, now.row, fixed.context)
    unmask = chosen_by(sampler, row, fixed, observation)
    windows = now.windows.at[row.nfe].set(row.window)
    return Walk(reveal_set(row, fixed.context, unmask, observation, sampler.config), windows)


def visited(
    key: RowKey, made: Count, budget: int, count: int
) -> tuple[Int[Array, " count"], Float[Array, " count"]]:
    """Random ones among the states before each call of a rollout that made so many.

    Returns:
      `count` of them as numbers of calls, and how many states each stands for: 0 where there were fewer.
    """
    real = jnp.arange(budget) < made
    noise = jnp.where(real, jax.random.uniform(key, (budget,), jnp.float32), -1.0)
    calls = jax.lax.top_k(noise, count)[1]
    return calls, jnp.where(real[calls], made / jnp.minimum(made, count), 0.0)


def row_at(row: RowState, window: Int[Array, " window"], calls: Count) -> RowState:
    """A row as it was after so many calls, its block just entered.

    Args:
      row: before its first call.
    """
    return row._replace(window=window, nfe=calls)


def try_sets(
    sampler: Sampler,
    at: RowState,
    fixed: Fixed,
    weight: Float[Array, " states"],
    objective: BranchObjective,
    chunk: int,
) -> tuple[Attempts, Int[Array, " states"]]:
    """Sets at each state, each branch finished by the policy's mode.

    Args:
      at, fixed: leading axis [states].
      weight: how many states each stands for; where it is 0 the branches are left as they are.

    Returns:
      What was tried, leading axis [states], and the denoiser calls at each.
    """
    propose = partial(propose_sets, sampler=sampler, objective=objective)
    found = map_rows(lambda item: propose(*item), (at, fixed), chunk)
    features, sets, rows = found
    pending = jax.vmap(lambda each: each.is_first)(sets) & (weight > 0)[:, None]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), Branch(rows, pending))
    owner = jnp.repeat(jnp.arange(len(weight)), objective.tried)
    of_branch = jax.tree.map(lambda leaf: leaf[owner], fixed)
    step = partial(branch_step, sampler=sampler)
    running = partial(is_running, config=sampler.config)
    done = run_ragged(step, lambda now: now.pending & running(now.row), flat, of_branch, chunk)
    canvas = jax.vmap(whole_canvas)(done.row, of_branch.context)
    spent = jnp.sum((done.row.nfe - flat.row.nfe).reshape(sets.same.shape), axis=1)
    canvas, calls = (x.reshape(*sets.same.shape, *x.shape[1:]) for x in (canvas, done.row.nfe))
    canvas, calls = jax.vmap(lambda same, *of: jax.tree.map(lambda x: x[same], of))(
        sets.same, canvas, calls
    )
    tried = Attempts(features, sets.drawn, sets.same, canvas, calls, fixed.price, weight)
    return tried, spent + 1


def propose_sets(
    at: RowState, fixed: Fixed, sampler: Sampler, objective: BranchObjective
) -> tuple[AdaptiveFeatures, ProposedSets, RowState]:
    """One denoiser call at a state, and the sets that are tried there.

    Returns:
      What the policy sees, the sets, and the rows after them, leading axis [tried].
    """
    row, observation = call_of(sampler, at, fixed.context)
    policy = replace(sampler.policy, price=fixed.price)
    features = policy.featurize(observation)
    utilities = policy.utilities(features)
    sets = proposed_sets(
        fixed.key, features, utilities, policy, objective.draws, objective.try_start
    )
    after = partial(reveal_set, row, fixed.context, observation=observation, config=sampler.config)
    return features, sets, jax.vmap(after)(sets.revealed)


def branch_step(now: Branch, fixed: Fixed, sampler: Sampler) -> Branch:
    """One denoiser call of one branch, which the mode of the policy goes on with."""
    row, observation = call_of(sampler, now.row, fixed.context)
    unmask = chosen_by(sampler, row, fixed, observation)
    return now._replace(row=reveal_set(row, fixed.context, unmask, observation, sampler.config))


def chosen_by(sampler: Sampler, row: RowState, fixed: Fixed, observation: Observation) -> Mask:
    """The set that the policy reveals at the price and the temperature of a row."""
    policy = replace(sampler.policy, price=fixed.price, policy_temperature=fixed.temperature)
    return policy.unmask(jax.random.fold_in(fixed.key, row.nfe), observation)


def call_of(sampler: Sampler, row: RowState, context: RowContext) -> tuple[RowState, Observation]:
    """One denoiser call, and what the policy sees.

    Every position is revealed once, so that one key can draw the proposals of all calls.
    """
    row = enter_block(row, sampler.config)
    outputs = call_denoiser(sampler, row, context, shown_positions(sampler, row))
    return row, observe(context.key, row, context, row.nfe, outputs, sampler.config)


def reveal_set(
    row: RowState,
    context: RowContext,
    unmask: Mask,
    observation: Observation,
    config: SamplerConfig,
) -> RowState:
    """The row after a call that revealed a set; the last permitted call reveals all."""
    last = row.nfe == config.budget - 1
    unmask = jnp.where(last, observation.is_masked, unmask & observation.eligible)
    decision = Decision(unmask, jnp.zeros_like(unmask))
    positions = jnp.arange(len(row.window), dtype=jnp.int32)
    return reveal(decision, observation.proposal, row.nfe, row, context, positions, config)


def is_running(row: RowState, config: SamplerConfig) -> Bool[Array, ""]:
    """Whether anything is still masked."""
    return jnp.any(row.window == config.mask_id)
