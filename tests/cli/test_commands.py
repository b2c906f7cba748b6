"""The list of commands, the two ways to start one, and what messages call them."""

import importlib.util
import sys

import pytest

from ektf_jax import cli
from ektf_jax.cli import shell
from ektf_jax.errors import missing
from tests import commands


def ektf(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/ektf", *arguments])
    try:
        cli.main()
        status: object = 0
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_all_commands_are_listed(monkeypatch, capsys, arguments):
    status, out, err = ektf(monkeypatch, capsys, *arguments)
    assert (status, err) == (0, "")
    assert {line.split()[0] for line in out.splitlines() if line.startswith("  ")} == set(cli.COMMANDS)


def test_an_unknown_command_is_named_with_the_nearest(monkeypatch, capsys):
    status, out, err = ektf(monkeypatch, capsys, "trian")
    assert (status, out) == (2, "")
    assert err.startswith("error: command 'trian' is unknown; did you mean 'train'? valid: compare, ")
    assert err.count("\n") == 1


def test_a_clone_has_every_command():
    experiments = commands.ROOT / "experiments"
    files = {path.stem for path in experiments.glob("*.py")} - {"__init__"}
    assert files == set(cli.COMMANDS)
    for name in files:
        assert f'cli.call("{name}")' in (experiments / f"{name}.py").read_text(encoding="utf-8")
        assert importlib.util.find_spec(f"ektf_jax.cli.{name}")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_says_what_a_command_is_for_and_its_flags(name):
    done = commands.run(f"experiments.{name}", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m experiments.{name} " in done.stdout
    assert "ektf " not in done.stdout
    assert "\n  --" in done.stdout
    assert "--logtostderr" not in done.stdout  # absl's own


STARTED = {
    "/usr/bin/ektf": ("ektf train", ["-P", "-m", "ektf_jax.cli", "sweep"]),
    "/lib/ektf_jax/cli/__main__.py": ("ektf train", ["-m", "ektf_jax.cli", "sweep"]),
    "/clone/experiments/report.py": ("python -m experiments.train", ["-m", "experiments.sweep"]),
}


@pytest.mark.parametrize("program", STARTED)
def test_messages_and_children_have_the_form_in_which_the_user_started(monkeypatch, program):
    monkeypatch.setattr(sys, "argv", [program])
    command, child = STARTED[program]
    assert cli.as_started("ektf `ektf train --x` `ektf trains`") == f"ektf `{command} --x` `ektf trains`"
    assert cli.another("sweep") == child


def test_an_error_names_the_command_of_a_clone(tmp_path):
    done = commands.run("experiments.report", f"--results={tmp_path}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert done.stderr.endswith("no result.json below it; train with `python -m experiments.train` first\n")


def test_what_is_missing_is_named_with_its_extra():
    error = missing("`ektf train`", ModuleNotFoundError("no", name="flax.nnx"), "train")
    assert str(error) == "`ektf train` needs flax, which is not installed: pip install 'ektf-jax[train]'"
    for bug in (ModuleNotFoundError("no", name="ektf_jax.modle"), ModuleNotFoundError("no")):
        with pytest.raises(ModuleNotFoundError) as caught:
            missing("it", bug, "train")
        assert caught.value is bug


def test_what_comes_with_the_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("configs/quickstart.py", "configs/datasets/frappe.yaml"):
        assert shell.find(shell.Path(name)) == commands.ROOT / name
    for name in ("configs/none.py", "data/loader.py", "quickstart.py"):
        assert shell.find(shell.Path(name)) == shell.Path(name)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/quickstart.py").touch()
    assert shell.find(shell.Path("configs/quickstart.py")) == shell.Path("configs/quickstart.py")
