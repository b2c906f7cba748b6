"""Rows that another engine gave the ids of our vocabulary, in Parquet parts: to an encoded directory.

RAW/schema.json and RAW/vocabulary.parquet are of the dataset whose vocabulary it is, RAW/train/*.parquet,
RAW/valid/*.parquet and RAW/test/*.parquet the rows (docs/datasets.md). A field's column holds ids; label,
weight and the numbers of dense fields are as in raw rows, and the code for these reads them.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax.data import columns, dense, encoded, encoder, parquet, parts, rawfiles, work
from ektf_jax.data import source as sources
from ektf_jax.data.chunk import SHOWN, Chunk
from ektf_jax.data.columns import Settled
from ektf_jax.data.rawfiles import CHUNK_BYTES
from ektf_jax.data.schema import SPLITS, Field, Schema, vectors_file
from ektf_jax.data.spec import FieldSpec, TableSpec
from ektf_jax.errors import InputError

_KEPT = ("encoder", "spec", "spec_sha256", "synthetic", encoder.NARROW)  # of the vocabulary's source
_REMEDY = "copy schema.json and vocabulary.parquet of the dataset whose vocabulary the ids are of"


class _Table(NamedTuple):
    """What the rows are of: the fields, which of them are numbers or lists, how label and weight are read."""

    schema: Schema
    spec: TableSpec

    @property
    def pairs(self) -> list[tuple[Field, FieldSpec]]:
        return list(zip(self.schema.fields, self.spec.fields, strict=True))

    @property
    def raw(self) -> list[str]:
        """The columns that are as in raw rows."""
        numbers = [one.name for _, one in self.pairs if one.kind == "dense"]
        return list(dict.fromkeys((self.spec.label, *filter(None, [self.spec.weight]), *numbers)))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys((*self.raw, *(field.name for field in self.schema.fields))))


def prepare(raw: Path, out: Path, *, chunk_bytes: int = CHUNK_BYTES) -> Schema:
    """Checks the parts in `raw` and writes their rows to `out`; does nothing if `out` holds them already.

    A split's rows are those of its parts, by name, in their order; a part without rows counts as none.
    Memory follows the vocabulary alone. Raises InputError naming file, row, field and value.
    """
    table, words = _table(raw), _words(raw)
    given = table.schema
    listed = [(path, (split,)) for split in SPLITS for path in _parts(raw, split)]
    vectors = [vectors_file(at) for at, field in enumerate(given.fields) if field.pretrained is not None]
    others = [raw / encoded.SCHEMA, *([] if words is None else [raw / encoded.WORDS])]
    others += [raw / name for name in vectors]
    paths = [path for path, _ in listed]
    kept = {key: given.source[key] for key in _KEPT if key in given.source}
    files = sources.entries(listed, others)
    source: dict[str, Any] = kept | rawfiles.synthetic(others) | {"files": files}
    existing = sources.existing(out, source, [*paths, *others])
    if existing is not None:
        return existing
    if words is not None:
        _check_words(raw / encoded.WORDS, words, given)
    encoded.open_vectors(raw, given)
    counts, settled = _look(paths, table)
    rows = {split: sum(counts[path] for path, of in listed if split in of) for split in SPLITS}
    for split, count in rows.items():
        if not count:
            raise InputError(f"{raw / split}: no part of it has rows; each split needs some")
    with encoded.replacing(out) as new:
        digests: list[str] = []
        with work.bar("reading", sum(rows.values()), "row") as bar:
            for split in SPLITS:
                mine = [path for path, of in listed if split in of]
                tasks = _tasks(mine, table, settled, digests, chunk_bytes)
                shape = rows[split], given.num_slots
                with encoded.appending(
                    new, split, *shape, weighted=given.weighted, dense=given.num_dense
                ) as append:
                    for one in work.in_order(tasks):
                        append(*one)
                        bar.update(len(one.labels))
        for name in vectors:
            (new / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(raw / name, new / name)
        source = sources.with_digests(source, [*digests, *sources.hash_all(others)])
        schema = Schema(given.dataset, given.fields, rows, source, weighted=given.weighted)
        encoded.write_description(new, schema, words)
        return schema


# --- what there is


def _table(raw: Path) -> _Table:
    path = raw / encoded.SCHEMA
    if not path.is_file():
        raise InputError(f"{path}: missing; {_REMEDY}")
    schema, words = encoded.open_schema(raw), raw / encoded.WORDS
    if "spec" in schema.source and not words.exists():
        raise InputError(f"{words}: missing; {_REMEDY}")
    spec = encoder.spec_of(schema, path)
    if spec is None:
        kinds = {field.name: _kind(field) for field in schema.fields}
        fields = tuple(
            FieldSpec(field.name, kinds[field.name], max_len=field.max_len) for field in schema.fields
        )
        weight = "weight" if schema.weighted else None
        try:
            spec = TableSpec(schema.dataset, "label", fields, weight=weight)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    here = [(field.name, field.max_len, field.scale is not None) for field in schema.fields]
    there = [(field.name, field.max_len, field.kind == "dense") for field in spec.fields]
    if here != there or schema.weighted != (spec.weight is not None):
        raise InputError(f"{path}: its fields or weights are not those of its source's spec; {_REMEDY}")
    if any(spec.weight == field.name and field.kind != "dense" for field in spec.fields):
        raise InputError(f"{path}: {spec.weight} is a field and the weight, and no column holds both")
    return _Table(schema, spec)


def _kind(field: Field) -> str:
    return "dense" if field.scale is not None else "multi" if field.max_len > 1 else "categorical"


def _words(raw: Path) -> pl.DataFrame | None:
    path = raw / encoded.WORDS
    return encoder.read_words(path).sort("id") if path.exists() else None


def _check_words(path: Path, words: pl.DataFrame, schema: Schema) -> None:
    """Raise InputError for a vocabulary that is not of the fields of a schema."""
    names = [field.name for field in schema.fields]
    strange = words.filter(~pl.col("field").is_in(names))
    if len(strange):
        raise InputError(f"{path}: has the field {strange['field'][0]!r}, schema.json has not; {_REMEDY}")
    for field in schema.fields:
        mine = words.filter(pl.col("field") == field.name)
        ids = np.arange(field.offset + 1, field.oov, dtype=np.int32)
        if not np.array_equal(mine["id"].to_numpy(), ids) or mine["value"].n_unique() != len(mine):
            raise InputError(
                f"{path}: field {field.name}: its {len(mine)} ids are not those of {len(ids)} values from"
                f" {field.offset + 1} on, as schema.json has it, each once; {_REMEDY}"
            )


def _parts(raw: Path, split: str) -> list[Path]:
    """The parts of a split by their names, without what engines leave beside them."""
    folder = raw / split
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory; put the Parquet parts of {split} there")
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in found if path.is_dir() or not path.name.startswith("_")]
    mine = [path for path in found if path.suffix == ".parquet" and not path.is_dir()]
    for path in found:  # what holds rows must not be left out
        if path not in mine:
            raise InputError(
                f"{path}: is no part; leave *.parquet alone in {folder}, once all of them are written"
            )
    if not mine:
        raise InputError(f"{folder}: has no *.parquet; put the Parquet parts of {split} there")
    return mine


def _look(paths: list[Path], table: _Table) -> tuple[dict[Path, int], Settled]:
    """The rows of each part, and the types of the columns that are as in raw rows; checks all columns."""
    counts: dict[Path, int] = {}
    types: list[tuple[str, columns.Types]] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                counts[path], found = parquet.rows_of(path, file), parquet.types(path, file)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        if counts[path]:
            _check_columns(path, found, table)
            types.append((str(path), found))
    settled = columns.settle(types, table.raw, ())
    return counts, columns.widened(settled, table.schema.source.get(encoder.NARROW, ()))


def _check_columns(path: Path, found: Mapping[str, pl.DataType], table: _Table) -> None:
    missing = [name for name in table.columns if name not in found]
    if missing:
        raise InputError(f"{path}: lacks the columns {', '.join(missing)}; write one for each field")
    for _, one in table.pairs:
        whole = found[one.name]
        inner = whole.inner if isinstance(whole, pl.List) else whole
        lists = isinstance(whole, pl.List) == (one.kind == "multi")
        if one.kind != "dense" and not (lists and isinstance(inner, pl.DataType) and inner.is_integer()):
            wanted = "a list of ids" if one.kind == "multi" else "an id"
            raise InputError(
                f"{path}: column {one.name} has type {whole}; it must be {wanted}, whole numbers: cast it"
            )


# --- from parts to arrays


def _tasks(
    paths: list[Path], table: _Table, settled: Settled, digests: list[str], chunk_bytes: int
) -> Iterator[Callable[[], encoded.Split]]:
    """What is left to do with each chunk of rows once it is read; adds each part's sha256 to digests."""
    spec = table.spec.as_values(settled.value)
    for path in paths:
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                for chunk in parquet.frames(path, file, table.columns, digest, chunk_bytes):
                    yield partial(_arrays, chunk, table._replace(spec=spec), settled)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        digests.append(digest.hexdigest())


