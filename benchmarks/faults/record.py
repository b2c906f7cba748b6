"""results/benchmarks/faults.json: what was tried adds up over calls, and what was found stays."""

import json
from typing import Any

from benchmarks import common

NAME = "faults"


def read() -> dict[str, Any]:
    """What earlier calls have counted."""
    path = common.RESULTS / f"{NAME}.json"
    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
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
    common.write(NAME, content | {"versions": common.versions("python", "jax", "polars", "orbax-checkpoint")})
