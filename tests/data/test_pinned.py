"""What the datasets are encoded to does not change unnoticed: ids, labels and vocabularies, by their sha256.

The raw files are a function of their size and seed. Whoever means to change an encoding raises
tables.ENCODER, so that older ones are not taken for current, and puts the new sums here.
"""

import hashlib
import os
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from ektf_jax.data import criteo, encoded, generators, ipinyou, kdd12, kkbox, movielens
from ektf_jax.data.schema import SPLITS

ROWS = 3000
GENERATED = {
    "criteo": (criteo.prepare, "dcf2e8567925f589", "1f36260c432e360e"),
    "criteo_x4": (criteo.prepare, "ceb26eb3d8a7c9a6", "8c1ecf68b7738a2b"),
    "kdd12": (kdd12.prepare, "6e86e9045f311c23", "20b3015a236f9893"),
    "ipinyou": (ipinyou.prepare, "dd97ee764f143581", "e70e8e9431009580"),
    "kkbox": (kkbox.prepare, "8f6858184af74ff7", "8830dcb0f1f24daa"),
    "kkbox_x1": (kkbox.prepare, "b557def9717532e7", "943daffb86e77029"),
}
PAPER_BUCKETS = {
    "criteo": (partial(criteo.prepare, paper_buckets=True), "eee83bb3575ce5d0", "cbec33005cae29d0"),
    "kdd12": (partial(kdd12.prepare, paper_buckets=True), "35b900d1d9da466b", "95f274bafb568990"),
}
ML1M = ("f5fdb926c860e84e", "2bfe54f2fceca86f")


def sums(out):
    """Of the arrays of all splits, and of the vocabulary."""
    arrays = hashlib.sha256()
    for name in SPLITS:
        split = encoded.open_split(out, name)
        arrays.update(split.ids.tobytes() + split.labels.tobytes())
    words = pl.read_parquet(out / "vocabulary.parquet")
    text = "".join(f"{field}\t{value}\t{at}\n" for field, value, at in words.rows())
    return arrays.hexdigest()[:16], hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", GENERATED)
def test_generated(tmp_path, name):
    generators.write(name, tmp_path / "raw", ROWS)
    prepare, *expected = GENERATED[name]
    prepare(tmp_path / "raw", tmp_path / "out")
    assert sums(tmp_path / "out") == tuple(expected)


@pytest.mark.parametrize("name", PAPER_BUCKETS)
def test_paper_buckets(tmp_path, name):
    generators.write(name, tmp_path / "raw", ROWS)
    prepare, *expected = PAPER_BUCKETS[name]
    prepare(tmp_path / "raw", tmp_path / "out")
    assert sums(tmp_path / "out") == tuple(expected)


@pytest.mark.long
@pytest.mark.skipif("ML1M_DIR" not in os.environ, reason="ML1M_DIR names no directory of MovieLens-1M")
def test_movielens(tmp_path):
    movielens.prepare(Path(os.environ["ML1M_DIR"]), tmp_path / "out")
    assert sums(tmp_path / "out") == ML1M
