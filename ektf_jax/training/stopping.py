"""Ctrl-C and SIGTERM: a run ends between two steps, where it can be saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType


class Stopped(Exception):
    """A run was asked to stop by a signal; it is saved, and the message says where it goes on."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 128 + number  # as shells have it


@contextlib.contextmanager
def requests() -> Iterator[Callable[[], int]]:
    """Within the block SIGINT and SIGTERM are noted; yields what says which came first, 0 for none.

    A second SIGINT raises KeyboardInterrupt: who presses Ctrl-C twice will not wait. A second SIGTERM does
    nothing, for some send it to a process and to the one that passes it on. Only the main thread can be
    asked.
    """
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in noted:
            raise KeyboardInterrupt
        noted.append(number)

    with handling(note, signal.SIGINT, signal.SIGTERM):
        yield lambda: noted[0] if noted else 0


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Handle signals so within the block, in the main thread; elsewhere do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


def asked(requested: Callable[[], int], *, here: bool) -> int:
    """The signal that asks all processes to stop, or 0.

    A step needs all of them, so that several agree, at those steps that are `here`, which costs a message.
    """
    import jax  # here, for every command imports this file

    if jax.process_count() == 1:
        return requested()
    import numpy as np
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(requested())))) if here else 0


def stopped(workdir: Path, step: int, epoch: int, number: int) -> Stopped:
    """What ends a run that was saved after a step."""
    return Stopped(
        f"{workdir}: stopped after step {step}, in epoch {epoch}, which is saved; the same command goes on",
        number,
    )
