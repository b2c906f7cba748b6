import polars as pl
import pytest

from ektf_jax.data import encoded, kkbox
from ektf_jax.errors import InputError


def words(out, field):
    return pl.read_parquet(out / "vocabulary.parquet").filter(pl.col("field") == field)["value"].to_list()


def write_cup(folder):
    """The challenge's files; every line of train.csv 15 times, so that its values reach the threshold."""
    train = ["msno,song_id,source_system_tab,source_screen_name,source_type,target"]
    train += ["u1,s1,explore,Explore,online-playlist,1"] * 15
    train += ["u2,s2,null,,song,0", "u3,s9,my library,Local,song,0"] * 15
    train += ["u3,s3,my library,Local,song,0", "u3,s4,my library,Local,song,0"] * 15
    (folder / "train.csv").write_text("\n".join(train) + "\n")
    songs = "song_id,song_length,genre_ids,artist_name,composer,lyricist,language\n"
    songs += 's1,247640,465|12|9|4,"Tom" & Jerry / Kim,,,3.0\n'
    songs += 's3,1,9,"Tom, ""the"" cat",,,3.0\n'
    songs += 's4,1,9,5" x,"a,,3.0\n'
    songs += "s2,197328,465,王力宏 (Wang Lee-Hom),a,b,-1.0,spare\n"
    (folder / "songs.csv").write_text(songs)
    (folder / "members.csv").write_text(
        "msno,city,bd,gender,registered_via,registration_init_time,expiration_date\n"
        "u1,1,0,,7,20110820,20170920\nu2,13,61,female,9,20150628,20170622\n"
    )
    (folder / "song_extra_info.csv").write_text('song_id,name,isrc\ns1,"My" song,TWUM71200043\n')


def test_cup(tmp_path):
    write_cup(tmp_path)
    out = tmp_path / "out"
    schema = kkbox.prepare(tmp_path, out)
    assert (schema.dataset, schema.num_fields, schema.num_slots) == ("kkbox", 13, 17)
    assert schema.splits == {"train": 60, "valid": 7, "test": 8}
    artists = ["5 x", "Jerry", "Kim", "Tom", "Tom, the cat", "王力宏 (Wang Lee-Hom)"]
    assert sorted(words(out, "artist_name")) == artists
    # All genres are counted, though a row has but three slots.
    assert sorted(words(out, "genre_ids")) == ["12", "4", "465", "9"]
    assert sorted(words(out, "language")) == ["-1", "3"]
    assert words(out, "isrc") == ["TW"]
    assert words(out, "bd") == ["7"]  # an age of 0 is missing, 61 is in the last bucket
    assert sorted(words(out, "source_system_tab")) == ["explore", "my library"]
    assert [file["name"] for file in schema.source["files"]] == [
        "train.csv",
        "songs.csv",
        "members.csv",
        "song_extra_info.csv",
    ]
    # A song that songs.csv lacks has no artists: padding, which stays out of the mean.
    split = encoded.open_split(out, "train")
    start, stop = dict(zip((field.name for field in schema.fields), schema.slots, strict=True))["artist_name"]
    assert sorted({int((row != 0).sum()) for row in split.ids[:, start:stop]}) == [0, 1, 3]


def test_release(tmp_path):
    header = ",".join(("label", *kkbox.FIELDS))
    line = "1,5,6,explore,Explore,song,13,female,9,3.0,{genres},{artists},{isrc},{bd}\n"
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text(
            header
            + "\n"
            + line.format(genres="1 2", artists="7^8", isrc="TWUM71200043", bd="10") * 12
            + line.format(genres="", artists="7", isrc="", bd="96.0") * 12
        )
    schema = kkbox.prepare(tmp_path, tmp_path / "out")
    assert schema.splits == {"train": 24, "valid": 24, "test": 24}
    assert sorted(words(tmp_path / "out", "genre_ids")) == ["1", "2"]
    assert words(tmp_path / "out", "artist_name") == ["7", "8"]
    assert words(tmp_path / "out", "isrc") == ["TW"]
    assert words(tmp_path / "out", "bd") == ["1"]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("members.csv", "u2,1,0,,7,0,0\n", "members.csv: msno 'u2' is on more than one line"),
        ("members.csv", "u9,1,old,,7,0,0\n", "members.csv:4: bd is 'old'; it must be a number"),
        ("members.csv", "u9,1\n", "members.csv:4: has 2 columns, not the 7"),
        ("train.csv", "u1,s1,a,b,c,2\n", "train.csv:77: target is '2'; the label must be 0 or 1"),
    ],
)
def test_bad_lines(tmp_path, name, line, said):
    write_cup(tmp_path)
    with (tmp_path / name).open("a") as file:
        file.write(line)
    with pytest.raises(InputError) as error:
        kkbox.prepare(tmp_path, tmp_path / "out")
    assert said in str(error.value)
