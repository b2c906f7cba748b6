import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from ektf_jax.cli import prepare, shell
from ektf_jax.data import encoded, generators, movielens
from ektf_jax.errors import InputError
from tests import commands


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    (folder / "movies.dat").write_text("1::Toy Story (1995)::Comedy\n2::Jumanji (1995)::Drama|Comedy\n")
    (folder / "ratings.dat").write_text("1::1::5::0\n1::2::3::0\n2::1::2::0\n2::2::4::0\n" * 5)
    return folder


def command(*arguments):
    return commands.run("experiments.prepare", *arguments)


def call(dataset, out, **values):
    """Runs the command's main in this process, where other commands may have defined required flags."""
    settings = {"dataset": dataset, "out": str(out), **values}
    with flagsaver.flagsaver():
        flags.FLAGS.mark_as_parsed()
        for name, value in settings.items():
            setattr(flags.FLAGS, name, value)
        prepare.main(["prepare"])


def test_command_writes_and_reports(raw, tmp_path):
    out = tmp_path / "out"
    first = command("--dataset=ml1m", f"--raw={raw}", f"--out={out}")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    lines = {line.split()[0]: line.split() for line in first.stdout.splitlines()}
    assert f"{out}: written" in first.stdout
    assert lines["instances"] == ["instances", "15", "739,012"]
    assert lines["fields"] == ["fields", "7", "7"]
    assert lines["features"] == ["features", f"{encoded.open_schema(out).num_features:,}", "9,751"]
    for row in ("train rows 12", "valid rows 1", "test rows 2", "click rate 0.6667"):
        assert row.split() in [line.split() for line in first.stdout.splitlines()]


def test_command_reports_bad_input_in_one_line(raw, tmp_path):
    (raw / "ratings.dat").write_text("1::1::7::0\n")
    result = command("--dataset=ml1m", f"--raw={raw}", f"--out={tmp_path / 'out'}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {raw}/ratings.dat:1: Rating is '7'; it must be a whole number from 1 to 5\n"
    )
    assert not (tmp_path / "out").exists()


def test_command_reports_bad_flags_in_one_line(tmp_path):
    result = command("--dataset=ml1m", f"--out={tmp_path}", "--split_sed=1")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert "split_sed" in result.stderr
    assert result.stderr.count("\n") == 1


def test_again_is_up_to_date(raw, tmp_path, capsys):
    states = []
    for seed in (2024, 2024, 7, 7):
        call("ml1m", tmp_path / "out", raw=str(raw), split_seed=seed)
        states.append(capsys.readouterr().out.splitlines()[0].rsplit(": ")[-1])
    assert states == ["written", "up to date", "written", "up to date"]


@pytest.mark.parametrize(("name", "near"), [("ml-1m", "did you mean 'ml1m'?"), ("zzz", "valid: ")])
def test_unknown_dataset(tmp_path, name, near):
    with pytest.raises(InputError) as error:
        call(name, tmp_path / "out")
    for text in (repr(name), "ml1m", near):
        assert text in str(error.value)


def test_raw_is_needed(tmp_path):
    with pytest.raises(InputError, match="--raw is missing"):
        call("ml1m", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("kkbox", {"paper_buckets": True}, "--paper_buckets is of --dataset=criteo or kdd12, not of kkbox"),
        ("criteo", {"download": True}, "--download is of --dataset=ml1m, not of criteo"),
        ("ids", {"schema": "a.yaml"}, "--schema is of --dataset=custom, not of ids"),
    ],
)
def test_what_a_dataset_does_not_have_is_refused(tmp_path, name, given, said):
    with pytest.raises(InputError, match=said):
        call(name, tmp_path / "out", raw=str(tmp_path), **given)


def test_download_comes_first(raw, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(movielens, "download", asked.append)
    call("ml1m", tmp_path / "a", raw=str(raw))
    assert asked == []
    call("ml1m", tmp_path / "b", raw=str(raw), download=True)
    assert asked == [raw]


PAPER = {
    "criteo": ["45,840,617", "39", "910,747"],
    "ml1m": ["739,012", "7", "9,751"],
    "kdd12": ["141,371,038", "13", "4,668,096"],
    "ipinyou": ["19,495,974", "16", "665,765"],
    "kkbox": ["7,377,418", "13", "91,756"],
}


@pytest.mark.parametrize("generated", generators.DATASETS)
def test_every_dataset_beside_the_paper(tmp_path, capsys, generated):
    name = generated.removesuffix("_x1").removesuffix("_x4")
    generators.write(generated, tmp_path / "raw", 500)
    call(name, tmp_path / "out", raw=str(tmp_path / "raw"))
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in printed.splitlines()}
    schema = encoded.open_schema(tmp_path / "out")
    # ML-1M drops ratings of 3; iPinYou's valid rows are its test rows and count once.
    instances = lines["instances"][1]
    assert instances == ("500" if name != "ml1m" else str(sum(schema.splits.values())))
    assert lines["fields"][1] == PAPER[name][1] == str(schema.num_fields)
    assert [lines[label][2] for label in ("instances", "fields", "features")] == PAPER[name]
    assert "synthetic: " in printed
    assert schema.source["synthetic"] is True


def test_custom(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("y,c\n" + "1,v\n0,w\n" * 10)
    (tmp_path / "a.yaml").write_text("{dataset: mine, files: a.csv, label: y, fields: [c]}")
    with pytest.raises(InputError, match="--schema is missing"):
        call("custom", tmp_path / "out", raw=str(tmp_path))
    for state in ("written", "up to date"):
        call("custom", tmp_path / "out", raw=str(tmp_path), schema=str(tmp_path / "a.yaml"))
        printed = capsys.readouterr().out
        assert state in printed
        assert "synthetic" not in printed
        assert "synthetic" not in encoded.open_schema(tmp_path / "out").source
    assert [line.split() for line in printed.splitlines()][1:3] == [
        ["mine", "here", "paper,", "Table", "1"],
        ["instances", "20", "-"],
    ]


# --- shell.run


def run(monkeypatch, main, *arguments):
    # The flags that importing `prepare` defined are not wanted here, nor is their being required.
    monkeypatch.setattr(shell.flags, "FLAGS", flags.FlagValues())
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    monkeypatch.setattr(shell.app, "run", lambda main, flags_parser: sys.exit(main(flags_parser(sys.argv))))
    with pytest.raises(SystemExit) as exit_:
        shell.run(main)
    return exit_.value.code


def test_run_passes_results_and_bugs_through(monkeypatch):
    assert run(monkeypatch, lambda argv: None) is None
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, lambda argv: 1 // 0)


def test_run_prints_input_errors_as_one_line(monkeypatch, capsys):
    def main(argv):
        raise InputError("a.dat:3: bad\n  value")

    assert run(monkeypatch, main) == 2
    assert capsys.readouterr().err == "error: a.dat:3: bad value\n"


def test_run_refuses_positional_arguments(monkeypatch, capsys):
    assert run(monkeypatch, lambda argv: None, "ml1m") == 2
    assert "unexpected argument 'ml1m'" in capsys.readouterr().err
