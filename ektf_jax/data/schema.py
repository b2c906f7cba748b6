"""What an encoded dataset holds: its fields, their ids, its splits and where it came from."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import Any

from ektf_jax.errors import InputError, unknown
from ektf_jax.files import parse_json

FORMAT = "ektf-jax encoded dataset"
VERSION = 1
SPLITS = ("train", "valid", "test")
POOLINGS = ("mean", "sum", "max")
ATTENTION = "attention"  # the pooling that needs another field, the target
# The arrays of an encoded dataset, by their files, and those of one whose rows have weights.
ARRAYS = tuple(f"{split}/{kind}.npy" for split in SPLITS for kind in ("ids", "labels"))
WEIGHTED = (*ARRAYS, *(f"{split}/weights.npy" for split in SPLITS))
# Keys of a field that those of older datasets lack, as they are if not set.
_LATER = {"pooling": POOLINGS[0], "scale": None, "target": None, "pretrained": None, "frozen": True}
_KEYS = ("format", "version", "dataset", "fields", "splits", "source", "weighted", "arrays")
_MAX_FEATURES = 2**31 - 1  # ids are int32
_REMEDY = "prepare the dataset again"


@dataclass(frozen=True)
class Field:
    """One field: rows [offset, offset + vocab_size) of the fused table, in max_len id slots.

    vocab_size counts one padding and one out-of-vocabulary entry. Local id 0 is padding, which is fused
    id 0 in every field, so that row `offset` of any later field is never used; known values are fused
    ids offset + 1 ... offset + vocab_size - 2, and `oov` is the last. `pooling` says what the embeddings
    of its slots become; if it is "attention", `target` is the field that they are attended by. A dense field
    has a `scale`, the mean and deviation that its numbers are freed of, and each number is a factor of the
    embedding of its id. If it has `pretrained` vectors, these have so many numbers (`vectors_file`), which a
    model does not train if they are `frozen`.
    """

    name: str
    vocab_size: int
    offset: int
    max_len: int = 1
    pooling: str = POOLINGS[0]
    scale: tuple[float, float] | None = None
    target: str | None = None
    pretrained: int | None = None
    frozen: bool = True

    @property
    def oov(self) -> int:
        """The fused id of a value that the vocabulary lacks."""
        return self.offset + self.vocab_size - 1

    def to_json(self) -> dict[str, Any]:
        """The field as files have it, without what came later and is not set."""
        return {key: value for key, value in asdict(self).items() if (key, value) not in _LATER.items()}


@dataclass(frozen=True)
class Schema:
    """The fields of a dataset in order, the rows of each split, and the provenance of both.

    `source` is free-form JSON: the raw files' bytes and sha256, and options such as the split's seed.
    `arrays` has the SHA-256 of each of `ARRAYS`, the rows themselves; it is empty until they are written, and
    for a dataset that version 0.1.0 wrote. Schemas are compared by the description, which it is no part of.
    `weighted`: whether rows have weights.
    """

    dataset: str
    fields: tuple[Field, ...]
    splits: dict[str, int]
    source: dict[str, Any]
    arrays: dict[str, str] = field(default_factory=dict, compare=False)
    weighted: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The arrays by their files: `ARRAYS`, or `WEIGHTED`, and those of dense and pretrained fields."""
        return _files(self.weighted, self.fields)

    @property
    def num_dense(self) -> int:
        """The dense columns of a row: how many fields are."""
        return _num_dense(self.fields)

    @property
    def has_vectors(self) -> bool:
        """Whether a field has pretrained vectors."""
        return any(field.pretrained is not None for field in self.fields)

    @property
    def num_fields(self) -> int:
        """F."""
        return len(self.fields)

    @property
    def num_slots(self) -> int:
        """S: the id columns of a row."""
        return sum(field.max_len for field in self.fields)

    @property
    def num_features(self) -> int:
        """V: the rows of the fused table."""
        return sum(field.vocab_size for field in self.fields)

    @property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """For each field the (start, stop) of its id columns."""
        stops = _running_sum(field.max_len for field in self.fields)
        return tuple((stop - field.max_len, stop) for field, stop in zip(self.fields, stops, strict=True))

    def to_json(self) -> str:
        """The text of schema.json."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "dataset": self.dataset,
            "fields": [field.to_json() for field in self.fields],
            "splits": self.splits,
            "source": self.source,
        }
        document |= {"weighted": True} if self.weighted else {}
        document |= {"arrays": self.arrays} if self.arrays else {}
        return json.dumps(document, indent=2, allow_nan=False) + "\n"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json`: of the description and, through their digests, of all ids and labels."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def description_fingerprint(self) -> str:
        """SHA-256 of the description alone: what version 0.1.0 took for the dataset's fingerprint."""
        return replace(self, arrays={}).fingerprint

    @classmethod
    def from_json(cls, text: str, file: str = "schema.json") -> "Schema":
        """Reads the text of a schema.json; `file` is the name that errors give it.

        Raises InputError naming the file, the field and the value if anything is missing or wrong.
        """
        try:
            document = parse_json(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: not JSON ({error}); {_REMEDY}") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InputError(f"{file}: not the schema of an encoded dataset (no format {FORMAT!r})")
        if document.get("version") != VERSION or isinstance(document["version"], bool):
            raise InputError(
                f"{file}: version is {document.get('version')!r}, this program reads {VERSION}; {_REMEDY}"
            )
        _check_keys(document, _KEYS, file)
        dataset = _text(document, "dataset", file)
        fields = _fields(_typed(document, "fields", list, file), file)
        splits = _typed(document, "splits", dict, file)
        if set(splits) != set(SPLITS):
            raise InputError(f"{file}: splits are {sorted(splits)}, not {sorted(SPLITS)}; {_REMEDY}")
        rows = {name: _count(splits, name, 1, f"{file}: splits") for name in SPLITS}
        source = _typed(document, "source", dict, file)
        weighted = bool(_typed({"weighted": False} | document, "weighted", bool, file))
        arrays = _arrays(document, _files(weighted, fields), file)
        return cls(dataset, fields, rows, source, arrays, weighted)


def make_fields(entries: Iterable[tuple[str, int, int]]) -> tuple[Field, ...]:
    """Lay out fields one after another in the fused table, from (name, vocab_size, max_len).

    A vocabulary counts two more than its values: padding and OOV (`Field`). Raises ValueError for one of
    fewer, for a field without a slot, and for two of one name.
    """
    rows = list(entries)
    for index, (name, vocab_size, max_len) in enumerate(rows):
        if vocab_size < 2 or max_len < 1:
            raise ValueError(
                f"field {name}: {vocab_size} entries in {max_len} slots; expected 2 entries at least, padding"
                " and OOV, and 1 slot"
            )
        if any(name == other for other, *_ in rows[:index]):
            raise ValueError(f"field {name} appears twice")
    ends = _running_sum(vocab_size for _, vocab_size, _ in rows)
    return tuple(
        Field(name, vocab_size, end - vocab_size, max_len)
        for (name, vocab_size, max_len), end in zip(rows, ends, strict=True)
    )


def check_targets(fields: Sequence[Field], where: str = "") -> None:
    """Raise InputError where attention has no target, or a wrong one, or a target no attention."""
    for each in fields:
        if (each.target is not None) != (each.pooling == ATTENTION and each.scale is None):
            raise InputError(
                f"{where}field {each.name}: pooling is {each.pooling!r}, target {each.target!r}; attention,"
                " which a dense field cannot have, needs a target, and no other pooling has one"
            )
    unfit = {each.name: "dense" for each in fields if each.scale is not None}
    unfit |= {each.name: "multi-valued" for each in fields if each.max_len > 1 or each.pooling == ATTENTION}
    match_targets({each.name: each.target for each in fields}, unfit, where)


def match_targets(targets: Mapping[str, str | None], unfit: Mapping[str, str], where: str) -> None:
    """Raise InputError where a field's target is no field, or one that is `unfit`, as this says."""
    for name, target in targets.items():
        if target is None:
            continue
        if target not in targets:
            raise unknown(f"{where}field {name}: target", target, targets.keys() - unfit.keys())
        if target in unfit:
            raise InputError(
                f"{where}field {name}: target is {target!r}, which is {unfit[target]}; it must be a field of"
                " one value that has a vocabulary"
            )


def _num_dense(fields: Iterable[Field]) -> int:
    return sum(field.scale is not None for field in fields)


def vectors_file(place: int) -> str:
    """The file of the vectors of a field, by its place among the fields: float32 [vocab_size, numbers]."""
    return f"vectors/{place}.npy"


def _files(weighted: bool, fields: Sequence[Field]) -> tuple[str, ...]:
    dense = tuple(f"{split}/dense.npy" for split in SPLITS) if _num_dense(fields) else ()
    vectors = tuple(vectors_file(place) for place, each in enumerate(fields) if each.pretrained is not None)
    return (WEIGHTED if weighted else ARRAYS) + dense + vectors


def _running_sum(values: Iterable[int]) -> list[int]:
    sums: list[int] = []
    for value in values:
        sums.append(value + (sums[-1] if sums else 0))
    return sums


def _fields(entries: list[Any], file: str) -> tuple[Field, ...]:
    if not entries:
        raise InputError(f"{file}: fields is empty; {_REMEDY}")
    fields: list[Field] = []
    names: set[str] = set()
    offset = 0
    for index, entry in enumerate(entries):
        where = f"{file}: fields[{index}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is {entry!r}, not an object; {_REMEDY}")
        _check_keys(entry, [one.name for one in dataclass_fields(Field)], where)
        name = _text(entry, "name", where)
        where = f"{where} ({name})"
        if name in names:
            raise InputError(f"{where}: name {name!r} appears twice; {_REMEDY}")
        field = Field(
            name,
            _count(entry, "vocab_size", 2, where),
            _count(entry, "offset", 0, where),
            _count(entry, "max_len", 1, where),
            _text({"pooling": POOLINGS[0]} | entry, "pooling", where),
            _scale(entry, where),
            _text(entry, "target", where) if "target" in entry else None,
            _count(entry, "pretrained", 1, where) if "pretrained" in entry else None,
            bool(_typed({"frozen": True} | entry, "frozen", bool, where)),
        )
        poolings = (*POOLINGS, ATTENTION)
        if field.pooling not in poolings:
            raise InputError(
                f"{where}: pooling is {field.pooling!r}, not one of {', '.join(poolings)}; {_REMEDY}"
            )
        if field.offset != offset:
            raise InputError(
                f"{where}: offset is {field.offset}, but the fields before it end at {offset}; {_REMEDY}"
            )
        offset += field.vocab_size
        if offset > _MAX_FEATURES:
            raise InputError(
                f"{where}: vocab_size {field.vocab_size} takes the ids past int32 ({_MAX_FEATURES});"
                " prepare with a higher minimum count"
            )
        names.add(name)
        fields.append(field)
    check_targets(fields, f"{file}: ")
    return tuple(fields)