def _arrays(chunk: Chunk, table: _Table, settled: Settled) -> encoded.Split:
    texts = {name: columns.text(name, chunk.frame[name], settled) for name in table.raw}
    raw = chunk._replace(frame=pl.DataFrame([column.alias(name) for name, column in texts.items()]))
    found = dict(zip(table.raw, parts.distinct(raw.frame, table.raw), strict=True))
    cells, rows, code = found[table.spec.label]
    labels = parts.labels_of(table.spec, cells, rows, chunk.where)[code].astype(np.float32)
    weights = None
    if table.spec.weight is not None:
        cells, rows, code = found[table.spec.weight]
        weights = parts.weights_of(table.spec.weight, cells, rows, chunk.where).gather(code).to_numpy()
    ids = np.empty((len(labels), table.schema.num_slots), np.int32)
    numbers: list[NDArray[np.float32]] = []
    for (field, one), (start, stop) in zip(table.pairs, table.schema.slots, strict=True):
        column = chunk.frame[field.name]
        if one.kind == "dense":
            assert field.scale is not None
            cells, rows, code = found[field.name]
            values, _ = parts.values_of(one, cells, rows, chunk.where)
            ids[:, start] = np.where(values.is_null().to_numpy(), field.oov, field.offset + 1)[code]
            numbers.append(dense.standardised(values, one, field.scale)[code])
        elif one.kind == "multi":
            ids[:, start:stop] = _lists(field, column, chunk.where)
        else:
            ids[:, start] = _single(field, column, chunk.where)
    return encoded.Split(ids, labels, weights, np.stack(numbers, axis=1) if numbers else None)


