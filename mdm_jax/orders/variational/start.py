"""Where learning an order starts from."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array, Int

from mdm_jax.errors import check_range
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.posterior import start_scores
from mdm_jax.policies.networks.policy_network import start_table


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where learning starts from.

    Attributes:
      search: for a static order; with 0 proposals learning starts from the Ancestral sampler.
      spacing: between the scores of neighbouring steps of the static order, in temperatures.
      certainty: of the policy about the static order, nats.
    """

    search: SearchConfig = field(default_factory=SearchConfig)
    spacing: float = 5.0
    certainty: float = 5.0

    def __post_init__(self) -> None:
        for name in ("spacing", "certainty"):
            check_range(name, getattr(self, name), 0)


def start_at(
    params: dict[str, Any], order: Int[Array, " window"], config: InitConfig, temperature: float
) -> dict[str, Any]:
    """The parameters with posterior and policy at a static order.

    Args:
      temperature: of the posterior at the first update.
    """
    return params | {
        "posterior": start_scores(params["posterior"], order, config.spacing * temperature),
        "policy": start_table(params["policy"], order, config.certainty),
    }
