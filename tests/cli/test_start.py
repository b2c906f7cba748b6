"""What a command does before anything is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ektf_jax.cli import start

NAMES = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "XDG_CACHE_HOME",
)


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment that says nothing of caches."""
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in NAMES})
    os.environ["HOME"] = str(tmp_path)
    return os.environ


def test_programs_are_kept_in_the_users_cache(environment, tmp_path):
    start.use_cache()
    kept = Path(environment["JAX_COMPILATION_CACHE_DIR"])
    assert kept.parent == tmp_path / ".cache" / "ektf-jax" / "programs"
    assert not kept.exists()  # JAX makes it when there is something to keep


def test_the_users_cache_may_be_elsewhere(environment, tmp_path):
    environment["XDG_CACHE_HOME"] = str(tmp_path / "caches")
    start.use_cache()
    assert environment["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path / "caches" / "ektf-jax"))


def test_a_cache_that_is_named_stays(environment):
    environment["JAX_COMPILATION_CACHE_DIR"] = "elsewhere"
    before = dict(environment)
    start.use_cache()
    assert environment == before


HELP = """
import sys
sys.argv = ["ektf", "--help"]
from ektf_jax import cli
try:
    cli.call(NAME)
except SystemExit as ended:
    assert ended.code == 0
print([name for name in ("jax", "flax", "optax", "orbax", "polars", "optuna") if name in sys.modules])
"""


@pytest.mark.parametrize("name", ["compare", "evaluate", "importance", "summary", "sweep", "train", "tune"])
def test_help_imports_nothing_that_takes_seconds(name):
    code = HELP.replace("NAME", repr(name))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


NEEDED = """
import sys
from ektf_jax import metrics
from ektf_jax.runs import judge, sweep
from ektf_jax.training import loop
metrics.auc([0, 1, 1], [0.1, 0.2, 0.3])
print([name for name in ("grain", "orbax", "polars", "sklearn", "tensorboard") if name in sys.modules])
"""


def test_a_plan_of_runs_and_metrics_of_few_rows_need_neither_orbax_nor_polars():
    done = subprocess.run([sys.executable, "-c", NEEDED], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
