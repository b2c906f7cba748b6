"""Encodes tables of any size, described by a TableSpec, in bounded memory.

The raw text is parsed once, in chunks. Each column of a chunk becomes its distinct values and a small code
per row, kept on disk; all that follows (bucketing, counting, giving ids) works on distinct values, and a
row is touched once more, when its codes become ids. Values are compared as text, never by hash alone.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import columns, dense, encoded, parts, pretrained, rawfiles, vocabulary, work
from ektf_jax.data import source as sources
from ektf_jax.data.chunk import Chunk, Rows
from ektf_jax.data.columns import Settled
from ektf_jax.data.parts import Part
from ektf_jax.data.rawfiles import CHUNK_BYTES
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.data.source import ENCODER
from ektf_jax.data.spec import Derivation, FieldSpec, TableSpec
from ektf_jax.data.splits import by_column, draw_splits
from ektf_jax.errors import InputError

__all__ = ["ENCODER", "Derivation", "FieldSpec", "TableSpec", "draw_splits", "encode", "prepare"]

_SCRATCH = "scratch"
_FRAME_ROWS = 1 << 18  # of a frame in memory that are encoded at a time


def prepare(
    spec: TableSpec,
    files: Sequence[Path] | Mapping[str, Sequence[Path]],
    out: Path,
    *,
    split_seed: int = 2024,
    derivation: Derivation | None = None,
    raw: Path = Path(),
    chunk_bytes: int = CHUNK_BYTES,
) -> Schema:
    """Encodes `files` into `out`; does nothing if `out` already holds the result.

    `files` are those of each split, where test stands in for a missing valid; or a list, whose n rows, in
    order, are numbered and split by numpy.random.default_rng(split_seed).permutation(n): the first
    floor(0.8 n) are train, the next floor(0.1 n) valid, the rest test. Where the spec names a column to split
    by, that has these names, or times, whose order takes the permutation's place (`splits.by_column`). Within
    a split rows keep the order of the files; files without rows count as none. Equal values of Parquet files
    are one value, whatever their types. Files of pretrained vectors are relative to `raw`. Needs free disk of
    about half of the text beside the result. After a kill it starts again. Raises InputError naming file,
    line, field and value.
    """
    if split_seed < 0:
        raise InputError(f"split_seed is {split_seed}; it must not be negative")
    listed = sources.by_split(files)
    if spec.split and isinstance(files, Mapping):
        raise InputError(
            f"{spec.dataset}: rows are split by {spec.split} and by their files; leave one of the two out"
        )
    drawing = not isinstance(files, Mapping) and spec.split is None
    others = [*(derivation.files if derivation else ()), *pretrained.paths(spec, raw)]
    made_of = sources.described(spec, listed, others, split_seed if drawing else None)
    existing = sources.existing(out, made_of, [*(path for path, _ in listed), *others])
    if existing is not None:
        return existing
    vectors = pretrained.read(spec, raw)
    # A derivation works on texts; where it needs none, its own columns may be lists.
    wanted, lists = (derivation.needs, ()) if derivation else (spec.prepared, spec.lists)
    settled = rawfiles.settle([path for path, _ in listed], wanted, lists)
    spec = spec.as_values(settled.value)
    with encoded.replacing(out) as new:
        digests: list[str] = []
        total = sum(path.stat().st_size for path, _ in listed)
        found = read(spec, listed, settled, derivation, chunk_bytes, digests)
        where = str(listed[0][0]) if len(listed) == 1 else f"{listed[0][0]} and the other files"
        chunks, filled = _parse(spec, found, _scratch(new), total)
        _check_rows(listed, chunks)
        for field, has_value in zip(spec.fields, filled, strict=True):
            if not has_value:
                marks = " or ".join(repr(mark) for mark in field.missing) or "missing"
                raise InputError(f"{where}: {field.name} is {marks} in every row; leave the field out")
        made_of = sources.with_digests(made_of, [*digests, *sources.hash_all(others)])
        drawn = None if isinstance(files, Mapping) else _drawn(spec, chunks, split_seed, where)
        made_of |= sources.narrow(settled, derivation)
        schema = _finish(new, spec, chunks, drawn, made_of, vectors)
        return sources.keep_description(out, new) or schema


def encode(
    spec: TableSpec,
    frames: Mapping[str, pl.DataFrame],
    out: Path,
    source: Mapping[str, Any],
    *,
    raw: Path = Path(),
) -> Schema:
    """Encodes frames in memory, one for each of train, valid and test, into `out`, by the rules of `prepare`.

    A column may be text, or of a type that a Parquet file could give it. Rows keep their order. `source` is
    what the schema is to say of where they come from. Files of pretrained vectors are relative to `raw`.
    Raises InputError naming split, row, field and value.
    """
    if spec.split is not None:
        raise InputError(f"{spec.dataset}: frames are those of splits; leave the column to split by out")
    if set(frames) != set(SPLITS):
        raise InputError(f"the frames are those of {sorted(frames)}; give train, valid and test")
    for split, frame in frames.items():
        missing = [name for name in spec.prepared if name not in frame.columns]
        if missing:
            raise InputError(f"{split}: lacks the columns {', '.join(missing)}")
        if not len(frame):
            raise InputError(f"{split}: has no rows; give it some")
    settled = columns.settle([(split, frames[split].schema) for split in SPLITS], spec.prepared, spec.lists)
    spec = spec.as_values(settled.value)
    vectors = pretrained.read(spec, raw)
    with encoded.replacing(out) as new:
        found = slices(spec, frames, settled)
        chunks, _ = _parse(spec, found, _scratch(new), 0)
        return _finish(new, spec, chunks, None, dict(source) | sources.narrow(settled, None), vectors)


# --- from text to codes


def read(
    spec: TableSpec,
    listed: list[tuple[Path, tuple[str, ...]]],
    settled: Settled,
    derivation: Derivation | None,
    chunk_bytes: int,
    digests: list[str],
) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
    """Every chunk, as the table has it, with its splits; adds each file's sha256 to digests."""
    wanted = derivation.needs if derivation else spec.prepared
    done = 0
    for path, splits in listed:
        digest = hashlib.sha256()
        found = rawfiles.chunks(
            path, spec.layout, wanted, digest, chunk_bytes, settled=settled, may_be_empty=True
        )
        for chunk in found:
            frame = _texts(spec, derivation.make(chunk), settled) if derivation else chunk.frame
            if len(frame) != len(chunk.frame):
                raise ValueError(f"the derivation made {len(frame)} rows of {len(chunk.frame)}")
            yield chunk._replace(frame=frame, read=done + chunk.read), splits
        digests.append(digest.hexdigest())
        done += path.stat().st_size


