"""Flags of every experiment that are not settings of it, and those that choose its defaults."""

import re
from dataclasses import dataclass, field

from mdm_jax.errors import MdmError, check_range


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Several processes of one run: the same command in each, with an `id` of its own.

    Under SLURM (srun), Open MPI and on TPU pods these settings are found.

    Attributes:
      count: how many there are.
      id: which one this is, from 0.
      coordinator: where process 0 listens, as HOST:PORT.
    """

    count: int | None = None
    id: int | None = None
    coordinator: str | None = None

    def __post_init__(self) -> None:
        if len({value is None for value in (self.count, self.id, self.coordinator)}) > 1:
            raise MdmError("give all three of --processes.count, .id and .coordinator, or none")
        if self.count is not None:
            check_range("count", self.count, 1)
            check_range("id", self.id, 0, self.count - 1)
            if not re.fullmatch(r".+:[0-9]+", self.coordinator):
                raise MdmError(f"coordinator {self.coordinator!r} is not HOST:PORT")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an experiment runs on this machine; no result depends on it.

    Attributes:
      compilation_cache: directory where compiled programs are kept for later runs, or none; by default
        that of JAX_COMPILATION_CACHE_DIR, else mdm_jax/compiled in the user's cache directory.
      processes: where one run has several.
    """

    compilation_cache: str | None = None
    processes: Processes = field(default_factory=Processes)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the denoiser comes from, on command lines that have these flags."""

    run: str | None = None
    denoiser: str | None = None
