"""Finished runs, and learning from them: their models, what they say of a batch, what their pupils need."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ektf_jax import sharding, transfer
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import evaluation_batches
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError
from ektf_jax.training import build, checkpoint
from ektf_jax.training.identity import differences, identity
from ektf_jax.training.record import check_data, check_students, read_result, students_in_full
from ektf_jax.training.step import Predict
from ektf_jax.transfer.eckd import Pupil, distillation
from ektf_jax.transfer.lesson import Lesson

Teach = Callable[[ArrayLike], Lesson]


class Fixed(nnx.Variable):
    """A value that is saved with the model and not trained."""


def directories(config: build.Config, workdir: Path) -> list[Path]:
    """Where the teachers of a run are: config.transfer.teachers, relative to its working directory."""
    if config["transfer"]["name"] not in transfer.TAUGHT:
        return []
    return [Path(os.path.normpath(workdir / teacher)) for teacher in config["transfer"]["teachers"]]


def check(config: build.Config, workdir: Path, schema: Schema | None = None) -> None:
    """Raise InputError for a teacher that is not finished or, with a schema, had data of another one."""
    for directory in directories(config, workdir):
        read_result(directory)
        if schema is not None:
            check_data(directory, schema, config["data"]["path"] or "this run's generated data")


def digests(config: build.Config, workdir: Path) -> dict[str, str]:
    """For each teacher that is finished, by its name in the config, a digest of the model that it is.

    A teacher that is trained again to the same bits keeps it: times are no part of it, metrics are.
    """
    found = {}
    for name, directory in zip(config["transfer"]["teachers"], directories(config, workdir), strict=False):
        if (directory / "result.json").exists():
            result = read_result(directory)
            told = {key: result.get(key) for key in ("params", "best_epoch", "epochs", "valid", "test")}
            text = json.dumps(told, sort_keys=True, allow_nan=False)
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def load(workdir: Path, schema: Schema) -> Ensemble | Pupil:
    """The model of a finished run, with the weights of its best epoch.

    Raises InputError where these are not there any more, or are not those of the model that the run's config
    makes now. Writes and deletes nothing.
    """
    result = read_result(workdir)
    check_students(workdir, result)
    directory, advice = workdir / "checkpoints" / "best", "restore it, or train again in another --workdir"
    if not directory.is_dir():
        raise InputError(f"{directory}: no checkpoint; {advice}")
    model = _untrained(result["config"], workdir, schema, jax.random.key(0))
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    with checkpoint.open_checkpoints(directory, read_only=True) as best:
        restored = checkpoint.restore(best, (parameters, statistics))
    if restored is None:
        raise InputError(f"{directory}: no checkpoint; {advice}")
    (parameters, statistics), progress = restored
    if progress["epoch"] != result["best_epoch"]:
        raise InputError(
            f"{directory}: the checkpoint of epoch {result['best_epoch']}, result.json's, is damaged or gone,"
            f" and that of epoch {progress['epoch']} is another model; {advice}"
        )
    return nnx.merge(graphdef, parameters, statistics)


def make_model(
    config: build.Config, workdir: Path, schema: Schema, key: jax.Array, mesh: Mesh
) -> tuple[Ensemble | Pupil, Teach | None]:
    """The initial model of a run with teachers, and what gives it lessons on the mesh if they do.

    Raises InputError for teachers that do not suit the run.
    """
    model = _untrained(config, workdir, schema, key)
    found = [(directory, student(load(directory, schema))) for directory in directories(config, workdir)]
    teachers = [teacher for _, teacher in found]
    if isinstance(model, Pupil):
        if config["transfer"]["eckd"]["hint_weight"] and not model.maps:
            raise InputError(
                f"config.transfer.eckd.hint_weight = {config['transfer']['eckd']['hint_weight']!r}, but hints"
                " need a hidden state of the student and of a teacher; set it to 0"
            )
        return model, _make_teach(teachers, model.hint_sizes, mesh)
    ((directory, teacher),) = found
    if config["transfer"]["dagfm"]["stage"] == "finetuning":
        _start_from(model, teacher, directory)
        _check_same_student(config, directory)
        return model, None
    _take_embeddings(model, teacher, directory)
    return model, _make_teach(teachers, [0], mesh)


def distillation_loss(
    predict: Predict,
    teach: Teach,
    parameters: nnx.State,
    statistics: nnx.State,
    split: Split,
    batch_size: int,
    temperature: float,
) -> float:
    """ECKD's criterion of early stopping: the mean of `distillation` over a split."""
    total = 0.0
    for ids, rows in evaluation_batches(split, batch_size):
        prediction: Any = predict(parameters, statistics, ids)  # a Guided
        losses = distillation(prediction, teach(ids), temperature=temperature)
        total += float(np.sum(np.asarray(losses, np.float64)[:rows]))
    return total / len(split.labels)


