"""Broken inputs and commands that end early, in small; `python -m benchmarks.faults` does thousands."""

import dataclasses
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from benchmarks.faults import breaks, cases, inputs, judges, kills, material, natives, nursery, plain, record
from benchmarks.faults.nursery import Done
from configs import quickstart
from ektf_jax.cli import config, shell
from ektf_jax.config import Config
from ektf_jax.data import criteo, custom, ids, ipinyou, kdd12, kkbox, movielens
from ektf_jax.errors import InputError
from ektf_jax.runs import space

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("way", breaks.WAYS)
def test_a_way_breaks_any_bytes_and_the_seed_decides(way):
    for data in (b"a", b'{"a": [1, "b"]}\n', bytes(range(256)) * 4):
        found = [breaks.WAYS[way](data, random.Random(seed)) for seed in range(20)]
        assert found == [breaks.WAYS[way](data, random.Random(seed)) for seed in range(20)]
        assert any(one != data for one in found) or len(data) == 1
    assert len({breaks.broken(b"some text", random.Random(seed)) for seed in range(50)}) > 25


@pytest.mark.parametrize("file", ["rows.csv", "rows.tsv", "rows.parquet", "table.yaml"])
def test_broken_tables_are_refused_or_read_as_plain_python_reads_them(tmp_path, file):
    suffix = "csv" if file == "table.yaml" else Path(file).suffix[1:]
    material.table(tmp_path / "raw", suffix)
    broken, out = tmp_path / "raw" / file, tmp_path / "out"
    whole = broken.read_bytes()
    custom.prepare(tmp_path / "raw/table.yaml", tmp_path / "raw", out)
    assert plain.disagrees(tmp_path / "raw", out) is None
    refused = 0
    for seed in range(12):
        _, data = breaks.broken(whole, random.Random(seed))
        broken.write_bytes(data)
        said = None
        try:
            custom.prepare(tmp_path / "raw/table.yaml", tmp_path / "raw", out)
        except InputError as error:
            said = str(error)
        if said is not None:
            assert str(tmp_path / "raw") in said  # the file, or the table that lacks what it names
            refused += 1
        else:
            assert plain.disagrees(tmp_path / "raw", out) is None
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert refused > 3


def test_the_plain_reader_disagrees_where_the_result_is_another(tmp_path):
    material.table(tmp_path / "raw", "csv")
    custom.prepare(tmp_path / "raw/table.yaml", tmp_path / "raw", tmp_path / "out")
    text = (tmp_path / "raw/rows.csv").read_text()
    for before, after, said in (
        ("u1", "u9", "another vocabulary"),
        ("\n1,", "\n0,", "other labels"),
        ("\n1,", "\n7,", "refuses"),
    ):
        (tmp_path / "raw/rows.csv").write_text(text.replace(before, after))
        assert said in str(plain.disagrees(tmp_path / "raw", tmp_path / "out"))


@pytest.fixture
def parts(tmp_path):
    """Parts of ids with all that they can have, and what they mean."""
    material.sample(tmp_path / "sample")
    custom.prepare(tmp_path / "sample/sample.yaml", tmp_path / "sample", tmp_path / "sampled")
    material.parts(tmp_path / "sample", tmp_path / "sampled", tmp_path / "ids")
    return tmp_path / "ids"


@pytest.mark.parametrize("file", ["*/*.parquet", "schema.json", "vocabulary.parquet", "vectors/*"])
def test_broken_parts_of_ids_are_refused_or_read_as_plain_python_reads_them(parts, tmp_path, file):
    there, refused = sorted(path.name for path in tmp_path.iterdir()), 0
    for seed in range(12):
        rng = random.Random(seed)
        broken = rng.choice(sorted(parts.glob(file)))
        whole = broken.read_bytes()
        broken.write_bytes(breaks.broken(whole, rng)[1])
        said = None
        try:
            ids.prepare(parts, tmp_path / "out")
        except InputError as error:
            said = str(error)
        if said is not None:
            assert str(parts) in said
            assert sorted(path.name for path in tmp_path.iterdir()) == there
            refused += 1
        else:
            assert plain.ids_disagree(parts, tmp_path / "out") is None
            shutil.rmtree(tmp_path / "out")
        broken.write_bytes(whole)
    assert refused > 3


