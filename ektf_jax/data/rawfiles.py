"""Raw tables, delimited text or Parquet, read in chunks of rows whose line any error can name."""

import contextlib
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl

from ektf_jax.data import columns, parquet, records
from ektf_jax.data.chunk import SHOWN, Chunk, shown
from ektf_jax.data.columns import Settled
from ektf_jax.data.records import LONE_CR, Block
from ektf_jax.errors import InputError

CHUNK_BYTES = 1 << 25
SYNTHETIC = "SYNTHETIC.txt"  # lies beside raw files that ektf_jax.data.generators made
_GZIP = b"\x1f\x8b"
_AGAIN = "a download that failed or needs a login leaves such pages; get the file again"
_OTHERS = (b"\xfd7zxz", b"\x28\xb5\x2f\xfd", *(b"bzh%d1ay&sy" % level for level in range(1, 10)))
_FOREIGN = {  # what begins with these, blanks and case aside
    "an HTML page": ((b"<!doctype", b"<html", b"<head", b"<body", b"<!--"), _AGAIN),
    "an XML document": ((b"<?xml",), _AGAIN),
    "a pointer of Git LFS": ((b"version https://git-lfs",), "fetch the file itself with `git lfs pull`"),
    "a zip archive": ((b"pk\x03\x04",), "unpack it; text may be gzipped only"),
    "compressed, but not by gzip": (_OTHERS, "unpack it, or use gzip"),
}
_LONGEST_LINE = 1 << 20
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


def chunks(
    path: Path,
    layout: Layout,
    wanted: Sequence[str],
    digest: Any = None,
    chunk_bytes: int = CHUNK_BYTES,
    *,
    settled: Settled | None = None,
    may_be_empty: bool = False,
) -> Iterator[Chunk]:
    r"""The rows of a file, text (gzipped or not) or Parquet, which its first bytes tell.

    Only the columns `wanted` are kept, in the order of the file; () keeps all. `digest`, a hashlib object,
    is fed the file's bytes. Outside quotes \r\n counts as \n, and blank lines at the end of the file as
    nothing. `settled` is `settle` of all files of the table, if there are more than this one. Raises
    InputError naming file and line for what cannot be read: a missing, truncated or binary file, one without
    rows unless it `may_be_empty`, text that is not UTF-8, a header without the wanted columns, a line with
    another number of columns, quotes that end wrongly.
    """
    digest = digest or hashlib.sha256()
    rows = 0
    with _reading(path), path.open("rb") as file:
        if file.peek(4)[:4] == parquet.MAGIC:
            settled = settled or settle([path], wanted)
            for chunk in parquet.chunks(path, file, wanted, settled, digest, chunk_bytes):
                rows += len(chunk.frame)
                yield chunk
        else:
            text: gzip.GzipFile | _Hashed = _Hashed(file, digest)
            if file.peek(2)[:2] == _GZIP:
                text = gzip.GzipFile(fileobj=cast(BinaryIO, text))
            check_head(path, text.peek(512))
            for chunk in _delimited(path, cast(BinaryIO, text), layout, wanted, chunk_bytes):
                rows += len(chunk.frame)
                yield chunk._replace(read=file.tell())
    if not rows and not may_be_empty:
        raise empty(path)


def settle(paths: Iterable[Path], wanted: Sequence[str], lists: Collection[str] = ()) -> Settled:
    """Settles the types of the columns `wanted` over the Parquet files among `paths`; see columns.settle."""

    def found() -> Iterator[tuple[str, columns.Types]]:
        for path in paths:
            with _reading(path), path.open("rb") as file:
                if file.peek(4)[:4] == parquet.MAGIC:
                    yield str(path), parquet.types(path, file)

    return columns.settle(found(), wanted, lists)


def read(path: Path) -> tuple[bytes, bytes]:
    """A file's bytes, and the text in them: the same unless it is gzipped. Raises InputError."""
    with _reading(path):
        data = path.read_bytes()
        return data, gzip.decompress(data) if data[:2] == _GZIP else data


