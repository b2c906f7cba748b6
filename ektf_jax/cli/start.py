"""What a command does before anything is imported: start anew at once, with

- the allocator's settings below, unless GLIBC_TUNABLES says otherwise. A compiled step on a CPU takes its
  temporaries, hundreds of megabytes, anew at every call. By default each of them is mapped, zeroed page by
  page and unmapped again; with them kept, and in huge pages, a step takes a quarter less time
  (benchmarks/variants.py). glibc reads these settings when a process starts and at no other time;
- Python's UTF-8 mode where it would take names of files and its output for ASCII: in the C locale with
  PYTHONUTF8=0. Tables and schemas may name fields and files in any script.

Ctrl-C and SIGTERM during the imports, which take seconds, end a command in one line, as `shell` does later.
"""

import hashlib
import os
import platform
import signal
import sys
from pathlib import Path
from types import FrameType

KEEP_FREED_MEMORY = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.mmap_threshold={1 << 30}",
        f"glibc.malloc.trim_threshold={1 << 40}",
        f"glibc.malloc.top_pad={1 << 26}",
        "glibc.malloc.arena_max=1",  # other arenas cannot hold large blocks, and map them
    )
)


def use_cache() -> None:
    """Name the directory of JAX's compilation cache, before JAX is imported.

    What a command compiled is not compiled again on this machine. JAX_COMPILATION_CACHE_DIR names another
    directory, and JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody's home
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(caches / "ektf-jax" / "programs" / _processor())
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def _processor() -> str:
    """A name that machines with one home share only where one can run what another compiled."""
    facts = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        facts += "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def anew() -> None:
    """Start this process anew with these settings if it lacks them; have signals end the imports."""
    for caught in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(caught) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(caught, _stop_early)
    if sys.platform != "linux":
        return
    wanted = {}
    if "GLIBC_TUNABLES" not in os.environ:
        wanted["GLIBC_TUNABLES"] = KEEP_FREED_MEMORY
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        wanted["PYTHONUTF8"] = "1"
    if wanted:
        os.environ.update(wanted)
        os.execv(sys.executable, sys.orig_argv)


def _stop_early(number: int, frame: FrameType | None) -> None:
    """End a command whose imports are under way, in one line: it has begun nothing that could be left."""
    os.write(2, b"stopped before it began; the same command starts again\n")
    os._exit(128 + number)
