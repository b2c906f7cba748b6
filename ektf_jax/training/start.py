"""What a run starts from where it is not random: the weights of finished runs, rows of the table by value."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from ektf_jax import sharding
from ektf_jax.blend import Predictor
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Field, Schema
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError
from ektf_jax.layers import adapters
from ektf_jax.layers.pretrained import Frozen
from ektf_jax.result import Result
from ektf_jax.training import rundata, teachers
from ektf_jax.training.record import check_data

if TYPE_CHECKING:
    import polars as pl

_FRESH = -1
_TABLE = "embedding/table"


class Source(NamedTuple):
    """A finished run to start from: where, its model, and for each row of our table its row, or -1.

    `fields` are its dataset's.
    """

    where: Path
    model: Predictor
    rows: NDArray[np.int64]
    fields: tuple[Field, ...]


def check(config: Config, workdir: Path) -> None:
    """Raise InputError where a run that has not begun cannot start from what it shall."""
    begun = any(path.name.isdigit() for path in (workdir / "checkpoints").glob("latest/*"))
    if not begun:
        teachers.finished("config.train.init_from", config.train.init_from, workdir)


def take(ensemble: Ensemble, config: Config, workdir: Path, schema: Schema) -> list[str]:
    """Give an untrained ensemble the weights of config.train.init_from; returns what to tell of it.

    Of one run of the ensemble's shape it takes all. Otherwise the students of the runs, in their order, fill
    the K students, each with what it reads of its table. Known values keep their rows of the table; new ones
    stay as they are. Leaves stay where they lie. Raises InputError for runs that do not suit, naming the
    first leaf that differs and both shapes.
    """
    told = []
    sources = []
    for directory in teachers.directories(config.train.init_from, workdir):
        source, said = _open(directory, config, workdir, schema)
        sources.append(source)
        told.append(said)
    state = nnx.state(ensemble)
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    leaves = {sharding.path_name(path): leaf for path, leaf in paths}
    values = {name: np.array(sharding.gathered(leaf)) for name, leaf in leaves.items()}
    first = sources[0]
    if len(sources) == 1 and isinstance(first.model, Ensemble) and _reads_alike(first.model, ensemble):
        _take_all(values, first)
    else:
        _take_students(values, ensemble, sources, config)
    _take_vectors(values, ensemble, sources, schema)
    given = [
        jax.make_array_from_callback(leaf.shape, leaf.sharding, values[name].__getitem__)
        for name, leaf in leaves.items()
    ]
    nnx.update(ensemble, jax.tree.unflatten(structure, given))
    return told


def _open(directory: Path, config: Config, workdir: Path, schema: Schema) -> tuple[Source, str]:
    """A run to start from, and a line about its values."""
    theirs = Result.read(directory).config
    # What it keeps of its dataset first: where that was, a newer one may be now.
    kept = rundata.kept(directory)
    data = kept if kept.exists() else rundata.where(theirs, directory)
    described = encoded.open_schema(data)
    check_data(directory, described, data)
    ours = rundata.where(config, workdir)
    if rundata.has_words(data) and rundata.has_words(ours):
        from ektf_jax.data import encoder  # which imports polars: no other run needs it

        there, here = (encoder.read_words(path / encoded.WORDS) for path in (data, ours))
        rows, known = _rows(described, there, schema, here, directory)
        gone = len(there) - known
        said = (
            f"{directory}: {known:,} of {len(here):,} values keep their rows, {len(here) - known:,} are new"
            f" and start fresh, {gone:,} are gone"
        )
    else:
        try:
            check_data(directory, schema, ours)
        except InputError as error:
            raise InputError(
                f"{directory}: its rows were made as ids, or this run's were, so that values cannot be told"
                f" apart between datasets, and this run has another ({error})"
            ) from None
        rows, said = np.arange(schema.num_features), f"{directory}: every row of the table is kept"
    model = teachers.predictor(directory, described)[0]
    return Source(directory, model, rows, described.fields), f"starts from {said}"


def _rows(
    described: Schema, there: "pl.DataFrame", schema: Schema, here: "pl.DataFrame", directory: Path
) -> tuple[NDArray[np.int64], int]:
    """For each row of our table their row with the same value of the same field, or -1; how many values."""
    names, known = ([field.name for field in one.fields] for one in (schema, described))
    if names != known:
        raise InputError(
            f"{directory}: has the fields {', '.join(known)}, this run's dataset {', '.join(names)}; a run"
            " starts from one with the same fields in the same order"
        )
    for ours, theirs in zip(schema.fields, described.fields, strict=True):
        if (ours.pretrained, ours.frozen) != (theirs.pretrained, theirs.frozen):
            raise InputError(
                f"{directory}: its field {ours.name} has {_vectors(theirs)}, and in this run's dataset"
                f" {_vectors(ours)}; a run starts from one with equally many numbers, which are frozen or not"
                " in both"
            )
        if ours.target != theirs.target:
            raise InputError(
                f"{directory}: the target of its field {ours.name} is {theirs.target!r}, and in this run's"
                f" dataset {ours.target!r}; a run starts from one with the same attention"
            )
    rows = np.full(schema.num_features, _FRESH)
    for ours, theirs in zip(schema.fields, described.fields, strict=True):
        rows[ours.offset], rows[ours.oov] = theirs.offset, theirs.oov
    both = here.join(there, on=["field", "value"], suffix="_there")
    rows[both["id"].to_numpy()] = both["id_there"].to_numpy()
    return rows, len(both)


def _vectors(field: Field) -> str:
    if field.pretrained is None:
        return "no pretrained vectors"
    return f"{'frozen' if field.frozen else 'trained'} vectors of {field.pretrained} numbers"


def _reads_alike(theirs: Ensemble, ours: Ensemble) -> bool:
    return theirs.shared_dim == ours.shared_dim and len(theirs.read_columns()) == len(ours.read_columns())


def _leaves(model: nnx.Module) -> dict[str, Any]:
    paths = jax.tree_util.tree_leaves_with_path(nnx.state(model))
    return {sharding.path_name(path): leaf for path, leaf in paths}


def _take_all(values: dict[str, NDArray[Any]], source: Source) -> None:
    given = _leaves(source.model)
    for name in sorted(values.keys() | given.keys()):
        by_value = sharding.is_table(name) or sharding.vectors_of(name) is not None
        rows = slice(1, None) if by_value else slice(None)
        _check_leaf(source.where, name, given, values, rows)
    for name, leaf in given.items():
        if sharding.is_table(name):
            _fill(values[name], range(leaf.shape[1]), np.asarray(leaf), source.rows)
        elif sharding.vectors_of(name) is None:
            values[name][...] = leaf


def _take_students(
    values: dict[str, NDArray[Any]], ensemble: Ensemble, sources: Sequence[Source], config: Config
) -> None:
    found = [
        (source, source.model.student(k)) for source in sources for k in range(source.model.num_students)
    ]
    places = [(g, i) for g, group in enumerate(ensemble.groups) for i in range(group.size)]
    named = f"config.train.init_from = {config.train.init_from!r}"
    if len(found) != len(places):
        raise InputError(
            f"{named}: these runs have {len(found)} students, but config.ensemble.num_students ="
            f" {len(places)}; the numbers must be the same"
        )
    if len(places) > 1 and ensemble.shared_dim:
        raise InputError(
            f"{named}: each of their students has what it reads of a table, but config.embedding.sharing ="
            f" {config.embedding.sharing!r} gives them one; use 'own'"
        )
    if jax.tree.leaves(nnx.state(ensemble, adapters.SharedKernel)):
        raise InputError(
            f"{named}: each of their students has its kernels, but config.ensemble.members = 'adapters' gives"
            " them one set; use 'separate'"
        )
    (table,) = (value for name, value in values.items() if sharding.is_table(name))
    wide = ensemble.shared_dim + ensemble.own_dim
    for k, ((g, i), (source, student)) in enumerate(zip(places, found, strict=True)):
        prefix, width = f"groups/{g}/", ensemble.groups[g].wide_dim
        ours = {f"groups/0/{n.removeprefix(prefix)}": v for n, v in values.items() if n.startswith(prefix)}
        theirs = {name: leaf for name, leaf in _leaves(student).items() if name.startswith("groups/0/")}
        for name in sorted(ours.keys() | theirs.keys()):
            _check_leaf(source.where, name, theirs, ours, slice(1, None), f"student {k}: ")
            ours[name][i] = theirs[name][0]
        columns = [*ensemble.read_columns()[k], *range(wide, wide + width)]
        wide += width
        rows = np.asarray(student.embedding.table[...])
        if rows.shape[1] != len(columns):
            raise InputError(
                f"{source.where}: student {k}: {_TABLE} has {rows.shape[1]} columns of it there, and"
                f" {len(columns)} in this run's model; give it the same config.embedding.dim"
            )
        _fill(table, columns, rows, source.rows)
        _take_attention(values, ensemble, student, k, source.where)
        for field, pretrained in enumerate(student.embedding.pretrained):
            kernel = _only(values, f"embedding/pretrained/{field}/projection")
            given = np.asarray(pretrained.projection.kernel[...])
            kernel[:, ensemble.read_columns()[k]] = given


def _take_vectors(
    values: dict[str, NDArray[Any]], ensemble: Ensemble, sources: Sequence[Source], schema: Schema
) -> None:
    """Give the vectors of known values what was trained of them there; the frozen are the dataset's."""
    places = [place for place, field in enumerate(schema.fields) if field.pretrained is not None]
    read = ensemble.embedding.pretrained  # none where no student reads embeddings
    for number, (place, pretrained) in enumerate(zip(places, read, strict=False)):
        if isinstance(pretrained.vectors, Frozen):
            continue
        ours, (first, *more) = schema.fields[place], sources
        if more or not isinstance(first.model, Ensemble):
            raise InputError(
                f"{first.where}: its vectors of field {ours.name} were trained with others; a run with"
                " students of several runs needs vectors that are frozen"
            )
        rows = first.rows[ours.offset : ours.offset + ours.vocab_size]
        local = np.where(rows == _FRESH, _FRESH, rows - first.fields[place].offset)
        local[0] = _FRESH  # padding
        given = np.asarray(first.model.embedding.pretrained[number].vectors[...])
        vectors = _only(values, f"embedding/pretrained/{number}/vectors")
        _fill(vectors, range(vectors.shape[1]), given, local)


