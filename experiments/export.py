"""Write a fine-tuned denoiser in the layout of the published checkpoint that it comes from.

python -m experiments.export --run RUN --out DIR

RUN is a run of learn_variational_order that fine-tuned a published checkpoint jointly (--joint), or a
checkpoint itself, to store it in another --dtype. Tokenizer, templates and model code are copied along.
"""

from dataclasses import dataclass, field
from pathlib import Path

from experiments import _cli as cli
from experiments._cli.console import print_once
from mdm_jax.external_files import expand
from mdm_jax.runs.export import export_checkpoint
from mdm_jax.runs.published import Loading


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is written where.

    Attributes:
      run: run directory of learn_variational_order with --joint, or of a published checkpoint.
      out: the new directory.
      loading: how a checkpoint is loaded; its dtype is the one written.
    """

    run: cli.RunDir = cli.REQUIRED
    out: str = cli.REQUIRED
    loading: cli.Flat[Loading] = field(default_factory=Loading)


def run(config: Config) -> Path:
    """Write the directory."""
    out = expand(config.out)
    origin = export_checkpoint(config.run, out, config.loading)
    print_once(f"written: {out}, as {origin} with new weights")
    return out


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
