"""Where learning an order starts from."""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array, Float, Int

from mdm_jax.errors import MdmError, check_range
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.order_choice import ChoiceConfig, ImitationConfig
from mdm_jax.orders.variational.posterior import start_scores
from mdm_jax.policies.networks.policy_network import start_table


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Where learning starts from.

    Attributes:
      search: for static orders; with 0 proposals learning starts from the Ancestral sampler.
      by_prompt: the posterior starts with the orders of all chains of the search, of which every prompt
        chooses one; False: with the best one, the same for all prompts.
      prompt_search: held-out prompts whose own best orders can be chosen as well, with by_prompt.
      choice: the network that chooses.
      imitation: how the policy learns what was chosen.
      policy: run directory of `learn_order`. The orders that its policy gives to clean sequences, at most
        the budget's calls long, are what posterior and policy start from, in place of a search.
      scores: how the posterior learns these orders.
      spacing: between the scores of neighbouring steps of a static order, in temperatures.
      certainty: of the policy about the static order, nats, at most.
    """

    search: SearchConfig = field(default_factory=SearchConfig)
    by_prompt: bool = False
    prompt_search: PromptSearch = field(default_factory=lambda: PromptSearch(prompts=0))
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    policy: str | None = None
    scores: ImitationConfig = field(
        default_factory=lambda: ImitationConfig(updates=2000, batch_size=128, learning_rate=2e-3)
    )
    spacing: float = 5.0
    certainty: float = 5.0

    def __post_init__(self) -> None:
        for name in ("spacing", "certainty"):
            check_range(name, getattr(self, name), 0)
        if self.chooses and not self.search.proposals:
            raise MdmError("by_prompt chooses among the orders of a search: give it proposals")

    @property
    def chooses(self) -> bool:
        """Whether every prompt chooses one of several orders."""
        return self.by_prompt and self.policy is None

    @property
    def orders(self) -> int | None:
        """How many static orders the posterior has; None: one, which is not chosen."""
        return self.search.chains + self.searched_prompts if self.chooses else None

    @property
    def searched_prompts(self) -> int:
        """Prompts whose own orders are searched."""
        return self.prompt_search.prompts if self.chooses else 0


def start_at(
    params: dict[str, Any],
    orders: Int[Array, "orders window"],
    shares: Float[Array, " orders"],
    config: InitConfig,
    temperature: float,
) -> dict[str, Any]:
    """The parameters with posterior and policy at one static order, or at several.

    Args:
      shares: of the prompts that choose each of the orders.
      temperature: of the posterior at the first update.
    """
    base = orders if config.chooses else orders[0]
    return params | {
        "posterior": start_scores(params["posterior"], base, config.spacing * temperature),
        "policy": start_table(params["policy"], orders, shares, config.certainty),
    }
