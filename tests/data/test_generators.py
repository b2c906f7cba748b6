"""Raw-file generators: native formats, determinism, published cardinalities, missing rates, signal."""

import csv
import re
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ektf_jax.data import generators, movielens
from ektf_jax.data.generators import draws, world
from ektf_jax.errors import InputError
from tests import commands

ROWS = 10_000
CRITEO = ["Label", *(f"I{index}" for index in range(1, 14)), *(f"C{index}" for index in range(1, 27))]
IPINYOU = [
    *("click", "weekday", "hour", "IP", "region", "city", "adexchange", "domain", "slotid", "slotwidth"),
    *("slotheight", "slotvisibility", "slotformat", "creative", "advertiser", "useragent", "slotprice"),
]
KKBOX_X1 = [
    *("label", "msno", "song_id", "source_system_tab", "source_screen_name", "source_type", "city", "bd"),
    *("gender", "registered_via", "registration_init_time", "expiration_date", "song_length", "genre_ids"),
    *("artist_name", "composer", "lyricist", "language", "name", "isrc"),
]
PROFILE = ["UserID", "Gender", "Age"]
SPLITS = ("train.csv", "valid.csv", "test.csv")
CLICKS = {
    "criteo": 0.256,
    "criteo_x4": 0.256,
    "ml1m": 0.575 / 0.739,
    "kdd12": 0.045,
    "ipinyou": 0.0007,
    "kkbox": 0.504,
    "kkbox_x1": 0.504,
}
KDD12 = [
    *("Click", "Impression", "DisplayURL", "AdID", "AdvertiserID", "Depth", "Position", "QueryID"),
    *("KeywordID", "TitleID", "DescriptionID", "UserID"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The directory of a dataset's files, made once."""
    root = tmp_path_factory.mktemp("raw")

    def make(dataset):
        directory = root / dataset
        if not directory.exists():
            generators.write(dataset, directory, ROWS, seed=1)
        return directory

    return make


def read(path, delimiter=",", names=None):
    """Rows as dicts, by the csv module; every row must have every column."""
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file, delimiter=delimiter, strict=True))
    names, rows = (names, table) if names else (table[0], table[1:])
    assert {len(row) for row in rows} == {len(names)}
    return [dict(zip(names, row, strict=True)) for row in rows]


def missing(rows, name):
    return sum(row[name] == "" for row in rows) / len(rows)


def table(path, separator=",", names=None):
    """The same as a frame of texts, fast."""
    frame = pl.read_csv(path, separator=separator, has_header=names is None, infer_schema=False).fill_null("")
    return frame.rename(dict(zip(frame.columns, names or frame.columns, strict=True)))


def events(directory, dataset):
    """The label of each row, and its columns as a frame, with what other files add about users."""
    files = generators.DATASETS[dataset].files
    if dataset == "criteo":
        frame = table(directory / "train.txt", "\t", CRITEO)
    elif dataset == "kdd12":
        profiles = table(directory / "userid_profile.txt", "\t", PROFILE)
        frame = table(directory / "training.txt", "\t", KDD12)
        frame = frame.join(profiles, on="UserID", how="left", maintain_order="left").fill_null("")
    elif dataset == "ml1m":
        lines = (directory / "ratings.dat").read_text().splitlines()
        frame = pl.DataFrame(
            [line.split("::")[:3] for line in lines], ("UserID", "MovieID", "Rating"), orient="row"
        )
    else:
        frame = pl.concat([table(directory / name) for name in files if name in SPLITS])
    label = {"ml1m": "Rating", "kdd12": "Click"}.get(dataset) or frame.columns[
        -1 if dataset == "kkbox" else 0
    ]
    return frame[label].cast(pl.Int64).to_numpy(), frame.drop(label)


