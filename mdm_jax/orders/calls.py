"""How many times learning an order calls the denoiser, known before the first call."""

from typing import NamedTuple

from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.static import ORDERS
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.start import InitConfig


class OrderCalls(NamedTuple):
    """Denoiser calls on one canvas each."""

    search: int
    training: int
    bound: int

    def summary(self) -> str:
        """All in one line."""
        return (
            f"denoiser calls to make, on one canvas each: {sum(self):,} (search {self.search:,}, "
            f"training {self.training:,}, bound {self.bound:,})"
        )


def start_calls(config: InitConfig, model: OrderModel, length: int) -> int:
    """Calls before the first update, at most: a search, and where prompts choose an order, all orders
    and sequential decoding followed along the same sequences. From a learned policy: its orders followed
    twice along these, beside the calls that find its price (`runs.adaptive.best_within`).

    Args:
      length: positions of a canvas.
    """
    window = model.window or length
    if config.policy is not None:
        return config.choice.sequences * (2 * model.budget - 1)
    found = search_calls(config.search, model, length)
    if not config.by_prompt:
        return found
    each = ((config.orders or 0) + 1) * model.budget + window
    return found + prompt_calls(config, model, window) + config.choice.sequences * each


def prompt_calls(config: InitConfig, model: OrderModel, window: int) -> int:
    """Calls of the searches for single prompts, at most: completions, which sequential decoding draws and
    then follows, the search among orders of each prompt, and their comparison with all others.
    """
    completions = 2 * config.prompt_search.search.sequences * window
    compared = config.search.validation_sequences * model.budget
    each = completions + config.prompt_search.calls(model.budget) + compared
    return config.searched_prompts * each


def search_calls(config: SearchConfig, model: OrderModel, length: int) -> int:
    """Calls of a search: its chains, their comparison, and sequential decoding beside it.

    Args:
      length: positions of a canvas.
    """
    if not (config.proposals and model.form.induces_order):
        return 0
    orders = config.chains * config.sequences * (config.proposals + model.budget)
    compared = config.chains * config.validation_sequences * model.budget
    window = model.window or length
    clean = config.sequences + config.validation_sequences if config.by == "success" else 0
    return orders + compared + clean * window * ORDERS
