"""Small files of every format that we read, made by the commands themselves from made-up rows."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.faults import plain
from benchmarks.faults.nursery import Done, Nursery
from ektf_jax.data import generators

TABLE = """\
dataset: shop
files: rows.{suffix}
label: click
separator: "{separator}"
min_count: {min_count}
fields:
  - user
  - {{name: price, kind: numeric, fill: "0"}}
  - {{name: tags, kind: multi, separator: "|", max_len: 2}}
  - {{name: city, missing: ["", "?"]}}
"""
# All that a part of ids can have: one id, several, a number, a weight, vectors beside them.
SAMPLE = """\
dataset: shop
files: {train: [train.csv], valid: [valid.csv], test: [test.csv]}
label: click
weight: times
fields:
  - user
  - {name: tags, kind: multi, separator: "|", max_len: 2}
  - {name: city, pretrained: cities.parquet, frozen: false}
  - {name: price, kind: dense}
"""
CONFIG = """\
from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.update_from_flattened_dict(
        {{
            "data.path": "{data}",
            "data.batch_size": 20,
            "embedding.dim": 2,
            "ensemble.num_students": 2,
            "ensemble.students.mlp.hidden_units": (4,),
            "train.max_epochs": {epochs},
            "train.patience": 100,
            "train.log_every": 2,
            "train.checkpoint_every": 3,
        }}
    )
    return config
"""
# Long values: what is broken anywhere is often one of them, and another value rather than no key.
OVERRIDES = """\
seed=20240923
data.path=/srv/clicks/2026/encoded shop
data.batch_size=8192
train.learning_rate=0.00123456
train.max_epochs=123456
embedding.l2=0.000987654
embedding.sharing=0.125
"""
SPACE = "train.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n"
# An axis of each sort, and numbers that YAML 1.1 takes for text.
AXES = """\
train.learning_rate: {low: 1e-4, high: 0.01, log: true}
train.clip_norm: {low: 1, high: 11, step: 2.5}
embedding.l2: {choices: [0, 1e-5, 0.001]}
ensemble.num_students: {low: 2, high: 6, step: 2}
ensemble.students.*.hidden_units: {choices: [[4], [16, 8]]}
"""
# Texts that have every bucket which the rows of the shop fill, and one that they do not.
PRICES = ("", "3", "7.5", "20", "1e3", "-2", "1e9")


def rows(count: int, seed: int) -> pl.DataFrame:
    """Rows of a shop: a label and four fields as text."""
    rng = random.Random(seed)
    users = [rng.randrange(8) for _ in range(count)]
    return pl.DataFrame(
        {
            "click": [str(int(rng.random() < 0.2 + 0.6 * (user % 2))) for user in users],
            "user": [f"u{user}" for user in users],
            "price": [rng.choice(["", "3", "7.5", "20", "1e3", "-2"]) for _ in users],
            "tags": ["|".join(rng.sample(["a", "b", "c", "é"], rng.randrange(4))) for _ in users],
            "city": [rng.choice(["x", "y, z", "?", 'a "b"', "w"]) for _ in users],
        }
    )


def table(directory: Path, suffix: str, count: int = 60, seed: int = 0, min_count: int = 2) -> None:
    """rows.SUFFIX and table.yaml."""
    directory.mkdir(parents=True, exist_ok=True)
    frame, separator = rows(count, seed), "," if suffix == "csv" else "\t"
    if suffix == "parquet":
        frame.write_parquet(directory / "rows.parquet")
    else:
        frame.write_csv(directory / f"rows.{suffix}", separator=separator)
    text = TABLE.format(suffix=suffix, separator=separator.replace("\t", "\\t"), min_count=min_count)
    (directory / "table.yaml").write_text(text, encoding="utf-8")


def sample(directory: Path) -> None:
    """sample.yaml, the rows of each split as text, and vectors of cities."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sample.yaml").write_text(SAMPLE, encoding="utf-8")
    for seed, split in enumerate(plain.SPLITS):
        frame = rows(40 - 10 * seed, seed)
        times = pl.Series("times", [str(1 + at % 3 / 2) for at in range(len(frame))])
        frame.with_columns(times).write_csv(directory / f"{split}.csv")
    vectors = {"value": ["x", "y, z", "w"], "vector": [[1.0, 2.5], [-3.0, 0.0], [0.5, 0.25]]}
    pl.DataFrame(vectors).write_parquet(directory / "cities.parquet")


def parts(directory: Path, encoded: Path, out: Path) -> None:
    """What another engine writes of the rows of `sample`: two parts for each split, beside what ids mean."""
    shutil.copytree(encoded / "vectors", out / "vectors")
    for name in ("schema.json", "vocabulary.parquet"):
        shutil.copyfile(encoded / name, out / name)
    for split in plain.SPLITS:
        raw = pl.read_csv(directory / f"{split}.csv", infer_schema=False)
        ids = np.load(encoded / split / "ids.npy")
        frame = raw.select(
            pl.col("click").cast(pl.Int8),
            pl.col("times").cast(pl.Float64),
            pl.Series("user", ids[:, 0]),
            pl.Series(
                "tags", [[one for one in row if one] for row in ids[:, 1:3].tolist()], pl.List(pl.Int32)
            ),
            pl.Series("city", ids[:, 3], pl.Int64),
            "price",
        )
        (out / split).mkdir()
        for number, part in enumerate((frame[:7], frame[7:])):
            part.write_parquet(out / split / f"part-{number}.parquet")


