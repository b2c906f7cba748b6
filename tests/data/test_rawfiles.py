"""Files by name: a path is a path, a table is there once, files without rows are none."""

import gzip
import os

import polars as pl
import pytest

from ektf_jax.data import (
    criteo,
    custom,
    describe,
    encoder,
    generators,
    kdd12,
    kkbox,
    parquet,
    pretrained,
    rawfiles,
    tables,
)
from ektf_jax.data.rawfiles import Layout
from ektf_jax.data.tables import FieldSpec, TableSpec
from ektf_jax.errors import InputError

ODD = ["x [v2]", "a?", "*", "{a,b}", "[!a]", "~", "%41", "a=1", "**"]
SPEC = TableSpec("t", "y", (FieldSpec("c"),))


def words(out):
    return pl.read_parquet((out / "vocabulary.parquet").read_bytes())["value"].to_list()


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("odd", ODD)
def test_a_path_is_a_path(tmp_path, odd, kind):
    """Raw files, results and descriptions below directories whose names polars takes for patterns."""
    raw, out = tmp_path / odd / f"raw{odd}", tmp_path / odd / f"out{odd}"
    raw.mkdir(parents=True)
    path = raw / f"{odd}.{kind}"
    frame = pl.DataFrame({"y": [0, 1] * 5, "c": [odd] * 10})
    data = frame.write_csv().encode() if kind == "csv" else None
    with path.open("wb") as file:
        file.write(data) if data else frame.write_parquet(file)
    tables.prepare(SPEC, [path], out)
    assert words(out) == [odd]
    assert describe.describe(out).fields[0].heaviest[0].text == odd


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_neighbours_are_not_read_for_a_path(tmp_path, kind):
    files = [tmp_path / f"{name}.{kind}" for name in ("part[a]", "parta", "part?", "part*")]
    for path in files:
        frame = pl.DataFrame({"y": [0, 1], "c": [path.name] * 2})
        with path.open("wb") as file:
            frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
    tables.prepare(SPEC, {"train": files, "test": files[:1]}, tmp_path / "out")
    assert words(tmp_path / "out") == sorted(path.name for path in files)


def test_shares_below_an_odd_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("ektf_jax.data.vocabulary._MERGED", 5)
    (tmp_path / "x [v2]").mkdir()
    (tmp_path / "a.csv").write_text("y,c\n" + "".join(f"1,{c}\n" for c in range(40)), encoding="utf-8")
    tables.prepare(SPEC, [tmp_path / "a.csv"], tmp_path / "x [v2]/out", chunk_bytes=50)
    assert len(words(tmp_path / "x [v2]/out")) == 32


@pytest.mark.parametrize("dataset", ["criteo", "kdd12", "kkbox"])
def test_generated_files_below_an_odd_directory(tmp_path, dataset):
    module = {"criteo": criteo, "kdd12": kdd12, "kkbox": kkbox}[dataset]
    raw, out = tmp_path / "x [v2]/raw?", tmp_path / "x [v2]/out*"
    generators.write(dataset, raw, 200)
    schema = module.prepare(raw, out)
    assert schema.source["synthetic"] is True
    assert describe.describe(out).schema == schema


def test_a_damaged_vocabulary_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("y,c\n" + "1,a\n" * 10, encoding="utf-8")
    tables.prepare(SPEC, [tmp_path / "a.csv"], tmp_path / "out")
    (tmp_path / "out/vocabulary.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"vocabulary\.parquet: is damaged"):
        describe.describe(tmp_path / "out")


# --- once


@pytest.mark.parametrize("gzipped", ["train.txt.gz", "training.txt.gz"])
def test_a_file_that_is_there_gzipped_and_not(tmp_path, gzipped):
    dataset, module = ("criteo", criteo) if gzipped == "train.txt.gz" else ("kdd12", kdd12)
    generators.write(dataset, tmp_path, 50)
    plain = tmp_path / gzipped.removesuffix(".gz")
    (tmp_path / gzipped).write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError) as error:
        module.prepare(tmp_path, tmp_path / "out")
    assert str(tmp_path / gzipped) in str(error.value)
    assert f"{plain}:" in str(error.value) or f"{plain} " in str(error.value)
    plain.unlink()
    module.prepare(tmp_path, tmp_path / "out")


