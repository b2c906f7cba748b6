"""Encodes tables of any size, described by a TableSpec, in bounded memory.

The raw text is parsed once, in chunks. Each column of a chunk becomes its distinct values and a small code
per row, kept on disk; all that follows (bucketing, counting, giving ids) works on distinct values, and a
row is touched once more, when its codes become ids. Values are compared as text, never by hash alone.
"""

import dataclasses
import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tqdm import tqdm

from ektf_jax.data import encoded, rawfiles, vocabulary
from ektf_jax.data.rawfiles import CHUNK_BYTES, SHOWN, Chunk, Layout
from ektf_jax.data.schema import SPLITS, Field, Schema
from ektf_jax.errors import InputError

ENCODER = 1  # raised when the same files and spec come to mean other ids
KINDS = ("categorical", "numeric", "multi")
_MERGED = 2_000_000  # distinct values of one field that a worker counts at a time
_WORKERS = 2  # beside polars's own threads
_ROW = "\0row"  # no column of text without NUL bytes is called that

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class FieldSpec:
    """One field, from the column of the same name.

    kind: "categorical", a value as its text; "numeric", a number as its bucket, floor(ln(x)^2) for x > 2 and
    the integer part of x otherwise (1 otherwise with `paper_buckets`, Section 4.1.2); "multi", up to
    `max_len` values between `separator`s, all of which are counted, as in FuxiCTR.
    missing: the texts (of a numeric field also the buckets) that mean no value. A missing value becomes
    `fill` and is counted like any other, or with no `fill` the field's OOV entry, as FuxiCTR has it; in a
    multi-valued field it is left out.
    min_count: values that fewer training rows hold are OOV.
    """

    name: str
    kind: str = "categorical"
    min_count: int = 1
    missing: tuple[str, ...] = ("",)
    fill: str | None = None
    separator: str = "^"
    max_len: int = 1
    paper_buckets: bool = False

    def __post_init__(self) -> None:
        multi = self.kind == "multi"
        rules = {
            "kind": (self.kind in KINDS, f"one of {', '.join(KINDS)}"),
            "min_count": (self.min_count >= 1, "at least 1"),
            "max_len": (self.max_len >= 1 and (multi or self.max_len == 1), "at least 1, and 1 unless multi"),
            "separator": (bool(self.separator), "at least one character"),
            "fill": (self.fill is None or not multi, "left out of a multi-valued field"),
            "paper_buckets": (not self.paper_buckets or self.kind == "numeric", "left to numeric fields"),
        }
        for key, (holds, wanted) in rules.items():
            if not holds:
                raise InputError(f"field {self.name}: {key} is {getattr(self, key)!r}; it must be {wanted}")


