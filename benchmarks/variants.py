"""What each choice in a training step brings on a CPU: results/benchmarks/variants.json.

    python -m benchmarks.variants [--shape=ml1m] [--students=2,10] [--steps=10] [--repeat=3]

EKTF over K MLPs as it is trained, and with one choice undone or added. Each is a process of its own
(`benchmarks.step`); they take turns.
"""

import json
import os
import statistics
from typing import Any

from absl import app, flags

from benchmarks import common

_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_list("students", ["2", "10"], "K, one or more.")
_STEPS = flags.DEFINE_integer("steps", 10, "Timed steps of a turn.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Turns.")

# Flags of benchmarks.step; the first has what experiments.train runs.
VARIANTS = {
    "as trained": [],
    "a vmap over students": ["--stack=vmap"],
    "a loop over students": ["--unroll=1"],
    "BatchNorm, ReLU and dropout one by one": ["--activation=plain"],
    "dropout by jax.random": ["--dropout=threefry"],
    "XLA's own choice of a library for products": ["--compiler=default"],
    "the allocator's own settings": [],
    "factors of products in bfloat16": ["--matmul_dtype=bfloat16"],
}
ENVIRONMENT = {"the allocator's own settings": {"GLIBC_TUNABLES": ""}}


def step(num_students: int, variant: str) -> dict[str, Any]:
    """What benchmarks.step prints of a variant."""
    environment = os.environ | ENVIRONMENT.get(variant, {})
    return common.our_steps(_SHAPE.value, num_students, _STEPS.value, VARIANTS[variant], env=environment)


def main(argv: list[str]) -> None:
    """Measure every K."""
    del argv
    cases: list[dict[str, Any]] = []
    for num_students in map(int, _STUDENTS.value):
        turns = [{name: step(num_students, name) for name in VARIANTS} for _ in range(_REPEAT.value)]
        medians = [
            {name: statistics.median(found["seconds"]) for name, found in turn.items()} for turn in turns
        ]
        for name in VARIANTS:
            cases.append(
                {
                    "students": num_students,
                    "variant": name,
                    "step_seconds": common.spread([turn[name] for turn in medians], 4),
                    "times_as_long": common.spread([turn[name] / turn["as trained"] for turn in medians]),
                    "compile_seconds": common.spread([turn[name]["compile_seconds"] for turn in turns], 1),
                    "temporary_mib": turns[0][name]["temporary_mib"],
                }
            )
            print(json.dumps(cases[-1]), flush=True)
        versions = turns[0]["as trained"]["versions"]
        common.write("variants", {"shape": _SHAPE.value, "versions": versions, "cases": cases})


if __name__ == "__main__":
    app.run(main)
