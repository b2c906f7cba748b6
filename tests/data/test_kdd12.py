import random

import numpy as np
import polars as pl
import pytest

from ektf_jax.data import encoded, kdd12
from ektf_jax.errors import InputError

PROFILES = {user: (random.Random(user).choice("012"), str(user % 6 + 1)) for user in range(1, 9)}


def write(folder, count=200, profiles=None):
    """Users 0 to 11, of whom 1 to 8 have a profile; returns the (user, clicks) of each line."""
    rng = random.Random(1)
    lines = []
    for _ in range(count):
        clicks, user = rng.choice([0, 0, 1, 3]), rng.randrange(12)
        depth = rng.randint(1, 3)
        lines.append(
            (clicks, 9, 14340390157469404125, 20163000 + rng.randrange(3), 23808, depth, 1, 7, 8, 9, 10, user)
        )
    (folder / "training.txt").write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
    text = "".join(f"{user}\t{gender}\t{age}\n" for user, (gender, age) in PROFILES.items())
    (folder / "userid_profile.txt").write_text(text if profiles is None else profiles)
    return [(line[-1], line[0]) for line in lines]


def test_join(tmp_path):
    rows = write(tmp_path)
    schema = kdd12.prepare(tmp_path, tmp_path / "out")
    assert (schema.dataset, schema.num_fields) == ("kdd12", 13)
    assert schema.splits == {"train": 160, "valid": 20, "test": 20}
    assert [file["name"] for file in schema.source["files"]] == ["training.txt", "userid_profile.txt"]
    words = pl.read_parquet(tmp_path / "out/vocabulary.parquet")
    known = {row: value for value, row in words.select("value", "id").rows()}
    order = np.random.default_rng(2024).permutation(200)
    columns = [field.name for field in schema.fields]
    for split, mine in (("train", order[:160]), ("test", order[180:])):
        ids, labels, *_ = encoded.open_split(tmp_path / "out", split)
        for (user, clicks), row, label in zip((rows[at] for at in sorted(mine)), ids, labels, strict=True):
            assert label == (clicks > 0)
            # Without a profile gender and age are 0, a value like any other; a rare value is OOV.
            gender, age = PROFILES.get(user, ("0", "0"))
            for name, value in (("UserID", str(user)), ("Gender", gender), ("Age", age)):
                assert known.get(int(row[columns.index(name)]), value) == value
    genders = words.filter(pl.col("field") == "Gender")["value"]
    assert sorted(genders) == ["0", "1", "2"]
    assert words.filter(pl.col("field") == "Impression")["value"].to_list() == ["4"]  # ln(9)^2 = 4.8
    assert sorted(words.filter(pl.col("field") == "Depth")["value"]) == ["1", "2"]  # 3 joins 1


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("1\t1\t2\n1\t2\t2\n", "userid_profile.txt:2: UserID 1 has a profile on an earlier line"),
        ("1\t1\n", "userid_profile.txt:1: has 2 columns, not the 3"),
        ("1\t1\t2\nx\t1\t2\n", "userid_profile.txt:2: UserID is 'x'; it must be a whole number"),
        (
            "1\t1\t2\n2\t1\t300\n",
            "userid_profile.txt:2: Age is '300'; it must be a whole number from 0 to 254",
        ),
    ],
)
def test_bad_profiles(tmp_path, profiles, said):
    write(tmp_path, profiles=profiles)
    with pytest.raises(InputError) as error:
        kdd12.prepare(tmp_path, tmp_path / "out")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0\t1\t1\t1\t1\t1\t1\t1\t1\t1\t1\t-5\n", r"training\.txt:201: UserID is '-5'"),
        (
            "-1\t1\t1\t1\t1\t1\t1\t1\t1\t1\t1\t5\n",
            r"training\.txt:201: Click is '-1'.*a number, at least 0",
        ),
    ],
)
def test_bad_lines(tmp_path, line, said):
    write(tmp_path)
    with (tmp_path / "training.txt").open("a") as file:
        file.write(line)
    with pytest.raises(InputError, match=said):
        kdd12.prepare(tmp_path, tmp_path / "out")
