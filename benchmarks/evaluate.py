"""Exact AUC and logloss, ours beside scikit-learn's: results/benchmarks/evaluate.json.

    python -m benchmarks.evaluate [--rows=4600000] [--predictors=11] [--repeat=3]

Also times the sort that AUC comes down to, by polars (ours) and by numpy.
"""

import json
import os

import numpy as np
import polars as pl
from absl import app, flags
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks import common
from ektf_jax import metrics

_ROWS = flags.DEFINE_integer("rows", 4_600_000, "N: Criteo's test split has 4.6 million.")
_PREDICTORS = flags.DEFINE_integer("predictors", 11, "P: ten students and their ensemble.")
_REPEAT = flags.DEFINE_integer("repeat", 3, "Evaluations by each, in turn.")


def scikit_learn(labels: np.ndarray, logits: np.ndarray) -> list[dict[str, float]]:
    """AUC and logloss of each predictor, by scikit-learn."""
    results = []
    for row in logits:
        probabilities = 1 / (1 + np.exp(-row.astype(np.float64)))
        results.append(
            {
                "auc": float(roc_auc_score(labels, row)),
                "logloss": float(log_loss(labels, probabilities)),
            }
        )
    return results


def main(argv: list[str]) -> None:
    """Evaluate by both, in turn; both must agree."""
    del argv
    rng = np.random.default_rng(0)
    labels = (rng.random(_ROWS.value) < 0.26).astype(np.float32)
    noise = rng.standard_normal((_PREDICTORS.value, _ROWS.value), dtype=np.float32)
    logits = noise + labels - np.float32(1.5)
    keys = rng.integers(0, 2**33, _ROWS.value, dtype=np.uint64)
    ours, theirs, polars_sort, numpy_sort = [], [], [], []
    for _ in range(_REPEAT.value):
        seconds, found = common.timed(lambda: metrics.evaluate(labels, logits))
        ours.append(seconds)
        seconds, expected = common.timed(lambda: scikit_learn(labels, logits))
        theirs.append(seconds)
        polars_sort.append(common.timed(lambda: pl.Series(keys).sort(multithreaded=False))[0])
        numpy_sort.append(common.timed(lambda: np.sort(keys))[0])
    names = ("auc", "logloss")
    gaps = {name: max(abs(a[name] - b[name]) for a, b in zip(found, expected, strict=True)) for name in names}
    result = {
        "rows": _ROWS.value,
        "predictors": _PREDICTORS.value,
        "threads": os.cpu_count(),
        "ours_seconds": common.spread(ours),
        "peer_seconds": common.spread(theirs),
        "speedup": common.spread([b / a for a, b in zip(ours, theirs, strict=True)], 1),
        "largest_difference": gaps,
        "sort_of_one_predictor": {
            "polars_seconds": common.spread(polars_sort),
            "numpy_seconds": common.spread(numpy_sort),
        },
        "versions": common.versions("numpy", "polars", "scikit-learn"),
    }
    common.write("evaluate", result)
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