@dataclass(frozen=True)
class TableSpec:
    """A table: its fields in order, its label and how its text is written.

    The label is 0 or 1, or with `above` whether a number, `least` or more, is greater than that.
    """

    dataset: str
    label: str
    fields: tuple[FieldSpec, ...]
    layout: Layout = dataclasses.field(default_factory=Layout)
    above: float | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        names = [self.label, *(field.name for field in self.fields)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{self.dataset}: {', '.join(twice)} is named twice among label and fields")
        if not self.fields:
            raise InputError(f"{self.dataset}: has no fields; name at least one")


@dataclass(frozen=True)
class Derivation:
    """Columns that the raw files lack.

    make: a chunk -> a frame of the same rows with the label's and the fields' columns. needs: the columns
    it reads. files: other files it reads, such as a table to join; their checksums are recorded.
    """

    make: Callable[[Chunk], pl.DataFrame]
    needs: tuple[str, ...]
    files: tuple[Path, ...] = ()


class _Part(NamedTuple):
    """A chunk on disk: `rows` rows from row `start` of all, for `splits`; () if their split is drawn.

    codes: columns "0" to "F-1" and "label", a row per row. values: the same columns without label, one row,
    each a list of the distinct values that the codes count. sizes: the lengths of these lists.
    """

    codes: Path
    values: Path
    start: int
    rows: int
    splits: tuple[str, ...]
    sizes: tuple[int, ...]


def prepare(
    spec: TableSpec,
    files: Sequence[Path] | Mapping[str, Sequence[Path]],
    out: Path,
    *,
    split_seed: int = 2024,
    derivation: Derivation | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Schema:
    """Encodes `files` into `out`; does nothing if `out` already holds the result.

    `files` are those of each split, where test stands in for a missing valid; or a list, whose n rows, in
    order, are numbered and split by numpy.random.default_rng(split_seed).permutation(n): the first
    floor(0.8 n) are train, the next floor(0.1 n) valid, the rest test. Within a split rows keep the order
    of the files. Needs free disk of about half of the text beside the result. After a kill it starts
    again. Raises InputError naming file, line, field and value.
    """
    if split_seed < 0:
        raise InputError(f"split_seed is {split_seed}; it must not be negative")
    listed = _listed(files)
    source = _source(spec, listed, derivation, None if isinstance(files, Mapping) else split_seed)
    existing = _existing(out, source, listed, derivation)
    if existing is not None:
        return existing
    with encoded.replacing(out) as new:
        scratch = new / "scratch"
        scratch.mkdir()
        digests, parts = _parse(spec, listed, scratch, derivation, chunk_bytes)
        source = _with_digests(source, [*digests, *_hash_all(derivation.files if derivation else ())])
        total = parts[-1].start + parts[-1].rows
        drawn = None if isinstance(files, Mapping) else draw_splits(total, split_seed)
        rows = _split_rows(parts, drawn)
        fields, words = _vocabulary(spec, parts, drawn)
        schema = Schema(spec.dataset, fields, rows, source)
        _write(new, schema, spec, words, parts, drawn)
        shutil.rmtree(scratch)
        encoded.write_description(new, schema, words)
    return schema


def draw_splits(rows: int, split_seed: int) -> NDArray[np.uint8]:
    """The split of each row, as its place in SPLITS; see `prepare`. Raises InputError below 10 rows."""
    if rows < 10:
        raise InputError(f"the files have {rows} rows, fewer than the 10 that a split needs; add rows")
    # The same draws as permutation(rows), in half the memory.
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    np.random.default_rng(split_seed).shuffle(order)
    drawn = np.full(rows, 2, np.uint8)
    train, valid = rows * 8 // 10, rows // 10
    drawn[order[:train]] = 0
    drawn[order[train : train + valid]] = 1
    return drawn


# --- what the result is made from


def _listed(files: Sequence[Path] | Mapping[str, Sequence[Path]]) -> list[tuple[Path, tuple[str, ...]]]:
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


def _source(
    spec: TableSpec,
    listed: list[tuple[Path, tuple[str, ...]]],
    derivation: Derivation | None,
    split_seed: int | None,
) -> dict[str, Any]:
    """The schema's source, still without the files' checksums."""
    try:
        entries: list[dict[str, Any]] = [
            {"name": path.name, "splits": list(splits), "bytes": path.stat().st_size}
            for path, splits in listed
        ]
        for path in derivation.files if derivation else ():
            entries.append({"name": path.name, "bytes": path.stat().st_size})
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check the path") from None
    description = json.loads(json.dumps(asdict(spec)))  # with lists for tuples, as it is read back
    text = json.dumps(description, sort_keys=True)
    source = {
        "encoder": ENCODER,
        "spec": description,
        "spec_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    source |= {} if split_seed is None else {"split_seed": split_seed}
    paths = [*(path for path, _ in listed), *(derivation.files if derivation else ())]
    return source | rawfiles.synthetic(paths) | {"files": entries}


def _with_digests(source: dict[str, Any], digests: Sequence[str]) -> dict[str, Any]:
    pairs = zip(source["files"], digests, strict=True)
    return source | {"files": [entry | {"sha256": digest} for entry, digest in pairs]}


def _existing(
    out: Path,
    source: dict[str, Any],
    listed: list[tuple[Path, tuple[str, ...]]],
    derivation: Derivation | None,
) -> Schema | None:
    """The schema in `out` if it was made from `source`; files are only hashed if all else is the same."""
    try:
        found = encoded.open_schema(out).source
    except InputError:
        return None
    entries = found.get("files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    bare = [{key: value for key, value in entry.items() if key != "sha256"} for entry in entries]
    if found | {"files": bare} != source:
        return None
    paths = [*(path for path, _ in listed), *(derivation.files if derivation else ())]
    return encoded.current(out, _with_digests(source, _hash_all(paths)))


def _hash_all(paths: Sequence[Path]) -> list[str]:
    digests = []
    for path in paths:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return digests


# --- from text to codes


def _parse(
    spec: TableSpec,
    listed: list[tuple[Path, tuple[str, ...]]],
    scratch: Path,
    derivation: Derivation | None,
    chunk_bytes: int,
) -> tuple[list[str], list[_Part]]:
    """Writes every chunk as a _Part; the second result lists them. The first is each file's sha256."""
    digests: list[str] = []
    parts: list[_Part] = []
    filled = np.zeros(len(spec.fields), bool)
    total = sum(path.stat().st_size for path, _ in listed)
    with _bar("reading", total, "B") as bar:
        tasks = _parse_tasks(spec, listed, scratch, derivation, chunk_bytes, digests)
        for part, present, read in _in_order(tasks):
            parts.append(part)
            filled |= present
            rate = (part.start + part.rows) / max(bar.format_dict["elapsed"], 1e-9)
            bar.set_postfix({"rows/s": f"{rate:,.0f}"}, refresh=False)
            bar.update(read - bar.n)
    for field, has_value in zip(spec.fields, filled, strict=True):
        if not has_value:
            marks = " or ".join(repr(mark) for mark in field.missing)
            where = str(listed[0][0]) if len(listed) == 1 else f"{listed[0][0]} and the other files"
            raise InputError(f"{where}: {field.name} is {marks} in every row; leave the field out")
    return digests, parts


def _parse_tasks(
    spec: TableSpec,
    listed: list[tuple[Path, tuple[str, ...]]],
    scratch: Path,
    derivation: Derivation | None,
    chunk_bytes: int,
    digests: list[str],
) -> Iterator[Callable[[], tuple[_Part, NDArray[np.bool_], int]]]:
    """Reads chunk after chunk and yields what is left to do with each; adds each file's sha256 to digests."""
    wanted = derivation.needs if derivation else (spec.label, *(field.name for field in spec.fields))
    number = start = done = 0
    for path, splits in listed:
        digest = hashlib.sha256()
        for chunk in rawfiles.chunks(path, spec.layout, wanted, digest, chunk_bytes):
            frame = derivation.make(chunk) if derivation else chunk.frame
            if len(frame) != len(chunk.frame):
                raise ValueError(f"the derivation made {len(frame)} rows of {len(chunk.frame)}")
            whole = chunk._replace(frame=frame, read=done + chunk.read)
            yield partial(_part, spec, whole, scratch, number, start, splits)
            number, start = number + 1, start + len(frame)
        digests.append(digest.hexdigest())
        done += path.stat().st_size


def _part(
    spec: TableSpec, chunk: Chunk, scratch: Path, number: int, start: int, splits: tuple[str, ...]
) -> tuple[_Part, NDArray[np.bool_], int]:
    """Writes a chunk. Also says for each field whether it has a value that is not missing, and chunk.read."""
    names = [spec.label, *(field.name for field in spec.fields)]
    joined = {field.name: field.separator for field in spec.fields}
    columns = []
    for name in names:
        column = chunk.frame[name]
        if isinstance(column.dtype, pl.List):
            column = column.list.join(joined.get(name, ","), ignore_nulls=True)
        columns.append(column.cast(pl.String))
    first, *rest = zip(names, _distinct(pl.DataFrame(columns)), strict=True)
    labels = _labels(spec, *first[1][:2], chunk.where)[first[1][2]]
    codes, values, filled = {}, {}, []
    for index, (field, (_, (texts, rows, code))) in enumerate(zip(spec.fields, rest, strict=True)):
        distinct, has_value = _values(field, texts, rows, chunk.where)
        codes[str(index)] = code
        values[str(index)] = distinct.implode()
        filled.append(has_value)
    part = _Part(
        scratch / f"{number}.codes",
        scratch / f"{number}.values",
        start,
        len(labels),
        splits,
        tuple(len(texts) for _, (texts, _, _) in rest),
    )
    pl.DataFrame(codes | {"label": labels}).write_ipc(part.codes)
    pl.DataFrame(values).write_ipc(part.values)
    return part, np.array(filled), chunk.read


def _distinct(frame: pl.DataFrame) -> list[tuple[pl.Series, NDArray[np.int64], NDArray[Any]]]:
    """Of each column the distinct values, the row that each is in first, and each row's value as a code."""
    rows = np.arange(len(frame), dtype=np.uint32)
    firsts = frame.with_columns(pl.Series(_ROW, rows)).select(
        pl.col(_ROW).first().over(name).alias(name) for name in frame.columns
    )
    result = []
    number = np.empty(len(frame), np.uint32)
    for name in frame.columns:
        first = firsts[name].to_numpy()
        new = np.flatnonzero(first == rows)
        size = np.min_scalar_type(len(new))
        number[new] = np.arange(len(new), dtype=np.uint32)
        result.append((frame[name].gather(new), new, number.astype(size, copy=False)[first]))
    return result


def _labels(
    spec: TableSpec, texts: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> NDArray[np.uint8]:
    numbers = texts.cast(pl.Float64, strict=False)
    good = numbers.is_in([0.0, 1.0]) if spec.above is None else numbers.is_finite()
    wanted = "0 or 1" if spec.above is None else "a number"
    if spec.least is not None:
        good, wanted = good & (numbers >= spec.least), f"{wanted}, at least {spec.least:g}"
    _check(spec.label, texts, good, rows, where, f"the label must be {wanted}; correct or remove the line")
    return (numbers > (0.5 if spec.above is None else spec.above)).cast(pl.UInt8).to_numpy()


def _values(
    field: FieldSpec, texts: pl.Series, rows: NDArray[np.int64], where: Callable[[int], str]
) -> tuple[pl.Series, bool]:
    """What a field counts for each distinct text: text, null if that is nothing; lists if multi-valued."""
    texts = texts.fill_null("")
    marks = list(field.missing)
    missing = texts.is_in(marks)
    if field.kind == "multi":
        filled = pl.element().filter(~pl.element().is_in(["", *marks]))
        lists = texts.set(missing, "").str.split(field.separator).list.eval(filled)
        return lists, bool((lists.list.len() > 0).any())
    values = texts.set(missing, None)
    if field.kind == "numeric":
        numbers = values.cast(pl.Float64, strict=False)
        # Below -2^63 there is no integer part to take; above 2 only the logarithm is taken.
        good = missing | (numbers.is_finite() & (numbers >= -(2.0**63)))
        advice = "it must be a number; correct the line, or name the text among those that mean missing"
        _check(field.name, texts, good, rows, where, advice)
        values = numbers.to_frame("x").select(_bucket(field.paper_buckets)).to_series()
        values = values.set(values.is_in(marks), None)
    present = values.is_not_null().any()
    return values if field.fill is None else values.fill_null(field.fill), bool(present)


def _bucket(paper: bool) -> pl.Expr:
    x = pl.col("x")
    low = pl.when(x.is_not_null()).then(1.0) if paper else x
    return pl.when(x > 2).then(x.log().pow(2).floor()).otherwise(low).cast(pl.Int64).cast(pl.String)


def _check(
    name: str,
    texts: pl.Series,
    good: pl.Series,
    rows: NDArray[np.int64],
    where: Callable[[int], str],
    advice: str,
) -> None:
    bad = np.flatnonzero(~good.fill_null(False).to_numpy())
    if len(bad):
        value = str(texts[int(bad[0])] or "")[:SHOWN]
        raise InputError(f"{where(int(rows[bad[0]]))}: {name} is {value!r}; {advice}")


# --- from codes to ids


def _split_rows(parts: list[_Part], drawn: NDArray[np.uint8] | None) -> dict[str, int]:
    if drawn is not None:
        return dict(zip(SPLITS, np.bincount(drawn, minlength=3).tolist(), strict=True))
    return {split: sum(part.rows for part in parts if split in part.splits) for split in SPLITS}


def _vocabulary(
    spec: TableSpec, parts: list[_Part], drawn: NDArray[np.uint8] | None
) -> tuple[tuple[Field, ...], pl.DataFrame]:
    """The fields and the values they know: those that at least min_count training rows hold."""
    training = [part for part in parts if drawn is not None or "train" in part.splits]
    known = {}
    tasks = (partial(_counted, str(index), field, training, drawn) for index, field in enumerate(spec.fields))
    with _bar("counting", len(spec.fields), "field") as bar:
        for field, values in zip(spec.fields, _in_order(tasks), strict=True):
            known[field.name] = values
            bar.update()
    return vocabulary.lay_out(known, {field.name: field.max_len for field in spec.fields})


def _counted(column: str, field: FieldSpec, parts: list[_Part], drawn: NDArray[np.uint8] | None) -> pl.Series:
    """A field's known values: by count from the highest, then by value.

    Where chunks hold too many distinct values for memory they are counted in shares, by way of the disk:
    equal values have equal hashes, so that each is whole in one share.
    """
    shares = -(-sum(part.sizes[int(column)] for part in parts) // _MERGED)
    if shares == 1:
        found = _merged((_counts(column, part, drawn) for part in parts), field.min_count)
    else:
        spilled = [_spill(column, part, drawn, shares) for part in parts]
        found = pl.concat(
            _merged((pl.scan_ipc(path).slice(*at[share]).collect() for path, at in spilled), field.min_count)
            for share in range(shares)
        )
        for path, _ in spilled:
            path.unlink()
    return found.sort(["count", "value"], descending=[True, False])["value"]


def _spill(
    column: str, part: _Part, drawn: NDArray[np.uint8] | None, shares: int
) -> tuple[Path, list[tuple[int, int]]]:
    """Writes a chunk's counts sorted by share; also says where each share starts and how long it is."""
    share = (pl.col("value").hash(0) % shares).alias("share")
    counts = _counts(column, part, drawn).with_columns(share).sort("share")
    lengths = np.bincount(counts["share"].to_numpy().astype(np.int64), minlength=shares)
    path = part.values.with_suffix(f".counts{column}")
    counts.drop("share").write_ipc(path)
    return path, list(zip((np.cumsum(lengths) - lengths).tolist(), lengths.tolist(), strict=True))


def _merged(parts: Iterable[pl.DataFrame], min_count: int) -> pl.DataFrame:
    """The sums of value, count over chunks, as far as they reach min_count."""
    pending: list[pl.DataFrame] = []
    for counts in parts:
        pending.append(counts)
        if sum(len(one) for one in pending[1:]) > max(_MERGED, len(pending[0])):
            pending = [_summed(pending)]
    return _summed(pending).filter(pl.col("count") >= min_count)


def _counts(column: str, part: _Part, drawn: NDArray[np.uint8] | None) -> pl.DataFrame:
    """value, count of the training rows of a chunk."""
    values, codes = _load(part.values, column)[0], _load(part.codes, column).to_numpy()
    if drawn is not None:
        codes = codes[drawn[part.start : part.start + part.rows] == 0]
    counts = pl.Series("count", np.bincount(codes, minlength=len(values)))
    frame = pl.DataFrame([values.alias("value"), counts]).filter(pl.col("count") > 0)
    if isinstance(values.dtype, pl.List):
        frame = frame.explode("value")
    return frame.drop_nulls()


def _summed(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).group_by("value").agg(pl.col("count").sum())


def _load(path: Path, column: str) -> pl.Series:
    return pl.read_ipc(path, columns=[column])[column]


def _write(
    directory: Path,
    schema: Schema,
    spec: TableSpec,
    words: pl.DataFrame,
    parts: list[_Part],
    drawn: NDArray[np.uint8] | None,
) -> None:
    """Writes the ids and labels of every split."""
    known = [words.filter(pl.col("field") == field.name).select("value", "id") for field in schema.fields]
    with ExitStack() as stack:
        append = {
            split: stack.enter_context(encoded.appending(directory, split, rows, schema.num_slots))
            for split, rows in schema.splits.items()
        }
        bar = stack.enter_context(_bar("writing", sum(part.rows for part in parts), "row"))
        tasks = (partial(_encode, part, schema, known) for part in parts)
        for part, (ids, labels) in zip(parts, _in_order(tasks), strict=True):
            if drawn is None:
                for split in part.splits:
                    append[split](ids, labels)
            else:
                here = drawn[part.start : part.start + part.rows]
                for place, split in enumerate(SPLITS):
                    append[split](ids[here == place], labels[here == place])
            part.codes.unlink()
            part.values.unlink()
            bar.update(part.rows)


def _encode(
    part: _Part, schema: Schema, known: list[pl.DataFrame]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """ids [rows, S] and labels [rows] of a chunk."""
    ids = np.empty((part.rows, schema.num_slots), np.int32)
    codes, values = pl.read_ipc(part.codes), pl.read_ipc(part.values)
    for index, (field, (start, _)) in enumerate(zip(schema.fields, schema.slots, strict=True)):
        code = codes[str(index)].to_numpy()
        for slot, distinct in enumerate(_slots(values[str(index)][0], field.max_len)):
            ids[:, start + slot] = _ids(distinct, field, known[index])[code]
    return ids, codes["label"].cast(pl.Float32).to_numpy()


def _slots(values: pl.Series, max_len: int) -> Iterator[pl.DataFrame]:
    """A column `value` for each slot of the field; and `padding`, where the slot is empty."""
    if not isinstance(values.dtype, pl.List):
        yield pl.DataFrame({"value": values, "padding": pl.repeat(False, len(values), eager=True)})
        return
    for slot in range(max_len):
        value = values.list.get(slot, null_on_oob=True)
        yield pl.DataFrame({"value": value, "padding": value.is_null()})


def _ids(distinct: pl.DataFrame, field: Field, known: pl.DataFrame) -> NDArray[np.int32]:
    joined = distinct.join(known, on="value", how="left", maintain_order="left")
    empty = pl.when("padding").then(0).otherwise(field.oov)
    return joined.select(pl.col("id").fill_null(empty).cast(pl.Int32)).to_series().to_numpy()


def _in_order(tasks: Iterator[Callable[[], _Result]]) -> Iterator[_Result]:
    """The results of tasks that threads run ahead, a few at a time; of several errors the first one's."""
    under_way: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while True:
            try:
                task = next(tasks, None)
            except InputError:
                for earlier in under_way:
                    earlier.result()
                raise
            if task is None:
                break
            under_way.append(pool.submit(task))
            if len(under_way) > _WORKERS:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _bar(name: str, total: int, unit: str) -> tqdm:
    # disable=None: no bar where the output is not a terminal.
    return tqdm(total=total, desc=name, unit=unit, unit_scale=unit != "field", leave=False, disable=None)
