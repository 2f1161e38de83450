"""How memory that was freed is kept for the next allocation."""

import ctypes

import jax

# parameters of mallopt(3), from glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next allocation instead of giving it back at once.

    XLA allocates the temporaries of a program anew at every call; on a CPU the page faults of that are a
    sixth of a training step. glibc has an arena for every thread and keeps what is large in that of the
    main thread alone: there programs run from now on. (One arena for all threads keeps it, too, but what
    the compiler leaves behind in it makes every later allocation slow.) The process stays as large as it
    once was. To be called before the first use of JAX.

    Returns:
      Whether the C library can: glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    settings = {MMAP_MAX: 0, TRIM_THRESHOLD: NEVER}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
