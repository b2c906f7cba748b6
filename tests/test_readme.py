"""The README's Python examples run, and the files that it names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


# What opens a run is run by tests/test_docs.py, which has one.
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "load_run" not in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_python_example_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_every_path_it_names_exists():
    named = re.findall(r"\]\((?!http)([^)#]+)\)|`((?:ektf_jax|configs|experiments|results)/[\w./]+)`", README)
    paths = [link or code for link, code in named]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_it_is_short_and_has_four_uses():
    assert len(README.splitlines()) < 135
    assert len(re.findall(r"^\*\*(?:Run|Scale|Take|Use)\b.*?\.\*\*", README, re.M)) == 4
