r"""Real files in their native formats, where they are at hand: none of them may be handed on.

    FRAPPE_DIR=DIR KDD12_DIR=DIR CRITEO_DIR=DIR pytest -m long tests/data/test_real.py

DIR holds the files that docs/datasets.md names, or any number of their rows. Vocabularies are counted again,
by the csv module and a Counter.
"""

import csv
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ektf_jax.data import criteo, custom, encoded, kdd12
from ektf_jax.data.schema import SPLITS

SPECS = Path(__file__).resolve().parents[2] / "configs" / "datasets"


def directory(name):
    path = os.environ.get(name)
    if path is None:
        pytest.skip(f"{name} is not set")
    return Path(path)


def rows(path, **options):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, **options))


def bucket(text):
    """The authors' buckets of a number; missing is 0."""
    value = float(text or 0)
    return str(math.floor(math.log(value) ** 2)) if value > 2 else str(int(value))


def drawn(rows, seed=2024):
    """Rows in file order, split as docs/datasets.md says."""
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = int(0.8 * len(rows)), int(0.1 * len(rows))
    parts = order[:first], order[first : first + second], order[first + second :]
    return {split: [rows[i] for i in sorted(part)] for split, part in zip(SPLITS, parts, strict=True)}


def check(out, schema, splits, columns, min_count, *, missing=None):
    """Splits, labels and vocabularies; `columns` maps a field to (index, what becomes of a value)."""
    for name, part in splits.items():
        split = encoded.open_split(out, name)
        assert split.ids.shape == (len(part), len(columns))
        np.testing.assert_array_equal(split.labels, [float(row[0] not in ("0", "0.0")) for row in part])
    train = encoded.open_split(out, "train").ids
    for position, (field, (name, (index, value_of))) in enumerate(
        zip(schema.fields, columns.items(), strict=True)
    ):
        assert field.name == name
        values = [value_of(row[index]) for row in splits["train"]]
        counts = Counter(value for value in values if value != missing)
        kept = {value for value, count in counts.items() if count >= min_count}
        assert field.vocab_size == len(kept) + 2, name
        # A value has one id and an id one value; all others are OOV.
        pairs = set(zip(train[:, position].tolist(), (v if v in kept else None for v in values), strict=True))
        assert len(pairs) == len({i for i, _ in pairs}) == len({value for _, value in pairs}), name
        assert all((i == field.oov) == (value is None) for i, value in pairs), name


@pytest.mark.long
def test_frappe(tmp_path):
    raw = directory("FRAPPE_DIR")
    schema = custom.prepare(SPECS / "frappe.yaml", raw, tmp_path / "out")
    files = {
        "train": rows(raw / "train_redrawn_negatives.csv"),
        "valid": rows(raw / "valid.csv"),
        "test": rows(raw / "test.csv"),
    }
    header = files["train"][0]
    columns = {name: (i, str) for i, name in enumerate(header) if i}
    check(tmp_path / "out", schema, {name: part[1:] for name, part in files.items()}, columns, 1)


@pytest.mark.long
def test_kdd12(tmp_path):
    """Without profiles, which are of users that do not occur."""
    (tmp_path / "training.txt").symlink_to(directory("KDD12_DIR") / "training.txt")
    (tmp_path / "userid_profile.txt").write_text("0\t0\t0\n")
    schema = kdd12.prepare(tmp_path, tmp_path / "out")
    splits = drawn(
        [[*row, "0"] for row in rows(tmp_path / "training.txt", delimiter="\t", quoting=csv.QUOTE_NONE)]
    )
    columns = {name: (kdd12.COLUMNS.index(name), bucket) for name in kdd12.NUMERIC}
    columns |= {name: (kdd12.COLUMNS.index(name), str) for name in kdd12.IDS}
    columns |= {name: (len(kdd12.COLUMNS), str) for name in ("Gender", "Age")}
    order = [field.name for field in schema.fields]
    check(tmp_path / "out", schema, splits, {name: columns[name] for name in order}, 10)


@pytest.mark.long
def test_criteo(tmp_path):
    raw = directory("CRITEO_DIR")
    schema = criteo.prepare(raw, tmp_path / "out")
    splits = drawn(rows(raw / "train.txt", delimiter="\t", quoting=csv.QUOTE_NONE))

    def number(text):
        # 0 is missing, as FuxiCTR fills it in.
        return "" if float(text or 0) == 0 else bucket(text)

    columns = {f"I{i}": (i, number) for i in range(1, 14)} | {f"C{i}": (13 + i, str) for i in range(1, 27)}
    check(tmp_path / "out", schema, splits, columns, 10, missing="")
