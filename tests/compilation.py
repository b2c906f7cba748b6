"""How well XLA compiles the programs of tests, most of which run for milliseconds."""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator

import pytest

# MLIR's fusions run faster, and double the time to compile. Small programs have no use for parts that are
# compiled side by side, nor for an order of operations for many cores, and these take a third of the rest.
AS_USERS_HAVE_XLA = "--xla_cpu_enable_concurrency_optimized_scheduler=true"
_FLAGS = (
    "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_enable_concurrency_optimized_scheduler=false",
    "--xla_cpu_use_fusion_emitters=false",
)
# Which of them an XLA has: one that it does not know would end it.
XLA_COMPILES_FAST = {"0.10": " ".join(_FLAGS), "0.12": _FLAGS[0]}.get(
    ".".join(importlib.metadata.version("jaxlib").split(".")[:2]), ""
)


def compiles_fast() -> bool:
    """Whether XLA has these flags here, which another version or a user's own flags leave out."""
    return XLA_COMPILES_FAST != "" and XLA_COMPILES_FAST in os.environ.get("XLA_FLAGS", "")


_SETTING = "jax_disable_most_optimizations"


@contextlib.contextmanager
def optimizations(on: bool) -> Iterator[None]:
    """Programs that are compiled here are optimized as users' are, or hardly, which is what the tests set.

    Those of children, too.
    """
    import jax  # not before tests/conftest.py has set it up

    before = jax.config.values[_SETTING]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, _SETTING.upper(), str(not on))
        jax.config.update(_SETTING, not on)
        try:
            yield
        finally:
            jax.config.update(_SETTING, before)
