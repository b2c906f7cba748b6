"""The one exception a user can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: a raw file, an encoded dataset, a config, or a working directory that cannot be used.

    The message names the file, line, field and value, and says what to do. The command lines print it
    and exit with status 2; everything else that is raised is a bug of ours.
    """


def cause(error: BaseException) -> str:
    """What an exception says, on one line, with its type where that says more than that a value is bad."""
    said = " ".join(str(error).split())
    if isinstance(error, ValueError | TypeError) and said:
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def missing(what: str, error: ModuleNotFoundError, extra: str) -> ImportError:
    """The error for a name or command that needs an extra's package; raises `error` if a module is ours."""
    if error.name is None or error.name.partition(".")[0] == "ektf_jax":
        raise error
    package = error.name.partition(".")[0]
    return ImportError(
        f"{what} needs {package}, which is not installed: pip install 'ektf-jax[{extra}]'", name=error.name
    )


def nearest(name: str, valid: Iterable[str]) -> str:
    """ "did you mean NAME? " of the valid name that is nearest, or nothing where none is near."""
    near = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.3)
    return f"did you mean {near[0]!r}? " if near else ""


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that is not among the valid ones, with the nearest of them."""
    valid = sorted(valid)
    return InputError(f"{kind} {name!r} is unknown; {nearest(name, valid)}valid: {', '.join(valid)}")
