"""A function that XLA compiles as it would be alone."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted function for use within a larger program, in which it is compiled as it would be alone.

    Where XLA fuses it with what is around it, sums are rounded in another order, and what is fast alone may
    be slow. On a CPU the call stays a call; elsewhere barriers keep the two apart.
    """
    jitted = jax.jit(function)

    def call(*arguments: Any) -> Any:
        if jax.default_backend() == "cpu":
            return set_xla_metadata(jitted(*arguments), inlineable="false")
        return jax.lax.optimization_barrier(jitted(*jax.lax.optimization_barrier(arguments)))

    return call