def test_the_plain_reader_of_ids_disagrees_where_the_result_is_another(parts, tmp_path):
    ids.prepare(parts, tmp_path / "out")
    assert plain.ids_disagree(parts, tmp_path / "out") is None
    part, schema = parts / "valid/part-1.parquet", parts / "schema.json"
    frame, document = pl.read_parquet(part), schema.read_text()
    for change, said in (
        ({"user": frame["user"].reverse()}, "other ids of valid"),
        ({"tags": frame["tags"].shift(1)}, "other ids of valid"),
        ({"price": frame["price"].reverse()}, "of valid"),
        ({"click": 1 - frame["click"]}, "other labels of valid"),
        ({"times": 1 + frame["times"]}, "other weights of valid"),
        ({"city": frame["city"] - 9}, "refuses"),
    ):
        frame.with_columns(**change).write_parquet(part)
        assert said in str(plain.ids_disagree(parts, tmp_path / "out"))
    frame.write_parquet(part)
    for before, after, said in (
        ('"frozen": false', '"frozen": true', "another fields"),
        ('"above": null', '"above": -1', "other labels"),
        ('"dataset": "shop",\n  "fields"', '"dataset": "a",\n  "fields"', "another dataset"),
    ):
        schema.write_text(document.replace(before, after))
        assert said in str(plain.ids_disagree(parts, tmp_path / "out"))


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    material.raw_files(tmp_path_factory.mktemp("native"), 100)
    return tmp_path_factory.getbasetemp() / "native0"


NATIVE = {
    "ml1m": (movielens, natives.ml1m, "ratings.dat", rb"::[45](::\d+\n)", rb"::1\1"),
    "criteo": (criteo, natives.criteo, "train.txt", b"\n0\t", b"\n1\t"),
    "criteo_x4": (criteo, natives.criteo, "test.csv", b"\n0,", b"\n1,"),
    "kdd12": (kdd12, natives.kdd12, "training.txt", b"\n0\t", b"\n2\t"),
    "ipinyou": (ipinyou, natives.ipinyou, "test.csv", b"\n0,", b"\n1,"),
    "kkbox": (kkbox, natives.kkbox, "train.csv", b",0\n", b",1\n"),
    "kkbox_x1": (kkbox, natives.kkbox, "valid.csv", b"\n0,", b"\n1,"),
}


@pytest.mark.parametrize("name", NATIVE)
def test_broken_raw_files_are_refused_or_read_as_plain_python_reads_them(native, tmp_path, name):
    module, read, file, label, other = NATIVE[name]
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(native / name, raw)
    files = sorted(path for path in raw.iterdir() if path.name != "SYNTHETIC.txt")
    module.prepare(raw, out)
    assert natives.disagrees(read, raw, out) is None
    verdicts = []
    for seed in range(8):
        rng = random.Random(seed)
        broken = rng.choice(files)
        whole = broken.read_bytes()
        broken.write_bytes(breaks.broken(whole, rng)[1])
        said = None
        try:
            module.prepare(raw, out)
        except InputError as error:
            said = str(error)
        verdicts.append("right" if said is None else "refused")
        assert natives.disagrees(read, raw, out) is None if said is None else broken.name in said
        broken.write_bytes(whole)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    assert "refused" in verdicts
    module.prepare(raw, out)
    changed = re.sub(label, other, (raw / file).read_bytes(), count=1)
    assert changed != (raw / file).read_bytes()
    (raw / file).write_bytes(changed)
    assert "other labels" in str(natives.disagrees(read, raw, out))


def test_broken_vectors_are_refused_or_read_in_one_piece(tmp_path):
    material.sample(tmp_path / "raw")
    file, out = tmp_path / "raw/cities.parquet", tmp_path / "out"
    whole, verdicts = file.read_bytes(), []
    done = Done(0, "", "", 0.1, 0)
    for seed in range(40):
        file.write_bytes(breaks.broken(whole, random.Random(seed))[1])
        case, said = cases.Case(tmp_path, file, whole, done, None), None
        try:
            custom.prepare(tmp_path / "raw/sample.yaml", tmp_path / "raw", out)
        except InputError as error:
            said = str(error)
        verdicts.append("right" if said is None else "refused")
        assert judges.vectors(case) is None if said is None else str(file) in said
    assert set(verdicts) == {"refused", "right"}
    pl.read_parquet(whole).with_columns(pl.col("vector").reverse()).write_parquet(file)
    assert judges.vectors(case) == "other vectors"


