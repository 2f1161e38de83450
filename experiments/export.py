"""Write a fine-tuned denoiser in the layout that it was published in, for whoever loads such files.

python -m experiments.export --run RUN --out DIR

RUN is a run of learn_order in which a published checkpoint learned along (--joint), or a checkpoint
itself, to store it in another --dtype. Tokenizer, templates and model code are copied along.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import jax

from experiments import _cli as cli
from experiments._cli.console import print_once
from mdm_jax.denoisers.pretrained import checkpoints as pretrained
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
      ValueError: nothing was fine-tuned, not from a published checkpoint, or `out` holds something.
    """
    out, origin = Path(config.out).expanduser(), origin_of(config.run)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: choose another --out")
    if is_published(config.run):
        denoise = load_checkpoint(config.run, config.loading)
    else:
        denoise = load_denoiser(config.run).denoise
    pretrained.save(out, denoise, pretrained.read_info(origin))
    if jax.process_index() == 0:
        copy_beside_weights(origin, out)
    print_once(f"written: {out}, as {origin} with new weights")
    return out


def origin_of(run: str | Path) -> Path:
    """The published checkpoint that a run's denoiser was before.

    Raises:
      ValueError: there is none, or it did not learn.
    """
    if is_published(run):
        return Path(run).expanduser()
    config = read_config(run)
    origin = config.get("denoiser")
    if origin is None or not is_published(origin):
        raise ValueError(
            f"{run} did not begin with a published checkpoint: there is no such layout"
        )
    if not config.get("joint"):
        raise ValueError(f"the denoiser of {run} did not learn (--joint): it is still {origin}")
    return Path(origin).expanduser()


def copy_beside_weights(origin: Path, out: Path) -> None:
    """Copy what goes with the weights: tokenizer, templates, settings of generation, model code."""
    for file in sorted(origin.iterdir()):
        wanted = file.suffix in COPIED and not file.name.endswith(".safetensors.index.json")
        if file.is_file() and wanted and not (out / file.name).exists():
            shutil.copyfile(file, out / file.name)


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
