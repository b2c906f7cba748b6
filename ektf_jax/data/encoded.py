"""The encoded directory: schema.json, {train,valid,test}/{ids,labels}.npy, vocabulary.parquet.

Where rows have weights there are {train,valid,test}/weights.npy too, and dense.npy where fields are dense;
vectors/PLACE.npy of a field with pretrained vectors. It is written whole or not at all, and read
memory-mapped after every id, label and weight has been checked.
"""

import contextlib
import hashlib
import io
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ektf_jax import directories, files
from ektf_jax.data.schema import FORMAT, SPLITS, Schema, vectors_file
from ektf_jax.errors import InputError, cause

if TYPE_CHECKING:
    import polars as pl

SCHEMA, WORDS = "schema.json", "vocabulary.parquet"
_REMEDY = "run `ektf prepare --dataset=NAME --raw=DIR --out=DIR`"
_CHUNK_BYTES = 1 << 20  # a chunk of the scan stays in the cache


class Split(NamedTuple):
    """The rows of one split: ids int32 [N,S], labels float32 [N], weights, dense; all read-only memory maps.

    weights float32 [N] say how much rows count beside each other. They are None where all count alike.
    dense float32 [N,n] are the numbers of the n dense fields. They are None where no field is.
    """

    ids: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    dense: np.ndarray | None = None


def open_schema(directory: Path) -> Schema:
    """Reads DIR/schema.json.

    Raises InputError if the directory or the file is missing or the content is not valid.
    """
    path = directory / SCHEMA
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; {_REMEDY}")
    if not path.is_file():
        raise InputError(f"{path}: missing, so {directory} is not an encoded dataset; {_REMEDY}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); {_REMEDY}") from None
    return Schema.from_json(text, str(path))


def open_split(directory: Path, split: str) -> Split:
    """Maps one split's arrays: ids int32 [N,S], labels float32 [N] and, where they differ, weights [N].

    Reads every value once. Raises InputError naming the file, row, field and value if a file is missing,
    truncated, of another type or shape than the schema's, an id is neither 0 nor one of its field's, a label
    is neither 0 nor 1, a weight is below 0 or not finite, or all are 0, or the rows are not those that were
    written, by schema.json.
    """
    schema = open_schema(directory)
    if split not in schema.splits:
        raise InputError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    return _open_split(directory, split, schema)[0]


def open_dataset(directory: str | Path, splits: Sequence[str] = SPLITS) -> tuple[Schema, dict[str, Split]]:
    """Maps splits as `open_split` does, and raises as it does.

    The schema that is returned has the digests of their arrays, whoever wrote them.
    """
    directory = Path(directory)
    schema = open_schema(directory)
    opened = {split: _open_split(directory, split, schema) for split in splits}
    found = {name: digest for _, digests in opened.values() for name, digest in digests.items()}
    open_vectors(directory, schema)
    return replace(schema, arrays=schema.arrays | found), {split: rows for split, (rows, _) in opened.items()}


def open_vectors(directory: Path, schema: Schema) -> list[np.ndarray]:
    """Maps the pretrained vectors of the fields that have some: float32 [vocab_size, numbers] each.

    Reads every value once. Raises as `open_split` does.
    """
    opened: list[np.ndarray] = []
    for place, field in enumerate(schema.fields):
        if field.pretrained is not None:
            name = vectors_file(place)
            vectors = _map(directory / name, np.dtype(np.float32), (field.vocab_size, field.pretrained))
            _check_digests(directory, schema, {name: _check_finite(directory / name, vectors, "number")})
            opened.append(vectors)
    return opened


