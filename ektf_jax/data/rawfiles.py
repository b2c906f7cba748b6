"""Raw tables, delimited text or Parquet, read in chunks of rows whose line any error can name."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import polars as pl

from ektf_jax.errors import InputError

CHUNK_BYTES = 1 << 25
SYNTHETIC = "SYNTHETIC.txt"  # lies beside raw files that ektf_jax.data.generators made
SHOWN = 100  # characters of a bad value that a message quotes
_MAX_RECORD = 1 << 26
_UNIT = "\x1f"  # the separator of one byte that stands in for one of several


@dataclass(frozen=True)
class Layout:
    """How rows are written in delimited text; Parquet needs none of it.

    columns: the names of the columns in order, for files without a header; None where each has its own.
    quoting: values may stand in double quotes, with "" for a quote inside; off, a quote is an ordinary
    character. loose: without quoting, a line of too many columns is read as if quoted, and what it still has
    beyond the last column is dropped; off, it is an error.
    """

    separator: str = ","
    columns: tuple[str, ...] | None = None
    quoting: bool = True
    loose: bool = False

    def __post_init__(self) -> None:
        if not self.separator or set(self.separator) & set('\n\r"'):
            raise InputError(f"separator is {self.separator!r}; it must be one or more ordinary characters")
        if self.quoting and len(self.separator.encode()) > 1:
            raise InputError(
                f"separator is {self.separator!r}; where values are quoted it must be one ASCII character"
            )


class Chunk(NamedTuple):
    """Rows in file order, every column as text (null or "" where empty; a Parquet list stays a list).

    where: row in the chunk -> "FILE:LINE". read: bytes of the file read so far.
    """

    frame: pl.DataFrame
    where: Callable[[int], str]
    read: int


def chunks(
    path: Path,
    layout: Layout,
    wanted: Sequence[str],
    digest: Any = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Chunk]:
    r"""The rows of a file, text (gzipped or not) or Parquet, which its first bytes tell.

    Only the columns `wanted` are kept, in the order of the file; () keeps all. `digest`, a hashlib object,
    is fed the file's bytes. \r\n counts as \n, and blank lines at the end of the file as nothing. Raises
    InputError naming file and line for what cannot be read: a missing, empty, truncated or binary file,
    text that is not UTF-8, a header without the wanted columns, a line with another number of columns.
    """
    try:
        with path.open("rb") as file:
            digest = digest or hashlib.sha256()
            magic = file.peek(4)[:4]
            if not magic:
                raise InputError(f"{path}: is empty; replace it by the whole file")
            if magic == b"PAR1":
                yield from _parquet(path, file, wanted, digest, chunk_bytes)
                return
            raw = cast(BinaryIO, _Hashed(file, digest))
            text = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if magic[:2] == b"\x1f\x8b" else raw
            for chunk in _delimited(path, text, layout, wanted, chunk_bytes):
                yield chunk._replace(read=file.tell())
    except EOFError:
        raise InputError(f"{path}: the gzip data end before their end mark; get the whole file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip data ({error}); get the file again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def find(raw: Path, *choices: tuple[str, ...]) -> list[tuple[Path, ...]]:
    """For each choice of names its files in `raw`, as they are or with .gz; () after the first that is whole.

    Raises InputError, naming what is missing, if none is whole.
    """
    found: list[tuple[Path, ...]] = []
    for names in choices:
        paths = [next((p for p in (raw / name, raw / f"{name}.gz") if p.is_file()), None) for name in names]
        whole = not any(found) and None not in paths
        found.append(tuple(path for path in paths if path) if whole else ())
    if not any(found):
        wanted = ", or ".join(" and ".join(names) for names in choices)
        there = sorted(path.name for path in raw.iterdir())[:20] if raw.is_dir() else "no directory"
        raise InputError(f"{raw}: the raw files are {wanted} (or with .gz), here is {there}; check --raw")
    return found


def synthetic(paths: Iterable[Path]) -> dict[str, bool]:
    """For a schema's source: {"synthetic": True} if the generators' notice lies beside any file, else {}."""
    return {"synthetic": True} if any((path.parent / SYNTHETIC).exists() for path in paths) else {}


class _Hashed:
    """A file that feeds what is read from it to a hash."""

    def __init__(self, file: BinaryIO, digest: Any):
        self._file, self._digest = file, digest

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data


def _delimited(
    path: Path, file: BinaryIO, layout: Layout, wanted: Sequence[str], chunk_bytes: int
) -> Iterator[Chunk]:
    names = layout.columns
    rows = 0
    for line, block in _records(path, file, layout.quoting, chunk_bytes):
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if names is None:
            end = _header_end(block, layout.quoting)
            names = _header(path, block[:end], layout)
            line += block.count(b"\n", 0, end)
            block = block[end:]
        if block:
            missing = [name for name in wanted if name not in names]
            if missing:
                raise InputError(f"{path}:1: the header lacks {', '.join(missing)}; it has {_shown(names)}")
            frame = _parse(path, block, layout, names, line)
            rows += len(frame)
            kept = [name for name in names if name in wanted] if wanted else list(names)
            yield Chunk(frame.select(kept), _Lines(path, block, layout, line), 0)
    if rows == 0:
        raise InputError(f"{path}: has no rows; replace it by the whole file")


def _records(path: Path, file: BinaryIO, quoting: bool, chunk_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The text in blocks of whole records, with the number of their first line.

    A byte order mark and blank lines at the end of the file are left out.
    """
    rest, line = b"", 1
    while data := file.read(chunk_bytes):
        if line == 1 and not rest:
            if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise InputError(f"{path}:1: is UTF-16; convert it to UTF-8")
            data = data.removeprefix(b"\xef\xbb\xbf")
        nul = data.find(b"\0")
        if nul >= 0:
            at = line + rest.count(b"\n") + data.count(b"\n", 0, nul)
            raise InputError(
                f"{path}:{at}: has a NUL byte, so it is no text; give text, gzipped or not, or Parquet"
            )
        rest += data
        end = _records_end(rest, quoting)
        if end:
            yield line, rest[:end]
            line += rest.count(b"\n", 0, end)
            rest = rest[end:]
        elif len(rest) > max(_MAX_RECORD, chunk_bytes):
            hint = "is a quote never closed, or quoting false?" if quoting else "is it a text file?"
            raise InputError(f"{path}:{line}: no end of this record in {len(rest):,} bytes; {hint}")
    if rest.strip(b"\r\n"):
        yield line, rest.rstrip(b"\r\n") + b"\n"