def _untrained(config: build.Config, workdir: Path, schema: Schema, key: jax.Array) -> Ensemble | Pupil:
    """A run's model as it is saved: ECKD's has a gate and maps, a DAGFM in distillation a fixed table."""
    model = build.make_model(config, schema, key)
    method = config["transfer"]["name"]
    if method == "eckd":
        hints = config["transfer"]["eckd"]["hint_weight"] > 0 and _hidden_size(model) > 0
        sizes = [_size_of(directory, schema) if hints else 0 for directory in directories(config, workdir)]
        return Pupil(model, sizes, key=jax.random.fold_in(key, 1))
    if method == "dagfm" and config["transfer"]["dagfm"]["stage"] == "distillation":
        model.embedding.table = Fixed(model.embedding.table[...])
    return model


def student(model: Ensemble | Pupil) -> Ensemble:
    """What predicts, without what only learning from teachers needs."""
    return model.ensemble if isinstance(model, Pupil) else model


def _hidden_size(model: Ensemble) -> int:
    """Units of the last hidden layer of a model that is a single student with one, else 0."""
    return model.groups[0].hidden_size if sum(group.size for group in model.groups) == 1 else 0


def _size_of(directory: Path, schema: Schema) -> int:
    config = read_result(directory)["config"]
    return _hidden_size(nnx.eval_shape(lambda: build.make_model(config, schema, jax.random.key(0))))


def _make_teach(teachers: list[Ensemble], hint_sizes: tuple[int, ...] | list[int], mesh: Mesh) -> Teach:
    """Jitted: ids [B, S] -> `Lesson` of the teachers, with the hidden states of those that have a size."""
    graphdefs, states = zip(*map(nnx.split, teachers), strict=True)
    states = jax.device_put(states, sharding.replicated(mesh))

    @jax.jit
    def teach(states: tuple[nnx.State, ...], ids: jax.Array) -> Lesson:
        models = [nnx.merge(*parts, copy=True) for parts in zip(graphdefs, states, strict=True)]
        hidden = (
            model.hidden(ids)[0][0] if size else None for model, size in zip(models, hint_sizes, strict=True)
        )
        return Lesson(jnp.stack([model(ids).ensemble for model in models]), tuple(hidden))

    return lambda ids: teach(states, ids)


def _start_from(model: Ensemble, trained: Ensemble, directory: Path) -> None:
    """Give an untrained model the weights of a trained one of the same shape."""
    trained.embedding.table = nnx.Param(trained.embedding.table[...])  # fixed where it was distilled
    theirs = nnx.state(trained)
    ours, given = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.to_pure_dict(state))
        for state in (nnx.state(model), theirs)
    )
    if ours != given:
        raise InputError(
            f"{directory}: not a model of this run's shape, as config.transfer.dagfm.stage = 'finetuning'"
            " goes on from; give it the same config.ensemble and config.embedding.dim"
        )
    nnx.update(model, theirs)


def _check_same_student(config: build.Config, directory: Path) -> None:
    """Weights of one shape can mean another thing: DAGFM's interactions, say."""
    result = read_result(directory)
    (ours,) = students_in_full(config).values()
    theirs = next(iter((result.get("students") or students_in_full(result["config"])).values()))
    if changed := differences(identity(theirs), identity(ours)):
        raise InputError(
            f"{directory}: its student is not that of config.ensemble.students ({'; '.join(changed)}), so its"
            " weights are no start for it; give it the same arguments"
        )


def _take_embeddings(model: Ensemble, teacher: Ensemble, directory: Path) -> None:
    """Give the student the teacher's shared embeddings."""
    columns, dim = model.embedding.table.shape[1], model.shared_dim
    if columns != dim or dim != teacher.shared_dim:
        raise InputError(
            f"config.embedding: {dim} shared columns of the table and {columns - dim} of the students' own"
            f" must be {teacher.shared_dim} and none: a DAGFM is distilled over the shared embeddings of its"
            f" teacher, {directory}"
        )
    model.embedding.table[...] = teacher.embedding.table[:, :dim]
