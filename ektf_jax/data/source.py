"""What a dataset is made from, as its schema says it: files and checksums, spec, the seed of a split."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ektf_jax.data import columns, encoded, rawfiles
from ektf_jax.data.columns import Settled
from ektf_jax.data.encoder import FIRST_ENCODER, NARROW, read_words
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.data.spec import Derivation, TableSpec, spec_to_json
from ektf_jax.errors import InputError

Listed = Sequence[tuple[Path, tuple[str, ...]]]  # each file with the splits that its rows are in
ENCODER = 2  # raised when the same files and spec come to mean other ids


def by_split(files: Sequence[Path] | Mapping[str, Sequence[Path]]) -> list[tuple[Path, tuple[str, ...]]]:
    """Each file with the splits that its rows are in."""
    if not isinstance(files, Mapping):
        listed: list[tuple[Path, tuple[str, ...]]] = [(path, ()) for path in files]
    else:
        unknown = sorted(set(files) - set(SPLITS))
        if unknown or not files.get("train") or not files.get("test"):
            raise InputError(f"the splits with files are {sorted(files)}; give train, test and perhaps valid")
        both = () if files.get("valid") else ("valid",)
        listed = [
            (path, (*both, split) if split == "test" else (split,))
            for split in SPLITS
            for path in files.get(split, ())
        ]
    if not listed:
        raise InputError("no raw files are given; name at least one")
    return listed


def described(
    spec: TableSpec, listed: Listed, others: Sequence[Path], split_seed: int | None
) -> dict[str, Any]:
    """A schema's source, still without the checksums of its files, those of splits and others."""
    text = json.dumps(spec_to_json(spec), sort_keys=True, allow_nan=False)
    source = {
        "encoder": ENCODER,
        "spec": spec_to_json(spec),
        "spec_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    source |= {} if split_seed is None else {"split_seed": split_seed}
    paths = [*(path for path, _ in listed), *others]
    return source | rawfiles.synthetic(paths) | {"files": entries(listed, others)}


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


def narrow(settled: Settled, derivation: Derivation | None) -> dict[str, list[str]]:
    """What scoring has to know of the types to write a value as it was written here; {} if nothing."""
    found = columns.narrow(settled) if derivation is None else []
    return {NARROW: found} if found else {}


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


def keep_description(out: Path, new: Path) -> Schema | None:
    """Give a new dataset the description of that in `out`, where version 0.1.0 made the same ids of the same.

    Runs are held to that description. None, and nothing done, for any other dataset.
    """
    now = encoded.open_schema(new)
    try:
        if encoded.open_schema(out).source != now.source | {"encoder": FIRST_ENCODER}:
            return None
        before, _ = encoded.open_dataset(out)
        words = [read_words(directory / encoded.WORDS) for directory in (out, new)]
    except InputError:
        return None
    if (before.fields, before.arrays) != (now.fields, now.arrays) or not words[0].equals(words[1]):
        return None
    shutil.copyfile(out / encoded.SCHEMA, new / encoded.SCHEMA)
    return encoded.open_schema(new)
