"""What `import ektf_jax` offers, and what it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ektf_jax

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
