"""What `import ektf_jax` offers, and what it costs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ektf_jax
from ektf_jax import students

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_the_same_wherever_it_is_told():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.M) == [ektf_jax.__version__]
    newest, *_ = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest == ektf_jax.__version__


def test_every_public_name_is_there_and_documented():
    assert sorted(ektf_jax.__all__) == ektf_jax.__all__
    for name in ektf_jax.__all__:
        assert getattr(ektf_jax, name).__doc__, name
        assert name in dir(ektf_jax)


def test_type_checkers_and_editors_see_every_public_name():
    """By the imports under TYPE_CHECKING, each of what the name is at run time; Any otherwise."""
    tree = ast.parse(Path(ektf_jax.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {
        alias.asname or alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: getattr(ektf_jax, name) for name in ektf_jax.__all__}


def test_every_student_is_exported_by_name():
    """mypy --strict and pyright take for private what a package imports and `__all__` does not have."""
    exported = [getattr(students, name) for name in students.__all__ if name != "REGISTRY"]
    assert set(exported) == set(students.REGISTRY.values())
    assert "REGISTRY" in students.__all__


def test_other_names_are_none():
    with pytest.raises(AttributeError, match="module 'ektf_jax' has no attribute 'lodd_run'"):
        _ = ektf_jax.lodd_run


def test_a_name_costs_what_it_needs_alone():
    code = (
        "import sys, ektf_jax; before = set(sys.modules) & {'jax', 'numpy'}; ektf_jax.losses;"
        "print(sorted(before), sorted({'jax', 'optax', 'flax', 'polars', 'orbax'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] ['jax', 'optax']"
