"""What looking into finished runs takes: results/benchmarks/judging.json.

    python -m benchmarks.judging --workdir=RUN [--data=DIR] [--repeats=5] [--rows=4600000] [--turns=3]

Permutation importance of a run's fields, beside evaluating whole splits: ours predicts a row once with each
value that shuffles bring it, the plain way predicts all rows again. Then the comparison of two predictors of
random logits, as `experiments.compare` has it.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import common
from ektf_jax.runs import Run, load_run
from ektf_jax.runs.compare import compare_logits, logits_of, split_of
from ektf_jax.runs.importance import permutation_importance, values
from ektf_jax.runs.judge import find_field


def plain(run: Run, repeats: int) -> dict[str, NDArray[np.float64]]:
    """What each field's shuffles cost AUC, [R, K + 1] as `Importance.losses`, all rows predicted for each."""
    rows = split_of(run, "valid")
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(rows.labels)) for _ in range(repeats)]
    before, losses = values(rows, logits_of(run, rows, "valid"), "auc"), {}
    for field in run.schema.fields:
        _, slots = find_field(run, field.name, "field")
        ids = np.array(rows.ids)
        after = []
        for order in orders:
            ids[:, slots] = rows.ids[order, slots]
            after.append(values(rows, run.logits(ids), "auc"))
        losses[field.name] = before - np.array(after)
    return losses


def importance(run: Run, repeats: int, turns: int) -> dict[str, Any]:
    """Both ways, in turn."""
    if run.schema.num_dense:
        raise SystemExit(f"{run.workdir}: its dataset has dense fields, which the plain way leaves alone")
    logits_of(run, split_of(run, "valid"), "valid")  # compiles
    ours, theirs, gap = [], [], 0.0
    for _ in range(turns):
        seconds, found = common.timed(lambda: permutation_importance(run, repeats=repeats))
        ours.append(seconds)
        seconds, expected = common.timed(lambda: plain(run, repeats))
        theirs.append(seconds)
        gap = max(gap, *(float(np.abs(one.losses - expected[one.field]).max()) for one in found))
    return {
        "dataset": run.schema.dataset,
        "rows": run.schema.splits["valid"],
        "fields": len(run.schema.fields),
        "students": run.students,
        "repeats": repeats,
        "ours_seconds": common.spread(ours),
        "plain_seconds": common.spread(theirs),
        "speedup": common.spread([b / a for a, b in zip(ours, theirs, strict=True)], 2),
        "largest_difference": gap,
    }


def comparison(rows: int, turns: int) -> dict[str, Any]:
    """DeLong's test and the paired bootstrap, with intervals of both predictors."""
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < 0.26).astype(np.float32)
    a = rng.standard_normal(rows, np.float32) + labels - np.float32(1.5)
    b = a + rng.standard_normal(rows, np.float32) / np.float32(4)
    seconds = [common.timed(lambda: compare_logits(labels, a, b))[0] for _ in range(turns)]
    return {"rows": rows, "seconds": common.spread(seconds)}


def main() -> None:
    """Measure both, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judging")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="where the run's dataset is now, if it was moved")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4_600_000, help="Criteo's test split has as many")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    record = {
        "importance": importance(load_run(args.workdir, args.data), args.repeats, args.turns),
        "compare": comparison(args.rows, args.turns),
        "versions": common.versions("jax", "numpy", "polars"),
    }
    common.write("judging", record)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
