"""How well XLA compiles the programs of tests, most of which run for milliseconds."""

import contextlib
import os
from collections.abc import Iterator

import pytest

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