# --- without rows


def write_empty(path, kind):
    frame = pl.DataFrame({"y": [], "c": []}, schema={"y": pl.Int64, "c": pl.List(pl.Int64)})
    content = {
        "nothing": b"",
        "blank": b"\n\n",
        "header": b"y,c\n",
        "mark": b"\xef\xbb\xbf",
        "gzip": gzip.compress(b""),
        "gzipped header": gzip.compress(b"y,c"),
    }
    if kind == "parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(content[kind])


EMPTY = ["nothing", "blank", "header", "mark", "gzip", "gzipped header", "parquet"]


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_file_without_rows_among_others(tmp_path, kind, place):
    files = [tmp_path / f"{index}" for index in range(3)]
    for index, path in enumerate(files):
        path.write_text(f"y,c\n1,{index}\n" + "0,b\n" * 5, encoding="utf-8")
    write_empty(files[place], kind)
    schema = tables.prepare(SPEC, files, tmp_path / "out")
    assert schema.splits == {"train": 9, "valid": 1, "test": 2}
    assert [entry["name"] for entry in schema.source["files"]] == ["0", "1", "2"]
    before = (tmp_path / "out/schema.json").stat().st_ino
    tables.prepare(SPEC, files, tmp_path / "out")
    assert (tmp_path / "out/schema.json").stat().st_ino == before


@pytest.mark.parametrize("page", ['{"error": "expired"}', "<div>Sign in</div>", "x"])
def test_a_page_on_one_line_is_no_file_without_rows(tmp_path, page):
    """It would be left out of the table in silence."""
    (tmp_path / "a").write_text("y,c\n" + "1,x\n" * 12, encoding="utf-8")
    (tmp_path / "b").write_bytes(page.encode())
    with pytest.raises(InputError, match=r"/b:1: the header lacks y, c; it has "):
        tables.prepare(SPEC, [tmp_path / "a", tmp_path / "b"], tmp_path / "out")


