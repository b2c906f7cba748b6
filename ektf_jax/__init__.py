"""EKTF: ensemble learning via knowledge transfer for CTR prediction, in JAX.

`ektf_jax.losses` is usable on its own: it imports jax and optax and nothing else. What else is public is
imported when it is asked for.
"""

import importlib
from typing import Any

__all__ = [  # noqa: F822  # see __getattr__
    "Config",
    "Ensemble",
    "load_bundle",
    "load_run",
    "losses",
    "metrics",
    "students",
    "transfer",
]

__version__ = "0.1.0"

# Public name -> where it is, and as what.
_PLACES = {
    "Config": ("ektf_jax.config", "Config"),
    "Ensemble": ("ektf_jax.ensemble", "Ensemble"),
    "load_bundle": ("ektf_jax.bundle", "load"),
    "load_run": ("ektf_jax.runs", "load_run"),
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(importlib.import_module(module), attribute)
    if name in __all__:
        return importlib.import_module(f"ektf_jax.{name}")
    raise AttributeError(f"module 'ektf_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
