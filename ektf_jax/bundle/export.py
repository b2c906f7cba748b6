"""Makes a bundle of a finished run: its program and weights, its encoder, what is known of it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ektf_jax import directories, files, metrics
from ektf_jax.blend import Predictor
from ektf_jax.bundle import card, onnx, reader
from ektf_jax.bundle.reader import ENSEMBLE
from ektf_jax.data import encoded, encoder
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.sharding import path_name
from ektf_jax.training import record, rundata, teachers
from ektf_jax.training.versions import versions

PLATFORMS = ("cpu", "cuda", "tpu")
_CHECKED_ROWS = 4096
_CLOSE, _CLOSE_AT_MOST = 1e-6, 1e-4
_LOCATIONS = "jax_traceback_in_locations_limit"

Weights = dict[str, jax.Array]
Program = Callable[..., jax.Array]  # of weights, ids and, if fields are dense, their numbers


def export(
    workdir: Path, out: Path, *, predictor: str = ENSEMBLE, with_onnx: bool = False, data: Path | None = None
) -> dict[str, Any]:
    """Write a bundle of a finished run to `out`, whole or not at all; returns what bundle.json says.

    `predictor` is "ensemble" (with its students), "best" (the student with the best validation AUC) or a
    student's number. `data` is where the run's dataset is now, if it was moved. Before it takes its place the
    bundle has to give the run's own probabilities on rows of the validation split, to 1e-6; as ONNX, whose
    operators round otherwise, to twice what float32 itself is off, at most 1e-4. Raises InputError for a run
    that is not finished, data that is not its own, a predictor it does not have, or a dataset that was made
    as ids.
    """
    result = Result.read(workdir)
    config = result.config
    student = result.find("--predictor", predictor)
    data = rundata.with_rows(config, workdir, data)
    schema, splits = encoded.open_dataset(data, ["valid"])
    record.check_data(workdir, schema, data)
    encodes = encoder.of_dataset(data)
    whole = teachers.predictor(workdir, schema)[0]
    model = whole if student is None else whole.student(student)
    students = 0 if student is not None else len(result.valid["students"])
    with directories.replacing(out, "bundle", _is_bundle) as new:
        write_program(model, students > 0, schema.num_slots, new, dense=schema.num_dense, with_onnx=with_onnx)
        encoder.write(encodes, new)
        about = {
            "format": reader.FORMAT,
            "version": reader.VERSION,
            "predictor": ENSEMBLE if student is None else str(student),
            "students": students,
            "slots": schema.num_slots,
            **({"dense": schema.num_dense} if schema.num_dense else {}),
            "dataset": schema.dataset,
            "fields": [field.name for field in schema.fields],
            "params": count_parameters(model),
            "metrics": {split: _metrics(result.document[split], student) for split in ("valid", "test")},
            "run": {
                "seed": config.seed,
                "method": config.transfer.name,
                "students": [config.ensemble.students[label]["name"] for label in config.ensemble.labels],
            },
            "versions": versions("ektf-jax", "jax"),
        }
        (new / "README.md").write_text(card.text(about), encoding="utf-8")
        about["files"] = {path.name: reader.sha256(path) for path in sorted(new.iterdir())}
        files.write_json(new / reader.DESCRIPTION, about)
        valid = splits["valid"]
        columns = [valid.ids] if valid.dense is None else [valid.ids, valid.dense]
        rows_of = [np.asarray(column[:_CHECKED_ROWS]) for column in columns]
        program, weights = as_program(whole, bool(result.valid["students"]))
        rows = slice(None) if student is None else slice(student, student + 1)
        expected = _probabilities(program, weights, rows_of)[rows]
        _check(new, "jax", rows_of, expected, _CLOSE)
        if with_onnx:
            exact = _in_float64(program, weights, rows_of)[rows]
            close = min(max(_CLOSE, 2 * _difference(expected, exact)), _CLOSE_AT_MOST)
            _check(new, "onnx", rows_of, expected, close)
    return about


def write_program(
    model: Predictor,
    with_students: bool,
    slots: int,
    directory: Path,
    *,
    dense: int = 0,
    with_onnx: bool = False,
) -> None:
    """Write a model's weights and program (`as_program`), and the same as an ONNX graph.

    Rows have so many slots and numbers of dense fields.
    """
    program, weights = as_program(model, with_students)
    try:
        save_file({name: np.asarray(leaf) for name, leaf in weights.items()}, directory / reader.WEIGHTS)
    except SafetensorError as error:  # a disk that is full
        raise OSError(str(error)) from error
    (directory / reader.PROGRAM).write_bytes(serialized(program, weights, slots, dense))
    if with_onnx:
        program, weights = as_program(onnx.prepared(model), with_students)
        onnx.write(partial(program, weights), slots, directory / reader.ONNX, dense=dense)


def as_program(model: Predictor, with_students: bool) -> tuple[Program, Weights]:
    """A model as a pure function of weights by name and ids int32 [B, S], and its weights.

    Of a model of n dense fields it also takes their numbers, float32 [B, n].
    Its result is logits float32 [P, B]: of the students, and last of the ensemble; or of the ensemble alone.
    """
    graphdef, state = nnx.split(model)
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    names = [path_name(path) for path, _ in paths]

    def program(weights: Weights, ids: jax.Array, *dense: jax.Array) -> jax.Array:
        leaves = [weights[name] for name in names]
        model = nnx.merge(graphdef, jax.tree.unflatten(structure, leaves))
        prediction = model(ids, dense=dense[0] if dense else None)
        if not with_students:
            return prediction.ensemble[None]
        return jnp.concatenate([prediction.students, prediction.ensemble[None]])

    return program, dict(zip(names, (leaf for _, leaf in paths), strict=True))


def serialized(program: Program, weights: Weights, slots: int, dense: int = 0) -> bytes:
    """The program for any number of rows, on any platform; the same bytes for the same model."""
    (rows,) = jax.export.symbolic_shape("rows")
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights)
    columns = [jax.ShapeDtypeStruct((rows, slots), jnp.int32)]
    columns += [jax.ShapeDtypeStruct((rows, dense), jnp.float32)] if dense else []
    with _without_locations():
        exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, *columns)
    return bytes(exported.serialize())


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Lower without the files and lines of code that operators come from: they differ between machines."""
    before = getattr(jax.config, _LOCATIONS)
    jax.config.update(_LOCATIONS, 0)
    try:
        yield
    finally:
        jax.config.update(_LOCATIONS, before)


