"""A run small enough to train in a test, and the compiler's cache of all tests."""

import os
import sys
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Equal programs are compiled once, whichever test, worker, child or run of the tests needs them.

    JAX reads this when it is imported, which nothing does before. `pytest --cache-clear` empties the cache.
    """
    assert "jax" not in sys.modules
    if not config.pluginmanager.hasplugin("cacheprovider"):
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.fixture(scope="session")
def tiny_config() -> Any:
    """Makes a config of 3 small students on 2,000 synthetic rows: 25 steps an epoch, 4 epochs."""
    from configs import quickstart  # which imports JAX

    def make(**train: Any) -> dict[str, Any]:
        config = quickstart.get_config().to_dict()
        config["data"]["synthetic"] = {"rows": 2000, "values": (40, 20, 5), "max_lens": (1, 1, 3)}
        config["data"]["batch_size"] = 66  # 1,600 training rows: the last batch of an epoch is short
        config["embedding"]["dim"] = 4
        config["ensemble"]["num_students"] = 3
        config["ensemble"]["students"]["mlp"]["hidden_units"] = (8,)
        config["train"] |= {"max_epochs": 4, "patience": 100, "log_every": 7, "checkpoint_every": 10} | train
        return config

    return make
