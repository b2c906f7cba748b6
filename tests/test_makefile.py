"""The Makefile's choice of an interpreter, with shell scripts in the place of interpreters."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# Says that it is another Python, and makes environments that say the same.
INTERPRETER = """#!/bin/sh
case "$1" in
  -c) exec {real} -c "import sys; sys.version_info = {version}; sys.base_prefix = '{name}'; $2" ;;
  -m) [ "$2" != venv ] || {{ mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/made_by_{name}"; }} ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    for name, version in (
        ("old", (3, 10, 13)),
        ("ancient", (2, 7, 18)),
        ("new", (3, 11, 0)),
        ("newer", (3, 12, 1)),
    ):
        script = tmp_path / name
        script.write_text(
            INTERPRETER.format(real=sys.executable, version=version, name=name), encoding="utf-8"
        )
        script.chmod(0o755)
    return tmp_path


def make(project, *arguments):
    # Of the make that runs the tests nothing is passed on, VENV and PYTHON among it.
    passed_on = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "VENV", "PYTHON")
    return subprocess.run(
        ["make", ".venv/.installed", *arguments],
        cwd=project,
        env={name: value for name, value in os.environ.items() if name not in passed_on},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def made_by(project):
    return [path.name.removeprefix("made_by_") for path in (project / ".venv").glob("made_by_*")]


@pytest.mark.parametrize(("name", "version"), [("old", "3.10"), ("ancient", "2.7")])
def test_a_python_that_is_too_old_is_named_before_anything_is_made(project, name, version):
    done = make(project, f"PYTHON=./{name}")
    assert done.returncode != 0
    assert f"error: ./{name} is Python {version}, and ektf-jax needs 3.11 or newer" in done.stderr
    assert not (project / ".venv").exists()


def test_a_python_that_is_too_old_leaves_an_environment_as_it_is(project):
    assert make(project, "PYTHON=./new").returncode == 0
    assert make(project, "PYTHON=./old").returncode != 0
    assert made_by(project) == ["new"]


def test_another_python_remakes_the_environment(project):
    assert make(project, "PYTHON=./new").returncode == 0
    assert made_by(project) == ["new"]
    assert "up to date" in make(project, "PYTHON=./new").stdout
    assert make(project, "PYTHON=./newer").returncode == 0
    assert made_by(project) == ["newer"]
    # Without PYTHON= what is there serves.
    assert "up to date" in make(project).stdout
    assert made_by(project) == ["newer"]


def test_what_another_python_left_half_made_goes(project):
    assert make(project, "PYTHON=./new").returncode == 0
    (project / ".venv" / ".installed").unlink()
    assert make(project, "PYTHON=./newer").returncode == 0
    assert made_by(project) == ["newer"]


def test_new_packaging_is_installed_into_the_environment_that_is_there(project):
    assert make(project, "PYTHON=./new").returncode == 0
    (project / ".venv" / "kept").touch()
    time.sleep(0.01)
    (project / "pyproject.toml").touch()
    assert "pip install" in make(project, "PYTHON=./new").stdout
    assert (project / ".venv" / "kept").exists()


def test_make_alone_says_what_every_target_is():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    described = re.findall(r"^make ([a-z-]+) +\S", listed, re.M)
    (targets,) = re.findall(r"^\.PHONY: (.*) remake$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert described == targets.split()


def test_the_oldest_python_is_the_packages():
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = packaging["project"]["requires-python"].removeprefix(">=")
    (checked,) = re.findall(
        r"sys.version_info >= \((\d+), (\d+)\)", (ROOT / "Makefile").read_text(encoding="utf-8")
    )
    assert ".".join(checked) == oldest
