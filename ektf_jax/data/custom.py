"""One's own table, described by a YAML file: docs/datasets.md has the keys and an example."""

import fnmatch
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ektf_jax.data import rawfiles, tables
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.data.spec import FieldSpec, TableSpec
from ektf_jax.document import read_yaml
from ektf_jax.errors import InputError, unknown

_TOP = {
    "dataset": str,
    "files": (str, list, dict),
    "label": (str, dict),
    "fields": list,
    "missing": list,
    "min_count": int,
    "separator": str,
    "columns": list,
    "quoting": bool,
    "split": dict,
    "weight": str,
}
_LABEL = {"name": str, "above": (int, float)}
_SPLIT = {"by": str}
_FIELD = {
    "name": (str, list),
    "kind": str,
    "min_count": int,
    "missing": list,
    "fill": str,
    "separator": str,
    "max_len": int,
    "paper_buckets": bool,
    "bins": str,
    "pooling": str,
    "transform": str,
    "target": str,
    "pretrained": str,
    "frozen": bool,
}
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2  # aliases can nest what is short in the file
_KINDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "keys",
}


def prepare(schema: Path, raw: Path, out: Path, *, split_seed: int = 2024) -> Schema:
    """Encodes the files in `raw` that the YAML file `schema` describes; see tables.prepare.

    Raises InputError naming the file, the key and the value if the description is wrong.
    """
    spec, names = read(schema)
    if isinstance(names, dict):
        files = {split: _files(schema, raw, patterns) for split, patterns in names.items()}
        _once(schema, [path for found in files.values() for path in found])
        return tables.prepare(spec, files, out, raw=raw)
    found = _files(schema, raw, names)
    _once(schema, found)
    return tables.prepare(spec, found, out, split_seed=split_seed, raw=raw)


def read(path: Path) -> tuple[TableSpec, list[str] | dict[str, list[str]]]:
    """The table that a YAML file describes, and the patterns of its files, in all or by split."""
    document = read_yaml(path, "--schema", "docs/datasets.md")
    top = _checked(document, _TOP, ("dataset", "files", "label", "fields"), str(path))
    label = top["label"] if isinstance(top["label"], dict) else {"name": top["label"]}
    label = _checked(label, _LABEL, ("name",), f"{path}: label")
    split = _checked(top["split"], _SPLIT, ("by",), f"{path}: split")["by"] if "split" in top else None
    try:
        layout = Layout(
            top.get("separator", ","),
            _texts(top["columns"], f"{path}: columns") if "columns" in top else None,
            top.get("quoting", True),
        )
        defaults: dict[str, Any] = {key: top[key] for key in ("missing", "min_count") if key in top}
        fields = tuple(
            one
            for index, entry in enumerate(top["fields"])
            for one in _fields(entry, defaults, f"{path}: fields[{index}]")
        )
        spec = TableSpec(
            top["dataset"],
            label["name"],
            fields,
            layout,
            label.get("above"),
            split=split,
            weight=top.get("weight"),
        )
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    if layout.columns is not None:
        lacking = [name for name in spec.prepared if name not in layout.columns]
        if lacking:
            raise InputError(
                f"{path}: columns lacks {', '.join(lacking)}; name every column of the file in order"
            )
    return spec, _patterns(top["files"], path)


def _fields(entry: Any, defaults: Mapping[str, Any], where: str) -> Iterable[FieldSpec]:
    """The fields of an entry: a name, or keys of which `name` may be a list of names."""
    if not isinstance(entry, dict | list):
        entry = {"name": _texts([entry], where)[0]}
    keys = _checked(entry, _FIELD, ("name",), where)
    options = {**defaults, **keys}
    names = options.pop("name")
    if "missing" in options:
        options["missing"] = _texts(options["missing"], f"{where}: missing")
    if options.get("kind") == "multi" and "max_len" not in options:
        raise InputError(f"{where}: max_len is missing; say how many values of the field count at most")
    for name in _texts([names] if isinstance(names, str) else names, f"{where}: name"):
        yield FieldSpec(name, **options)


