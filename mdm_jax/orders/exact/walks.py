"""A policy followed along clean sequences under exact conditionals: what each of its calls loses."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from mdm_jax.denoisers.base import DenoiseExact
from mdm_jax.diffusion.corruption import apply_mask
from mdm_jax.orders.fidelity.teacher_forcing import Forcing, State, observe, reveal, start_state
from mdm_jax.orders.variational.model import Sequence
from mdm_jax.policies.base import Policy, wants_dependence
from mdm_jax.types import Count, RowKey, Scalar


class Walks(NamedTuple):
    """How a policy generates each of some clean sequences; calls that were not needed are all zero."""

    excess: Float[Array, "n budget"]  # log p - log q of the tokens revealed at each call, nats
    counts: Float[Array, "n budget"]  # how many they are
    log_prob: Float[Array, " n"]  # log p of the sequence given its prompt, nats

    @property
    def log_sampler(self) -> Float[Array, " n"]:
        """log q of the sequence given its prompt and the policy's random draws, nats."""
        return self.log_prob - jnp.sum(self.excess, axis=1)

    @property
    def calls(self) -> Int[Array, " n"]:
        """Denoiser calls of each."""
        return jnp.sum(self.counts > 0, axis=1)


class _Row(NamedTuple):
    """One sequence on its way."""

    state: State
    memory: Any  # the policy's
    excess: Float[Array, " budget"]
    counts: Float[Array, " budget"]


def walk_sequences(
    keys: Key[Array, " n"],
    sequences: Sequence,
    policy: Policy,
    oracle: DenoiseExact,
    forcing: Forcing,
) -> Walks:
    """Follow a policy that only reveals, and whose choice does not depend on proposed tokens.

    Over draws of the data, the mean `excess` of a call is the conditional total correlation of what it
    reveals, and that of the sum is KL(data || sampler given the policy's random draws): exactly KL(data
    || sampler) for a deterministic policy, and no less than it otherwise. The sampler with the same keys
    makes the same choices on the way to the same tokens.

    Args:
      keys: one per sequence.
      sequences: leading axis [n].
      forcing: its `clip` must not bind: give a large one.
    """

    def begin(sequence: Sequence) -> _Row:
        zeros = jnp.zeros(forcing.budget, jnp.float32)
        return _Row(start_state(sequence, forcing), policy.init(len(sequence.tokens)), zeros, zeros)

    def running(carry: tuple[Count, _Row]) -> Bool[Array, ""]:
        return jnp.any(carry[1].state.is_masked)

    def advance(carry: tuple[Count, _Row]) -> tuple[Count, _Row]:
        call, rows = carry
        step = partial(_step, policy=policy, oracle=oracle, forcing=forcing)
        return call + 1, jax.vmap(step, (None, 0, 0, 0))(call, rows, keys, sequences)

    carry = jnp.zeros((), jnp.int32), jax.vmap(begin)(sequences)
    _, rows = jax.lax.while_loop(running, advance, carry)
    prompts = jax.vmap(partial(apply_mask, mask_id=forcing.mask_id))
    before = jax.vmap(oracle.log_prob)(prompts(sequences.tokens, sequences.maskable))
    return Walks(rows.excess, rows.counts, jax.vmap(oracle.log_prob)(sequences.tokens) - before)


def _step(
    call: Count,
    row: _Row,
    key: RowKey,
    sequence: Sequence,
    policy: Policy,
    oracle: DenoiseExact,
    forcing: Forcing,
) -> _Row:
    """One denoiser call."""
    observation, log_probs = observe(sequence, row.state, oracle, forcing)
    if wants_dependence(policy):
        canvas = apply_mask(sequence.tokens, row.state.is_masked, forcing.mask_id)
        _, dependence = oracle.with_dependence(canvas, jnp.ones(canvas.shape, bool))
        observation = observation._replace(dependence=dependence)
    _, k_policy = jax.random.split(jax.random.fold_in(key, call))  # as in `sampling.step`
    decision, memory = policy(k_policy, observation, row.memory)
    allowed = decision.unmask & observation.eligible
    state, unmask = reveal(row.state, allowed, sequence, forcing)

    def log_prob(is_masked: Bool[Array, " length"]) -> Scalar:
        return oracle.log_prob(apply_mask(sequence.tokens, is_masked, forcing.mask_id))

    jointly = log_prob(row.state.is_masked & ~unmask) - log_prob(row.state.is_masked)
    excess = jointly - jnp.sum(jnp.where(unmask, log_probs, 0.0))
    return _Row(
        state, memory, row.excess.at[call].set(excess), row.counts.at[call].set(jnp.sum(unmask))
    )
