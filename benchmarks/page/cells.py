"""Numbers of a benchmark and where they are from, as text."""

from collections.abc import Sequence
from typing import Any

from ektf_jax.report.render import Text
from ektf_jax.report.tables import Cell, Table

Result = dict[str, Any]


def provenance(result: Result, versions: dict[str, dict[str, str]]) -> Text:
    """The command, the machine and the versions of both sides."""
    machine = result["machine"]
    sides = [
        f"{side + ': ' if side else ''}{', '.join(f'{name} {version}' for name, version in found.items())}"
        for side, found in versions.items()
    ]
    command = f"`{result['command']}`. " if "command" in result else ""
    memory, load = machine["memory_gib"], machine["load_before"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {memory} GiB, load {load}"
    return Text(f"{command}{where}. {'; '.join(sides)}.")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table("", tuple(header), tuple(tuple(map(Cell, row)) for row in rows))


def dataset(shape: str) -> str:
    return {
        "ml1m": "ML-1M",
        "criteo": "Criteo",
        "kdd12": "KDD12",
        "ml1m_latest": "ML-1M, EKTF_Latest",
        "ml1m_lr": "ML-1M, LR",
    }.get(shape, shape)


def shape(case: Result) -> str:
    return f"{dataset(case['shape'])}, K={case['students']}"


def spread(found: dict[str, float], digits: int = 1) -> str:
    """Median (smallest to largest)."""
    median, low, high = (f"{found[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def seconds(found: dict[str, float]) -> str:
    return spread(found, 2)


def times(found: dict[str, float]) -> str:
    return spread(found, 2)


def milliseconds(found: dict[str, float], digits: int = 1) -> str:
    return spread({key: 1e3 * found[key] for key in ("median", "min", "max")}, digits)


def percent(found: dict[str, float], digits: int) -> str:
    median, low, high = (f"{found[key]:.{digits}%}" for key in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def in_bytes(number: float) -> str:
    """In the largest unit that leaves at least 1."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:,.2f} {unit}"
    return f"{number / 1e6:,.1f} MB"
