"""Commands in children of one process that has imported everything: tens of milliseconds, not seconds.

The nursery (`python -m benchmarks.faults.nursery`, started by `Nursery`) has imported the package, JAX
among it, and computes nothing itself: JAX has no backend there. What threads it has are idle ones of OpenBLAS
and of polars' allocator, which a fork does without. A child is a group of processes of its own, runs one
command to its end as `ektf NAME` would, and leaves by os._exit. Where a C compiler is there, interposer.c
stands between it and the C library.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import sysconfig
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MODES = ("count", "kill", "torn", "full", "read_only")  # as interposer.c numbers them
_MEMORY = 12 << 30  # bytes of address space that a child may take beyond what it has
_IMPORTED = (
    *("ektf_jax.cli.shell", "ektf_jax.cli.config", "ektf_jax.training.loop", "ektf_jax.bundle.export"),
    *("ektf_jax.bundle.score", "ektf_jax.runs", "ektf_jax.runs.sweep", "ektf_jax.runs.judge"),
    *(
        "ektf_jax.runs.importance",
        "ektf_jax.report.run_page",
        "ektf_jax.report.description",
        "ektf_jax.summary",
    ),
    *("ektf_jax.report.searches", "ektf_jax.report.tuned", "ektf_jax.runs.space", "ektf_jax.runs.tune"),
    *("ektf_jax.report.paper.page", "ektf_jax.data.describe", "ektf_jax.data.custom", "configs.quickstart"),
    *("ektf_jax.data.criteo", "ektf_jax.data.ipinyou", "ektf_jax.data.kdd12", "ektf_jax.data.kkbox"),
    "ektf_jax.data.movielens",
)


class Done(NamedTuple):
    """A command's end: its status (negative: a signal; None: it hung), what it printed, how long it took.

    `calls`: how many calls it made that change files, where it came to its end and was counted.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    calls: int