def _patterns(files: Any, path: Path) -> list[str] | dict[str, list[str]]:
    if files == []:
        raise InputError(f"{path}: files is empty; name the files of the table, or a pattern such as *.csv")
    if not isinstance(files, dict):
        return list(_texts([files] if isinstance(files, str) else files, f"{path}: files"))
    splits = _checked(files, dict.fromkeys(SPLITS, (str, list)), ("train", "test"), f"{path}: files")
    return {
        split: list(_texts([names] if isinstance(names, str) else names, f"{path}: files: {split}"))
        for split, names in splits.items()
    }


def _files(schema: Path, raw: Path, entries: list[str]) -> list[Path]:
    """The files of the entries, entry by entry: the one of that name, or what a pattern matches, by name."""
    files = []
    for entry in entries:
        where = f"{schema}: files: {reprlib.repr(entry)}"
        try:
            if (raw / entry).is_file():
                files.append(raw / entry)
                continue
            found = sorted(raw.glob(entry))
            shown = [path for path in found if not _hidden(path.relative_to(raw), entry)]
            matched = [path for path in shown if path.is_file()]
            directory = (raw / entry).is_dir()
        except (ValueError, NotImplementedError, IndexError) as error:
            raise InputError(f"{where} is no pattern ({error}); it is relative to --raw") from None
        except OSError as error:
            raise InputError(f"{where} cannot be looked for in {raw} ({error.strerror})") from None
        if directory:
            raise InputError(f"{where} is a directory in {raw}; name the files in it, as {entry}/*.csv")
        for path in shown:
            if path.is_symlink() and not path.exists():  # its rows would be missing
                raise InputError(f"{where} matches {path}, a link to what is not there; mend or remove it")
        if not matched:
            other = f" but hidden files such as {found[0]}" if found else ""
            if shown:
                other = f" but what is no file, such as {shown[0]}: name the files in it, as {entry}/*"
            raise InputError(f"{where} matches nothing in {raw}{other}; check the name and --raw")
        files += matched
    return files


def _hidden(path: Path, pattern: str) -> bool:
    """Whether a part of the path starts with a dot (editors' and notebooks' copies) and none of the pattern's
    names it so."""
    named = [part for part in Path(pattern).parts if part.startswith(".")]
    return any(
        part.startswith(".") and part != ".." and not any(fnmatch.fnmatchcase(part, one) for one in named)
        for part in path.parts
    )


def _once(schema: Path, files: list[Path]) -> None:
    """Raise InputError for a table that is there twice: its rows would be both trained on and tested with."""
    try:
        rawfiles.once(files)
    except InputError as error:
        raise InputError(f"{schema}: files: {error}") from None


def _checked(found: Any, kinds: Mapping[str, Any], needed: tuple[str, ...], where: str) -> dict[str, Any]:
    """`found` if it has only keys of `kinds`, of these kinds, and all that are needed."""
    if not isinstance(found, dict):
        raise InputError(f"{where}: is {_SHORT.repr(found)}; it must have the keys {', '.join(kinds)}")
    for key, value in found.items():
        if key not in kinds:
            raise unknown(f"{where}: key", key, kinds)
        allowed = kinds[key] if isinstance(kinds[key], tuple) else (kinds[key],)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            wanted = " or ".join(_KINDS[kind] for kind in allowed)
            raise InputError(f"{where}: {key} is {_SHORT.repr(value)}; it must be {wanted}")
    missing = [key for key in needed if key not in found]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; see docs/datasets.md")
    return found


def _texts(values: list[Any], where: str) -> tuple[str, ...]:
    # YAML reads 0 or NO as something else than text: nobody should have to guess what.
    for value in values:
        if not isinstance(value, str):
            raise InputError(f"{where}: has {value!r}, which YAML does not read as text; put it in quotes")
    return tuple(values)
