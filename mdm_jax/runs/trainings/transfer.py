"""Settings of a training that were tuned on a smaller or shorter one, and how they are taken over."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from mdm_jax.denoisers.transformer import TransformerConfig
from mdm_jax.errors import MdmError, check_range
from mdm_jax.tasks.splits import MOST
from mdm_jax.training.optimizers import Duration, OptimizerConfig, sde_scale

Scaling = Literal["none", "sde", "completed-p"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """The training that settings were tuned on; what is None is as in this run.

    Attributes:
      width, depth: of its transformer, with heads as wide as in this run.
      batch_size: sequences of an update.
      tokens: positions of all its batches: length x batch_size x steps.
      alpha: residual branches are multiplied by (base depth / depth)^alpha, 1/2 to 1.
      token_exponent: how strongly the number of tokens counts beside the batch; public fits disagree: 1
        in Complete(d)P, 0.44 in arXiv:2602.21472 (second-hand), 0.6 in Marin's rule.
    """

    width: int | None = None
    depth: int | None = None
    batch_size: int | None = None
    tokens: float | None = None
    alpha: float = 1.0
    token_exponent: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "batch_size"):
            check_range(name, getattr(self, name), 1, MOST)
        check_range("tokens", self.tokens, above=0)
        check_range("alpha", self.alpha, 0.5, 1)
        check_range("token_exponent", self.token_exponent, 0)

    def check(self, scaling: Scaling) -> None:
        """Refuses what `scaling` would not look at.

        Raises:
          MdmError: something is given that has no effect.
        """
        looked_at = {"none": (), "sde": ("batch_size", "tokens")}.get(scaling)
        sizes = ("width", "depth", "batch_size", "tokens")
        given = [name for name in sizes if getattr(self, name) is not None]
        unused = [name for name in given if looked_at is not None and name not in looked_at]
        if unused:
            raise MdmError(
                f"--base.{unused[0]} has no effect with --scaling {scaling}: give "
                f"{'--scaling completed-p' if unused[0] in ('width', 'depth') else '--scaling sde'}"
            )
        if scaling != "none" and not given:
            raise MdmError(f"--scaling {scaling} needs one of --base.{', --base.'.join(sizes)}")


class Scaled(NamedTuple):
    """What this run trains with."""

    optimizer: OptimizerConfig
    ema_decay: float


def scaled_shape(scaling: Scaling, base: Base, model: TransformerConfig) -> TransformerConfig:
    """The transformer, with the shape whose settings it takes over under completed-p."""
    if scaling != "completed-p":
        return model
    return replace(model, base_width=base.width, base_depth=base.depth, alpha=base.alpha)


def scaled_settings(
    scaling: Scaling,
    base: Base,
    optimizer: OptimizerConfig,
    ema_decay: float,
    *,
    batch_size: int,
    tokens: int | float,
) -> Scaled:
    """Optimiser and average for the batch and the tokens of this run.

    Args:
      optimizer, ema_decay: tuned at `base`.
      tokens: positions of all batches of this run.
    """
    if scaling == "none":
        return Scaled(optimizer, ema_decay)
    duration = Duration(
        batch=batch_size / (base.batch_size or batch_size),
        tokens=tokens / (base.tokens or tokens),
        token_exponent=base.token_exponent,
    )
    return Scaled(*sde_scale(optimizer, ema_decay, duration))