def held_out_auc(labels, frame):
    """AUC on the second half of the sum of smoothed log-odds that each value has in the first half."""
    half = len(labels) // 2
    prior = labels[:half].mean()
    scores = np.zeros(len(labels) - half)
    for column in frame.iter_columns():
        codes = column.rank("dense").to_numpy() - 1
        seen, clicked = (
            np.bincount(codes[:half], weights, codes.max() + 1) for weights in (None, labels[:half])
        )
        weight = 5 / prior  # five clicks' worth
        rates = (clicked + weight * prior) / (seen + weight)
        scores += np.log(rates / (1 - rates))[codes[half:]]
    return roc_auc_score(labels[half:], scores)


def test_criteo_is_kaggles_format(made):
    rows = read(made("criteo") / "train.txt", "\t", CRITEO)
    assert len(rows) == ROWS
    for row in rows[:2000]:
        assert row["Label"] in "01"
        assert all(re.fullmatch(r"(-?\d+)?", row[name]) for name in CRITEO[1:14])
        assert all(re.fullmatch(r"([0-9a-f]{8})?", row[name]) for name in CRITEO[14:])
    assert {row["I2"] for row in rows} >= {"-3", "-2", "-1", "0", "1"}
    assert min(int(row[name] or 0) for row in rows for name in CRITEO[1:14] if name != "I2") == 0


@pytest.mark.parametrize(
    ("name", "share"), [("I1", 0.454), ("I12", 0.765), ("I2", 0), ("C3", 0.034), ("C22", 0.763), ("C1", 0)]
)
def test_criteo_missing_rates(made, name, share):
    found = missing(read(made("criteo") / "train.txt", "\t", CRITEO), name)
    assert found == pytest.approx(share, abs=0.015)
    assert (found > 0) == (share > 0)


def test_criteo_values_are_long_tailed(made):
    rows = read(made("criteo") / "train.txt", "\t", CRITEO)
    assert {row["C9"] for row in rows} == {row["C9"] for row in rows[:100]}  # three
    counts = Counter(row["C3"] for row in rows if row["C3"])
    assert 0.3 < len(counts) / ROWS < 0.8  # most are seen once, and of 157,337 and a tail only few
    assert max(counts.values()) > 250


def test_criteo_x4_is_the_same_data_split(made):
    parts = [read(made("criteo_x4") / name) for name in SPLITS]
    assert [len(part) for part in parts] == [8_000, 1_000, 1_000]
    assert list(parts[0][0]) == CRITEO
    assert [row for part in parts for row in part] == read(made("criteo") / "train.txt", "\t", CRITEO)


def test_ml1m_is_accepted(made, tmp_path):
    schema = movielens.prepare(made("ml1m"), tmp_path / "out")
    assert schema.num_fields == 7
    assert sum(schema.splits.values()) == pytest.approx(ROWS * (1 - 0.261), rel=0.02)
    sizes = {field.name: field.vocab_size for field in schema.fields}
    # Published: 4, 9, 23, 10 and 20; the sample has all values but the rarest year's.
    assert {name: sizes[name] for name in ("Gender", "Age", "Occupation")} == {
        "Gender": 4,
        "Age": 9,
        "Occupation": 23,
    }
    assert 9 <= sizes["Release"] <= 10
    assert sizes["Genres"] == 20
    assert sizes["MovieID"] <= 3708
    movies = (made("ml1m") / "movies.dat").read_bytes().decode("latin-1").splitlines()
    assert len(movies) == 3883
    assert all(re.fullmatch(r"\d+::[^:]+ \((19\d\d|2000)\)::[^:]+", movie) for movie in movies)
    assert any("é" in movie for movie in movies)
    assert len({movie.split("::")[1] for movie in movies}) == 3883


def test_ml1m_ratings_fall_as_the_real_ones(made):
    ratings, _ = events(made("ml1m"), "ml1m")
    shares = np.bincount(ratings, minlength=6)[1:] / ROWS
    assert shares == pytest.approx([0.056, 0.108, 0.261, 0.349, 0.226], abs=0.03)


