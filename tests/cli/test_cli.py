"""What comes of errors and odd surroundings in every command line. Child processes: flags are global."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands

ROOT = Path(__file__).resolve().parents[2]

# Ends as its first argument says.
PROGRAM = """
import sys
import jax
from absl import flags
from ektf_jax.cli import shell

HOW = sys.argv.pop(1)
DIR = flags.DEFINE_string("dir", None, "")


def main(argv):
    if HOW == "memory":
        raise MemoryError("Unable to allocate 8 TiB")
    if HOW == "device memory":
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\\nallocating 8 TiB")
    if HOW == "device":
        print(jax.numpy.zeros(1))
    if HOW == "print":
        print("é 日本 \\udcff", shell.path(DIR))
    if HOW == "bug":
        assert False
    if HOW == "long":
        raise shell.InputError("x" * 100_000)


shell.run(main)
"""


def run(how, *arguments, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how, *arguments],
        cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize(
    ("how", "arguments", "environment", "message"),
    [
        ("memory", [], {}, "out of memory: Unable to allocate 8 TiB; take a smaller batch"),
        ("device memory", [], {}, "out of device memory: RESOURCE_EXHAUSTED: Out of memory; take a smaller"),
        (
            "device",
            [],
            {"JAX_PLATFORMS": "cuda,rocm"},
            "JAX_PLATFORMS = 'cuda,rocm': JAX has no such device here",
        ),
        (
            "device",
            [],
            {"JAX_PLATFORMS": "nothing"},
            "JAX_PLATFORMS = 'nothing': JAX has no such device here",
        ),
        ("print", ["--dir="], {}, "--dir is empty; name a path (. is this directory)"),
        ("print", [b"--dir=\xff"], {}, "--dir='\\udcff' is not UTF-8 text; rename it"),
        ("long", [], {}, "x" * 2000 + " ..."),
        ("bug", ["--flagfile=nowhere"], {}, "ERROR:: Unable to open flagfile: "),
    ],
)
def test_an_error_of_the_user_s_is_one_line(how, arguments, environment, message):
    done = run(how, *arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_bug_of_ours_is_no_error_of_the_user_s():
    done = run("bug", JAX_PLATFORMS="cpu")
    assert done.returncode == 1
    assert "AssertionError" in done.stderr


@pytest.mark.parametrize(
    ("encoding", "printed"), [("utf-8", "é 日本 \\udcff a\n"), ("ascii", "\\xe9 \\u65e5\\u672c \\udcff a\n")]
)
def test_what_the_terminal_cannot_show_is_printed_as_escapes(encoding, printed):
    done = run("print", "--dir=a", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, printed)


def importing(code):
    """What comes of code around the import of the package, which `python -m` begins with."""
    return subprocess.run(
        # What starts the tests in the background may have them ignore Ctrl-C, and so their children.
        [
            sys.executable,
            "-c",
            f"import os, signal, sys; signal.signal(2, signal.default_int_handler);"
            f" sys.argv[0] = '-m'; {code}",
        ],
        cwd=ROOT,
        env={**os.environ, "GLIBC_TUNABLES": "", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_imports_is_one_line(number, status):
    ended = importing(f"import experiments; os.kill(os.getpid(), {int(number)}); import time; time.sleep(9)")
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr == "stopped before it began; the same command starts again\n"


def test_a_signal_that_is_ignored_stays_so():
    """As nohup and a shell's background jobs leave it."""
    before = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ended = importing(f"{before}; import experiments; os.kill(os.getpid(), signal.SIGINT); print('on')")
    assert (ended.returncode, ended.stdout) == (0, "on\n")


@pytest.mark.parametrize(("given", "missing"), [(["--workdir=run"], "--out"), ([], "--out, --workdir")])
def test_flags_that_are_needed_and_not_there_are_named_as_they_are_given(given, missing):
    done = commands.run("experiments.export", *given)
    assert done.returncode == 2
    assert done.stderr == f"error: missing: {missing}; --help says what each is\n"
