"""Criteo: Kaggle's train.txt, tab-separated without header, and RecZoo's Criteo_x4, three CSV files."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.world import Chunk, Column, Recipe, World

# Buckets, floor(ln(x)**2) above 2, of the published vocabulary, which counts 0 as missing; share missing.
_NUMBERS = {
    "I1": (42, 0.454),
    "I2": (97, 0.0),
    "I3": (120, 0.215),
    "I4": (39, 0.217),
    "I5": (218, 0.026),
    "I6": (110, 0.224),
    "I7": (78, 0.043),
    "I8": (67, 0.0005),
    "I9": (90, 0.043),
    "I10": (4, 0.454),
    "I11": (25, 0.043),
    "I12": (35, 0.765),
    "I13": (70, 0.217),
}
_NEGATIVE = {"I2": 3}  # how many values below zero: -1, -2, -3
# Frequent values, share missing, share of values too rare for the vocabulary.
_CATEGORIES = {
    "C1": (1444, 0.0, 0.0),
    "C2": (552, 0.0, 0.0),
    "C3": (157_337, 0.034, 0.22),
    "C4": (117_820, 0.034, 0.045),
    "C5": (304, 0.0, 0.0),
    "C6": (16, 0.121, 0.0),
    "C7": (11_880, 0.0, 0.0005),
    "C8": (628, 0.0, 0.0),
    "C9": (3, 0.0, 0.0),
    "C10": (39_528, 0.0, 0.001),
    "C11": (5129, 0.0, 0.0005),
    "C12": (156_654, 0.034, 0.18),
    "C13": (3174, 0.0, 0.0),
    "C14": (26, 0.0, 0.0),
    "C15": (11_041, 0.0, 0.0005),
    "C16": (148_911, 0.034, 0.12),
    "C17": (10, 0.0, 0.0),
    "C18": (4558, 0.0, 0.0005),
    "C19": (2001, 0.44, 0.0),
    "C20": (3, 0.44, 0.0),
    "C21": (154_562, 0.034, 0.15),
    "C22": (16, 0.763, 0.0),
    "C23": (15, 0.0, 0.0),
    "C24": (53_029, 0.034, 0.005),
    "C25": (80, 0.44, 0.0),
    "C26": (40_953, 0.44, 0.002),
}


def _number(name: str, buckets: int, missing: float) -> Column:
    """Ranks for the numbers from the least, 0 or below, to the last of the last bucket."""
    below = _NEGATIVE.get(name, 0)
    largest = int(np.ceil(np.exp(np.sqrt(buckets - below + 1)))) - 1
    return Column(name, largest + 1 + below, missing, exponent=1.2, octaves=True)


def _lines(chunks: Iterable[Chunk], separator: str) -> Iterator[bytes]:
    streams = {name: draws.key("criteo", name) for name in _CATEGORIES}
    digits = {name: len(str(_number(name, *shape).values)) for name, shape in _NUMBERS.items()}
    for labels, ranks in chunks:
        columns = [[draws.decimal(labels, labels >= 0, digits=1)]]
        for name, width in digits.items():
            number = ranks[name] - 1 - _NEGATIVE.get(name, 0)
            present = ranks[name] > 0
            sign = [draws.where(present & (number < 0), "-")] if name in _NEGATIVE else []
            columns.append([*sign, draws.decimal(abs(number), present, width)])
        columns += [[draws.hexadecimal(stream, ranks[name])] for name, stream in streams.items()]
        yield draws.lines(columns, separator)


def _kaggle(world: World) -> Iterator[bytes]:
    yield from _lines(world.chunks(0, world.rows), "\t")


def _split(name: str) -> Callable[[World], Iterator[bytes]]:
    def lines(world: World) -> Iterator[bytes]:
        yield (",".join(["Label", *_NUMBERS, *_CATEGORIES]) + "\n").encode()
        yield from _lines(world.split(name), ",")

    return lines


def _recipe(real: str, files: dict[str, Callable[[World], Iterable[bytes]]]) -> Recipe:
    numbers = [_number(name, *shape) for name, shape in _NUMBERS.items()]
    return Recipe(
        world="criteo",
        real=real,
        rows=36_672_493,
        threshold=10,
        columns=(*numbers, *(Column(name, *shape) for name, shape in _CATEGORIES.items())),
        effects=("I6", "I11", "C2", "C7", "C14", "C17", "C19"),
        pair=("C6", "C14"),
        rates=(0.256,),
        files=files,
    )


KAGGLE = _recipe("Kaggle's Criteo display advertising challenge", {"train.txt": _kaggle})
X4 = _recipe("RecZoo's Criteo_x4", {f"{name}.csv": _split(name) for name in ("train", "valid", "test")})
