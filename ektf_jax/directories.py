"""Directories and large files that are whole or not there: what writes them may be killed at any moment."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from ektf_jax.errors import InputError


@contextlib.contextmanager
def replacing(
    out: Path, what: str, is_ours: Callable[[Path], bool], *, flag: str = "--out"
) -> Iterator[Path]:
    """Yields a new directory beside `out`, which takes its place when the block ends without an error.

    Whatever ends the block early, a kill included, `out` stays as it was. `what` names what is written, and
    `is_ours` says whether a directory is one, which may be replaced; `flag` is what `out` comes from. Raises
    InputError, also for an OSError in the block, if `out` holds anything else, a run as well, or cannot be
    written.
    """
    out = out.resolve()  # so that a symbolic link keeps pointing at the directory
    try:
        with _staging(out, lambda: _check_replaceable(out, what, is_ours)) as new:
            yield new
            for path in (*new.rglob("*"), new):
                _sync(path)
            with _locked(out.parent):
                _check_replaceable(out, what, is_ours)
                _swap(new, out)
    except OSError as error:
        raise InputError(
            f"{out}: cannot write the {what} ({error.strerror or error}); choose another {flag}"
        ) from error


@contextlib.contextmanager
def replacing_file(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yields a path to write to, which takes the place of the file `out` at the end, and a scratch directory.

    Both are beside `out`. Whatever ends the block early, a kill included, `out` stays as it was. Raises
    InputError, also for an OSError in the block, if `out` is a directory or cannot be written.
    """
    out = out.resolve()
    try:
        with _staging(out, lambda: _check_file(out)) as scratch:
            new = scratch / out.name
            yield new, scratch
            _sync(new)
            new.replace(out)
            _sync(out.parent)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error


def tidy(out: Path) -> None:
    """Remove what killed writers of `out` left beside it, for who finds that there is nothing to write.

    What cannot be removed stays for the next.
    """
    out = out.resolve()
    with contextlib.suppress(OSError), _locked(out.parent) as exclusive:
        if exclusive:
            _remove_leftovers(out)


def _check_file(out: Path) -> None:
    if out.is_dir():
        raise InputError(f"{out}: is a directory; give --out the name of a file")


def _check_replaceable(out: Path, what: str, is_ours: Callable[[Path], bool]) -> None:
    if not out.exists():
        return
    if is_ours(out):
        if runs := sorted(out.rglob("config.json")):
            raise InputError(f"{out}: also holds the run {runs[0].parent}, which would be lost; move it")
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; give --out a directory")
    if any(out.iterdir()):
        raise InputError(
            f"{out}: is not empty and holds no {what}; nothing was changed, choose another --out"
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Holds an exclusive lock on a directory; yields False where the file system has none.

    The kernel drops the lock when its process ends, however that happens.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _staging(out: Path, check: Callable[[], None]) -> Iterator[Path]:
    """A fresh directory beside `out`, locked while in use and removed at the end if still there.

    `check` raises InputError if `out` must not be replaced: better now than when all is written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.parent / f"{_prefix(out)}{uuid.uuid4().hex}"
    with contextlib.ExitStack() as stack:
        with _locked(out.parent) as exclusive:  # or another writer's swap could look like a foreign directory
            if exclusive:
                _remove_leftovers(out)
            check()
            new.mkdir()
            stack.callback(shutil.rmtree, new, ignore_errors=True)
            stack.enter_context(_locked(new))
        yield new


def _prefix(out: Path) -> str:
    return f".{out.name}.tmp-"


def _remove_leftovers(out: Path) -> None:
    # A living writer holds its directory's lock; a lock that is free belonged to one that was killed.
    ours = re.compile(re.escape(_prefix(out)) + "[0-9a-f]{32}(-old)?")
    for leftover in [path for path in out.parent.iterdir() if ours.fullmatch(path.name)]:
        if leftover.name.endswith("-old") and not out.exists():
            leftover.rename(out)  # killed between the two renames of _swap
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover)
            finally:
                os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(new: Path, out: Path) -> None:
    """Renames `new` to `out`; a directory already there changes places with it, and is deleted last.

    Where the system cannot exchange two names at once, the old one is renamed aside first.
    """
    try:
        new.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if _exchange(new, out):
            shutil.rmtree(new, ignore_errors=True)
            _sync(out.parent)
            return
        aside = new.with_name(f"{new.name}-old")  # a leftover like any other if we are killed here
        out.rename(aside)
        try:
            new.rename(out)
        except BaseException:
            aside.rename(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _sync(out.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Two names change places, and neither is ever without a directory; False where that cannot be done."""
    at_working_directory, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(at_working_directory, names[0], at_working_directory, names[1], exchange) == 0)