def test_kdd12_is_the_cups_format(made):
    rows = read(made("kdd12") / "training.txt", "\t", KDD12)
    profiles = read(made("kdd12") / "userid_profile.txt", "\t", PROFILE)
    numbers = [{name: int(value) for name, value in row.items()} for row in rows]
    assert all(0 <= row["Click"] <= row["Impression"] for row in numbers)
    assert all(1 <= row["Position"] <= row["Depth"] <= 3 for row in numbers)
    assert any(row["Click"] > 1 for row in numbers)
    assert {row["Gender"] for row in profiles} == set("012")
    assert {row["Age"] for row in profiles} == set("123456")
    users, known = {row["UserID"] for row in rows}, [row["UserID"] for row in profiles]
    assert "0" in users
    assert len(set(known)) == len(known)
    assert set(known) < users - {"0"}
    assert len(known) / len(users - {"0"}) == pytest.approx(0.94, abs=0.01)


def test_ipinyou_is_reczoos_format(made):
    train, test = (read(made("ipinyou") / f"{name}.csv") for name in ("train", "test"))
    assert list(train[0]) == list(test[0]) == IPINYOU
    assert len(test) / (len(train) + len(test)) == pytest.approx(0.2103, abs=2 / ROWS)
    values = {name: len({row[name] for row in train}) for name in IPINYOU}
    assert {
        name: values[name]
        for name in ("weekday", "hour", "region", "slotwidth", "slotvisibility", "useragent")
    } == {
        "weekday": 7,
        "hour": 24,
        "region": 35,
        "slotwidth": 21,
        "slotvisibility": 11,
        "useragent": 40,
    }
    assert missing(train, "domain") == pytest.approx(0.02, abs=0.003)


def test_small_ipinyou_has_clicks_in_both_files(tmp_path):
    generators.write("ipinyou", tmp_path, 1000)
    for name in ("train.csv", "test.csv"):
        assert {row["click"] for row in read(tmp_path / name)} == {"0", "1"}


def test_kkbox_is_the_cups_format(made):
    train, members, songs, extra = (
        read(made("kkbox") / f"{name}.csv") for name in ("train", "members", "songs", "song_extra_info")
    )
    assert list(train[0]) == [*KKBOX_X1[1:6], "target"]
    assert list(members[0]) == ["msno", *KKBOX_X1[6:12]]
    assert list(songs[0]) == ["song_id", *KKBOX_X1[12:18]]
    assert list(extra[0]) == ["song_id", "name", "isrc"]
    assert {row["msno"] for row in train} == {row["msno"] for row in members}
    heard = {row["song_id"] for row in train}
    assert {row["song_id"] for row in songs} < heard == {row["song_id"] for row in extra}
    assert all(re.fullmatch("[A-Za-z0-9+/]{43}=", song) for song in heard)
    artists = [row["artist_name"] for row in songs]
    assert any(", " in artist for artist in artists)
    assert any('"' in artist for artist in artists)
    assert any(ord(artist[0]) > 0x4E00 for artist in artists)
    assert max(artist.count("|") for artist in artists) == 3
    assert all(re.fullmatch(r"(\d+(\|\d+){0,3})?", row["genre_ids"]) for row in songs)
    assert any("|" in row["genre_ids"] for row in songs)
    assert all(re.fullmatch(r"([A-Z]{5}\d{7})?", row["isrc"]) for row in extra)
    assert all(
        re.fullmatch(r"20(0[4-9]|1\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d)", row[name])
        for row in members
        for name in KKBOX_X1[10:12]
    )
    assert missing(members, "gender") == pytest.approx(0.4, abs=0.02)
    assert missing(train, "source_screen_name") == pytest.approx(0.056, abs=0.01)
    assert missing(songs, "lyricist") == pytest.approx(0.41, abs=0.02)
    assert missing(extra, "isrc") == pytest.approx(0.08, abs=0.01)


