"""The best static order of each of many prompts, by simulated annealing.

Nearly all that an order gains from adapting it gains from adapting to the prompt: on 4x4 Sudoku the best
order of each prompt solves 94.8 % in three calls, the best policy of all 95.8 %.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mdm_jax.chunks import map_rows
from mdm_jax.errors import check_range
from mdm_jax.orders.search import SearchConfig, SearchData, search_chains
from mdm_jax.orders.static import OrderCosts
from mdm_jax.types import RowKey


@dataclass(frozen=True, kw_only=True)
class PromptSearch:
    """A search for each of several prompts.

    Attributes:
      prompts: that are searched; 0: none.
      search: of each; `sequences` completions of the prompt are what orders are compared on, and there
        are no validation sequences.
      together: prompts whose search is one compiled call.
    """

    prompts: int = 256
    search: SearchConfig = field(
        default_factory=lambda: SearchConfig(proposals=300, chains=1, sequences=16)
    )
    together: int = 64

    def __post_init__(self) -> None:
        check_range("prompts", self.prompts, 0)
        check_range("together", self.together, 1)
        check_range("search.proposals", self.search.proposals, 1)

    def calls(self, budget: int) -> int:
        """Denoiser calls for one prompt, beside those of its completions: orders of `budget` steps are
        compared.
        """
        search = self.search
        return search.chains * search.sequences * (search.proposals + budget)


class PromptOrders(NamedTuple):
    """What a search finds for each prompt."""

    orders: Int[Array, "prompts window"]
    losses: Float[Array, " prompts"]  # by the objective, on the sequences of the search


@partial(jax.jit, static_argnames="config")
def search_prompts(
    keys: Key[Array, " prompts"], data: SearchData, costs: OrderCosts, config: SearchConfig
) -> PromptOrders:
    """The best chain of each prompt, compared on completions of that prompt.

    Costs chains * proposals * completions denoiser calls for a prompt; as many prompts are searched at
    once as memory allows.

    Args:
      keys: one per prompt, whose result depends on no other.
      data: leading axes [prompts, completions]. A completion whose reference is -inf does not count.
    """

    def one(prompt: tuple[RowKey, SearchData]) -> PromptOrders:
        key, data = prompt
        chains = search_chains(key, data, costs, config)
        best = jnp.argmin(chains.best_cost)
        return PromptOrders(chains.best[best], chains.best_cost[best])

    completions = jax.tree.leaves(data.sequences)[0].shape[1]
    size = costs.at_once(jax.tree.map(lambda x: x[0], data.sequences))
    return map_rows(one, (keys, data), max(size // (config.chains * completions), 1))
