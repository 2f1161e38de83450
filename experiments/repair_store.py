"""Drop the lines of a samples.jsonl that are damaged or repeated; the next evaluation fills the gaps.

  python -m experiments.repair_store --store DIR

The file as it was is kept beside it, as samples.jsonl.before-repair.
"""

from dataclasses import dataclass

from experiments import _cli as cli
from experiments._cli.console import print_once
from mdm_jax.errors import MdmError
from mdm_jax.evals.repair import Repaired, repair
from mdm_jax.evals.store import SAMPLES
from mdm_jax.external_files import expand
from mdm_jax.runs.lock import only_writer


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is repaired.

    Attributes:
      store: directory of an evaluation, or its samples.jsonl.
    """

    store: str = cli.REQUIRED


def run(config: Config) -> Repaired:
    """Repair, and say what was dropped."""
    path = expand(config.store)
    path = path / SAMPLES if path.is_dir() else path
    if not path.is_file():
        raise MdmError(f"{path} does not exist: give a directory with {SAMPLES}, or the file")
    with only_writer(path.parent):
        found = repair(path, path.with_name(f"{path.name}.before-repair"))
    print_once(
        f"{path}: {found.kept} generations kept; dropped: {found.repeated} repeated, "
        f"{found.contradictory} contradictory and {found.damaged} damaged lines"
    )
    return found


if __name__ == "__main__":
    cli.main(Config, run, __doc__)
