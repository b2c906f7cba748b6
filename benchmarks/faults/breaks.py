"""Ways to break the bytes of a file, each drawn from a random.Random."""

import random
import re
from collections.abc import Callable

_TOKEN = re.compile(rb"[\w.+-]+")
_OTHERS = (
    b"null",
    b"-1",
    b"0",
    b"1.5",
    b"1e999",
    b"true",
    b'"x"',
    b"[]",
    b"{}",
    b'""',
    b"9" * 30,
    b"x y",
    b"NaN",
)
_INSERTED = {
    "NUL": b"\0",
    "byte order mark": b"\xef\xbb\xbf",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "long line": b"a" * 200_000 + b"\n",
    "invalid UTF-8": b"\xc3\x28\xff",
    "half a surrogate": b"\xed\xa0\x80",
    "line end": b"\r",
    "quote": b'"',
}


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _blocks(data: bytes, rng: random.Random) -> tuple[int, int, int, int]:
    """Two stretches of a length that do not overlap: start and stop of each."""
    size = rng.randint(1, max(1, min(64, len(data) // 2)))
    first = rng.randrange(max(1, len(data) - 2 * size + 1))
    second = rng.randrange(first + size, max(first + size + 1, len(data) - size + 1))
    return first, first + size, second, second + size


def _swap(data: bytes, rng: random.Random) -> bytes:
    a, b, c, d = _blocks(data, rng)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    a, b, _, _ = _blocks(data, rng)
    return data[:b] + data[a:b] + data[b:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.choice([0, len(data), rng.randint(0, len(data))])
    return data[:at] + _INSERTED[rng.choice(list(_INSERTED))] + data[at:]


def _retype(data: bytes, rng: random.Random) -> bytes:
    """A word, a number or a text in quotes becomes something of another type."""
    found = list(_TOKEN.finditer(data))
    if not found:
        return _flip(data, rng)
    start, stop = rng.choice(found).span()
    if data[start - 1 : start] == b'"' == data[stop : stop + 1] and rng.random() < 0.5:
        start, stop = start - 1, stop + 1
    return data[:start] + rng.choice(_OTHERS) + data[stop:]


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "flip a bit": _flip,
    "swap two blocks": _swap,
    "repeat a block": _repeat,
    "insert": _insert,
    "another type": _retype,
}


def broken(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Break some bytes in one way; returns its name and bytes that differ from those given."""
    while True:
        way = rng.choice(list(WAYS))
        found = WAYS[way](data, rng)
        if found != data:
            return way, found
