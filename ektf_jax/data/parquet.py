"""Parquet files, read in chunks of rows as text."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
from polars import selectors

from ektf_jax.data import columns
from ektf_jax.data.chunk import SHOWN, Chunk, Rows, shown
from ektf_jax.data.columns import Settled
from ektf_jax.errors import InputError

MAGIC = b"PAR1"
# What reading a damaged file raises. A panic is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def types(path: Path, file: BinaryIO) -> columns.Types:
    """The types of a file's columns; none of a file without rows, which cannot contradict any."""
    with _understood(path):
        return _scan(file).collect_schema() if rows_of(path, file) else {}


def chunks(
    path: Path, file: BinaryIO, wanted: Sequence[str], settled: Settled, digest: Any, chunk_bytes: int
) -> Iterator[Chunk]:
    """The rows of a file, open at its start; see rawfiles.chunks."""
    with _understood(path):
        for chunk in frames(path, file, wanted, digest, chunk_bytes):
            texts = [columns.text(one.name, one, settled).alias(one.name) for one in chunk.frame]
            yield chunk._replace(frame=pl.DataFrame(texts))


def frames(
    path: Path, file: BinaryIO, wanted: Sequence[str], digest: Any, chunk_bytes: int
) -> Iterator[Chunk]:
    """The rows of a file, open at its start, with the types that they have there; see rawfiles.chunks."""
    while data := file.read(1 << 20):
        digest.update(data)
    size, done = file.tell(), 0
    with _understood(path):
        schema, total = _scan(file).collect_schema(), rows_of(path, file)
        if not total:
            return
        missing = [name for name in wanted if name not in schema]
        if missing:
            raise InputError(f"{path}: lacks the columns {', '.join(missing)}; it has {shown(tuple(schema))}")
        kept = [name for name in schema if name in wanted] if wanted else list(schema)
        rows = max(1, chunk_bytes // (8 * len(kept)))
        # By selectors: as plain names `*` and `^x$` would be patterns.
        table = _scan(file).select(selectors.by_name(kept))
        for batch in table.collect_batches(chunk_size=rows, maintain_order=True):
            start, done = done, done + len(batch)
            if done > total:
                break
            for part in batch.iter_slices(rows):
                yield Chunk(part, Rows(str(path), start), size * done // total)
                start += len(part)
        if done != total:  # where a thread of polars panics the batches end, as if there were no more
            came = f"more than {total:,}" if done > total else f"{done:,} of {total:,}"
            raise InputError(f"{path}: damaged Parquet ({came} rows came); write it again")


def rows_of(path: Path, file: BinaryIO) -> int:
    """How many rows a file has."""
    with _understood(path):
        return int(_scan(file).select(pl.len()).collect().item())


def _scan(file: BinaryIO) -> pl.LazyFrame:
    # An open file: polars would read a path with brackets as a pattern.
    file.seek(0)
    return pl.scan_parquet(file)


@contextlib.contextmanager
def _understood(path: Path) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        reason = re.sub(r"\s+", " ", str(error))[:SHOWN]
        raise InputError(f"{path}: damaged or unsupported Parquet ({reason}); write it again") from None
