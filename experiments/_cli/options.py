"""Flags of every experiment that are not settings of it, and those that choose its defaults."""

from dataclasses import dataclass, field

from mdm_jax.sharding import Processes


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
