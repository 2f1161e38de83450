"""How a query weighs its keys: softmax, sigmoid, or a softmax that looks alike at every distance."""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from mdm_jax.types import Mask

AttentionKind = Literal["softmax", "sigmoid", "scale-invariant"]
TAU = 10.0  # positions up to which the scale-invariant softmax hardly looks at the distance

Heads = Float[Array, "length heads dim"]
Scores = Float[Array, "heads length length"]  # of queries and keys, float32
Visible = Mask | Bool[Array, "#length length"]  # keys that count, for all queries or for each


def softmax_weights(scores: Scores, valid: Visible) -> Scores:
    """Shares of the valid keys, which add up to 1."""
    return jax.nn.softmax(jnp.where(valid, scores, -jnp.inf), axis=-1)


def sigmoid_weights(scores: Scores, valid: Visible) -> Scores:
    """sigmoid(score - log n) of n valid keys, each on its own: near 1 / n where scores are 0.

    Reference: arXiv:2409.04431; the bias -log n is that of its released code.
    """
    count = jnp.sum(valid, axis=-1, keepdims=True)
    bias = jnp.log(jnp.maximum(count, 1).astype(jnp.float32))
    return jnp.where(valid, jax.nn.sigmoid(scores - bias), 0.0)


def scale_invariant_weights(scores: Scores, valid: Visible) -> Scores:
    """Softmax of a_t score + m_t at distance t = |i - j|.

    For normal scores of unit variance, which `qk_norm` sees to, every doubling of the distance has the
    same expected weight, at any length. Reference: arXiv:2505.17083, which is about causal attention;
    here both sides count.
    """
    place = jnp.arange(scores.shape[-1])
    slope, offset = distance_terms(jnp.abs(place[:, None] - place))
    return softmax_weights(slope * scores + offset, valid)


def distance_terms(distance: ArrayLike, tau: float = TAU) -> tuple[Array, Array]:
    """a_t = sqrt(1 + 2 log(1 + t / tau)) and m_t = -2 log(1 + t / tau), float32."""
    growth = 2 * jnp.log1p(jnp.asarray(distance, jnp.float32) / tau)
    return jnp.sqrt(1 + growth), -growth


WEIGHTS: dict[AttentionKind, Callable[[Scores, Visible], Scores]] = dict(
    zip(
        get_args(AttentionKind),
        (softmax_weights, sigmoid_weights, scale_invariant_weights),
        strict=True,
    )
)


def attention_weights(kind: AttentionKind, query: Heads, key: Heads, valid: Visible) -> Scores:
    """The weight of every key for every query, in each head."""
    scores = jnp.einsum("qhd,khd->hqk", query, key, preferred_element_type=jnp.float32)
    return WEIGHTS[kind](scores * query.shape[-1] ** -0.5, valid)


def mix(kind: AttentionKind, query: Heads, key: Heads, value: Heads, valid: Visible) -> Heads:
    """Values of the valid keys, weighted; padding changes nothing."""
    if kind == "softmax":
        return jax.nn.dot_product_attention(query, key, value, mask=jnp.atleast_2d(valid)[None])
    weights = attention_weights(kind, query, key, valid).astype(value.dtype)
    return jnp.einsum("hqk,khd->qhd", weights, value)
