"""A second reader of tables and their YAML, in plain Python: what a broken file that is still one says."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

SPLITS = ("train", "valid", "test")
Rows = list[dict[str, str]]


def read(path: Path, separator: str) -> Rows:
    """The rows of a table as text. Raises ValueError for what is none."""
    if path.suffix == ".parquet":
        # Not independent, but the whole file at once and in order, where ours reads it in parts.
        frame = pl.read_parquet(path.read_bytes(), parallel="none", low_memory=True)
        return [
            {key: "" if value is None else str(value) for key, value in row.items()}
            for row in frame.to_dicts()
        ]
    # Line ends at the end of a file are no rows, whole or not.
    text = path.read_bytes().decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
    # Lines end with \n or \r\n: the csv module refuses a carriage return elsewhere but in quotes.
    records = list(csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True))
    header, *rest = records
    if len(set(header)) < len(header) or any(len(row) != len(header) for row in rest):
        raise ValueError("not a table")
    return [dict(zip(header, row, strict=True)) for row in rest]


def values(field: dict[str, Any], text: str) -> list[str | None]:
    """What a field counts of a cell; None: nothing that it could know."""
    missing = field.get("missing", [""])
    kind = field.get("kind", "categorical")
    if kind == "multi":
        if text in missing:
            return []
        return [one for one in text.split(field.get("separator", "^")) if one and one not in missing]
    if kind == "numeric":
        numbers = [float(one) for one in missing if one]
        value = field.get("fill") if text in missing or float(text) in numbers else text
        if value is None:
            return [None]
        x = float(value)
        paper = field.get("paper_buckets", False)
        return [str(math.floor(math.log(x) ** 2) if x > 2 else 1 if paper else int(x))]
    return [field.get("fill") if text in missing else text]


def encode(document: dict[str, Any], rows: Rows, splits: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Vocabulary, and for each split ids and labels, of a table that a YAML document describes."""
    words, columns, offset = [], [], 0
    for entry in document["fields"]:
        given = {"name": entry} if isinstance(entry, str) else entry
        names = [given["name"]] if isinstance(given["name"], str) else given["name"]
        for name in names:
            field = {key: document[key] for key in ("missing", "min_count") if key in document} | given
            cells = [values(field, row[name]) for row in rows]
            slots = field.get("max_len", 1)
            counts: Counter[str] = Counter()
            for cell, split in zip(cells, splits, strict=True):
                counts.update({one for one in cell if one is not None} if split == "train" else ())
            known = [word for word, count in counts.items() if count >= field.get("min_count", 1)]
            known.sort(key=lambda word: (-counts[word], word))
            ids = {word: offset + 1 + rank for rank, word in enumerate(known)}
            oov = offset + len(known) + 1
            columns.append(
                [
                    [ids.get(str(w), oov) if w is not None else oov for w in cell[:slots]]
                    + [0] * (slots - len(cell))
                    for cell in cells
                ]
            )
            words += known
            offset += len(known) + 2
    flat = [list(itertools.chain(*cells)) for cells in zip(*columns, strict=True)]
    labels = _labels(document["label"], rows)
    return words, {
        name: ([flat[at] for at in mine], [labels[at] for at in mine])
        for name in SPLITS
        for mine in [[at for at, split in enumerate(splits) if split == name]]
    }


def _labels(label: Any, rows: Rows) -> list[float]:
    if isinstance(label, dict) and label.get("above") is not None:
        return [float(float(row[label["name"]]) > label["above"]) for row in rows]
    found = [float(row[label["name"] if isinstance(label, dict) else label]) for row in rows]
    if not set(found) <= {0.0, 1.0}:
        raise ValueError("a label that is none")
    return found


def drawn(count: int, seed: int = 2024) -> list[str]:
    """The split of each of so many rows."""
    splits = [""] * count
    for place, row in enumerate(np.random.default_rng(seed).permutation(count)):
        splits[row] = (
            "train"
            if place < count * 8 // 10
            else "valid"
            if place < count * 8 // 10 + count // 10
            else "test"
        )
    return splits


def disagrees(raw: Path, out: Path) -> str | None:
    """What an encoded dataset has otherwise than this reader makes of raw/table.yaml and its table."""
    try:
        document = yaml.safe_load((raw / "table.yaml").read_text(encoding="utf-8"))
        files = document["files"]
        (name,) = [files] if isinstance(files, str) else files
        found = [path for path in (raw / name, *sorted(raw.glob(name))) if path.is_file()]
        rows = read(found[0], document.get("separator", ","))
        words, splits = encode(document, rows, drawn(len(rows)))
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    return differs(out, words, splits)


def differs(out: Path, words: list[str], splits: dict[str, Any]) -> str | None:
    """What an encoded dataset has otherwise than the vocabulary, and the ids and labels of each split."""
    if (there := pl.read_parquet(out / "vocabulary.parquet")["value"].to_list()) != words:
        return f"another vocabulary: {there[:8]} ... for {words[:8]} ..."
    for split, (ids, labels) in splits.items():
        if np.load(out / split / "ids.npy").tolist() != ids:
            return f"other ids of {split}"
        if np.load(out / split / "labels.npy").tolist() != labels:
            return f"other labels of {split}"
    return None


