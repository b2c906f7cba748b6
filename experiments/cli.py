"""What every command line does the same way: user errors are one line and exit status 2, signals a line."""

import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
from absl import app, flags, logging

from ektf_jax.errors import InputError
from ektf_jax.training import stopping


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as Ctrl-C: what is open is closed, and half-written files go."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def run(main: Callable[[list[str]], Any]) -> None:
    """Runs main(argv) under absl; an InputError or a bad flag prints `error: ...` and exits with 2.

    Ctrl-C and SIGTERM print a line and exit with 130 and 143.
    """
    logging.set_verbosity(logging.WARNING)
    try:
        with (
            stopping.handling(_terminate, signal.SIGTERM),
            stopping.handling(signal.default_int_handler, signal.SIGINT),
        ):
            # absl's own parser prints a usage text and exits with 1; this one raises.
            app.run(_without_arguments(main), flags_parser=_parse)
    except stopping.Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except KeyboardInterrupt as error:
        print("stopped; the same command goes on from what is whole", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT))
    except OSError as error:
        # A file where a directory should be, no permission, a full disk.
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except (InputError, flags.Error) as error:
        # ml_collections wraps what a config file raises in a traceback; its last line is the message.
        text = str(error).strip()
        text = (
            text.splitlines()[-1].removeprefix("ektf_jax.errors.InputError: ")
            if "Traceback" in text
            else text
        )
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        sys.exit(2)


def join(job: str) -> None:
    """Join a job of several processes: "auto", or HOST:PORT,PROCESSES,INDEX. InputError if it is neither."""
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


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except KeyError as error:  # --config.KEY.MORE=VALUE where KEY is a value, or no key at all
        said = " ".join(str(error.args[0]).split())
        if named := re.match(r"'([^']*)'", said):
            group = re.compile(rf"--config(\.\w+)*\.{re.escape(named[1])}\.")
            given = next((part.split("=")[0] for part in argv if group.match(part)), "--config")
            hint = f"; {near}" if (near := said.removeprefix(named[0]).strip()) else ""
            said = f"{given}: the config has no group {named[1]!r}{hint}"
        raise InputError(f"{said}; configs/base.py has the keys of every config") from None


def _without_arguments(main: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
    def checked(argv: list[str]) -> Any:
        if len(argv) > 1:
            raise InputError(f"unexpected argument {argv[1]!r}; options are written --name=value")
        return main(argv)

    return checked
