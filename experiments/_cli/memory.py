"""How memory that was freed is kept for the next allocation."""

import ctypes

# parameters of mallopt(3), from glibc's malloc.h
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next allocation instead of giving it back at once.

    XLA allocates the temporaries of a program anew at every call; on a CPU the page faults of that are a
    fifth of a training step. The process stays as large as it once was. To be called before anything
    large is allocated.

    Returns:
      Whether the C library can: glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {ARENA_MAX: 1, MMAP_MAX: 0, TRIM_THRESHOLD: NEVER}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])
