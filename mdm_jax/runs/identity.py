"""Which weights a result was computed with, and where it is kept."""

import hashlib
from pathlib import Path

from mdm_jax.external_files import expand
from mdm_jax.runs.published import Loading, is_published

_SAMPLED_BYTES = 2**16


def identity(run: str | Path, loading: Loading) -> dict[str, str | None]:
    """What identifies the weights of a published checkpoint.

    Empty for run directories, whose results lie inside them and name the update.
    """
    if not is_published(run):
        return {}
    return {"weights": fingerprint(run), "dtype": loading.dtype}


def fingerprint(directory: str | Path) -> str:
    """A digest of config.json and of samples of every file of weights: other weights, other digest."""
    path = expand(directory)
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in sorted(path.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as opened:
            for start in range(0, size, max(size // 16, _SAMPLED_BYTES)):
                opened.seek(start)
                digest.update(opened.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]


def results_home(run: str | Path) -> Path:
    """Where results are kept: the run directory; for a published checkpoint, runs/NAME."""
    return Path("runs") / expand(run).resolve().name if is_published(run) else expand(run)
