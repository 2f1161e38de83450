"""What policies are measured on in a world: clean sequences, prompts, keys and the profile."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mdm_jax.diffusion.corruption import row_keys
from mdm_jax.evals.exact.worlds import World
from mdm_jax.keys import Stream, stream
from mdm_jax.orders.fidelity.teacher_forcing import Forcing
from mdm_jax.orders.profile import reveal_profile
from mdm_jax.orders.variational.model import Sequence, SpecialIds
from mdm_jax.tasks.splits import prompt_rng

CLIP = 1e9  # of log-probabilities: none
PROFILE_ROWS = 2048
profile = jax.jit(reveal_profile, static_argnames=("count", "ids", "exact"))


@dataclass(frozen=True, eq=False)
class Bench:
    """A world with the sequences that policies are measured on.

    Attributes:
      sequences: clean ones: all of a listed world, once for each draw, or draws of the data.
      draws: of the policy's random choices, for each listed sequence.
      keys: of `sequences`, one each.
      prompts: canvases to complete.
      profile: h(k), nats; see `orders.counts`.
    """

    world: World
    sequences: Sequence
    draws: int
    keys: Key[Array, " n"]
    prompts: Int[Array, "m length"]
    profile: Float[np.ndarray, " masked"]

    @property
    def forcing(self) -> Forcing:
        """How clean sequences are followed."""
        ids = self.world.oracle.mask_id, self.world.pad_id
        return Forcing(*ids, budget=len(self.profile), clip=CLIP)


def bench_for(world: World, samples: int, draws: int, seed: int) -> Bench:
    """What policies are measured on in a world.

    Args:
      samples: canvases to complete, and clean sequences where they are not listed.
      draws: of the policy's random choices for each listed sequence.
    """
    rng = prompt_rng(seed)
    clean = Sequence(*map(jnp.asarray, world.draw(rng, samples)))
    prompts = jnp.where(clean.maskable, world.oracle.mask_id, clean.tokens)
    followed = clean
    if world.table is not None:
        tokens = jnp.tile(jnp.asarray(world.table), (draws, 1))
        followed = Sequence(tokens, jnp.ones(tokens.shape, bool))
    key = stream(seed, Stream.EXACT)
    k_profile, k_follow = jax.random.split(key)
    masked = int(clean.maskable[0].sum())
    return Bench(
        world,
        followed,
        draws,
        row_keys(k_follow, jnp.arange(max(len(followed.tokens), samples))),
        prompts,
        _profile(k_profile, world, masked, rng),
    )


def _profile(
    key: Key[Array, ""], world: World, masked: int, rng: np.random.Generator
) -> Float[np.ndarray, " masked"]:
    """h(k) of a world."""
    clean = Sequence(*map(jnp.asarray, world.draw(rng, PROFILE_ROWS)))
    ids = SpecialIds(world.oracle.mask_id, world.pad_id)
    keys = row_keys(key, jnp.arange(PROFILE_ROWS))
    found = profile(keys, clean, world.oracle, count=masked, ids=ids, exact=True)
    return np.asarray(found, float).mean(axis=0)


def told_with_errors(bench: Bench) -> str:
    """What a world is, and the transition error of as many sequences of its own as are completed."""
    world = bench.world
    if world.transition_error is None:
        return world.told
    count = len(bench.prompts)
    found = world.transition_error(np.asarray(bench.sequences.tokens)[:count])
    return f"{world.told}; TE of {count:,} of its own sequences {found:.3f}"
