"""Write a fine-tuned denoiser in the layout of the published checkpoint that it comes from.

python -m experiments.export --run RUN --out DIR

RUN is a run of learn_order that fine-tuned a published checkpoint jointly (--joint), or a checkpoint
itself, to store it in another --dtype. Tokenizer, templates and model code are copied along.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax
from safetensors import SafetensorError

from experiments import _cli as cli
from experiments._cli.console import print_once
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand
from mdm_jax.runs.config import read_config
from mdm_jax.runs.denoisers import load_denoiser
from mdm_jax.runs.published import Loading, is_published, load_checkpoint

COPIED = (".json", ".txt", ".py", ".jinja", ".model")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is written where.

    Attributes:
      run: run directory of learn_order with --joint, or of a published checkpoint.
      out: the new directory.
      loading: how a checkpoint is loaded; its dtype is the one written.
    """

    run: cli.RunDir = cli.REQUIRED
    out: str = cli.REQUIRED
    loading: cli.Flat[Loading] = field(default_factory=Loading)


def run(config: Config) -> Path:
    """Write the directory.

    Raises:
      MdmError: the run did not fine-tune a published checkpoint, `out` holds something, or it cannot be
        written.
    """
    out, origin = expand(config.out), origin_of(config.run)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MdmError(f"{out} is not empty: choose another --out")
    if is_published(config.run):
        denoise = load_checkpoint(config.run, config.loading)
    else:
        denoise = load_denoiser(config.run).denoise
    with complete_directory(out) as partial:
        pretrained.save(partial, denoise, pretrained.read_info(origin))
        if jax.process_index() == 0:
            copy_beside_weights(origin, partial)
    print_once(f"written: {out}, as {origin} with new weights")
    return out


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


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
