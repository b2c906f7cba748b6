"""What many members of one network cost beside as many copies of it: results/benchmarks/members.json.

    python -m benchmarks.members [--shape=ml1m] [--students=1,8,32] [--steps=5]

MLPs by their own losses, each case in a process of its own. `ektf_jax.ensemble.KEEP_UP_TO` says from how many
members on a scan computes activations again for the gradient.
"""

import json
from typing import Any

from absl import app, flags

from benchmarks import common

_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_list("students", ["1", "8", "32"], "K, one or more.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps.")

WAYS = {
    "copies": ["--members=separate"],
    "members, activations kept": ["--members=adapters", "--keep=1000"],
    "members, activations computed again": ["--members=adapters", "--keep=1"],
}


def main(argv: list[str]) -> None:
    """Measure every K in each way."""
    del argv
    cases: list[dict[str, Any]] = []
    for num_students in map(int, _STUDENTS.value):
        for way, flags_ in WAYS.items():
            found = common.our_steps(_SHAPE.value, num_students, _STEPS.value, flags_)
            cases.append(
                {
                    "students": num_students,
                    "way": way,
                    "step_seconds": common.spread(found["seconds"], 4),
                    **{key: found[key] for key in ("params", "temporary_mib", "peak_mib")},
                }
            )
            print(json.dumps(cases[-1]), flush=True)
    common.write("members", {"shape": _SHAPE.value, "versions": found["versions"], "cases": cases})


if __name__ == "__main__":
    app.run(main)