def spaces_case(tmp_path, data):
    """The judge's case of a search space, as `tune` reads it; None where it is refused."""
    (tmp_path / "axes.yaml").write_bytes(data)
    try:
        axes = space.read(tmp_path / "axes.yaml", Config.from_dict(quickstart.get_config().to_dict()))
    except InputError:
        return None
    done = Done(0, json.dumps({name: axis.to_json() for name, axis in axes.items()}), "", 0.1, 0)
    return cases.Case(tmp_path, tmp_path / "axes.yaml", b"", done, None)


def test_broken_search_spaces_are_refused_or_have_the_axes_that_yaml_has(tmp_path):
    whole = material.AXES.encode()
    taken = 0
    for data in [whole, *(breaks.broken(whole, random.Random(seed))[1] for seed in range(40))]:
        case = spaces_case(tmp_path, data)
        if case is not None:
            assert judges.axes(case) is None
            taken += 1
    assert 0 < taken < 20
    for before, after in (("1e-5", "2e-5"), ("log: true", "log: 1"), ("step: 2.5", "step: 5")):
        case = spaces_case(tmp_path, whole)
        case.file.write_text(material.AXES.replace(before, after))
        assert "the axes are" in str(judges.axes(case))


ROWS = "user,price,tags,city,p_ensemble,p_0,p_1\n"


@pytest.fixture
def scored_case(tmp_path):
    """The judge's case of two rows that were scored, of three that can be told from others."""
    (tmp_path / "bundle").mkdir()
    words = {"field": ["user", "price", "tags", "city"], "value": ["u1", "1", "a", "x"]}
    pl.DataFrame(words).write_parquet(tmp_path / "bundle/vocabulary.parquet")
    every = "u1,3,a|b,x,0.8,0.7,0.9\n-,3,a|b,x,0.4,0.3,0.5\nu1,3,a|b,-,0.2,0.1,0.3\n"
    (tmp_path / "every_scored.csv").write_text(ROWS + every)
    (tmp_path / "new.csv").write_text("city,tags,price,user,click\nx,a|?|a,4,u1,1\nx,a|c,3,u8,0\n")
    (tmp_path / "out.csv").write_text("city,p_ensemble,p_0,p_1\nx,0.8,0.7,0.9\nx,0.4,0.3,0.5\n")
    told = "p_ensemble: auc 1.000000  logloss 0.366985\n"
    return cases.Case(tmp_path, tmp_path / "new.csv", b"", Done(0, told, "", 0.1, 0), None)


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("new.csv", "", "", None),
        ("new.csv", "u8", "u1", "other scores from row 1"),
        ("new.csv", "x,a|?", "y,a|?", "another column that was kept"),
        ("new.csv", "u8,0", "u8,1", "logloss is 0.366985"),
        ("new.csv", "u8,0", "u8,2", "refuses"),
        ("new.csv", "click", "x", "metrics without labels"),
        ("out.csv", "0.7", "0.700002", "other scores from row 0"),
    ],
)
def test_scores_are_those_of_the_rows_of_ids(scored_case, file, before, after, said):
    path = scored_case.directory / file
    path.write_text(path.read_text().replace(before, after, 1))
    found = judges.scored(",", scored_case)
    assert found is None if said is None else said in str(found)


def test_a_key_that_decides_is_told_from_one_that_does_not(tmp_path):
    before = b'{"config": {"seed": 1, "train": {"log_every": 20}}}'
    (tmp_path / "study.json").write_bytes(before.replace(b"20", b"30"))
    case = cases.Case(tmp_path, tmp_path / "study.json", before, Done(0, "", "", 0.1, 0), None)
    kind = inputs.KINDS["study.json"]
    assert cases.judge(kind, case)[1] is None
    (tmp_path / "study.json").write_bytes(before.replace(b"1", b"2"))
    assert cases.judge(kind, case)[1] == "takes what is another one"


@pytest.mark.parametrize(
    ("status", "err", "verdict"),
    [
        (2, "error: DIR/a.csv: bad\n", "refused"),
        (2, "error: something is bad\n", "wrong"),
        (2, "\nthread 'a' (1) panicked at b.rs:1:9:\nc\nnote: d\nerror: DIR/a.csv: bad\n", "refused"),
        (2, "\nthread 'a' (1) panicked at b.rs:1:9:\nc\nnote: d\n", "wrong"),
        (2, "error: DIR/a.csv: bad\nmore\n", "wrong"),
        (1, "Traceback (most recent call last):\nValueError: a.csv\n", "wrong"),
        (-11, "", "wrong"),
        (None, "", "wrong"),
        (0, "", "right"),
    ],
)
def test_what_passes(tmp_path, status, err, verdict):
    kind = cases.Kind((), "a.csv", lambda at: [], lambda case: None)
    case = cases.Case(tmp_path, tmp_path / "a.csv", b"", Done(status, "", err, 0.1, 0), None)
    assert cases.judge(kind, case)[0] == verdict


