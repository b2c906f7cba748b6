"""Command lines in this process: a child of its own spends five seconds on importing JAX."""

import contextlib
import io
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from absl import flags

from ektf_jax import cli
from ektf_jax.cli import shell

ROOT = Path(__file__).resolve().parents[1]


_COMMANDS = [f"{cli.__name__}.{name}" for name in cli.COMMANDS]


class Done(NamedTuple):
    """What is left of a command, named as `subprocess` does."""

    returncode: int
    stdout: str
    stderr: str


def run(module: str, *arguments: Any) -> Done:
    """`python -m MODULE ARGUMENT ...` in the project's root, with the flags that the command defines alone.

    What a process has of its own is another matter: signals, encodings, what it imports. Children test those.
    """
    out, err = io.StringIO(), io.StringIO()
    argv = sys.argv
    sys.argv = [str(ROOT / f"{module.replace('.', '/')}.py"), *map(str, arguments)]
    try:
        with (
            mock.patch.object(shell.app, "run", _app_run),
            _flags_of_one_module(),
            contextlib.chdir(ROOT),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            # That another test has imported the module.
            warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
            try:
                runpy.run_module(module, run_name="__main__")
                status: Any = 0
            except SystemExit as error:
                status = error.code or 0
    finally:
        sys.argv = argv
    return Done(status, out.getvalue(), err.getvalue())


def _app_run(main: Any, flags_parser: Any) -> None:
    """`absl.app.run`, but no logging set up again."""
    sys.exit(main(flags_parser(sys.argv)))


@contextlib.contextmanager
def _flags_of_one_module() -> Iterator[None]:
    """Without the commands, and their flags, that this process has imported; it has them again afterwards."""
    modules = {name: sys.modules.pop(name) for name in _COMMANDS if name in sys.modules}
    ours = {name: flags.FLAGS[name] for name in flags.FLAGS if not _is_of_a_library(name)}
    parsed = flags.FLAGS.is_parsed()
    for name in ours:
        delattr(flags.FLAGS, name)
    try:
        yield
    finally:
        for name in _COMMANDS:
            sys.modules.pop(name, None)
        sys.modules |= modules
        for name, module in modules.items():
            setattr(cli, name.rpartition(".")[2], module)
        for name in [name for name in flags.FLAGS if not _is_of_a_library(name)]:
            delattr(flags.FLAGS, name)
        for name, flag in ours.items():
            flags.FLAGS[name] = flag
        (flags.FLAGS.mark_as_parsed if parsed else flags.FLAGS.unparse_flags)()


def _is_of_a_library(name: str) -> bool:
    """absl's own and grain's, say: who has imported these reads them at any time."""
    module = sys.modules.get(str(flags.FLAGS.find_module_defining_flag(name)))
    return "site-packages" in str(getattr(module, "__file__", None))