def _number(field: dict[str, Any], cell: Any) -> float | None:
    """What a dense field's cell is, before it is standardised; None where it is missing."""
    missing = field.get("missing", [""])
    if (
        cell is None
        or str(cell) in missing
        or float(cell) in [float(one) for one in missing if _is_number(one)]
    ):
        cell = field.get("fill")
    if cell is None:
        return None
    number = float(cell)
    if not abs(number) <= 1e30:
        raise ValueError(f"the number {cell}")
    return math.log1p(number) if field.get("transform") == "log1p" else number


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _row(schema: dict[str, Any], row: dict[str, Any]) -> tuple[list[int], list[float], float, float]:
    """Ids, numbers, label and weight of a row of a part. Raises ValueError for what is none."""
    spec, ids, numbers = schema["source"]["spec"], [], []
    for field, one in zip(schema["fields"], spec["fields"], strict=True):
        low, high = field["offset"] + 1, field["offset"] + field["vocab_size"] - 1
        cell = row[field["name"]]
        if one["kind"] == "dense":
            number, (mean, deviation) = _number(one, cell), field["scale"]
            ids.append(high if number is None else low)
            numbers.append(1.0 if number is None else (number - mean) / deviation)
            continue
        several = one["kind"] == "multi"
        given = [each for each in cell or () if each != 0] if several else [cell]
        if any(each is None or not low <= each <= high for each in given):
            raise ValueError(f"{field['name']} is {cell}")
        ids += (given + [0] * field["max_len"])[: field["max_len"]]
    label, weight = float(row[spec["label"]]), float(row[spec["weight"]])
    if spec.get("above") is not None:
        label = float(label > spec["above"])
    if label not in (0, 1) or not 0 <= weight <= 1e30:
        raise ValueError(f"a label {label}, a weight {weight}")
    return ids, numbers, label, weight


def ids_disagree(raw: Path, out: Path) -> str | None:
    """What a dataset of parts of ids has otherwise than this reader makes of them."""
    there = strict_json((out / "schema.json").read_bytes())
    try:
        schema = strict_json((raw / "schema.json").read_bytes())
        expected = {}
        for split in SPLITS:
            # Not independent, but whole parts at once, where ours reads chunks of chosen columns.
            parts = [
                pl.read_parquet(path.read_bytes(), parallel="none", low_memory=True)
                for path in sorted((raw / split).glob("*.parquet"))
            ]
            found = [_row(schema, row) for part in parts for row in part.iter_rows(named=True)]
            expected[split] = [np.array(one) for one in zip(*found, strict=True)]
        words = pl.read_parquet((raw / "vocabulary.parquet").read_bytes()).sort("id")
    except Exception as error:
        return f"a plain reader refuses it ({error!r})"
    for split, arrays in expected.items():
        for name, array in zip(("ids", "dense", "labels", "weights"), arrays, strict=True):
            if not np.array_equal(np.load(out / split / f"{name}.npy"), array.astype(np.float32)):
                return f"other {name} of {split}"
    for key in ("dataset", "fields", "spec"):
        ours, theirs = (_described(one, key) for one in (there, schema))
        if ours != theirs:
            return f"another {key} in schema.json: {ours} for {theirs}"
    if not pl.read_parquet(out / "vocabulary.parquet").equals(words):
        return "another vocabulary"
    for path in (raw / "vectors").iterdir():
        if (out / "vectors" / path.name).read_bytes() != path.read_bytes():
            return f"other vectors {path.name}"
    return None


def _described(schema: dict[str, Any], key: str) -> Any:
    """The name, the fields without what they leave out where it is not set, or the spec of a schema.json."""
    unset = {"pooling": "mean", "scale": None, "target": None, "pretrained": None, "frozen": True}
    if key == "fields":
        return [{k: v for k, v in field.items() if (k, v) not in unset.items()} for field in schema[key]]
    return schema["source"][key] if key == "spec" else schema[key]


def strict_json(data: bytes) -> Any:
    """A JSON document; ValueError for NaN and infinities, too."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(data.decode("utf-8"), parse_constant=refuse)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a JSON document by their paths; an empty list or object is one."""
    if isinstance(value, dict) and value:
        return {k: v for key, one in value.items() for k, v in leaves(one, f"{path}.{key}").items()}
    if isinstance(value, list | tuple) and value:
        return {k: v for at, one in enumerate(value) for k, v in leaves(one, f"{path}[{at}]").items()}
    return {path: value}


def changed(before: Any, after: Any) -> set[str]:
    """The paths of leaves that two JSON documents do not have in common, or with other values."""
    a, b = leaves(before), leaves(after)
    return {key for key in a.keys() | b.keys() if key not in a or key not in b or a[key] != b[key]}


def epochs(path: Path) -> Sequence[Any]:
    """The lines of a metrics.jsonl. Raises ValueError, KeyError or TypeError for what is none."""
    found = [strict_json(line) for line in path.read_bytes().split(b"\n")[:-1]]
    for number, one in enumerate(found, start=1):
        if one["epoch"] != number or not 0 <= one["valid"]["ensemble"]["auc"] <= 1:
            raise ValueError(f"line {number}")
    return found
