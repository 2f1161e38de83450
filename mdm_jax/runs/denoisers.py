"""Loading the denoiser of a run directory, or of a published checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from mdm_jax.denoisers.base import Denoise, DenoiseExact, bind
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.denoisers.transformer import Transformer, TransformerConfig
from mdm_jax.diffusion.context_rates import ContextRates
from mdm_jax.diffusion.genmd4 import RATES, Genmd4
from mdm_jax.diffusion.rates import Rates
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.keys import root_key
from mdm_jax.orders.variational.loss import bound_denoiser
from mdm_jax.runs.config import denoiser_run, read_config, read_task
from mdm_jax.runs.description import from_json
from mdm_jax.runs.directory import CHECKPOINTS, DENOISER_IDENTITY
from mdm_jax.runs.identity import identity
from mdm_jax.runs.orders import order_params
from mdm_jax.runs.published import Loading, is_published, load_published
from mdm_jax.tasks.base import HasOracle, Task, stream_of
from mdm_jax.training.checkpoints import restore_ema
from mdm_jax.training.denoiser import init_params
from mdm_jax.training.state import Params


class LoadedDenoiser(NamedTuple):
    """A trained denoiser, the task it is for, and its number of updates."""

    denoise: Denoise
    task: Task
    step: int


def load_denoiser(
    run: str | Path, task: Task | None = None, loading: Loading | None = None
) -> LoadedDenoiser:
    """The denoiser of a run with its averaged weights, or of a published checkpoint.

    Args:
      run: run directory of `train_denoiser`, `quickstart`, `learn_order`, `learn_variational_order` or
        `learn_policy`, or the directory of a published checkpoint.
      task: what it will be used on; None: the task that it was trained on.
      loading: how a published checkpoint is put on devices; None: as it is stored, on one device.

    Raises:
      MdmError: no run, no readable checkpoint, the task has other ids than the one trained on, or the
        denoiser that an order or a policy learned with has changed since.
    """
    if is_published(run):
        return LoadedDenoiser(load_published(run, task, loading or Loading()), task, 0)
    config = read_config(run)
    if config["experiment"] == "train_denoiser":
        return _load_trained(run, config, task)
    before = denoiser_before(run, config, task)
    if config.get("joint"):
        return _load_jointly_tuned(run, config, before)
    _check_unchanged(run, config, before)
    return before


def weights_for(module: Transformer, run: str | Path, task: Task) -> Params:
    """The averaged weights of a run, for a network of the same shape.

    Raises:
      MdmError: its network is another one, or as `load_denoiser`.
    """
    denoise = load_denoiser(run, task).denoise
    if denoise.module != module:
        raise MdmError(f"the network of {run} is not the one to be trained: give the same --model")
    return denoise.params


def exact_denoiser(task: Task) -> DenoiseExact:
    """The oracle of a task that has one.

    Raises:
      MdmError: it has none.
    """
    if not isinstance(task, HasOracle):
        raise MdmError(
            f"task {task.name} has no exact conditionals: train a denoiser instead of --oracle"
        )
    return task.oracle()


def given_denoiser(task: Task, run: str | Path | None, oracle: bool) -> Denoise | None:
    """Exact conditionals, or the denoiser of another run; None: one has to be trained."""
    if oracle:
        return exact_denoiser(task)
    return None if run is None else load_denoiser(run, task).denoise


def denoiser_before(run: str | Path, config: dict[str, Any], task: Task | None) -> LoadedDenoiser:
    """The denoiser that an order or a policy started from."""
    task = read_task(run) if task is None else task
    if config["oracle"]:
        return LoadedDenoiser(exact_denoiser(task), task, 0)
    return load_denoiser(denoiser_run(run, config), task)


def _check_unchanged(run: str | Path, config: dict[str, Any], now: LoadedDenoiser) -> None:
    """Raise MdmError where the denoiser of another run is not the one that was learned with."""
    home, known = denoiser_run(run, config), config.get(DENOISER_IDENTITY)
    if known is not None and known != identity(home, now.denoise, Loading()):
        raise MdmError(
            f"{home} has other weights than when {run} learned with it: to use them all the same, give "
            f"{home} as --run and {run} as the run of policy:learned"
        )


def denoiser_shapes(run: str | Path, config: dict[str, Any]) -> LoadedDenoiser:
    """`denoiser_before`, but of a published checkpoint only the shapes: its weights are large."""
    home = denoiser_run(run, config)
    if config["oracle"] or not is_published(home):
        return denoiser_before(run, config, None)
    return LoadedDenoiser(pretrained.load_shapes(home), read_task(run), 0)


def _load_trained(run: str | Path, config: dict[str, Any], task: Task | None) -> LoadedDenoiser:
    trained_on = read_task(run)
    task = trained_on if task is None else task
    if task.vocabulary != trained_on.vocabulary:
        raise MdmError(
            f"{run} was trained with {trained_on.vocabulary}, but task {task.name} has "
            f"{task.vocabulary}"
        )
    module, params, step = _trained_parts(run, config, trained_on)
    network = {name: leaf for name, leaf in params.items() if name != RATES}
    return LoadedDenoiser(bind(module, network), task, step)


def load_rates(run: str | Path) -> Rates | ContextRates:
    """The masking rates that a run has learned with its denoiser, averaged as its weights are.

    Raises:
      MdmError: no run of `train_denoiser` with `objective:genmd4`, or no readable checkpoint.
    """
    config = {} if is_published(run) else read_config(run)
    if (objective := rated_objective(config)) is None:
        raise MdmError(
            f"{run} has no masking rates: train with train_denoiser objective:genmd4, and give its "
            "directory as --run or --policy.run"
        )
    return objective.rates(_trained_parts(run, config, read_task(run))[1][RATES])


def rated_objective(config: dict[str, Any]) -> Genmd4 | None:
    """The objective of a run that learned masking rates; None: it learned none."""
    described = config.get("objective")
    learned = isinstance(described, dict) and described.get("kind") == Genmd4.__name__
    return from_json(described, Genmd4) if learned else None


def _trained_parts(
    run: str | Path, config: dict[str, Any], task: Task
) -> tuple[Transformer, Params, int]:
    """The network of a run, its averaged parameters (with those of rates), and its updates."""
    ids, objective = task.vocabulary, rated_objective(config)
    model = from_json(config["model"], TransformerConfig)
    module = Transformer(model, ids.size, stream_of(task))
    shapes = jax.eval_shape(lambda: init_params(module, root_key(0), task.length, ids.mask_id))
    if objective is not None:
        shapes |= {RATES: objective.init(task.length, ids.size, model.width)}
    return module, *restore_ema(expand(run) / CHECKPOINTS, shapes)


def _load_jointly_tuned(
    run: str | Path, config: dict[str, Any], before: LoadedDenoiser
) -> LoadedDenoiser:
    params, step = order_params(run, config, read_task(run), before.denoise)
    return LoadedDenoiser(bound_denoiser(params, before.denoise), before.task, step)
