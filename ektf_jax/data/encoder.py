"""Raw rows to ids, by what a dataset's tables are and the values it knows: the first part of any model of it.

Needs numpy and polars alone. Preparing a dataset and scoring with a model of it give a row the same ids.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ektf_jax import files
from ektf_jax.data import columns, dense, encoded, parquet, parts, vocabulary
from ektf_jax.data.chunk import Chunk, Rows
from ektf_jax.data.schema import Field, Schema
from ektf_jax.data.spec import FieldSpec, TableSpec, are_numbers, spec_from_json, spec_to_json
from ektf_jax.errors import InputError, cause

NARROW = "narrow_floats"  # in a dataset's source and in encoder.json, see `Encoder.narrow`
_DESCRIPTION = "encoder.json"
FIRST_ENCODER = 1  # of a source's `encoder`: version 0.1.0's
_WORDS_SCHEMA = {"field": pl.String(), "value": pl.String(), "id": pl.Int32()}


class Encoded(NamedTuple):
    """ids int32 [N, S]; for each field in how many of the rows it had a value that the dataset does not know.

    A missing value is not counted, though it may be OOV too. dense float32 [N, n] are the numbers of n dense
    fields; None where there are none.
    """

    ids: NDArray[np.int32]
    unseen: dict[str, int]
    dense: NDArray[np.float32] | None = None

    @property
    def columns(self) -> list[NDArray[Any]]:
        """What a predictor is called with: ids and, where there are some, the numbers of dense fields."""
        return [self.ids] if self.dense is None else [self.ids, self.dense]


@dataclass(frozen=True)
class Encoder:
    """What turns rows into ids: spec, fields with their places in the fused table, and the known values.

    `words` has the columns field, value, id (fused), as vocabulary.parquet has them. `narrow` are columns
    that the dataset has as floats of 32 bits: a wider one that equals such a float has its text.
    """

    spec: TableSpec
    fields: tuple[Field, ...]
    words: pl.DataFrame
    narrow: tuple[str, ...] = ()

    @cached_property
    def known(self) -> tuple[pl.DataFrame, ...]:
        """For each field its values and their ids."""
        return tuple(vocabulary.by_field(self.words, self.fields))

    def frame(self, rows: pl.DataFrame | Mapping[str, Any], where: str = "the rows") -> Encoded:
        """Encode a frame of polars or pandas, or a dict of columns, in any order and with others or without.

        A column may be text, or of a type that a Parquet file could give it. Raises InputError that names
        column, row and value for what is missing or cannot be a value of its field.
        """
        names = [field.name for field in self.fields]
        given: Any = rows
        if isinstance(given, Mapping) or _is_pandas(given):
            given = {name: _column(where, name, given[name]) for name in names if name in given}
        try:
            rows = given if isinstance(given, pl.DataFrame) else pl.DataFrame(given)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{where}: are no table ({error}); give a frame, or a dict of columns") from None
        if missing := [name for name in names if name not in rows.columns]:
            raise InputError(
                f"{where}: lack the columns {', '.join(missing)}; the model reads {', '.join(names)}"
            )
        settled = columns.settle([(where, rows.schema)], names, self.spec.lists)
        settled = columns.widened(settled, self.narrow)
        texts = pl.DataFrame([columns.text(name, rows[name], settled).alias(name) for name in names])
        return self.chunk(Chunk(texts, Rows(where, 0), 0), self.spec.as_values(settled.value))

    def chunk(
        self, chunk: Chunk, spec: TableSpec | None = None, wanted: NDArray[np.bool_] | None = None
    ) -> Encoded:
        """Encode a chunk, whose columns are text or lists of text, or the rows of it that are `wanted`.

        `spec` is the spec for its types.
        """
        count = len(chunk.frame) if wanted is None else int(wanted.sum())
        ids = np.empty((count, sum(field.max_len for field in self.fields)), np.int32)
        unseen, start = {}, 0
        numbers: list[NDArray[np.float32]] = []
        specs = (spec or self.spec).fields
        found = parts.distinct(chunk.frame, [field.name for field in self.fields])
        for field, one, known, (cells, rows, code) in zip(self.fields, specs, self.known, found, strict=True):
            values, _ = parts.values_of(one, cells, rows, chunk.where)
            code = code if wanted is None else code[wanted]
            missing = False if isinstance(values.dtype, pl.List) else values.is_null().to_numpy()
            oov = np.zeros(len(values), bool)
            for slot in vocabulary.slot_ids(values, field, known, one):
                ids[:, start] = slot[code]
                start += 1
                oov |= slot == field.oov
            unseen[field.name] = int((oov & ~np.asarray(missing))[code].sum())
            if field.scale is not None:
                numbers.append(dense.standardised(values, one, field.scale)[code])
        return Encoded(ids, unseen, np.stack(numbers, axis=1) if numbers else None)


def _column(where: str, name: str, values: Any) -> Any:
    """What polars takes for a column: what pandas lacks as None, whole numbers among others as floats."""
    if _is_pandas(values):  # by way of a list, which needs no pyarrow
        values = values.astype(object).where(values.notna(), None).to_list()
    if not isinstance(values, list | tuple):
        return values
    types = {*map(type, values)} - {type(None)}
    try:
        if types == {int, float}:  # JSON may write 1 for 1.0
            values = [value if value is None else float(value) for value in values]
        return pl.Series(name, values)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        mixed = f"has values of types {', '.join(sorted(one.__name__ for one in types))}"
        said = mixed if len(types) > 1 else cause(error)
        raise InputError(f"{where}: column {name}: {said}; give it values of one type, or None") from None


def _is_pandas(what: Any) -> bool:
    return type(what).__module__.startswith("pandas")


def of_dataset(directory: Path) -> Encoder:
    """The encoder of an encoded dataset. Raises InputError where it has none: its rows were never raw."""
    schema = encoded.open_schema(directory)
    path = directory / encoded.WORDS
    spec = spec_of(schema, directory / encoded.SCHEMA) if path.is_file() else None
    if spec is None:
        raise InputError(
            f"{directory}: has no {path.name}: its rows were made as ids, so that there is no raw row to"
            " encode"
        )
    _check_rules(schema, spec, directory / encoded.SCHEMA)
    return Encoder(spec, schema.fields, read_words(path), tuple(schema.source.get(NARROW, ())))


def spec_of(schema: Schema, path: Path) -> TableSpec | None:
    """The table that a dataset's rows are of, by its schema.json `path`; None where they were never raw."""
    from ektf_jax.data import movielens  # only now: it needs encoders itself

    spec = schema.source.get("spec")
    if spec is None and schema.dataset == movielens.SPEC.dataset:  # whose encodings name files alone
        return movielens.SPEC
    return None if spec is None else _spec(spec, path)