def open_parts(directory: Path, out: Path) -> list[str]:
    """The command that makes a dataset of parts of ids."""
    return ["prepare", "--dataset=ids", f"--raw={directory}", f"--out={out}"]


def prepare(directory: Path, out: Path) -> list[str]:
    """The command that encodes the table of a directory."""
    (schema,) = directory.glob("*.yaml")
    return ["prepare", "--dataset=custom", f"--raw={directory}", f"--schema={schema}", f"--out={out}"]


def every_row() -> pl.DataFrame:
    """A row of the shop for each row of ids that any other can become."""
    tags = ["", *(f"{one}|{two}" for one, two in itertools.product(["", "a", "b", "c", "é", "-"], repeat=2))]
    users, cities = [*(f"u{user}" for user in range(8)), "-"], ["x", "y, z", 'a "b"', "w", "-"]
    cells = zip(*itertools.product(users, PRICES, tags, cities), strict=True)
    return pl.DataFrame(dict(zip(("user", "price", "tags", "city"), cells, strict=True)))


def raw_files(directory: Path, count: int = 300) -> None:
    """So many rows of every dataset that has raw files of its own, in each of their forms."""
    for name in generators.DATASETS:
        generators.write(name, directory / name, count)
    ratings = (directory / "ml1m/ratings.dat").read_bytes().splitlines()
    for name, place in (("users.dat", 0), ("movies.dat", 1)):  # thousands of whom nobody asks
        rated = {line.split(b"::")[place] for line in ratings}
        lines = (directory / "ml1m" / name).read_bytes().splitlines(keepends=True)
        (directory / "ml1m" / name).write_bytes(b"".join(x for x in lines if x.split(b"::")[0] in rated))


def prepare_native(name: str, directory: Path, out: Path) -> list[str]:
    """The command that encodes a dataset's own raw files."""
    return ["prepare", f"--dataset={name}", f"--raw={directory}", f"--out={out}"]


def make(directory: Path, nursery: Nursery) -> None:
    """Tables, their dataset, a config, a finished run, one that was cut off, a bundle and older outputs.

    Beside them raw files, every row that a bundle can tell from others with its score, and a search.
    """

    def run(arguments: list[str]) -> Done:
        done = nursery.run(arguments, limit=300)
        if done.status != 0:
            raise SystemExit(f"{arguments}: status {done.status}\n{done.err}")
        return done

    for suffix in ("csv", "tsv", "parquet"):
        table(directory / suffix, suffix)
    sample(directory / "sample")
    run(prepare(directory / "sample", directory / "sampled"))
    parts(directory / "sample", directory / "sampled", directory / "ids")
    table(directory / "raw", "csv", 300)
    run(prepare(directory / "raw", directory / "data"))
    (directory / "tiny.py").write_text(CONFIG.format(data=directory / "data", epochs=2), encoding="utf-8")
    train = ["train", f"--config={directory}/tiny.py"]
    run([*train, f"--workdir={directory}/run"])
    cut_off = directory / "cut_off"
    whole = nursery.run([*train, f"--workdir={cut_off}"], below=cut_off, limit=300)
    for share in (0.7, 0.6, 0.8, 0.5):  # calls that a run makes differ a little from run to run
        shutil.rmtree(cut_off)
        nursery.run([*train, f"--workdir={cut_off}"], below=cut_off, mode="kill", at=int(share * whole.calls))
        if len([one for one in cut_off.glob("checkpoints/latest/*") if one.name.isdigit()]) > 1:
            break
    run(["export", f"--workdir={directory}/run", f"--out={directory}/bundle"])
    new = rows(60, 1)
    new.write_csv(directory / "new.csv")
    new.write_csv(directory / "new.tsv", separator="\t")
    typed = new.with_columns(pl.col("click").cast(pl.Int8), pl.col("price").cast(pl.Float64, strict=False))
    typed.write_parquet(directory / "new.parquet")
    every_row().write_csv(directory / "every.csv")
    run(
        [
            *("score", f"--bundle={directory}/bundle", f"--input={directory}/every.csv"),
            *("--keep=user,price,tags,city", f"--out={directory}/every_scored.csv"),
        ]
    )
    # What the commands that are killed find: an older output of theirs.
    table(directory / "other", "csv", 200, seed=2)
    run(prepare(directory / "other", directory / "old_data/data"))
    (directory / "old_bundle").mkdir()
    run(["export", f"--workdir={directory}/run", f"--out={directory}/old_bundle/bundle", "--predictor=1"])
    (directory / "old_scores").mkdir()
    (directory / "old_scores/scored.csv").write_text("what was there before\n", encoding="utf-8")
    (directory / "space.yaml").write_text(SPACE, encoding="utf-8")
    (directory / "axes.yaml").write_text(AXES, encoding="utf-8")
    (directory / "overrides.txt").write_text(OVERRIDES, encoding="utf-8")
    raw_files(directory)
    run(search(directory, directory / "search"))
    kept = shutil.ignore_patterns("checkpoints", "*.html", "*.svg", "*.png", "events.*")
    shutil.copytree(directory / "search", directory / "searched", ignore=kept)
    text = CONFIG.format(data="", epochs=1)
    (directory / "weighted.py").write_text(text, encoding="utf-8")


def search(directory: Path, workdir: Path) -> list[str]:
    """The command that searches settings, in two trials and two seeds of the better one."""
    return [
        *("tune", f"--config={directory}/tiny.py", f"--space={directory}/space.yaml"),
        *("--trials=2", "--seeds=2", f"--workdir={workdir}"),
    ]
