"""Every text file is opened as UTF-8, whatever the locale says."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("ektf_jax", "experiments", "benchmarks", "configs")
# What these open is bytes, or no file.
NO_TEXT = ("os", "encoded", "rawfiles", "members")


def _constant(call, position, keyword):
    """An argument of a call, if it is written there as a constant."""
    given = {part.arg: part.value for part in call.keywords}
    value = given.get(keyword, call.args[position] if len(call.args) > position else None)
    return value.value if isinstance(value, ast.Constant) else None


def _opens_text(call):
    """Whether a call opens a text file, or a pipe as text. ruff's PLW1514 knows paths by their type only."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open" and "b" not in (_constant(call, 1, "mode") or "r")
    if not isinstance(function, ast.Attribute):
        return False
    if isinstance(function.value, ast.Name) and function.value.id in NO_TEXT:
        return False
    if isinstance(function.value, ast.Name) and function.value.id in ("gzip", "bz2", "lzma"):
        return "t" in (_constant(call, 1, "mode") or "rb")
    if function.attr in ("TemporaryFile", "NamedTemporaryFile"):
        return "b" not in (_constant(call, 0, "mode") or "w+b")
    if function.attr in ("run", "Popen", "check_output"):
        return any(part.arg in ("text", "universal_newlines") for part in call.keywords)
    return function.attr in ("read_text", "write_text") or (
        function.attr == "open" and "b" not in str(_constant(call, 0, "mode") or "r")
    )


def without_encoding(source):
    """The lines of a source at which text is opened in the locale's encoding."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and _opens_text(node)
        and not any(part.arg == "encoding" for part in node.keywords)
    ]


@pytest.mark.parametrize(
    ("line", "opens"),
    [
        ("path.read_text()", True),
        ("path.read_text(errors='replace')", True),
        ("path.with_name('x').open('a')", True),
        ("open(name)", True),
        ("subprocess.run(command, text=True)", True),
        ("tempfile.TemporaryFile('w+')", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("subprocess.run(command, encoding='utf-8')", False),
    ],
)
def test_what_opens_text_without_an_encoding_is_seen(line, opens):
    assert without_encoding(line) == [1] * opens


def test_every_text_file_is_opened_as_utf_8():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for part in PARTS
        for path in sorted((ROOT / part).rglob("*.py"))
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert found == []


TABLE = """
dataset: größe
files: ["donnée/*.csv"]
label: {name: 点击}
min_count: 1
fields:
  - {name: mañana}
  - {name: 日本}
"""


# Where the C library is glibc, they are one.
@pytest.mark.parametrize("locale", ["C", pytest.param("POSIX", marks=pytest.mark.long)])
def test_commands_work_where_the_locale_is_c(tmp_path, locale):
    """Field names, file names and values in any script; Python's UTF-8 mode is off, and no locale is set."""
    folder = tmp_path / "donnée"
    folder.mkdir()
    (tmp_path / "é.yaml").write_text(TABLE, encoding="utf-8")
    rows = [f"{i % 2},ñ{i % 3},語{i % 2}" for i in range(40)]
    (folder / "é.csv").write_text("\n".join(["点击,mañana,日本", *rows]) + "\n", encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHON"))}
    environment |= {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def run(command, *arguments):
        return subprocess.run(
            [sys.executable, "-m", f"experiments.{command}", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    raw, out = tmp_path, tmp_path / "größe"
    made = run("prepare", "--dataset=custom", f"--schema={raw}/é.yaml", f"--raw={raw}", f"--out={out}")
    assert (made.returncode, made.stderr) == (0, "")
    assert f"{out}: written" in made.stdout
    described = run("describe", f"--data={out}", f"--out={out}/página")
    assert (described.returncode, described.stderr) == (0, "")
    page = (out / "página" / "description.md").read_text(encoding="utf-8")
    for text in ("größe", "mañana", "日本"):
        assert text in described.stdout
        assert text in page
    assert "語0" in page
    missing = run("report", f"--results={tmp_path}/ñ", f"--out={out}")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"error: {tmp_path}/ñ: no result.json")
