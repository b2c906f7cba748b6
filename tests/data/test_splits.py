from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest

from ektf_jax.data import encoded, tables
from ektf_jax.data.schema import SPLITS
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError

SPEC = TableSpec("t", "y", (FieldSpec("c"),), split="when")
DAY = datetime(2024, 2, 28, 12)


def moments(rng, rows):
    """Seconds with ties, before and after 1 March of a leap year."""
    return rng.integers(0, rows // 2, rows) * 7001


def as_text(kind, seconds, rng):
    if kind == "whole":
        return [str(1_720_000_000_000_000_000 + int(at)) for at in seconds]  # beyond a float's digits
    if kind == "mixed":
        return [f"{at / 8:.3f}" if at % 2 else f"{at / 8:g}" if at else "-0.0" for at in seconds.tolist()]
    if kind == "fine":
        return [f"2024-02-28T12:00:00.{int(at) // 7001:09d}" for at in seconds]
    times = [DAY + timedelta(seconds=int(at)) for at in seconds]
    if kind == "local":
        return [time.isoformat(" " if rng.integers(2) else "T") for time in times]
    zones = [timezone(timedelta(minutes=int(m))) for m in rng.choice([-570, 0, 90, 120], len(times))]
    moved = [time.replace(tzinfo=UTC).astimezone(zone) for time, zone in zip(times, zones, strict=True)]
    return [time.isoformat().replace("+00:00", "Z") for time in moved]


def reference(times):
    """The rows of each split: Python's stable sort."""
    order = sorted(range(len(times)), key=lambda row: times[row])
    train, valid = len(times) * 8 // 10, len(times) // 10
    cut = {"train": order[:train], "valid": order[train : train + valid], "test": order[train + valid :]}
    return {split: sorted(rows) for split, rows in cut.items()}


def check(out, labels, expected):
    """That splits have these rows, in the order of the files, and vocabularies those of training."""
    for split, rows in expected.items():
        assert encoded.open_split(out, split).labels.tolist() == [labels[row] for row in rows]
    words = pl.read_parquet(out / "vocabulary.parquet")["value"].to_list()
    assert sorted(words) == sorted(f"c{row}" for row in expected["train"])


@pytest.mark.parametrize("kind", ["whole", "mixed", "fine", "local", "zoned"])
def test_by_time_is_a_stable_sort(tmp_path, kind):
    rng = np.random.default_rng(len(kind))
    rows = 57
    seconds, labels = moments(rng, rows), rng.integers(0, 2, rows).tolist()
    texts = as_text(kind, seconds, rng)
    lines = [f"{text},c{row},{label}\n" for row, (text, label) in enumerate(zip(texts, labels, strict=True))]
    paths = [tmp_path / "0.csv", tmp_path / "1.csv"]
    for path, part in zip(paths, (lines[:20], lines[20:]), strict=True):
        path.write_text("when,c,y\n" + "".join(part))
    tables.prepare(SPEC, paths, tmp_path / "out", chunk_bytes=300)
    check(tmp_path / "out", labels, reference(seconds))
    schema = tables.prepare(SPEC, paths, tmp_path / "out")
    assert schema.source["spec"]["split"] == "when"
    assert "split_seed" not in schema.source


@pytest.mark.parametrize("dtype", [pl.Datetime("ms", "Europe/Vienna"), pl.Date, pl.Float32])
def test_by_the_times_of_parquet(tmp_path, dtype):
    days = np.random.default_rng(0).integers(0, 9, 30).tolist()
    when = pl.Series("when", [DAY + timedelta(days=day) for day in days])
    if dtype == pl.Float32:
        when = pl.Series("when", days, dtype=dtype) / 4
    else:
        when = when.dt.replace_time_zone("UTC").cast(dtype) if dtype != pl.Date else when.cast(dtype)
    labels = [row % 2 for row in range(30)]
    frame = pl.DataFrame([when, pl.Series("c", [f"c{row}" for row in range(30)]), pl.Series("y", labels)])
    frame.write_parquet(tmp_path / "a.parquet")
    tables.prepare(SPEC, [tmp_path / "a.parquet"], tmp_path / "out")
    check(tmp_path / "out", labels, reference(days))


def test_by_names_and_a_field(tmp_path):
    """The column that rows are split by may be a field as well."""
    names = [SPLITS[row % 3] for row in (0, 2, 1, 0, 0, 1)]
    text = "".join(f"{name},{row % 2}\n" for row, name in enumerate(names))
    (tmp_path / "a.csv").write_text("part,y\n" + text)
    spec = TableSpec("t", "y", (FieldSpec("part"),), split="part")
    schema = tables.prepare(spec, [tmp_path / "a.csv"], tmp_path / "out", chunk_bytes=20)
    assert schema.splits == {"train": 3, "valid": 2, "test": 1}
    assert encoded.open_split(tmp_path / "out", "train").labels.tolist() == [0, 1, 0]
    assert encoded.open_split(tmp_path / "out", "test").ids.tolist() == [[schema.fields[0].oov]]


GOOD = [f"2024-01-{day:02}" for day in range(1, 13)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ["soon", *GOOD],
            ":2: when is 'soon'; it must be train, valid or test, or a number, or a time such as",
        ),
        ([*GOOD, "2024-02-30"], ":14: when is '2024-02-30'; it must be a time such as 2024-07-31 or"),
        ([*GOOD, ""], ":14: when is ''; it must be a time such as"),
        ([*GOOD, "2024-01-02 10:00Z"], ":14: when is '2024-01-02 10:00Z'; it must be a time such as"),
        (["1", "2", "nan", *"34567890"], ":4: when is 'nan'; it must be a number, as the first row has it"),
        (["1", "2", "1e19", *"34567890"], ":4: when is '1e19'; it must be a number"),  # of 63 bits
        (["1", "-inf", *"34567890"], ":3: when is '-inf'; it must be a number"),
        (["train", "valid", "test", "tset"], ":5: when is 'tset'; it must be train, valid or test"),
        (["train", "test"] * 6, "a.csv: when is 'valid' in no row; each split needs some"),
        (GOOD[:9], "a.csv: 9 rows, fewer than the 10 that a split needs; add rows"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [12, 1 << 20])
def test_refuses(tmp_path, values, said, chunk_bytes):
    """Whether the bad value is in the first value's chunk or in a later one."""
    (tmp_path / "a.csv").write_text("when,c,y\n" + "".join(f"{value},c,1\n" for value in values))
    with pytest.raises(InputError) as error:
        tables.prepare(SPEC, [tmp_path / "a.csv"], tmp_path / "out", chunk_bytes=chunk_bytes)
    assert said.split("; it must")[0] in str(error.value)
    if chunk_bytes > 12:
        assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_one_way_to_split_at_a_time(tmp_path):
    with pytest.raises(
        InputError, match="t: rows are split by when and by their files; leave one of the two"
    ):
        tables.prepare(SPEC, {"train": [tmp_path / "a"], "test": [tmp_path / "a"]}, tmp_path / "out")
    with pytest.raises(InputError, match="t: frames are those of splits; leave the column to split by out"):
        tables.encode(SPEC, {}, tmp_path / "out", {})
