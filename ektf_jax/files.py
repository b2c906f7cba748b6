"""JSON files of a working directory: read with errors to act on, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from ektf_jax.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; InputError where it is missing, cut off or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_not_json)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: is not JSON ({error}); restore it, or delete its directory") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is {content!r}, not an object; restore it, or delete its directory")
    return content


def _not_json(constant: str) -> None:
    raise ValueError(f"it has {constant}")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; ValueError for nan or an infinity, which JSON does not have."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
