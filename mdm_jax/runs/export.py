"""A fine-tuned denoiser in the layout of the published checkpoint that it comes from."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from safetensors import SafetensorError

from mdm_jax.checksums import write_sums
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.runs.config import read_config
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.published import Loading, is_published, load_checkpoint

COPIED = (".json", ".txt", ".py", ".jinja", ".model")


def export_checkpoint(run: str | Path, out: Path, loading: Loading) -> Path:
    """Write the denoiser of a run, with tokenizer, templates and model code, to a new directory.

    Args:
      run: run directory of learn_variational_order with --joint, or of a published checkpoint.
      loading: how a checkpoint is loaded; its dtype is the one written.

    Returns:
      The published checkpoint whose layout is written.

    Raises:
      MdmError: the run did not fine-tune a published checkpoint, `out` holds something, or it cannot be
        written.
    """
    origin = origin_of(run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MdmError(f"{out} is not empty: choose another --out")
    denoise = load_checkpoint(run, loading) if is_published(run) else load_denoiser(run).denoise
    with complete_directory(out) as partial:
        pretrained.save(partial, denoise, pretrained.read_info(origin))
        if jax.process_index() == 0:
            copy_beside_weights(origin, partial)
            write_sums(partial, "*.safetensors")
    return origin


@contextmanager
def complete_directory(out: Path) -> Iterator[Path]:
    """A directory beside `out` to write into, which becomes `out` only when all is written.

    Raises:
      MdmError: something cannot be written; nothing of it is left.
    """
    partial = out.with_name(f".{out.name}.partial")
    first = jax.process_index() == 0
    if first:
        shutil.rmtree(partial, ignore_errors=True)  # of an export that was killed
    try:
        yield partial
        if first:
            partial.replace(out)
    except (OSError, SafetensorError) as error:
        raise MdmError(f"{out} cannot be written: {error}") from error
    finally:
        if first:
            shutil.rmtree(partial, ignore_errors=True)


def origin_of(run: str | Path) -> Path:
    """The published checkpoint that a run fine-tuned.

    Raises:
      MdmError: there is none, or it was not fine-tuned.
    """
    if is_published(run):
        return expand(run)
    config = read_config(run)
    origin = config.get("denoiser")
    if origin is None or not is_published(origin):
        raise MdmError(
            f"the denoiser of {run} is no published checkpoint: there is no layout to write"
        )
    if not config.get("joint"):
        raise MdmError(f"{run} did not fine-tune its denoiser (--joint): it is still {origin}")
    return expand(origin)


def copy_beside_weights(origin: Path, out: Path) -> None:
    """Copy what goes with the weights: tokenizer, templates, settings of generation, model code."""
    for file in sorted(origin.iterdir()):
        wanted = file.suffix in COPIED and not file.name.endswith(".safetensors.index.json")
        if file.is_file() and wanted and not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)
