"""Which weights a result was computed with, and where it is kept."""

from pathlib import Path

from mdm_jax.checksums import text_digest
from mdm_jax.denoisers.base import Denoise
from mdm_jax.denoisers.pretrained import tensor_files
from mdm_jax.external_files import expand
from mdm_jax.runs.description import digest
from mdm_jax.runs.directory import START_IDENTITY
from mdm_jax.runs.published import Loading, is_published
from mdm_jax.runs.remembered import remembered_digest
from mdm_jax.training.state import Params


def identity(run: str | Path, denoise: Denoise, loading: Loading) -> dict[str, str | None]:
    """What identifies the weights of a run's denoiser, or of a published checkpoint.

    Args:
      denoise: the denoiser, loaded.
      loading: of a published checkpoint.

    Returns:
      Digests: of the files of a published checkpoint, large as they are; else of what was loaded.
    """
    if not is_published(run):
        return {"weights": digest(denoise)}
    home = expand(run)
    return {
        "weights": fingerprint(home),
        "model_config": text_digest((home / "config.json").read_text(encoding="utf-8-sig")),
        "dtype": loading.dtype,
    }


def start_identity(params: Params) -> dict[str, dict[str, str]]:
    """What config.json records of the weights that learning starts from."""
    return {START_IDENTITY: {"weights": digest(params)}}


def fingerprint(directory: Path) -> str:
    """A digest of all weights of a published checkpoint, wherever it is."""
    files = sorted({tensor.file for tensor in tensor_files.find(directory).values()})
    return digest({file.name: remembered_digest(file) for file in files})


def results_home(run: str | Path) -> Path:
    """Where results are kept: the run directory; for a published checkpoint, runs/NAME."""
    return Path("runs") / expand(run).resolve().name if is_published(run) else expand(run)