def test_kkbox_x1_is_the_cups_data_joined_and_numbered(made):
    parts = [read(made("kkbox_x1") / name) for name in SPLITS]
    assert [len(part) for part in parts] == [8_000, 1_000, 1_000]
    rows, train = [row for part in parts for row in part], read(made("kkbox") / "train.csv")
    assert list(rows[0]) == KKBOX_X1
    members = {row["msno"]: row for row in read(made("kkbox") / "members.csv")}
    songs = {row["song_id"]: row for row in read(made("kkbox") / "songs.csv")}
    extra = {row["song_id"]: row for row in read(made("kkbox") / "song_extra_info.csv")}
    absent = dict.fromkeys(KKBOX_X1[12:18], "")
    pairs = defaultdict(set)
    for row, event in zip(rows, train, strict=True):
        song = songs.get(event["song_id"], absent)
        assert row["label"] == event["target"]
        assert [row[name] for name in KKBOX_X1[3:6]] == [event[name] for name in KKBOX_X1[3:6]]
        assert [row[name] for name in KKBOX_X1[6:12]] == [
            members[event["msno"]][name] for name in KKBOX_X1[6:12]
        ]
        assert row["song_length"] == song["song_length"]
        assert row["genre_ids"] == song["genre_ids"].replace("|", " ")
        assert row["language"] == song["language"].removesuffix(".0")
        assert row["isrc"] == extra[event["song_id"]]["isrc"]
        pairs["msno", row["msno"]].add(event["msno"])
        pairs["song", row["song_id"]].add(event["song_id"])
        artists = zip(row["artist_name"].split(), filter(None, song["artist_name"].split("|")), strict=True)
        for number, artist in artists:
            pairs["artist", number].add(artist)
    assert {len(names) for names in pairs.values()} == {1}
    assert any(song not in songs for song in (event["song_id"] for event in train))


@pytest.mark.parametrize("dataset", CLICKS)
def test_click_rate_and_planted_signal(dataset, tmp_path):
    generators.write(dataset, tmp_path, 100_000 if dataset == "ipinyou" else 20_000, seed=1)
    labels, frame = events(tmp_path, dataset)
    if dataset == "ml1m":
        frame, labels = frame.filter(labels != 3), labels[labels != 3] > 3
    if dataset == "kdd12":
        labels = labels > 0
    if dataset == "ipinyou":  # of 35 clicks one learns only noise from columns of many values
        frame = frame.select(column for column in frame if column.n_unique() < 200)
    labels = labels.astype(int)
    assert labels.mean() == pytest.approx(CLICKS[dataset], rel=0.3 if dataset == "ipinyou" else 0.1)
    assert held_out_auc(labels, frame) > 0.55
    shuffled = np.random.default_rng(0).permutation(labels)
    assert held_out_auc(shuffled, frame) == pytest.approx(0.5, abs=0.1 if dataset == "ipinyou" else 0.05)


def published():
    for dataset, recipe in generators.DATASETS.items():
        if dataset not in ("criteo_x4", "kkbox_x1"):
            yield from (
                (dataset, column) for column in recipe.columns if not column.of and not column.octaves
            )


@pytest.mark.parametrize(
    ("dataset", "column"), list(published()), ids=lambda value: getattr(value, "name", value)
)
def test_full_size_has_the_published_vocabulary(dataset, column):
    # Of each rank the count at full size is close to Poisson: sum the chances of reaching the threshold.
    recipe = generators.DATASETS[dataset]
    if column.name in ("timestamp", "title"):
        pytest.skip("no published field")
    found = world.quantiles(recipe, column)
    ranks = np.arange(1, column.values + 2)
    ends = np.concatenate([[0.0], found.starts + found.widths])
    # Segments follow on one another, so their ends are the quantiles of i / 4096.
    below = np.interp(ranks, ends, np.linspace(0, 1, ends.size))
    expected = recipe.rows * np.diff(below)
    frequent = stats.poisson.sf(recipe.threshold - 1, expected).sum()
    others = world.rares(recipe, column)
    if others:
        expected = recipe.rows * (1 - below[-1]) / others
        frequent += others * stats.poisson.sf(recipe.threshold - 1, expected)
    assert frequent == pytest.approx(column.values, rel=0.03)


