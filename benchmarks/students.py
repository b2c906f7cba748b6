"""Training step, compile time and memory of every model of Table 2, alone: results/benchmarks/students.json.

    python -m benchmarks.students [--models=mlp,afn,...] [--steps=7] [--turns=3]
    python -m benchmarks.students --peer_python=PYTHON --fuxictr=DIR --ektf=DIR

ML-1M's shape and settings, each model in a process of its own. With an interpreter that has torch and what
FuxiCTR needs, and checkouts of reczoo/FuxiCTR and salmon1802/EKTF, each model's PyTorch original takes turns
with it (`benchmarks/pytorch/originals.py`).
"""

import json
import os
import statistics
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.training.record import students_in_full

_MODELS = flags.DEFINE_list("models", list(common.MODELS), "Keys of configs/published.py, one or more.")
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps of a turn.")
_TURNS = flags.DEFINE_integer("turns", 3, "Turns of either side.", lower_bound=1)
_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and what FuxiCTR needs.")
_CHECKOUTS = {
    name: flags.DEFINE_string(name, None, f"A checkout of {repository}.")
    for name, repository in (
        ("fuxictr", "reczoo/FuxiCTR"),
        ("ektf", "salmon1802/EKTF"),
    )
}
_WITHOUT = ("cl4ctr", "fcn", "qnn")  # their originals are no models of this FuxiCTR


def original(model: str, steps: int) -> dict[str, Any]:
    """What `benchmarks/pytorch/originals.py` prints of a model."""
    settings, schema = common.config(f"ml1m_{model}", 1), common.schema("ml1m")
    config = Config.from_dict(settings)
    ((_, options),) = students_in_full(config).items()
    task: dict[str, Any] = {
        "model": model,
        "options": options,
        "fields": [(field.name, field.vocab_size, field.max_len) for field in schema.fields],
        "dim": config.embedding.dim,
        "l2": config.embedding.l2,
        "batch_size": config.data.batch_size,
        "learning_rate": config.train.learning_rate,
        "clip_norm": config.train.clip_norm,
        "steps": steps,
        "checkouts": {
            name: str(Path(flag.value).resolve()) for name, flag in _CHECKOUTS.items() if flag.value
        },
    }
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(task["checkouts"].get("fuxictr", ""))
    command = ["benchmarks/pytorch/originals.py"]
    return common.child_json(command, python=str(_PEER.value), input=json.dumps(task) + "\n", env=environment)


def measure(model: str) -> dict[str, Any]:
    """A model's steps, and where there is an interpreter for it, its original's in turn."""
    ours, theirs = [], []
    for _ in range(_TURNS.value):
        ours.append(common.our_steps(f"ml1m_{model}", 1, _STEPS.value))
        if _PEER.value and model not in _WITHOUT:
            theirs.append(original(model, _STEPS.value))
    step = statistics.median(statistics.median(found["seconds"]) for found in ours)
    case = {
        "model": model,
        "params": ours[0]["params"],
        "samples_per_second": round(common.config(f"ml1m_{model}", 1)["data"]["batch_size"] / step),
        "step_seconds": common.spread([one for found in ours for one in found["seconds"]], 4),
        "compile_seconds": ours[0]["compile_seconds"],
        "peak_mib": ours[0]["peak_mib"],
    }
    if theirs:
        medians = [
            statistics.median(their["seconds"]) / statistics.median(our["seconds"])
            for our, their in zip(ours, theirs, strict=True)
        ]
        case["original"] = {
            "params": theirs[0]["params"],
            "step_seconds": common.spread([one for found in theirs for one in found["seconds"]], 4),
            "times_as_fast": common.spread(medians, 2),
            "versions": theirs[0]["versions"],
        }
    return case


def main(argv: list[str]) -> None:
    """Measure every model; the file is written anew after each."""
    del argv
    versions = common.versions("jax", "jaxlib", "flax", "optax")
    cases = []
    for model in _MODELS.value:
        cases.append(measure(model))
        common.write("students", {"versions": versions, "cases": cases})
        print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
