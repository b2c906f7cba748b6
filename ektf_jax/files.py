"""JSON files of a working directory: read with errors to act on, written whole or not at all."""

import json
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ektf_jax.errors import InputError

_REMEDY = "restore it, or delete its directory"


def read_json(path: Path, shape: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object in a JSON file, which has at least the keys of `shape`.

    `shape` maps a key to the type that its value has, to a nested shape, or in a list to the shape of each
    part. Raises InputError where the file is missing, cut off or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON ({error}); {_REMEDY}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is {reprlib.repr(content)}, not an object; {_REMEDY}")
    _check_shape(path, "", content, shape or {})
    return content


def _check_shape(path: Path, key: str, value: Any, shape: Any) -> None:
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise InputError(f"{path}: {key} is {reprlib.repr(value)}, not an object; {_REMEDY}")
        for name, part in shape.items():
            inner = f"{key}.{name}" if key else name
            if name not in value:
                raise InputError(f"{path}: {inner} is missing; {_REMEDY}")
            _check_shape(path, inner, value[name], part)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise InputError(f"{path}: {key} is {reprlib.repr(value)}, not a list; {_REMEDY}")
        for index, part in enumerate(value):
            _check_shape(path, f"{key}[{index}]", part, shape[0])
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        raise InputError(f"{path}: {key} is {reprlib.repr(value)}, which it cannot be; {_REMEDY}")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
