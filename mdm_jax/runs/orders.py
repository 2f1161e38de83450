"""The parts of a learned order, and their parameters from a `learn_order` run."""

from pathlib import Path
from typing import Any

import jax

from mdm_jax.denoisers.base import Denoise, hidden_width
from mdm_jax.orders.variational.elbo import OrderModel
from mdm_jax.orders.variational.forms.base import Form
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores
from mdm_jax.orders.variational.loss import OrderParts, init_order
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import CHECKPOINTS
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema

FORMS = (MaxNormalised, SigmoidScores, PlackettLuce)


def order_parts(
    task: Task, budget: int, form: Form, scorer: ScorerConfig, policy: PolicyConfig
) -> OrderParts:
    """The networks of an order on a task."""
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
        model, Scorer(scorer, vocabulary.size, task.length), PolicyNetwork(policy, window, budget)
    )


def described_parts(config: dict[str, Any], task: Task) -> OrderParts:
    """`order_parts` from the config.json of a `learn_order` run."""
    return order_parts(
        task,
        config["budget"],
        from_json(config["form"], *FORMS),
        from_json(config["scorer"], ScorerConfig),
        from_json(config["policy"], PolicyConfig),
    )


def order_params(
    run: str | Path, config: dict[str, Any], task: Task, denoise: Denoise
) -> tuple[dict[str, Any], int]:
    """Averaged parameters of posterior, policy and, where it was fine-tuned jointly, denoiser.

    Args:
      config: the run's config.json.
      task: the run's task.
      denoise: the denoiser before; of its parameters only shapes are used.

    Returns:
      The parameters and the number of updates.
    """
    args = jax.random.key(0), task.length, task.vocabulary.size, hidden_width(denoise)
    parts = described_parts(config, task)
    shapes = jax.eval_shape(lambda: init_order(parts, *args))
    shapes |= {"denoiser": denoise.params} if config["joint"] else {}
    return restore_ema(Path(run) / CHECKPOINTS, shapes)
