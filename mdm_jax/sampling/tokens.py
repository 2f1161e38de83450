"""The token that each position would take: temperature, top-p, top-k, and ids that are excluded."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from mdm_jax.chunks import map_positions
from mdm_jax.types import Count, Logits, RowKey, Tokens

DRAWN_AT_ONCE = 256  # ids; a larger vocabulary is drawn from in two steps
_SIGN = np.uint32(1 << 31)


def mask_logits(logits: Logits, ids: tuple[int, ...]) -> Logits:
    """Logits with `ids` at -inf; ids outside the vocabulary are skipped.

    Neighbouring ids are written as one slice, which XLA does in place.
    """
    inside = np.unique([i for i in ids if 0 <= i < logits.shape[-1]]).astype(int)
    for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1) if len(inside) else ():
        never = jnp.full((len(logits), len(run)), -jnp.inf, logits.dtype)
        logits = jax.lax.dynamic_update_slice_in_dim(logits, never, int(run[0]), axis=1)
    return logits


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    """-inf outside the smallest set of most probable tokens whose probability reaches `top_p`.

    The token that crosses the bound is kept, so at least one remains. Reference: Dream's filter.
    """
    least = _least_kept(logits, jax.nn.softmax(logits, axis=-1), top_p)
    return jnp.where(logits >= least, logits, -jnp.inf)


def keep_top_k(logits: Logits, top_k: int) -> Logits:
    """-inf for every token that is less probable than the `top_k` most probable ones."""
    least = _least_kept(logits, jnp.ones_like(logits), float(top_k))
    return jnp.where(logits >= least, logits, -jnp.inf)


def _least_kept(
    logits: Logits, weights: Float[Array, "length vocab"], bound: float
) -> Float[Array, "length 1"]:
    """The least x such that the tokens with logits above x weigh less than `bound`.

    Found by bisection over the bits of float32, in at most 32 sums over the vocabulary and no sort.
    """
    top = jnp.max(logits, axis=-1, keepdims=True)
    bottom = jnp.min(jnp.where(jnp.isfinite(logits), logits, top), axis=-1, keepdims=True)

    def halve(bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = low + (high - low) // 2
        above = jnp.where(logits > _from_rank(middle), weights, 0.0)
        enough = jnp.sum(above, axis=-1, keepdims=True) < bound
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    bracket = _rank_of(bottom), _rank_of(top)
    return _from_rank(jax.lax.while_loop(lambda b: jnp.any(b[0] < b[1]), halve, bracket)[1])


def _rank_of(x: Float[Array, "..."]) -> UInt32[Array, "..."]:
    """The place of float32 numbers among all of them."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | _SIGN)


def _from_rank(rank: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """The float32 number with this place; undoes `_rank_of`."""
    bits = jnp.where(rank >> 31 == 1, rank ^ _SIGN, ~rank)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def draw_logits(logits: Logits, temperature: float, top_p: float, top_k: int | None) -> Logits:
    """The distribution that tokens are drawn from: temperature, then top-p, then top-k.

    Temperature 0, with which `propose` takes the argmax, leaves the logits unscaled here.
    Reference: Dream's `sample_tokens`.
    """
    logits = logits if temperature == 0 else logits / temperature
    logits = logits if top_p == 1 else keep_top_p(logits, top_p)
    return logits if top_k is None else keep_top_k(logits, top_k)


def propose(
    key: RowKey,
    logits: Logits,
    temperature: float,
    top_p: float = 1.0,
    top_k: int | None = None,
    positions: Int[Array, " length"] | None = None,
) -> Tokens:
    """One token for each position: argmax at temperature 0, else drawn from `draw_logits`.

    The draw of position i uses fold_in(key, i), so it does not depend on which others are given.

    Args:
      positions: of the logits; None: 0, 1, ...
    """
    if temperature == 0:
        return map_positions(_argmax, logits)
    positions = jnp.arange(len(logits)) if positions is None else positions

    def draw(logits: Logits, positions: Int[Array, " length"]) -> Tokens:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions)
        return jax.vmap(draw_token)(keys, draw_logits(logits, temperature, top_p, top_k))

    return map_positions(draw, logits, positions)


def draw_token(key: RowKey, logits: Float[Array, " vocab"]) -> Count:
    """A token drawn with probabilities softmax(logits).

    Of a large vocabulary first a group of tokens is drawn, by the group's probability, then one of the
    group: the same distribution with 2 sqrt(vocab) random numbers instead of vocab.

    `mode="high"` keeps the tail of the Gumbel noise (arXiv:2409.02908).
    """
    vocab = len(logits)
    if vocab <= DRAWN_AT_ONCE:
        return jax.random.categorical(key, logits, mode="high").astype(jnp.int32)
    size = math.isqrt(vocab - 1) + 1
    groups = -(-vocab // size)
    noise = jax.random.gumbel(key, (groups + size,), logits.dtype, mode="high")
    padded = jnp.pad(logits, (0, groups * size - vocab), constant_values=-jnp.inf)
    weights = jax.nn.logsumexp(padded.reshape(groups, size), axis=-1)
    members = jnp.argmax(weights + noise[:groups]) * size + jnp.arange(size)
    in_group = jnp.where(members < vocab, logits[jnp.minimum(members, vocab - 1)], -jnp.inf)
    drawn = members[jnp.argmax(in_group + noise[groups:])]
    return jnp.minimum(drawn, vocab - 1).astype(jnp.int32)


def _argmax(logits: Logits) -> Tokens:
    """The first of the most probable tokens: two reductions, on a CPU three times faster than XLA's
    argmax.
    """
    size = logits.shape[-1]
    is_best = logits == jnp.max(logits, axis=-1, keepdims=True)
    ids = jnp.arange(size, dtype=jnp.int32)[None, :]
    first = jnp.min(jnp.where(is_best, ids, size), axis=-1)
    return jnp.minimum(first, size - 1)  # all NaN: still a token


def demote_tokens(logits: Logits, proposal: Tokens, ids: tuple[int, ...]) -> Logits:
    """Logits for the policy, such that positions that propose one of `ids` are revealed last.

    The ids are at -inf, and positions that propose one have uniform logits: every other position has
    higher confidence and margin and lower entropy.

    Reference: LLaDA's `confidence_eos_eot_inf`, which gives such positions the confidence 0.
    """
    if not ids:
        return logits
    late = jnp.any(proposal[:, None] == jnp.array(ids)[None, :], axis=-1)
    return jnp.where(late[:, None], 0.0, mask_logits(logits, ids))
