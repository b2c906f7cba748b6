"""Former name of `ektf_jax.layers.blocks`, by which students of one's own of version 0.1.0 import it."""

import warnings
from typing import Any

from ektf_jax.layers import blocks


def __getattr__(name: str) -> Any:
    found = getattr(blocks, name)
    warnings.warn(
        "ektf_jax.students.layers is ektf_jax.layers.blocks now; import from there",
        DeprecationWarning,
        stacklevel=2,
    )
    return found
