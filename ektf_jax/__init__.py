"""EKTF: ensemble learning via knowledge transfer for CTR prediction, in JAX.

`ektf_jax.losses` is usable on its own: it imports jax and optax and nothing else. What else is public is
imported when it is asked for, and says which extra to install where that has not been done.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # editors and type checkers see them here
    from ektf_jax import losses, metrics, students, transfer
    from ektf_jax.bundle import load as load_bundle
    from ektf_jax.config import Config
    from ektf_jax.ensemble import Ensemble
    from ektf_jax.runs import load_run

__all__ = [
    "Config",
    "Ensemble",
    "load_bundle",
    "load_run",
    "losses",
    "metrics",
    "students",
    "transfer",
]

__version__ = "0.2.0"

# Public name -> where it is and as what, unless it is a module of that name.
_PLACES = {
    "Config": ("ektf_jax.config", "Config"),
    "Ensemble": ("ektf_jax.ensemble", "Ensemble"),
    "load_bundle": ("ektf_jax.bundle", "load"),
    "load_run": ("ektf_jax.runs", "load_run"),
}
# What names need beyond jax, optax and numpy, where they need something.
_EXTRAS = {"load_bundle": "bundle"} | dict.fromkeys(("Ensemble", "load_run", "students", "transfer"), "train")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ektf_jax' has no attribute {name!r}")
    module, *attribute = _PLACES.get(name, (f"ektf_jax.{name}",))
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if name not in _EXTRAS:
            raise
        from ektf_jax.errors import missing  # here: the losses import nothing of ours

        raise missing(f"ektf_jax.{name}", error, _EXTRAS[name]) from None
    return getattr(found, attribute[0]) if attribute else found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
