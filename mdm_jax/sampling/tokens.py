"""Which token each position would take: temperature, top-p, and ids that may not be produced."""

import jax
import jax.numpy as jnp

from mdm_jax.types import Logits, RowKey, Tokens


def forbid(logits: Logits, ids: tuple[int, ...]) -> Logits:
    """Logits with `ids` at -inf; ids outside the vocabulary are never produced anyway."""
    inside = [i for i in ids if 0 <= i < logits.shape[-1]]
    return logits.at[:, jnp.array(inside)].set(-jnp.inf) if inside else logits


def keep_top_p(logits: Logits, top_p: float) -> Logits:
    """-inf outside the smallest set of most probable tokens whose probability reaches `top_p`.

    The token that crosses the bound is kept, so one always remains. Reference: Dream's filter.
    """
    ordered = jnp.sort(logits, axis=-1, descending=True)
    probs = jax.nn.softmax(ordered, axis=-1)
    kept = jnp.cumsum(probs, axis=-1) - probs < top_p
    least = jnp.min(jnp.where(kept, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)


def propose(key: RowKey, logits: Logits, temperature: float, top_p: float) -> Tokens:
    """One token for each position: argmax at temperature 0, else a draw from the tempered, then
    filtered distribution. `mode="high"` keeps the tail of the Gumbel noise (arXiv:2409.02908).
    """
    if temperature == 0:
        return jnp.argmax(logits, axis=-1)
    tempered = logits / temperature
    filtered = tempered if top_p == 1 else keep_top_p(tempered, top_p)
    return jax.random.categorical(key, filtered, axis=-1, mode="high")
