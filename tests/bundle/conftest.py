"""A finished run of the shop and its bundle, for all tests that read them."""

from pathlib import Path

import pytest

from ektf_jax.bundle.export import export
from tests.bundle import shop


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop.train(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    export(run, out)
    return out
