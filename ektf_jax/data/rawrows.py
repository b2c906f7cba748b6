"""The rows of datasets' own raw files, as `prepare` has them: joined, derived, in the splits it draws."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import columns, criteo, ipinyou, kdd12, kkbox, movielens, rawfiles, source, tables
from ektf_jax.data.chunk import Chunk
from ektf_jax.data.schema import SPLITS
from ektf_jax.data.spec import Table, TableSpec
from ektf_jax.errors import InputError

TABLES: Mapping[str, Callable[[Path], Table]] = {
    "criteo": criteo.table,
    "ipinyou": ipinyou.table,
    "kdd12": kdd12.table,
    "kkbox": kkbox.table,
}


class RawRows(NamedTuple):
    """Rows of raw files.

    spec: the model's, for values of the files' types. bytes: of all files. chunks: of the label's and the
    fields' columns, in the order of the files, each with the rows in it that are wanted (None: all).
    """

    spec: TableSpec
    bytes: int
    chunks: Iterator[tuple[Chunk, NDArray[np.bool_] | None]]


def read(spec: TableSpec, raw: Path, *, split: str | None = None, split_seed: int = 2024) -> RawRows:
    """The rows of the raw files of a model's dataset, all of them or those of one split.

    `split` is one that `prepare` makes of these files with `split_seed`; all rows of MovieLens-1M come split
    by split. Raises InputError for a dataset without raw files of its own, and as `prepare` does.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"--split is {split!r}; it must be one of {', '.join(SPLITS)}")
    if spec.dataset == movielens.SPEC.dataset:
        return _of_frames(spec, movielens.frames(raw, split_seed=split_seed), split)
    if spec.dataset not in TABLES:
        raise InputError(f"--raw: {spec.dataset!r} has no raw files of its own; give its tables by --input")
    return _of_files(spec, TABLES[spec.dataset](raw), raw, split, split_seed)


def _of_frames(spec: TableSpec, frames: Mapping[str, pl.DataFrame], split: str | None) -> RawRows:
    settled = columns.settle([(name, frames[name].schema) for name in SPLITS], spec.columns, spec.lists)
    wanted = {name: frames[name] if split in (None, name) else frames[name].clear() for name in SPLITS}
    chunks = ((chunk, None) for chunk, _ in tables.slices(spec, wanted, settled))
    return RawRows(spec.as_values(settled.value), 0, chunks)


def _of_files(spec: TableSpec, table: Table, raw: Path, split: str | None, split_seed: int) -> RawRows:
    if _form(table.spec) != _form(spec):
        raise InputError(
            f"{raw}: holds {spec.dataset} in another form than the model was trained on: its columns or their"
            " separators differ; give the files of that form"
        )
    listed = source.by_split(table.files)
    derivation = table.derivation
    wanted, lists = (derivation.needs, ()) if derivation else (spec.columns, spec.lists)
    settled = rawfiles.settle([path for path, _ in listed], wanted, lists)

    def chunks() -> Iterator[tuple[Chunk, NDArray[np.bool_] | None]]:
        drawn = None
        if split is not None and not isinstance(table.files, Mapping):
            drawn = tables.draw_splits(_count(spec, listed, wanted[:1]), split_seed, str(raw))
        start = 0
        for chunk, splits in tables.read(spec, listed, settled, derivation, rawfiles.CHUNK_BYTES, []):
            rows = len(chunk.frame)
            if drawn is not None:
                yield chunk, drawn[start : start + rows] == SPLITS.index(split or "")
            elif split is None or split in splits:
                yield chunk, None
            start += rows

    return RawRows(spec.as_values(settled.value), sum(path.stat().st_size for path, _ in listed), chunks())


def _form(spec: TableSpec) -> tuple[object, ...]:
    """What tells two forms of a dataset's raw files apart."""
    return spec.label, spec.layout, [(field.name, field.kind, field.separator) for field in spec.fields]


def _count(spec: TableSpec, listed: list[tuple[Path, tuple[str, ...]]], column: tuple[str, ...]) -> int:
    return sum(
        len(chunk.frame)
        for path, _ in listed
        for chunk in rawfiles.chunks(path, spec.layout, column, may_be_empty=True)
    )
