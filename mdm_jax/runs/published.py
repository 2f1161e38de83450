"""Published checkpoints where a run directory is expected: recognised and loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh

from mdm_jax.checksums import check_sums
from mdm_jax.denoisers.base import Bound
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.denoisers.pretrained.config import Dtype
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.runs.remembered import remembered_digest
from mdm_jax.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a published checkpoint is put on devices; run directories ignore it.

    Attributes:
      dtype: of weights and computation; None: as stored.
      tensor: number of devices that its matrices are split over.
    """

    dtype: Dtype | None = None
    tensor: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.tensor <= jax.local_device_count():
            raise MdmError(
                f"tensor must be between 1 and the {jax.local_device_count()} devices, "
                f"got {self.tensor}"
            )

    @property
    def mesh(self) -> Mesh | None:
        """The devices that matrices are split over; None: no split."""
        if self.tensor == 1:
            return None
        devices = jax.local_devices()[: self.tensor]
        return jax.make_mesh((self.tensor,), ("tensor",), (AxisType.Auto,), devices=devices)


def is_published(directory: str | Path) -> bool:
    """Whether it holds a published checkpoint: a config.json that none of our runs wrote."""
    path = expand(directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not {"task", "experiment"} & config.keys()


def load_published(directory: str | Path, task: Task | None, loading: Loading) -> Bound:
    """The denoiser of a published checkpoint, for a task that uses its token ids.

    Raises:
      MdmError: there is no task, its ids are not the checkpoint's, or as `load_checkpoint`.
    """
    info = pretrained.read_info(expand(directory))
    if task is None:
        raise MdmError(f"{directory} is a published checkpoint: say what to ask it, --task NAME")
    theirs, ours = (info.vocab, info.mask_id), (task.vocabulary.size, task.vocabulary.mask_id)
    if theirs != ours:
        raise MdmError(
            f"{directory} has {theirs[0]} ids and MASK {theirs[1]}, but task {task.name} has "
            f"{ours[0]} and MASK {ours[1]}: it is for another denoiser"
        )
    return load_checkpoint(directory, loading)


def load_checkpoint(directory: str | Path, loading: Loading) -> Bound:
    """The denoiser of a published checkpoint, for any task.

    Raises:
      MdmError: as `pretrained.load`, or the weights are not those that `export` wrote there.
    """
    check_sums(expand(directory), digest=remembered_digest)
    return pretrained.load(expand(directory), loading.mesh, loading.dtype).denoise