def _records_end(text: bytes, quoting: bool) -> int:
    """Where the last whole record ends; blank lines after it may be the file's last and stay behind."""
    solid = len(text.rstrip(b"\r\n"))
    if not solid:
        return 0
    end = text.find(b"\n", solid) + 1 or text.rfind(b"\n") + 1
    if not quoting:
        return end
    # A line feed between quotes ends no record: there an odd number of quotes came before.
    odd = text.count(b'"', 0, end) % 2
    while odd and end:
        before = text.rfind(b"\n", 0, end - 1) + 1
        odd ^= text.count(b'"', before, end) % 2
        end = before
    return end


def _header_end(text: bytes, quoting: bool) -> int:
    end = text.index(b"\n") + 1
    while quoting and text.count(b'"', 0, end) % 2:
        end = text.index(b"\n", end) + 1
    return end


def _header(path: Path, text: bytes, layout: Layout) -> tuple[str, ...]:
    names = next(_slow(path, text, layout, 1))[1]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"{path}:1: the header has {', '.join(twice)} more than once; rename all but one")
    return tuple(names)


def _parse(path: Path, text: bytes, layout: Layout, names: tuple[str, ...], line: int) -> pl.DataFrame:
    """A block's rows, by polars; what polars rejects or may have misread is read again, slowly.

    polars fills up short lines and reports no line numbers. It does reject long lines, so that the number
    of separators tells whether any line was short.
    """
    quoted = layout.quoting and b'"' in text
    separator, body = layout.separator, text
    if len(separator.encode()) > 1 and _UNIT.encode() not in text:
        separator, body = _UNIT, text.replace(layout.separator.encode(), _UNIT.encode())
    frame = None
    if len(separator.encode()) == 1:
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                separator=separator,
                quote_char='"' if quoted else None,
                schema=dict.fromkeys(names, pl.String),
            )
        except pl.exceptions.PolarsError:
            frame = None
    if frame is not None:
        separators, lines = body.count(separator.encode()), body.count(b"\n")
        if quoted:
            inside = frame.select(
                pl.sum_horizontal(pl.all().str.count_matches(mark, literal=True).sum())
                .fill_null(0)
                .alias(name)
                for name, mark in (("separators", separator), ("lines", "\n"))
            ).row(0)
            separators, lines = separators - inside[0], lines - inside[1]
        if len(frame) == lines and separators == lines * (len(names) - 1):
            return frame
    rows = []
    for number, row in _slow(path, text, layout, line):
        if layout.loose and len(row) > len(names):
            row = _requoted(row, layout)[: len(names)]
        if len(row) != len(names):
            shown = layout.separator.join(row)[:SHOWN]
            raise InputError(
                f"{path}:{number}: has {len(row)} columns, not the {len(names)} of {_shown(names)}:"
                f" {shown!r}; correct the line, or the separator"
            )
        rows.append(row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _slow(path: Path, text: bytes, layout: Layout, line: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of each record of a block, by Python alone."""
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + text.count(b"\n", 0, error.start)
        bad = text[error.start : error.start + 1]
        raise InputError(f"{path}:{at}: byte {bad!r} is not UTF-8; convert the file to UTF-8") from None
    if not layout.quoting:
        for number, one in enumerate(decoded.removesuffix("\n").split("\n"), line):
            yield number, one.split(layout.separator) if one else []
        return
    reader = csv.reader(io.StringIO(decoded, newline=""), delimiter=layout.separator, strict=True)
    before = 0
    try:
        for record in reader:
            yield line + before, record
            before = reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{path}:{line + before}: {error}; correct the quotes, or set quoting to false"
        ) from None


def _requoted(row: list[str], layout: Layout) -> list[str]:
    """A line's values if it is right with quotes, else as they are."""
    try:
        return next(csv.reader([layout.separator.join(row)], delimiter=layout.separator, strict=True))
    except csv.Error:
        return row


class _Lines:
    """Row of a block -> "FILE:LINE", found only when an error asks."""

    def __init__(self, path: Path, text: bytes, layout: Layout, line: int):
        self._path, self._text, self._layout, self._line = path, text, layout, line

    def __call__(self, row: int) -> str:
        line = self._line + row
        if self._layout.quoting and b'"' in self._text:
            records = _slow(self._path, self._text, self._layout, self._line)
            line = next(number for at, (number, _) in enumerate(records) if at == row)
        return f"{self._path}:{line}"


def _parquet(
    path: Path, file: BinaryIO, wanted: Sequence[str], digest: Any, chunk_bytes: int
) -> Iterator[Chunk]:
    while data := file.read(1 << 20):
        digest.update(data)
    size, done = file.tell(), 0
    try:
        schema = pl.read_parquet_schema(path)
        missing = [name for name in wanted if name not in schema]
        if missing:
            raise InputError(
                f"{path}: lacks the columns {', '.join(missing)}; it has {_shown(tuple(schema))}"
            )
        table = pl.scan_parquet(path)
        total = table.select(pl.len()).collect().item()
        if total == 0:
            raise InputError(f"{path}: has no rows; replace it by the whole file")
        kept = [name for name in schema if name in wanted] if wanted else list(schema)
        texts = [_as_text(name, schema[name]) for name in kept]
        rows = max(1, chunk_bytes // (8 * len(kept)))
        for batch in table.select(texts).collect_batches(chunk_size=rows, maintain_order=True):
            start, done = done, done + len(batch)
            for part in batch.iter_slices(rows):
                yield Chunk(part, _Rows(path, start), size * done // total)
                start += len(part)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:SHOWN]
        raise InputError(f"{path}: damaged or unsupported Parquet ({reason}); write it again") from None


def _as_text(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind == pl.Boolean:
        return column.cast(pl.Int8).cast(pl.String)
    return column.cast(pl.List(pl.String) if isinstance(kind, pl.List) else pl.String)


class _Rows:
    def __init__(self, path: Path, start: int):
        self._path, self._start = path, start

    def __call__(self, row: int) -> str:
        return f"{self._path}: row {self._start + row + 1}"


def _shown(names: tuple[str, ...]) -> str:
    text = ", ".join(names)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
