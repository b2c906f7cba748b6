"""Finished runs, and learning from them: their models, and what they say of a batch."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, SingleDeviceSharding

from ektf_jax import result as result_file
from ektf_jax import sharding, transfer
from ektf_jax.blend import Predictor
from ektf_jax.config import Config
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.training import build, checkpoint, vectors
from ektf_jax.training.record import check_data, check_students, students_in_full
from ektf_jax.training.step import Predict
from ektf_jax.transfer import Method, Teacher, TeacherOutputs


class Teach(NamedTuple):
    """What teachers say of a batch: `of` is jitted, and takes their weights, which no program has in it."""

    of: Callable[[Any, Batch], TeacherOutputs]
    weights: Any

    def __call__(self, batch: Batch) -> TeacherOutputs:
        """Ask them."""
        return self.of(self.weights, batch)


def directories(names: Sequence[str], workdir: Path) -> list[Path]:
    """Where finished runs are that a run's config names: relative to its own directory."""
    return [Path(os.path.normpath(workdir / name)) for name in names]


def finished(key: str, names: Sequence[str], workdir: Path) -> list[Path]:
    """`directories` of the runs that a key of the config names; InputError for one that is not finished."""
    found = directories(names, workdir)
    for name, directory in zip(names, found, strict=True):
        if not result_file.exists(directory) and result_file.exists(Path(name)):
            meant = os.path.relpath(name, workdir)
            raise InputError(
                f"{key} = {name!r} is relative to the run's directory {workdir}; write {meant!r}"
            )
        Result.read(directory)
    return found


def check(config: Config, workdir: Path, schema: Schema | None = None) -> None:
    """Raise InputError for a teacher that is not finished or, with a schema, had data of another one."""
    for directory in finished("config.transfer.teachers", config.transfer.teachers, workdir):
        if schema is not None:
            check_data(directory, schema, config.data.path or "this run's generated data")


def digests(config: Config, workdir: Path) -> dict[str, str]:
    """For each finished run that this one learns from, by its name in the config, a digest of its model.

    One that is trained again to the same bits keeps it: times are no part of it, metrics are.
    """
    found = {}
    for name, directory in zip(config.sources, directories(config.sources, workdir), strict=True):
        if result_file.exists(directory):
            document = Result.read(directory).document
            told = {key: document.get(key) for key in ("params", "best_epoch", "epochs", "valid", "test")}
            text = json.dumps(told, sort_keys=True, allow_nan=False)
            found[name] = hashlib.sha256(text.encode()).hexdigest()
    return found


def load(workdir: Path, schema: Schema) -> nnx.Module:
    """The model of a finished run as its method has it, with the weights of its best epoch.

    Raises InputError where these are not there any more, or are not those of the model that the run's config
    makes now. Writes and deletes nothing.
    """
    result = Result.read(workdir)
    check_students(workdir, result)
    directory, advice = workdir / "checkpoints" / "best", "restore it, or train again in another --workdir"
    if not directory.is_dir():
        raise InputError(f"{directory}: no checkpoint; {advice}")
    # Its shapes alone: every value is the checkpoint's.
    model = nnx.eval_shape(lambda: untrained(result.config, workdir, schema, jax.random.key(0)))
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    here = SingleDeviceSharding(jnp.zeros(()).device)  # the default device
    parameters, statistics = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), (parameters, statistics)
    )
    with checkpoint.open_checkpoints(directory, read_only=True) as best:
        restored = checkpoint.restore(best, (parameters, statistics), shape={"epoch": int})
    if restored is None:
        raise InputError(f"{directory}: no checkpoint; {advice}")
    (parameters, statistics), progress = restored
    if progress["epoch"] != result.best_epoch:
        raise InputError(
            f"{directory}: the checkpoint of epoch {result.best_epoch}, {result.path.name}'s, is damaged or"
            f" gone, and that of epoch {progress['epoch']} is another model; {advice}"
        )
    return nnx.merge(graphdef, parameters, statistics)