def slices(
    spec: TableSpec, frames: Mapping[str, pl.DataFrame], settled: Settled
) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
    for split in SPLITS:
        for start in range(0, len(frames[split]), _FRAME_ROWS):
            part = _texts(spec, frames[split][start : start + _FRAME_ROWS], settled)
            yield Chunk(part, Rows(split, start), 0), (split,)


def _texts(spec: TableSpec, frame: pl.DataFrame, settled: Settled) -> pl.DataFrame:
    return pl.DataFrame([columns.text(name, frame[name], settled).alias(name) for name in spec.prepared])


def _parse(
    spec: TableSpec,
    found: Iterator[tuple[Chunk, tuple[str, ...]]],
    scratch: Path,
    total: int,
) -> tuple[list[Part], NDArray[np.bool_]]:
    """Writes every chunk as a Part; also says which fields have a value. total: the bytes of all files."""
    written: list[Part] = []
    filled = np.zeros(len(spec.fields), bool)
    with work.bar("reading", total, "B") as bar:
        for part, present, read in work.in_order(_tasks(spec, found, scratch)):
            written.append(part)
            filled |= present
            rate = (part.start + part.rows) / max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix({"rows/s": f"{rate:,.0f}"}, refresh=False)
            bar.update(read - bar.n)
    return written, filled


def _tasks(
    spec: TableSpec, found: Iterator[tuple[Chunk, tuple[str, ...]]], scratch: Path
) -> Iterator[Callable[[], tuple[Part, NDArray[np.bool_], int]]]:
    """What is left to do with each chunk once it is read."""
    start = 0
    for number, (chunk, splits) in enumerate(found):
        yield partial(_part, spec, chunk, scratch, number, start, splits)
        start += len(chunk.frame)


def _part(
    spec: TableSpec, chunk: Chunk, scratch: Path, number: int, start: int, splits: tuple[str, ...]
) -> tuple[Part, NDArray[np.bool_], int]:
    return *parts.write(spec, chunk, scratch, number, start, splits), chunk.read


