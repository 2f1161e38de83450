"""The token that each position would take: temperature, top-p, top-k, and ids that are excluded."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mdm_jax.types import Logits, RowKey, Tokens


def mask_logits(logits: Logits, ids: tuple[int, ...]) -> Logits:
    """Logits with `ids` at -inf; ids outside the vocabulary are skipped."""
    inside = [i for i in ids if 0 <= i < logits.shape[-1]]
    return logits.at[:, jnp.array(inside)].set(-jnp.inf) if inside else logits


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    """-inf outside the smallest set of most probable tokens whose probability reaches `top_p`.

    The token that crosses the bound is kept, so at least one remains. Reference: Dream's filter.
    """
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probs = jax.nn.softmax(ordered, axis=-1)
    kept = jnp.cumsum(probs, axis=-1) - probs < top_p
    least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)


def keep_top_k(logits: Logits, top_k: int) -> Logits:
    """-inf for every token that is less probable than the `top_k` most probable ones."""
    least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
    return jnp.where(logits >= least, logits, -jnp.inf)


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
    subset: tuple[Int[Array, " length"], int] | None = None,
) -> Tokens:
    """One token for each position: argmax at temperature 0, else drawn from `draw_logits`.

    `mode="high"` keeps the tail of the Gumbel noise (arXiv:2409.02908).

    Args:
      subset: (positions, total): the logits are those of these positions of `total`, and each draws
        the token that it would draw if all were given. None: all are given.
    """
    if temperature == 0:
        return _argmax(logits)
    drawn_from = draw_logits(logits, temperature, top_p, top_k)
    if subset is None:
        drawn = jax.random.categorical(key, drawn_from, axis=-1, mode="high")
        return drawn.astype(jnp.int32)
    positions, length = subset
    noise = jax.random.gumbel(key, (length, logits.shape[-1]), logits.dtype, mode="high")
    return jnp.argmax(drawn_from + noise[positions], axis=-1).astype(jnp.int32)


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