@pytest.mark.parametrize("kind", EMPTY)
def test_no_rows_at_all(tmp_path, kind):
    for name in ("a", "b"):
        write_empty(tmp_path / name, kind)
    with pytest.raises(InputError, match=r"/a: (has no rows|is empty); replace it"):
        tables.prepare(SPEC, [tmp_path / "a"], tmp_path / "out")
    with pytest.raises(InputError, match=r"/a and the other files: have no rows"):
        tables.prepare(SPEC, [tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_rows_in_a_split(tmp_path, split):
    files = {name: [tmp_path / f"{name}{index}" for index in range(2)] for name in ("train", "test")}
    for paths in files.values():
        for path in paths:
            path.write_text("y,c\n1,a\n", encoding="utf-8")
    for path in files[split]:
        path.write_text("y,c\n", encoding="utf-8")
    with pytest.raises(InputError, match=rf"/{split}0 and the other files of \w+: have no rows"):
        tables.prepare(SPEC, files, tmp_path / "out")


def test_a_table_to_join_has_rows(tmp_path):
    """Without them every user would silently have no profile."""
    generators.write("kdd12", tmp_path / "kdd12", 50)
    (tmp_path / "kdd12/userid_profile.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"userid_profile\.txt: is empty"):
        kdd12.prepare(tmp_path / "kdd12", tmp_path / "out")
    generators.write("kkbox", tmp_path / "kkbox", 50)
    songs = tmp_path / "kkbox/songs.csv"
    songs.write_bytes(songs.read_bytes().split(b"\n")[0])
    with pytest.raises(InputError, match=r"songs\.csv: has no rows"):
        kkbox.prepare(tmp_path / "kkbox", tmp_path / "out")


def test_no_columns_are_wanted_of_a_blank_header(tmp_path):
    (tmp_path / "a.csv").write_text("\ny,c\n1,a\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.csv:1: the header is a blank line"):
        list(rawfiles.chunks(tmp_path / "a.csv", Layout(), ("y", "c")))


def test_a_derivation_takes_no_lists(tmp_path):
    """KKBox_x1 as Parquet: its lists would be split as text."""
    generators.write("kkbox_x1", tmp_path, 50)
    for name in ("train", "valid", "test"):
        path = tmp_path / f"{name}.csv"
        frame = pl.read_csv(path.read_bytes(), infer_schema=False)
        frame.with_columns(pl.col("genre_ids").str.split(" ")).write_parquet(path)
    with pytest.raises(InputError, match=r"train\.csv: column genre_ids has type List\(String\), a list"):
        kkbox.prepare(tmp_path, tmp_path / "out")


# --- what the entries of `files:` name


def prepare(folder, files, raw=None):
    text = f"{{dataset: t, files: {files}, label: y, fields: [c]}}"
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    out = folder / "out"
    schema = custom.prepare(folder / "t.yaml", raw or folder / "raw", out)
    return [entry["name"] for entry in schema.source["files"]], words(out)


def table(path, word, copies=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("y,c\n" + f"1,{word}\n" * copies, encoding="utf-8")


def test_an_entry_that_names_a_file_is_that_file(tmp_path):
    for name in ("part[a].csv", "parta.csv", "p*.csv", "a?.csv", "ab.csv", "{a}.csv"):
        table(tmp_path / "raw" / name, name)
    assert prepare(tmp_path, "['part[a].csv']") == (["part[a].csv"], ["part[a].csv"])
    assert prepare(tmp_path, "['p*.csv']")[0] == ["p*.csv"]
    assert prepare(tmp_path, "['a?.csv', 'ab.csv']")[0] == ["a?.csv", "ab.csv"]
    assert prepare(tmp_path, "'part[ab].csv'")[0] == ["parta.csv"]  # no file of that name: a pattern
    assert len(prepare(tmp_path, "'[!.]*.csv'")[0]) == 6


def test_patterns_skip_hidden_files_and_directories(tmp_path):
    raw = tmp_path / ".cache" / "raw"  # hidden itself, which --raw says
    for name in ("a.csv", ".a.csv", ".ipynb_checkpoints/a-checkpoint.csv", "sub/.old/b.csv", "sub/b.csv"):
        table(raw / name, "w")
    assert prepare(tmp_path, "'**/*.csv'", raw)[0] == ["a.csv", "b.csv"]
    assert prepare(tmp_path, "'*.csv'", raw)[0] == ["a.csv"]
    assert prepare(tmp_path, "'*/*.csv'", raw)[0] == ["b.csv"]
    assert prepare(tmp_path, "['.a.csv', '.ipynb_checkpoints/*.csv']", raw)[0] == [
        ".a.csv",
        "a-checkpoint.csv",
    ]
    with pytest.raises(InputError, match=r"matches nothing in .* but hidden files such as .*\.a\.csv"):
        prepare(tmp_path, "'?a.csv'", raw)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ("'a*'", ("a.csv", "a.csv.gz")),
        ("[a.csv, a.csv.gz]", ("a.csv", "a.csv.gz")),
        ("{train: a.csv.gz, test: a.csv}", ("a.csv", "a.csv.gz")),
        ("[b.csv, 'b.*']", ("b.csv", "b.csv")),
        ("'[bc].csv'", ("b.csv", "c.csv")),
        ("[b.csv, d.csv]", ("b.csv", "d.csv")),
        ("{train: sub/../b.csv, test: b.csv}", ("sub/../b.csv", "b.csv")),
        ("[b.csv, e/b.csv.gz]", ("b.csv", "e/b.csv.gz")),
    ],
)
def test_a_table_is_there_once(tmp_path, files, named):
    raw = tmp_path / "raw"
    table(raw / "sub/s.csv", "s")
    for name in ("a", "b"):
        table(raw / f"{name}.csv", name)
    (raw / "a.csv.gz").write_bytes(gzip.compress((raw / "a.csv").read_bytes()))
    os.link(raw / "b.csv", raw / "c.csv")
    (raw / "d.csv").symlink_to("b.csv")
    (raw / "e").symlink_to(raw, target_is_directory=True)
    (raw / "b.csv.gz").write_bytes(gzip.compress((raw / "b.csv").read_bytes()))
    if named == ("b.csv", "b.csv"):
        (raw / "b.csv.gz").unlink()
    with pytest.raises(InputError) as error:
        prepare(tmp_path, files)
    assert "t.yaml: files: " in str(error.value)
    for name in named:
        assert str(raw / name) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_tables_of_the_same_name_in_two_directories(tmp_path):
    for name in ("a", "b"):
        table(tmp_path / "raw" / name / "part.csv", name)
    names, found = prepare(tmp_path, "'*/part.csv'")
    assert (names, sorted(found)) == (["part.csv", "part.csv"], ["a", "b"])


def test_a_directory_is_no_table(tmp_path):
    table(tmp_path / "raw/parts/a.csv", "a")
    with pytest.raises(InputError, match=r"'parts' is a directory .* as parts/\*\.csv"):
        prepare(tmp_path, "parts")


def test_a_link_to_nothing_is_no_reason_to_leave_rows_out(tmp_path):
    table(tmp_path / "raw/a.csv", "a")
    (tmp_path / "raw/b.csv").symlink_to("gone.csv")
    with pytest.raises(InputError, match=r"'\*\.csv' matches .*b\.csv, a link to what is not there"):
        prepare(tmp_path, "'*.csv'")


def test_a_pattern_that_matches_directories_says_so(tmp_path):
    table(tmp_path / "raw/a.parquet/part-0", "a")
    with pytest.raises(InputError, match=r"matches nothing in .* but what is no file, such as .*a\.parquet"):
        prepare(tmp_path, "'*.parquet'")


@pytest.mark.parametrize(("footer", "said"), [(5, "4 of 5 rows came"), (3, "more than 3 rows came")])
def test_a_parquet_file_has_the_rows_that_its_footer_names(tmp_path, monkeypatch, footer, said):
    """Where a thread of polars panics over a damaged file, its batches end as if there were no more."""
    paths = [tmp_path / f"{name}.parquet" for name in "ab"]
    for path in paths:
        pl.DataFrame({"y": [0, 1, 0, 1], "c": ["x"] * 4}).write_parquet(path)
    count = parquet.rows_of
    monkeypatch.setattr(
        parquet, "rows_of", lambda path, file: footer if path == paths[1] else count(path, file)
    )
    with pytest.raises(InputError, match=rf"b\.parquet: damaged Parquet \({said}\)"):
        tables.prepare(SPEC, paths, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == paths


def test_a_panic_over_a_parquet_file_is_an_error(tmp_path, monkeypatch):
    def panic(file):
        raise pl.exceptions.PanicException("index out of range")

    pl.DataFrame({"y": [0, 1] * 5, "c": ["x"] * 10}).write_parquet(tmp_path / "a.parquet")
    tables.prepare(SPEC, [tmp_path / "a.parquet"], tmp_path / "out")
    monkeypatch.setattr(pl, "scan_parquet", panic)
    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(
        InputError, match=r"a\.parquet: damaged or unsupported Parquet \(index out of range\)"
    ):
        tables.prepare(SPEC, [tmp_path / "a.parquet"], tmp_path / "new")
    for read in (encoder.of_dataset, describe.describe):
        with pytest.raises(InputError, match=r"vocabulary\.parquet"):
            read(tmp_path / "out")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read"):
        pretrained.read(TableSpec("t", "y", (FieldSpec("c", pretrained="a.parquet"),)), tmp_path)
