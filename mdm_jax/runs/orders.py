"""The parts of a learned order, and their parameters from a `learn_variational_order` run."""

from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax

from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.orders.prompt_search import PromptSearch
from mdm_jax.orders.search import SearchConfig
from mdm_jax.orders.variational.forms import AnyForm
from mdm_jax.orders.variational.forms.base import Form
from mdm_jax.orders.variational.loss import OrderParts, bound_denoiser, init_order
from mdm_jax.orders.variational.model import OrderModel
from mdm_jax.orders.variational.order_choice import ChoiceConfig, ImitationConfig, OrderChoice
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.orders.variational.start import InitConfig
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import CHECKPOINTS
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema
from mdm_jax.training.state import float32_params

OF_START = InitConfig, SearchConfig, PromptSearch, ChoiceConfig, ImitationConfig


class LearnedOrder(NamedTuple):
    """The policy, the denoiser that goes with it, and the networks with their parameters."""

    policy: LearnedPolicy
    denoise: Denoise
    base: Denoise  # the denoiser before it was fine-tuned jointly; else the same
    params: dict[str, Any]
    parts: OrderParts


def order_parts(
    task: Task,
    budget: int,
    form: Form,
    scorer: ScorerConfig,
    policy: PolicyConfig,
    start: InitConfig,
) -> OrderParts:
    """The networks of an order on a task.

    Raises:
      MdmError: the prompt is to choose an order, and the form's scores do not force one.
    """
    if (start.by_prompt or start.policy) and not form.induces_order:
        name = "policy" if start.policy else "by_prompt"
        raise MdmError(f"start.{name}: the scores of {type(form).__name__} do not force an order")
    vocabulary, window = task.vocabulary, task.gen_length or task.length
    model = OrderModel(
        form=form,
        budget=budget,
        mask_id=vocabulary.mask_id,
        pad_id=vocabulary.pad_id,
        window=task.gen_length,
        eos_id=vocabulary.eos_id,
        hidden=policy.hidden,
    )
    return OrderParts(
        model,
        Scorer(scorer, vocabulary.size, task.length, start.orders),
        PolicyNetwork(policy, window, budget),
        OrderChoice(start.choice.width, start.orders) if start.chooses else None,
    )


def described_parts(config: dict[str, Any], task: Task) -> OrderParts:
    """`order_parts` from the config.json of a `learn_variational_order` run."""
    return order_parts(
        task,
        config["budget"],
        from_json(config["form"], *get_args(AnyForm)),
        from_json(config["scorer"], ScorerConfig),
        from_json(config["policy"], PolicyConfig),
        start_from(config["start"]),
    )


def start_from(described: Any) -> Any:
    """The start of a run from its config.json, with the settings that it is made of.

    Settings that an earlier run did not have are at their defaults.
    """
    if not isinstance(described, dict):
        return described
    return from_json({name: start_from(one) for name, one in described.items()}, *OF_START)


def fresh_params(
    parts: OrderParts, task: Task, key: jax.Array, denoise: Denoise, joint: bool
) -> dict[str, Any]:
    """Parameters before the first update: the policy is the Ancestral sampler.

    Args:
      joint: the denoiser is fine-tuned jointly, so its parameters are included.
    """
    params = init_order(parts, key, task.length, task.vocabulary.size, hidden_width(denoise))
    return params | ({"denoiser": denoise.params} if joint else {})


def order_policy(
    parts: OrderParts, params: dict[str, Any], policy_temperature: float
) -> LearnedPolicy:
    """The unmasking policy of an order, from the parameters of its parts."""
    return LearnedPolicy(
        parts.network,
        params["policy"],
        parts.model.budget,
        policy_temperature,
        family=parts.model.form.family,
    )


def learned_order(
    parts: OrderParts, params: dict[str, Any], denoise: Denoise, policy_temperature: float
) -> LearnedOrder:
    """What has been learned from a denoiser, with averaged parameters."""
    policy = order_policy(parts, params, policy_temperature)
    return LearnedOrder(policy, bound_denoiser(params, denoise), denoise, params, parts)


def order_params(
    run: str | Path, config: dict[str, Any], task: Task, denoise: Denoise
) -> tuple[dict[str, Any], int]:
    """Averaged parameters, float32, of posterior, policy and, if it was fine-tuned jointly, denoiser.

    Args:
      config: the run's config.json.
      task: the run's task.
      denoise: the denoiser before; of its parameters only shapes are used.

    Returns:
      The parameters and the number of updates.
    """
    args = root_key(0), task.length, task.vocabulary.size, hidden_width(denoise)
    parts = described_parts(config, task)
    shapes = jax.eval_shape(lambda: init_order(parts, *args))
    if config["joint"]:
        shapes["denoiser"] = jax.eval_shape(float32_params, denoise.params)
    return restore_ema(expand(run) / CHECKPOINTS, shapes)
