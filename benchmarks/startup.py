"""Time to the first training step, with and without JAX's compilation cache: results/benchmarks/startup.json.

    python -m benchmarks.startup [--peer_python=PYTHON] [--shape=ml1m] [--students=2] [--repeat=3]

From the start of a process: imports, the model built, the first step done, which compiles. The persistent
compilation cache is off, empty, and filled by an earlier process, as a second experiments.train finds it; the
peer has nothing to compile. All in child processes, in turn.
"""

import json
import os
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import common

_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr; none: ours alone.")
_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_integer("students", 2, "K.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Processes of each kind.")

PARTS = ("import", "build", "first_step", "total")


def ours(cache: str | None) -> dict[str, Any]:
    """One process of ours, with JAX's compilation cache in a directory or off."""
    settings = {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    cached = settings | {"JAX_COMPILATION_CACHE_DIR": cache} if cache else {}
    command = [
        "-m",
        "benchmarks.step",
        f"--shape={_SHAPE.value}",
        f"--students={_STUDENTS.value}",
        "--steps=1",
    ]
    return common.child_json(command, env=os.environ | cached)


def main(argv: list[str]) -> None:
    """Measure every kind."""
    del argv
    config, schema = common.config(_SHAPE.value, _STUDENTS.value), common.schema(_SHAPE.value)
    found: dict[str, list[dict[str, float]]] = {}
    versions: dict[str, Any] = {}
    for _ in range(_REPEAT.value):
        with tempfile.TemporaryDirectory() as cache:
            for kind, directory in {"off": None, "empty": cache, "filled": cache, "peer": None}.items():
                started = time.time()
                if kind != "peer":
                    record = ours(directory)
                elif _PEER.value is not None:
                    record = common.peer(config, schema, _PEER.value, task="step", steps=1)
                else:
                    continue
                seconds = (record["imported_at"] - started, record["built_at"] - record["imported_at"])
                parts = (*seconds, record["first_step_seconds"])
                found.setdefault(kind, []).append(dict(zip(PARTS, (*parts, sum(parts)), strict=True)))
                versions["peer" if kind == "peer" else "ours"] = record["versions"]
    cases = [
        {"kind": kind, **{part: common.spread([run[part] for run in runs], 2) for part in PARTS}}
        for kind, runs in found.items()
    ]
    result = {"shape": _SHAPE.value, "students": _STUDENTS.value, "versions": versions, "cases": cases}
    common.write("startup", result)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