def overridden(tmp_path, data):
    """The judge's case of overrides, as the command line applies them; None where they are refused."""
    nested = quickstart.get_config().to_dict()
    (tmp_path / "overrides.txt").write_bytes(data)
    try:
        for argument in inputs._overrides(tmp_path)[2:]:
            keys, value = shell.keys_and_value(argument.removeprefix("--config."))
            if value is None:
                return None
            config.change(nested, keys, value)
        found = Config.from_dict(nested).to_dict()
    except InputError:
        return None
    done = Done(0, json.dumps(found), "", 0.1, 0)
    return cases.Case(tmp_path, tmp_path / "overrides.txt", b"", done, None)


def test_broken_overrides_are_refused_or_other_values(tmp_path):
    taken = 0
    for seed in range(100):
        case = overridden(tmp_path, breaks.broken(material.OVERRIDES.encode(), random.Random(seed))[1])
        if case is not None:
            assert cases.judge(inputs.KINDS["overrides"], case)[1] is None
            taken += 1
    assert 10 < taken < 60


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"embedding.l2=0.000987654", b"embedding.l2=0.000987655", "embedding.l2 is 0.000987654"),
        (b"seed=20240923", b"seed=2024.0", "takes 'seed=2024.0'"),
        (b"seed=20240923", b"seeds=1", "takes the key 'seeds'"),
    ],
)
def test_overrides_that_were_taken_otherwise_are_told(tmp_path, before, after, said):
    case = overridden(tmp_path, material.OVERRIDES.encode())
    case.file.write_bytes(case.file.read_bytes().replace(before, after))
    wrong = cases.judge(inputs.KINDS["overrides"], case)[1]
    assert wrong is not None
    assert said in wrong


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says who is whose child")
@pytest.mark.parametrize("group", [True, False])
def test_children_in_sessions_of_their_own_end_with_a_kill_or_before_it_returns(tmp_path, group):
    child = f"setsid sh -c 'echo there; sleep 0.5; touch {tmp_path}/done'"
    command = ["sh", "-c", f"{child} & wait"]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"there\n"
        nursery.Child(None, process.pid, tmp_path).kill(group=group)
        then = (tmp_path / "done").exists()
        process.stdout.read()  # until nobody has it any more
        assert (then, (tmp_path / "done").exists()) == (not group, not group)
        assert process.wait() == -9


# Imports no JAX; arms the interposer in forks of itself. Argument: the directory of table and output.
SMALL = """
import ctypes, os, sys
from pathlib import Path
from ektf_jax.data import custom
at = Path(sys.argv[1])
library = ctypes.CDLL(None)

def prepare(mode, number):
    pid = os.fork()
    if not pid:
        os.setsid()
        library.faults_arm(os.fsencode(at / "place"), mode, ctypes.c_long(number))
        try:
            custom.prepare(at / "raw/table.yaml", at / "raw", at / "place/out")
        except Exception as error:
            print(type(error).__name__, flush=True)
            os._exit(2)
        print(library.faults_calls(), flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for line in sys.stdin:
    print(prepare(*map(int, line.split())), flush=True)
"""


def test_prepare_ends_early_at_a_write(tmp_path):
    library = nursery.build(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    material.table(tmp_path / "raw", "csv", min_count=1)
    custom.prepare(tmp_path / "raw/table.yaml", tmp_path / "raw", tmp_path / "old")
    material.table(tmp_path / "raw", "csv")
    custom.prepare(tmp_path / "raw/table.yaml", tmp_path / "raw", tmp_path / "new")
    old, new = (kills.contents(tmp_path / name) for name in ("old", "new"))
    (tmp_path / "place").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SMALL, str(tmp_path)],
        cwd=ROOT,
        env={"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def prepare(mode, number):
            process.stdin.write(f"{nursery.MODES.index(mode)} {number}\n")
            process.stdin.flush()
            said = process.stdout.readline().strip()
            return ("", int(said)) if said.startswith("-") else (said, int(process.stdout.readline()))

        calls, status = prepare("count", 0)
        assert status == 0
        assert kills.contents(tmp_path / "place") == {f"out/{name}": one for name, one in new.items()}
        assert int(calls) > 20
        rng = random.Random(0)
        for mode in ("kill", "torn", "full", "read_only") * 4:
            shutil.rmtree(tmp_path / "place/out")
            shutil.copytree(tmp_path / "old", tmp_path / "place/out")
            said, status = prepare(mode, rng.randint(1, int(calls)))
            there = kills.contents(tmp_path / "place/out", hidden=False)
            if mode == "full" and status == 0:  # nothing that takes room was left to do
                assert there == new
            else:
                assert (said, status) == (("", -9) if mode in ("kill", "torn") else ("InputError", 2))
                assert there in (old, new)
            assert prepare("count", 0)[1] == 0
            assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]
            assert kills.contents(tmp_path / "place/out") == new
        process.stdin.close()


