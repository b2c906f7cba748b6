"""Step time, compile time and memory as K grows, with fits of their growth: results/benchmarks/scale_k.json.

    python -m benchmarks.scale_k [--shape=ml1m] [--students=1,2,4,8,16,32,64,128] [--steps=5]

Each K in a process of its own, so that peak memory is that K's.
"""

import json
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import common

_SHAPE = flags.DEFINE_enum("shape", "ml1m", common.SHAPES, "Schema and settings.")
_STUDENTS = flags.DEFINE_list("students", [str(2**i) for i in range(8)], "K, one or more.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps.")
_FIT_FROM = flags.DEFINE_integer("fit_from", 8, "Smallest K that the exponents are fitted to.")


def fits(students: list[int], values: list[float], fit_from: int) -> dict[str, float]:
    """value = a + b K by least squares, its R^2, and the exponent e of value ~ K^e from `fit_from` on."""
    k, y = np.array(students, float), np.array(values, float)
    slope, constant = np.polyfit(k, y, 1)
    residual = np.sum((y - constant - slope * k) ** 2)
    large = k >= fit_from
    exponent = np.polyfit(np.log(k[large]), np.log(y[large]), 1)[0] if large.sum() > 1 else np.nan
    variation = np.sum((y - y.mean()) ** 2)
    return {
        "constant": round(float(constant), 4),
        "per_student": round(float(slope), 4),
        "r_squared": round(float(1 - residual / variation), 5),
        "exponent": round(float(exponent), 3),
    }


def main(argv: list[str]) -> None:
    """Measure every K."""
    del argv
    cases: list[dict[str, Any]] = []
    for num_students in map(int, _STUDENTS.value):
        found = common.our_steps(_SHAPE.value, num_students, _STEPS.value)
        cases.append(
            {
                "students": num_students,
                "params": found["params"],
                "step_seconds": common.spread(found["seconds"], 4),
                "compile_seconds": found["compile_seconds"],
                "peak_mib": found["peak_mib"],
            }
        )
        print(json.dumps(cases[-1]), flush=True)
    students = [case["students"] for case in cases]
    medians = {
        "step_seconds": [case["step_seconds"]["median"] for case in cases],
        "compile_seconds": [case["compile_seconds"] for case in cases],
        "peak_mib": [case["peak_mib"] for case in cases],
    }
    growth = {name: fits(students, values, _FIT_FROM.value) for name, values in medians.items()}
    result = {"shape": _SHAPE.value, "versions": found["versions"], "cases": cases, "growth": growth}
    common.write("scale_k", result)
    print(json.dumps(growth))


if __name__ == "__main__":
    app.run(main)
