"""Checkpoints of a run: parameters, their average and the optimiser, each readable on its own.

Each has checksums of its files, written before it is renamed to what it is called when it is complete.

orbax is imported where it is used: that takes half a second, which `--help` need not wait for.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mdm_jax.checksums import SUMS, check_sums, write_sums
from mdm_jax.errors import NOT_FINITE, MdmError
from mdm_jax.sharding import make_mesh, replicated
from mdm_jax.training.state import TrainState

Manager = Any  # an orbax CheckpointManager
ITEMS = ("progress", "params", "ema", "opt_state")


def open_manager(directory: Path | str, keep: int = 2) -> Manager:
    """The checkpoints of a run. Each is written aside and renamed, so a killed run leaves none torn."""
    import orbax.checkpoint as ocp

    home = Path(directory).absolute()
    seal = ocp.AsyncOptions(post_finalization_callback=partial(_write_sums, home))
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, async_options=seal)
    return ocp.CheckpointManager(home, options=options, item_names=ITEMS)


def _write_sums(home: Path) -> None:
    """Checksums of the checkpoint that has just been written (of its items: orbax adds to the rest)."""
    if jax.process_index() == 0:
        for step in home.iterdir():
            if step.is_dir() and not (step / SUMS).exists():
                write_sums(step, "*/**/*")


def save(manager: Manager, state: TrainState) -> None:
    """Save under the state's step number, in the background; `manager.close()` waits for it.

    Checkpoints of this step and of later ones, which a run has left that went on after it went back to
    an earlier state, are deleted first: orbax saves nothing at or below its latest step.
    """
    import orbax.checkpoint as ocp

    for stale in [step for step in manager.all_steps() if step >= int(state.step)]:
        manager.wait_until_finished()
        manager.delete(stale)
    parts = {"params": state.params, "ema": state.ema, "opt_state": state.opt_state}
    parts = jax.tree.map(_one_copy, parts | {"progress": {"step": state.step}})
    items = {name: ocp.args.StandardSave(tree) for name, tree in parts.items()}
    manager.save(int(state.step), args=ocp.args.Composite(**items))


def _one_copy(leaf: jax.Array) -> jax.Array:
    """The array of one device where all have the same: of copies orbax writes a slice from each device,
    and every slice is a program to compile.
    """
    same = isinstance(leaf, jax.Array) and leaf.is_fully_addressable and leaf.is_fully_replicated
    return leaf.addressable_data(0) if same else leaf


def restore(manager: Manager, like: TrainState) -> TrainState:
    """The latest saved state, shaped and placed as `like`; `like` itself when there is none.

    Raises:
      MdmError: the latest checkpoint cannot be read, or is not what was written.
    """
    if manager.latest_step() is None:
        return like
    parts = {"progress": {"step": like.step}, "params": like.params, "ema": like.ema}
    found = _read(manager, parts | {"opt_state": like.opt_state})
    return TrainState(found["progress"]["step"], found["params"], found["ema"], found["opt_state"])


def restore_ema(directory: Path | str, like: PyTree) -> tuple[PyTree, int]:
    """The averaged parameters of a run's latest checkpoint, on the default device, and its step.

    Args:
      directory: where `open_manager` kept them.
      like: parameters of the same network, or their shapes.

    Raises:
      MdmError: there is no checkpoint, it cannot be read, it is not what was written, or it has weights
        that are not finite.
    """
    if not Path(directory).is_dir():
        raise MdmError(f"no checkpoints at {directory}: train first, or name another --run")
    with open_manager(directory) as manager:
        if manager.latest_step() is None:
            raise MdmError(f"no finished checkpoint in {directory}: train first")
        # by way of all devices there are now, whatever the run was trained on
        home = replicated(make_mesh())
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=home), like
        )
        found = jax.device_get(_read(manager, {"ema": shapes})["ema"])
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)):
            raise MdmError(
                f"weights of checkpoint {manager.latest_step()} in {directory} {NOT_FINITE}"
            )
        return jax.tree.map(jnp.asarray, found), manager.latest_step()


def _read(manager: Manager, parts: dict[str, PyTree]) -> dict[str, PyTree]:
    """Restore named items of the latest step, with one clear error for all that may be wrong."""
    import orbax.checkpoint as ocp

    step = manager.latest_step()
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, parts)
    items = {name: ocp.args.StandardRestore(tree) for name, tree in shapes.items()}
    try:
        check_sums(Path(manager.directory) / str(step), tuple(parts))
        return dict(manager.restore(step, args=ocp.args.Composite(**items)).items())
    except Exception as error:
        damage = str(error)
        if not isinstance(error, MdmError):
            damage = f"{type(error).__name__}: {damage.splitlines()[0][:200]}"
        raise MdmError(
            f"checkpoint {step} in {manager.directory} cannot be read ({damage}); it is damaged or "
            f"of another network: delete {manager.directory / str(step)} to go back to the one before"
        ) from error
