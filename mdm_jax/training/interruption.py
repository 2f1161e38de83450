"""Signals that end a training: noticed between two updates, so that the state can be saved first."""

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

_calls = itertools.count(1)  # never falls, whatever number of trainings a process runs
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """Training was interrupted by signal `signum` after update `step`, which is saved."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"interrupted after update {step}, which is saved")
        self.signum, self.step = signum, step


@contextmanager
def interruptions(enabled: bool) -> Iterator[Callable[[], int]]:
    """Holds back SIGTERM and SIGINT; yields a function that returns the signal, or 0.

    A second signal has its usual effect. Several processes agree on the step at which all of them stop
    (JAX's preemption service, on SIGTERM alone).

    Args:
      enabled: whether signals are held back; only the main thread can.
    """
    if jax.process_count() > 1 and enabled:
        yield _agreed_signal
        return
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    received = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in SIGNALS:
        signal.signal(number, receive)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])


def _agreed_signal() -> int:
    """SIGTERM where all processes are to stop, which is at the same call on each of them."""
    return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(next(_calls)) else 0