def _open_split(directory: Path, split: str, schema: Schema) -> tuple[Split, dict[str, str]]:
    """A split after one pass over it that checked every value and the digests of its arrays; these."""
    rows = schema.splits[split]
    ids_path, labels_path = directory / split / "ids.npy", directory / split / "labels.npy"
    ids = _map(ids_path, np.dtype(np.int32), (rows, schema.num_slots))
    labels = _map(labels_path, np.dtype(np.float32), (rows,))
    found = {
        f"{split}/ids.npy": _check_ids(ids_path, ids, schema),
        f"{split}/labels.npy": _check_labels(labels_path, labels),
    }
    weights = None
    if schema.weighted:
        weights_path = directory / split / "weights.npy"
        weights = _map(weights_path, np.dtype(np.float32), (rows,))
        found[f"{split}/weights.npy"], alike = _check_weights(weights_path, weights)
        weights = None if alike else weights
    dense = None
    if schema.num_dense:
        dense_path = directory / split / "dense.npy"
        dense = _map(dense_path, np.dtype(np.float32), (rows, schema.num_dense))
        found[f"{split}/dense.npy"] = _check_finite(dense_path, dense, "dense field")
    _check_digests(directory, schema, found)
    return Split(ids, labels, weights, dense), found


def _check_digests(directory: Path, schema: Schema, found: Mapping[str, str]) -> None:
    for name, digest in found.items():
        if schema.arrays.get(name, digest) != digest:
            raise InputError(
                f"{directory / name}: its rows have the SHA-256 {digest}, but {directory / SCHEMA} says"
                f" {schema.arrays[name]}: the file was changed or damaged after it was written; {_REMEDY}"
            )