def first_line(path: Path) -> str | None:
    """The first line of a text file, gzipped or not; None for Parquet. Raises InputError."""
    with _reading(path), path.open("rb") as file:
        head = file.peek(4)[:4]
        if head == parquet.MAGIC:
            return None
        text: io.BufferedReader | gzip.GzipFile = file
        if head[:2] == _GZIP:
            text = gzip.GzipFile(fileobj=file)
        line = text.readline(_LONGEST_LINE)
    check_head(path, line)
    return line.decode("utf-8-sig", errors="replace").rstrip("\r\n")


def types(path: Path) -> columns.Types:
    """The types of the columns of a Parquet file; none of a text file."""
    with _reading(path), path.open("rb") as file:
        return parquet.types(path, file) if file.peek(4)[:4] == parquet.MAGIC else {}


def check_head(path: Path, head: bytes) -> None:
    """Raise InputError for a file that begins as something else than a table."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for what, (marks, advice) in _FOREIGN.items():
        if start.startswith(marks):
            raise InputError(f"{path}: is {what}, not a table; {advice}")


def empty(path: Path) -> InputError:
    """The error for a file that should have rows."""
    what = "has no rows" if path.stat().st_size else "is empty"
    return InputError(f"{path}: {what}; replace it by the whole file")


def find(raw: Path, *choices: tuple[str, ...]) -> list[tuple[Path, ...]]:
    """For each choice of names its files in `raw`, as they are or with .gz; () after the first that is whole.

    Raises InputError, naming what is missing, if none is whole, or both forms of a file that has two.
    """
    found: list[tuple[Path, ...]] = []
    for names in choices:
        whole = not any(found) and all(forms(raw, name) for name in names)
        found.append(tuple(form for name in names for form in forms(raw, name)) if whole else ())
    if not any(found):
        wanted = ", or ".join(" and ".join(names) for names in choices)
        there = sorted(path.name for path in raw.iterdir())[:20] if raw.is_dir() else "no directory"
        raise InputError(f"{raw}: the raw files are {wanted} (or with .gz), here is {there}; check --raw")
    once(path for paths in found for path in paths)
    return found


def forms(raw: Path, name: str) -> list[Path]:
    """The files in `raw` that have a name as it is or with .gz: none, one or both."""
    return [path for path in (raw / name, raw / f"{name}.gz") if path.is_file()]


def once(paths: Iterable[Path]) -> None:
    """Raise InputError, naming both, for a table that is there twice: its rows would count twice."""
    names: dict[Path, Path] = {}
    files: dict[tuple[int, int], Path] = {}
    for path in paths:
        with _reading(path):
            status = path.stat()
        first = files.get((status.st_dev, status.st_ino))
        if first:
            same = "" if first == path else f", the same file as {first},"
            raise InputError(f"{path}{same} is matched twice; let one entry name it")
        bare = path.parent.resolve() / (path.name[:-3] if path.name.lower().endswith(".gz") else path.name)
        if bare in names:
            raise InputError(f"{path} and {names[bare]}: are one table, gzipped and not; leave one out")
        files[status.st_dev, status.st_ino] = names[bare] = path


def synthetic(paths: Iterable[Path]) -> dict[str, bool]:
    """For a schema's source: {"synthetic": True} if the generators' notice lies beside any file, else {}."""
    return {"synthetic": True} if any((path.parent / SYNTHETIC).exists() for path in paths) else {}


class _Hashed:
    """A file that feeds what is read from it to a hash."""

    def __init__(self, file: io.BufferedReader, digest: Any):
        self._file, self._digest = file, digest

    def peek(self, size: int) -> bytes:
        return self._file.peek(size)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise InputError(f"{path}: the gzip data end before their end mark; get the whole file") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip data ({error}); get the file again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def _delimited(
    path: Path, file: BinaryIO, layout: Layout, wanted: Sequence[str], chunk_bytes: int
) -> Iterator[Chunk]:
    names = layout.columns
    blocks = records.blocks(path, file, layout.separator if layout.quoting else "", chunk_bytes)
    for number, block in enumerate(blocks):
        if not (number or layout.quoting):
            first_line = block.text[: block.first_end()]
            if b"\r" in first_line.removesuffix(b"\r\n"):
                raise InputError(f"{path}:{block.line}: {LONE_CR}")
        if names is None:
            first, block = block.cut(block.first_end())
            names = _header(path, _line_feeds(path, first, layout), layout)
        # Also of a file without rows: a page on one line, say, is none that counts as empty.
        missing = [name for name in wanted if name not in names]
        if missing:
            has = shown(names) + _other(names, missing)
            raise InputError(f"{path}:1: the header lacks {', '.join(missing)}; it has {has}")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"{path}:1: the header has {', '.join(twice)} more than once; rename all but one"
            )
        if block.text:
            block = _line_feeds(path, block, layout)
            frame = _parse(path, block, layout, names)
            kept = [name for name in names if name in wanted] if wanted else list(names)
            yield Chunk(frame[kept], _Lines(path, block, layout), 0)


def _line_feeds(path: Path, block: Block, layout: Layout) -> Block:
    return block._replace(text=records.line_feeds(path, block, layout.quoting)) if block.clean else block


def _header(path: Path, block: Block, layout: Layout) -> tuple[str, ...]:
    names = next(_slow(path, block, layout))[1]
    if not names:
        raise InputError(f"{path}:{block.line}: the header is a blank line; name the columns there")
    return tuple(names)


def _other(names: Sequence[str], missing: Sequence[str]) -> str:
    """What is to be said of a header that is one of the missing columns, and more, by another separator."""
    for separator in (",", "\t", ";", "|") if len(names) == 1 else ():
        if set(names[0].split(separator)) & set(missing):
            return f"; what separates its columns is {separator!r}"
    return ""


def _parse(path: Path, block: Block, layout: Layout, names: tuple[str, ...]) -> pl.DataFrame:
    """A block's rows, by polars; what polars rejects or may have misread is read again, slowly.

    polars fills up short lines and reports no line numbers. It does reject long lines, so that the number
    of separators tells whether any line was short.
    """
    text = block.text
    quoted = layout.quoting and b'"' in text
    separator, body = layout.separator, text
    if len(separator.encode()) > 1 and _UNIT.encode() not in text:
        separator, body = _UNIT, text.replace(layout.separator.encode(), _UNIT.encode())
    blank = len(names) == 1 and (b"\n\n" in text or text.startswith(b"\n"))  # a row to polars
    frame = None
    if len(separator.encode()) == 1 and block.clean and not blank:
        try:
            frame = pl.read_csv(
                body,
                has_header=False,
                separator=separator,
                quote_char='"' if quoted else None,
                schema=dict.fromkeys(names, pl.String),
                empty_string_is_null=False,
            )
        except (pl.exceptions.PolarsError, OSError):  # OSError: "x^" begins compressed data, too
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
    for number, row in _slow(path, block, layout):
        if len(row) != len(names) and any("\r" in value for value in row):
            raise InputError(f"{path}:{number}: {LONE_CR}")
        if layout.loose and len(row) > len(names):
            row = _requoted(row, layout)[: len(names)]
        if len(row) != len(names):
            start = layout.separator.join(row)[:SHOWN]
            raise InputError(
                f"{path}:{number}: has {len(row)} columns, not the {len(names)} of {shown(names)}:"
                f" {start!r}; correct the line, or the separator"
            )
        rows.append(row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _slow(path: Path, block: Block, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of each record of a block, by Python alone."""
    line, text = block.line, block.text
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
    # To the csv module a \r ends a line as \n does; with anything after it, it is an error outside quotes.
    alone = re.search("\r(?!\n)", decoded)
    if alone:
        decoded = re.sub("\r(?!\n)", "\r\0", decoded)
    reader = csv.reader(io.StringIO(decoded, newline="\n"), delimiter=layout.separator, strict=True)
    before = 0
    try:
        for record in reader:
            yield line + before, [value.replace("\r\0", "\r") for value in record] if alone else record
            before = reader.line_num
    except csv.Error as error:
        if "new-line character" in str(error):
            raise InputError(f"{path}:{line + before}: {LONE_CR}") from None
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

    def __init__(self, path: Path, block: Block, layout: Layout):
        self._path, self._block, self._layout = path, block, layout

    def __call__(self, row: int) -> str:
        line = self._block.line + row
        if self._layout.quoting and b'"' in self._block.text:
            records = _slow(self._path, self._block, self._layout)
            line = next(number for at, (number, _) in enumerate(records) if at == row)
        return f"{self._path}:{line}"