def build(directory: Path) -> Path | None:
    """The interposer as a shared library, or None where there is no compiler."""
    library = directory / "interposer.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    for one in (compiler, "cc", "gcc"):
        command = [
            one,
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            str(library),
            str(Path(__file__).with_name("interposer.c")),
        ]
        try:
            subprocess.run([*command, "-ldl"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return library
    return None


def armed(below: Path, mode: str, at: int, calls: Path) -> dict[str, str]:
    """The environment by which a process counts, and what it starts; `calls` is a file of eight zeros."""
    return {
        "FAULTS_BELOW": str(below.resolve()),
        "FAULTS_MODE": str(MODES.index(mode)),
        "FAULTS_AT": str(at),
        "FAULTS_CALLS": str(calls),
    }


class Nursery:
    """Starts commands one at a time; a context manager. `scratch` is a directory for what they print."""

    def __init__(self, scratch: Path, library: Path | None):
        self._scratch = scratch
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "MPLBACKEND": "agg",
            "RUST_BACKTRACE": "0",  # of a panic in polars
            "JAX_COMPILATION_CACHE_DIR": str(scratch / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.nursery"],
            cwd=ROOT,
            env=environment,
            bufsize=0,  # or `select` would not see a line that is read already
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._said()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def start(
        self, arguments: Sequence[str], *, below: Path | None = None, mode: str = "count", at: int = 0
    ) -> "Child":
        """Start `ektf ARGUMENTS`; calls that change files `below` are counted, see interposer.c."""
        self._scratch.mkdir(exist_ok=True)
        calls = self._scratch / "calls"
        calls.unlink(missing_ok=True)
        calls.write_bytes(bytes(8))
        order = {
            "arguments": list(arguments),
            "out": str(self._scratch / "stdout"),
            "err": str(self._scratch / "stderr"),
            "arm": None if below is None else armed(below, mode, at, calls),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Child(self, self._said()["pid"], self._scratch)

    def run(self, arguments: Sequence[str], *, limit: float = 60, **options: Any) -> Done:
        """Start a command and wait for its end; what lasts longer than `limit` seconds is ended."""
        return self.start(arguments, **options).wait(limit)

    def _said(self) -> dict[str, Any]:
        said = self._read()
        assert said is not None
        return said

    def _read(self, limit: float | None = None) -> dict[str, Any] | None:
        """The next line that the nursery says, None where it says nothing for so long."""
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], limit)[0]:
            return None
        line = stream.readline()
        if not line:
            raise SystemExit(f"the nursery ended with status {self._process.wait()}")
        return json.loads(line)


class Child:
    """A command under way."""

    def __init__(self, nursery: Nursery, pid: int, scratch: Path):
        self._nursery, self._scratch, self.pid = nursery, scratch, pid
        self._started = time.monotonic()

    def kill(self, *, group: bool = True) -> None:
        """End it as the kernel does when memory runs out; its children too, or it alone.

        Children that it leaves behind, in whatever session, come to their own end before this returns.
        """
        below = _descendants(self.pid)
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        for pid in below if group else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(map(_runs, below)):
            time.sleep(0.01)

    def kill_below(self) -> None:
        """End its children and theirs, as the kernel ends the largest process; it goes on itself."""
        for pid in _descendants(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def wait(self, limit: float = 60) -> Done:
        """Wait for its end; what does not end hangs, and is killed."""
        done = self.wait_or_none(limit)
        if done is None:
            self.kill()
            done = self.wait_or_none(None)
            assert done is not None
            return done._replace(status=None)
        return done

    def wait_or_none(self, limit: float | None) -> Done | None:
        """Its end, or None where it has not come after so many seconds."""
        said = self._nursery._read(limit)
        if said is None:
            return None
        out, err = (
            (self._scratch / name).read_text(encoding="utf-8", errors="replace")
            for name in ("stdout", "stderr")
        )
        return Done(said["status"], out, err, time.monotonic() - self._started, said["calls"])


def _stat(pid: int) -> list[str]:
    """State, parent and more of a process, [] where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _runs(pid: int) -> bool:
    return bool(stat := _stat(pid)) and stat[0] not in "ZX"


def _descendants(pid: int) -> list[int]:
    """Children of a process and theirs; killpg does not reach a run of a sweep, which is its own session."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found = [pid]
    for one in found:
        found += [child for child, stat in parents.items() if stat and int(stat[1]) == one]
    return found[1:]


def _serve() -> None:
    import importlib

    for name in _IMPORTED:
        importlib.import_module(name)
    _say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        counted, tell = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(counted)
            _child(order, tell)
        os.close(tell)
        _say({"pid": pid})
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.set_blocking(counted, False)
        try:
            calls = int(os.read(counted, 64) or 0)
        except BlockingIOError:  # a child of the child has it still
            calls = 0
        os.close(counted)
        _say({"status": status, "calls": calls})


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what, allow_nan=False), flush=True)


def _child(order: dict[str, Any], tell: int) -> None:
    """Run one command; never returns."""
    status = 1
    try:
        os.setsid()
        for descriptor, name in ((1, "out"), (2, "err")):
            opened = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        size = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        name, *arguments = order["arguments"]
        sys.argv = [f"experiments/{name}.py", *arguments]
        if order["arm"] is not None:
            os.environ.update(order["arm"])
            ctypes.CDLL(None).faults_inherit()
        status = _call(name)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        status = 1
    if order["arm"] is not None:
        os.write(tell, str(ctypes.CDLL(None).faults_calls()).encode())
    os._exit(status)


def _call(name: str) -> int:
    from absl import flags

    from ektf_jax import cli
    from ektf_jax.cli import config, shell

    if name not in ("config", "space"):
        cli.call(name)
        return 0
    given = config.define()
    if name == "space":
        space = flags.DEFINE_string("space", None, "As of tune.")
        shell.run(lambda argv: _show_space(config.read_run(given), Path(str(space.value))))
        return 0
    shell.run(lambda argv: _show(config.read_run(given).to_dict()))
    return 0


def _show_space(config: Any, path: Path) -> None:
    """Print a space as JSON, as ours reads it: `space --config=FILE --space=FILE`."""
    from ektf_jax.runs import space

    _show({name: axis.to_json() for name, axis in space.read(path, config).items()})


def _show(what: Any) -> None:
    print(json.dumps(what, allow_nan=False))


if __name__ == "__main__":
    _serve()