def chunks(array: np.ndarray, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    """One pass over a split's array: the first row and the view of each `rows` rows.

    A map's pages are let go once they are read, or all of them would count as memory of this process.
    """
    row_bytes = array.strides[0]
    for start in range(0, len(array), rows):
        chunk = array[start : start + rows]
        yield start, chunk
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
            begin = array.offset + start * row_bytes
            page = begin % mmap.PAGESIZE
            array.base.madvise(mmap.MADV_DONTNEED, begin - page, page + len(chunk) * row_bytes)


def current(directory: Path, source: Mapping[str, Any]) -> Schema | None:
    """The schema of the dataset in `directory` if it is whole and was made from `source`, else None.

    Where it is, nobody writes it again: what a kill left beside it is removed now.
    """
    try:
        schema = open_schema(directory)
        if schema.source != source:
            return None
        open_dataset(directory)
    except InputError:
        return None
    directories.tidy(directory)
    return schema


def write(
    out: Path,
    schema: Schema,
    splits: Mapping[str, Sequence[np.ndarray]],
    vocabulary: "pl.DataFrame | None",
) -> None:
    """Writes an encoded dataset to `out`, whole or not at all.

    `splits` maps each of train, valid and test to (ids int32 [N,S], labels float32 [N]) or, of a weighted
    schema, (ids, labels, weights float32 [N]), and last of a schema with n dense fields dense float32 [N,n];
    `vocabulary` has columns field, value, id. An encoded dataset
    already in `out` is replaced once the new one is on disk; raises InputError if `out` holds anything else
    or cannot be written, ValueError if arrays and schema disagree.
    """
    splits = {
        name: [each for each in rows if each is not None] for name, rows in splits.items()
    }  # as a Split
    _check_arrays(schema, splits)
    with replacing(out) as new:
        _write_files(new, schema, splits, vocabulary)


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yields a new directory beside `out`, which takes its place when the block ends without an error.

    For writers that cannot hold a dataset in memory: see `appending` and `write_description`, and
    `directories.replacing` for the rest.
    """
    with directories.replacing(out, "encoded dataset", _is_encoded) as new:
        yield new


@contextlib.contextmanager
def appending(
    directory: Path, split: str, rows: int, slots: int, *, weighted: bool = False, dense: int = 0
) -> Iterator[Callable[..., None]]:
    """Creates a split of `rows` rows; yields append(ids int32 [n,S], labels float32 [n]), which fills it.

    If `weighted` append takes weights float32 [n] as well, and with `dense` fields their numbers
    float32 [n,dense]. Plain sequential writes: through a memory map a
    full disk would kill the process. Raises ValueError at the end unless exactly `rows` rows came, and
    InputError where all weights are 0.
    """
    (directory / split).mkdir()
    left, heavy = rows, not weighted
    kinds = {"ids": (np.int32, (rows, slots)), "labels": (np.float32, (rows,))}
    kinds |= {"weights": (np.float32, (rows,))} if weighted else {}
    kinds |= {"dense": (np.float32, (rows, dense))} if dense else {}
    with contextlib.ExitStack() as stack:
        opened = []
        for kind, (dtype, shape) in kinds.items():
            opened.append(stack.enter_context((directory / split / f"{kind}.npy").open("wb")))
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(opened[-1], header)

        def append(
            ids: np.ndarray,
            labels: np.ndarray,
            weights: np.ndarray | None = None,
            numbers: np.ndarray | None = None,
        ) -> None:
            nonlocal left, heavy
            if ids.dtype != np.int32 or ids.shape != (len(labels), slots) or labels.dtype != np.float32:
                raise ValueError(f"{split}: ids are {ids.dtype} {ids.shape}, labels {labels.dtype}")
            if weighted:
                if weights is None or weights.dtype != np.float32 or weights.shape != labels.shape:
                    raise ValueError(f"{split}: no weights float32 {labels.shape} came")
                heavy = heavy or bool(weights.any())
            if (None if numbers is None else numbers.shape) != ((len(labels), dense) if dense else None):
                raise ValueError(f"{split}: the numbers of {dense} dense fields did not come")
            left -= len(labels)
            columns = [each for each in (ids, labels, weights, numbers) if each is not None]
            for file, column in zip(opened, columns, strict=True):
                file.write(np.ascontiguousarray(column).data)

        yield append
    if left:
        raise ValueError(f"{split}: {rows - left} rows came, not {rows}")
    if not heavy:
        raise InputError(f"{split}: the weight of each of its {rows} rows is 0; give some of them one")


def write_description(directory: Path, schema: Schema, vocabulary: "pl.DataFrame | None") -> None:
    """Writes schema.json and, if given, vocabulary.parquet (columns field, value, id).

    Comes last: schema.json has the digests of the arrays that are there.
    """
    schema = replace(schema, arrays={name: _digest(directory / name) for name in schema.files})
    Schema.from_json(schema.to_json())  # what is written can be read
    if vocabulary is not None:
        # By way of memory: on a full disk polars raises no OSError. As a copy: the view of a buffer in the
        # traceback of a failed write is what Python 3.12.1 crashes on when it collects garbage.
        buffer = io.BytesIO()
        vocabulary.write_parquet(buffer)
        (directory / WORDS).write_bytes(buffer.getvalue())
    (directory / SCHEMA).write_text(schema.to_json(), encoding="utf-8")


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    if not path.is_file():
        raise InputError(f"{path}: missing; {_REMEDY}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a header is Python to numpy, whose tokenizer raises errors of its own
        raise InputError(f"{path}: truncated or not a .npy file ({cause(error)}); {_REMEDY}") from None
    if not isinstance(array, np.memmap):
        raise InputError(f"{path}: not a .npy file; {_REMEDY}")
    if array.dtype != dtype:
        raise InputError(f"{path}: holds {array.dtype}, not {dtype}; {_REMEDY}")
    if array.shape != shape:
        raise InputError(f"{path}: has shape {array.shape}, the schema says {shape}; {_REMEDY}")
    if not array.flags.c_contiguous:
        raise InputError(f"{path}: stored by columns, not by rows; {_REMEDY}")
    expected = array.offset + array.nbytes
    if path.stat().st_size != expected:
        raise InputError(f"{path}: has {path.stat().st_size} bytes, its header says {expected}; {_REMEDY}")
    return array


def _digest(path: Path) -> str:
    """SHA-256 of an array's values, without the header of its file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    digest = hashlib.sha256()
    for _, chunk in chunks(array, _CHUNK_BYTES // array.strides[0] or 1):
        digest.update(chunk.data)
    return digest.hexdigest()


def _check_ids(path: Path, ids: np.ndarray, schema: Schema) -> str:
    """Returns the digest of the ids, if all are in their fields' ranges."""
    digest = hashlib.sha256()
    fields = [field for field in schema.fields for _ in range(field.max_len)]
    first = np.array([field.offset + 1 for field in fields], np.int32)
    count = np.array([field.vocab_size - 1 for field in fields], np.uint32)
    for start, chunk in chunks(ids, _CHUNK_BYTES // ids.strides[0] or 1):
        digest.update(chunk.data)
        # One unsigned comparison tests both ends: an id below `first` wraps around to a large number.
        bad = ((chunk - first).view(np.uint32) >= count) & (chunk != 0)
        if bad.any():
            row, slot = np.argwhere(bad)[0]
            field = fields[slot]
            raise InputError(
                f"{path}: row {start + row}, field {field.name}: id {chunk[row, slot]} is neither 0 (padding)"
                f" nor in [{field.offset + 1}, {field.offset + field.vocab_size}); {_REMEDY}"
            )
    return digest.hexdigest()


def _check_labels(path: Path, labels: np.ndarray) -> str:
    """Returns the digest of the labels, if all are 0 or 1."""
    digest = hashlib.sha256()
    for start, chunk in chunks(labels, _CHUNK_BYTES // labels.strides[0] or 1):
        digest.update(chunk.data)
        bad = (chunk != 0) & (chunk != 1)
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{path}: row {start + row}, field label: value {chunk[row]:g} is neither 0 nor 1; {_REMEDY}"
            )
    return digest.hexdigest()


def _check_weights(path: Path, weights: np.ndarray) -> tuple[str, bool]:
    """Returns the digest of the weights, if all are 0 or more and finite; and whether all are one number."""
    digest, alike = hashlib.sha256(), True
    for start, chunk in chunks(weights, _CHUNK_BYTES // weights.strides[0] or 1):
        digest.update(chunk.data)
        bad = ~(np.isfinite(chunk) & (chunk >= 0))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{path}: row {start + row}, field weight: value {chunk[row]:g} is below 0 or not finite;"
                f" {_REMEDY}"
            )
        alike = alike and bool((chunk == weights[0]).all())
    if alike and weights[0] == 0:
        raise InputError(f"{path}: all weights are 0; {_REMEDY}")
    return digest.hexdigest(), alike


def _check_finite(path: Path, dense: np.ndarray, column: str) -> str:
    """Returns the digest of numbers in columns, if all are finite."""
    digest = hashlib.sha256()
    for start, chunk in chunks(dense, _CHUNK_BYTES // dense.strides[0] or 1):
        digest.update(chunk.data)
        bad = ~np.isfinite(chunk)
        if bad.any():
            row, place = np.argwhere(bad)[0]
            raise InputError(
                f"{path}: row {start + row}, {column} {place}: value {chunk[row, place]:g} is not finite;"
                f" {_REMEDY}"
            )
    return digest.hexdigest()


def _check_arrays(schema: Schema, splits: Mapping[str, Sequence[np.ndarray]]) -> None:
    Schema.from_json(schema.to_json())  # what is written can be read
    for name in SPLITS:
        ids, labels, *more = splits[name]
        rows = schema.splits[name]
        if ids.dtype != np.int32 or ids.shape != (rows, schema.num_slots):
            raise ValueError(f"{name} ids are {ids.dtype} {ids.shape}, not int32 {(rows, schema.num_slots)}")
        if labels.dtype != np.float32 or labels.shape != (rows,):
            raise ValueError(f"{name} labels are {labels.dtype} {labels.shape}, not float32 {(rows,)}")
        found = [(each.dtype, each.shape) for each in more]
        shapes = [(rows,)] * schema.weighted + [(rows, schema.num_dense)] * (schema.num_dense > 0)
        if found != [(np.dtype(np.float32), shape) for shape in shapes]:
            wanted = ", ".join(f"one float32 {shape}" for shape in shapes) or "none"
            raise ValueError(f"{name} weights and dense are {found}, not {wanted}")


def _is_encoded(directory: Path) -> bool:
    # Looser than open_schema: a damaged or older dataset of ours may be replaced. But nobody's parts: what
    # `ids.prepare` reads has a schema.json too.
    return files.has_format(directory / SCHEMA, FORMAT) and not any(directory.glob("*/*.parquet"))


def _write_files(
    directory: Path,
    schema: Schema,
    splits: Mapping[str, Sequence[np.ndarray]],
    vocabulary: "pl.DataFrame | None",
) -> None:
    for name in SPLITS:
        (directory / name).mkdir()
        names = [file for file in schema.files if file.startswith(f"{name}/")]
        for file_name, array in zip(names, splits[name], strict=True):
            with (directory / file_name).open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    write_description(directory, schema, vocabulary)
