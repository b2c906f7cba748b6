"""The files that an encoded dataset was made from, in its schema's source: names, sizes, SHA-256."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ektf_jax.data import encoded
from ektf_jax.data.encoder import NARROW
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError

Listed = Sequence[tuple[Path, tuple[str, ...]]]  # each file with the splits that its rows are in


def entries(listed: Listed, others: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """The source's files, still without their digests; `others` are read beside those with rows."""
    try:
        found: list[dict[str, Any]] = [
            {"name": path.name, "splits": list(splits), "bytes": path.stat().st_size}
            for path, splits in listed
        ]
        return found + [{"name": path.name, "bytes": path.stat().st_size} for path in others]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from None


def with_digests(source: Mapping[str, Any], digests: Iterable[str]) -> dict[str, Any]:
    """The source with the digests of its files, in their order."""
    pairs = zip(source["files"], digests, strict=True)
    return dict(source) | {"files": [entry | {"sha256": digest} for entry, digest in pairs]}


def hash_all(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of files. Raises InputError for one that cannot be read."""
    digests = []
    for path in paths:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return digests


def existing(out: Path, source: Mapping[str, Any], paths: Sequence[Path]) -> Schema | None:
    """The schema in `out` if it was made from `source`, whose files `paths` are, else None.

    Files are only hashed if all else is the same.
    """
    try:
        found = encoded.open_schema(out).source
    except InputError:
        return None
    files = found.get("files")
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        return None
    bare = [{key: value for key, value in entry.items() if key != "sha256"} for entry in files]
    # What the files' types are is known once they are read: the same files have the same.
    source = dict(source) | {key: found[key] for key in (NARROW,) if key in found}
    if found | {"files": bare} != source:
        return None
    return encoded.current(out, with_digests(source, hash_all(paths)))
