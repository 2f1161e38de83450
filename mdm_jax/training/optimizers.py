"""AdamW with warm-up and cosine, clipped by global norm."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.diffusion.genmd4 import RATES
from mdm_jax.errors import check_range
from mdm_jax.training.transfer import Module, scale_by_module, transferred_adamw

NEVER_DECAYED = {"scale", "bias", RATES}  # names of parameters, however many axes they have


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW in optax's form: the decay is multiplied by the learning rate; matrices only.

    Attributes:
      learning_rate: peak.
      final_fraction: of the peak, at the last step of the cosine.
      warmup: steps of linear warm-up from 0, at most a tenth of the run.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: of matrices.
      clip: largest global norm of the gradient, that of masking rates apart; 0: no clipping.
      module_rates: learning rates of modules of the transformer, as multiples of the others', such as
        embedding 2 down 0.5.
    """

    learning_rate: float = 3e-3
    final_fraction: float = 0.1
    warmup: int = 100
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip: float = 1.0
    module_rates: tuple[tuple[Module, float], ...] = ()

    def __post_init__(self) -> None:
        check_range("learning_rate", self.learning_rate, above=0)
        for name in ("warmup", "eps", "weight_decay", "clip"):
            check_range(name, getattr(self, name), 0)
        check_range("final_fraction", self.final_fraction, 0, 1)
        for name in ("b1", "b2"):
            check_range(name, getattr(self, name), 0, below=1)
        for module, rate in self.module_rates:
            check_range(f"the module rate of {module}", rate, above=0)


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Batch and training tokens, as multiples of those that settings were tuned for.

    Attributes:
      batch: sequences of an update.
      tokens: of the whole training.
      token_exponent: kappa = batch / tokens^token_exponent. 1 in Complete(d)P, 0.44 fitted in
        arXiv:2602.21472 (second-hand), 0.6 in Marin's rule: public fits disagree.
    """

    batch: float = 1.0
    tokens: float = 1.0
    token_exponent: float = 1.0

    def __post_init__(self) -> None:
        check_range("batch", self.batch, above=0)
        check_range("tokens", self.tokens, above=0)
        check_range("token_exponent", self.token_exponent, 0)

    @property
    def kappa(self) -> float:
        return self.batch / self.tokens**self.token_exponent


def sde_scale(
    base: OptimizerConfig, ema_decay: float, duration: Duration
) -> tuple[OptimizerConfig, float]:
    """Settings for another batch and another number of training tokens, by the limit in which the
    optimiser is a stochastic differential equation.

    The learning rate and the weight decay times sqrt(kappa), every decay to the power kappa, eps over
    sqrt(kappa), and the warm-up the same share of the updates. With the same tokens the half-life in
    tokens of both moments and of the weight average does not depend on the batch. It holds while updates
    are many; a large batch leaves too few. Reference: arXiv:2512.22382, after arXiv:2307.13813.

    Args:
      ema_decay: of the weight average.
      duration: beside that of `base`.
    """
    kappa = duration.kappa
    root = kappa**0.5
    scaled = replace(
        base,
        learning_rate=base.learning_rate * root,
        b1=base.b1**kappa,
        b2=base.b2**kappa,
        eps=base.eps / root,
        weight_decay=base.weight_decay * root,
        warmup=round(base.warmup * duration.tokens / duration.batch),
    )
    return scaled, ema_decay**kappa


def rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate of each update of a run of `steps`."""
    warmup = min(config.warmup, max(steps // 10, 1))
    return optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        warmup,
        max(steps, warmup + 1),
        config.learning_rate * config.final_fraction,
    )


def make_optimizer(
    config: OptimizerConfig, steps: int, model: TransformerConfig | None = None
) -> optax.GradientTransformation:
    """The optimiser of a run of `steps` updates.

    Args:
      model: the transformer that is trained, where it takes over settings of a smaller one.
    """
    rate = rate_schedule(config, steps)
    adamw = partial(optax.adamw, rate, mask=is_decayed)
    if model is not None and (model.base_width or model.base_depth):
        adamw = partial(transferred_adamw, rate, model, is_decayed)
    made = adamw(b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay)
    clip = clip_apart(config.clip) if config.clip > 0 else optax.identity()
    if config.module_rates:
        made = optax.chain(made, scale_by_module(dict(config.module_rates)))
    return optax.chain(clip, made)


def clip_apart(most: float) -> optax.GradientTransformation:
    """Gradients clipped by global norm, those of masking rates by their own: they are noisier, and what
    they are must not shorten the network's steps.
    """
    clip = optax.clip_by_global_norm(most)

    def apart(updates: PyTree, params: PyTree) -> PyTree:
        named, structure = jax.tree.flatten_with_path(updates)
        is_rate = [_name(path) == RATES for path, _ in named]
        found = [leaf for _, leaf in named]
        for kind in set(is_rate):
            chosen = {i: found[i] for i, one in enumerate(is_rate) if one == kind}
            clipped, _ = clip.update(chosen, clip.init(chosen))
            found = [clipped.get(i, leaf) for i, leaf in enumerate(found)]
        return jax.tree.unflatten(structure, found)

    return optax.stateless(apart)


def _name(path: tuple[Any, ...]) -> Any:
    return getattr(path[-1], "key", None) if path else None


def is_decayed(params: PyTree) -> PyTree:
    """Which parameters decay: matrices; not masking rates, and not scales of norms and biases, which
    scanned blocks stack.
    """

    def decide(path: tuple[Any, ...], leaf: Any) -> bool:
        return leaf.ndim > 1 and _name(path) not in NEVER_DECAYED

    return jax.tree.map_with_path(decide, params)
