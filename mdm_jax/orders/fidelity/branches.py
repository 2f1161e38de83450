"""Sets of positions tried at a visited state, each finished by the policy's mode: what they return."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from mdm_jax.chunks import map_rows
from mdm_jax.denoisers.base import Denoise
from mdm_jax.orders.fidelity.config import VineConfig, VineParts
from mdm_jax.orders.fidelity.credit import ProposedSets, Tried, proposed_sets
from mdm_jax.orders.fidelity.exploration import Visit
from mdm_jax.orders.fidelity.ragged import run_ragged
from mdm_jax.orders.fidelity.returns import capped_ratio
from mdm_jax.orders.fidelity.sequential import complete_sequentially
from mdm_jax.orders.fidelity.teacher_forcing import (
    Forcing,
    Sequence,
    State,
    is_running,
    observe,
    reveal,
    rows_at_once,
    state_at,
)
from mdm_jax.policies.adaptive import AdaptivePolicy, or_best_utility
from mdm_jax.policies.networks.adaptive_network import AdaptiveFeatures
from mdm_jax.types import Count, Mask, RowKey, Scalar

LOWEST_RATIO = -30.0  # log r of a canvas that sequential decoding cannot draw


class Branching(NamedTuple):
    """A visited state, at which sets are compared."""

    sequence: Sequence
    state: State
    price: Scalar
    log_w: Scalar  # log p_order of what is shown - log p_sequential of the whole sequence
    log_gain: Scalar  # log of what a finished sequence is worth where w is 1


class Branch(NamedTuple):
    """A set tried at a state, and how it goes on from there."""

    state: State
    log_w: Scalar
    pending: Bool[Array, ""]  # False: another branch of the state tries the same set


def returns_of(branch: Branch, at: Branching, config: VineConfig) -> Scalar:
    """gain * min(cap, w) - price * calls."""
    worth = jnp.exp(at.log_gain) * capped_ratio(branch.log_w, config.cap)
    return worth - at.price * branch.state.calls


def branchings(
    keys: Key[Array, " n"],
    visited: Visit,
    log_sequential: Float[Array, " n"],
    denoise: Denoise,
    parts: VineParts,
) -> tuple[Branching, Count]:
    """What each visited state is worth from there on, and the denoiser calls that it took to know.

    Args:
      log_sequential: log p_sequential of the whole sequence, of rows that are not on their own.
    """
    forcing, config = parts.forcing, parts.config
    rest = complete_sequentially(keys, visited, parts.reference, denoise, forcing, config.chunk)
    log_r = jnp.clip(rest.log_past - visited.log_prob, LOWEST_RATIO, jnp.log(config.cap))
    own = visited.on_policy
    at = Branching(
        visited.sequence._replace(tokens=rest.tokens),
        jax.vmap(partial(state_at, forcing=forcing))(visited.is_masked, visited.calls),
        visited.price,
        jnp.where(own, -rest.log_rest - log_r, visited.log_prob - log_sequential),
        jnp.where(own, log_r, 0.0),
    )
    return at, jnp.sum(rest.state.calls)


def try_sets(
    keys: Key[Array, " states"],
    at: Branching,
    policy: AdaptivePolicy,
    denoise: Denoise,
    parts: VineParts,
) -> tuple[Tried, Count]:
    """Sets at each state, each finished by the policy's mode along the same sequence.

    Returns:
      What was tried at each state, leading axis [states], and the denoiser calls that it took.
    """
    config, states = parts.config, len(at.price)
    propose = partial(propose_sets, policy=policy, denoise=denoise, parts=parts)
    chunk = rows_at_once(at.sequence.tokens.shape[1], parts.forcing, config.chunk)
    features, sets, branches = map_rows(lambda row: propose(*row), (keys, at), chunk)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), branches)
    owner_keys, owner = jax.tree.map(
        lambda leaf: jnp.repeat(leaf, sets.same.shape[1], axis=0), (keys, at)
    )
    step = partial(branch_step, policy=policy, denoise=denoise, forcing=parts.forcing)
    done = run_ragged(step, _is_pending, flat, (owner_keys, owner), chunk)
    values = jax.vmap(partial(returns_of, config=config))(done, owner)
    values = jnp.take_along_axis(values.reshape(sets.same.shape), sets.same, axis=1)
    calls = states + jnp.sum(done.state.calls - flat.state.calls)
    return Tried(features, sets.drawn, values, at.price), calls


def propose_sets(
    key: RowKey, at: Branching, policy: AdaptivePolicy, denoise: Denoise, parts: VineParts
) -> tuple[AdaptiveFeatures, ProposedSets, Branch]:
    """One denoiser call at a state, and the sets that are tried there.

    Returns:
      What the policy sees, the sets, and the branches after them.
    """
    observation, log_probs = observe(at.sequence, at.state, denoise, parts.forcing)
    features = policy.featurize(observation)._replace(price=at.price)
    utilities = policy.utilities(features)
    config = parts.config
    sets = proposed_sets(key, features, utilities, policy, config.draws, config.try_start)

    def branch(unmask: Mask, pending: Bool[Array, ""]) -> Branch:
        state, unmask = reveal(at.state, unmask, at.sequence, parts.forcing)
        log_w = at.log_w + jnp.sum(jnp.where(unmask, log_probs, 0.0))
        return Branch(state, log_w, pending)

    return features, sets, jax.vmap(branch)(sets.revealed, sets.is_first)


def branch_step(
    branch: Branch,
    fixed: tuple[RowKey, Branching],
    policy: AdaptivePolicy,
    denoise: Denoise,
    forcing: Forcing,
) -> Branch:
    """One denoiser call of one branch, which the mode of the policy goes on with.

    Args:
      fixed: the key of the state, and what the branch is at.
    """
    key, at = jax.random.fold_in(fixed[0], branch.state.calls), fixed[1]
    observation, log_probs = observe(at.sequence, branch.state, denoise, forcing)
    features = policy.featurize(observation)._replace(price=at.price)
    utilities, eligible = policy.utilities(features), observation.eligible
    unmask = or_best_utility(key, eligible & (utilities > 0), utilities, eligible)
    state, unmask = reveal(branch.state, unmask, at.sequence, forcing)
    log_w = branch.log_w + jnp.sum(jnp.where(unmask, log_probs, 0.0))
    return branch._replace(state=state, log_w=log_w)


def _is_pending(branch: Branch) -> Bool[Array, ""]:
    return branch.pending & is_running(branch.state)