def predictor(workdir: Path, schema: Schema) -> tuple[Predictor, Config]:
    """`load` without what only learning from teachers needs, and the run's config.

    What the method held fixed in training is a parameter, as in any other model of this config.
    """
    config = Result.read(workdir).config
    method = transfer.read(config.transfer)
    trained = method.ensemble(load(workdir, schema))
    if type(method).make_model is Method.make_model:
        return trained, config
    model = _shapes(workdir, schema)
    nnx.update(model, nnx.to_pure_dict(nnx.state(trained)))
    return model, config


def untrained(config: Config, workdir: Path, schema: Schema, key: jax.Array) -> nnx.Module:
    """A run's model as its method makes it and it is saved, before it is trained."""
    where = directories(config.transfer.teachers, workdir)
    shapes = [partial(_shapes, directory, schema) for directory in where]
    model: Any = build.make_predictor(config, schema, key)
    return transfer.read(config.transfer).make_model(model, shapes, key)


def _shapes(directory: Path, schema: Schema) -> Predictor:
    config = Result.read(directory).config
    return nnx.eval_shape(lambda: build.make_predictor(config, schema, jax.random.key(0)))


def make_model(
    config: Config, workdir: Path, schema: Schema, key: jax.Array, mesh: Mesh
) -> tuple[nnx.Module, Teach | None]:
    """The initial model of a run with teachers, and on the mesh what its teachers say, if they do.

    Raises InputError for teachers that do not suit the run.
    """
    method = transfer.read(config.transfer)
    model = untrained(config, workdir, schema, key)
    nnx.update(model, vectors.put(config, workdir, schema, nnx.state(model)))
    teachers = []
    for directory in directories(config.transfer.teachers, workdir):
        ensemble, theirs = predictor(directory, schema)
        students = Result.read(directory).students or students_in_full(theirs)
        teachers.append(Teacher(str(directory), ensemble, students))
    method.start(model, students_in_full(config), teachers)
    wanted = method.hidden_wanted(model)
    return model, None if wanted is None else _make_teach([t.model for t in teachers], wanted, mesh)


def monitored(
    method: Method,
    predict: Predict,
    teach: Teach,
    parameters: nnx.State,
    statistics: nnx.State,
    batches: Iterable[tuple[Batch, int]],
) -> float:
    """The mean over batches, with the number of rows that count of each, of what a method monitors.

    Rows count by their weights, if they have some.
    """
    total, count = 0.0, 0.0
    for batch, rows in batches:
        prediction: Any = predict(parameters, statistics, batch)
        told = np.asarray(method.monitored(prediction, teach(batch)), np.float64)[:rows]
        if batch.weights is None:
            total, count = total + float(np.sum(told)), count + rows
        else:
            weights = np.asarray(batch.weights, np.float64)[:rows]
            total, count = total + float(np.sum(weights * told)), count + float(np.sum(weights))
    return total / count


def _make_teach(teachers: Sequence[Predictor], hidden: Sequence[bool], mesh: Mesh) -> Teach:
    """What the teachers say, with the hidden states that are wanted."""
    graphdefs, states = zip(*map(nnx.split, teachers), strict=True)
    states = jax.device_put(states, sharding.replicated(mesh))

    @jax.jit
    def teach(states: tuple[nnx.State, ...], batch: Batch) -> TeacherOutputs:
        models = [nnx.merge(*parts, copy=True) for parts in zip(graphdefs, states, strict=True)]
        wanted = (
            model.hidden(batch.ids, **batch.beside_ids)[0][0] if asked else None
            for model, asked in zip(models, hidden, strict=True)
        )
        logits = jnp.stack([model(batch.ids, **batch.beside_ids).ensemble for model in models])
        return TeacherOutputs(logits, tuple(wanted))

    return Teach(teach, states)
