"""EKTF: ensemble learning via knowledge transfer for CTR prediction, in JAX.

`ektf_jax.losses` is usable on its own: it imports jax and optax and nothing else.
"""

from typing import Any

__all__ = ["load_run"]  # noqa: F822  # see __getattr__

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what is public when it is asked for: it needs more than `ektf_jax.losses` does."""
    if name == "load_run":
        from ektf_jax.runs import load_run

        return load_run
    raise AttributeError(f"module 'ektf_jax' has no attribute {name!r}")
