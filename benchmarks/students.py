"""Training step, compile time and memory of every model of Table 2, alone: results/benchmarks/students.json.

    python -m benchmarks.students [--models=mlp,afn,...] [--steps=7]

ML-1M's shape and settings, each model in a process of its own.
"""

import json

from absl import app, flags

from benchmarks import common

_MODELS = flags.DEFINE_list("models", list(common.MODELS), "Keys of configs/published.py, one or more.")
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps.")


def main(argv: list[str]) -> None:
    """Measure every model; the file is written anew after each."""
    del argv
    versions = common.versions("jax", "jaxlib", "flax", "optax")
    cases = []
    for model in _MODELS.value:
        found = common.our_steps(f"ml1m_{model}", 1, _STEPS.value)
        cases.append(
            {
                "model": model,
                "params": found["params"],
                "samples_per_second": found["samples_per_second"],
                "step_seconds": common.spread(found["seconds"], 4),
                "compile_seconds": found["compile_seconds"],
                "peak_mib": found["peak_mib"],
            }
        )
        common.write("students", {"versions": versions, "cases": cases})
        print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
