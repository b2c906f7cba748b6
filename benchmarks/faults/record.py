"""results/benchmarks/faults.json: what was tried adds up over calls, and what was found stays."""

from typing import Any

from benchmarks import common

NAME = "faults"


def read() -> dict[str, Any]:
    """What earlier calls have counted."""
    there = common.read(NAME)
    return {key: there.get(key, {}) for key in ("inputs", "kills")} | {
        key: there.get(key, []) for key in ("found", "open")
    }


def count(table: dict[str, dict[str, int]], row: str, *columns: str) -> None:
    """One more in the columns of a row."""
    for column in columns:
        there = table.setdefault(row, {})
        there[column] = there.get(column, 0) + 1


def write(content: dict[str, Any]) -> None:
    """Write it, with the machine and the command of this call."""
    common.write(NAME, content | {"versions": common.versions("jax", "polars", "orbax-checkpoint")})
