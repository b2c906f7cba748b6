import random

import numpy as np
import polars as pl
import pytest

from ektf_jax.data import criteo, encoded
from ektf_jax.errors import InputError


def rows(count, seed=0):
    """Lines of train.txt: few values, so that some reach the threshold of 10, and many missing."""
    rng = random.Random(seed)
    return [
        [
            rng.choice("01"),
            *(rng.choice(["", "0", "1", "2", "3", "17", "-1"]) for _ in criteo.NUMERIC),
            *(
                rng.choice(["", "05db9164", "68fd1e64", f"{rng.randrange(2**32):08x}"])
                for _ in criteo.CATEGORICAL
            ),
        ]
        for _ in range(count)
    ]


def write(path, lines, separator, header=False):
    lines = [list(criteo.COLUMNS), *lines] if header else lines
    path.write_text("".join(separator.join(line) + "\n" for line in lines))


def words(out, field):
    return pl.read_parquet(out / "vocabulary.parquet").filter(pl.col("field") == field)["value"].to_list()


def test_kaggle(tmp_path):
    write(tmp_path / "train.txt", rows(300), "\t")
    schema = criteo.prepare(tmp_path, tmp_path / "out")
    assert (schema.dataset, schema.num_fields) == ("criteo", 39)
    assert schema.splits == {"train": 240, "valid": 30, "test": 30}
    assert [field.name for field in schema.fields] == list(criteo.COLUMNS[1:])
    # ln(3)^2 = 1.2 joins 1, ln(17)^2 = 8.03; 0 and missing are OOV, as is what is rare.
    assert sorted(words(tmp_path / "out", "I3")) == ["-1", "1", "2", "8"]
    assert sorted(words(tmp_path / "out", "C7")) == ["05db9164", "68fd1e64"]
    assert schema.source["split_seed"] == 2024


def test_missing_is_oov(tmp_path):
    lines = rows(200)
    for line in lines:
        line[1:] = ["5"] * 13 + ["aa"] * 26
    lines[7][3], lines[8][20] = "", ""
    write(tmp_path / "train.txt", lines, "\t")
    schema = criteo.prepare(tmp_path, tmp_path / "out")
    ids = np.concatenate([encoded.open_split(tmp_path / "out", split).ids for split in schema.splits])
    oov = np.array([field.oov for field in schema.fields])
    assert np.flatnonzero((ids == oov).sum(axis=0)).tolist() == [2, 19]


def test_paper_buckets(tmp_path):
    write(tmp_path / "train.txt", rows(300), "\t")
    criteo.prepare(tmp_path, tmp_path / "out", paper_buckets=True)
    assert words(tmp_path / "out", "I3") == ["1", "8"]


def test_release_with_ready_splits(tmp_path):
    for seed, (name, count) in enumerate({"train": 200, "valid": 20, "test": 30}.items()):
        write(tmp_path / f"{name}.csv", rows(count, seed), ",", header=True)
    write(tmp_path / "train.txt", rows(10), "\t")  # the ready splits go before it
    schema = criteo.prepare(tmp_path, tmp_path / "out")
    assert schema.splits == {"train": 200, "valid": 20, "test": 30}
    labels = encoded.open_split(tmp_path / "out", "test").labels
    assert labels.tolist() == [float(line[0]) for line in rows(30, 2)]


def test_raw_files_are_missing(tmp_path):
    (tmp_path / "train.csv").touch()
    with pytest.raises(InputError) as error:
        criteo.prepare(tmp_path, tmp_path / "out")
    for text in ("train.csv and valid.csv and test.csv, or train.txt", "here is ['train.csv']", "--raw"):
        assert text in str(error.value)
    with pytest.raises(InputError, match="no directory"):
        criteo.prepare(tmp_path / "none", tmp_path / "out")


def test_a_short_line(tmp_path):
    lines = rows(50)
    del lines[41][5]
    write(tmp_path / "train.txt", lines, "\t")
    with pytest.raises(InputError, match=r"train\.txt:42: has 39 columns, not the 40"):
        criteo.prepare(tmp_path, tmp_path / "out")