def _metrics(found: dict[str, Any], student: int | None) -> dict[str, Any]:
    if student is not None:
        return {ENSEMBLE: found["students"][student]}
    return {key: found[key] for key in (ENSEMBLE, "students")}


def _probabilities(program: Program, weights: Weights, columns: Sequence[np.ndarray]) -> NDArray[np.float64]:
    return metrics.probabilities(np.asarray(jax.jit(program)(weights, *map(jnp.asarray, columns))))


def _in_float64(program: Program, weights: Weights, columns: Sequence[np.ndarray]) -> NDArray[np.float64]:
    with jax.enable_x64(True):
        return _probabilities(program, jax.tree.map(lambda leaf: leaf.astype(np.float64), weights), columns)


def _difference(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.abs(found - expected).max())


def _check(
    bundle: Path,
    runtime: str,
    columns: Sequence[np.ndarray],
    expected: NDArray[np.float64],
    close: float,
) -> None:
    found = metrics.probabilities(reader.load(bundle, runtime=runtime).logits(*columns))
    difference = _difference(found, expected)
    if not difference <= close:
        raise InputError(
            f"the bundle's probabilities ({runtime}) differ by {difference:.1e} from the run's, more than"
            f" {close:.0e}; no bundle was written"
        )


def _is_bundle(directory: Path) -> bool:
    return files.has_format(directory / reader.DESCRIPTION, reader.FORMAT)
