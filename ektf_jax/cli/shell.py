"""What every command does the same way: user errors are one line and exit status 2, signals a line."""

import io
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from absl import app, flags, logging

from ektf_jax import cli
from ektf_jax.errors import InputError
from ektf_jax.training import stopping


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as Ctrl-C: what is open is closed, and half-written files go."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


_PACKAGE = Path(cli.__file__).parents[1]
# In a wheel they are within the package, in a clone beside it.
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"

_LONGEST = 2000  # characters of a message: a value in it may be of any length

# absl's words for a flag that is required and not there.
_MISSING = re.compile(r"flag --(\w+)=None: Flag --\1 must have a value other than None\.")
_OVERRIDE = re.compile(r"--?config(?=[.\[])\.?")
# A key of a path: after a dot, or in brackets and quotes where it has dots itself.
_KEY = re.compile(r"""(?:^|(?<=.)\.)([^.=\[\]]+)|\[(?:"([^"]*)"|'([^']*)')\]""", re.S)


def run(main: Callable[[list[str]], Any], most: int = 0) -> None:
    """Run main(argv) under absl; an InputError or a bad flag prints `error: ...` and exits with 2.

    `most`: how many arguments beside flags it takes.
    Ctrl-C and SIGTERM print a line and exit with 130 and 143. `--help` prints the docstring of main's module
    and its flags.
    """
    logging.set_verbosity(logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    try:
        with (
            stopping.handling(_terminate, signal.SIGTERM),
            stopping.handling(signal.default_int_handler, signal.SIGINT),
        ):
            # absl's own parser prints a usage text and exits with 1; this one raises.
            app.run(_guarded(main, most), flags_parser=partial(_parse, sys.modules[main.__module__].__doc__))
    except stopping.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except KeyboardInterrupt as error:
        print("stopped; the same command goes on from what is whole", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT))
    except OSError as error:
        # A file where a directory should be, no permission, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except (InputError, flags.Error) as error:
        missing = [f"--{name}" for name in sorted(_MISSING.findall(str(error)))]
        _fail(f"missing: {', '.join(missing)}; --help says what each is" if missing else str(error))
    except MemoryError as error:
        _fail(f"out of memory: {error}; take a smaller batch, embedding or number of students")
    except RuntimeError as error:  # among them all of XLA's
        if "RESOURCE_EXHAUSTED" in str(error):
            said = str(error).strip().splitlines()[0]
            _fail(f"out of device memory: {said}; take a smaller batch, embedding or number of students")
        raise


def _fail(message: str) -> None:
    line = " ".join(cli.as_started(message).split())
    print(f"error: {line if len(line) <= _LONGEST else line[:_LONGEST] + ' ...'}", file=sys.stderr)
    sys.exit(2)


def path(flag: flags.FlagHolder) -> Path:
    """The path that a flag holds; InputError for an empty one, which would be this very directory.

    And for bytes that are no UTF-8 text: tensorstore and polars cannot open them.
    """
    if not flag.value:
        raise InputError(f"--{flag.name} is empty; name a path (. is this directory)")
    try:
        flag.value.encode()
    except UnicodeEncodeError:
        raise InputError(f"--{flag.name}={flag.value!a} is not UTF-8 text; rename it") from None
    return Path(flag.value)


def join(job: str) -> None:
    """Join a job of several processes: "auto", or HOST:PORT,PROCESSES,INDEX. InputError if it is neither."""
    import jax  # here: no other command needs it to parse its flags

    if job == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise InputError(
                f"--distributed=auto: {error} No cluster was recognised here; use --distributed=HOST:PORT,N,I"
            ) from None
        return
    try:
        address, processes, index = job.split(",")
        count, number = int(processes), int(index)
    except ValueError:
        raise InputError(f"--distributed={job} must be auto or HOST:PORT,PROCESSES,INDEX") from None
    if not 0 <= number < count:
        raise InputError(f"--distributed={job}: the index must be in [0, {count})")
    jax.distributed.initialize(address, count, number)


def find(path: Path) -> Path:
    """The path itself, or where nothing is there, of configs/ what comes with the package."""
    ours = CONFIGS.parent / path
    return ours if path.parts[:1] == ("configs",) and not path.exists() and ours.exists() else path


def _parse(about: str | None, argv: list[str]) -> list[str]:
    given = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    if {"--help", "-help", "--helpshort", "-h", "-?"} & set(given):
        print(_help(about))
        sys.exit(0)
    try:
        if "config" in flags.FLAGS:
            given = flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)
            argv = [argv[0], *_spell_out(given)]
        return flags.FLAGS(argv)
    except UnicodeDecodeError as error:
        raise InputError(f"--flagfile: not UTF-8 text ({error})") from None


def _help(about: str | None) -> str:
    """What a command is for, and its flags: those that were defined here, not absl's own."""
    ours = [name for name in flags.FLAGS.flags_by_module_dict() if name.startswith(f"{cli.__name__}.")]
    described = "\n".join(flags.FLAGS.module_help(name) for name in sorted(ours))
    listed = re.sub(r"^\S+:\n", "", described, flags=re.M)  # modules are of no interest
    return f"{cli.as_started(about or '').strip()}\n{listed}"


def _spell_out(argv: list[str]) -> list[str]:
    """An argument list with --override=KEY=VALUE for each --config.KEY=VALUE or --config.KEY VALUE.

    Raises InputError for a key without a value.
    """
    spelled: list[str] = []
    given = iter(argv)
    for argument in given:
        if argument == "--":
            return [*spelled, argument, *given]
        if argument.startswith(("--noconfig.", "-noconfig.")):
            raise InputError(f"{argument}: write --config.KEY=False")
        found = _OVERRIDE.match(argument)
        if found is None:
            spelled.append(argument)
            continue
        text = argument[found.end() :]
        if keys_and_value(text)[1] is None:
            value = next(given, None)
            if value is None or value.startswith("--"):
                raise InputError(f"{argument}: has no value; write --config.KEY=VALUE")
            text = f"{text}={value}"
        spelled.append(f"--override={text}")
    return spelled


def keys_and_value(text: str) -> tuple[tuple[str, ...], str | None]:
    """The keys of KEY.KEY=VALUE, and VALUE; None for it without "=". InputError where there is no key."""
    keys: list[str] = []
    end = 0
    while match := _KEY.match(text, end):
        keys.append(next(group for group in match.groups() if group is not None))
        end = match.end()
    if not keys or text[end : end + 1] not in ("", "="):
        raise InputError(
            f"--config.{text}: names no key; write --config.GROUP.KEY=VALUE; ektf_jax/config.py has the keys"
            " of every config"
        )
    return tuple(keys), text[end + 1 :] if end < len(text) else None


def _guarded(main: Callable[[list[str]], Any], most: int) -> Callable[[list[str]], Any]:
    def guarded(argv: list[str]) -> Any:
        if len(argv) > 1 + most:
            raise InputError(f"unexpected argument {argv[1 + most]!r}; options are written --name=value")
        try:
            return main(argv)
        except (RuntimeError, AssertionError):
            if os.environ.get("JAX_PLATFORMS"):  # whatever came of it: without devices nothing works
                from ektf_jax import sharding  # only now: other commands need no JAX to start

                sharding.check_devices()
            raise

    return guarded
