"""Reading a run directory back: its task, its network, its averaged weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mdm_jax.denoisers.base import Denoise, bind
from mdm_jax.denoisers.oracle import Oracle
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.orders.variational.elbo import OrderModel
from mdm_jax.orders.variational.forms.base import Form
from mdm_jax.orders.variational.forms.max_normalised import MaxNormalised
from mdm_jax.orders.variational.forms.plackett_luce import PlackettLuce
from mdm_jax.orders.variational.forms.sigmoid import SigmoidScores
from mdm_jax.orders.variational.loss import OrderParts, init_order
from mdm_jax.orders.variational.posterior import Scorer, ScorerConfig
from mdm_jax.policies.learned import LearnedPolicy
from mdm_jax.policies.networks.policy_network import PolicyConfig, PolicyNetwork
from mdm_jax.runs.published import Loading, is_published, load_published
from mdm_jax.tasks import PROMPTED, TASKS
from mdm_jax.tasks.base import Task
from mdm_jax.training.checkpoints import restore_ema

CHECKPOINTS = "checkpoints"
DENOISER = "denoiser"  # inside the run of an order or a policy, where it trained its own
TOKENIZER = "tokenizer.json"
FORMS = (MaxNormalised, SigmoidScores, PlackettLuce)


class LoadedRun(NamedTuple):
    """A trained denoiser, the task it was trained on, and its number of updates."""

    denoise: Denoise
    task: Task
    step: int


def read_config(run: str | Path) -> dict[str, Any]:
    """config.json of a run directory.

    Raises:
      ValueError: not the directory of a training run.
    """
    path = Path(run) / "config.json"
    if not path.is_file():
        raise ValueError(f"{run} is no run directory (it has no config.json): train first")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if (
        not isinstance(config, dict)
        or "task" not in config
        or not {"model", "form", "design"} & config.keys()
    ):
        raise ValueError(
            f"{run} is no training run: give a directory of train_denoiser, quickstart, learn_order "
            "or learn_policy"
        )
    return config


def read_task(run: str | Path) -> Task:
    """The task of a run, with the tokenizer that the run carries."""
    config = read_config(run)
    described = dict(config["task"])
    kinds = {task.__name__: task for task in (*TASKS.values(), *PROMPTED.values())}
    task = kinds[described.pop("kind")](**described)
    tokenizer = Path(run) / TOKENIZER
    if tokenizer.is_file():
        return replace(task, tokenizer_file=str(tokenizer))
    if "model" not in config and hasattr(task, "tokenizer_file"):
        return replace(task, tokenizer_file=read_task(denoiser_run(run, config)).tokenizer_file)
    return task


def exact_denoiser(task: Task) -> Oracle:
    """The oracle of a task that can be listed.

    Raises:
      ValueError: it cannot.
    """
    if not hasattr(task, "oracle"):
        raise ValueError(f"task {task.name} cannot be listed: train a denoiser instead of --oracle")
    return task.oracle()


def denoiser_run(run: str | Path, config: dict[str, Any]) -> str | Path:
    """The run of the denoiser that an order was learned with."""
    return config["denoiser"] or Path(run) / DENOISER


def load_run(
    run: str | Path, task: Task | None = None, loading: Loading | None = None
) -> LoadedRun:
    """The denoiser of a run with its averaged weights, or of a published checkpoint.

    Args:
      run: run directory of `train_denoiser`, `quickstart`, `learn_order` or `learn_policy`, or the
        directory of a checkpoint.
      task: what it will be used on; None: what it was trained on.
      loading: how a checkpoint is put on devices; None: as it is stored, on one.

    Raises:
      ValueError: no run, no readable checkpoint, or the task has other ids than the one trained on.
    """
    if is_published(run):
        return LoadedRun(load_published(run, task, loading or Loading()), task, 0)
    config = read_config(run)
    if "model" not in config:
        base = _base(run, config, task)
        return _tuned(run, config, base) if config.get("joint") else base
    trained_on = read_task(run)
    task = trained_on if task is None else task
    if task.vocabulary != trained_on.vocabulary:
        raise ValueError(
            f"{run} was trained with {trained_on.vocabulary}, but task {task.name} has {task.vocabulary}"
        )
    module = Transformer(from_json(config["model"], TransformerConfig), task.vocabulary.size)
    shapes = jax.eval_shape(lambda: init_params(module, trained_on, jax.random.key(0)))
    params, step = restore_ema(Path(run) / CHECKPOINTS, shapes)
    return LoadedRun(bind(module, params), task, step)


def _base(run: str | Path, config: dict, task: Task | None) -> LoadedRun:
    """The denoiser that an order was learned with, as it was before."""
    task = read_task(run) if task is None else task
    if config["oracle"]:
        return LoadedRun(exact_denoiser(task), task, 0)
    return load_run(denoiser_run(run, config), task)


def _base_shapes(run: str | Path, config: dict) -> LoadedRun:
    """The same, but of a published checkpoint only shapes: the weights are large and not needed."""
    home = denoiser_run(run, config)
    if config["oracle"] or not is_published(home):
        return _base(run, config, None)
    return LoadedRun(pretrained.load_shapes(home), read_task(run), 0)


def _tuned(run: str | Path, config: dict, base: LoadedRun) -> LoadedRun:
    """The denoiser as it became when it learned along."""
    params, step = _order_params(run, config, base._replace(task=read_task(run)))
    return LoadedRun(bind(base.denoise.module, params["denoiser"]), base.task, step)


def init_params(module: Transformer, task: Task, key: jax.Array) -> Any:
    """Fresh parameters of a network for a task's canvases."""
    canvas = jnp.full((task.length,), task.vocabulary.mask_id)
    return module.init(key, canvas, jnp.ones(canvas.shape, bool))["params"]


def from_json(described: dict[str, Any], *kinds: type) -> Any:
    """The dataclass that config.json describes, one of `kinds`."""
    fields = dict(described)
    name = fields.pop("kind")
    return next(kind for kind in kinds if kind.__name__ == name)(**fields)


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


def hidden_width(denoise: Denoise) -> int:
    """Features of the denoiser's hidden states (1 where it has none)."""
    return getattr(getattr(getattr(denoise, "module", None), "config", None), "width", 1)


def load_order(run: str | Path) -> LearnedPolicy:
    """The unmasking policy of a `learn_order` run, at the policy temperature it was compared at.

    Raises:
      ValueError: no readable checkpoint.
    """
    config = read_config(run)
    base = _base_shapes(run, config)
    params, _ = _order_params(run, config, base)
    parts = _parts(config, base.task)
    return LearnedPolicy(
        parts.network,
        params["policy"],
        config["budget"],
        config["policy_temperature"],
        family=parts.model.form.family,
    )


def _parts(config: dict, task: Task) -> OrderParts:
    return order_parts(
        task,
        config["budget"],
        from_json(config["form"], *FORMS),
        from_json(config["scorer"], ScorerConfig),
        from_json(config["policy"], PolicyConfig),
    )


def _order_params(run: str | Path, config: dict, base: LoadedRun) -> tuple[dict, int]:
    """Averaged parameters of an order's parts, and the number of updates."""
    task, denoise = base.task, base.denoise
    parts = _parts(config, task)

    args = jax.random.key(0), task.length, task.vocabulary.size, hidden_width(denoise)
    shapes = jax.eval_shape(lambda: init_order(parts, *args))
    shapes |= {"denoiser": denoise.params} if config["joint"] else {}
    return restore_ema(Path(run) / CHECKPOINTS, shapes)
