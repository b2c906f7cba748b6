"""Where the records of delimited text end: quoted values may hold line ends, and quotes may be characters.

The rules are those of Python's csv module in strict mode. A quote at the start of a value opens it; the next
that is not doubled closes it, and must be its end. Any other quote is a character of its value.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ektf_jax.errors import InputError

_MAX_RECORD = 1 << 26
_LF, _CR, _QUOTE = b'\n\r"'
LONE_CR = "a carriage return alone ends a line or stands in it; end lines with \\n or \\r\\n"


class Block(NamedTuple):
    """Whole records.

    line: the number of the first line. bounds: where quoted values begin and end, in turns. clean: whether
    all quotes belong to quoted values; if not, or if one of these does not end as it should, only the csv
    module reads the block as it must be.
    """

    line: int
    text: bytes
    bounds: NDArray[np.int64]
    clean: bool

    def cut(self, end: int) -> tuple["Block", "Block"]:
        """The first `end` bytes, which are whole records, and the rest."""
        place = int(np.searchsorted(self.bounds, end))
        line = self.line + self.text.count(b"\n", 0, end)
        return (
            self._replace(text=self.text[:end], bounds=self.bounds[:place]),
            Block(line, self.text[end:], self.bounds[place:] - end, self.clean),
        )

    def first_end(self) -> int:
        """Where the first record ends."""
        inner, start = map(int, self.bounds), 0
        for opening in inner:
            end = self.text.find(b"\n", start, opening)
            if end >= 0:
                return end + 1
            start = next(inner, len(self.text))
        return (self.text.find(b"\n", start) + 1) or len(self.text)


def blocks(path: Path, file: BinaryIO, quoted_by: str, chunk_bytes: int) -> Iterator[Block]:
    """The text in blocks; `quoted_by` is the separator if values may be quoted, else "".

    A byte order mark and blank lines at the end of the file are left out.
    """
    separator = quoted_by.encode()
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
        block = _whole(line, rest, separator)
        if block.text:
            yield block
            line += block.text.count(b"\n")
            rest = rest[len(block.text) :]
        elif len(rest) > max(_MAX_RECORD, chunk_bytes):
            hint = "is a quote never closed, or quoting false?" if separator else "is it a text file?"
            if b"\r" in rest and b"\n" not in rest:
                hint = LONE_CR
            raise InputError(f"{path}:{line}: no end of this record in {len(rest):,} bytes; {hint}")
    if rest.strip(b"\r\n"):
        text = rest.rstrip(b"\r\n") + b"\n"
        bounds, clean, _ = _quoted(text, separator)
        yield Block(line, text, bounds, clean == len(text))


def line_feeds(path: Path, block: Block, quoting: bool) -> bytes:
    r"""The text of a clean block with \n for each \r\n outside quotes; InputError if a \r stands there alone.

    Without quoting only one at a line's end is refused: elsewhere it is a character.
    """
    if b"\r" not in block.text:
        return block.text
    if not len(block.bounds):
        text = block.text.replace(b"\r\n", b"\n")
        at = text.find(b"\r" if quoting else b"\r\n")
        if at >= 0:
            raise _lone(path, block.line, text, at)
        return text
    data = np.frombuffer(block.text, np.uint8)
    every = np.flatnonzero(data == _CR)
    returns = every[np.searchsorted(block.bounds, every) % 2 == 0]
    alone = returns[data[returns + 1] != _LF]
    if len(alone):
        raise _lone(path, block.line, block.text, int(alone[0]))
    if len(returns) == len(every):
        return block.text.replace(b"\r\n", b"\n")
    return np.delete(data, returns).tobytes()


def _lone(path: Path, line: int, text: bytes, at: int) -> InputError:
    number = line + text.count(b"\n", 0, at)
    return InputError(f"{path}:{number}: {LONE_CR}")


def _whole(line: int, text: bytes, separator: bytes) -> Block:
    """The whole records at the start of a text; blank lines at its end may be the file's last and stay."""
    none = np.empty(0, np.int64)
    solid = len(text.rstrip(b"\r\n"))
    if not solid:
        return Block(line, b"", none, True)
    if not separator or b'"' not in text:
        end = text.find(b"\n", solid) + 1 or text.rfind(b"\n") + 1
        return Block(line, text[:end], none, True)
    bounds, clean, wrong = _quoted(text, separator)
    # The csv module refuses a record with a wrong quote, and says why.
    end = text.find(b"\n", wrong) + 1 if wrong >= 0 else _last_end(text, bounds, solid)
    return Block(line, text[:end], bounds[: np.searchsorted(bounds, end)], clean >= end)


def _last_end(text: bytes, bounds: NDArray[np.int64], solid: int) -> int:
    """Where the last record ends whose line end is outside quotes; 0 if none does."""
    if len(bounds) % 2 == 0 and (end := text.find(b"\n", solid) + 1):
        return end
    stop = len(text)
    for place in range(len(bounds) - 1, -1, -1):
        if place % 2 and (end := text.rfind(b"\n", int(bounds[place]), stop) + 1):
            return end  # after the value that ends at this place
        stop = int(bounds[place])
    return text.rfind(b"\n", 0, stop) + 1


def _quoted(text: bytes, separator: bytes) -> tuple[NDArray[np.int64], int, int]:
    """The bounds of quoted values; how far all quotes belong to one; where one ends wrongly, or -1.

    If a value is not closed the last bound is its opening.
    """
    if not separator or b'"' not in text:
        return np.empty(0, np.int64), len(text), -1
    data = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    first, end = bytes((separator[0], _LF)), bytes((separator[0], _LF, _CR))
    right = [
        _beside(data, quotes[0::2], -1, first + b'"'),  # opens a value, or is the second of a doubled one
        _beside(data, quotes[1::2], 1, end + b'"'),
    ]
    if right[0].all() and right[1].all():
        return quotes, len(text), -1
    wrong = min(int(quotes[turn::2][~one][0]) for turn, one in enumerate(right) if not one.all())
    return _one_by_one(quotes, _beside(data, quotes, -1, first), _beside(data, quotes, 1, end), wrong)


def _beside(
    data: NDArray[np.uint8], places: NDArray[np.int64], step: int, wanted: bytes
) -> NDArray[np.bool_]:
    """Whether the bytes one step from `places` are among those wanted, as is what lies beyond both ends."""
    table = np.zeros(256, bool)
    table[list(wanted)] = True
    found = table[data.take(places + step, mode="clip")]
    found[(places == 0) if step < 0 else (places == len(data) - 1)] = True
    return found


def _one_by_one(
    quotes: NDArray[np.int64],
    opens: NDArray[np.bool_],
    closes: NDArray[np.bool_],
    clean: int,
) -> tuple[NDArray[np.int64], int, int]:
    places, openings = quotes.tolist(), np.flatnonzero(opens).tolist()
    bounds: list[int] = []
    at = 0
    for opening in openings:
        if opening < at:
            continue
        bounds.append(places[opening])
        at = opening + 1
        while at + 1 < len(places) and places[at + 1] == places[at] + 1:
            at += 2
        if at >= len(places):
            break
        bounds.append(places[at])
        if not closes[at]:
            return np.array(bounds, np.int64), clean, places[at]
        at += 1
    return np.array(bounds, np.int64), clean, -1
