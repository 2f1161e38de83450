"""Published checkpoints where an experiment expects a run: told apart, loaded, named, fingerprinted."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh

from mdm_jax.denoisers.base import Bound
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.denoisers.pretrained.config import Dtype
from mdm_jax.tasks.base import Task

_SAMPLED_BYTES = 2**16


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a published checkpoint is put on devices; runs of one's own need none of it.

    Attributes:
      dtype: of weights and computation; None: as stored.
      tensor: number of devices that its matrices are split over.
    """

    dtype: Dtype | None = None
    tensor: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.tensor <= jax.device_count():
            raise ValueError(
                f"tensor must be between 1 and the {jax.device_count()} devices, got {self.tensor}"
            )

    @property
    def mesh(self) -> Mesh | None:
        """The devices that matrices are split over; None: no split."""
        if self.tensor == 1:
            return None
        devices = jax.devices()[: self.tensor]
        return jax.make_mesh((self.tensor,), ("tensor",), (AxisType.Auto,), devices=devices)


def is_published(directory: str | Path) -> bool:
    """Whether it holds a published checkpoint: a config.json that none of our runs wrote."""
    path = Path(directory).expanduser() / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "task" not in config


def load_published(directory: str | Path, task: Task | None, loading: Loading) -> Bound:
    """The denoiser of a published checkpoint, for a task in its own ids.

    Raises:
      ValueError: as `convert.load`, or the task is none, or speaks of other ids.
    """
    info = pretrained.read_info(Path(directory).expanduser())
    if task is None:
        raise ValueError(f"{directory} is a published checkpoint: say what to ask it, --task NAME")
    theirs, ours = (info.vocab, info.mask_id), (task.vocabulary.size, task.vocabulary.mask_id)
    if theirs != ours:
        raise ValueError(
            f"{directory} has {theirs[0]} ids and MASK {theirs[1]}, but task {task.name} has "
            f"{ours[0]} and MASK {ours[1]}: it is for another denoiser"
        )
    return load_checkpoint(directory, loading)


def load_checkpoint(directory: str | Path, loading: Loading) -> Bound:
    """The denoiser of a published checkpoint, whatever it will be used on."""
    return pretrained.load(Path(directory).expanduser(), loading.mesh, loading.dtype).denoise


def home_of(run: str | Path) -> Path:
    """Where results are kept: in a run's own directory; checkpoints are only read, so runs/NAME."""
    return Path("runs") / Path(run).resolve().name if is_published(run) else Path(run)


def identity(run: str | Path, loading: Loading) -> dict[str, str | None]:
    """What, beside its update, says which weights were used; nothing for runs of one's own."""
    if not is_published(run):
        return {}
    return {"weights": fingerprint(run), "dtype": loading.dtype}


def fingerprint(directory: str | Path) -> str:
    """A digest of config.json and of samples of every file of weights: other weights, other digest."""
    path = Path(directory).expanduser()
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in sorted(path.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as opened:
            for start in range(0, size, max(size // 16, _SAMPLED_BYTES)):
                opened.seek(start)
                digest.update(opened.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]