def _take_attention(
    values: dict[str, NDArray[Any]], ensemble: Ensemble, student: Ensemble, k: int, where: Path
) -> None:
    """Set the units that attend for student k, which is alone there."""
    read = ensemble.read_columns()[k]
    given = _leaves(student)
    for field, attention in enumerate(ensemble.embedding.attention):
        prefix = f"embedding/attention/{field}/units/"
        ours: dict[str, NDArray[Any]] = {}
        for place, (unit, copy) in enumerate(attention.reads(read)):
            start = f"{prefix}{unit}/"
            parts = [name for name in values if name.startswith(start)]
            ours |= {
                f"{prefix}{place}/{name.removeprefix(start)}": values[name][copy, None] for name in parts
            }
        theirs = {name: leaf for name, leaf in given.items() if name.startswith(prefix)}
        for name in sorted(ours.keys() | theirs.keys()):
            _check_leaf(where, name, theirs, ours, slice(None), f"student {k}: ")
            ours[name][...] = theirs[name]


def _only(values: Mapping[str, NDArray[Any]], prefix: str) -> NDArray[Any]:
    """The leaf whose name starts so."""
    (found,) = (value for name, value in values.items() if name.startswith(prefix))
    return found


def _check_leaf(
    where: Path,
    name: str,
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    axes: slice,
    student: str = "",
) -> None:
    """Raise InputError where a leaf is on one side only, or has another shape there, of these axes."""
    there, here = (list(side[name].shape[axes]) if name in side else None for side in (theirs, ours))
    if there != here:
        told = ("not there" if shape is None else f"of shape {shape}" for shape in (there, here))
        raise InputError(
            "{}: {}{} is {} there, and {} in this run's model; give it the same config.ensemble and"
            " config.embedding".format(where, student, name, *told)
        )


def _fill(table: NDArray[Any], columns: Sequence[int], given: NDArray[Any], rows: NDArray[np.int64]) -> None:
    """Set the columns of our table's known rows."""
    known = np.flatnonzero(rows != _FRESH)
    table[known[:, None], np.array(columns, int)] = given[rows[known]]
