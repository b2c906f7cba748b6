"""Ensembles of finished runs: which of their students, with which weights, and a run that is made of them."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ektf_jax import directories, metrics
from ektf_jax import result as result_file
from ektf_jax.blend import Blend, Predictor
from ektf_jax.config import (
    BLENDS,
    BlendConfig,
    Config,
    EmbeddingConfig,
    EnsembleConfig,
    MemberConfig,
    MeshConfig,
    TransferConfig,
)
from ektf_jax.data import encoded
from ektf_jax.data.encoded import Split
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.keys import to_dict
from ektf_jax.runs.run import Run, load_run
from ektf_jax.training import checkpoint, finite, loop, record, rundata, teachers
from ektf_jax.training.evaluate import Metrics, evaluate_split, predict_split, prediction_of

SELECTIONS = ("greedy", "all", "prune")
SELECTED_BY = ("auc", "logloss")
_ROUNDS = 100  # of the greedy selection at most: no weight is finer than a hundredth then
_TINY = np.finfo(np.float64).tiny


def select(
    logits: ArrayLike,
    labels: ArrayLike,
    metric: str = "auc",
    how: str = "greedy",
    *,
    of: str = "logits",
    sample_weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Choose candidates for an ensemble, by a metric of the weighted mean of their logits or probabilities.

    logits [N, B] of N candidates, labels [B] in {0, 1}; `sample_weights` [B] are the metric's. Returns
    weights [N] of sum 1, 0 for who is left out.

    "all": everyone, alike. "greedy": forward selection with replacement (Caruana et al., ICML 2004). From
    nothing on, the candidate that makes the best mean with those that are in is taken once more, until none
    makes it better, or a hundred times; a weight is how often one was taken. "prune": from all on, the
    candidate without which the mean is best is left out, as long as the mean is not worse for it; those that
    stay weigh alike. Among equals the first is taken, or left out.

    Raises ValueError for other shapes or names, and as the metric does.
    """
    z = np.asarray(logits, np.float64)
    if z.ndim != 2 or not len(z):
        raise ValueError(f"logits: expected shape [N, B], N at least 1, got {list(z.shape)}")
    for name, given, valid in (("metric", metric, SELECTED_BY), ("how", how, SELECTIONS), ("of", of, BLENDS)):
        if given not in valid:
            raise ValueError(f"{name} = {given!r} is unknown: use one of {', '.join(valid)}")
    if how == "all":
        return np.full(len(z), 1 / len(z))
    function, sign = metrics.METRICS[metric].function, 1 if metrics.METRICS[metric].better == "higher" else -1
    # Of probabilities those of both classes: each is exact where it is small.
    parts = z[None] if of == "logits" else np.stack([metrics.probabilities(z), metrics.probabilities(-z)])

    def score(mean: NDArray[np.float64]) -> float:
        if of == "logits":
            return sign * function(labels, mean[0], weights=sample_weights)
        yes, no = np.log(np.maximum(mean, _TINY))
        return sign * function(labels, yes - no, weights=sample_weights)

    def best(mean: Callable[[int], NDArray[np.float64]], candidates: Iterable[int]) -> tuple[int, float]:
        scores = dict(zip(candidates, pool.map(lambda i: score(mean(i)), candidates), strict=True))
        first = max(scores, key=scores.__getitem__)
        return first, scores[first]

    counts = np.zeros(len(z)) if how == "greedy" else np.ones(len(z))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if how == "greedy":
            total, reached = np.zeros_like(parts[:, 0]), -np.inf
            for size in range(1, _ROUNDS + 1):
                index, found = best(lambda i: (total + parts[:, i]) / size, range(len(z)))  # noqa: B023
                if found <= reached:
                    break
                counts[index] += 1
                total, reached = total + parts[:, index], found
        else:
            reached = score(parts.mean(axis=1))
            while counts.sum() > 1:
                kept = np.flatnonzero(counts)
                index, found = best(lambda i: parts[:, kept[kept != i]].mean(axis=1), kept)  # noqa: B023
                if found < reached:
                    break
                counts[index] = 0
                reached = found
    return counts / counts.sum()


