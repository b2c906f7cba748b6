"""Predictions and metrics of a model over a whole split."""

from typing import Any

import numpy as np
from flax import nnx

from ektf_jax import metrics
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import evaluation_batches
from ektf_jax.training import finite
from ektf_jax.training.step import Predict

Metrics = dict[str, Any]


def predict_split(
    predict: Predict, parameters: nnx.State, statistics: nnx.State, split: Split, batch_size: int
) -> np.ndarray:
    """Logits float32 [K + 1, N] of the students and, last, the ensemble, rows in the split's order."""
    parts = []
    for ids, rows in evaluation_batches(split, batch_size):
        prediction = predict(parameters, statistics, ids)
        parts.append(np.concatenate([prediction.students, prediction.ensemble[None]])[:, :rows])
    return np.concatenate(parts, axis=1)


def evaluate_split(
    predict: Predict, parameters: nnx.State, statistics: nnx.State, split: Split, batch_size: int
) -> Metrics:
    """AUC and logloss as result.json has them: {"ensemble": {...}, "students": [{...}, ...]}.

    Raises NotFinite for logits or metrics that are not finite.
    """
    logits = predict_split(predict, parameters, statistics, split, batch_size)
    names = [*(f"student {k}" for k in range(len(logits) - 1)), "the ensemble"]
    finite.check({f"logit of {name}": row for name, row in zip(names, logits, strict=True)})
    *students, ensemble = metrics.evaluate(split.labels, logits)
    for name, found in zip(names, [*students, ensemble], strict=True):
        finite.check({f"{metric} of {name}": value for metric, value in found.items()})
    return {"ensemble": ensemble, "students": students}
