"""A model of Table 2 and its PyTorch original in turn, each in a process of its own."""

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from ektf_jax.config import Config
from ektf_jax.training.record import students_in_full

_WITHOUT = ("cl4ctr", "fcn", "qnn")  # their originals are no models of this FuxiCTR


@dataclass(frozen=True)
class Peer:
    """Where originals run: an interpreter with torch, and checkouts by the names `originals.py` knows."""

    python: str
    checkouts: dict[str, Path]


def original(peer: Peer, model: str, steps: int) -> dict[str, Any]:
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
        "checkouts": {name: str(path.resolve()) for name, path in peer.checkouts.items()},
    }
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(task["checkouts"].get("fuxictr", ""))
    command = ["benchmarks/pytorch/originals.py"]
    return common.child_json(command, python=peer.python, input=json.dumps(task) + "\n", env=environment)


def measure(model: str, *, steps: int, turns: int, peer: Peer | None) -> dict[str, Any]:
    """`steps` steps of a model `turns` times, and of its original, where `peer` has one, after each."""
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(common.our_steps(f"ml1m_{model}", 1, steps))
        if peer and model not in _WITHOUT:
            theirs.append(original(peer, model, steps))
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