@pytest.mark.parametrize("name", ["I1", "I2", "I5", "I10", "I13"])
def test_criteo_numbers_have_the_published_buckets(name):
    # The published sizes, less padding and OOV; bucket 0 counts as missing there.
    sizes = {"I1": 42, "I2": 97, "I5": 218, "I10": 4, "I13": 70}
    column = next(column for column in generators.DATASETS["criteo"].columns if column.name == name)
    numbers = np.arange(column.values) - (3 if name == "I2" else 0)
    buckets = np.where(numbers > 2, np.log(np.maximum(numbers, 1)) ** 2, numbers).astype(int)
    assert len(np.unique(buckets[buckets != 0])) == sizes[name]


@pytest.mark.parametrize("dataset", generators.DATASETS)
def test_bytes_do_not_depend_on_chunks_and_do_on_the_seed(dataset, tmp_path, monkeypatch):
    def contents(name, seed=0):
        paths = generators.write(dataset, tmp_path / name, 1003, seed)
        return {path.name: path.read_bytes() for path in paths if path.name != generators.NOTICE}

    whole = contents("whole")
    monkeypatch.setattr(world, "CHUNK_ROWS", 97)
    assert contents("chunks") == whole
    assert contents("again") == whole
    other = contents("other", seed=1)
    assert other.keys() == whole.keys()
    assert not any(other[name] == whole[name] for name in whole)


def test_more_rows_begin_with_the_fewer(tmp_path):
    few, many = (
        generators.write("criteo", tmp_path / str(rows), rows)[0].read_bytes() for rows in (1000, 3000)
    )
    assert many.startswith(few)


@pytest.mark.parametrize("dataset", generators.DATASETS)
@pytest.mark.parametrize("rows", [10, 11, 19])
def test_any_number_of_rows(dataset, rows, tmp_path):
    paths = generators.write(dataset, tmp_path, rows)
    recipe = generators.DATASETS[dataset]
    assert [path.name for path in paths] == [*recipe.files, generators.NOTICE]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    split = [
        path
        for path in paths
        if path.name in SPLITS or path.name in ("train.txt", "training.txt", "ratings.dat")
    ]
    lines = [path.read_bytes().count(b"\n") - (path.suffix == ".csv") for path in split]
    assert sum(lines) == rows
    assert min(lines) >= 1


@pytest.mark.parametrize("dataset", generators.DATASETS)
def test_says_that_it_is_synthetic(dataset, tmp_path):
    *_, path = generators.write(dataset, tmp_path, 10, seed=7)
    text = path.read_text()
    assert path.name == "SYNTHETIC.txt"
    assert text.startswith("SYNTHETIC DATA, not ")
    assert f"--dataset={dataset} --rows=10 --seed=7 --out={tmp_path}" in text
    for name in generators.DATASETS[dataset].files:
        assert name in text


@pytest.mark.parametrize("name", ["valid.csv", "SYNTHETIC.txt"])
def test_never_overwrites(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name}: is there already"):
        generators.write("criteo_x4", tmp_path, 100)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_never_overwrites_what_came_meanwhile(tmp_path):
    def interfere(rows):
        (tmp_path / "train.txt").write_text("mine")

    with pytest.raises(InputError, match="is there already"):
        generators.write("criteo", tmp_path, 100, progress=interfere)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_leaves_nothing_half_written(tmp_path):
    def stop(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generators.write("criteo", tmp_path / "out", 100, progress=stop)
    assert not list((tmp_path / "out").iterdir())


def test_full_disk_is_an_input_error(tmp_path):
    def fill(rows):
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        generators.write("criteo", tmp_path, 100, progress=fill)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("criteo2", 100), "dataset is 'criteo2'; it must be one of criteo, criteo_x4"),
        (("criteo", 9), "rows is 9; it must be at least 10"),
        (("criteo", 100, -1), "seed is -1"),
    ],
)
def test_refuses(arguments, message, tmp_path):
    dataset, *rest = arguments
    with pytest.raises(InputError, match=message):
        generators.write(dataset, tmp_path / "out", *rest)
    assert not (tmp_path / "out").exists()


