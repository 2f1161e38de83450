"""The posterior's network: one score per position of a clean sequence, computed once."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mdm_jax.denoisers.packed import Sight
from mdm_jax.denoisers.transformer import Block, TransformerConfig
from mdm_jax.errors import check_range
from mdm_jax.types import Count, Mask, Tokens


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Shape of the scorer.

    Attributes:
      width: of the residual stream.
      depth: transformer blocks.
      heads: of the attention.
      spread: standard deviation of the scores at the start, roughly.
      limit: scores stay within +- this.
      conditioning: the network's input: the clean sequence, or its prompt alone, as a policy has it.
    """

    width: int = 64
    depth: int = 2
    heads: int = 4
    spread: float = 0.1
    limit: float = 10.0
    conditioning: Literal["clean", "prompt"] = "clean"

    def __post_init__(self) -> None:
        TransformerConfig(width=self.width, depth=self.depth, heads=self.heads)
        check_range("spread", self.spread, 0)
        check_range("limit", self.limit, above=0)


class PosteriorScores(NamedTuple):
    """Outputs of the posterior's network for each response position."""

    priority: Float[Array, " window"]  # higher is revealed earlier; mean 0 over what is maskable
    predicted_nll: Float[Array, " window"]  # of its token, nats; takes noise out of gradients


class Scorer(nn.Module):
    """Scores of the response from the clean sequence.

    Its input is the clean tokens and which of them are the prompt. `vocab` counts the ids that may be
    produced. Canvas positions have learned embeddings. `base` is the part of the scores that is the same
    for all sequences, or for all that get the same of several `orders`.
    """

    config: ScorerConfig
    vocab: int
    max_length: int
    orders: int | None = None

    @nn.compact
    def __call__(
        self,
        tokens: Tokens,
        valid: Mask,
        maskable: Mask,
        positions: Int[Array, " window"],
        order: Count | None = None,
    ) -> PosteriorScores:
        """Scores of the response.

        Args:
          order: which of the `orders` the sequence gets; None where there is one alone.
        """
        config = self.config
        shape = TransformerConfig(width=config.width, depth=config.depth, heads=config.heads)
        init = nn.initializers.normal(0.3)
        if config.conditioning == "prompt":
            tokens = jnp.where(maskable, self.vocab, tokens)
        x = nn.Embed(self.vocab + 2, config.width, embedding_init=init, name="tokens")(tokens)
        x += nn.Embed(2, config.width, embedding_init=init, name="prompt")(maskable.astype(int))
        x += self.param("positions", init, (self.max_length, config.width), jnp.float32)[
            : len(tokens)
        ]
        for layer in range(config.depth):
            x, _ = Block(shape, name=f"block_{layer}")(x, Sight(valid[None]))
        x = nn.RMSNorm(name="final_norm")(x[positions])
        last = nn.initializers.normal(config.spread / config.width**0.5)
        scores = nn.Dense(1, use_bias=False, kernel_init=last, name="score")(x)[:, 0]
        shape = positions.shape if self.orders is None else (self.orders, *positions.shape)
        base = self.param("base", nn.initializers.zeros, shape, jnp.float32)
        scores += base if order is None else base[order]
        counts = maskable[positions]
        mean = jnp.sum(jnp.where(counts, scores, 0.0)) / jnp.maximum(jnp.sum(counts), 1)
        scores = config.limit * jnp.tanh((scores - mean) / config.limit)
        predicted_nll = nn.Dense(1, kernel_init=nn.initializers.zeros, name="predicted_nll")(x)[
            :, 0
        ]
        return PosteriorScores(scores, predicted_nll)


def start_scores(params: Any, order: Int[Array, "*orders window"], spacing: float) -> Any:
    """Scorer parameters whose scores are a static order, or one of several.

    Args:
      order: the step of each position.
      spacing: between the scores of neighbouring steps. The part that depends on the sequence is 0.
    """
    zero = jax.tree.map(jnp.zeros_like, params["score"])
    mean = jnp.mean(order, axis=-1, keepdims=True)
    return params | {"base": -spacing * (order - mean), "score": zero}
