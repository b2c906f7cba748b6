"""Runs of a sweep one process after another and together: results/benchmarks/together.json.

    python -m benchmarks.together [--cases=lr:1,lr:4,lr:16,...]

A case is MODEL:RUNS, on random rows of ML-1M's shape: one epoch of 40 steps, to result.json. Seconds are of
whole processes, with a compilation cache that an earlier process filled. A run alone is measured three times,
and counts as often as there are runs.
"""

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.result import Result
from ektf_jax.training import loop

_CASES = flags.DEFINE_list(
    "cases", [f"{model}:{runs}" for model in ("lr", "ecn", "mlp") for runs in (1, 4, 16)], "MODEL:RUNS."
)
_ONE = flags.DEFINE_string("one", None, "A case as JSON: train its runs here.")

STEPS, ALONE = 40, 3


def train(config: Config, count: int, width: int) -> list[float]:
    """Train runs that differ in their seeds: each alone where `width` is 0, else together.

    Returns the samples per second of each.
    """
    with tempfile.TemporaryDirectory() as directory:
        runs = {Path(directory, str(seed)): replace(config, seed=seed) for seed in range(count)}
        if width:
            assert not loop.train_together(runs, width)
        else:
            for workdir, run in runs.items():
                loop.train(run, workdir)
        return [Result.read(workdir).document["train_samples_per_second"] for workdir in runs]


def measure(cache: str, model: str, runs: int) -> dict[str, Any]:
    """Seconds of a case in each way."""
    shape = f"ml1m_{model}"
    batch_size = Config.from_dict(common.config(shape, 1)).data.batch_size
    ways = {"alone": (1, 0), "taking turns": (runs, 1)} | ({"as one": (runs, runs)} if runs > 1 else {})
    with common.random_dataset(common.schema(shape, STEPS * batch_size, batch_size)) as data:
        config = common.config(shape, 1, {"data.path": str(data), "train.max_epochs": 1})

        def seconds(count: int, width: int) -> float:
            began = time.perf_counter()
            one = json.dumps({"config": config, "runs": count, "width": width})
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            common.child(["-m", "benchmarks.together", f"--one={one}"], env=environment)
            return time.perf_counter() - began

        for way in ways.values():
            seconds(*way)  # fills the cache
        found = {
            name: [seconds(*way) for _ in range(ALONE if name == "alone" else 1)]
            for name, way in ways.items()
        }
    alone = common.spread([runs * each for each in found.pop("alone")], 1)
    return {
        "model": model,
        "runs": runs,
        "seconds": {"alone": alone} | {name: round(each, 1) for name, (each,) in found.items()},
    }


def main(argv: list[str]) -> None:
    """Measure every case; the file is written anew after each."""
    del argv
    logging.set_verbosity(logging.WARNING)
    if _ONE.value is not None:
        one = json.loads(_ONE.value)
        train(Config.from_dict(one["config"]), one["runs"], one["width"])
        return
    cases = []
    with tempfile.TemporaryDirectory() as cache:
        for case in _CASES.value:
            model, runs = case.split(":")
            cases.append(measure(cache, model, int(runs)))
            common.write("together", {"versions": common.versions("jax", "jaxlib"), "cases": cases})
            print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
