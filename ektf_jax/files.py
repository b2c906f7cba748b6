"""JSON files of a working directory: read with errors to act on, written whole or not at all."""

import contextlib
import fcntl
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ektf_jax.errors import InputError

_REMEDY = "restore it, or delete its directory"


def read_json(path: Path, shape: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object in a JSON file; InputError where it is missing, cut off or something else.

    `shape` says what it must hold, see `check_shape`.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); {_REMEDY}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is {reprlib.repr(content)}, not an object; {_REMEDY}")
    check_content(path, content, shape or {})
    return content


def has_format(path: Path, name: str) -> bool:
    """Whether a file holds a JSON object that says it has this format, of whichever version or damage."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == name


def check_content(path: Path, content: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    """Raise InputError where what was read from a file has not this shape, see `check_shape`."""
    try:
        check_shape(content, shape)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_REMEDY}") from None


def check_shape(value: Any, shape: Any, key: str = "the whole") -> None:
    """Raise ValueError, naming the key, for what is read from JSON and has not this shape.

    A shape is a type; a mapping of keys that must be there to the shapes of their values; or, of a list whose
    parts have one shape, a list of that.
    """
    kind = dict if isinstance(shape, Mapping) else list if isinstance(shape, list) else shape
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{key} is {reprlib.repr(value)}, which it cannot be")
    if isinstance(shape, Mapping):
        for name, part in shape.items():
            inner = name if key == "the whole" else f"{key}.{name}"
            if name not in value:
                raise ValueError(f"{inner} is missing")
            check_shape(value[name], part, inner)
    if isinstance(shape, list):
        for index, part in enumerate(value):
            check_shape(part, shape[0], f"{key}[{index}]")


def parse_json(text: str) -> Any:
    """What a JSON text holds; ValueError for one that is none, or that has nan or a number beyond all floats.

    Python would read these, and nothing could write them again.
    """
    return json.loads(text, parse_constant=_not_json, parse_float=_finite)


def _not_json(constant: str) -> None:
    raise ValueError(f"it has {constant}")


def _finite(number: str) -> float:
    if not math.isfinite(found := float(number)):
        raise ValueError(f"it has {number}")
    return found


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; ValueError for nan or an infinity, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError name the file: of a write to a full disk it names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; where that fails nothing of it is left. Writers take turns."""
    with naming(path), _temporary_file(path) as (temporary, file):
        try:
            file.truncate(0)  # of what a killed writer left
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A file beside another, its writer's alone; the lock goes with its process, however that ends."""
    temporary = _temporary(path)
    while True:
        with temporary.open("ab") as file:  # which does not truncate it: another may be writing
            with contextlib.suppress(OSError):  # of a file system that has no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_open(temporary, file):
                yield temporary, file
                return


def _is_open(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is the one that has this name: who held it may have renamed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Remove a file, if it is there, and what a killed writer of it left."""
    for one in (path, _temporary(path)):
        one.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")