def _single(field: Field, column: pl.Series, where: Callable[[int], str]) -> NDArray[Any]:
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise InputError(
            f"{where(row)}: {field.name} is null; the id of a value that the vocabulary lacks is {field.oov}:"
            f" a left join with it needs coalesce(id, {field.oov})"
        )
    first: Any = field.offset + 1
    if column.min() < first or column.max() > field.oov:  # type: ignore[operator]
        row = int((~column.is_between(first, field.oov)).arg_max() or 0)
        raise _not_an_id(field, str(column[row]), where(row))
    return column.to_numpy()


def _lists(field: Field, column: pl.Series, where: Callable[[int], str]) -> NDArray[np.int32]:
    """Ids [n, max_len] of lists: the first of each, without padding, which comes last."""
    one = pl.element()
    good = (one == 0) | one.is_between(field.offset + 1, field.oov)
    bad = column.list.eval(~good.fill_null(False)).list.any().fill_null(False)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise _not_an_id(field, str(column[row].to_list())[:SHOWN], where(row))
    filled = column.list.eval(one.filter(one != 0))
    slots = [filled.list.get(at, null_on_oob=True).fill_null(0) for at in range(field.max_len)]
    return np.stack([slot.cast(pl.Int32).to_numpy() for slot in slots], axis=1)


def _not_an_id(field: Field, value: str, where: str) -> InputError:
    return InputError(
        f"{where}: {field.name} is {value}; its ids are {field.offset + 1} to {field.oov}, the last of which"
        " is of all values that the vocabulary lacks: take them from vocabulary.parquet as they are"
    )