def test_command(tmp_path):
    def command():
        return commands.run("experiments.generate", "--dataset=kkbox", "--rows=50", f"--out={tmp_path}")

    first = command()
    assert (first.returncode, first.stderr) == (0, "")
    assert (tmp_path / "SYNTHETIC.txt").read_text() in first.stdout
    assert f"{tmp_path / 'songs.csv'}: " in first.stdout
    second = command()
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr.startswith(f"error: {tmp_path}")


# What the generators draw with


def test_numbers_are_written_as_python_does():
    values = np.array([0, 1, 9, 10, 99, 9999, 10_000, 10_001, 99_999, 123_456, 99_999_999, 10**8, 10**12 - 1])
    present = np.ones(values.size, bool)
    for digits in (1, 4, 5, 8, 12):
        fitting = values < 10**digits
        text = draws.decimal(values[fitting], present[fitting], digits)
        assert draws.lines([[text]], ",") == "".join(f"{value}\n" for value in values[fitting]).encode()
        assert draws.lines([[draws.decimal(values[fitting], ~present[fitting], digits)]], ",").strip() == b""


def test_hexadecimal_is_one_to_one_and_empty_for_missing():
    text = draws.lines([[draws.hexadecimal(draws.key("any"), np.arange(200_000))]], ",").decode().split("\n")
    assert text[0] == ""
    assert all(re.fullmatch("[0-9a-f]{8}", line) for line in text[1:1000])
    assert len(set(text[1:-1])) == 199_999


@pytest.mark.parametrize("plain", [False, True])
def test_names_are_one_to_one_and_survive_csv(plain):
    ids = np.concatenate([np.arange(3000), [2**24 - 1]])
    parts, quote = draws.name(ids, plain=plain)
    text = draws.lines([draws.quoted(parts, quote)], ",").decode()
    names = [row[0] if row else "" for row in csv.reader(text.splitlines(), strict=True)]
    assert names[0] == ""
    assert len(set(names)) == ids.size
    assert any("," in name for name in names) == any('"' in name for name in names) == (not plain)


@pytest.mark.parametrize("size", [1, 2, 611_953, 100_003, 1 << 16])
def test_ids_permute(size):
    found = draws.ids(np.arange(size + 1), size)
    assert found[0] == 0
    assert np.array_equal(np.sort(found[1:]), np.arange(1, size + 1))


def test_several_drops_repeats_and_what_is_beyond_the_count():
    kept = draws.several(np.array([3, 2, 0]), [np.array([5, 5, 5]), np.array([5, 6, 6]), np.array([7, 7, 7])])
    assert np.stack(kept, axis=1).tolist() == [[5, 0, 7], [5, 6, 0], [0, 0, 0]]


def test_ranks_have_the_shares_asked_for():
    of = draws.quantiles(1000, exponent=1.0, missing=0.1, rare=0.2, rares=5000)
    ranks = draws.ranks(draws.key("any"), np.arange(400_000), of)
    assert ranks.max() <= 6000
    assert (ranks == 0).mean() == pytest.approx(0.1, abs=0.002)
    assert (ranks > 1000).mean() == pytest.approx(0.2, abs=0.002)
    counts = np.bincount(ranks, minlength=6001)
    assert counts[10:20].sum() / counts[100:200].sum() == pytest.approx(1, rel=0.05)  # a decade like another
    assert counts[1001:3501].sum() / counts[3501:].sum() == pytest.approx(1, rel=0.03)


def test_effects_are_standard_and_unrelated_between_streams():
    values = np.arange(100_000)
    first, second = (draws.effect(draws.key(name), values) for name in ("first", "second"))
    assert first.mean() == pytest.approx(0, abs=0.01)
    assert first.std() == pytest.approx(1, abs=0.01)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0, abs=0.01)
    assert np.corrcoef(first[1:], first[:-1])[0, 1] == pytest.approx(0, abs=0.01)