def test_what_a_command_starts_counts_on_and_ends_at_a_write(tmp_path):
    """As a sweep does with its runs."""
    library = nursery.build(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    place = tmp_path / "place"
    script = "echo a > $AT/a; setsid sh -c 'echo b > $AT/b; echo b >> $AT/b'; echo c > $AT/c"

    def run(mode, at):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (tmp_path / "calls").write_bytes(bytes(8))
        environment = nursery.armed(place, mode, at, tmp_path / "calls")
        environment |= {"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin", "AT": str(place)}
        done = subprocess.run(
            ["sh", "-c", script], env=environment, start_new_session=True, capture_output=True
        )
        calls = int.from_bytes((tmp_path / "calls").read_bytes(), sys.byteorder)
        return done.returncode, calls, {path.name: path.read_text() for path in place.iterdir()}

    assert run("count", 0) == (0, 4, {"a": "a\n", "b": "b\nb\n", "c": "c\n"})  # each of them opened
    assert run("kill", 3) == (-9, 4, {"a": "a\n", "b": "b\n"})  # the child, then its parent
    assert run("torn", 3) == (-9, 4, {"a": "a\n", "b": "b\n", "c": ""})
    assert run("kill", 4) == (-9, 4, {"a": "a\n", "b": "b\nb\n"})
    status, _, left = run("full", 3)
    assert (status != 0, left) == (True, {"a": "a\n", "b": "b\n"})


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="/proc says who is whose child")
def test_runs_together_end_with_the_same_bits_whatever_is_killed(tmp_path, monkeypatch):
    """Their process, at a write and with the sweep, then at a moment and alone."""
    library = nursery.build(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    made, scratch = tmp_path / "made", tmp_path / "scratch"
    scratch.mkdir()
    material.table(made / "raw", "csv", 300)
    custom.prepare(made / "raw/table.yaml", made / "raw", made / "data")
    (made / "tiny.py").write_text(material.CONFIG.format(data=made / "data", epochs=2))
    task = dataclasses.replace(kills.TASKS["sweep, together"], faults=("kill", "child"))
    monkeypatch.setitem(kills.TASKS, "some", task)
    told = []
    with nursery.Nursery(scratch, library) as children:
        bench = kills.Bench(made, scratch, children, children, lambda *one: told.append(one))
        bench.run("some", 78, most=2)
    results = [name for name in bench.wholes["some"].new if name.endswith("result.json")]
    assert len(results) == 4
    assert [one for one in told if one[2]] == []
    assert [fault for _, fault, _ in told] == ["kill", "child"]


def test_counts_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(record.common, "RESULTS", tmp_path)
    for _ in range(2):
        content = record.read()
        record.count(content["inputs"], "table.csv", "tried", "cut")
        record.write(content)
    written = json.loads((tmp_path / "faults.json").read_text())
    assert written["inputs"] == {"table.csv": {"tried": 2, "cut": 2}}


def test_two_at_once_that_have_ended_are_the_last_fault(tmp_path, monkeypatch):
    class Ends:
        def start(self, arguments, **options):
            return self

        def wait(self, limit):
            return Done(0, "", "", 0.1, 1)

        def run(self, arguments, **options):
            return self.wait(0)

    told = []
    task = kills.Task(lambda at: [], (), resumes=True, faults=("two at once",))
    monkeypatch.setitem(kills.TASKS, "some", task)
    bench = kills.Bench(tmp_path, tmp_path, Ends(), Ends(), lambda *one: told.append(one))
    assert bench.run("some", 1, most=5) == 1
    assert told == [("some", "two at once", None)]