def _check_rules(schema: Schema, spec: TableSpec, path: Path) -> None:
    """Raise InputError where version 0.1.0 made the ids by rules that would give raw rows others now."""
    if schema.source.get("encoder") != FIRST_ENCODER:
        return
    files = schema.source.get("files")
    names = (
        [str(one.get("name")) for one in files if isinstance(one, Mapping)] if isinstance(files, list) else []
    )
    changed = [
        f"took the missing = {list(field.missing)} and fill = {field.fill!r} of {field.name} for buckets, not"
        " numbers"
        for field in spec.fields
        if field.kind == "numeric" and not _same_in_buckets(field)
    ]
    changed += [
        f"wrote the values of Parquet files ({name}) as other texts" for name in names if _parquet(name)
    ]
    if changed:
        raise InputError(
            f"{path}: is of version 0.1.0, which {changed[0]}: raw rows would get other ids now; prepare the"
            " data again and train on that. Its encoded rows can still be evaluated"
        )


def _same_in_buckets(field: FieldSpec) -> bool:
    """Whether a numeric field's `missing` and `fill` mean the same as buckets and as numbers."""
    numbers = {text for text in field.missing if are_numbers([text])[0]}
    filled = set() if field.fill is None else {field.fill}
    if field.paper_buckets:  # of which 1 is the first
        return not numbers and filled <= {"1"}
    # Of a mark without a fill all numbers of its bucket are OOV; with one they are what it says.
    whole = all(re.fullmatch("0|1|2|-[1-9][0-9]{0,9}", text) for text in numbers | filled)
    return whole and (not filled or numbers <= filled)


def _parquet(name: str) -> bool:
    return Path(name).suffix.lower() in (".parquet", ".pq")


def write(encoder: Encoder, directory: Path) -> None:
    """Write an encoder into a directory: encoder.json and vocabulary.parquet, always the same bytes."""
    described = {
        "spec": spec_to_json(encoder.spec),
        "fields": [field.to_json() for field in encoder.fields],
    }
    described |= {NARROW: list(encoder.narrow)} if encoder.narrow else {}
    files.write_json(directory / _DESCRIPTION, described)
    with (directory / encoded.WORDS).open("wb") as file:
        encoder.words.write_parquet(file)


def read(directory: Path) -> Encoder:
    """Read what `write` wrote. Raises InputError, naming the file, for what is missing or damaged."""
    path = directory / _DESCRIPTION
    described = files.read_json(path, {"spec": dict, "fields": list})
    try:
        fields = tuple(
            Field(**field | ({"scale": tuple(field["scale"])} if "scale" in field else {}))
            for field in described["fields"]
        )
    except TypeError as error:
        raise InputError(f"{path}: fields are none ({error}); get the directory again") from None
    narrow = described.get(NARROW, [])
    files.check_content(path, {NARROW: narrow}, {NARROW: [str]})
    spec, words = _spec(described["spec"], path), read_words(directory / encoded.WORDS)
    return Encoder(spec, fields, words, tuple(narrow))


def _spec(document: Mapping[str, Any], path: Path) -> TableSpec:
    try:
        return spec_from_json(document)
    except (TypeError, KeyError, AttributeError, InputError) as error:
        raise InputError(f"{path}: spec is none ({cause(error)}); prepare the dataset again") from None


def read_words(path: Path) -> pl.DataFrame:
    """The known values of a vocabulary.parquet: field, value, id. InputError, naming it, where it is none."""
    try:
        with path.open("rb") as file:  # polars would read a path with brackets as a pattern
            words = pl.read_parquet(file)
    except parquet.UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({cause(error)}); get it again") from None
    if dict(words.schema) != _WORDS_SCHEMA:
        raise InputError(f"{path}: has the columns {dict(words.schema)}, not field, value, id; get it again")
    return words