def _check_rows(listed: list[tuple[Path, tuple[str, ...]]], chunks: list[Part]) -> None:
    """Raise InputError if there are no rows, or none in a split whose files are given."""
    for split in {split: None for _, splits in listed for split in splits} or {"": None}:
        paths = [path for path, splits in listed if split in splits or not split]
        if not any(split in part.splits or not split for part in chunks):
            if len(paths) == 1:
                raise rawfiles.empty(paths[0])
            what = f" and the other files of {split}" if split else " and the other files"
            raise InputError(f"{paths[0]}{what}: have no rows; replace them by the whole files")


# --- from codes to ids


def _drawn(spec: TableSpec, chunks: list[Part], split_seed: int, where: str) -> NDArray[np.uint8]:
    """The split of each row, as its place in SPLITS: drawn, or as a column says."""
    if spec.split is None:
        return draw_splits(chunks[-1].start + chunks[-1].rows, split_seed, where)
    order = pl.concat([parts.load(part.codes, ["split", "rest"]) for part in chunks if part.first])
    return by_column(spec.split, [part.first for part in chunks if part.first], order, where)


def _split_rows(chunks: list[Part], drawn: NDArray[np.uint8] | None) -> dict[str, int]:
    if drawn is not None:
        return dict(zip(SPLITS, np.bincount(drawn, minlength=3).tolist(), strict=True))
    return {split: sum(part.rows for part in chunks if split in part.splits) for split in SPLITS}


def _finish(
    directory: Path,
    spec: TableSpec,
    chunks: list[Part],
    drawn: NDArray[np.uint8] | None,
    source: dict[str, Any],
    vectors: Mapping[str, pretrained.Vectors],
) -> Schema:
    """Writes the dataset that chunks make."""
    fields, words = vocabulary.count(spec, chunks, drawn)
    fields = pretrained.write(directory, spec, fields, words, vectors)
    weighted = spec.weight is not None
    schema = Schema(spec.dataset, fields, _split_rows(chunks, drawn), source, weighted=weighted)
    _write(directory, spec, schema, words, chunks, drawn)
    shutil.rmtree(directory / _SCRATCH)
    encoded.write_description(directory, schema, words)
    return schema


def _scratch(directory: Path) -> Path:
    (directory / _SCRATCH).mkdir()
    return directory / _SCRATCH


def _write(
    directory: Path,
    spec: TableSpec,
    schema: Schema,
    words: pl.DataFrame,
    chunks: list[Part],
    drawn: NDArray[np.uint8] | None,
) -> None:
    """Writes the ids, labels and weights of every split."""
    known = vocabulary.by_field(words, schema.fields)
    with ExitStack() as stack:
        append = {
            split: stack.enter_context(
                encoded.appending(
                    directory,
                    split,
                    rows,
                    schema.num_slots,
                    weighted=schema.weighted,
                    dense=schema.num_dense,
                )
            )
            for split, rows in schema.splits.items()
        }
        bar = stack.enter_context(work.bar("writing", sum(part.rows for part in chunks), "row"))
        tasks = (partial(_encode, part, spec, schema, known) for part in chunks)
        for part, rows_of in zip(chunks, work.in_order(tasks), strict=True):
            if drawn is None:
                for split in part.splits:
                    append[split](*rows_of)
            else:
                here = drawn[part.start : part.start + part.rows]
                for place, split in enumerate(SPLITS):
                    append[split](*(None if each is None else each[here == place] for each in rows_of))
            part.codes.unlink()
            part.values.unlink()
            bar.update(part.rows)


def _encode(part: Part, spec: TableSpec, schema: Schema, known: list[pl.DataFrame]) -> encoded.Split:
    """A chunk as it is written: ids, labels, and weights and dense or None."""
    ids = np.empty((part.rows, schema.num_slots), np.int32)
    codes, values = parts.load(part.codes), parts.load(part.values)
    numbers = []
    for index, (field, (start, _)) in enumerate(zip(schema.fields, schema.slots, strict=True)):
        code = codes[str(index)].to_numpy()
        found = vocabulary.slot_ids(values[str(index)][0], field, known[index], spec.fields[index])
        for slot, one in enumerate(found):
            ids[:, start + slot] = one[code]
        if field.scale is not None:
            number = dense.standardised(values[str(index)][0], spec.fields[index], field.scale)
            numbers.append(number[code])
    weights = codes["weight"].to_numpy() if schema.weighted else None
    found_dense = np.stack(numbers, axis=1) if numbers else None
    return encoded.Split(ids, codes["label"].cast(pl.Float32).to_numpy(), weights, found_dense)
