"""Training steps and whole epochs, ours beside EKTF in PyTorch with FuxiCTR: results/benchmarks/train.json.

    python -m benchmarks.train --peer_python=PYTHON [--cases=ml1m:1:60,criteo:10,...] [--repeat=3]

A case is SHAPE:K or, with epochs of so many steps, SHAPE:K:STEPS. Everything runs in child processes, ours
and the peer's in turn, `repeat` times each.
Steps are on one batch in memory; epochs are `experiments.train` on an encoded dataset of random rows, without
its evaluations, and the peer's training loop with FuxiCTR's loader on the same number of rows.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import common
from ektf_jax.config import Config

_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and fuxictr.", required=True)
_CASES = flags.DEFINE_list(
    "cases",
    ["ml1m:1:60", "ml1m:3:40", "ml1m:10:20", "ml1m_latest:3:40", "criteo:2:20", "criteo:10"],
    "SHAPE:K[:STEPS of an epoch], one or more.",
)
_REPEAT = flags.DEFINE_integer("repeat", 3, "Child processes of each side per case.")
_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps per child process.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Timed epochs per child process.")
_WORKERS = flags.DEFINE_integer(
    "workers", 1, "Worker processes of the peer's loader (FuxiCTR's default is 1)."
)

_MALLOC = flags.DEFINE_enum(
    "peer_malloc", "default", ["default", "kept"], "The peer's allocator: its default, or set as ours."
)

Run = dict[str, Any]  # what one child process found, `seconds` among it


def compare(ours: Callable[[], Run], peer: Callable[[], Run]) -> tuple[dict[str, Any], list[Run], list[Run]]:
    """Run both in turn: seconds of each, how many times as fast ours is per turn; and all runs of each."""
    turns = [(ours(), peer()) for _ in range(_REPEAT.value)]
    ratios = [np.median(theirs["seconds"]) / np.median(mine["seconds"]) for mine, theirs in turns]
    our_runs, peer_runs = map(list, zip(*turns, strict=True))
    found = {
        "ours_seconds": common.spread([t for run in our_runs for t in run["seconds"]], 4),
        "peer_seconds": common.spread([t for run in peer_runs for t in run["seconds"]], 4),
        "speedup": common.spread(ratios, 2),
    }
    return found, our_runs, peer_runs


def measure(shape: str, num_students: int, epoch_steps: int = 0) -> dict[str, Any]:
    """One case: steps, and epochs of `epoch_steps` if there are any."""
    config = common.config(shape, num_students)
    batch_size = Config.from_dict(config).data.batch_size
    rows = epoch_steps * batch_size
    schema = common.schema(shape, rows, 2 * batch_size)

    def peer(**task: Any) -> Run:
        kept = _MALLOC.value == "kept"
        return common.peer(config, schema, _PEER.value, keep_freed_memory=kept, **task)

    step, (ours, *_), (theirs, *_) = compare(
        lambda: common.our_steps(shape, num_students, _STEPS.value),
        lambda: peer(task="step", steps=_STEPS.value),
    )
    result = {"step": step}
    if ours["params"] != theirs["params"]:
        raise SystemExit(f"{shape}: {ours['params']} parameters in ours, {theirs['params']} in the peer")
    if rows:
        with common.random_dataset(schema) as data:
            epoch, our_runs, _ = compare(
                lambda: common.our_epochs(shape, num_students, data, _EPOCHS.value),
                lambda: peer(task="epoch", rows=rows, epochs=_EPOCHS.value, workers=_WORKERS.value),
            )
        result["epoch"] = epoch | {"input_wait": common.spread([run["input_wait"] for run in our_runs], 5)}
    return {
        "shape": shape,
        "students": num_students,
        "batch_size": batch_size,
        "epoch_rows": rows,
        "params": ours["params"],
        "versions": {"ours": ours["versions"], "peer": theirs["versions"]},
        **result,
    }


def main(argv: list[str]) -> None:
    """Measure every case; the file is written anew after each."""
    del argv
    cases = []
    for case in _CASES.value:
        shape, *numbers = case.split(":")
        cases.append(measure(shape, *map(int, numbers)))
        common.write("train", {"peer_malloc": _MALLOC.value, "cases": cases})
        print(json.dumps(cases[-1]), flush=True)


if __name__ == "__main__":
    app.run(main)
