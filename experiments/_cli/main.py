"""What every entry point does around its `run`: parse, set up this process, end with a status."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NoReturn, TypeVar

import jax

from experiments._cli.command_line import known, parse
from experiments._cli.compilation_cache import use_compilation_cache
from experiments._cli.console import console, escape_controls
from experiments._cli.memory import keep_freed_memory
from experiments._cli.options import Options
from mdm_jax.errors import MdmError
from mdm_jax.sharding import start_processes

C = TypeVar("C")
BUG = "this is a bug in mdm_jax; please report it with the traceback below"
RESUME = "run the same command again to resume from what has been saved"


def main(
    config_type: type[C],
    run: Callable[[C], Any],
    doc: str | None,
    presets: Mapping[str, C] | None = None,
    words: Sequence[str] | None = None,
) -> None:
    """Parse the command line, run, and leave with an exit status.

    0: done. 2: something that the user can mend, one line on standard error. 130, 143: interrupted,
    terminated. 1: a bug of ours, with its traceback.
    """
    words = sys.argv[1:] if words is None else words
    sys.stdout.reconfigure(errors="backslashreplace")
    keep_freed_memory()
    with exit_status():
        options = known(Options, words)
        start_processes(**asdict(options.processes))
        console.quiet = jax.distributed.is_initialized() and jax.process_index() != 0
        use_compilation_cache(options.compilation_cache)
        run(parse(config_type, words, doc, presets))


@contextmanager
def exit_status() -> Iterator[None]:
    """Turn whatever ends the block into an exit status; see `main`."""
    try:
        with _on_sigterm(lambda: _leave(143, f"terminated: {RESUME}")):
            yield
    except KeyboardInterrupt as stop:  # of training, it says which signal came and what is saved
        signum = getattr(stop, "signum", signal.SIGINT)
        _leave(128 + signum, f"{str(stop) or 'interrupted'}: {RESUME}")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _leave(2, f"error: {error.strerror or error}{where}")
    except MdmError as error:
        _leave(2, f"error: {error}")
    except Exception:
        print(BUG, file=sys.stderr)
        raise


@contextmanager
def _on_sigterm(leave: Callable[[], NoReturn]) -> Iterator[None]:
    """Call a function at SIGTERM, as preemption sends it; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: leave())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(status: int, message: str) -> NoReturn:
    print(" ".join(escape_controls(message).split("\n")), file=sys.stderr)
    sys.exit(status)
