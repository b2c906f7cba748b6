"""The commands: `ektf NAME ...` where the package is installed, `python -m experiments.NAME ...` in a clone.

Both are the same mains, ektf_jax/cli/NAME.py. This file imports nothing that an extra brings, so that it can
say which one is missing.
"""

import importlib
import re
import sys
from pathlib import Path

from ektf_jax import errors
from ektf_jax.cli import start

# Name -> what it does. The name is that of the module with its main.
COMMANDS = {
    "quickstart": "train a single MLP, a plain ensemble and EKTF on synthetic clicks, and compare them",
    "prepare": "encode the raw files of a dataset",
    "describe": "show what an encoded dataset holds",
    "generate": "write raw files of synthetic data",
    "summary": "show parameters, FLOPs and shapes of a config's model",
    "train": "train one config",
    "sweep": "train every run of a sweep",
    "tune": "search the best settings of a config",
    "evaluate": "evaluate a finished run",
    "compare": "test whether one finished run is better than another",
    "importance": "show which fields a finished run leans on",
    "ensemble": "make a run of the best students of finished runs",
    "report": "make tables and figures of finished runs",
    "export": "make a bundle of a finished run, which predicts raw rows",
    "score": "predict the rows of files with a bundle",
}
# The extra that a command needs, where it is not `train`.
_EXTRAS = {"score": "bundle", "tune": "tune"}

_NAMED = re.compile(rf"`ektf ({'|'.join(COMMANDS)})\b")


def main() -> None:
    """Run the command that the first argument names, on the others; list all commands without one."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-help", "-h", "help"):
        lines = [f"  {name:<12}{does}" for name, does in COMMANDS.items()]
        print(
            "\n".join(["ektf COMMAND [--FLAG=VALUE ...]", "", *lines, "", "ektf COMMAND --help: its flags"])
        )
        return
    if name not in COMMANDS:
        print(f"error: {errors.unknown('command', name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    start.anew()
    sys.argv[1:] = arguments
    # `python -m` finds the modules of the current directory, such as a student of one's own.
    sys.path.append("")
    call(name)


def call(name: str) -> None:
    """Run the main of a command on sys.argv. Prints a line and exits with 2 where its extra is missing."""
    start.use_cache()
    try:
        from ektf_jax.cli import shell

        module = importlib.import_module(f"ektf_jax.cli.{name}")
    except ModuleNotFoundError as error:
        needs = errors.missing(f"`ektf {name}`", error, _EXTRAS.get(name, "train"))
        print(f"error: {as_started(str(needs))}", file=sys.stderr)
        sys.exit(2)
    shell.run(module.main, getattr(module, "ARGUMENTS", 0))


def as_started(message: str) -> str:
    """A message that names commands, `ektf NAME ...`, with them in the form that this one was started in."""
    return _NAMED.sub(r"`python -m experiments.\1", message) if _in_a_clone() else message


def another(name: str) -> list[str]:
    """Python's arguments that start a command in the form that this one was started in."""
    if _in_a_clone():
        return ["-m", f"experiments.{name}"]
    # A script does not look into the current directory first, where another ektf_jax may be.
    first = [] if Path(sys.argv[0]).name == "__main__.py" else ["-P"]
    return [*first, "-m", "ektf_jax.cli", name]


def _in_a_clone() -> bool:
    return Path(sys.argv[0]).parent.name in ("experiments", "benchmarks")