def make(
    workdirs: Sequence[Path],
    out: Path,
    *,
    how: str = "greedy",
    of: str = "logits",
    metric: str = "auc",
    data: Path | None = None,
) -> dict[str, Any]:
    """Make a run of the students of finished runs, `select`ed on validation data; returns its result.

    It holds the students that were selected, each run's table for those of it, and their weights in its
    config: it is evaluated, exported and reported as any other, and needs none of its runs any more. Test
    data is looked at once, when all is chosen. `data` is where the runs' dataset is now, if it was moved.
    The directory `out` is written whole or not at all.

    Raises InputError for no run, one that is there twice, is not finished, has no students with predictions
    of their own or had other data than the first, and for an `out` that is there already.
    """
    if not workdirs:
        raise InputError("--workdirs names no run; name at least one finished run")
    if len({path.resolve() for path in workdirs}) < len(workdirs):
        raise InputError(f"--workdirs={','.join(map(str, workdirs))} names a run twice; weights say how much")
    if out.exists():
        raise InputError(f"{out}: is there already; choose another --out")
    runs = [load_run(path) for path in workdirs]
    for run in runs:
        run.result.best_student  # noqa: B018  # InputError where students have no predictions of their own
    found = data or runs[0].rows
    schema, splits = encoded.open_dataset(found, ["valid", "test"])
    _check_same(runs, schema, found)
    for name, split in splits.items():
        rundata.check_classes(found, name, split)
    models = [teachers.predictor(run.workdir, schema)[0] for run in runs]
    logits = [_logits(run, model, splits["valid"]) for run, model in zip(runs, models, strict=True)]
    valid = splits["valid"]
    chosen = select(np.concatenate(logits), valid.labels, metric, how, of=of, sample_weights=valid.weights)
    stops = np.cumsum([len(each) for each in logits])
    weights = np.split(chosen, stops[:-1])
    members = [
        (run, model.subset(kept), kept)
        for run, model, of_run in zip(runs, models, weights, strict=True)
        if (kept := [int(k) for k in np.flatnonzero(of_run)])
    ]
    blend = Blend([model for _, model, _ in members], chosen[chosen > 0].tolist(), of=of)  # type: ignore[arg-type]
    config = _config([(run, kept) for run, _, kept in members], blend, found, out)
    with directories.replacing(out, "ensemble of runs", lambda _: False) as new:
        predict, state = prediction_of(blend, config.ensemble.matmul_dtype)
        with checkpoint.open_checkpoints(new / "checkpoints" / "best") as best:
            checkpoint.save(best, 0, state, {"epoch": 0})
        record.claim(new, config, {})
        record.claim_data(new, schema, found)
        if rundata.has_words(found):
            rundata.kept(new).mkdir()
            rundata.copy_description(found, rundata.kept(new))

        def evaluate(name: str) -> Metrics:
            with finite.ending(out, f"evaluation of {name}: "):
                return evaluate_split(predict, *state, splits[name], config.data.batch_size)

        candidates = [
            {
                "run": _named(run, out),
                "student": k,
                "weight": float(weight),
                "valid": run.result.valid["students"][k],
            }
            for run, of_run in zip(runs, weights, strict=True)
            for k, weight in enumerate(of_run)
        ]
        seconds: list[Any] = [run.result.document.get("wall_seconds") for run in runs]
        document = {
            "format": result_file.FORMAT,
            "config": config.to_dict(),
            "students": record.students_in_full(config),
            "params": count_parameters(blend),
            "best_epoch": 0,  # nothing was trained
            "epochs": 0,
            "valid": evaluate("valid"),
            "test": evaluate("test"),
            "selection": {"select": how, "metric": metric, "candidates": candidates},
            # Of all the runs one after another, chosen or not.
            "train_samples_per_second": _in_turn(
                [run.result.document.get("train_samples_per_second", 0.0) for run in runs]
            ),
            **({"wall_seconds": sum(seconds)} if None not in seconds else {}),
            "seed": config.seed,
            "dataset": loop.about_dataset(schema),
            "device": jax.devices()[0].device_kind,
            "versions": loop.versions(),
        }
        result_file.write(new, document)
    return document


def _check_same(runs: Sequence[Run], schema: Schema, data: Path) -> None:
    """Raise InputError, naming both runs, where one was trained on another dataset than the first."""
    for run in runs:
        try:
            record.check_data(run.workdir, schema, data)
        except InputError as error:
            if run is runs[0]:
                raise
            raise InputError(
                f"{run.workdir}: was not trained on the dataset of {runs[0].workdir}; an ensemble is of one"
                f" dataset ({error})"
            ) from None


def _logits(run: Run, model: Predictor, split: Split) -> NDArray[np.float32]:
    """Logits [K, N] of a run's students."""
    predict, weights = prediction_of(model, run.config.ensemble.matmul_dtype)
    logits = predict_split(predict, *weights, split, run.config.data.batch_size)[:-1]
    with finite.ending(run.workdir, f"{run.workdir}: "):
        finite.check({f"logit of student {k}": row for k, row in enumerate(logits)})
    return logits


def _config(members: Sequence[tuple[Run, list[int]]], blend: Blend, data: Path, out: Path) -> Config:
    """The config of an ensemble of runs: that of the first selected, with what makes the blend again."""
    first = members[0][0].config
    kinds = [run.config.ensemble.students[run.result.labels[k]] for run, kept in members for k in kept]
    labels = [run.result.labels[k] for run, kept in members for k in kept]
    settings = [
        MemberConfig(
            _named(run, out),
            tuple(kept),
            to_dict(run.config.embedding),
            to_dict(run.config.ensemble),
        )
        for run, kept in members
    ]
    averages = {run.config.train.ema for run, _ in members}
    rounded = any(run.config.ensemble.matmul_dtype == "bfloat16" for run, _ in members)
    return dataclasses.replace(
        first,
        data=dataclasses.replace(first.data, path=str(data)),
        embedding=EmbeddingConfig(first.embedding.dim, first.embedding.l2, "own"),
        ensemble=EnsembleConfig(
            num_students=len(kinds),
            students={
                f"{k:02d}_{label}": kind for k, (label, kind) in enumerate(zip(labels, kinds, strict=True))
            },
            matmul_dtype="bfloat16" if rounded else "float32",
            blend=to_dict(BlendConfig(blend.of, blend.weights, tuple(map(to_dict, settings)))),
        ),
        transfer=TransferConfig("none"),
        # What not all of them have is nothing of the whole's.
        train=dataclasses.replace(
            first.train, init_from=(), ema=averages.pop() if len(averages) == 1 else 0.0
        ),
        mesh=MeshConfig(),
    )


def _named(run: Run, out: Path) -> str:
    return os.path.relpath(run.workdir, out)


def _in_turn(rates: Sequence[float]) -> float:
    """Rows per second where each of these rates is gone through with every row."""
    return 1 / sum(1 / rate for rate in rates) if all(rates) else 0.0
