"""Devices and processes: a mesh, where arrays live on it, and maps of a vmapped function over it."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from mdm_jax.errors import MdmError, check_range

Mapped = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes of one run: the same command in each, with an `id` of its own.

    Under SLURM (srun), Open MPI and on TPU pods these settings are found.

    Attributes:
      count: how many there are.
      id: which one this is, from 0.
      coordinator: where process 0 listens, as HOST:PORT.
    """

    count: int | None = None
    id: int | None = None
    coordinator: str | None = None

    def __post_init__(self) -> None:
        if len({value is None for value in (self.count, self.id, self.coordinator)}) > 1:
            raise MdmError("give all three of --processes.count, .id and .coordinator, or none")
        if self.count is not None:
            check_range("count", self.count, 1)
            check_range("id", self.id, 0, self.count - 1)
            if not re.fullmatch(r".+:[0-9]+", self.coordinator):
                raise MdmError(f"coordinator {self.coordinator!r} is not HOST:PORT")


def start_processes(
    count: int | None = None, id: int | None = None, coordinator: str | None = None
) -> None:
    """Connects the processes of one run; to be called before anything else of JAX.

    Without arguments the settings are found under SLURM (srun), Open MPI and on TPU pods, and nothing
    happens elsewhere.

    Args:
      count: number of processes; 1: nothing happens.
      id: of this process, from 0.
      coordinator: where process 0 listens, as host:port.
    """
    if count is None and _launched_together():
        jax.distributed.initialize()
    elif count is not None and count > 1:
        jax.distributed.initialize(coordinator, count, id)


def _launched_together() -> bool:
    """Whether a launcher has started this process as one of several, or it runs on a TPU machine."""
    counts = (
        os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    )
    tpu = any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0"))
    return any(int(count) > 1 for count in counts) or (tpu and find_spec("libtpu") is not None)


def wait_for_processes(name: str) -> None:
    """Returns when every process of the run has come here; at once where there is one.

    Args:
      name: of this point, the same on every process.
    """
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(name)


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch(batch: int, devices: int) -> None:
    """Raise MdmError unless the batch can be shared out evenly."""
    if batch < 1 or batch % devices:
        raise MdmError(
            f"a batch of {batch} cannot be shared by {devices} devices; "
            f"use a positive multiple of {devices}"
        )


def check_micro_batches(batch: int, micro_batches: int, devices: int) -> None:
    """Raise MdmError unless each micro-batch of a batch can be shared out evenly."""
    shares = devices * micro_batches
    if batch < 1 or batch % shares:
        raise MdmError(
            f"batch_size {batch} does not divide into {micro_batches} micro-batches on each of "
            f"{devices} devices; use a positive multiple of {shares}"
        )


def device_map(fn: Mapped, mesh: Mesh) -> Mapped:
    """`fn(shared, *batched)` with the batch split over devices, as one jitted SPMD program.

    There is no collective inside, so each device runs its own loop and stops on its own. `shared`
    (denoiser, policy) is replicated. The leading axis of the rest must divide by the device count.
    """
    run = jax.shard_map(
        lambda shared, batched: fn(shared, *batched),
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P("data"),
        check_vma=False,  # a loop's carry may start from a constant
    )
    jitted = jax.jit(run)

    def mapped(shared: PyTree, *batched: PyTree) -> PyTree:
        check_batch(jax.tree.leaves(batched)[0].shape[0], mesh.size)
        return jitted(shared, batched)

    return mapped


def pmap_map(fn: Mapped) -> Mapped:
    """The same program through `jax.pmap`, over the devices of this process."""
    devices = jax.local_device_count()
    mapped_fn = jax.pmap(lambda shared, batched: fn(shared, *batched), in_axes=(None, 0))

    def mapped(shared: PyTree, *batched: PyTree) -> PyTree:
        check_batch(jax.tree.leaves(batched)[0].shape[0], devices)
        split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batched)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mapped_fn(shared, split))

    return mapped


def vmap_map(fn: Mapped) -> Mapped:
    """The same program on one device."""
    return jax.jit(fn)


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, P())


def data_mesh(tree: PyTree) -> Mesh | None:
    """The mesh of `make_mesh` that a pytree's arrays are on, if it has several devices."""
    for leaf in jax.tree.leaves(tree):
        home = getattr(leaf, "sharding", None)
        if isinstance(home, NamedSharding) and home.mesh.axis_names == ("data",):
            return home.mesh if home.mesh.size > 1 else None
    return None


def by_row(mesh: Mesh) -> NamedSharding:
    """The leading axis split over devices."""
    return NamedSharding(mesh, P("data"))


def shard_largest_axis(mesh: Mesh, tree: PyTree) -> PyTree:
    """A sharding for each leaf: its largest axis that divides by the device count, else a whole copy.

    Parameters, averages and optimiser moments sharded so take 1/devices of the memory; XLA gathers
    what a layer needs (ZeRO-3, FSDP).
    """

    def spec(leaf: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % mesh.size == 0 and size > 0]
        if not axes:
            return replicated(mesh)
        best = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(None,) * best, "data"))

    return jax.tree.map(spec, tree)


def shard(tree: PyTree, shardings: PyTree) -> PyTree:
    """Host arrays, equal on every process, as device arrays with the given shardings."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree, jax.tree.broadcast(shardings, tree))


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays of this process's devices, equal on every process, copied to all devices."""
    return shard(jax.device_get(tree), replicated(mesh))


def to_host(tree: PyTree) -> PyTree:
    """Device arrays as host arrays, whole on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return jax.tree.map(partial(process_allgather, tiled=True), tree)