def _check_keys(document: dict[str, Any], known: Collection[str], where: str) -> None:
    """Raise InputError for a key that means nothing here: what it should have said would be lost."""
    for key in document:
        if key not in known:
            raise unknown(f"{where}: the key", key, known)


def _scale(entry: dict[str, Any], where: str) -> tuple[float, float] | None:
    if "scale" not in entry:
        return None
    found = _typed(entry, "scale", list, where)
    if len(found) != 2 or any(type(each) is not float for each in found) or found[1] <= 0:
        raise InputError(f"{where}: scale is {found!r}, not a mean and a deviation above 0; {_REMEDY}")
    if entry["max_len"] != 1:
        raise InputError(f"{where}: max_len is {entry['max_len']}, not 1 of a field with a scale; {_REMEDY}")
    return found[0], found[1]


def _arrays(document: dict[str, Any], wanted: tuple[str, ...], file: str) -> dict[str, str]:
    if "arrays" not in document:  # version 0.1.0 wrote none
        return {}
    arrays = _typed(document, "arrays", dict, file)
    if set(arrays) != set(wanted):
        raise InputError(f"{file}: arrays are {sorted(arrays)}, not {sorted(wanted)}; {_REMEDY}")
    return {name: _text(arrays, name, f"{file}: arrays") for name in wanted}


def _typed(document: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in document:
        raise InputError(f"{where}: {key} is missing; {_REMEDY}")
    value = document[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = {
            bool: "true or false",
            int: "a whole number",
            str: "text",
            list: "a list",
            dict: "an object",
        }[kind]
        raise InputError(f"{where}: {key} is {value!r}, not {wanted}; {_REMEDY}")
    return value


def _text(document: dict[str, Any], key: str, where: str) -> str:
    value: str = _typed(document, key, str, where)
    if not value:
        raise InputError(f"{where}: {key} is empty; {_REMEDY}")
    return value


def _count(document: dict[str, Any], key: str, least: int, where: str) -> int:
    value: int = _typed(document, key, int, where)
    if value < least:
        raise InputError(f"{where}: {key} is {value}, less than {least}; {_REMEDY}")
    return value
