"""Settings tuned on a small transformer taken over by a larger one: Complete(d)P.

With m_N = width / base width, m_L = depth / base depth and alpha in [1/2, 1]:

  parameters               learning rate             eps                     decay
  embeddings, positions    1                         m_N^-1                  1
  hidden matrices          m_N^-1 m_L^(alpha - 1)    m_N^-1 m_L^-alpha       m_N
  gains of hidden norms    m_L^(alpha - 1)           m_N^-1 m_L^-alpha       1
  of queries and keys      m_L^(alpha - 1)           m_L^-alpha              1
  gain of the last norm    1                         1                       1
  unembedding              m_N^-1                    1                       m_N
  masking rates (ours)     1                         1                       never decayed

The initial variances and m_L^-alpha before each residual branch are the network's own
(`TransformerConfig.base_width`, `base_depth`); batch and tokens are `optimizers.sde_scale`.

Reference: arXiv:2512.22382, Table 1, in two transcriptions that agree; the paper's code is not public.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import optax
from jaxtyping import PyTree

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError

Kind = Literal["embedding", "matrix", "gain", "head_gain", "last_gain", "unembedding", "rates"]
KINDS: dict[str, Kind] = {
    "embed": "embedding",
    "positions": "embedding",
    "modalities": "embedding",
    "query": "matrix",
    "key": "matrix",
    "value": "matrix",
    "out": "matrix",
    "gate": "matrix",
    "up": "matrix",
    "down": "matrix",
    "attention_norm": "gain",
    "mlp_norm": "gain",
    "query_norm": "head_gain",
    "key_norm": "head_gain",
    "final_norm": "last_gain",
    "unembed": "unembedding",
    "rates": "rates",
}  # by the name of the module, or of a parameter that is in none
Module = Literal["embedding", "query-key", "value", "out", "gate-up", "down", "gain", "unembedding"]
MODULES: dict[str, Module] = {
    "query": "query-key",
    "key": "query-key",
    "value": "value",
    "out": "out",
    "gate": "gate-up",
    "up": "gate-up",
    "down": "down",
} | {
    name: "gain" if kind.endswith("gain") else kind
    for name, kind in KINDS.items()
    if kind != "matrix"
}  # what has a learning rate of its own, finer than the kinds


class Multipliers(NamedTuple):
    """What the settings of the base are multiplied by for one kind of parameter."""

    learning_rate: float = 1.0
    eps: float = 1.0
    decay: float = 1.0


def multipliers(config: TransformerConfig) -> dict[Kind, Multipliers]:
    """The table above for a network and its base."""
    wider, by_depth = config.wider, config.deeper ** (config.alpha - 1)
    eps = config.branch_scale
    return {
        "embedding": Multipliers(eps=1 / wider),
        "matrix": Multipliers(by_depth / wider, eps / wider, wider),
        "gain": Multipliers(by_depth, eps / wider),
        "head_gain": Multipliers(by_depth, eps),
        "last_gain": Multipliers(),
        "rates": Multipliers(),
        "unembedding": Multipliers(1 / wider, 1.0, wider),
    }


def kind_of(path: tuple[Any, ...], table: Mapping[str, Any] = KINDS) -> Any:
    """The kind of a parameter of `denoisers.transformer.Transformer`, or its entry in another table.

    Raises:
      MdmError: it is none of that network.
    """
    names = [str(getattr(entry, "key", entry)) for entry in path]
    found = [table[name] for name in names if name in table]
    if not found:
        raise MdmError(f"no rule says how the parameter {'/'.join(names)} transfers")
    return found[-1]


def scale_by_module(rates: Mapping[Module, float]) -> optax.GradientTransformation:
    """Updates times the learning rate of their module, as a multiple of the others'.

    Its `init` raises MdmError where the parameters are not those of the transformer.
    """

    def scale(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        return update * rates.get(kind_of(path, MODULES), 1.0)

    def init(params: PyTree) -> optax.EmptyState:
        jax.tree.map_with_path(scale, params)
        return optax.EmptyState()

    def apply(updates: PyTree, state: optax.EmptyState, params: PyTree = None) -> tuple:
        return jax.tree.map_with_path(scale, updates), state

    return optax.GradientTransformation(init, apply)


def scale_by_kind(
    config: TransformerConfig, setting: Callable[[Multipliers], float]
) -> optax.GradientTransformation:
    """Updates times the multiplier of one setting."""
    table = multipliers(config)

    def scale(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
        return update * setting(table[kind_of(path)])

    return optax.stateless(lambda updates, params: jax.tree.map_with_path(scale, updates))


def transferred_adamw(
    rate: optax.Schedule,
    config: TransformerConfig,
    mask: Callable[[PyTree], PyTree],
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
) -> optax.GradientTransformation:
    """`optax.adamw` with the multipliers of each kind; at the base itself it is exactly that.

    Adam does not see the scale of a gradient but for eps, so a gradient divided by the multiplier of eps
    has the same effect as eps multiplied by it.

    Args:
      mask: which parameters decay.
    """
    scale = partial(scale_by_kind, config)
    table = multipliers(config)

    def decay(path: tuple[Any, ...], update: jax.Array, param: jax.Array) -> jax.Array:
        return update + weight_decay * table[kind_of(path)].decay * param

    decayed = optax.stateless(
        lambda updates, params: jax.tree.map_with_path(decay, updates, params)
    )
    return optax.chain(
        scale(lambda one: 1 / one.eps),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.masked(decayed, mask),
        scale(lambda one: one.learning_rate),
        optax.scale_by_learning_rate(rate),
    )
