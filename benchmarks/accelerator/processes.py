"""Processes of a run and what is kept of what they find."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


class Records:
    """Lines of accelerator.jsonl, each on the disk before the next thing starts."""

    def __init__(self, path: Path, started: float):
        self.file = path.open("w", encoding="utf-8")
        self.started = started
        self.failures: list[str] = []

    def add(self, part: str, **found: Any) -> None:
        if "error" in found or found.get("passed") is False or found.get("failed"):
            self.failures.append(part)
        line = json.dumps({"part": part, "at": round(time.monotonic() - self.started, 1), **found})
        self.file.write(line + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        print(line if len(line) < 400 else line[:400] + " ...", flush=True)


class Worker:
    """A process that prints a line of JSON when it is ready and one for each line that it is given."""

    def __init__(self, command: Sequence[str], log: IO[str], *, first: str = "", **environment: str):
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            start_new_session=True,
            env={**os.environ, **environment},
        )
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        if first:
            self._write(first)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it is gone; its answers say so
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next line; None where it does not come in time or at all. Then the process is ended."""
        try:
            found = self.lines.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            found = None
        if found is None:
            self.end()
        return found

    def ask(self, line: str, seconds: float) -> dict[str, Any]:
        """What the process makes of a line."""
        if self.process.poll() is not None:
            return {"error": "its process is gone; log.txt may say why"}
        self._write(line)
        return self.answer(seconds) or {"error": f"no answer within {seconds:.0f} s; log.txt may say why"}

    def end(self) -> None:
        """End the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def outcomes(report: Path) -> dict[str, Any]:
    """Counts of a JUnit report, and what failed."""
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed = [
        {"test": f"{case.get('classname')}::{case.get('name')}", "message": (bad.get("message") or "")[:500]}
        for case in suite.iter("testcase")
        for bad in (*case.iter("failure"), *case.iter("error"))
    ]
    return {**counts, "failed": failed[:40]}


def ended(command: Sequence[str], log: IO[str], seconds: float, **environment: str) -> str | None:
    """Run a command to its end; what went wrong, or None."""
    with process(command, log, **environment) as running:
        try:
            status = running.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
    return f"ended with {status}; log.txt may say why" if status else None


@contextmanager
def process(command: Sequence[str], log: IO[str], **environment: str) -> Iterator[subprocess.Popen]:
    """A process in a session of its own, which goes with the block."""
    running = subprocess.Popen(
        command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **environment}
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
