"""Every policy under exact conditionals: denoiser calls, and what they lose in nats.

Five distributions whose conditionals are known: 4x4 Sudoku from an empty grid and with clues, worked
answers of arithmetic, a Markov chain, and pairs of copies. No denoiser is trained, so everything that a
policy loses is its own. The page "Exact results" of the documentation says how to read the table. Rows
that are finished are not made again.
"""

from dataclasses import dataclass
from pathlib import Path

from experiments import _cli as cli
from experiments._cli.console import print_once, print_table, progress
from mdm_jax.errors import MdmError, check_range, check_seed
from mdm_jax.evals.exact.bench import bench_for, told_with_errors
from mdm_jax.evals.exact.files import CSV, FIGURE, MARKDOWN, WorldTable, limit_curve, write_tables
from mdm_jax.evals.exact.limit import limits, limits_text
from mdm_jax.evals.exact.policies import learned_entries, table_policies
from mdm_jax.evals.exact.table import ExactRow, cells, columns_of, measure_all, settings_of
from mdm_jax.evals.exact.worlds import World, all_worlds
from mdm_jax.external_files import expand
from mdm_jax.runs.config import read_config
from mdm_jax.runs.lock import only_writer


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the table.

    Attributes:
      only: name of the one distribution to measure in; None: all.
      samples: sequences that every policy completes.
      learned: run directories of policies to measure as well, where one of these distributions is their
        task's; those of learn_order at several prices of a call.
      draws: of a policy's random choices on each sequence of a listed distribution.
      seed: of sequences, token draws and policies.
      run_dir: where rows, tables and figure are written.
    """

    only: str | None = None
    learned: tuple[str, ...] = ()
    samples: int = 1024
    draws: int = 8
    seed: int = 0
    run_dir: str = "runs/table_exact"

    def __post_init__(self) -> None:
        check_range("samples", self.samples, 16)
        check_range("draws", self.draws, 2)
        check_seed(self.seed)


def run(config: Config) -> list[ExactRow]:
    """Measure what is missing, print and write the tables, draw the figure."""
    worlds = [world for world in all_worlds() if config.only in (None, world.name)]
    if not worlds:
        names = ", ".join(world.name for world in all_worlds())
        raise MdmError(f"only {config.only!r} is none of {names}")
    for learned in config.learned:
        read_config(learned)  # refused before anything is measured
    home = expand(config.run_dir)
    with only_writer(home):
        tables = [measured_in(world, config, home) for world in worlds]
        write_tables(tables, home)
    print_once(f"tables: {home / MARKDOWN}, {home / CSV}; figure: {home / FIGURE}")
    return [row for table in tables for row in table.rows]


def measured_in(world: World, config: Config, home: Path) -> WorldTable:
    """The table of one distribution."""
    bench = bench_for(world, config.samples, config.draws, config.seed)
    entries = table_policies(bench.profile, world.oracle.vocab)
    entries += learned_entries(config.learned, world)
    with progress(world.name, len(entries)) as advance:
        rows = measure_all(bench, entries, home, lambda row: advance(1, row.policy))
    lines = [(f"{row.policy} {settings_of(row)}", *cells(row)) for row in rows]
    told = told_with_errors(bench)
    print_table(f"{world.name}: {told}", ("policy", *columns_of(rows)), lines)
    best = limits(world)
    if best:
        print_once(limits_text(best))
    return WorldTable(world.name, told, rows, limit_curve(bench.profile), best)


PRESETS = {"default": Config()}

if __name__ == "__main__":
    cli.main(Config, run, __doc__, PRESETS)
