"""Random values as pure functions of a key and a counter, and their text: what the generators are made of.

What is drawn for counter i does not depend on which others are drawn. So files come out the same whatever
the chunks they are written in, and an attribute of a user or a song needs no table: the id draws it again.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Text = NDArray[np.void]  # [N] of fixed width; NUL bytes stand for nothing

_SEGMENTS = 4096  # of a quantile function: 64 KB a column, and shares are multiples of 1 / 4096
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Quantiles(NamedTuple):
    """A piecewise linear quantile function: segment i covers ranks [starts[i], starts[i] + widths[i])."""

    starts: NDArray[np.float64]
    widths: NDArray[np.float64]


def key(*parts: object) -> int:
    """64 bits named by `parts`: the key of one independent stream."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def bits(stream: int, counters: Ints) -> NDArray[np.uint64]:
    """64 random bits for each counter [N]: SplitMix64, which the key sends elsewhere on its one orbit."""
    mixed = counters.astype(np.uint64)
    mixed *= _GOLDEN
    mixed += np.uint64(stream)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def uniform(stream: int, counters: Ints) -> NDArray[np.float64]:
    """Uniform on (0, 1), both excluded, [N]."""
    return ((bits(stream, counters) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def effect(stream: int, values: Ints) -> NDArray[np.float64]:
    """The hidden effect of each value [N], a function of the value alone: uniform, mean 0 and deviation 1."""
    return (uniform(stream, values) - 0.5) * np.sqrt(12.0)


def quantiles(
    values: int, *, exponent: float, missing: float = 0.0, rare: float = 0.0, rares: int = 0
) -> Quantiles:
    """Ranks with P(r) close to r**-exponent for 1 to `values`, uniform for the `rares` after, 0 for missing.

    `missing` and `rare` are the shares of the draws that these two get, rounded to 1 / 4096.
    """
    absent = round(missing * _SEGMENTS)
    tail = round(rare * _SEGMENTS) if rares else 0
    at = np.linspace(0.0, 1.0, _SEGMENTS - absent - tail + 1)
    power = _power(exponent)
    head = np.exp(np.log1p(at * np.expm1(power * np.log(values + 1.0))) / power)
    head[-1] = values + 1  # exactly, so that no draw rounds past the last value
    after = values + 1 + np.linspace(0.0, rares, tail + 1)
    starts = np.concatenate([np.zeros(absent), head[:-1], after[:-1]])
    widths = np.concatenate([np.zeros(absent), np.diff(head), np.diff(after)])
    return Quantiles(starts, widths * (1 - 2.0**-40))


def exponent(values: int, draws: float, least: float, steepest: float = 1.2) -> float:
    """The steepest fall, up to `steepest`, at which the last of `values` ranks is expected `least` times.

    In so many draws. 0, which is uniform, where even that gives it fewer.
    """

    def enough(tried: float) -> bool:
        power = _power(tried)
        total = np.expm1(power * np.log(values + 1.0)) / power
        return bool(draws * (values + 0.5) ** -tried >= least * total)

    if enough(steepest):
        return steepest
    low, high = 0.0, steepest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def ranks(stream: int, counters: Ints, of: Quantiles) -> Ints:
    """One rank for each counter [N]; 0 is missing."""
    drawn = bits(stream, counters)
    segment = (drawn >> np.uint64(52)).astype(np.int64)
    drawn &= np.uint64((1 << 52) - 1)
    inside = drawn.astype(np.float64)
    inside *= 2.0**-52
    inside *= of.widths[segment]
    inside += of.starts[segment]
    return inside.astype(np.int64)


def ids(ranks: Ints, size: int) -> Ints:
    """Each of the ranks 1 to size as one of the numbers 1 to size, in no order of frequency; 0 stays 0."""
    step = next(prime for prime in (611_953, 611_957) if size % prime)  # no factor in common: a permutation
    return np.where(ranks > 0, ranks * step % size + 1, 0)


def several(counts: Ints, values: Sequence[Ints]) -> list[Ints]:
    """The values [N] of each slot, made 0 beyond the row's count and where an earlier slot has the same."""
    kept: list[Ints] = []
    for slot, value in enumerate(values):
        dropped = counts <= slot
        for earlier in kept:
            dropped |= value == earlier
        kept.append(np.where(dropped, 0, value))
    return kept


def table(entries: Sequence[str], encoding: str = "utf-8") -> Text:
    """Texts to be taken by number, padded to one width."""
    encoded = [entry.encode(encoding) for entry in entries]
    width = max(1, *(len(entry) for entry in encoded))
    return np.array(encoded, f"S{width}").view(f"V{width}")


def choices(entries: str) -> Text:
    """A table for the ranks of a column: nothing for 0, then what stands between the bars in `entries`."""
    return table(["", *entries.split("|")])


def where(present: Mask, entry: str) -> Text:
    """`entry` where present [N], else nothing."""
    return table(["", entry])[present.astype(np.int64)]


def decimal(values: Ints, present: Mask, digits: int = 8) -> Text:
    """Numbers of at most `digits` digits, none negative; nothing where not present."""
    groups = -(-digits // 4)
    text = np.empty((values.size, groups), np.uint32)
    for group in range(groups):
        unit = 10_000 ** (groups - 1 - group)
        part = values // unit if unit > 1 else values
        if group == 0:
            text[:, 0] = np.where(present if unit == 1 else present & (part > 0), _PLAIN[part], 0)
        else:
            part = part % 10_000
            first = np.where(values >= unit if unit > 1 else True, _PLAIN[part], 0)
            text[:, group] = np.where(values >= unit * 10_000, _PADDED[part], first)
            text[~present, group] = 0
    return text.view(f"V{4 * groups}").ravel()


def hexadecimal(stream: int, values: Ints) -> Text:
    """Eight hexadecimal digits of each value [N], other ones for other values below 2**32; nothing for 0."""
    mixed = values.astype(np.uint32)
    mixed ^= np.uint32(stream & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # each step is one-to-one
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    text = _HEX[mixed.view(np.uint16).reshape(-1, 2)]
    text[values == 0] = 0
    return text.view("V8").ravel()


def base64(stream: int, values: Ints) -> Text:
    """44 characters for each value [N], like a base64 SHA-256; nothing for 0."""
    words = np.stack([bits((stream + part) % 2**64, values) for part in range(6)], axis=1)
    text = _BASE64[words.view(np.uint16)[:, :22] & 0xFFF]
    text.view(np.uint8)[:, 43] = ord("=")
    text[values == 0] = 0
    return text.view("V44").ravel()


def name(ids: Ints, encoding: str = "utf-8", *, plain: bool = False) -> tuple[list[Text], Mask]:
    """A name for each id [N] below 2**24, others for others; nothing for 0.

    Unless plain, one in eight is Chinese, one has a comma and one has doubled quotes inside. Returns the
    parts, to be run together, and where a CSV file must quote them.
    """
    present = ids > 0
    style = np.zeros_like(ids) if plain else np.where(present, ids % 8, 0)
    syllables = _syllables(encoding)
    parts = []
    for place in range(4):
        digit = (ids >> 6 * place) % 64
        at = 1 + digit + 64 * (place % 2) + 128 * (style == 1)
        parts.append(syllables[np.where(present, at, 0)])
    gaps, ends = table(["", " ", "", ", ", ' ""']), table(["", '""'])
    parts.insert(2, gaps[np.where(present, np.where(style < 4, style + 1, 1), 0)])
    parts.append(ends[(style == 3).astype(np.int64)])
    return parts, (style == 2) | (style == 3)


def quoted(parts: Sequence[Text], needed: Mask) -> list[Text]:
    """The parts between quotes where needed [N]."""
    mark = where(needed, '"')
    return [mark, *parts, mark]


def joined(values: Sequence[Ints], text: Callable[[Ints], Text], separator: str) -> list[Text]:
    """The texts of a multi-valued column's slots, those that are not 0, with separators between them."""
    parts: list[Text] = []
    for slot, value in enumerate(values):
        parts += [where(value > 0, separator)] if slot else []
        parts.append(text(value))
    return parts


def lines(columns: Sequence[Sequence[Text]], separator: str) -> bytes:
    """The rows of a text file, from columns that are each the texts [N] to be run together in it."""
    ends = [np.void(end.encode()) for end in [separator] * (len(columns) - 1) + ["\n"]]
    texts = [text for parts in columns for text in parts]
    layout = [(f"text{index}", text.dtype) for index, text in enumerate(texts)]
    for index in reversed(range(len(columns))):
        after = sum(len(parts) for parts in columns[: index + 1])
        layout.insert(after, (f"end{index}", ends[index].dtype))
    rows = np.empty(texts[0].size, layout)
    for index, text in enumerate(texts):
        rows[f"text{index}"] = text
    for index, end in enumerate(ends):
        rows[f"end{index}"] = end
    return rows.tobytes().translate(None, b"\0")


def _power(exponent: float) -> float:
    """1 - exponent, kept off the 0 that formulas divide by; the distribution is the limit's to 8 digits."""
    power = 1.0 - exponent
    return power if abs(power) > 1e-9 else 1e-9


@cache
def _syllables(encoding: str) -> Text:
    """Nothing, then 64 syllables that begin a word, the same inside it, and 128 Chinese characters."""
    latin = [first + vowel for first in "bdfghjklmnprstvz" for vowel in "aéiö"]
    chinese = [chr(0x4E8C + 37 * index) for index in range(128)] if encoding == "utf-8" else []
    return table(["", *(syllable.title() for syllable in latin), *latin, *chinese], encoding)


def _four(pattern: str, count: int) -> NDArray[np.uint32]:
    return np.array([(pattern % number).encode() for number in range(count)], "S4").view(np.uint32)


_PLAIN, _PADDED, _HEX = _four("%d", 10_000), _four("%04d", 10_000), _four("%04x", 1 << 16)
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BASE64 = np.array([bytes([one, two]) for one in _ALPHABET for two in _ALPHABET], "S2").view(np.uint16)
