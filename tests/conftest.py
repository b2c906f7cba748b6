"""A run small enough to train in a test, and how programs of all tests are compiled."""

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.compilation import XLA_COMPILES_FAST


def pytest_configure(config: pytest.Config) -> None:
    """Equal programs are compiled once, whichever test, worker, child or run of the tests needs them.

    `pytest --cache-clear` empties the cache. What is compiled is compiled fast: the tests run a program for
    milliseconds.
    """
    # JAX makes so many small objects that collecting them is a tenth of the tests' time.
    gc.set_threshold(200_000, 20, 20)
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_cpu_enable_concurrency_optimized_scheduler" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {XLA_COMPILES_FAST}".strip()
    # Without most optimizations a training step compiles in a third of the time. What the bits of optimized
    # programs decide has them by tests/compilation.py.
    settings: dict[str, Any] = {"jax_disable_most_optimizations": True}
    if config.pluginmanager.hasplugin("cacheprovider"):
        settings |= {
            "jax_compilation_cache_dir": str(config.cache.mkdir("jax")),
            "jax_persistent_cache_min_compile_time_secs": 0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
    else:
        os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # nor a user's, in commands
    for name, value in settings.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            if "jax" in sys.modules:  # a conftest.py further down has imported it
                sys.modules["jax"].config.update(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: else one worker is at the longest while the others have nothing."""
    slow = {item.path for item in items if any(map(item.get_closest_marker, ("slow", "long")))}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What is imported by now stays: collections, of which each trial of a search has one, pass over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Compiled programs stay in memory until they are forgotten: gigabytes by the end of all tests."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


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
