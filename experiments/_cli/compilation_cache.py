"""Compiled programs on disk: the same experiment starts faster the second time."""

import jax

from mdm_jax.errors import MdmError
from mdm_jax.external_files import expand, user_cache

LIMIT = 4 << 30  # bytes; the programs that have not been used for longest are dropped
WORTHWHILE = 0.1  # seconds of compilation


def use_compilation_cache(directory: str | None) -> None:
    """Keep compiled programs for this process and later ones.

    Args:
      directory: "none": keep none; None: where JAX_COMPILATION_CACHE_DIR says, else in the user's
        cache directory, if there is one that can be written to.

    Raises:
      OSError: the directory cannot be created.
    """
    if directory == "none":
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if directory is None and jax.config.jax_compilation_cache_dir:
        return
    try:
        path = user_cache() / "compiled" if directory is None else expand(directory)
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, MdmError):  # a disk that is full or read-only, a user without a home
        if directory is None:
            return
        raise
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTHWHILE)
