"""Predictions and metrics of a model over a whole split."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flax import nnx

from ektf_jax import measures, metrics
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import Batch, evaluation_batches
from ektf_jax.data.schema import Schema
from ektf_jax.training import compiler, finite
from ektf_jax.training.step import Predict, make_predict

Metrics = dict[str, Any]
Batches = Iterable[tuple[Batch, int]]


def prediction_of(model: nnx.Module, matmul_dtype: str) -> tuple[Predict, tuple[nnx.State, nnx.State]]:
    """A model's jitted prediction, and the parameters and statistics that it takes."""
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    return make_predict(graphdef, compiler_options=compiler.options(matmul_dtype)), (parameters, statistics)


def predict_split(
    predict: Predict, parameters: nnx.State, statistics: nnx.State, split: Split, batch_size: int
) -> np.ndarray:
    """Logits float32 [K + 1, N] of the students and, last, the ensemble, rows in the split's order."""
    return predict_batches(predict, parameters, statistics, evaluation_batches(split, batch_size))


def predict_batches(
    predict: Predict, parameters: nnx.State, statistics: nnx.State, batches: Batches
) -> np.ndarray:
    """`predict_split` of (batch, number of rows that count)."""
    parts = []
    for batch, rows in batches:
        prediction = predict(parameters, statistics, batch)
        parts.append(np.concatenate([prediction.students, prediction.ensemble[None]])[:, :rows])
    return np.concatenate(parts, axis=1)


def evaluate_split(
    predict: Predict, parameters: nnx.State, statistics: nnx.State, split: Split, batch_size: int
) -> Metrics:
    """AUC and logloss as result.json has them: {"ensemble": {...}, "students": [{...}, ...]}.

    Both weigh rows by the split's weights. Of two students or more also how far they differ, all rows alike:
    {"diversity": {"ambiguity": ..., ...}}. Raises NotFinite for logits or metrics that are not finite.
    """
    logits = predict_split(predict, parameters, statistics, split, batch_size)
    return evaluate_logits(split, logits)


def evaluate_logits(split: Split, logits: np.ndarray) -> Metrics:
    """`evaluate_split` of logits [K + 1, N], as `predict_split` gives them."""
    names = [*(f"student {k}" for k in range(len(logits) - 1)), "the ensemble"]
    finite.check({f"logit of {name}": row for name, row in zip(names, logits, strict=True)})
    labels = split.labels
    *students, ensemble = metrics.evaluate(labels, logits, weights=split.weights)
    for name, values in zip(names, [*students, ensemble], strict=True):
        finite.check({f"{metric} of {name}": value for metric, value in values.items()})
    found: Metrics = {"ensemble": ensemble, "students": students}
    if len(students) > 1:
        diversity = {
            "ambiguity": measures.ambiguity(labels, logits[:-1]),
            "error_correlation": measures.error_correlation(labels, logits[:-1]),
        }
        finite.check({f"{measure} of the students": value for measure, value in diversity.items()})
        found["diversity"] = diversity
    return found


def embedding_use(table: np.ndarray, read_columns: Sequence[Sequence[int]], schema: Schema) -> Metrics:
    """How much of their dimensions each field's embeddings use, mean over students: whether they collapse.

    table [V, columns]; `read_columns` as `Ensemble.read_columns` names them. Returns for each field
    {"effective_rank", "information_abundance", "spectrum"}, of all its rows but padding; {} where no student
    reads embeddings.
    """
    found = {}
    for field in schema.fields:
        rows = table[field.offset + 1 : field.offset + field.vocab_size]
        spectra = [measures.spectrum(rows[:, columns]) for columns in sorted(set(map(tuple, read_columns)))]
        if all(len(spectrum) for spectrum in spectra):
            found[field.name] = {
                "effective_rank": float(np.mean([measures.effective_rank(s) for s in spectra])),
                "information_abundance": float(np.mean([measures.information_abundance(s) for s in spectra])),
                "spectrum": [
                    float(np.mean([s[i] for s in spectra if i < len(s)]))
                    for i in range(max(map(len, spectra)))
                ],
            }
    return found
