"""Scalars and histograms for TensorBoard, written at once: what was flushed is there, come what may.

tensorboardX's SummaryWriter hands its events to a thread, by way of another, and its flush waits for neither.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from ektf_jax.files import naming


class Board:
    """A new event file in a directory; without one (of several processes, one writes) it does nothing.

    TensorBoard drops what earlier files have from step `purge_step` on: a run goes on from its checkpoint.
    """

    def __init__(self, directory: Path | None, purge_step: int):
        self._events: EventsWriter | None = None
        if directory is None:
            return
        directory.mkdir(parents=True, exist_ok=True)
        # The time in the name that tensorboardX gives is in seconds; files are read in the order of names.
        suffix = f".{time.time_ns()}"
        self._events = EventsWriter(str(directory / "events"), suffix)
        (self._file,) = directory.glob(f"events.*{suffix}")
        self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of the curve `name`."""
        self._write(Event(step=step, summary=summary.scalar(name, value)))

    def add_histogram(self, name: str, values: Sequence[float], step: int) -> None:
        """How values, one or more, are spread at a step, in ten bins."""
        self._write(Event(step=step, summary=summary.histogram(name, np.asarray(values), bins=10)))

    def flush(self) -> None:
        """Hand everything so far to the disk."""
        if self._events is not None:
            with naming(self._file):
                self._events.flush()

    def _write(self, event: Event) -> None:
        if self._events is not None:
            event.wall_time = time.time()
            with naming(self._file):
                self._events.write_event(event)

    def close(self) -> None:
        if self._events is not None:
            with naming(self._file):
                self._events.close()
