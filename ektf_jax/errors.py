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
    """ "did you mean NAME? " of the valid name that is nearest, or nothing where none is near.

    Of keys with dots the last part decides: first among those of the same group, then among all. A name that
    others begin with is near to them.
    """
    group, _, last = str(name).rpartition(".")
    ends = {key: key.rpartition(".")[2] for key in valid}
    siblings = [key for key in ends if key.rpartition(".")[0] == group]
    for keys, cutoff in ((siblings, 0.5), (ends, 0.75)):
        by_end = {ends[key]: key for key in keys}
        near = difflib.get_close_matches(last, by_end, n=1, cutoff=cutoff)
        if near := near or [end for end in by_end if len(last) > 2 and end.startswith(last)]:
            return f"did you mean {by_end[near[0]]!r}? "
    return ""


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that is not among the valid ones, with the nearest of them."""
    valid = sorted(valid)
    return InputError(f"{kind} {name!r} is unknown; {nearest(name, valid)}valid: {', '.join(valid)}")
