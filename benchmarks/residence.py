"""Rows on the host and on the device, one step a dispatch and many: results/benchmarks/residence.json.

    python -m benchmarks.residence [--cases=ml1m:2:24,ml1m_lr:1:140,...] [--repeat=3] [--before=DIR]

A case is SHAPE:K:STEPS of an epoch of random rows, in the loop of `experiments.train`, without what compiles.
Each variant is a child process, all in turn; --before names another checkout, whose loop has its rows on the
host, to compare with.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.training import loop

_CASES = flags.DEFINE_list("cases", ["ml1m:2:24", "ml1m_lr:1:140"], "SHAPE:K:STEPS of an epoch.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Processes of each variant.")
_BEFORE = flags.DEFINE_string("before", None, "A checkout of an earlier version.")
_ONE = flags.DEFINE_string("one", None, "A config as JSON: train it, print its samples per second.")

PLACES: dict[str, dict[str, Any]] = {
    "host": {"data.residence": "host"},
    "device, a step a dispatch": {"data.residence": "device", "train.log_every": 1},
    "device": {"data.residence": "device"},
}
VARIANTS: dict[str, dict[str, Any]] = {"before": {}} | PLACES


def run(config: dict[str, Any]) -> dict[str, float]:
    """Train one run here."""
    with tempfile.TemporaryDirectory() as workdir:
        result = loop.train(config, Path(workdir))
    return {
        "samples_per_second": result["train_samples_per_second"],
        "input_wait": result["input_wait"],
        "valid_logloss": result["valid"]["ensemble"]["logloss"],
    }


def measure(cache: str, shape: str, num_students: int, epoch_steps: int) -> dict[str, Any]:
    """One case; the validation logloss of all variants must be the same."""
    batch_size = Config.from_dict(common.config(shape, num_students)).data.batch_size
    variants = [name for name in VARIANTS if name != "before" or _BEFORE.value]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    with common.random_dataset(common.schema(shape, epoch_steps * batch_size, batch_size)) as data:
        for _ in range(_REPEAT.value):
            for name in variants:
                changes = {"data.path": str(data), "train.max_epochs": 1} | VARIANTS[name]
                one = common.config(shape, num_students, changes)
                if name == "before":  # which does not know the key
                    one["data"].pop("residence")
                place = _BEFORE.value if name == "before" else "."
                environment = os.environ | {"PYTHONPATH": place, "JAX_COMPILATION_CACHE_DIR": cache}
                command = [__file__, f"--one={json.dumps(one)}"]
                found[name].append(common.child_json(command, env=environment))
    assert len({run["valid_logloss"] for runs in found.values() for run in runs}) == 1
    return {
        "shape": shape,
        "students": num_students,
        "epoch_steps": epoch_steps,
        "variants": {
            name: {
                "samples_per_second": common.spread([run["samples_per_second"] for run in runs], 0),
                "input_wait": common.spread([run["input_wait"] for run in runs], 5),
            }
            for name, runs in found.items()
        },
    }


def main(argv: list[str]) -> None:
    """Measure every case; the file is written anew after each."""
    del argv
    logging.set_verbosity(logging.WARNING)
    if _ONE.value is not None:
        print(json.dumps(run(json.loads(_ONE.value))))
        return
    cases = []
    with tempfile.TemporaryDirectory() as cache:
        for case in _CASES.value:
            shape, *numbers = case.split(":")
            cases.append(measure(cache, shape, *map(int, numbers)))
            common.write("residence", {"versions": common.versions("jax", "jaxlib"), "cases": cases})
            print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]
    app.run(main)
