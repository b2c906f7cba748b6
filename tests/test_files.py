"""JSON files that hold something else than they should; files that cannot be written."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from matplotlib.figure import Figure

from ektf_jax.errors import InputError
from ektf_jax.files import has_format, read_json, remove, write_text
from ektf_jax.report import figures
from tests.full_disk import no_file_longer_than

SHAPE = {"a": int, "b": {"c": [{"d": int | float}]}}


def test_what_has_the_shape_is_read(tmp_path):
    (tmp_path / "x").write_text(
        '{"a": 1, "b": {"c": [{"d": 1}, {"d": 0.5, "e": null}]}, "f": []}', encoding="utf-8"
    )
    assert read_json(tmp_path / "x", SHAPE)["b"]["c"][1]["d"] == 0.5
    (tmp_path / "x").write_text('{"a": 1, "b": {"c": []}}', encoding="utf-8")
    assert read_json(tmp_path / "x", SHAPE)["a"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"null", "is None, not an object"),
        (b"[" + b"1, " * 1000 + b"1]", "is [1, 1, 1, 1, 1, 1, ...], not an object"),
        (b"{}", "a is missing"),
        (b'{"a": "1", "b": {}}', "a is '1', which it cannot be"),
        (b'{"a": true, "b": {}}', "a is True, which it cannot be"),
        (b'{"a": 1, "b": {}}', "b.c is missing"),
        (b'{"a": 1, "b": [1]}', "b is [1], which it cannot be"),
        (b'{"a": 1, "b": {"c": {}}}', "b.c is {}, which it cannot be"),
        (b'{"a": 1, "b": {"c": [{"d": 1}, 2]}}', "b.c[1] is 2, which it cannot be"),
    ],
)
def test_what_has_another_shape_is_named(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(
        InputError, match=rf"x\.json: {re.escape(message)}.*; restore it, or delete its directory"
    ):
        read_json(tmp_path / "x.json", SHAPE)


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "before")
    with no_file_longer_than(100), pytest.raises(OSError) as caught:  # noqa: PT011
        write_text(tmp_path / "a.txt", "after" * 100)
    assert caught.value.filename == str(tmp_path / "a.txt")
    with no_file_longer_than(100), pytest.raises(OSError):  # noqa: PT011
        figures.save(Figure(), tmp_path / "figure")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "before"


def test_what_is_written_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []

    def fsync(descriptor):
        seen.append((os.fstat(descriptor).st_size, (tmp_path / "a.txt").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "some")
    assert seen == [(4, False)]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "some"


def test_what_is_nested_too_deep_has_no_format(tmp_path):
    (tmp_path / "x.json").write_bytes(b"[" * 200_000)
    assert not has_format(tmp_path / "x.json", "any")


def _write_often(path, text, times):
    for _ in range(times):
        write_text(path, text)


def test_several_writers_take_turns(tmp_path):
    """And a killed one's leavings are none of the next one's."""
    (tmp_path / ".a.txt.tmp").write_text("cut" * 1000, encoding="utf-8")
    texts = ["a" * 50_000, "b" * 70_000, "c"]
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(_write_often, tmp_path / "a.txt", text, 60) for text in texts]
        for _ in range(200):
            if (tmp_path / "a.txt").exists():
                assert (tmp_path / "a.txt").read_text(encoding="utf-8") in texts
        for end in ends:
            end.result()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") in texts


def test_a_file_goes_with_what_a_killed_writer_of_it_left(tmp_path):
    for there in ([], ["a.txt"], [".a.txt.tmp"], ["a.txt", ".a.txt.tmp"]):
        for name in there:
            (tmp_path / name).write_text("some", encoding="utf-8")
        remove(tmp_path / "a.txt")
        assert list(tmp_path.iterdir()) == []
